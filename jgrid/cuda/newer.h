// What Jittor 1.3.11 asks of CUDA's runtime and CUDA 13 no longer has: two entries of cudaDeviceProp. Included before each
// of Jittor's files.
#pragma once
#ifdef HAS_CUDA
#include <cuda_runtime.h>

namespace jgrid {

struct DeviceProp : cudaDeviceProp {
    int clockRate, computeMode;
};

inline cudaError_t properties(DeviceProp* found, int device) {
    cudaError_t error = cudaGetDeviceProperties(found, device);
    if (!error) error = cudaDeviceGetAttribute(&found->clockRate, cudaDevAttrClockRate, device);
    if (!error) error = cudaDeviceGetAttribute(&found->computeMode, cudaDevAttrComputeMode, device);
    return error;
}

}  // namespace jgrid

#define cudaDeviceProp jgrid::DeviceProp
#define cudaGetDeviceProperties jgrid::properties
#endif
