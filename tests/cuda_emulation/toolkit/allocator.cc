// libblocks: Jittor's caching allocator without the cache, so that each of its variables has a block of its own. The process
// loads this before Jittor, whose own functions of these names are then left aside.
#include "mem/allocator/sfrl_allocator.h"

namespace jittor {

struct Owned {
    void* block;
    int owners;
};
static std::map<size_t, Owned> owned;  // by the number that Jittor keeps for it

void* SFRLAllocator::alloc(size_t size, size_t& allocation) {
    static size_t last = 0;
    size_t ignored;
    void* block = underlying->alloc(size, ignored);
    allocation = ++last;
    owned[allocation] = {block, 1};
    used_memory += size;
    return block;
}
bool SFRLAllocator::share_with(size_t, size_t allocation) {
    owned.at(allocation).owners++;
    return true;
}
void SFRLAllocator::free(void*, size_t size, const size_t& allocation) {
    auto found = owned.find(allocation);
    if (--found->second.owners) return;
    underlying->free(found->second.block, size, 0);
    owned.erase(found);
    used_memory -= size;
}
void SFRLAllocator::gc() {}

}  // namespace jittor
