// libcublas: products of matrices in float32 and float64, column by column.
#include <cublas_v2.h>

#include "memory.h"

namespace {

struct Sizes {
    bool turn_a, turn_b;
    int m, n, k, lda, ldb, ldc, batch;
    long long next_a, next_b, next_c;  // from one product of the batch to the next

    bool fit() const {
        const bool sizes = m >= 0 && n >= 0 && k >= 0 && lda > 0 && ldb > 0 && ldc > 0;
        return sizes && lda >= (turn_a ? k : m) && ldb >= (turn_b ? n : k) && ldc >= m;
    }
    // Numbers from the first to behind the last.
    static size_t reach(int rows, int columns, int ld, long long next, int batch) {
        return rows && columns && batch ? next * (batch - 1) + (size_t)ld * (columns - 1) + rows : 0;
    }
    size_t reach_a() const { return turn_a ? reach(k, m, lda, next_a, batch) : reach(m, k, lda, next_a, batch); }
    size_t reach_b() const { return turn_b ? reach(n, k, ldb, next_b, batch) : reach(k, n, ldb, next_b, batch); }
    size_t reach_c() const { return reach(m, n, ldc, next_c, batch); }
};

// c = alpha a b + beta c
template <class T> void product(const Sizes& s, T alpha, const T* a, const T* b, T beta, T* c) {
    std::vector<T> columns((size_t)s.m * s.k), sum(s.m);
    for (int p = 0; p < s.k; p++)
        for (int i = 0; i < s.m; i++) columns[(size_t)p * s.m + i] = s.turn_a ? a[p + (size_t)i * s.lda] : a[i + (size_t)p * s.lda];
    for (int j = 0; j < s.n; j++) {
        std::fill(sum.begin(), sum.end(), T(0));
        for (int p = 0; p < s.k; p++) {
            const T scale = s.turn_b ? b[j + (size_t)p * s.ldb] : b[p + (size_t)j * s.ldb];
            const T* column = columns.data() + (size_t)p * s.m;
            for (int i = 0; i < s.m; i++) sum[i] += scale * column[i];
        }
        T* result = c + (size_t)j * s.ldc;
        for (int i = 0; i < s.m; i++) result[i] = alpha * sum[i] + (beta == T(0) ? T(0) : beta * result[i]);
    }
}

template <class T> cublasStatus_t products(const Sizes& s, const void* alpha, const void* a, const void* b, const void* beta, void* c) {
    if (!s.fit()) return CUBLAS_STATUS_INVALID_VALUE;
    emulation::counts().products += s.batch;
    try {
        emulation::Open open;
        open.add(a, sizeof(T) * s.reach_a(), "a product");
        open.add(b, sizeof(T) * s.reach_b(), "a product");
        open.add(c, sizeof(T) * s.reach_c(), "a product");
        for (int i = 0; i < s.batch; i++)
            product(s, *(const T*)alpha, (const T*)a + i * s.next_a, (const T*)b + i * s.next_b, *(const T*)beta, (T*)c + i * s.next_c);
    } catch (const std::exception& error) {
        fprintf(stderr, "%s\n", error.what());
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) { *handle = nullptr; return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t turn_a, cublasOperation_t turn_b, int m, int n, int k,
                                          const void* alpha, const void* a, cudaDataType type_a, int lda, long long next_a, const void* b,
                                          cudaDataType type_b, int ldb, long long next_b, const void* beta, void* c, cudaDataType type_c, int ldc,
                                          long long next_c, int batch, cublasComputeType_t computed, cublasGemmAlgo_t) {
    const Sizes s = {turn_a != CUBLAS_OP_N, turn_b != CUBLAS_OP_N, m, n, k, lda, ldb, ldc, batch, next_a, next_b, next_c};
    if (type_a != type_b || type_a != type_c) return CUBLAS_STATUS_NOT_SUPPORTED;
    if ((type_a == CUDA_R_64F) != (computed == CUBLAS_COMPUTE_64F)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (type_a == CUDA_R_32F) return products<float>(s, alpha, a, b, beta, c);
    if (type_a == CUDA_R_64F) return products<double>(s, alpha, a, b, beta, c);
    return CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t turn_a, cublasOperation_t turn_b, int m, int n, int k, const void* alpha,
                            const void* a, cudaDataType type_a, int lda, const void* b, cudaDataType type_b, int ldb, const void* beta, void* c,
                            cudaDataType type_c, int ldc, cublasComputeType_t computed, cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, turn_a, turn_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c, type_c, ldc, 0, 1,
                                      computed, algorithm);
}
cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t turn_a, cublasOperation_t turn_b, int m, int n, int k, const float* alpha,
                              const float* a, int lda, const float* b, int ldb, const float* beta, float* c, int ldc) {
    return cublasGemmEx(handle, turn_a, turn_b, m, n, k, alpha, a, CUDA_R_32F, lda, b, CUDA_R_32F, ldb, beta, c, CUDA_R_32F, ldc,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

}
