// What the text of CUDA kernels names, on the CPU: launches run their threads one after the other, as fibers where they wait for
// each other. nvcc.py rewrites the text for it: launches, and memory that a block shares. memory.h and vectors.h before it.
#pragma once
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

static dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace emulation {

constexpr size_t SHARED = 48 << 10;  // bytes that the threads of a block share
constexpr unsigned WARP = 32;

inline unsigned flat(dim3 place, dim3 sizes) { return place.x + sizes.x * (place.y + sizes.y * place.z); }
inline dim3 unflat(uint64_t place, dim3 sizes) { return dim3(place % sizes.x, place / sizes.x % sizes.y, place / sizes.x / sizes.y); }

// In which order blocks and threads run: forwards, backwards or shuffled, by JGRID_CUDA_ORDER.
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

// What the threads of the block that runs share: variables by their keys, with NaN in them when a block begins.
class Shared {
public:
    void begin(size_t dynamic) {
        places_.clear();
        used_ = (dynamic + 15) / 16 * 16;
        if (used_ > SHARED) fail("a block shares more than 48 KiB");
        memset(bytes_, Block::POISON, SHARED);
    }
    void* at(const void* key, size_t size) {
        if (!places_.count(key)) {
            places_[key] = used_;
            used_ += (size + 15) / 16 * 16;
            if (used_ > SHARED) fail("a block shares more than 48 KiB");
        }
        return bytes_ + places_[key];
    }
    void* dynamic() { return bytes_; }

private:
    std::map<const void*, size_t> places_;
    size_t used_ = 0;
    alignas(16) char bytes_[SHARED];
};
static Shared shared;

// The threads of a block that wait for each other.
class Fibers {
public:
    void run(dim3 block, const std::function<void()>& thread) {
        const unsigned n = block.x * block.y * block.z;
        const Order order(n);
        thread_ = &thread;
        states_.assign(n, {RUNS, 0});
        contexts_.resize(n);
        while (stacks_.size() < n) stacks_.emplace_back(new char[STACK]);
        for (unsigned t = 0; t < n; t++) {
            getcontext(&contexts_[t]);
            contexts_[t].uc_stack.ss_sp = stacks_[t].get();
            contexts_[t].uc_stack.ss_size = STACK;
            contexts_[t].uc_link = &scheduler_;
            makecontext(&contexts_[t], begin, 0);
        }
        running() = this;
        do
            for (unsigned i = 0; i < n; i++) {
                now_ = order(i);
                if (states_[now_].what != RUNS) continue;
                threadIdx = unflat(now_, block);
                swapcontext(&scheduler_, &contexts_[now_]);
                if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
            }
        while (go_on());
        running() = nullptr;
    }
    // The running thread waits for those of its warp whose bits are set, or for all.
    void wait_for_warp(unsigned mask) { wait({AT_WARP, mask}); }
    void wait_for_block() { wait({AT_BLOCK, 0}); }
    static Fibers*& running() {
        static Fibers* fibers;
        return fibers;
    }
    double exchanged[1024];

private:
    enum What { RUNS, AT_WARP, AT_BLOCK, DONE };
    struct State {
        What what;
        unsigned mask;
    };
    static constexpr size_t STACK = 64 << 10;

    static void begin() {
        Fibers& fibers = *running();
        try {
            (*fibers.thread_)();
        } catch (...) {
            fibers.error_ = std::current_exception();
        }
        fibers.states_[fibers.now_].what = DONE;
    }
    void wait(State state) {
        const dim3 me = threadIdx;
        const unsigned now = now_;
        states_[now] = state;
        swapcontext(&contexts_[now], &scheduler_);
        threadIdx = me;
    }
    // Let those go on for whom everybody is there that they wait for; false where all are done.
    bool go_on() {
        std::vector<unsigned> free;
        bool done = true, all_wait = true;
        for (unsigned t = 0; t < states_.size(); t++) {
            done &= states_[t].what == DONE;
            all_wait &= states_[t].what == DONE || states_[t].what == AT_BLOCK;
            if (states_[t].what == AT_WARP && warp_is_there(t)) free.push_back(t);
        }
        if (done) return false;
        if (free.empty() && !all_wait) fail("threads wait for others that wait elsewhere");
        for (unsigned t : free) states_[t].what = RUNS;
        if (free.empty())
            for (State& state : states_)
                if (state.what == AT_BLOCK) state.what = RUNS;
        return true;
    }
    bool warp_is_there(unsigned t) const {
        for (unsigned l = 0; l < WARP && t / WARP * WARP + l < states_.size(); l++) {
            const What what = states_[t / WARP * WARP + l].what;
            if (states_[t].mask >> l & 1 && what != AT_WARP && what != DONE) return false;
        }
        return true;
    }

    const std::function<void()>* thread_;
    std::vector<State> states_;
    std::vector<ucontext_t> contexts_;
    std::vector<std::unique_ptr<char[]>> stacks_;
    ucontext_t scheduler_;
    unsigned now_;
    std::exception_ptr error_;
};

inline Fibers& fibers() {
    if (!Fibers::running()) fail("a thread waits in a kernel whose text does not say so");
    return *Fibers::running();
}
// The value of another thread of the warp.
template <class T> T exchange(unsigned mask, T value, unsigned from, unsigned width) {
    static_assert(sizeof(T) <= sizeof(double), "a shuffle of more than 8 bytes");
    const unsigned me = flat(threadIdx, blockDim);
    memcpy(&fibers().exchanged[me], &value, sizeof value);
    fibers().wait_for_warp(mask);
    const bool there = from / width == me % WARP / width && me / WARP * WARP + from < blockDim.x * blockDim.y * blockDim.z;
    memcpy(&value, &fibers().exchanged[there ? me / WARP * WARP + from : me], sizeof value);
    fibers().wait_for_warp(mask);
    return value;
}

static sigjmp_buf before_kernel;
static const void* touched;
inline void on_fault(int, siginfo_t* info, void*) {
    touched = info->si_addr;
    siglongjmp(before_kernel, 1);
}

// kernel<<<grid, block, shared>>>(arguments), within the limits of real devices.
template <bool WAITS, class Kernel> struct Launch {
    const char* name;
    Kernel kernel;
    dim3 grid, block;
    size_t dynamic;

    template <class... Arguments> void operator()(Arguments... arguments) const {
        const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
        const uint64_t threads = (uint64_t)block.x * block.y * block.z;
        const bool fits = blocks && threads && grid.x <= 2147483647u && grid.y <= 65535 && grid.z <= 65535 && threads <= 1024 && block.z <= 64;
        if (!fits)
            fail("a launch of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) +
                 " blocks of " + std::to_string(threads) + " threads: " + name);
        Open open;
        using expand = int[];
        (void)expand{0, (std::is_arithmetic<Arguments>::value ? 0 : (open.add_pointers(arguments, name), 0))...};
        counts().launches++;
        run(blocks, threads, [&] { kernel(arguments...); });
        if (!open.are_whole()) fail(std::string(name) + " writes beyond its memory");
    }

private:
    template <class Thread> void run(uint64_t blocks, uint64_t threads, const Thread& thread) const {
        gridDim = grid;
        blockDim = block;
        struct sigaction action, segv, bus;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_NODEFER | SA_SIGINFO;
        sigaction(SIGSEGV, &action, &segv);
        sigaction(SIGBUS, &action, &bus);
        std::exception_ptr error;
        const bool fault = sigsetjmp(before_kernel, 1);
        if (!fault) try {
                each(blocks, threads, thread);
            } catch (...) {
                error = std::current_exception();
            }
        Fibers::running() = nullptr;
        sigaction(SIGSEGV, &segv, nullptr);
        sigaction(SIGBUS, &bus, nullptr);
        if (fault) fail(std::string(name) + " " + memory().told(touched));
        if (error) std::rethrow_exception(error);
    }
    template <class Thread> void each(uint64_t blocks, uint64_t threads, const Thread& thread) const {
        const Order order(blocks);
        for (uint64_t b = 0; b < blocks; b++) {
            blockIdx = unflat(order(b), grid);
            run_block(threads, thread, std::integral_constant<bool, WAITS>());
        }
    }
    template <class Thread> void run_block(uint64_t, const Thread& thread, std::true_type) const {
        static Fibers fibers;
        shared.begin(dynamic);
        fibers.run(block, thread);
    }
    template <class Thread> void run_block(uint64_t threads, const Thread& thread, std::false_type) const {
        const Order order(threads);
        for (uint64_t t = 0; t < threads; t++) {
            threadIdx = unflat(order(t), block);
            thread();
        }
    }
};
template <bool WAITS, class Kernel, class... Stream>
Launch<WAITS, Kernel> launch(const char* name, Kernel kernel, dim3 grid, dim3 block, size_t dynamic = 0, Stream...) {
    return {name, kernel, grid, block, dynamic};
}

}  // namespace emulation

