// Per-ray bodies of volume rendering on packed samples, for CPU and CUDA: no Jittor symbol in here, launch.h before it. The samples of ray r are
// the rows offsets[r] .. offsets[r + 1] - 1 of every array of samples, front to back.
#pragma once
#include <cmath>

namespace jgrid {

// Marches through the unit cube: the points o + t d, t = t_near + (k + jitter) step, in occupied cells, k = 0, 1, ... Counts
// them, or with FILL writes the first (offsets[r + 1] - offsets[r]) of them. CONTRACTED: through all of space, see ops/render.py.
template <bool FILL, bool CONTRACTED> struct March {
    const float *origin, *direction, *jitter;  // (R, 3), (R, 3) of length 1, (R,) in [0, 1]
    const uint8_t* distance;                   // (cells, cells, cells), axis 0 fastest: 0 in an occupied cell, else to the nearest such
    int cells;
    float step;
    const int32_t* offsets;
    int32_t* count;
    float *x, *t;                              // (S, 3), (S,)
    int32_t* ray;                              // (S,)
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        const float end[3] = {0.f, 0.f, 0.f};
        int64_t found = CONTRACTED ? through_space(r) : through_box(r);
        if (!FILL) count[r] = (int32_t)found;
        const int64_t rows = FILL ? offsets[r + 1] - offsets[r] : 0;  // counting may have rounded otherwise; no row may be left unwritten
        for (; found < rows; found++) put(r, found, found ? x + 3 * (offsets[r] + found - 1) : end, found ? t[offsets[r] + found - 1] : 0.f);
    }
    JG_FUNCTION int64_t most(int64_t r) const { return FILL ? offsets[r + 1] - offsets[r] : (int64_t)1 << 30; }
    JG_FUNCTION void put(int64_t r, int64_t found, const float* p, float at) const {
        const int64_t s = offsets[r] + found;
        for (int a = 0; a < 3; a++) x[3 * s + a] = p[a];
        t[s] = at;
        ray[s] = (int32_t)r;
    }
    // How far the nearest occupied cell is from the cell of p.
    JG_FUNCTION int empty(const float* p, int* cell) const {
        for (int a = 0; a < 3; a++) {
            cell[a] = (int)(p[a] * cells);
            if (cell[a] > cells - 1) cell[a] = cells - 1;
        }
        return distance[((int64_t)cell[2] * cells + cell[1]) * cells + cell[0]];
    }
    JG_FUNCTION int64_t through_box(int64_t r) const {
        const float *o = origin + 3 * r, *d = direction + 3 * r;
        float inverse[3], near = 0.f, far = 1e30f;
        for (int a = 0; a < 3; a++) {
            const float along = fabsf(d[a]) < 1e-9f ? (d[a] < 0.f ? -1e-9f : 1e-9f) : d[a];
            inverse[a] = 1.f / along;
            const float t0 = -o[a] * inverse[a], t1 = (1.f - o[a]) * inverse[a];
            near = fmaxf(near, fminf(t0, t1));
            far = fminf(far, fmaxf(t0, t1));
        }
        int64_t found = 0;
        int k = 0;
        while (found < most(r)) {
            const float at = near + (k + jitter[r]) * step;
            if (!(at < far)) break;
            float p[3];
            int cell[3];
            for (int a = 0; a < 3; a++) p[a] = fminf(fmaxf(o[a] + at * d[a], 0.f), 1.f);
            const int away = empty(p, cell);
            if (!away) {
                if (FILL) put(r, found, p, at);
                found++;
                k++;
                continue;
            }
            float exit = far;  // of the cube of empty cells around this one; the next sample lies behind it
            for (int a = 0; a < 3; a++) exit = fminf(exit, ((cell[a] + (d[a] > 0.f ? away : 1 - away)) / (float)cells - o[a]) * inverse[a]);
            const int next = (int)ceilf((exit - near) / step - jitter[r]);
            k = next > k ? next : k + 1;
        }
        return found;
    }
    // q = p - 1/2 at a place of the ray, and its size in the largest norm, 1 at the border of the box, which is half the cube wide.
    JG_FUNCTION float radius(int64_t r, float at, float* q) const {
        float size = 0.f;
        for (int a = 0; a < 3; a++) {
            q[a] = origin[3 * r + a] + at * direction[3 * r + a] - 0.5f;
            size = fmaxf(size, 4.f * fabsf(q[a]));
        }
        return size;
    }
    JG_FUNCTION int64_t through_space(int64_t r) const {
        int64_t found = 0;
        float edge = 0.f, p[3];
        int cell[3];
        for (float size = radius(r, edge, p); found < most(r) && 4.f * size * step < 1.f; size = radius(r, edge, p)) {
            const float length = step * fmaxf(1.f, size * size), at = edge + jitter[r] * length;
            const float there = fmaxf(1.f, radius(r, at, p));
            for (int a = 0; a < 3; a++) p[a] = fminf(fmaxf(0.5f + (2.f - 1.f / there) / there * p[a], 0.f), 1.f);
            if (!empty(p, cell)) {
                if (FILL) put(r, found, p, at);
                found++;
            }
            edge += length;
        }
        return found;
    }
};

