// Vectors with a number per channel: arrays are (n, C) row by row, C known to the compiler. No Jittor symbol in here; CPU only.
// (Under CUDA Jittor's own ops do.)
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace jgrid {

constexpr int ROWS = 16;              // rows that are handled together, so that the compiler sees a long inner loop
constexpr int64_t CHUNK = 256 * ROWS;  // rows with a partial sum of their own: results do not depend on the threads

// out = a + scale b, scale (C,)
template <int C> void add_scaled(const float* a, const float* scale, const float* b, int64_t n, float* out) {
    float tile[ROWS * C];
    for (int j = 0; j < ROWS * C; j++) tile[j] = scale[j % C];
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < n; first += ROWS) {
        const int64_t k = first * C;
        if (first + ROWS <= n)
            for (int j = 0; j < ROWS * C; j++) out[k + j] = a[k + j] + tile[j] * b[k + j];
        else
            for (int j = 0; j < (n - first) * C; j++) out[k + j] = a[k + j] + tile[j] * b[k + j];
    }
}

// out (C,) = sum over the rows of a b
template <int C> void dot(const float* a, const float* b, int64_t n, float* out) {
    const int64_t chunks = (n + CHUNK - 1) / CHUNK;
    std::vector<double> partial(chunks * C, 0.0);
#pragma omp parallel for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        float sum[ROWS * C] = {0.f};
        const int64_t last = std::min(n, (chunk + 1) * CHUNK);
        int64_t first = chunk * CHUNK;
        for (; first + ROWS <= last; first += ROWS)
            for (int j = 0; j < ROWS * C; j++) sum[j] += a[first * C + j] * b[first * C + j];
        for (int j = 0; j < (last - first) * C; j++) sum[j] += a[first * C + j] * b[first * C + j];
        for (int j = 0; j < ROWS * C; j++) partial[chunk * C + j % C] += sum[j];
    }
    for (int c = 0; c < C; c++) {
        double total = 0.0;
        for (int64_t chunk = 0; chunk < chunks; chunk++) total += partial[chunk * C + c];
        out[c] = (float)total;
    }
}

}  // namespace jgrid
