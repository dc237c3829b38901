// bfloat16: the upper half of a float.
#pragma once
#include <cuda_fp16.h>
struct __nv_bfloat16 {
    unsigned short __x;
    __nv_bfloat16() = default;
    __nv_bfloat16(float v) {
        unsigned bits;
        memcpy(&bits, &v, sizeof bits);
        __x = bits >> 16;
    }
    __nv_bfloat16(double v) : __nv_bfloat16((float)v) {}
    operator float() const {
        const unsigned bits = (unsigned)__x << 16;
        float v;
        memcpy(&v, &bits, sizeof v);
        return v;
    }
};
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.__x; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    __nv_bfloat16 v;
    v.__x = bits;
    return v;
}
