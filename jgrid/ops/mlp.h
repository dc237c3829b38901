// A small ReLU MLP, forward and backward, tile by tile so that nothing but inputs and results touches memory: CPU only.
// (Under CUDA the plain twin's matrix products are the library's, and are left to it.)
//
//   z_{l+1} = relu(W_l z_l + b_l), last layer linear; W_l is (n_{l+1}, n_l), row-major. No Jittor symbol in here.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace jgrid {

// A block of the product is ROWS x (VECTORS * LANES) numbers, held in registers.
#if defined(__AVX512F__)
constexpr int LANES = 16, VECTORS = 4;
#else
constexpr int LANES = 8, VECTORS = 2;
#endif
typedef float Lanes __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

constexpr int TILE = 128;    // points that go through all layers together: their activations stay in the cache
constexpr int CHUNKS = 64;   // partial sums of the weight gradients: a fixed number, so that results do not depend on the threads

inline int padded(int n) { return (n + 15) / 16 * 16; }

template <int ROWS, int V>
inline void product_block(int inner, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t ldb, float* c, int64_t ldc) {
    Lanes sum[ROWS][V];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++) sum[r][v] = *(const Lanes*)(c + r * ldc + v * LANES);
    for (int k = 0; k < inner; k++) {
        Lanes line[V];
        for (int v = 0; v < V; v++) line[v] = *(const Lanes*)(b + k * ldb + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            const float scale = a[r * a_row + k * a_column];
            for (int v = 0; v < V; v++) sum[r][v] += scale * line[v];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++) *(Lanes*)(c + r * ldc + v * LANES) = sum[r][v];
}

template <int V>
inline void product_columns(int rows, int inner, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t ldb, float* c, int64_t ldc) {
    constexpr int ROWS = V >= 4 ? 6 : (LANES == 16 ? 12 : 6);
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS) product_block<ROWS, V>(inner, a + r * a_row, a_row, a_column, b, ldb, c + r * ldc, ldc);
    for (; r + 2 <= rows; r += 2) product_block<2, V>(inner, a + r * a_row, a_row, a_column, b, ldb, c + r * ldc, ldc);
    for (; r < rows; r++) product_block<1, V>(inner, a + r * a_row, a_row, a_column, b, ldb, c + r * ldc, ldc);
}

// c (rows x columns) += a (rows x inner, any strides) b (inner x columns); columns is a multiple of 16.
inline void add_product(int rows, int columns, int inner, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t ldb, float* c, int64_t ldc) {
    int j = 0;
    for (; j + VECTORS * LANES <= columns; j += VECTORS * LANES)
        product_columns<VECTORS>(rows, inner, a, a_row, a_column, b + j, ldb, c + j, ldc);
    for (; j + 2 * LANES <= columns; j += 2 * LANES) product_columns<2>(rows, inner, a, a_row, a_column, b + j, ldb, c + j, ldc);
    for (; j < columns; j += LANES) product_columns<1>(rows, inner, a, a_row, a_column, b + j, ldb, c + j, ldc);
}

struct Mlp {
    int layers;                                     // matrices
    std::vector<int> width;                         // of z_0 ... z_layers
    std::vector<std::vector<float>> forward, back, bias;  // W^T and W with padded columns, b padded

    Mlp(int layers, const int64_t* widths, const float* const* weights, const float* const* biases) : layers(layers) {
        for (int l = 0; l <= layers; l++) width.push_back((int)widths[l]);
        for (int l = 0; l < layers; l++) {
            const int in = width[l], to = width[l + 1], in_pad = padded(in), to_pad = padded(to);
            forward.emplace_back((size_t)in * to_pad, 0.f);
            back.emplace_back((size_t)to * in_pad, 0.f);
            bias.emplace_back((size_t)to_pad, 0.f);
            for (int j = 0; j < to; j++) {
                bias[l][j] = biases[l][j];
                for (int k = 0; k < in; k++) forward[l][(size_t)k * to_pad + j] = back[l][(size_t)j * in_pad + k] = weights[l][(size_t)j * in + k];
            }
        }
    }

    // Buffers for the activations of one tile, z_0 ... z_layers, rows padded.
    std::vector<std::vector<float>> tile_buffers() const {
        std::vector<std::vector<float>> z;
        for (int l = 0; l <= layers; l++) z.emplace_back((size_t)TILE * padded(width[l]), 0.f);
        return z;
    }