inline void __syncthreads() { emulation::fibers().wait_for_block(); }
inline void __syncwarp(unsigned mask = ~0u) { emulation::fibers().wait_for_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
#define EMULATION_LANE (emulation::flat(threadIdx, blockDim) % emulation::WARP)
template <class T> T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    return emulation::exchange(mask, v, EMULATION_LANE / width * width + from % width, width);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    return emulation::exchange(mask, v, EMULATION_LANE - by, width);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    return emulation::exchange(mask, v, EMULATION_LANE + by, width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32) {
    return emulation::exchange(mask, v, EMULATION_LANE ^ by, width);
}
#undef EMULATION_LANE

#define EMULATION_ATOMIC(NAME, AFTER)                   \
    template <class T, class U> T NAME(T* place, U by) { \
        const T before = *place, value = (T)by;         \
        *place = (T)(AFTER);                            \
        emulation::counts().atomics++;                 \
        return before;                                  \
    }
EMULATION_ATOMIC(atomicAdd, before + value)
EMULATION_ATOMIC(atomicSub, before - value)
EMULATION_ATOMIC(atomicInc, before >= value ? T(0) : T(before + 1))
EMULATION_ATOMIC(atomicMax, before > value ? before : value)
EMULATION_ATOMIC(atomicMin, before < value ? before : value)
EMULATION_ATOMIC(atomicAnd, before & value)
EMULATION_ATOMIC(atomicOr, before | value)
EMULATION_ATOMIC(atomicXor, before ^ value)
EMULATION_ATOMIC(atomicExch, value)
#undef EMULATION_ATOMIC
template <class T, class U, class V> T atomicCAS(T* place, U expected, V value) {
    const T before = *place;
    if (before == (T)expected) *place = (T)value;
    emulation::counts().atomics++;
    return before;
}

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)(((unsigned __int128)a * b) >> 64); }
template <class To, class From> inline To emulation_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "of one size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float v) { return emulation_bits<int>(v); }
inline float __int_as_float(int v) { return emulation_bits<float>(v); }
inline long long __double_as_longlong(double v) { return emulation_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return emulation_bits<double>(v); }
template <class T> inline T __ldg(const T* place) { return *place; }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline float rsqrtf(float v) { return 1.f / sqrtf(v); }
inline double rsqrt(double v) { return 1. / sqrt(v); }
inline float __expf(float v) { return expf(v); }
inline float __logf(float v) { return logf(v); }
inline float __saturatef(float v) { return fminf(fmaxf(v, 0.f), 1.f); }
#define EMULATION_EXTREMES(T)                          \
    inline T max(T a, T b) { return a > b ? a : b; } \
    inline T min(T a, T b) { return a < b ? a : b; }
EMULATION_EXTREMES(int) EMULATION_EXTREMES(unsigned) EMULATION_EXTREMES(long) EMULATION_EXTREMES(unsigned long)
EMULATION_EXTREMES(long long) EMULATION_EXTREMES(unsigned long long)
#undef EMULATION_EXTREMES
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
