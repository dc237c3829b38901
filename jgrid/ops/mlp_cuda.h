// The small ReLU MLP of mlp_steps.h under CUDA: one kernel per direction, and a small one that adds up the sums of gradients. No Jittor symbol
// in here; mlp_steps.h before it. It compiles and agrees with mlp.h where CUDA is emulated; no GPU has run it.
//
// A block takes a tile of points through all steps. The buffers lie in shared memory, a row for each of their numbers, a column for each point;
// they have whole fours of rows, zero beyond the last, and whole tiles of points, whose gradients are zero beyond the last. So products, in blocks of
// 4 x 4 that a thread has in registers, need guards only where they read weights.
#pragma once

namespace jgrid {

constexpr int MLP_THREADS = 128, MLP_BLOCKS = 5;  // of a block; of them that a multiprocessor has registers for
constexpr int MLP_SHARED = 48 << 10;            // bytes that a block may share on any device
constexpr int MLP_LAYERS = 12, MLP_STEPS = 18;  // the most of them: mlp.py leaves deeper ones to the plain twin

__host__ __device__ inline int fours(int n) { return (n + 3) / 4 * 4; }

// The Mlp as kernels take it, by value.
struct Network {
    struct {
        int to, in;
        bool aligned;  // rows of W begin at multiples of 16 bytes
        const float *weight, *bias;
        float *d_weight, *d_bias;
        int weight_at, bias_at, row;  // of a slice
    } layers[MLP_LAYERS];
    Step steps[MLP_STEPS];
    int adds[MLP_STEPS];  // whether another step reads `from` too, and has begun its gradient, before this one going back
    int width[MLP_STEPS + 1], z[MLP_STEPS + 1], g[MLP_STEPS + 1];  // of buffers: the first rows of their numbers, of their gradients
    int n_layers, n_steps, slice, rows;
    int points, line;  // of a tile; from row to row, with four columns to spare so that rows begin in different banks
    size_t bytes() const { return (size_t)rows * line * sizeof(float); }
};

// With room for gradients where d_weights and d_biases say that they are wanted: they take turns, in places as long as the widest.
inline Network network_of(const Mlp& mlp, float* const* d_weights = nullptr, float* const* d_biases = nullptr) {
    Network n = {};
    n.n_layers = (int)mlp.layers.size();
    n.n_steps = (int)mlp.steps.size();
    n.slice = (int)mlp.slice;
    for (int l = 0; l < n.n_layers; l++) {
        const Layer& w = mlp.layers[l];
        const bool aligned = w.in % 4 == 0 && (uintptr_t)w.weight % 16 == 0;
        n.layers[l] = {(int)w.to, (int)w.in, aligned, w.weight, w.bias, d_weights ? d_weights[l] : nullptr, d_biases ? d_biases[l] : nullptr,
                       (int)mlp.weight_at[l], (int)mlp.bias_at[l], padded((int)w.in)};
    }
    int widest = 0, buffers = 0;
    for (int i = 0; i <= n.n_steps; i++) {
        n.width[i] = mlp.width[i];
        n.z[i] = buffers;
        n.g[i] = -1;
        buffers += fours(n.width[i]);
        if (fours(n.width[i]) > widest) widest = fours(n.width[i]);
    }
    std::vector<bool> taken;
    auto place = [&] {
        size_t free = 0;
        while (free < taken.size() && taken[free]) free++;
        if (free == taken.size()) taken.push_back(false);
        taken[free] = true;
        return buffers + (int)free * widest;
    };
    if (d_weights) n.g[n.n_steps] = place();
    for (int s = n.n_steps - 1; s >= 0; s--) {
        const Step& step = n.steps[s] = mlp.steps[s];
        const int below[] = {step.from, step.other};
        for (int i = 0; d_weights && i < (step.kind == Step::GATE ? 2 : 1); i++) {
            n.adds[s] = n.g[below[i]] >= 0;
            if (!n.adds[s]) n.g[below[i]] = place();
        }
        if (d_weights) taken[(n.g[step.to] - buffers) / widest] = false;
    }
    n.rows = buffers + (int)taken.size() * widest;
    for (n.points = 64, n.line = 68; n.points > 8 && n.bytes() > MLP_SHARED; n.line = n.points + 4) n.points /= 2;
    return n;
}

typedef float Four[4][4];

// sum += a b, either transposed where so said
template <bool A_ACROSS, bool B_ACROSS> __device__ __forceinline__ void add_product(const Four a, const Four b, Four sum) {
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) sum[i][j] += (A_ACROSS ? a[k][i] : a[i][k]) * (B_ACROSS ? b[j][k] : b[k][j]);
}
__device__ __forceinline__ void take(const float4& v, float* to) { to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w; }

