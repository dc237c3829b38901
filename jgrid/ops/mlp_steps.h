// What a small ReLU MLP does, step by step, for mlp.h (CPU) and mlp_cuda.h, which take it from here: no Jittor symbol in here.
//
//   z_{l+1} = relu(W_l z_l + b_l), last layer linear; W_l is (n_{l+1}, n_l), row-major;
//   gated, z_1 = (A z_0 + a) * z_0 and z_{l+1} = (M_l z_l + m_l) * relu(W_l z_l + b_l).
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace jgrid {

inline int padded(int n) { return (n + 15) / 16 * 16; }

// A matrix W (to, in) and its b, in the memory of the device that the op runs on.
struct Layer {
    int64_t to, in;
    const float *weight, *bias;
};

// A step makes the buffer `to` of the buffer `from`: W z + b by a layer, that through relu, or its numbers times those of the buffer `other`.
struct Step { enum Kind { LINEAR, RELU, GATE } kind; int layer, from, other, to; };

struct Mlp {
    std::vector<Layer> layers;
    std::vector<Step> steps;
    std::vector<int> width;  // of each buffer, the input first, the result last
    // Gradients are summed in slices of memory, one for each part of the points: where in a slice those of each layer's W, rows
    // padded, and b begin, and how long it is.
    std::vector<int64_t> weight_at, bias_at;
    int64_t slice = 0;

    // gated: the layers are A, then W and M of each hidden layer, then the last; else W of each, then the last.
    Mlp(std::vector<Layer> all, bool gated) : layers(std::move(all)), width{(int)layers[0].in} {
        int z = 0, n = 0;
        const int last = (int)layers.size() - 1;
        if (gated) z = gated_by(layer_of(z, n++, Step::LINEAR), z);
        while (n < last) {
            const int below = z;
            z = layer_of(below, n++, Step::RELU);
            if (gated) z = gated_by(z, layer_of(below, n++, Step::LINEAR));
        }
        layer_of(z, last, Step::LINEAR);
        for (const Layer& layer : layers) {
            const int to = padded((int)layer.to), in = padded((int)layer.in);
            weight_at.push_back(slice);
            bias_at.push_back(slice + (int64_t)to * in);
            slice += (int64_t)to * (in + 1);
        }
        slice += 16;  // for what else a part has a sum of: its errors
    }

private:
    int layer_of(int from, int layer, Step::Kind kind) {
        width.push_back((int)layers[layer].to);
        steps.push_back({kind, layer, from, 0, (int)width.size() - 1});
        return steps.back().to;
    }
    int gated_by(int from, int other) {
        width.push_back(width[from]);
        steps.push_back({Step::GATE, 0, from, other, (int)width.size() - 1});
        return steps.back().to;
    }
};

}  // namespace jgrid