    void run_tile(const float* input, int rows, int last, std::vector<std::vector<float>>& z) const {
        load(input, rows, width[0], z[0].data());
        for (int l = 0; l < last; l++) {
            const int to_pad = padded(width[l + 1]);
            float* next = z[l + 1].data();
            for (int r = 0; r < rows; r++) memcpy(next + (size_t)r * to_pad, bias[l].data(), to_pad * sizeof(float));
            add_product(rows, to_pad, width[l], z[l].data(), padded(width[l]), 1, forward[l].data(), to_pad, next, to_pad);
            if (l + 1 < layers)
                for (int i = 0; i < rows * to_pad; i++) next[i] = next[i] > 0.f ? next[i] : 0.f;
        }
    }

    static void load(const float* values, int rows, int n, float* tile) {  // the padding beyond n stays zero
        for (int r = 0; r < rows; r++) memcpy(tile + (size_t)r * padded(n), values + (size_t)r * n, n * sizeof(float));
    }
    static void store(const float* tile, int rows, int n, float* values) {
        for (int r = 0; r < rows; r++) memcpy(values + (size_t)r * n, tile + (size_t)r * padded(n), n * sizeof(float));
    }
};

inline void mlp_forward(const Mlp& mlp, const float* input, int64_t points, float* result) {
    const int n_in = mlp.width[0], n_to = mlp.width[mlp.layers];
#pragma omp parallel
    {
        auto z = mlp.tile_buffers();
#pragma omp for schedule(static)
        for (int64_t first = 0; first < points; first += TILE) {
            const int rows = (int)(points - first < TILE ? points - first : TILE);
            mlp.run_tile(input + first * n_in, rows, mlp.layers, z);
            Mlp::store(z[mlp.layers].data(), rows, n_to, result + first * n_to);
        }
    }
}

// Gradients for the input, the weights and the biases; the activations are computed again, which is cheaper than keeping them.
inline void mlp_backward(const Mlp& mlp, const float* input, const float* gradient, int64_t points,
                         float* d_input, float* const* d_weights, float* const* d_biases) {
    const int n_in = mlp.width[0], n_to = mlp.width[mlp.layers], L = mlp.layers;
    std::vector<size_t> weight_at, bias_at;
    size_t size = 0;
    for (int l = 0; l < L; l++) {
        weight_at.push_back(size);
        size += (size_t)mlp.width[l + 1] * padded(mlp.width[l]);
        bias_at.push_back(size);
        size += padded(mlp.width[l + 1]);
    }
    const int64_t chunk = ((points + CHUNKS - 1) / CHUNKS + TILE - 1) / TILE * TILE;
    std::vector<float> partial(size * CHUNKS, 0.f);
#pragma omp parallel
    {
        auto z = mlp.tile_buffers(), g = mlp.tile_buffers();
#pragma omp for schedule(static)
        for (int c = 0; c < CHUNKS; c++) {
            float* sums = partial.data() + c * size;
            for (int64_t first = c * chunk; first < points && first < (c + 1) * chunk; first += TILE) {
                const int rows = (int)(points - first < TILE ? points - first : TILE);
                mlp.run_tile(input + first * n_in, rows, L - 1, z);
                Mlp::load(gradient + first * n_to, rows, n_to, g[L].data());
                for (int l = L - 1; l >= 0; l--) {
                    const int in_pad = padded(mlp.width[l]), to = mlp.width[l + 1], to_pad = padded(to);
                    add_product(to, in_pad, rows, g[l + 1].data(), 1, to_pad, z[l].data(), in_pad, sums + weight_at[l], in_pad);
                    for (int r = 0; r < rows; r++)
                        for (int j = 0; j < to_pad; j++) sums[bias_at[l] + j] += g[l + 1][(size_t)r * to_pad + j];
                    memset(g[l].data(), 0, (size_t)rows * in_pad * sizeof(float));
                    add_product(rows, in_pad, to, g[l + 1].data(), to_pad, 1, mlp.back[l].data(), in_pad, g[l].data(), in_pad);
                    if (l)
                        for (int i = 0; i < rows * in_pad; i++) g[l][i] = z[l][i] > 0.f ? g[l][i] : 0.f;
                }
                Mlp::store(g[0].data(), rows, n_in, d_input + first * n_in);
            }
        }
    }
    for (int l = 0; l < L; l++) {
        const int in = mlp.width[l], in_pad = padded(in), to = mlp.width[l + 1];
        for (int j = 0; j < to; j++) {
            for (int k = 0; k < in; k++) {
                float sum = 0.f;
                for (int c = 0; c < CHUNKS; c++) sum += partial[c * size + weight_at[l] + (size_t)j * in_pad + k];
                d_weights[l][(size_t)j * in + k] = sum;
            }
            float sum = 0.f;
            for (int c = 0; c < CHUNKS; c++) sum += partial[c * size + bias_at[l] + j];
            d_biases[l][j] = sum;
        }
    }
}

}  // namespace jgrid
