// What every family of kernels shares: sums over a block in a fixed order, and the words of Philox4x32-10.
// Nothing here or in the families uses atomics, so that a result depends on its operands alone.
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define INF __int_as_float(0x7f800000)
// A target that is not counted.
#define IGNORE 0xffffffffu
#define COLUMNS(c) for (int c = threadIdx.x; c < width; c += blockDim.x)
#define EACH(i, n) \
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (u64)gridDim.x * blockDim.x)

// What a rehearsal on the processor has versions of its own of.
#ifndef REHEARSAL
// Before a loop over an array that is to live in registers.
#define UNROLLED _Pragma("unroll")

// The nearest bf16, ties to even; what is no number stays none.
__device__ inline u16 rounded(float x) {
    u16 nearest;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(nearest) : "f"(x));
    return nearest;
}

// d (16, 8) += a (16, 16) b (16, 8) of bf16 by tensor cores, a fragment of each in every lane of the warp.
__device__ inline void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)
    );
}
#endif

// Elements of a tensor: f32, or bf16 where the lowest bit of the address is set, which no address of theirs needs.
struct In {
    u64 at;
    __device__ explicit operator bool() const { return at != 0; }
    __device__ bool narrow() const { return at & 1; }
    __device__ float operator[](u64 i) const {
        if (!narrow()) return ((const float*)at)[i];
        return __int_as_float((int)((u32)((const u16*)(at - 1))[i] << 16));
    }
    // The bits of the nearest bf16.
    __device__ u16 bf16(u64 i) const {
        return narrow() ? ((const u16*)(at - 1))[i] : rounded(((const float*)at)[i]);
    }
    // The address of element n, unless there are none.
    __device__ u64 after(u64 n) const { return at ? at + n * (narrow() ? 2 : 4) : 0; }
    __device__ In operator+(u64 n) const { return {after(n)}; }
};

struct Out : In {
    __device__ void set(u64 i, float value) const {
        if (narrow()) ((u16*)(at - 1))[i] = rounded(value);
        else ((float*)at)[i] = value;
    }
    __device__ Out operator+(u64 n) const { return {{after(n)}}; }
};

// A slot's old element counts or does not.
__device__ inline void put(Out slot, u64 at, float value, int adds) { slot.set(at, adds ? slot[at] + value : value); }

__device__ inline float warp_sum(float x) {
    for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(0xffffffffu, x, other);
    return x;
}

__device__ inline float warp_max(float x) {
    for (int other = 16; other > 0; other /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, other));
    return x;
}

__device__ inline float block_sum(float x) {
    __shared__ float parts[32];
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (u32 warp = 0; warp < blockDim.x / 32; ++warp) x += parts[warp];
    return x;
}

__device__ inline float block_max(float x) {
    __shared__ float parts[32];
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = -INF;
    for (u32 warp = 0; warp < blockDim.x / 32; ++warp) x = fmaxf(x, parts[warp]);
    return x;
}

// A sum in double precision, for what is summed over a whole tensor.
__device__ inline double block_total(double x) {
    __shared__ double parts[256];
    parts[threadIdx.x] = x;
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    __syncthreads();
    return parts[0];
}

// Word `element` of a stream; `kernels/random.rs` defines it.
__device__ inline u32 philox(u64 element, u32 k0, u32 k1, u32 s0, u32 s1) {
    u32 c0 = (u32)(element / 4), c1 = (u32)(element / 4 >> 32), c2 = s0, c3 = s1;
    for (int round = 0; round < 10; ++round) {
        u64 a = (u64)c0 * 0xD2511F53u, b = (u64)c2 * 0xCD9E8D57u;
        c0 = (u32)(b >> 32) ^ c1 ^ k0;
        c1 = (u32)b;
        c2 = (u32)(a >> 32) ^ c3 ^ k1;
        c3 = (u32)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    u32 lane = element % 4;
    return lane == 0 ? c0 : lane == 1 ? c1 : lane == 2 ? c2 : c3;
}

#define DROPOUT float p, float rest, u32 k0, u32 k1, u32 s0, u32 s1

// What dropout with probability p leaves of element number `element`; without dropout p is negative.
__device__ inline float kept(float x, u64 element, DROPOUT) {
    if (p < 0) return x;
    return (float)(philox(element, k0, k1, s0, s1) >> 8) / 16777216.0f < p ? 0.0f : x * rest;
}
