// Per-point bodies of the collapsed grid, for CPU and CUDA: no Jittor symbol in here. For the 2^D corners i of the cell of
// x_n at level l, u = x_n R_l - corner, basis = [1, gamma(u)] with 1 + 2 D OCTAVES functions,
//
//   KERNELS > 0, mixed per level and channel:  out[n, l, k, c] = sum_p mix[l, k, p, c] sum_i window(u) basis_p(u) table[i, c]
//   KERNELS = 0, mixed per node in the table:  out[n, l, 0, c] = sum_i window(u) sum_p basis_p(u) table[i, p, c]
//
// or the same summed over `groups` equal runs of the levels, one for each l.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(JIT_cuda) || defined(__CUDACC__)
#define JG_FUNCTION __host__ __device__ __forceinline__
#else
#define JG_FUNCTION inline __attribute__((always_inline))
#endif

namespace jgrid {

enum Profile { nearest = 0, linear = 1, smooth = 2 };

// What the index knows of one level: cells per axis, its slice of the table, and the magic number of an exact
// 32-bit remainder by size (Lemire 2019); magic is 0 for a dense level.
struct Level { int32_t cells[3]; int32_t first; uint32_t size; uint64_t magic; };

JG_FUNCTION uint32_t remainder(uint32_t value, uint64_t magic, uint32_t size) {
    uint64_t low = magic * value;
#if defined(__CUDA_ARCH__)
    return (uint32_t)__umul64hi(low, size);
#else
    return (uint32_t)(((unsigned __int128)low * size) >> 64);
#endif
}

template <int D> JG_FUNCTION int64_t slot(const Level& level, const int32_t* corner) {
    if (level.magic) {
        const uint32_t primes[3] = {1u, 2654435761u, 805459861u};
        uint32_t hash = 0;
        for (int d = 0; d < D; d++) hash ^= (uint32_t)corner[d] * primes[d];
        return level.first + (int64_t)remainder(hash, level.magic, level.size);
    }
    int64_t row = corner[D - 1];
    for (int d = D - 2; d >= 0; d--) row = row * (level.cells[d] + 1) + corner[d];
    return level.first + row;
}

template <int P> JG_FUNCTION float profile(float u) {  // P: a Profile
    const float a = fabsf(u);
    if (P == nearest) return (u > -0.5f && u <= 0.5f) ? 1.f : 0.f;
    if (P == linear) return 1.f - a;
    return 1.f - a * a * (3.f - 2.f * a);
}

// sin and cos of pi f for f in [0, 1], by their series around 1/2: to 1e-7, the same on every device.
JG_FUNCTION void half_turn(float f, float& sine, float& cosine) {
    const float t = 3.14159265358979f * (f - 0.5f), q = t * t;
    cosine = -t * (1.f + q * (-1.f / 6 + q * (1.f / 120 + q * (-1.f / 5040 + q * (1.f / 362880 - q / 39916800)))));
    sine = 1.f + q * (-1.f / 2 + q * (1.f / 24 + q * (-1.f / 720 + q * (1.f / 40320 + q * (-1.f / 3628800 + q / 479001600)))));
}

// Calls visit(row, weights) for each corner of the cell of x, weights[p] = window(u) basis_p(u), 1 + 2 D OCTAVES of them.
template <int D, int OCTAVES, int PROFILE, class Visit>
JG_FUNCTION void corners(const float* x, const Level& level, Visit& visit) {
    constexpr int BASIS = 1 + 2 * D * OCTAVES, WAVES = OCTAVES ? OCTAVES : 1;
    int32_t cell[D];
    float fraction[D], sine[WAVES][D], cosine[WAVES][D];
    for (int d = 0; d < D; d++) {
        const float unit = x[d] < 0.f ? 0.f : (x[d] > 1.f ? 1.f : x[d]);
        const float scaled = unit * (float)level.cells[d];
        cell[d] = (int32_t)scaled;
        if (cell[d] > level.cells[d] - 1) cell[d] = level.cells[d] - 1;
        fraction[d] = scaled - (float)cell[d];
        if (OCTAVES) {
            half_turn(fraction[d], sine[0][d], cosine[0][d]);
            for (int k = 1; k < OCTAVES; k++) {
                sine[k][d] = 2.f * sine[k - 1][d] * cosine[k - 1][d];
                cosine[k][d] = 1.f - 2.f * sine[k - 1][d] * sine[k - 1][d];
            }
        }
    }
    for (int b = 0; b < (1 << D); b++) {
        int32_t corner[D];
        float weights[BASIS], w = 1.f;
        for (int d = 0; d < D; d++) {
            const int bit = (b >> d) & 1;
            corner[d] = cell[d] + bit;
            w *= profile<PROFILE>(fraction[d] - (float)bit);
        }
        weights[0] = w;
        // one cell further, pi u changes by pi: the first octave changes sign, the higher ones do not
        for (int k = 0; k < OCTAVES; k++)
            for (int d = 0; d < D; d++) {
                const float sign = (k == 0 && ((b >> d) & 1)) ? -w : w;
                weights[1 + (2 * k) * D + d] = sign * sine[k][d];
                weights[1 + (2 * k + 1) * D + d] = sign * cosine[k][d];
            }
        visit(slot<D>(level, corner), weights);
    }
}

// C channels of a node, in registers.
template <int C, bool VECTOR> struct RowOf {
    float v[C];
    JG_FUNCTION void operator+=(const RowOf& other) { for (int c = 0; c < C; c++) v[c] += other.v[c]; }
    JG_FUNCTION RowOf operator*(const RowOf& other) const { RowOf r; for (int c = 0; c < C; c++) r.v[c] = v[c] * other.v[c]; return r; }
    JG_FUNCTION RowOf operator*(float scale) const { RowOf r; for (int c = 0; c < C; c++) r.v[c] = v[c] * scale; return r; }
};
#if !defined(JIT_cuda) && !defined(__CUDACC__)
template <int C> struct RowOf<C, true> {
    typedef float Lanes __attribute__((vector_size(C * 4)));
    Lanes v;
    JG_FUNCTION void operator+=(const RowOf& other) { v += other.v; }
    JG_FUNCTION RowOf operator*(const RowOf& other) const { return {v * other.v}; }
    JG_FUNCTION RowOf operator*(float scale) const { return {v * scale}; }
};
#endif
#if defined(JIT_cuda) || defined(__CUDACC__)
template <int C> using Row = RowOf<C, false>;
#else
template <int C> using Row = RowOf<C, (C > 1 && (C & (C - 1)) == 0)>;
#endif

template <int C> JG_FUNCTION Row<C> zeros() { Row<C> row; memset(&row, 0, sizeof(row)); return row; }
template <int C> JG_FUNCTION Row<C> load(const float* place) { Row<C> row; memcpy(&row, place, sizeof(row)); return row; }
template <int C> JG_FUNCTION void store(float* place, const Row<C>& row) { memcpy(place, &row, sizeof(row)); }

// Adds to memory; ATOMIC where several threads of a GPU may do so at once.
template <int C, bool ATOMIC> JG_FUNCTION void add(float* place, const Row<C>& row) {
#if defined(__CUDA_ARCH__)
    if (ATOMIC) {
        for (int c = 0; c < C; c++) atomicAdd(place + c, row.v[c]);
        return;
    }
#endif
    Row<C> sum = load<C>(place);
    sum += row;
    store<C>(place, sum);
}

// Sums over the corners: of each basis function apart (MIXED), else of what the table mixes.
template <int BASIS, int C, bool MIXED> struct Gather {
    const float* table;
    Row<C> sum[MIXED ? BASIS : 1];
    JG_FUNCTION void operator()(int64_t row, const float* weights) {
        const float* t = table + row * C * (MIXED ? 1 : BASIS);
        for (int p = 0; p < BASIS; p++) sum[MIXED ? p : 0] += load<C>(t + (MIXED ? 0 : p * C)) * weights[p];
    }
};

// The adjoint, for C of the STRIDE channels of a row. Mixed: `gradient` is that of the sums, which are gathered again on the way.
template <int BASIS, int C, int STRIDE, bool MIXED, bool ATOMIC> struct Scatter {
    const float* table;
    float* d_table;
    Row<C> gradient[MIXED ? BASIS : 1], sum[MIXED ? BASIS : 1];
    JG_FUNCTION void operator()(int64_t row, const float* weights) {
        if (MIXED) {
            const Row<C> t = load<C>(table + row * STRIDE);
            Row<C> total = zeros<C>();
            for (int p = 0; p < BASIS; p++) {
                sum[p] += t * weights[p];
                total += gradient[p] * weights[p];
            }
            add<C, ATOMIC>(d_table + row * STRIDE, total);
        } else {
            for (int p = 0; p < BASIS; p++) add<C, ATOMIC>(d_table + (row * BASIS + p) * STRIDE, gradient[0] * weights[p]);
        }
    }
};

template <int D, int OCTAVES, int PROFILE, int C, int KERNELS> struct Forward {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, OUT = KERNELS ? KERNELS : 1;
    static constexpr bool MIXED = KERNELS > 0;
    const float *x, *table, *mix;
    const Level* levels;
    int64_t n_levels, groups;
    float* result;
    JG_FUNCTION void operator()(int64_t n, int64_t group) const {
        const int64_t run = n_levels / groups;
        Gather<BASIS, C, MIXED> visit;
        visit.table = table;
        Row<C> out[OUT];
        for (Row<C>& row : out) row = zeros<C>();
        for (int64_t l = group * run; l < (group + 1) * run; l++) {
            for (Row<C>& sum : visit.sum) sum = zeros<C>();
            corners<D, OCTAVES, PROFILE>(x + n * D, levels[l], visit);
            if (!MIXED) out[0] += visit.sum[0];
            for (int k = 0; k < KERNELS; k++)
                for (int p = 0; p < BASIS; p++) out[k] += load<C>(mix + ((l * OUT + k) * BASIS + p) * C) * visit.sum[MIXED ? p : 0];
        }
        for (int k = 0; k < OUT; k++) store<C>(result + ((n * groups + group) * OUT + k) * C, out[k]);
    }
};

// A task is a level and one of PARTS equal runs of its channels; the runs of one level lie apart in the order of tasks, as
// threads that write to one level at a time fight for its cache lines. The gradient for `mix` is added up in `copies`, since
// under CUDA all points of a level write to the same few numbers.
template <int D, int OCTAVES, int PROFILE, int CHANNELS, int KERNELS, int PARTS, bool ATOMIC> struct Backward {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, OUT = KERNELS ? KERNELS : 1, C = CHANNELS / PARTS;
    static constexpr bool MIXED = KERNELS > 0;
    const float *x, *table, *gradient, *mix;
    const Level* levels;
    int64_t n_levels, groups;
    float *d_table, *d_mix;
    int64_t copies;
    JG_FUNCTION void operator()(int64_t n, int64_t task) const {
        const int64_t l = task % n_levels, channel = task / n_levels * C;
        const float* g = gradient + (n * groups + l / (n_levels / groups)) * OUT * CHANNELS + channel;
        Scatter<BASIS, C, CHANNELS, MIXED, ATOMIC> visit;
        visit.table = table + channel;
        visit.d_table = d_table + channel;
        visit.gradient[0] = load<C>(g);
        for (int p = 0; MIXED && p < BASIS; p++) {
            visit.sum[p] = visit.gradient[p] = zeros<C>();
            for (int k = 0; k < KERNELS; k++)
                visit.gradient[p] += load<C>(mix + ((l * OUT + k) * BASIS + p) * CHANNELS + channel) * load<C>(g + k * CHANNELS);
        }
        corners<D, OCTAVES, PROFILE>(x + n * D, levels[l], visit);
        float* d = d_mix + ((MIXED ? (n >> 8) & (copies - 1) : 0) * n_levels + l) * OUT * BASIS * CHANNELS + channel;
        for (int k = 0; k < KERNELS; k++)
            for (int p = 0; p < BASIS; p++)
                add<C, ATOMIC>(d + (k * BASIS + p) * CHANNELS, visit.sum[p] * load<C>(g + k * CHANNELS));
    }
};

// sum over the points of phi^2 for each row and channel, where the table holds the coefficients of the basis (KERNELS = 0).
template <int D, int OCTAVES, int PROFILE, int C, bool ATOMIC> struct Squares {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES;
    const float *x, *table;
    const Level* levels;
    float* result;
    struct Visit {
        const float* table;
        float* result;
        JG_FUNCTION void operator()(int64_t row, const float* weights) {
            Row<C> phi = zeros<C>();
            for (int p = 0; p < BASIS; p++) phi += load<C>(table + (row * BASIS + p) * C) * weights[p];
            add<C, ATOMIC>(result + row * C, phi * phi);
        }
    };
    JG_FUNCTION void operator()(int64_t n, int64_t l) const {
        Visit visit{table, result};
        corners<D, OCTAVES, PROFILE>(x + n * D, levels[l], visit);
    }
};

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
// What a task writes has one writer, so sums need no atomics and do not depend on the number of threads.
template <class F> void over_tasks(F f, int64_t n, int64_t tasks) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t t = 0; t < tasks; t++)
        for (int64_t i = 0; i < n; i++) f(i, t);
}
#endif

}  // namespace jgrid