// Four points of the rows r, r + step, ... of a buffer.
__device__ __forceinline__ void get(const float* buffer, int line, int r, int step, int point, Four v) {
    for (int i = 0; i < 4; i++) take(*(const float4*)(buffer + (r + i * step) * line + point), v[i]);
}
__device__ __forceinline__ void put(float* buffer, int line, int r, int point, const Four v) {
    for (int i = 0; i < 4; i++) *(float4*)(buffer + (r + i) * line + point) = make_float4(v[i][0], v[i][1], v[i][2], v[i][3]);
}
// Weights from row r and column c on, zero beyond the matrix.
template <class Weights> __device__ __forceinline__ void get(const Weights& w, int r, int c, Four v) {
    const float* place = w.weight + r * w.in + c;
    if (w.aligned && r + 4 <= w.to && c + 4 <= w.in) {
        for (int i = 0; i < 4; i++) take(__ldg((const float4*)(place + i * w.in)), v[i]);
        return;
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) v[i][j] = r + i < w.to && c + j < w.in ? __ldg(place + i * w.in + j) : 0.f;
}

// Between memory, (points, width), and a buffer: `there` points from `first` on.
__device__ __forceinline__ void load_tile(const Network& n, const float* values, int width, int64_t first, int there, float* buffer) {
    const int rows = fours(width);
    for (int i = threadIdx.x; i < rows * n.points; i += MLP_THREADS) {
        const int p = i / rows, j = i % rows;
        buffer[j * n.line + p] = p < there && j < width ? values[(first + p) * width + j] : 0.f;
    }
}
__device__ __forceinline__ void store_tile(const Network& n, const float* buffer, int width, int64_t first, int there, float* values) {
    for (int i = threadIdx.x; i < there * width; i += MLP_THREADS) values[first * width + i] = buffer[i % width * n.line + i / width];
}

__device__ __forceinline__ void run_step(const Network& n, const Step& step, float* tile) {
    const float* from = tile + n.z[step.from] * n.line;
    float* to = tile + n.z[step.to] * n.line;
    if (step.kind == Step::GATE) {
        const float* other = tile + n.z[step.other] * n.line;
        for (int i = threadIdx.x; i < fours(n.width[step.to]) * n.line; i += MLP_THREADS) to[i] = from[i] * other[i];
        return;
    }
    const auto& w = n.layers[step.layer];
    const int across = n.points / 4;
    for (int b = threadIdx.x; b < fours(w.to) / 4 * across; b += MLP_THREADS) {
        const int r = b / across * 4, p = b % across * 4;
        Four sum, a, z;
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) sum[i][j] = r + i < w.to ? w.bias[r + i] : 0.f;
        for (int k = 0; k < w.in; k += 4) {
            get(w, r, k, a);
            get(from, n.line, k, 1, p, z);
            add_product<false, false>(a, z, sum);
        }
        if (step.kind == Step::RELU)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] = sum[i][j] > 0.f ? sum[i][j] : 0.f;
        put(to, n.line, r, p, sum);
    }
}

