// float16 by way of float.
#pragma once
#include <cuda_runtime.h>
struct __half_raw {
    unsigned short x;
};
struct __half {
    unsigned short __x;
    __half() = default;
    __half(float v) {
        const _Float16 half = (_Float16)v;
        memcpy(&__x, &half, sizeof half);
    }
    __half(double v) : __half((float)v) {}
    __half(int v) : __half((float)v) {}
    __half(const __half_raw& raw) : __x(raw.x) {}
    operator float() const {
        _Float16 half;
        memcpy(&half, &__x, sizeof half);
        return (float)half;
    }
    operator __half_raw() const { return {__x}; }
};
typedef __half half;
inline float __half2float(__half v) { return v; }
inline __half __float2half(float v) { return v; }
inline int __hisinf(__half v) { return std::isinf((float)v) ? ((float)v > 0 ? 1 : -1) : 0; }
inline unsigned short __half_as_ushort(__half v) { return v.__x; }
inline __half __ushort_as_half(unsigned short v) { return __half_raw{v}; }
