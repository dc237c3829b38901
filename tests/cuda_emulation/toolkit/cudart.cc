// libcudart: one device, whose memory is emulation::Memory.
#include <cuda_runtime.h>
#include <signal.h>

#include <functional>

#include "memory.h"

namespace emulation {

Memory& memory() {
    static Memory memory;
    return memory;
}
Counts& counts() {
    static Counts counts;
    return counts;
}

static cudaError_t last = cudaSuccess;
static cudaError_t say(cudaError_t error, const char* what = nullptr) {
    if (what) fprintf(stderr, "emulated CUDA: %s\n", what);
    return last = error;
}

static struct sigaction before;
static void on_fault(int number, siginfo_t* info, void*) {
    if (memory().reaches(info->si_addr)) {
        static const char words[] = "emulated CUDA: the host touches the device's memory\n";
        if (write(STDERR_FILENO, words, sizeof words - 1)) {}
    }
    sigaction(number, &before, nullptr);  // which meets the fault again
}
// Others set handlers too, so this is called now and then.
static void watch() {
    struct sigaction action, now;
    sigaction(SIGSEGV, nullptr, &now);
    if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_fault) return;
    before = now;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

static cudaError_t guarded(const std::function<void()>& work) {
    try {
        work();
    } catch (const std::exception& error) {
        return say(cudaErrorInvalidValue, error.what());
    }
    return cudaSuccess;
}

}  // namespace emulation
using namespace emulation;

extern "C" {

Counts* emulation_counts() { return &counts(); }

cudaError_t cudaMalloc(void** place, size_t size) {
    watch();
    counts().blocks++;
    *place = memory().take(size);
    return *place ? cudaSuccess : say(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* data) {
    return !data || memory().give_back(data) ? cudaSuccess : say(cudaErrorInvalidValue, "cudaFree of what is no block");
}
cudaError_t cudaMallocHost(void** place, size_t size) {
    *place = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    memory().share((char*)*place, size);
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
    memory().unshare(data);
    free(data);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    const bool into = memory().reaches(to), out_of = memory().reaches(from);
    const bool right[] = {!into && !out_of, into && !out_of, !into && out_of, into && out_of, true};
    if (size && !right[kind]) return say(cudaErrorInvalidValue, "a copy whose kind is not that of its pointers");
    uint64_t* of_kind[] = {nullptr, &counts().copies_to_device, &counts().copies_to_host, &counts().copies_on_device};
    if (uint64_t* copies = of_kind[into + 2 * out_of]) ++*copies;
    return guarded([&] {
        Open open;
        if (into) open.add(to, size, "a copy");
        if (out_of) open.add(from, size, "a copy");
        memmove(to, from, size);
    });
}
cudaError_t cudaMemset(void* to, int value, size_t size) {
    return guarded([&] {
        Open open;
        open.add(to, size, "cudaMemset");
        memset(to, value, size);
    });
}
cudaError_t cudaDeviceSynchronize() { counts().synchronisations++; return last; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { counts().synchronisations++; return last; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { counts().synchronisations++; return last; }
cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* n) { *n = 1; return cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
    *found = {"emulated", 9, 0, 132, 1980000, cudaComputeModeDefault, 1024, 0, 0, memory().total};
    return cudaSuccess;
}
cudaError_t cudaGetLastError() {
    const cudaError_t error = last;
    last = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() { return last; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    *total = memory().total;
    *free = *total - memory().used;
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { *stream = nullptr; return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { *event = nullptr; return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) { function(data); return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
        default: return "cudaErrorUnknown";
    }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

}
