// The small ReLU MLP of mlp_steps.h, forward and backward, tile by tile so that nothing but inputs and results touches memory: CPU only
// (mlp_cuda.h is CUDA's). No Jittor symbol in here; mlp_steps.h before it.
#pragma once
#include <cstring>

namespace jgrid {

// A block of the product is ROWS x (VECTORS * LANES) numbers, held in registers.
#if defined(__AVX512F__)
constexpr int LANES = 16, VECTORS = 4;
#else
constexpr int LANES = 8, VECTORS = 2;
#endif
typedef float Lanes __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

constexpr int TILE = 96;  // points that go through all layers together: their activations stay in the cache

// What a product is added to, and what becomes of the sum.
enum Start { FROM_C, FROM_BIAS, FROM_ZERO };
enum End { AS_IS, RELU };

struct Product {
    int inner;
    const float* a; int64_t a_row, a_column;  // any strides
    const float* b; int64_t ldb;
    float* c; int64_t ldc;
    const float* bias;                        // of a row of c

    Product at(int row, int column) const {
        Product p = *this;
        p.a += row * a_row;
        p.b += column;
        p.c += row * ldc + column;
        p.bias += bias ? column : 0;
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

// A layer's weights as the products read them: W^T and W with padded columns, b padded; W is (to, in).
struct Matrix {
    int in, to;
    std::vector<float> forward, back, bias;
    Matrix(int64_t rows, int64_t columns, const float* weight, const float* offset)
        : in((int)columns), to((int)rows), forward((size_t)in * padded(to), 0.f), back((size_t)to * padded(in), 0.f), bias(padded(to), 0.f) {
        for (int j = 0; j < to; j++) {
            bias[j] = offset[j];
            for (int k = 0; k < in; k++) forward[(size_t)k * padded(to) + j] = back[(size_t)j * padded(in) + k] = weight[(size_t)j * in + k];
        }
    }
};

inline void load(const float* values, int rows, int n, float* tile) {  // the padding beyond n stays zero
    for (int r = 0; r < rows; r++) memcpy(tile + (size_t)r * padded(n), values + (size_t)r * n, n * sizeof(float));
}
inline void store(const float* tile, int rows, int n, float* values) {
    for (int r = 0; r < rows; r++) memcpy(values + (size_t)r * n, tile + (size_t)r * padded(n), n * sizeof(float));
}

// The MLP with its weights as the products read them.
struct Prepared : Mlp {
    std::vector<Matrix> matrices;

    explicit Prepared(const Mlp& mlp) : Mlp(mlp) {
        for (const Layer& layer : layers) matrices.emplace_back(layer.to, layer.in, layer.weight, layer.bias);
    }

    // Buffers for one tile, rows padded.
    std::vector<std::vector<float>> tile_buffers() const {
        std::vector<std::vector<float>> z;
        for (int n : width) z.emplace_back((size_t)TILE * padded(n), 0.f);
        return z;
    }

    void run_tile(const float* input, int rows, int last, std::vector<std::vector<float>>& z) const {
        load(input, rows, width[0], z[0].data());
        for (int s = 0; s < last; s++) {
            const Step& step = steps[s];
            const int from_pad = padded(width[step.from]), to_pad = padded(width[step.to]);
            const float* from = z[step.from].data();
            float* result = z[step.to].data();
            if (step.kind == Step::GATE) {
                const float* other = z[step.other].data();
                for (int i = 0; i < rows * to_pad; i++) result[i] = from[i] * other[i];
                continue;
            }
            const Matrix& m = matrices[step.layer];
            const Product p = {m.in, from, from_pad, 1, m.forward.data(), to_pad, result, to_pad, m.bias.data()};
            if (step.kind == Step::RELU) product<FROM_BIAS, RELU>(rows, to_pad, p);
            else product<FROM_BIAS, AS_IS>(rows, to_pad, p);
        }
    }
};

inline void mlp_forward(const Mlp& steps, const float* input, int64_t points, float* result) {
    const Prepared mlp(steps);
    const int n_in = mlp.width[0], n_to = mlp.width.back();
#pragma omp parallel
    {
        auto z = mlp.tile_buffers();
#pragma omp for schedule(static)
        for (int64_t first = 0; first < points; first += TILE) {
            const int rows = (int)(points - first < TILE ? points - first : TILE);
            mlp.run_tile(input + first * n_in, rows, (int)mlp.steps.size(), z);
            store(z.back().data(), rows, n_to, result + first * n_to);
        }
    }
}

// Adds to the gradients of what a step of a tile reads, z being the buffers and g their gradients, and to those of its layer.
inline void step_back(const Prepared& mlp, const Step& step, int rows, const std::vector<std::vector<float>>& z, std::vector<std::vector<float>>& g,
                      float* d_weight, float* d_bias) {
    const int to_pad = padded(mlp.width[step.to]);
    const float *from = z[step.from].data(), *values = z[step.to].data();
    float *above = g[step.to].data(), *below = g[step.from].data();
    if (step.kind == Step::GATE) {
        const float* other = z[step.other].data();
        float* beside = g[step.other].data();
        for (int i = 0; i < rows * to_pad; i++) {
            below[i] += above[i] * other[i];
            beside[i] += above[i] * from[i];
        }
        return;
    }
    if (step.kind == Step::RELU)
        for (int i = 0; i < rows * to_pad; i++) above[i] = values[i] > 0.f ? above[i] : 0.f;
    const Matrix& m = mlp.matrices[step.layer];
    const int in_pad = padded(m.in);
    product<FROM_C, AS_IS>(m.to, in_pad, {rows, above, 1, to_pad, from, in_pad, d_weight, in_pad, nullptr});
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < to_pad; j++) d_bias[j] += above[(size_t)r * to_pad + j];
    product<FROM_C, AS_IS>(rows, in_pad, {m.to, above, to_pad, 1, m.back.data(), in_pad, below, in_pad, nullptr});
}

// Gradients for the input, the weights and the biases. The activations are computed again, which is cheaper than keeping them, by
// the first `run` steps: what top(first point, rows, result, its gradient) needs to say the gradient of the result for a tile.
// Sums over chunks of the points take `chunks` slices: a fixed number, so that results do not depend on the threads.
template <class Top>
inline void mlp_backward(const Mlp& steps, const float* input, int64_t points, int run, const Top& top,
                         float* d_input, float* const* d_weights, float* const* d_biases, float* slices, int64_t chunks) {
    const Prepared mlp(steps);
    const int n_in = mlp.width[0];
    const int64_t chunk = ((points + chunks - 1) / chunks + TILE - 1) / TILE * TILE;
#pragma omp parallel
    {
        auto z = mlp.tile_buffers(), g = mlp.tile_buffers();
#pragma omp for schedule(static)
        for (int64_t c = 0; c < chunks; c++) {
            float* sums = slices + c * mlp.slice;
            memset(sums, 0, mlp.slice * sizeof(float));
            for (int64_t first = c * chunk; first < points && first < (c + 1) * chunk; first += TILE) {
                const int rows = (int)(points - first < TILE ? points - first : TILE);
                mlp.run_tile(input + first * n_in, rows, run, z);
                top(first, rows, z.back().data(), g.back().data());
                for (size_t i = 0; i + 1 < g.size(); i++) memset(g[i].data(), 0, (size_t)rows * padded(mlp.width[i]) * sizeof(float));
                for (int s = (int)mlp.steps.size() - 1; s >= 0; s--) {
                    const int m = mlp.steps[s].layer;
                    step_back(mlp, mlp.steps[s], rows, z, g, sums + mlp.weight_at[m], sums + mlp.bias_at[m]);
                }
                store(g[0].data(), rows, n_in, d_input + first * n_in);
            }
        }
    }
    for (size_t m = 0; m < mlp.matrices.size(); m++) {
        const int in = mlp.matrices[m].in, in_pad = padded(in), to = mlp.matrices[m].to;
#pragma omp parallel for schedule(static)
        for (int j = 0; j < to; j++) {
            float* row = d_weights[m] + (size_t)j * in;
            memset(row, 0, in * sizeof(float));
            d_biases[m][j] = 0.f;
            for (int64_t c = 0; c < chunks; c++) {
                const float* sums = slices + c * mlp.slice;
                for (int k = 0; k < in; k++) row[k] += sums[mlp.weight_at[m] + (int64_t)j * in_pad + k];
                d_biases[m][j] += sums[mlp.bias_at[m] + j];
            }
        }
    }
}

// The gradients of sum(gradient * mlp(input)).
inline void mlp_pull_back(const Mlp& mlp, const float* input, const float* gradient, int64_t points,
                          float* d_input, float* const* d_weights, float* const* d_biases, float* slices, int64_t chunks) {
    const int n_to = mlp.width.back();
    auto top = [&](int64_t first, int rows, const float*, float* g) { load(gradient + first * n_to, rows, n_to, g); };
    mlp_backward(mlp, input, points, (int)mlp.steps.size() - 1, top, d_input, d_weights, d_biases, slices, chunks);
}

// The mean of (mlp(input) - target)^2 and its gradients, in one pass.
inline void mlp_squared_error(const Mlp& mlp, const float* input, const float* target, int64_t points, float* loss,
                              float* d_input, float* const* d_weights, float* const* d_biases, float* slices, int64_t chunks) {
    const int n_to = mlp.width.back(), to_pad = padded(n_to);
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
    mlp_backward(mlp, input, points, (int)mlp.steps.size(), top, d_input, d_weights, d_biases, slices, chunks);
    double total = 0.0;
    for (double sum : sums) total += sum;
    *loss = (float)(total / count);
}

}  // namespace jgrid