// How many samples of each ray light reaches: those before its transmittance falls below `least`.
struct Visible {
    const float *density, *delta;
    const int32_t* offsets;
    float least;
    int32_t* count;
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        const float depth = -logf(least);
        float sum = 0.f;
        int32_t s = offsets[r];
        for (; s < offsets[r + 1] && sum < depth; s++) sum += density[s] * delta[s];
        count[r] = s - offsets[r];
    }
};

// out[r] = [sum_s w_s value_s, sum_s w_s],  w_s = T_s (1 - e^(-density_s delta_s)),  T_s = e^(-sum_{j < s} density_j delta_j)
template <int V> struct Composite {
    const float *density, *value, *delta;
    const int32_t* offsets;
    float* result;  // (R, V + 1)
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        float sum[V + 1] = {0.f}, through = 1.f;
        for (int64_t s = offsets[r]; s < offsets[r + 1]; s++) {
            const float left = expf(-density[s] * delta[s]), w = through * (1.f - left);
            for (int v = 0; v < V; v++) sum[v] += w * value[s * V + v];
            sum[V] += w;
            through *= left;
        }
        for (int v = 0; v <= V; v++) result[r * (V + 1) + v] = sum[v];
    }
};

// The adjoint, back to front: with a_s = <gradient, [value_s, 1]>, d density_s = delta_s (T_{s+1} a_s - sum_{j > s} w_j a_j).
template <int V> struct CompositeBackward {
    const float *density, *value, *delta;
    const int32_t* offsets;
    const float* gradient;  // (R, V + 1)
    float *d_density, *d_value;
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        const float* g = gradient + r * (V + 1);
        float depth = 0.f, behind = 0.f;
        for (int64_t s = offsets[r]; s < offsets[r + 1]; s++) depth += density[s] * delta[s];
        for (int64_t s = (int64_t)offsets[r + 1] - 1; s >= offsets[r]; s--) {
            const float after = expf(-depth);
            depth -= density[s] * delta[s];
            const float w = expf(-depth) - after;
            float a = g[V];
            for (int v = 0; v < V; v++) {
                a += g[v] * value[s * V + v];
                d_value[s * V + v] = w * g[v];
            }
            d_density[s] = delta[s] * (after * a - behind);
            behind += w * a;
        }
    }
};

// result[r] = sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 delta_i: as m ascends, sums over what lies in front make the double sum a single one.
struct Distortion {
    const float *density, *middle, *delta;
    const int32_t* offsets;
    float* result;  // (R,)
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        float through = 1.f, weight = 0.f, moment = 0.f, sum = 0.f;
        for (int64_t s = offsets[r]; s < offsets[r + 1]; s++) {
            const float left = expf(-density[s] * delta[s]), w = through * (1.f - left), m = middle[s] - middle[offsets[r]];
            sum += 2.f * w * (m * weight - moment) + w * w * delta[s] / 3.f;
            weight += w;
            moment += w * m;
            through *= left;
        }
        result[r] = sum;
    }
};

// The adjoint: a_s = d result / d w_s = 2 (m_s (W_front - W_behind) - (M_front - M_behind)) + 2/3 w_s delta_s, then as in CompositeBackward.
struct DistortionBackward {
    const float *density, *middle, *delta;
    const int32_t* offsets;
    const float* gradient;  // (R,)
    float* d_density;
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        float depth = 0.f, through = 1.f, weight = 0.f, moment = 0.f;  // at first of all samples, then of those in front
        for (int64_t s = offsets[r]; s < offsets[r + 1]; s++) {
            depth += density[s] * delta[s];
            const float after = expf(-depth), w = through - after;
            weight += w;
            moment += w * (middle[s] - middle[offsets[r]]);
            through = after;
        }
        float behind = 0.f, weight_behind = 0.f, moment_behind = 0.f;
        for (int64_t s = (int64_t)offsets[r + 1] - 1; s >= offsets[r]; s--) {
            const float after = expf(-depth), m = middle[s] - middle[offsets[r]];
            depth -= density[s] * delta[s];
            const float w = expf(-depth) - after;
            weight -= w;
            moment -= w * m;
            const float a = gradient[r] * (2.f * (m * (weight - weight_behind) - moment + moment_behind) + 2.f / 3.f * w * delta[s]);
            d_density[s] = delta[s] * (after * a - behind);
            behind += w * a;
            weight_behind += w;
            moment_behind += w * m;
        }
    }
};

}  // namespace jgrid
