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
#include <type_traits>
#if !defined(JIT_cuda) && !defined(__CUDACC__)
#include <omp.h>
#endif

namespace jgrid {

enum Profile { nearest = 0, linear = 1, smooth = 2 };

// What the index knows of one level: cells per axis, its slice of the table, and how far along the table a step along each axis goes. magic:
// 0 for a dense level, else the magic number of an exact 32-bit remainder by size (Lemire 2019); but for a hash of the plane into a table
// that is no power of two it is the 2^32nds of the table that a step along axis 0 goes. The steps of a hash are 0.
struct Level { int32_t cells[3]; int32_t first; uint32_t size; uint64_t magic; uint32_t steps[3]; };

JG_FUNCTION uint32_t remainder(uint32_t value, uint64_t magic, uint32_t size) {
    uint64_t low = magic * value;
#if defined(__CUDA_ARCH__)
    return (uint32_t)__umul64hi(low, size);
#else
    return (uint32_t)(((unsigned __int128)low * size) >> 64);
#endif
}

// A Real is the float of one point or, on the CPU, the Lanes of eight, whose places in the grid are then found side by side.
template <class Real> struct Kind { typedef int32_t Int; typedef uint32_t Bits; static constexpr int POINTS = 1; };
JG_FUNCTION int32_t truncated(float v) { return (int32_t)v; }
JG_FUNCTION float real(int32_t v) { return (float)v; }
JG_FUNCTION float lane(float v, int) { return v; }
JG_FUNCTION int32_t lane(int32_t v, int) { return v; }
#if !defined(JIT_cuda) && !defined(__CUDACC__)
typedef float Lanes __attribute__((vector_size(32)));
template <> struct Kind<Lanes> {
    typedef int32_t Int __attribute__((vector_size(32)));
    typedef uint32_t Bits __attribute__((vector_size(32)));
    static constexpr int POINTS = 8;
};
JG_FUNCTION Kind<Lanes>::Int truncated(Lanes v) { return __builtin_convertvector(v, Kind<Lanes>::Int); }
JG_FUNCTION Lanes real(Kind<Lanes>::Int v) { return __builtin_convertvector(v, Lanes); }
JG_FUNCTION float lane(const Lanes& v, int i) { return v[i]; }
JG_FUNCTION int32_t lane(const Kind<Lanes>::Int& v, int i) { return v[i]; }
JG_FUNCTION Kind<Lanes>::Bits remainder(Kind<Lanes>::Bits value, uint64_t magic, uint32_t size) {
    if ((size & (size - 1)) == 0) return value & (size - 1);
    for (int i = 0; i < 8; i++) value[i] = remainder((uint32_t)value[i], magic, size);
    return value;
}
#endif

// Floor of size times value / 2^32.
JG_FUNCTION uint32_t share(uint32_t value, uint32_t size) { return (uint32_t)(((uint64_t)value * size) >> 32); }
#if !defined(JIT_cuda) && !defined(__CUDACC__)
JG_FUNCTION Kind<Lanes>::Bits share(Kind<Lanes>::Bits value, uint32_t size) {
    for (int i = 0; i < 8; i++) value[i] = share((uint32_t)value[i], size);
    return value;
}
#endif

template <int D, class Real> JG_FUNCTION typename Kind<Real>::Int slot(const Level& level, const typename Kind<Real>::Int* corner) {
    typedef typename Kind<Real>::Int Int;
    typedef typename Kind<Real>::Bits Bits;
    Bits at = (Bits)corner[0];
    if (level.steps[0]) {
        for (int d = 1; d < D; d++) at += (Bits)corner[d] * level.steps[d];
        return level.first + (Int)(level.magic ? remainder(at, level.magic, level.size) : at);
    }
    const uint32_t primes[3] = {1u, 2654435761u, 805459861u};
    if (D == 2 && (level.size & (level.size - 1))) {
        return level.first + (Int)share(at * (uint32_t)level.magic + (Bits)corner[D - 1] * primes[D - 1], level.size);
    }
    for (int d = 1; d < D; d++) at ^= (Bits)corner[d] * primes[d];
    return level.first + (Int)remainder(at, level.magic, level.size);
}

// A Number is a Real, or a Jet: a Real and its derivatives along the axes of x.
template <int D, class R> struct Jet {
    R v, d[D];
    JG_FUNCTION Jet operator*(const Jet& o) const { Jet r; r.v = v * o.v; for (int i = 0; i < D; i++) r.d[i] = v * o.d[i] + d[i] * o.v; return r; }
    JG_FUNCTION Jet operator-(const Jet& o) const { Jet r; r.v = v - o.v; for (int i = 0; i < D; i++) r.d[i] = d[i] - o.d[i]; return r; }
};
template <class Number> struct Parts {
    typedef Number Real;
    static JG_FUNCTION Number number(Real v, Real, int) { return v; }                // v, whose derivative along an axis is slope
    static JG_FUNCTION Number chain(Real v, Real, const Number&) { return v; }       // f(u) = v, whose derivative at u is slope
    static JG_FUNCTION Real value(const Number& u) { return u; }
};
template <int D, class R> struct Parts<Jet<D, R>> {
    typedef R Real;
    typedef Jet<D, R> Number;
    static JG_FUNCTION Number number(Real v, Real slope, int axis) { Number r; r.v = v; for (int i = 0; i < D; i++) r.d[i] = i == axis ? slope : Real{}; return r; }
    static JG_FUNCTION Number chain(Real v, Real slope, const Number& u) { Number r; r.v = v; for (int i = 0; i < D; i++) r.d[i] = slope * u.d[i]; return r; }
    static JG_FUNCTION Real value(const Number& u) { return u.v; }
};
template <int D, class R> JG_FUNCTION Jet<D, float> lane(const Jet<D, R>& u, int i) {
    Jet<D, float> r;
    r.v = lane(u.v, i);
    for (int d = 0; d < D; d++) r.d[d] = lane(u.d[d], i);
    return r;
}
template <class Number> JG_FUNCTION Number constant(float v) { typename Parts<Number>::Real zero{}; return Parts<Number>::number(zero + v, zero, 0); }

template <int P, class Number> JG_FUNCTION Number profile(const Number& u) {  // P: a Profile
    typedef Parts<Number> N;
    typedef typename N::Real Real;
    const Real one = Real{} + 1.f, v = N::value(u), sign = v < 0.f ? -one : one, a = v * sign;
    if (P == nearest) return N::chain((v > -0.5f) & (v <= 0.5f) ? one : Real{}, Real{}, u);
    if (P == linear) return N::chain(1.f - a, -sign, u);
    return N::chain(1.f - a * a * (3.f - 2.f * a), -6.f * a * (1.f - a) * sign, u);
}

// sin and cos of pi f for f in [0, 1], by their series around 1/2: to 1e-7, the same on every device.
template <class Number> JG_FUNCTION void half_turn(const Number& f, Number& sine, Number& cosine) {
    typedef Parts<Number> N;
    typedef typename N::Real Real;
    const float pi = 3.14159265358979f;
    const Real t = pi * (N::value(f) - 0.5f), q = t * t;
    const Real c = -t * (1.f + q * (-1.f / 6 + q * (1.f / 120 + q * (-1.f / 5040 + q * (1.f / 362880 - q / 39916800)))));
    const Real s = 1.f + q * (-1.f / 2 + q * (1.f / 24 + q * (-1.f / 720 + q * (1.f / 40320 + q * (-1.f / 3628800 + q / 479001600)))));
    sine = N::chain(s, pi * c, f);
    cosine = N::chain(c, -pi * s, f);
}

// The cell of a point (or eight) at a level: the rows of its corners b, whose bit d says whether it is the far one along axis d, the
// windows there, and the sines and cosines of each octave. A Jet's derivatives are zero along an axis on which x lies outside the grid.
template <class Number, int D, int OCTAVES, int PROFILE> struct Cell {
    typedef Parts<Number> N;
    typedef typename N::Real Real;
    typedef typename Kind<Real>::Int Int;
    static constexpr int CORNERS = 1 << D, BASIS = 1 + 2 * D * OCTAVES;
    Int row[CORNERS];
    Number window[CORNERS], factor[BASIS];  // basis p at corner b: the factor, with the sign of that corner
    JG_FUNCTION Cell(const float* x, const Level& level) {
        Int corner[2][D];
        Number edge[2][D];
        factor[0] = constant<Number>(1.f);
        for (int d = 0; d < D; d++) {
            const Real last = Real{} + (float)(level.cells[d] - 1), at = coordinate(x + d);
            const Real above = at < 0.f ? Real{} : at, unit = above > 1.f ? Real{} + 1.f : above;
            const Real scaled = unit * (float)level.cells[d], floor = real(truncated(scaled)), first = floor > last ? last : floor;
            corner[0][d] = truncated(first);
            corner[1][d] = corner[0][d] + 1;
            const Number f = N::number(scaled - first, unit == at ? Real{} + (float)level.cells[d] : Real{}, d);
            edge[0][d] = profile<PROFILE>(f);
            // the far corner sees -u: its slope then is that of the inside also at x = 1; nearest is not even in u
            edge[1][d] = profile<PROFILE>(PROFILE == nearest ? f - constant<Number>(1.f) : constant<Number>(1.f) - f);
            Number sine, cosine;
            for (int k = 0; k < OCTAVES; k++) {
                if (k == 0) {
                    half_turn(f, sine, cosine);
                } else {
                    const Number twice = sine * constant<Number>(2.f), s = sine;
                    sine = twice * cosine;
                    cosine = constant<Number>(1.f) - twice * s;
                }
                factor[1 + (2 * k) * D + d] = sine;
                factor[1 + (2 * k + 1) * D + d] = cosine;
            }
        }
        for (int b = 0; b < CORNERS; b++) {
            Int place[D];
            for (int d = 0; d < D; d++) place[d] = corner[(b >> d) & 1][d];
            row[b] = slot<D, Real>(level, place);
            window[b] = edge[b & 1][0];
            for (int d = 1; d < D; d++) window[b] = window[b] * edge[(b >> d) & 1][d];
        }
    }
    static JG_FUNCTION Real coordinate(const float* x) {
        Real at;
        for (int i = 0; i < Kind<Real>::POINTS; i++) ((float*)&at)[i] = x[i * D];
        return at;
    }
    // One cell further, pi u changes by pi: the first octave changes sign, the higher ones do not.
    static constexpr JG_FUNCTION bool turned(int p, int b) { return p >= 1 && p <= 2 * D && ((b >> ((p - 1) % D)) & 1); }
    // window(u) basis_p(u) at corner b, of point i.
    JG_FUNCTION auto weight(int p, int b, int i) const {
        const auto w = lane(window[b], i) * lane(factor[p], i);
        return turned(p, b) ? constant<decltype(lane(window[b], i))>(0.f) - w : w;
    }
};

// Which weights the corners' rows get. Each: window(u) basis_p(u). Along: its derivatives along a direction. Shared: the sums over the corners
// for all functions of the basis follow from those of window(u), and of it with the sign by which the first octave along axis d differs
// between the corners. Basis p is factor(p) times the sum `of(p)`; weigh calls visit(row, weights) for each corner of the cell of point i.
template <int D, int OCTAVES, int PROFILE> struct Each {
    static constexpr int SUMS = 1 + 2 * D * OCTAVES;
    template <class Real> using Place = Cell<Real, D, OCTAVES, PROFILE>;
    static constexpr JG_FUNCTION int of(int p) { return p; }
    template <class Place> static JG_FUNCTION float factor(const Place&, int, int) { return 1.f; }
    template <class Place, class Visit> static JG_FUNCTION void weigh(const Place& cell, int i, const float*, Visit& visit) {
        for (int b = 0; b < (1 << D); b++) {
            const float w = lane(cell.window[b], i);
            float weights[SUMS];
            weights[0] = w;
            for (int p = 1; p < SUMS; p++) weights[p] = (cell.turned(p, b) ? -w : w) * lane(cell.factor[p], i);
            visit(lane(cell.row[b], i), weights);
        }
    }
};
template <int D, int OCTAVES, int PROFILE> struct Along {
    static constexpr int SUMS = 1 + 2 * D * OCTAVES;
    template <class Real> using Place = Cell<Jet<D, Real>, D, OCTAVES, PROFILE>;
    static constexpr JG_FUNCTION int of(int p) { return p; }
    template <class Place> static JG_FUNCTION float factor(const Place&, int, int) { return 1.f; }
    template <class Place, class Visit> static JG_FUNCTION void weigh(const Place& cell, int i, const float* direction, Visit& visit) {
        for (int b = 0; b < (1 << D); b++) {
            float weights[SUMS];
            for (int p = 0; p < SUMS; p++) {
                const Jet<D, float> weight = cell.weight(p, b, i);
                weights[p] = 0.f;
                for (int d = 0; d < D; d++) weights[p] += weight.d[d] * direction[d];
            }
            visit(lane(cell.row[b], i), weights);
        }
    }
};
template <int D, int OCTAVES, int PROFILE> struct Shared {
    static constexpr int SUMS = OCTAVES ? 1 + D : 1;
    template <class Real> using Place = Cell<Real, D, OCTAVES, PROFILE>;
    static constexpr JG_FUNCTION int of(int p) { return p >= 1 && p <= 2 * D ? 1 + (p - 1) % D : 0; }
    template <class Place> static JG_FUNCTION float factor(const Place& cell, int p, int i) { return lane(cell.factor[p], i); }
    template <class Place, class Visit> static JG_FUNCTION void weigh(const Place& cell, int i, const float*, Visit& visit) {
        for (int b = 0; b < (1 << D); b++) {
            const float w = lane(cell.window[b], i);
            float weights[SUMS];
            weights[0] = w;
            for (int s = 1; s < SUMS; s++) weights[s] = ((b >> (s - 1)) & 1) ? -w : w;
            visit(lane(cell.row[b], i), weights);
        }
    }
};
template <int D, int OCTAVES, int PROFILE, bool MIXED, bool TANGENT> using Weights = typename std::conditional<
    TANGENT, Along<D, OCTAVES, PROFILE>, typename std::conditional<MIXED, Shared<D, OCTAVES, PROFILE>, Each<D, OCTAVES, PROFILE>>::type>::type;

// C channels of a node, in registers.
template <int C, bool VECTOR> struct RowOf {
    float v[C];
    JG_FUNCTION void operator+=(const RowOf& other) { for (int c = 0; c < C; c++) v[c] += other.v[c]; }
    JG_FUNCTION RowOf operator*(const RowOf& other) const { RowOf r; for (int c = 0; c < C; c++) r.v[c] = v[c] * other.v[c]; return r; }
    JG_FUNCTION RowOf operator*(float scale) const { RowOf r; for (int c = 0; c < C; c++) r.v[c] = v[c] * scale; return r; }
    JG_FUNCTION float total() const { float sum = 0.f; for (int c = 0; c < C; c++) sum += v[c]; return sum; }
};
#if !defined(JIT_cuda) && !defined(__CUDACC__)
template <int C> struct RowOf<C, true> {
    typedef float Lanes __attribute__((vector_size(C * 4)));
    Lanes v;
    JG_FUNCTION void operator+=(const RowOf& other) { v += other.v; }
    JG_FUNCTION RowOf operator*(const RowOf& other) const { return {v * other.v}; }
    JG_FUNCTION RowOf operator*(float scale) const { return {v * scale}; }
    JG_FUNCTION float total() const { float parts[C], sum = 0.f; memcpy(parts, &v, sizeof(v)); for (float part : parts) sum += part; return sum; }
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

// The adjoint. Mixed: `gradient` is that of the sums, which are gathered again on the way. Else: only for rows from `low` to below `high`.
template <int WEIGHTS, int C, bool MIXED, bool ATOMIC> struct Scatter {
    const float* table;
    float* d_table;
    int64_t low, high;
    Row<C> gradient[MIXED ? WEIGHTS : 1], sum[MIXED ? WEIGHTS : 1];
    JG_FUNCTION Scatter(const float* table, float* d_table, int64_t low, int64_t high) : table(table), d_table(d_table), low(low), high(high) {
        for (int p = 0; p < (MIXED ? WEIGHTS : 1); p++) gradient[p] = sum[p] = zeros<C>();
    }
    JG_FUNCTION void operator()(int64_t row, const float* weights) {
        if (MIXED) {
            const Row<C> t = load<C>(table + row * C);
            Row<C> total = zeros<C>();
            for (int p = 0; p < WEIGHTS; p++) {
                sum[p] += t * weights[p];
                total += gradient[p] * weights[p];
            }
            add<C, ATOMIC>(d_table + row * C, total);
        } else if (row >= low && row < high) {
            for (int p = 0; p < WEIGHTS; p++) add<C, ATOMIC>(d_table + (row * WEIGHTS + p) * C, gradient[0] * weights[p]);
        }
    }
};

// TANGENT: the derivative of the values along `direction`, a vector for each x.
template <int D, int OCTAVES, int PROFILE, int C, int KERNELS, bool TANGENT> struct Forward {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, OUT = KERNELS ? KERNELS : 1;
    static constexpr bool MIXED = KERNELS > 0;
    typedef Weights<D, OCTAVES, PROFILE, MIXED, TANGENT> W;
    const float *x, *direction, *table, *mix;
    const Level* levels;
    int64_t n_levels, groups;
    float* result;
    template <class Real> JG_FUNCTION void visit(int64_t n, int64_t group) const {
        constexpr int POINTS = Kind<Real>::POINTS;
        const int64_t run = n_levels / groups;
        Row<C> values[POINTS * OUT];
        for (Row<C>& row : values) row = zeros<C>();
        for (int64_t l = group * run; l < (group + 1) * run; l++) {
            const typename W::template Place<Real> cell(x + n * D, levels[l]);
            for (int i = 0; i < POINTS; i++) {
                Gather<W::SUMS, C, MIXED> visit(table);
                W::weigh(cell, i, direction + (n + i) * D, visit);
                if (!MIXED) values[i * OUT] += visit.sum[0];
                for (int p = 0; MIXED && p < BASIS; p++) {
                    const Row<C> sum = visit.sum[W::of(p)] * W::factor(cell, p, i);
                    for (int k = 0; k < KERNELS; k++) values[i * OUT + k] += load<C>(mix + ((l * OUT + k) * BASIS + p) * C) * sum;
                }
            }
        }
        for (int i = 0; i < POINTS; i++)
            for (int k = 0; k < OUT; k++) store<C>(result + (((n + i) * groups + group) * OUT + k) * C, values[i * OUT + k]);
    }
};

// A task is a level and one of `parts` equal runs of its rows, 1 where mixed. The gradient for `mix` is added up in `copies`, since
// under CUDA all points of a level write to the same few numbers.
template <int D, int OCTAVES, int PROFILE, int C, int KERNELS, bool TANGENT, bool ATOMIC> struct Backward {
    static constexpr int BASIS = 1 + 2 * D * OCTAVES, OUT = KERNELS ? KERNELS : 1;
    static constexpr bool MIXED = KERNELS > 0;
    typedef Weights<D, OCTAVES, PROFILE, MIXED, TANGENT> W;
    const float *x, *direction, *table, *gradient, *mix;
    const Level* levels;
    int64_t n_levels, groups, parts;
    float *d_table, *d_mix;
    int64_t copies;
    template <class Real> JG_FUNCTION void visit(int64_t n, int64_t task) const {
        const int64_t l = task % n_levels, part = task / n_levels, size = levels[l].size;
        const int64_t low = levels[l].first + size * part / parts, high = levels[l].first + size * (part + 1) / parts;
        const typename W::template Place<Real> cell(x + n * D, levels[l]);
        for (int i = 0; i < Kind<Real>::POINTS; i++) {
            const float* g = gradient + ((n + i) * groups + l / (n_levels / groups)) * OUT * C;
            Scatter<W::SUMS, C, MIXED, ATOMIC> visit(table, d_table, low, high);
            if (!MIXED) visit.gradient[0] = load<C>(g);
            for (int p = 0; MIXED && p < BASIS; p++) {
                Row<C> of_sum = zeros<C>();  // the gradient for the sum over the corners with basis p
                for (int k = 0; k < KERNELS; k++) of_sum += load<C>(mix + ((l * OUT + k) * BASIS + p) * C) * load<C>(g + k * C);
                visit.gradient[W::of(p)] += of_sum * W::factor(cell, p, i);
            }
            W::weigh(cell, i, direction + (n + i) * D, visit);
            float* of_mix = d_mix + ((((n + i) >> 8) & (copies - 1)) * n_levels + l) * OUT * BASIS * C;
            for (int p = 0; MIXED && p < BASIS; p++) {
                const Row<C> sum = visit.sum[W::of(p)] * W::factor(cell, p, i);
                for (int k = 0; k < KERNELS; k++) add<C, ATOMIC>(of_mix + (k * BASIS + p) * C, sum * load<C>(g + k * C));
            }
        }
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
    template <class Real> JG_FUNCTION void visit(int64_t n, int64_t) const {
        constexpr int POINTS = Kind<Real>::POINTS;
        float sums[POINTS * D];
        for (float& sum : sums) sum = 0.f;
        for (int64_t l = 0; l < n_levels; l++) {
            const Cell<Jet<D, Real>, D, OCTAVES, PROFILE> cell(x + n * D, levels[l]);
            for (int i = 0; i < POINTS; i++) {
                const float* g = gradient + ((n + i) * groups + l / (n_levels / groups)) * OUT * C;
                Row<C> of_sum[MIXED ? BASIS : 1];  // the gradient of the sum for each function of the basis
                of_sum[0] = load<C>(g);
                for (int p = 0; MIXED && p < BASIS; p++) {
                    of_sum[p] = zeros<C>();
                    for (int k = 0; k < KERNELS; k++) of_sum[p] += load<C>(mix + ((l * OUT + k) * BASIS + p) * C) * load<C>(g + k * C);
                }
                for (int b = 0; b < (1 << D); b++) {
                    const float* t = table + (int64_t)lane(cell.row[b], i) * C * (MIXED ? 1 : BASIS);
                    for (int p = 0; p < BASIS; p++) {
                        const float total = (load<C>(t + (MIXED ? 0 : p * C)) * of_sum[MIXED ? p : 0]).total();
                        const Jet<D, float> weight = cell.weight(p, b, i);
                        for (int d = 0; d < D; d++) sums[i * D + d] += total * weight.d[d];
                    }
                }
            }
        }
        for (int i = 0; i < POINTS * D; i++) d_x[n * D + i] = sums[i];
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
    template <class Real> JG_FUNCTION void visit(int64_t n, int64_t l) const {
        const Cell<Real, D, OCTAVES, PROFILE> cell(x + n * D, levels[l]);
        Visit visit{table, result};
        for (int i = 0; i < Kind<Real>::POINTS; i++) Each<D, OCTAVES, PROFILE>::weigh(cell, i, nullptr, visit);
    }
};

// Run a body's visit for all points and tasks.
#if defined(JIT_cuda) || defined(__CUDACC__)
template <class F> struct OnePoint {
    F f;
    JG_FUNCTION void operator()(int64_t n, int64_t task) const { f.template visit<float>(n, task); }
};
inline int64_t parts_of_levels(int64_t) { return 1; }
template <class F> void launch_visits(F f, int64_t n, int64_t tasks) { launch(OnePoint<F>{f}, n, tasks); }
#else
template <class F> void visit_run(const F& f, int64_t n, int64_t end, int64_t task) {
    for (; n + Kind<Lanes>::POINTS <= end; n += Kind<Lanes>::POINTS) f.template visit<Lanes>(n, task);
    for (; n < end; n++) f.template visit<float>(n, task);
}
// Of a few points all tasks are done, which are levels, before the next few: what they write lies together.
template <class F> void visit_points(const F& f, int64_t n, int64_t tasks) {
    const int64_t run = 64;
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < n; start += run)
        for (int64_t t = 0; t < tasks; t++) visit_run(f, start, start + run < n ? start + run : n, t);
}
// A few levels alone would leave threads without work. How many parts there are changes no sum.
inline int64_t parts_of_levels(int64_t n_levels) { return (omp_get_max_threads() + n_levels - 1) / n_levels; }
// What a task writes has one writer, so sums need no atomics and do not depend on the number of threads.
template <class F> void visit_tasks(const F& f, int64_t n, int64_t tasks) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t t = 0; t < tasks; t++) visit_run(f, 0, n, t);
}
#endif

}  // namespace jgrid
