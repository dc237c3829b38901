// libcuda: a driver with one device of compute capability 9.0.
extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { *version = 12020; return 0; }
int cuDeviceGetCount(int* n) { *n = 1; return 0; }
int cuDeviceGet(int* device, int number) { *device = number; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) { *value = attribute == 75 ? 9 : 0; return 0; }  // 75: major, 76: minor
int cuDevicePrimaryCtxRetain(void** context, int) { *context = nullptr; return 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
}
