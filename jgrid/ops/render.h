// Per-ray bodies of volume rendering on packed samples, for CPU and CUDA: no Jittor symbol in here, launch.h before it. The samples of ray r are
// the rows first[r] .. first[r + 1] - 1 of every array of samples, front to back.
#pragma once
#include <cmath>

namespace jgrid {

// Marches through the unit cube: the points o + t d, t = t_near + (k + jitter) step, in occupied cells, k = 0, 1, ... Counts
// them, or with FILL writes the first (first[r + 1] - first[r]) of them.
template <bool FILL> struct March {
    const float *origin, *direction, *jitter;  // (R, 3), (R, 3) of length 1, (R,) in [0, 1]
    const uint8_t* distance;                   // (cells, cells, cells), axis 0 fastest: 0 in an occupied cell, else to the nearest such
    int cells;
    float step;
    const int32_t* first;
    int32_t* count;
    float *x, *t;                              // (S, 3), (S,)
    int32_t* ray;                              // (S,)
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        const float *o = origin + 3 * r, *d = direction + 3 * r;
        float inverse[3], near = 0.f, far = 1e30f;
        for (int a = 0; a < 3; a++) {
            const float along = fabsf(d[a]) < 1e-9f ? (d[a] < 0.f ? -1e-9f : 1e-9f) : d[a];
            inverse[a] = 1.f / along;
            const float t0 = -o[a] * inverse[a], t1 = (1.f - o[a]) * inverse[a];
            near = fmaxf(near, fminf(t0, t1));
            far = fminf(far, fmaxf(t0, t1));
        }
        const int64_t begin = FILL ? first[r] : 0, most = FILL ? first[r + 1] - first[r] : (int64_t)1 << 30;
        int64_t found = 0;
        int k = 0;
        while (found < most) {
            const float at = near + (k + jitter[r]) * step;
            if (!(at < far)) break;
            float p[3];
            int cell[3];
            for (int a = 0; a < 3; a++) {
                p[a] = fminf(fmaxf(o[a] + at * d[a], 0.f), 1.f);
                cell[a] = (int)(p[a] * cells);
                if (cell[a] > cells - 1) cell[a] = cells - 1;
            }
            const int empty = distance[((int64_t)cell[2] * cells + cell[1]) * cells + cell[0]];
            if (!empty) {
                if (FILL) {
                    const int64_t s = begin + found;
                    for (int a = 0; a < 3; a++) x[3 * s + a] = p[a];
                    t[s] = at;
                    ray[s] = (int32_t)r;
                }
                found++;
                k++;
                continue;
            }
            float exit = far;  // of the cube of empty cells around this one; the next sample lies behind it
            for (int a = 0; a < 3; a++) exit = fminf(exit, ((cell[a] + (d[a] > 0.f ? empty : 1 - empty)) / (float)cells - o[a]) * inverse[a]);
            const int next = (int)ceilf((exit - near) / step - jitter[r]);
            k = next > k ? next : k + 1;
        }
        if (!FILL) count[r] = (int32_t)found;
        for (; FILL && found < most; found++) {  // counting may have rounded otherwise; no row may be left unwritten
            for (int a = 0; a < 3; a++) x[3 * (begin + found) + a] = fminf(fmaxf(o[a] + far * d[a], 0.f), 1.f);
            t[begin + found] = far;
            ray[begin + found] = (int32_t)r;
        }
    }
};

// How many samples of each ray light reaches: those before its transmittance falls below `least`.
struct Visible {
    const float *density, *delta;
    const int32_t* first;
    float least;
    int32_t* count;
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        const float depth = -logf(least);
        float sum = 0.f;
        int32_t s = first[r];
        for (; s < first[r + 1] && sum < depth; s++) sum += density[s] * delta[s];
        count[r] = s - first[r];
    }
};

// out[r] = [sum_s w_s value_s, sum_s w_s],  w_s = T_s (1 - e^(-density_s delta_s)),  T_s = e^(-sum_{j < s} density_j delta_j)
template <int V> struct Composite {
    const float *density, *value, *delta;
    const int32_t* first;
    float* result;  // (R, V + 1)
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        float sum[V + 1] = {0.f}, through = 1.f;
        for (int64_t s = first[r]; s < first[r + 1]; s++) {
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
    const int32_t* first;
    const float* gradient;  // (R, V + 1)
    float *d_density, *d_value;
    JG_FUNCTION void operator()(int64_t r, int64_t) const {
        const float* g = gradient + r * (V + 1);
        float depth = 0.f, behind = 0.f;
        for (int64_t s = first[r]; s < first[r + 1]; s++) depth += density[s] * delta[s];
        for (int64_t s = (int64_t)first[r + 1] - 1; s >= first[r]; s--) {
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

}  // namespace jgrid
