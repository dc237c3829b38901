// Runs a body f(point or row, task) over all of them: a kernel under CUDA, OpenMP threads on the CPU.
#pragma once
#include <cstdint>

#if defined(JIT_cuda) || defined(__CUDACC__)
#define JG_FUNCTION __host__ __device__ __forceinline__
#else
#define JG_FUNCTION inline __attribute__((always_inline))
#endif

namespace jgrid {

#if defined(JIT_cuda) || defined(__CUDACC__)
template <class F> __global__ void grid_kernel(F f, int64_t n) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < n) f(i, (int64_t)blockIdx.y);
}
template <class F> void launch(F f, int64_t n, int64_t tasks) {
    if (n && tasks) grid_kernel<<<dim3((unsigned)((n + 255) / 256), (unsigned)tasks), 256>>>(f, n);
}
#else
template <class F> void over_points(F f, int64_t n, int64_t tasks) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = 0; t < tasks; t++) f(i, t);
}
// The same for bodies that take more time for some points, rays, than for others.
template <class F> void over_rays(F f, int64_t n, int64_t tasks) {
#pragma omp parallel for schedule(dynamic, 256)
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = 0; t < tasks; t++) f(i, t);
}
#endif

}  // namespace jgrid
