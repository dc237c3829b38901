// Per-point bodies of the collapsed grid, for CPU and CUDA: no Jittor symbol in here, launch.h before it. For the 2^D corners i of the cell of
// x_n at level l, u = x_n R_l - corner, basis = [1, gamma(u)] with 1 + 2 D OCTAVES functions,
//
//   KERNELS > 0, mixed per level and channel:  out[n, l, k, c] = sum_p mix[l, k, p, c] sum_i window(u) basis_p(u) table[i, c]
//   KERNELS = 0, mixed per node in the table:  out[n, l, 0, c] = sum_i window(u) sum_p basis_p(u) table[i, p, c]
//
// or the same summed over `groups` equal runs of the levels, one for each l.
#pragma once
#include <cmath>
#include <cstring>

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

// A number and its derivatives along the axes of x.
template <int D> struct Jet {
    float v, d[D];
    JG_FUNCTION Jet operator*(const Jet& o) const { Jet r; r.v = v * o.v; for (int i = 0; i < D; i++) r.d[i] = v * o.d[i] + d[i] * o.v; return r; }
    JG_FUNCTION Jet operator-(const Jet& o) const { Jet r; r.v = v - o.v; for (int i = 0; i < D; i++) r.d[i] = d[i] - o.d[i]; return r; }
};
template <int D> JG_FUNCTION Jet<D> constant(float v, const Jet<D>&) { Jet<D> r; r.v = v; for (int i = 0; i < D; i++) r.d[i] = 0.f; return r; }
template <int D> JG_FUNCTION Jet<D> variable(float v, int axis, float slope, const Jet<D>& like) { Jet<D> r = constant(v, like); r.d[axis] = slope; return r; }
template <int D> JG_FUNCTION Jet<D> chain(float v, float slope, const Jet<D>& u) { Jet<D> r; r.v = v; for (int i = 0; i < D; i++) r.d[i] = slope * u.d[i]; return r; }
template <int D> JG_FUNCTION float value(const Jet<D>& u) { return u.v; }
JG_FUNCTION float constant(float v, float) { return v; }
JG_FUNCTION float variable(float v, int, float, float) { return v; }
JG_FUNCTION float chain(float v, float, float) { return v; }
JG_FUNCTION float value(float u) { return u; }

template <int P, class Number> JG_FUNCTION Number profile(const Number& u) {  // P: a Profile
    const float a = fabsf(value(u)), sign = value(u) < 0.f ? -1.f : 1.f;
    if (P == nearest) return constant((value(u) > -0.5f && value(u) <= 0.5f) ? 1.f : 0.f, u);
    if (P == linear) return chain(1.f - a, -sign, u);
    return chain(1.f - a * a * (3.f - 2.f * a), -6.f * a * (1.f - a) * sign, u);
}

// sin and cos of pi f for f in [0, 1], by their series around 1/2: to 1e-7, the same on every device.
template <class Number> JG_FUNCTION void half_turn(const Number& f, Number& sine, Number& cosine) {
    const float pi = 3.14159265358979f, t = pi * (value(f) - 0.5f), q = t * t;
    const float c = -t * (1.f + q * (-1.f / 6 + q * (1.f / 120 + q * (-1.f / 5040 + q * (1.f / 362880 - q / 39916800)))));
    const float s = 1.f + q * (-1.f / 2 + q * (1.f / 24 + q * (-1.f / 720 + q * (1.f / 40320 + q * (-1.f / 3628800 + q / 479001600)))));
    sine = chain(s, pi * c, f);
    cosine = chain(c, -pi * s, f);
}

// The cell of x at a level: its first corner, where x lies in it, and the sines and cosines of each octave there. Number: float, or
// Jet<D> with the derivatives, which are zero along an axis on which x lies outside the grid.
template <class Number, int D, int OCTAVES> struct Cell {
    static constexpr int WAVES = OCTAVES ? OCTAVES : 1;
    int32_t first[D];
    Number fraction[D], sine[WAVES][D], cosine[WAVES][D];
    JG_FUNCTION Cell(const float* x, const Level& level) {
        for (int d = 0; d < D; d++) {
            const float unit = x[d] < 0.f ? 0.f : (x[d] > 1.f ? 1.f : x[d]);
            const float scaled = unit * (float)level.cells[d];
            first[d] = (int32_t)scaled;
            if (first[d] > level.cells[d] - 1) first[d] = level.cells[d] - 1;
            fraction[d] = variable(scaled - (float)first[d], d, unit == x[d] ? (float)level.cells[d] : 0.f, Number());
            if (OCTAVES) {
                half_turn(fraction[d], sine[0][d], cosine[0][d]);
                for (int k = 1; k < OCTAVES; k++) {
                    const Number twice = sine[k - 1][d] * constant(2.f, Number());
                    sine[k][d] = twice * cosine[k - 1][d];
                    cosine[k][d] = constant(1.f, Number()) - twice * sine[k - 1][d];
                }
            }
        }
    }
    // Of corner b, whose bit d says whether it is the far one along axis d: the row of the table, and the window.
    JG_FUNCTION int64_t row(const Level& level, int b) const {
        int32_t corner[D];
        for (int d = 0; d < D; d++) corner[d] = first[d] + ((b >> d) & 1);
        return slot<D>(level, corner);
    }
    template <int PROFILE> JG_FUNCTION Number window(int b) const {
        Number w = constant(1.f, Number());
        for (int d = 0; d < D; d++) w = w * profile<PROFILE>(fraction[d] - constant((float)((b >> d) & 1), Number()));
        return w;
    }
};

