// Arrays times one number: one kernel for all of them under CUDA. No Jittor symbol in here.
#pragma once
#include <cstdint>

namespace jgrid {

template <int N> struct Scale {
    const float* from[N];
    float* to[N];
    int64_t ends[N];  // of the arrays, laid one behind the other
    const float* by;
    JG_FUNCTION void operator()(int64_t i, int64_t) const {
        int array = 0;
        while (i >= ends[array]) array++;
        const int64_t j = i - (array ? ends[array - 1] : 0);
        to[array][j] = from[array][j] * *by;
    }
};

#if defined(JIT_cuda) || defined(__CUDACC__)
template <int N> void scale(const Scale<N>& f) { launch(f, f.ends[N - 1], 1); }
#else
template <int N> void scale(const Scale<N>& f) {
    const float by = *f.by;
    for (int array = 0; array < N; array++) {
        const int64_t n = f.ends[array] - (array ? f.ends[array - 1] : 0);
        const float* __restrict__ from = f.from[array];
        float* __restrict__ to = f.to[array];
#pragma omp parallel for simd schedule(static) if (n > 4096)
        for (int64_t j = 0; j < n; j++) to[j] = from[j] * by;
    }
}
#endif

}  // namespace jgrid
