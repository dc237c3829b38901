// libcurand: other numbers than NVIDIA's, of the same distributions: uniform in (0, 1], normal for even n alone.
#include <curand.h>

#include <random>

#include "memory.h"

struct curandGenerator_st {
    std::mt19937_64 engine;
};

template <class T, class Draw> static curandStatus_t fill(T* numbers, size_t n, Draw draw) {
    // Jittor asks for one more where the number is odd: its own allocator would have room for that
    const emulation::Block* block = emulation::memory().at(numbers);
    if (block && (char*)(numbers + n - 1) == block->data + block->size) n--;
    try {
        emulation::Open open;
        open.add(numbers, n * sizeof(T), "cuRAND");
        for (size_t i = 0; i < n; i++) numbers[i] = draw();
    } catch (const std::exception& error) {
        fprintf(stderr, "%s\n", error.what());
        return CURAND_STATUS_LAUNCH_FAILURE;
    }
    return CURAND_STATUS_SUCCESS;
}
template <class T> static curandStatus_t uniform(curandGenerator_t generator, T* numbers, size_t n) {
    std::uniform_real_distribution<T> distribution(0, 1);
    return fill(numbers, n, [&] { return 1 - distribution(generator->engine); });
}
template <class T> static curandStatus_t normal(curandGenerator_t generator, T* numbers, size_t n, T mean, T deviation) {
    if (n % 2) return CURAND_STATUS_LENGTH_NOT_MULTIPLE;
    std::normal_distribution<T> distribution(mean, deviation);
    return fill(numbers, n, [&] { return distribution(generator->engine); });
}

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t* generator, curandRngType_t) {
    *generator = new curandGenerator_st;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
    delete generator;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator, unsigned long long seed) {
    generator->engine.seed(seed);
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandGenerateUniform(curandGenerator_t g, float* numbers, size_t n) { return uniform(g, numbers, n); }
curandStatus_t curandGenerateUniformDouble(curandGenerator_t g, double* numbers, size_t n) { return uniform(g, numbers, n); }
curandStatus_t curandGenerateNormal(curandGenerator_t g, float* numbers, size_t n, float mean, float deviation) {
    return normal(g, numbers, n, mean, deviation);
}
curandStatus_t curandGenerateNormalDouble(curandGenerator_t g, double* numbers, size_t n, double mean, double deviation) {
    return normal(g, numbers, n, mean, deviation);
}

}
