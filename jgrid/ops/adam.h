// Adam in place, for CPU and CUDA: no Jittor symbol in here, launch.h before it.
#pragma once
#include <cmath>

namespace jgrid {

// A block of ROWS rows of C numbers: several on the CPU, for its vectors, one under CUDA. LAZY: a row whose gradient is zero
// throughout stays as it is, moments too.
template <int C, int ROWS, bool LAZY> struct Adam {
    const float *gradient, *scale;  // the gradient counts `scale` times
    float *p, *m, *v;
    int64_t rows;
    float rate, beta1, beta2, eps;
    JG_FUNCTION void operator()(int64_t block, int64_t) const {
        const int64_t first = block * ROWS * C;
        const int here = (int)(rows - block * ROWS < ROWS ? rows - block * ROWS : ROWS);
        float touched[LAZY ? ROWS * C : 1];
        if (LAZY) {
            bool any = false;
            for (int r = 0; r < here; r++) {
                bool row = false;
                for (int c = 0; c < C; c++) row |= gradient[first + r * C + c] != 0.f;
                for (int c = 0; c < C; c++) touched[r * C + c] = row ? 1.f : 0.f;
                any |= row;
            }
            if (!any) return;
        }
        const float* __restrict__ g_block = gradient + first;
        float *__restrict__ p_block = p + first, *__restrict__ m_block = m + first, *__restrict__ v_block = v + first;
        for (int i = 0; i < here * C; i++) {
            const float g = g_block[i] * *scale, new_m = beta1 * m_block[i] + (1.f - beta1) * g, new_v = beta2 * v_block[i] + (1.f - beta2) * g * g;
            const float new_p = p_block[i] - rate * new_m / (sqrtf(new_v) + eps);
            const bool keep = LAZY && touched[LAZY ? i : 0] == 0.f;
            p_block[i] = keep ? p_block[i] : new_p;
            m_block[i] = keep ? m_block[i] : new_m;
            v_block[i] = keep ? v_block[i] : new_v;
        }
    }
};

}  // namespace jgrid