// The gradients of what a step reads, and its part of the sums of those of its layer, which begin with the block's first tile.
__device__ __forceinline__ void step_back(const Network& n, int s, bool begins, float* tile, float* sums) {
    const Step& step = n.steps[s];
    const float *from = tile + n.z[step.from] * n.line, *values = tile + n.z[step.to] * n.line;
    float *above = tile + n.g[step.to] * n.line, *below = tile + n.g[step.from] * n.line;
    const int size = fours(n.width[step.to]) * n.line;
    if (step.kind == Step::GATE) {
        const float* other = tile + n.z[step.other] * n.line;
        float* beside = tile + n.g[step.other] * n.line;
        for (int i = threadIdx.x; i < size; i += MLP_THREADS) {  // of steps that read these buffers a gate is the last
            below[i] = above[i] * other[i];
            beside[i] = above[i] * from[i];
        }
        return;
    }
    if (step.kind == Step::RELU) {
        for (int i = threadIdx.x; i < size; i += MLP_THREADS) above[i] = values[i] > 0.f ? above[i] : 0.f;
        __syncthreads();  // before others read them
    }
    const auto& w = n.layers[step.layer];
    const int columns = fours(w.in) / 4, across = n.points / 4;
    for (int b = threadIdx.x; b < fours(w.to) / 4 * columns; b += MLP_THREADS) {
        const int r = b / columns * 4, c = b % columns;  // c and every so many columns on: threads side by side, and columns too
        Four sum = {}, a, z;
        for (int p = 0; p < n.points; p += 4) {
            get(above, n.line, r, 1, p, a);
            get(from, n.line, c, columns, p, z);
            add_product<false, true>(a, z, sum);
        }
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                float& place = sums[w.weight_at + (r + i) * w.row + c + j * columns];
                place = (begins ? 0.f : place) + sum[i][j];
            }
    }
    for (int j = threadIdx.x; j < w.to; j += MLP_THREADS) {
        float sum = 0.f, v[4];
        for (int p = 0; p < n.points; p += 4) {
            take(*(const float4*)(above + j * n.line + p), v);
            sum += (v[0] + v[1]) + (v[2] + v[3]);
        }
        sums[w.bias_at + j] = (begins ? 0.f : sums[w.bias_at + j]) + sum;
    }
    for (int b = threadIdx.x; b < columns * across; b += MLP_THREADS) {
        const int r = b / across * 4, p = b % across * 4;
        Four sum = {}, a, g;
        if (n.adds[s]) get(below, n.line, r, 1, p, sum);
        for (int k = 0; k < w.to; k += 4) {
            get(w, k, r, a);
            get(above, n.line, k, 1, p, g);
            add_product<true, false>(a, g, sum);
        }
        put(below, n.line, r, p, sum);
    }
}

template <int THREADS> __global__ void __launch_bounds__(THREADS, MLP_BLOCKS)
mlp_run(Network n, const float* input, int64_t points, float* result) {
    extern __shared__ float4 shared[];
    float* tile = (float*)shared;
    const int64_t first = blockIdx.x * (int64_t)n.points;
    const int there = points - first < n.points ? (int)(points - first) : n.points;
    load_tile(n, input, n.width[0], first, there, tile + n.z[0] * n.line);
    for (int s = 0; s < n.n_steps; s++) {
        __syncthreads();  // what the step reads is there
        run_step(n, n.steps[s], tile);
    }
    __syncthreads();  // all steps are through
    store_tile(n, tile + n.z[n.n_steps] * n.line, n.width[n.n_steps], first, there, result);
}

// top: the gradient of the result, or with ERROR the target of the squared error, whose gradient is scale times the difference.
// Each block sums over tiles of its own, in order, into a slice of its own: the results do not depend on when they run.
template <bool ERROR> __global__ void __launch_bounds__(MLP_THREADS, MLP_BLOCKS)
mlp_back(Network n, const float* input, const float* top, int64_t points, float scale, float* d_input, float* slices) {
    extern __shared__ float4 shared[];
    float *tile = (float*)shared, *sums = slices + blockIdx.x * (int64_t)n.slice;
    const int n_to = n.width[n.n_steps];
    const float* result = tile + n.z[n.n_steps] * n.line;
    float* g = tile + n.g[n.n_steps] * n.line;
    double error = 0.0;
    for (int64_t tiles = blockIdx.x; tiles * n.points < points; tiles += gridDim.x) {
        const int64_t first = tiles * n.points;
        const int there = points - first < n.points ? (int)(points - first) : n.points;
        load_tile(n, input, n.width[0], first, there, tile + n.z[0] * n.line);
        load_tile(n, top, n_to, first, there, g);
        for (int s = 0; s < n.n_steps - (ERROR ? 0 : 1); s++) {
            __syncthreads();  // what the step reads has come
            run_step(n, n.steps[s], tile);
        }
        __syncthreads();  // the result is there
        for (int i = threadIdx.x; ERROR && i < n_to * there; i += MLP_THREADS) {
            const int at = i / there * n.line + i % there;
            const float difference = result[at] - g[at];
            error += (double)difference * difference;
            g[at] = scale * difference;
        }
        for (int s = n.n_steps - 1; s >= 0; s--) {
            __syncthreads();  // the gradient above is there
            step_back(n, s, tiles == blockIdx.x, tile, sums);
        }
        __syncthreads();  // the last gradient is there
        store_tile(n, tile + n.g[0] * n.line, n.width[0], first, there, d_input);
        __syncthreads();  // nobody reads the tile any more
    }
    if (!ERROR) return;
    double* errors = (double*)shared;
    errors[threadIdx.x] = error;
    __syncthreads();  // all errors are there
    for (int t = 1; threadIdx.x == 0 && t < MLP_THREADS; t++) error += errors[t];
    if (threadIdx.x == 0) sums[n.slice - 1] = (float)error;
}

