// A device's memory on the CPU. Each block lies in pages of its own behind a guard page and ends at one; where nothing was
// written it holds NaN; nobody may touch it but what opens it: a kernel that was given a pointer to it, or a copy. What has been
// given back stays closed, and its place is not used again for long.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulation {

[[noreturn]] inline void fail(const std::string& what) { throw std::runtime_error("emulated CUDA: " + what); }

struct Block {
    char *pages, *data;
    size_t n_pages, size;  // both in bytes
    bool may_be_written;

    void protect(int protection) const { mprotect(pages, n_pages, protection); }
    void open() const { protect(may_be_written ? PROT_READ | PROT_WRITE : PROT_READ); }
    void close() const { protect(PROT_NONE); }

    static constexpr unsigned char POISON = 0xFF;  // four of them are a NaN
    static constexpr char CANARY = 1;              // four of them are a tiny number, which any sum changes
    void fill() const {
        memset(pages, CANARY, n_pages);
        memset(data, POISON, size);
    }
    // Whether all around the data is as it was.
    bool is_whole() const {
        for (const char* p = pages; p < data; p++)
            if (*p != CANARY) return false;
        for (const char* p = data + size; p < pages + n_pages; p++)
            if (*p != CANARY) return false;
        return true;
    }
};

class Memory {
public:
    static constexpr size_t ARENA = (size_t)128 << 30;  // addresses, not memory
    static constexpr size_t ALIGNED = 16;               // what a vector load asks for
    size_t total = (size_t)8 << 30, used = 0;

    // A new block, closed; null where the device has no more.
    char* take(size_t size) {
        const size_t page = sysconf(_SC_PAGESIZE), inner = (size + page - 1) / page * page;
        if (used + inner > total || inner + page > ARENA) return nullptr;
        if (!arena_) {
            arena_ = (char*)mmap(nullptr, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (arena_ == (char*)MAP_FAILED) fail("no addresses are left");
        }
        char* pages = place(inner + page) + page;
        Block block = {pages, pages + (inner - size) / ALIGNED * ALIGNED, inner, size, true};
        block.open();
        block.fill();
        block.close();
        blocks_[block.pages] = block;
        used += inner;
        return block.data;
    }
    bool give_back(void* data) {
        Block* block = at(data);
        if (!block || block->data != data) return false;
        madvise(block->pages, block->n_pages, MADV_DONTNEED);
        used -= block->n_pages;
        blocks_.erase(block->pages);
        return true;
    }
    // The block that holds p, or ends there; null where none does.
    Block* at(const void* p) {
        Block* block = around(p);
        return block && p >= block->data && p <= block->data + block->size ? block : nullptr;
    }
    bool reaches(const void* p) const { return arena_ && p >= arena_ && p < arena_ + ARENA; }

    // Memory of the host's that the device reaches too.
    void share(char* begin, size_t size) { shared_[begin] = size; }
    bool unshare(void* begin) { return shared_.erase((char*)begin); }
    bool is_shared(const void* p) const {
        auto after = shared_.upper_bound((char*)p);
        if (after == shared_.begin()) return false;
        --after;
        return p < after->first + after->second;
    }
    // Whether p points to memory that the host alone has. Numbers below 2^32 are no pointers.
    bool is_hosts(const void* p) const {
        const uintptr_t number = (uintptr_t)p, page = sysconf(_SC_PAGESIZE);
        unsigned char there;
        return number >> 32 && !(number >> 47) && !reaches(p) && !is_shared(p) && !mincore((void*)(number / page * page), 1, &there);
    }

    // What was wrong with touching p.
    std::string told(const void* p) {
        if (!reaches(p)) return "touches what is no memory of the device's";
        const size_t page = sysconf(_SC_PAGESIZE);
        const Block* block = around((const char*)p - page);  // whose guard page p may be on
        if (at(p)) block = at(p);
        if (!block) block = around((const char*)p + page);
        if (!block) return "touches memory that has been given back";
        const std::string size = " a block of " + std::to_string(block->size) + " bytes";
        const int64_t place = (const char*)p - block->data;
        if (place < 0) return "reads or writes beyond its memory: " + std::to_string(-place) + " bytes before" + size;
        if (place >= (int64_t)block->size) return "reads or writes beyond its memory: byte " + std::to_string(place) + " of" + size;
        if (!block->may_be_written) return "writes an input,";
        return "touches byte " + std::to_string(place) + " of" + size + ", to which it has no pointer";
    }

private:
    // Addresses for a guard page and pages, one after the other and from the start again.
    char* place(size_t need) {
        for (int laps = 0; laps < 2; next_ = 0, laps++)
            while (next_ + need + sysconf(_SC_PAGESIZE) <= ARENA) {
                char* first = arena_ + next_;
                auto above = blocks_.lower_bound(first);
                if (above == blocks_.end() || above->first >= first + need) {
                    next_ += need;
                    return first;
                }
                next_ = above->first + above->second.n_pages - arena_;
            }
        fail("no addresses are left");
    }
    Block* around(const void* p) {
        auto after = blocks_.upper_bound((char*)p);
        if (after == blocks_.begin()) return nullptr;
        Block& block = (--after)->second;
        return p < block.pages + block.n_pages || p == block.data + block.size ? &block : nullptr;
    }
    char* arena_ = nullptr;
    size_t next_ = 0;
    std::map<char*, Block> blocks_;
    std::map<char*, size_t> shared_;
};

Memory& memory();

// What was done so far; the names in Python are those of __init__.py's COUNTED.
struct Counts {
    uint64_t launches, atomics, synchronisations, copies_to_device, copies_to_host, copies_on_device, blocks, products;
};
Counts& counts();

// Blocks that are open for as long as this lives.
class Open {
public:
    Open() {}
    Open(const Open&) = delete;
    ~Open() {
        for (Block* block : blocks_) block->close();
    }
    void add(Block* block) {
        if (!blocks_.insert(block).second) return;
        block->open();
    }
    // The block of a pointer, which must hold n bytes from there.
    void add(const void* p, size_t n, const char* who) {
        if (!n) return;
        Block* block = memory().at(p);
        const bool hosts = !block && memory().is_hosts(p);
        if (!block) fail(std::string(who) + (hosts ? " is given a pointer of the host's" : " is given what is no memory of the device's"));
        if ((const char*)p + n > block->data + block->size) fail(std::string(who) + " reads or writes beyond its memory");
        add(block);
    }
    // The blocks of all pointers in what a kernel is given.
    template <class T> void add_pointers(T given, const char* kernel) {
#if __GNUC__ >= 11
        __builtin_clear_padding(&given);  // where old pointers may lie
#endif
        for (size_t i = 0; i + sizeof(void*) <= sizeof given; i += sizeof(void*)) {
            const void* p;
            memcpy(&p, (const char*)&given + i, sizeof p);
            if (Block* block = memory().at(p)) add(block);
            else if (memory().reaches(p)) fail(std::string(kernel) + " is given a pointer to memory that has been given back");
            else if (memory().is_hosts(p)) fail(std::string(kernel) + " is given a pointer of the host's");
        }
    }
    bool are_whole() const {
        for (Block* block : blocks_)
            if (!block->is_whole()) return false;
        return true;
    }

private:
    std::set<Block*> blocks_;
};

}  // namespace emulation
