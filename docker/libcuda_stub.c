/* Stands in for NVIDIA's driver library, libcuda.so.1, on machines without one, so that libmxnet.so of the gpu variant
 * can be loaded there: the functions that it leaves undefined, and cuInit, which CUDA's runtime asks for. Each answers
 * CUDA_ERROR_NO_DEVICE, whatever its arguments. By semseg_stands_in it is told from a driver's. */

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
