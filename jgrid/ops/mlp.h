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

constexpr int TILE = 96;     // points that go through all layers together: their activations stay in the cache
constexpr int CHUNKS = 64;   // partial sums of the weight gradients: a fixed number, so that results do not depend on the threads

inline int padded(int n) { return (n + 15) / 16 * 16; }

// What a product is added to, and what becomes of the sum: relu, or zero where `mask` is not positive.
enum Start { FROM_C, FROM_BIAS, FROM_ZERO };
enum End { AS_IS, RELU, MASKED };

struct Product {
    int inner;
    const float* a; int64_t a_row, a_column;  // any strides
    const float* b; int64_t ldb;
    float* c; int64_t ldc;
    const float *bias, *mask;                 // of a row of c; shaped like c

    Product at(int row, int column) const {
        Product p = *this;
        p.a += row * a_row;
        p.b += column;
        p.c += row * ldc + column;
        p.bias += bias ? column : 0;
        p.mask += mask ? row * ldc + column : 0;
        return p;
    }
};

template <int ROWS, int V, Start START, End END> inline void product_block(const Product& p) {
    const Lanes zero = {};
    Lanes sum[ROWS][V];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++)
            sum[r][v] = START == FROM_C ? *(const Lanes*)(p.c + r * p.ldc + v * LANES) : START == FROM_BIAS ? *(const Lanes*)(p.bias + v * LANES) : zero;
    for (int k = 0; k < p.inner; k++) {
        Lanes line[V];
        for (int v = 0; v < V; v++) line[v] = *(const Lanes*)(p.b + k * p.ldb + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            const float scale = p.a[r * p.a_row + k * p.a_column];
            for (int v = 0; v < V; v++) sum[r][v] += scale * line[v];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++) {
            const int64_t place = r * p.ldc + v * LANES;
            if (END == RELU) sum[r][v] = sum[r][v] > 0.f ? sum[r][v] : zero;
            if (END == MASKED) sum[r][v] = *(const Lanes*)(p.mask + place) > 0.f ? sum[r][v] : zero;
            *(Lanes*)(p.c + place) = sum[r][v];
        }
}

template <int V, Start START, End END> inline void product_columns(int rows, int column, const Product& p) {
    constexpr int ROWS = V >= 4 ? 6 : (LANES == 16 ? 12 : 6);
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS) product_block<ROWS, V, START, END>(p.at(r, column));
    for (; r + 2 <= rows; r += 2) product_block<2, V, START, END>(p.at(r, column));
    for (; r < rows; r++) product_block<1, V, START, END>(p.at(r, column));
}

// c (rows x columns) = END(START + a b), a (rows x inner), b (inner x columns); columns is a multiple of 16.
template <Start START, End END> inline void product(int rows, int columns, const Product& p) {
    int j = 0;
    for (; j + VECTORS * LANES <= columns; j += VECTORS * LANES) product_columns<VECTORS, START, END>(rows, j, p);
    for (; j + 2 * LANES <= columns; j += 2 * LANES) product_columns<2, START, END>(rows, j, p);
    for (; j < columns; j += LANES) product_columns<1, START, END>(rows, j, p);
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
            const Product p = {width[l], z[l].data(), padded(width[l]), 1, forward[l].data(), to_pad, z[l + 1].data(), to_pad, bias[l].data(), nullptr};
            if (l + 1 < layers) product<FROM_BIAS, RELU>(rows, to_pad, p);
            else product<FROM_BIAS, AS_IS>(rows, to_pad, p);
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

// Gradients for the input, the weights and the biases. The activations are computed again, which is cheaper than keeping them, for
// the first `run` layers: what top(first point, rows, activations, its result) needs to say the gradient of the output for a tile.
template <class Top>
inline void mlp_backward(const Mlp& mlp, const float* input, int64_t points, int run, const Top& top,
                         float* d_input, float* const* d_weights, float* const* d_biases) {
    const int n_in = mlp.width[0], L = mlp.layers;
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
                mlp.run_tile(input + first * n_in, rows, run, z);
                top(first, rows, z[L].data(), g[L].data());
                for (int l = L - 1; l >= 0; l--) {
                    const int in_pad = padded(mlp.width[l]), to = mlp.width[l + 1], to_pad = padded(to);
                    const float *above = g[l + 1].data(), *values = z[l].data();
                    product<FROM_C, AS_IS>(to, in_pad, {rows, above, 1, to_pad, values, in_pad, sums + weight_at[l], in_pad, nullptr, nullptr});
                    for (int r = 0; r < rows; r++)
                        for (int j = 0; j < to_pad; j++) sums[bias_at[l] + j] += above[(size_t)r * to_pad + j];
                    const Product p = {to, above, to_pad, 1, mlp.back[l].data(), in_pad, g[l].data(), in_pad, nullptr, values};
                    if (l) product<FROM_ZERO, MASKED>(rows, in_pad, p);
                    else product<FROM_ZERO, AS_IS>(rows, in_pad, p);
                }
                Mlp::store(g[0].data(), rows, n_in, d_input + first * n_in);
            }
        }
    }
    for (int l = 0; l < L; l++) {
        const int in = mlp.width[l], in_pad = padded(in), to = mlp.width[l + 1];
#pragma omp parallel for schedule(static)
        for (int j = 0; j < to; j++) {
            float* row = d_weights[l] + (size_t)j * in;
            memset(row, 0, in * sizeof(float));
            d_biases[l][j] = 0.f;
            for (int c = 0; c < CHUNKS; c++) {
                const float* sums = partial.data() + c * size + weight_at[l] + (size_t)j * in_pad;
                for (int k = 0; k < in; k++) row[k] += sums[k];
                d_biases[l][j] += partial[c * size + bias_at[l] + j];
            }
        }
    }
}

// The gradients of sum(gradient * mlp(input)).
inline void mlp_pull_back(const Mlp& mlp, const float* input, const float* gradient, int64_t points,
                          float* d_input, float* const* d_weights, float* const* d_biases) {
    const int n_to = mlp.width[mlp.layers];
    auto top = [&](int64_t first, int rows, const float*, float* g) { Mlp::load(gradient + first * n_to, rows, n_to, g); };
    mlp_backward(mlp, input, points, mlp.layers - 1, top, d_input, d_weights, d_biases);
}

// The mean of (mlp(input) - target)^2 and its gradients, in one pass.
inline void mlp_squared_error(const Mlp& mlp, const float* input, const float* target, int64_t points, float* loss,
                              float* d_input, float* const* d_weights, float* const* d_biases) {
    const int n_to = mlp.width[mlp.layers], to_pad = padded(n_to);
    const double count = (double)points * n_to;
    const float scale = (float)(2.0 / count);
    std::vector<double> sums((points + TILE - 1) / TILE);
    auto top = [&](int64_t first, int rows, const float* z, float* g) {
        float sum = 0.f;
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < n_to; j++) {
                const float difference = z[(size_t)r * to_pad + j] - target[(first + r) * n_to + j];
                g[(size_t)r * to_pad + j] = scale * difference;
                sum += difference * difference;
            }
        sums[first / TILE] = sum;
    };
    mlp_backward(mlp, input, points, mlp.layers, top, d_input, d_weights, d_biases);
    double total = 0.0;
    for (double sum : sums) total += sum;
    *loss = (float)(total / count);
}

}  // namespace jgrid
