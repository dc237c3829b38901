// A device for CUDA text on the CPU: what the kernels of jgrid/ops name, memory that ends at guard pages, and launches that run
// their threads one after the other. Blocks do not wait for each other here, and threads have no barrier: kernels that want one
// do not compile.
#pragma once
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
static dim3 gridDim, blockDim, blockIdx, threadIdx;

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
template <class T> T atomicAdd(T* place, T value) {
    const T before = *place;
    *place = before + value;
    return before;
}

namespace emulation {

[[noreturn]] inline void fail(const std::string& what) { throw std::runtime_error("emulated CUDA: " + what); }

// A piece of device memory with a copy of the host's. It ends at a page that nobody may touch, and begins behind one; where
// nothing was written it holds NaN. An input cannot be written.
class Block {
public:
    enum Kind { INPUT, OUTPUT, IN_PLACE };
    static constexpr size_t ALIGNED = 16;  // what a CUDA vector load asks for

    Block(void* host, size_t size, Kind kind) : host_(host), size_(size), kind_(kind) {
        const size_t page = sysconf(_SC_PAGESIZE);
        const size_t inner = (size + page - 1) / page * page;
        mapped_ = inner + 2 * page;
        start_ = (char*)mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start_ == (char*)MAP_FAILED) fail("no memory");
        char* first = start_ + page;
        if (inner) mprotect(first, inner, PROT_READ | PROT_WRITE);
        memset(first, POISON, inner);
        data_ = first + (inner - size) / ALIGNED * ALIGNED;
        slack_ = first + inner - (data_ + size);
        memset(data_ + size, CANARY, slack_);
        if (kind != OUTPUT) memcpy(data_, host, size);
        if (kind == INPUT && inner) mprotect(first, inner, PROT_READ);
    }
    Block(const Block&) = delete;
    ~Block() { munmap(start_, mapped_); }

    template <class T> T* as(T*) const { return (T*)data_; }
    // To the host, once the kernels are through.
    void back() const {
        for (size_t i = 0; i < slack_; i++)
            if (data_[size_ + i] != CANARY) fail("a kernel writes beyond its memory");
        if (kind_ != INPUT) memcpy(host_, data_, size_);
    }

private:
    static constexpr unsigned char POISON = 0xFF;  // four of them are a NaN
    static constexpr char CANARY = 1;              // four of them are a tiny number, which any sum changes
    void* host_;
    size_t size_, mapped_, slack_;
    Kind kind_;
    char *start_, *data_;
};

static sigjmp_buf before_kernel;
inline void on_fault(int) { siglongjmp(before_kernel, 1); }

// In which order threads run: forwards, backwards or shuffled, by JGRID_CUDA_ORDER.
class Order {
public:
    explicit Order(uint64_t n) : n_(n) {
        const char* name = getenv("JGRID_CUDA_ORDER");
        backwards_ = name && !strcmp(name, "backwards");
        if (name && !strcmp(name, "shuffled"))
            for (stride_ = n / 2 + n / 9 + 1; common(stride_, n) != 1;) stride_++;
    }
    uint64_t operator()(uint64_t i) const { return backwards_ ? n_ - 1 - i : (unsigned __int128)i * stride_ % n_; }

private:
    static uint64_t common(uint64_t a, uint64_t b) { return b ? common(b, a % b) : a; }
    uint64_t n_, stride_ = 1;
    bool backwards_;
};

// kernel<<<grid, block>>>(...), within the limits of real devices.
template <class Kernel> void launch(dim3 grid, dim3 block, Kernel kernel) {
    const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    const bool fits = blocks && threads && grid.x <= 2147483647u && grid.y <= 65535 && grid.z <= 65535 && threads <= 1024 && block.z <= 64;
    if (!fits) fail("a launch of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) + " blocks of " + std::to_string(threads) + " threads");
    gridDim = grid;
    blockDim = block;
    const Order order(blocks * threads);
    struct sigaction action, segv, bus;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_fault;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGSEGV, &action, &segv);
    sigaction(SIGBUS, &action, &bus);
    const bool fault = sigsetjmp(before_kernel, 1);
    if (!fault)
        for (uint64_t i = 0; i < blocks * threads; i++) {
            const uint64_t at = order(i), b = at / threads;
            const unsigned t = at % threads;
            threadIdx = dim3(t % block.x, t / block.x % block.y, t / block.x / block.y);
            blockIdx = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
            kernel();
        }
    sigaction(SIGSEGV, &segv, nullptr);
    sigaction(SIGBUS, &bus, nullptr);
    if (fault) fail("a kernel reads or writes beyond its memory, or writes an input");
}

}  // namespace emulation

inline void cudaMemsetAsync(void* place, int value, size_t size) { memset(place, value, size); }