// Calls visit(row, weights) for each corner of the cell of x, weights[p] = window(u) basis_p(u), 1 + 2 D OCTAVES of them.
template <class Number, int D, int OCTAVES, int PROFILE, class Visit>
JG_FUNCTION void corners(const float* x, const Level& level, Visit& visit) {
    const Cell<Number, D, OCTAVES> cell(x, level);
    for (int b = 0; b < (1 << D); b++) {
        Number weights[1 + 2 * D * OCTAVES];
        const Number w = weights[0] = cell.template window<PROFILE>(b);
        // one cell further, pi u changes by pi: the first octave changes sign, the higher ones do not
        for (int k = 0; k < OCTAVES; k++)
            for (int d = 0; d < D; d++) {
                const Number sign = (k == 0 && ((b >> d) & 1)) ? constant(0.f, Number()) - w : w;
                weights[1 + (2 * k) * D + d] = sign * cell.sine[k][d];
                weights[1 + (2 * k + 1) * D + d] = sign * cell.cosine[k][d];
            }
        visit(cell.row(level, b), weights);
    }
}

// The sums over the corners for all functions of the basis follow from a few: of window(u), and of it with the sign by which the first
// octave along axis d differs between the corners. Basis p is `factor[p]` times the sum `shared(p)`.
template <int D, int OCTAVES, int PROFILE> struct Shared {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, SUMS = OCTAVES ? 1 + D : 1;
    const Level& level;
    const Cell<float, D, OCTAVES> cell;
    float factor[BASIS];
    JG_FUNCTION Shared(const float* x, const Level& level) : level(level), cell(x, level) {
        factor[0] = 1.f;
        for (int k = 0; k < OCTAVES; k++)
            for (int d = 0; d < D; d++) {
                factor[1 + (2 * k) * D + d] = cell.sine[k][d];
                factor[1 + (2 * k + 1) * D + d] = cell.cosine[k][d];
            }
    }
    static constexpr JG_FUNCTION int shared(int p) { return p >= 1 && p <= 2 * D ? 1 + (p - 1) % D : 0; }
    template <class Visit> JG_FUNCTION void visit_corners(Visit& visit) const {
        for (int b = 0; b < (1 << D); b++) {
            const float w = cell.template window<PROFILE>(b);
            float weights[SUMS];
            weights[0] = w;
            for (int s = 1; s < SUMS; s++) weights[s] = ((b >> (s - 1)) & 1) ? -w : w;
            visit(cell.row(level, b), weights);
        }
    }
};