// The gradients of a layer's weights and biases, 32 of them by the block, or, beyond the last layer, the loss: sums over the slices.
template <int GROUPS> __global__ void __launch_bounds__(32 * GROUPS) mlp_add(Network n, const float* slices, int parts, float* loss, float mean) {
    __shared__ float sums[GROUPS][32];
    const bool of_loss = (int)blockIdx.y == n.n_layers;
    const auto& w = n.layers[of_loss ? 0 : blockIdx.y];
    const int i = blockIdx.x * 32 + threadIdx.x, weights = w.to * w.in;
    const bool there = i < (of_loss ? 1 : weights + w.to);
    const int at = of_loss ? n.slice - 1 : i < weights ? w.weight_at + i / w.in * w.row + i % w.in : w.bias_at + i - weights;
    float sum = 0.f;
    for (int part = threadIdx.y; there && part < parts; part += GROUPS) sum += slices[part * (int64_t)n.slice + at];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();  // the sums of all groups are there
    if (threadIdx.y || !there) return;
    for (int group = 1; group < GROUPS; group++) sum += sums[group][threadIdx.x];
    if (of_loss) *loss = sum * mean;
    else if (i < weights) w.d_weight[i] = sum;
    else w.d_bias[i - weights] = sum;
}

inline void mlp_forward(const Mlp& mlp, const float* input, int64_t points, float* result) {
    const Network n = network_of(mlp);
    if (points) mlp_run<MLP_THREADS><<<(unsigned)((points + n.points - 1) / n.points), MLP_THREADS, n.bytes()>>>(n, input, points, result);
}

template <bool ERROR> void mlp_backward(const Mlp& mlp, const float* input, const float* top, int64_t points, float* loss, float* d_input,
                                        float* const* d_weights, float* const* d_biases, float* slices, int64_t chunks) {
    const Network n = network_of(mlp, d_weights, d_biases);
    const int64_t tiles = (points + n.points - 1) / n.points;
    const int parts = (int)(tiles < chunks ? tiles : chunks);
    const double count = (double)points * n.width[n.n_steps];
    int most = 0;
    for (int l = 0; l < n.n_layers; l++) most = n.layers[l].to * (n.layers[l].in + 1) > most ? n.layers[l].to * (n.layers[l].in + 1) : most;
    if (parts) mlp_back<ERROR><<<parts, MLP_THREADS, n.bytes()>>>(n, input, top, points, (float)(2.0 / count), d_input, slices);
    mlp_add<16><<<dim3((most + 31) / 32, n.n_layers + (ERROR ? 1 : 0)), dim3(32, 16)>>>(n, slices, parts, loss, (float)(1.0 / count));
}

// As in mlp.h; the sums take at most `chunks` slices.
inline void mlp_pull_back(const Mlp& mlp, const float* input, const float* gradient, int64_t points,
                          float* d_input, float* const* d_weights, float* const* d_biases, float* slices, int64_t chunks) {
    mlp_backward<false>(mlp, input, gradient, points, nullptr, d_input, d_weights, d_biases, slices, chunks);
}
inline void mlp_squared_error(const Mlp& mlp, const float* input, const float* target, int64_t points, float* loss,
                              float* d_input, float* const* d_weights, float* const* d_biases, float* slices, int64_t chunks) {
    mlp_backward<true>(mlp, input, target, points, loss, d_input, d_weights, d_biases, slices, chunks);
}

}  // namespace jgrid
