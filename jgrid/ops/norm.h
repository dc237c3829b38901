// Layer normalisation of short rows and the relu behind it, forward and backward: CPU only. (Under CUDA the plain twin's ops are as good.)
//
//   y = relu(gain * (x - mean) / sqrt(variance + eps) + shift), along the C numbers of a row. No Jittor symbol in here.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

namespace jgrid {

// Rows are handled, and the gradients of gain and shift summed, in a fixed number of chunks: the compiler takes several rows at once, and
// rounds differently at the end of a run of rows, which must not depend on the threads.
constexpr int NORM_CHUNKS = 32;

// Row lengths the compiler knows (C, usual numbers of features) are several times as fast; C = 0 is any other, c.
// The normalised row; returns 1 / its deviation.
template <int C> inline float normalise(const float* __restrict x, int any, float eps, float* __restrict unit) {
    const int c = C ? C : any;
    float mean = 0.f, square = 0.f;
    for (int j = 0; j < c; j++) mean += x[j];
    mean /= c;
    for (int j = 0; j < c; j++) {
        unit[j] = x[j] - mean;
        square += unit[j] * unit[j];
    }
    const float inverse = 1.f / std::sqrt(square / c + eps);
    for (int j = 0; j < c; j++) unit[j] *= inverse;
    return inverse;
}

template <int C> void norm_relu_rows(const float* x, const float* gain, const float* shift, int64_t rows, int any, float eps, float* y) {
    const int c = C ? C : any;
    const int64_t chunk = (rows + NORM_CHUNKS - 1) / NORM_CHUNKS;
#pragma omp parallel for schedule(static)
    for (int n = 0; n < NORM_CHUNKS; n++)
        for (int64_t r = n * chunk; r < rows && r < (n + 1) * chunk; r++) {
            float* row = y + r * c;
            normalise<C>(x + r * c, c, eps, row);
            for (int j = 0; j < c; j++) {
                const float value = row[j] * gain[j] + shift[j];
                row[j] = value > 0.f ? value : 0.f;
            }
        }
}

template <int C> void norm_relu_backward_rows(const float* x, const float* gain, const float* shift, const float* gradient, int64_t rows,
                                              int any, float eps, float* dx, float* dgain, float* dshift) {
    const int c = C ? C : any;
    std::vector<float> partial((size_t)NORM_CHUNKS * 2 * c, 0.f);
    const int64_t chunk = (rows + NORM_CHUNKS - 1) / NORM_CHUNKS;
#pragma omp parallel
    {
        // of a length the compiler knows, they stay in registers
        float known[C ? 4 * C : 1];
        std::vector<float> unknown(C ? 0 : 4 * c);
        float *unit = C ? known : unknown.data(), *above = unit + c, *to_gain = above + c, *to_shift = to_gain + c;
#pragma omp for schedule(static)
        for (int n = 0; n < NORM_CHUNKS; n++) {
            for (int j = 0; j < c; j++) to_gain[j] = to_shift[j] = 0.f;
            for (int64_t r = n * chunk; r < rows && r < (n + 1) * chunk; r++) {
                const float inverse = normalise<C>(x + r * c, c, eps, unit);
                const float* row = gradient + r * c;
                float mean = 0.f, along = 0.f;
                for (int j = 0; j < c; j++) {
                    above[j] = unit[j] * gain[j] + shift[j] > 0.f ? row[j] : 0.f;
                    to_shift[j] += above[j];
                    to_gain[j] += above[j] * unit[j];
                    above[j] *= gain[j];
                    mean += above[j];
                    along += above[j] * unit[j];
                }
                mean /= c;
                along /= c;
                for (int j = 0; j < c; j++) dx[r * c + j] = inverse * (above[j] - mean - along * unit[j]);
            }
            float* sums = partial.data() + (size_t)n * 2 * c;
            for (int j = 0; j < c; j++) {
                sums[j] = to_gain[j];
                sums[c + j] = to_shift[j];
            }
        }
    }
    for (int j = 0; j < c; j++) {
        dgain[j] = dshift[j] = 0.f;
        for (int n = 0; n < NORM_CHUNKS; n++) {
            dgain[j] += partial[(size_t)n * 2 * c + j];
            dshift[j] += partial[(size_t)n * 2 * c + c + j];
        }
    }
}

inline void norm_relu(const float* x, const float* gain, const float* shift, int64_t rows, int c, float eps, float* y) {
    const auto f = c == 16 ? norm_relu_rows<16> : c == 24 ? norm_relu_rows<24> : c == 32 ? norm_relu_rows<32> : norm_relu_rows<0>;
    f(x, gain, shift, rows, c, eps, y);
}

inline void norm_relu_backward(const float* x, const float* gain, const float* shift, const float* gradient, int64_t rows, int c, float eps,
                               float* dx, float* dgain, float* dshift) {
    const auto f = c == 16 ? norm_relu_backward_rows<16> : c == 24 ? norm_relu_backward_rows<24>
                 : c == 32 ? norm_relu_backward_rows<32> : norm_relu_backward_rows<0>;
    f(x, gain, shift, gradient, rows, c, eps, dx, dgain, dshift);
}

}  // namespace jgrid
