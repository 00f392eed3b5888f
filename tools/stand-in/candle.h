// What candle's kernels take from CUDA's headers, for a C++ compiler.
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <limits>

// Kernels of half precision are left out; those of bf16 that are called are in candle.cu.
#define __CUDA_ARCH__ 0
#define __forceinline__ inline
#define __host__
#define __launch_bounds__(threads)
#define __restrict__
namespace cuda {
namespace std {
using ::std::numeric_limits;
}
}
using std::max;

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
static float2 make_float2(float x, float y) { return {x, y}; }

struct bf16 {
    unsigned short bits;
    bf16() = default;
    bf16(float value) : bits(rounded(value)) {}
    operator float() const { return __int_as_float((int)((unsigned)bits << 16)); }
};

// Named by templates that nothing calls.
struct __nv_fp8_e4m3 {
    unsigned char __x;
    __nv_fp8_e4m3() = default;
    template <class T>
    __nv_fp8_e4m3(T) {}
};
#define __NV_E4M3 0
static float __nv_cvt_fp8_to_halfraw(unsigned char, int) { return 0; }
static float __half2float(float value) { return value; }

static float rsqrtf(float value) { return 1.0f / sqrtf(value); }
static float normcdff(float value) { return 0.5f * erfcf(-value * 0.70710678f); }
static double normcdf(double value) { return 0.5 * erfc(-value * 0.7071067811865476); }

static float __shfl_xor_sync(unsigned lanes, float value, int other, int) {
    return __shfl_xor_sync(lanes, value, other);
}

// One thread runs at a time.
template <class T>
static T atomicAdd(T* sum, T value) {
    T old = *sum;
    *sum = (T)(old + value);
    return old;
}