// The same with the weights' derivatives along a direction in their place, for TANGENT; else with the weights.
template <int D, int BASIS, class Visit> struct Along {
    Visit& visit;
    const float* direction;
    JG_FUNCTION void operator()(int64_t row, const Jet<D>* weights) {
        float along[BASIS];
        for (int p = 0; p < BASIS; p++) {
            along[p] = 0.f;
            for (int d = 0; d < D; d++) along[p] += weights[p].d[d] * direction[d];
        }
        visit(row, along);
    }
};
template <int D, int OCTAVES, int PROFILE, bool TANGENT, class Visit>
JG_FUNCTION void weigh(const float* x, const float* direction, const Level& level, Visit& visit) {
    if (TANGENT) {
        Along<D, 1 + 2 * D * OCTAVES, Visit> along{visit, direction};
        corners<Jet<D>, D, OCTAVES, PROFILE>(x, level, along);
    } else {
        corners<float, D, OCTAVES, PROFILE>(x, level, visit);
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

// Sums over the corners, with several weights each: apart (MIXED), else of what the table mixes.
template <int WEIGHTS, int C, bool MIXED> struct Gather {
    const float* table;
    Row<C> sum[MIXED ? WEIGHTS : 1];
    JG_FUNCTION Gather(const float* table) : table(table) {
        for (Row<C>& row : sum) row = zeros<C>();
    }
    JG_FUNCTION void operator()(int64_t row, const float* weights) {
        const float* t = table + row * C * (MIXED ? 1 : WEIGHTS);
        for (int p = 0; p < WEIGHTS; p++) sum[MIXED ? p : 0] += load<C>(t + (MIXED ? 0 : p * C)) * weights[p];
    }
};

// The adjoint, for C of the STRIDE channels of a row. Mixed: `gradient` is that of the sums, which are gathered again on the way.
template <int WEIGHTS, int C, int STRIDE, bool MIXED, bool ATOMIC> struct Scatter {
    const float* table;
    float* d_table;
    Row<C> gradient[MIXED ? WEIGHTS : 1], sum[MIXED ? WEIGHTS : 1];
    JG_FUNCTION Scatter(const float* table, float* d_table) : table(table), d_table(d_table) {
        for (int p = 0; p < (MIXED ? WEIGHTS : 1); p++) gradient[p] = sum[p] = zeros<C>();
    }
    JG_FUNCTION void operator()(int64_t row, const float* weights) {
        if (MIXED) {
            const Row<C> t = load<C>(table + row * STRIDE);
            Row<C> total = zeros<C>();
            for (int p = 0; p < WEIGHTS; p++) {
                sum[p] += t * weights[p];
                total += gradient[p] * weights[p];
            }
            add<C, ATOMIC>(d_table + row * STRIDE, total);
        } else {
            for (int p = 0; p < WEIGHTS; p++) add<C, ATOMIC>(d_table + (row * WEIGHTS + p) * STRIDE, gradient[0] * weights[p]);
        }
    }
};

// TANGENT: the derivative of the values along `direction`, a vector for each x.
template <int D, int OCTAVES, int PROFILE, int C, int KERNELS, bool TANGENT> struct Forward {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, OUT = KERNELS ? KERNELS : 1;
    static constexpr bool MIXED = KERNELS > 0, SHARED = MIXED && !TANGENT;
    const float *x, *direction, *table, *mix;
    const Level* levels;
    int64_t n_levels, groups;
    float* result;
    JG_FUNCTION void operator()(int64_t n, int64_t group) const {
        const int64_t run = n_levels / groups;
        Row<C> out[OUT];
        for (Row<C>& row : out) row = zeros<C>();
        for (int64_t l = group * run; l < (group + 1) * run; l++) {
            Row<C> sum[BASIS];  // over the corners, for each function of the basis
            if (SHARED) {
                const Shared<D, OCTAVES, PROFILE> cell(x + n * D, levels[l]);
                Gather<Shared<D, OCTAVES, PROFILE>::SUMS, C, true> visit(table);
                cell.visit_corners(visit);
                for (int p = 0; p < BASIS; p++) sum[p] = visit.sum[cell.shared(p)] * cell.factor[p];
            } else {
                Gather<BASIS, C, MIXED> visit(table);
                weigh<D, OCTAVES, PROFILE, TANGENT>(x + n * D, direction + n * D, levels[l], visit);
                for (int p = 0; p < (MIXED ? BASIS : 1); p++) sum[p] = visit.sum[MIXED ? p : 0];
            }
            if (!MIXED) out[0] += sum[0];
            for (int k = 0; k < KERNELS; k++)
                for (int p = 0; p < BASIS; p++) out[k] += load<C>(mix + ((l * OUT + k) * BASIS + p) * C) * sum[p];
        }
        for (int k = 0; k < OUT; k++) store<C>(result + ((n * groups + group) * OUT + k) * C, out[k]);
    }
};

// A task is a level and one of PARTS equal runs of its channels; the runs of one level lie apart in the order of tasks, as
// threads that write to one level at a time fight for its cache lines. The gradient for `mix` is added up in `copies`, since
// under CUDA all points of a level write to the same few numbers.
template <int D, int OCTAVES, int PROFILE, int CHANNELS, int KERNELS, bool TANGENT, int PARTS, bool ATOMIC> struct Backward {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, OUT = KERNELS ? KERNELS : 1, C = CHANNELS / PARTS;
    static constexpr bool MIXED = KERNELS > 0, SHARED = MIXED && !TANGENT;
    const float *x, *direction, *table, *gradient, *mix;
    const Level* levels;
    int64_t n_levels, groups;
    float *d_table, *d_mix;
    int64_t copies;
    JG_FUNCTION void operator()(int64_t n, int64_t task) const {
        const int64_t l = task % n_levels, channel = task / n_levels * C;
        const float* g = gradient + (n * groups + l / (n_levels / groups)) * OUT * CHANNELS + channel;
        const float *t = table + channel, *along = direction + n * D, *point = x + n * D;
        float* d = d_table + channel;
        if (!MIXED) {
            Scatter<BASIS, C, CHANNELS, false, ATOMIC> visit(t, d);
            visit.gradient[0] = load<C>(g);
            weigh<D, OCTAVES, PROFILE, TANGENT>(point, along, levels[l], visit);
            return;
        }
        Row<C> sum[BASIS], of_sum[BASIS];  // over the corners, for each function of the basis, and the gradient for these
        for (int p = 0; p < BASIS; p++) {
            of_sum[p] = zeros<C>();
            for (int k = 0; k < KERNELS; k++)
                of_sum[p] += load<C>(mix + ((l * OUT + k) * BASIS + p) * CHANNELS + channel) * load<C>(g + k * CHANNELS);
        }
        if (SHARED) {
            const Shared<D, OCTAVES, PROFILE> cell(point, levels[l]);
            Scatter<Shared<D, OCTAVES, PROFILE>::SUMS, C, CHANNELS, true, ATOMIC> visit(t, d);
            for (int p = 0; p < BASIS; p++) visit.gradient[cell.shared(p)] += of_sum[p] * cell.factor[p];
            cell.visit_corners(visit);
            for (int p = 0; p < BASIS; p++) sum[p] = visit.sum[cell.shared(p)] * cell.factor[p];
        } else {
            Scatter<BASIS, C, CHANNELS, true, ATOMIC> visit(t, d);
            for (int p = 0; p < BASIS; p++) visit.gradient[p] = of_sum[p];
            weigh<D, OCTAVES, PROFILE, TANGENT>(point, along, levels[l], visit);
            for (int p = 0; p < BASIS; p++) sum[p] = visit.sum[p];
        }
        float* of_mix = d_mix + (((n >> 8) & (copies - 1)) * n_levels + l) * OUT * BASIS * CHANNELS + channel;
        for (int k = 0; k < KERNELS; k++)
            for (int p = 0; p < BASIS; p++)
                add<C, ATOMIC>(of_mix + (k * BASIS + p) * CHANNELS, sum[p] * load<C>(g + k * CHANNELS));
    }
};

// The gradient for x.
template <int D, int OCTAVES, int PROFILE, int C, int KERNELS> struct Slope {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, OUT = KERNELS ? KERNELS : 1;
    static constexpr bool MIXED = KERNELS > 0;
    const float *x, *table, *gradient, *mix;
    const Level* levels;
    int64_t n_levels, groups;
    float* d_x;
    struct Visit {
        const float* table;
        Row<C> gradient[MIXED ? BASIS : 1];  // of the sum for each function of the basis
        float sum[D];
        JG_FUNCTION void operator()(int64_t row, const Jet<D>* weights) {
            const float* t = table + row * C * (MIXED ? 1 : BASIS);
            for (int p = 0; p < BASIS; p++) {
                const Row<C> product = load<C>(t + (MIXED ? 0 : p * C)) * gradient[MIXED ? p : 0];
                float parts[C], total = 0.f;
                store<C>(parts, product);
                for (int c = 0; c < C; c++) total += parts[c];
                for (int d = 0; d < D; d++) sum[d] += total * weights[p].d[d];
            }
        }
    };
    JG_FUNCTION void operator()(int64_t n, int64_t) const {
        Visit visit;
        visit.table = table;
        for (int d = 0; d < D; d++) visit.sum[d] = 0.f;
        for (int64_t l = 0; l < n_levels; l++) {
            const float* g = gradient + (n * groups + l / (n_levels / groups)) * OUT * C;
            visit.gradient[0] = load<C>(g);
            for (int p = 0; MIXED && p < BASIS; p++) {
                visit.gradient[p] = zeros<C>();
                for (int k = 0; k < KERNELS; k++) visit.gradient[p] += load<C>(mix + ((l * OUT + k) * BASIS + p) * C) * load<C>(g + k * C);
            }
            corners<Jet<D>, D, OCTAVES, PROFILE>(x + n * D, levels[l], visit);
        }
        for (int d = 0; d < D; d++) d_x[n * D + d] = visit.sum[d];
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
        corners<float, D, OCTAVES, PROFILE>(x + n * D, levels[l], visit);
    }
};

}  // namespace jgrid
