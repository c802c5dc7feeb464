/* Stands in for NVIDIA's driver library, libcuda.so.1, on machines without one, so that libmxnet.so of the gpu variant
 * can be loaded there. Defines the functions that libmxnet.so needs, and cuInit, which CUDA's runtime looks up. Each
 * returns CUDA_ERROR_NO_DEVICE, whatever its arguments. The symbol semseg_stands_in distinguishes it from a driver. */

enum { CUDA_ERROR_NO_DEVICE = 100 };

const int semseg_stands_in = 1;

#define ABSENT(function) \
    int function(void) { return CUDA_ERROR_NO_DEVICE; }

ABSENT(cuInit)
ABSENT(cuDeviceGet)
ABSENT(cuDevicePrimaryCtxRetain)
ABSENT(cuGetErrorString)
ABSENT(cuGraphKernelNodeGetParams)
ABSENT(cuGraphNodeGetType)
ABSENT(cuLaunchKernel)
ABSENT(cuModuleGetFunction)
ABSENT(cuModuleLoadData)
ABSENT(cuModuleLoadDataEx)
ABSENT(cuModuleUnload)
