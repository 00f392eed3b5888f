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

// Elements of a tensor: f32, or bf16 where the lowest bit of the address is set, which no address of theirs needs.
struct In {
    u64 at;
    __device__ explicit operator bool() const { return at != 0; }
    __device__ bool narrow() const { return at & 1; }
    __device__ float operator[](u64 i) const {
        if (!narrow()) return ((const float*)at)[i];
        return __int_as_float((int)((u32)((const u16*)(at - 1))[i] << 16));
    }
    // The address of element n, unless there are none.
    __device__ u64 after(u64 n) const { return at ? at + n * (narrow() ? 2 : 4) : 0; }
    __device__ In operator+(u64 n) const { return {after(n)}; }
};

// The nearest bf16, ties to even; what is no number stays none.
__device__ inline u16 rounded(float x) {
    u32 bits = __float_as_uint(x);
    bool number = (bits & 0x7fffffffu) <= 0x7f800000u;
    return (u16)((number ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | 0x400000u) >> 16);
}

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
