// Many small SIRENs, one per target: each network's squared error and its gradients, in one pass that stays in the cache. CPU only.
// (Under CUDA the plain twin's batched matrix products are the library's, and are left to it.)
//
//   z_{l+1} = sin(omega (W_l z_l + b_l)), last layer linear; all networks of the same widths see the same points. No Jittor symbol in here.
// It uses mlp.h, which is included before it: Jittor does not find headers that headers include.
#pragma once
#include <cmath>

namespace jgrid {

// weights[l] is (fields, n_{l+1}, n_l), biases[l] (fields, n_{l+1}); target (fields, points, n_layers), or nothing to compute the values only.
inline void sirens(int layers, const int64_t* widths, const float* const* weights, const float* const* biases, float omega,
                   const float* x, const float* target, int64_t fields, int points,
                   float* values, float* errors, float* const* d_weights, float* const* d_biases) {
    const int n_to = (int)widths[layers], top_pad = padded(n_to);
#pragma omp parallel
    {
        std::vector<std::vector<float>> z, slope, g, sums;
        for (int l = 0; l <= layers; l++) {
            z.emplace_back((size_t)points * padded((int)widths[l]), 0.f);
            slope.push_back(z[l]);
            g.push_back(z[l]);
            sums.emplace_back(l ? (size_t)widths[l] * padded((int)widths[l - 1]) : 0, 0.f);
        }
        load(x, points, (int)widths[0], z[0].data());
#pragma omp for schedule(static)
        for (int64_t f = 0; f < fields; f++) {
            std::vector<Matrix> matrices;
            for (int l = 0; l < layers; l++)
                matrices.emplace_back(widths[l + 1], widths[l], weights[l] + f * widths[l] * widths[l + 1], biases[l] + f * widths[l + 1]);
            for (int l = 0; l < layers; l++) {
                const Matrix& m = matrices[l];
                const int to_pad = padded(m.to);
                product<FROM_BIAS, AS_IS>(points, to_pad, {m.in, z[l].data(), padded(m.in), 1, m.forward.data(), to_pad,
                                                           z[l + 1].data(), to_pad, m.bias.data()});
                if (l + 1 < layers) {  // in loops of their own, for which the compiler has vector functions
                    const size_t n = (size_t)points * to_pad;
                    float *s = z[l + 1].data(), *c = slope[l + 1].data();
                    if (target)
                        for (size_t i = 0; i < n; i++) c[i] = omega * std::cos(omega * s[i]);
                    for (size_t i = 0; i < n; i++) s[i] = std::sin(omega * s[i]);
                }
            }
            if (!target) {
                store(z[layers].data(), points, n_to, values + f * points * n_to);
                continue;
            }
            const float scale = 2.f / ((float)points * n_to);
            double sum = 0.0;
            for (int r = 0; r < points; r++)
                for (int j = 0; j < n_to; j++) {
                    const float difference = z[layers][(size_t)r * top_pad + j] - target[(f * points + r) * n_to + j];
                    g[layers][(size_t)r * top_pad + j] = scale * difference;
                    sum += (double)difference * difference;
                }
            errors[f] = (float)(sum / ((double)points * n_to));
            for (int l = layers - 1; l >= 0; l--) {
                const int in = matrices[l].in, in_pad = padded(in), to = matrices[l].to, to_pad = padded(to);
                const float* above = g[l + 1].data();
                float *dw = d_weights[l] + f * in * to, *db = d_biases[l] + f * to;
                product<FROM_ZERO, AS_IS>(to, in_pad, {points, above, 1, to_pad, z[l].data(), in_pad, sums[l + 1].data(), in_pad, nullptr});
                store(sums[l + 1].data(), to, in, dw);
                memset(db, 0, to * sizeof(float));
                for (int r = 0; r < points; r++)
                    for (int j = 0; j < to; j++) db[j] += above[(size_t)r * to_pad + j];
                if (l) {
                    product<FROM_ZERO, AS_IS>(points, in_pad, {to, above, to_pad, 1, matrices[l].back.data(), in_pad, g[l].data(), in_pad, nullptr});
                    float* below = g[l].data();
                    const float* c = slope[l].data();
                    for (size_t i = 0; i < (size_t)points * in_pad; i++) below[i] *= c[i];
                }
            }
        }
    }
}

}  // namespace jgrid
