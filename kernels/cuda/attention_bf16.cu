// Attention whose products are those of tensor cores: factors of bf16, sums in f32. As in attention.cu scores are computed
// again in the backward pass from their saved log-sum-exp.
//
// A block is four warps. Each warp owns 16 rows (queries, or keys in the last kernel), whose fragments stay in registers,
// and meets MET rows of the other side at a time in shared memory. W is the widest head. Fragments are those of PTX's
// mma.m16n8k16: lane 4 g + t holds rows g and g + 8 of what its warp owns, and of a matrix that is added up the columns
// 2 t and 2 t + 1 of every eight.

#define OWN 16
// So few that all fragments of the widest heads stay in registers.
#define MET (W > 64 ? 16 : 32)
// Eight spare elements a row, so that the lanes of a warp read from different banks.
#define PITCH (W + 8)
#define LANE int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4

__device__ inline u32 pair(u16 low, u16 high) { return low | (u32)high << 16; }

__device__ inline float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ inline float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// The left factors of rows first.. of one head, zeros beyond its last row and column.
template <int W>
__device__ inline void own_rows(u32 (&a)[W / 16][4], In from, u64 stride, int first, int rows, int columns) {
    LANE;
    UNROLLED for (int k = 0; k < W / 16; ++k) {
        UNROLLED for (int i = 0; i < 4; ++i) {
            int row = first + g + i % 2 * 8, c = 16 * k + 2 * t + i / 2 * 8;
            u16 low = row < rows && c < columns ? from.bf16(row * stride + c) : 0;
            u16 high = row < rows && c + 1 < columns ? from.bf16(row * stride + c + 1) : 0;
            a[k][i] = pair(low, high);
        }
    }
}

// Copies rows first.. of one head to shared memory, zeros beyond its last row and column.
template <int W>
__device__ inline void load_tile(u16* to, In from, u64 stride, int first, int rows, int columns) {
    // Sixteen bytes at a time where they lie so.
    bool whole = from.narrow() && (from.at - 1) % 16 == 0 && stride % 8 == 0 && columns % 8 == 0;
    for (int at = threadIdx.x; at < MET * W / 8; at += blockDim.x) {
        int row = at / (W / 8), c = at % (W / 8) * 8;
        u16* here = to + row * PITCH + c;
        bool there = first + row < rows;
        u64 begin = (u64)(first + row) * stride + c;
        if (whole && there && c < columns) {
            *(uint4*)here = *(const uint4*)(from.after(begin) - 1);
        } else {
            UNROLLED for (int i = 0; i < 8; ++i) here[i] = there && c + i < columns ? from.bf16(begin + i) : 0;
        }
    }
}

// sums (16, MET) += a tile', of own rows a and a tile (MET, W).
template <int W>
__device__ inline void times_transposed(float (&sums)[MET / 8][4], const u32 (&a)[W / 16][4], const u16* tile) {
    LANE;
    UNROLLED for (int n = 0; n < MET / 8; ++n) {
        UNROLLED for (int k = 0; k < W / 16; ++k) {
            const u32* b = (const u32*)(tile + (8 * n + g) * PITCH + 16 * k + 2 * t);
            mma(sums[n], a[k], b[0], b[4]);
        }
    }
}

// sums (16, W) += x tile, of x (16, MET) as it has been added up, which is rounded, and a tile (MET, W).
template <int W>
__device__ inline void times(float (&sums)[W / 8][4], const float (&x)[MET / 8][4], const u16* tile) {
    LANE;
    UNROLLED for (int k = 0; k < MET / 16; ++k) {
        // What was columns of two sums is the columns of one factor.
        u32 a[4];
        UNROLLED for (int i = 0; i < 4; ++i) {
            const float* two = x[2 * k + i / 2] + i % 2 * 2;
            a[i] = pair(rounded(two[0]), rounded(two[1]));
        }
        UNROLLED for (int n = 0; n < W / 8; ++n) {
            const u16* b = tile + (16 * k + 2 * t) * PITCH + 8 * n + g;
            mma(sums[n], a, pair(b[0], b[PITCH]), pair(b[8 * PITCH], b[9 * PITCH]));
        }
    }
}

template <int N>
__device__ inline void clear(float (&sums)[N][4]) {
    UNROLLED for (int n = 0; n < N; ++n) {
        UNROLLED for (int i = 0; i < 4; ++i) sums[n][i] = 0;
    }
}

// Calls what follows for each column `c` of an own row's sums[n][i], whose row is `half` of the two that a lane holds.
#define SUMS_OF(half, n, i, c, width)        \
    UNROLLED for (int n = 0; n < (width) / 8; ++n)    \
        for (int i = 2 * half, c = 8 * n + 2 * t; i < 2 * half + 2; ++i, ++c)

template <int W>
__device__ void forward_bf16(ROWS, SEEN, Out out, float* lse, int total, int drop_stride, DROPOUT) {
    __shared__ __align__(16) u16 ks[MET * PITCH], vs[MET * PITCH];
    int example = blockIdx.z, head = blockIdx.y, first = blockIdx.x * WARPS * OWN;
    int start = queries[2 * example], count = queries[2 * example + 1];
    int key_start = keys[2 * example], key_count = keys[2 * example + 1], width = heads * columns;
    if (first >= count) return;
    LANE;
    int own = first + threadIdx.x / 32 * OWN;
    q = q + ((u64)start * q_stride + head * columns);
    k = k + ((u64)key_start * k_stride + head * columns);
    v = v + ((u64)key_start * v_stride + head * columns);
    u32 a[W / 16][4];
    own_rows<W>(a, q, q_stride, own, count, columns);
    float top[2] = {-INF, -INF}, total_weight[2] = {0, 0}, sum[W / 8][4];
    clear(sum);
    for (int tile = 0; tile < key_count; tile += MET) {
        __syncthreads();
        load_tile<W>(ks, k, k_stride, tile, key_count, columns);
        load_tile<W>(vs, v, v_stride, tile, key_count, columns);
        __syncthreads();
        float x[MET / 8][4];
        clear(x);
        times_transposed<W>(x, a, ks);
        UNROLLED for (int half = 0; half < 2; ++half) {
            int query = own + g + 8 * half;
            float most = top[half], weights = 0;
            SUMS_OF(half, n, i, c, MET) {
                x[n][i] = seen(scale * x[n][i], MASK, example, query, count, tile + c, key_count);
                most = fmaxf(most, x[n][i]);
            }
            most = quad_max(most);
            // Written so that a score that is no number reaches the outcome.
            float shrink = top[half] == most ? 1.0f : expf(top[half] - most);
            u64 element = ((u64)(start + query) * heads + head) * drop_stride + tile;
            SUMS_OF(half, n, i, c, MET) {
                float weight = x[n][i] == -INF ? 0.0f : expf(x[n][i] - most);
                weights += weight;
                x[n][i] = kept(weight, element + c, p, rest, k0, k1, s0, s1);
            }
            top[half] = most;
            total_weight[half] = total_weight[half] * shrink + quad_sum(weights);
            SUMS_OF(half, n, i, c, W) sum[n][i] *= shrink;
        }
        times<W>(sum, x, vs);
    }
    UNROLLED for (int half = 0; half < 2; ++half) {
        int query = own + g + 8 * half;
        if (query >= count) continue;
        // A query that sees nothing has no weights: its saved normaliser makes them zero again.
        float weights = total_weight[half], share = weights > 0 ? 1.0f / weights : 0.0f;
        if (t == 0) lse[(u64)head * total + start + query] = share > 0 ? top[half] + logf(weights) : INF;
        u64 begin = (u64)(start + query) * width + head * columns;
        SUMS_OF(half, n, i, c, W) {
            if (c < columns) out.set(begin + c, sum[n][i] * share);
        }
    }
}

// Adds dS k to dq.
template <int W>
__device__ void backward_queries_bf16(
    ROWS, SEEN, const float* lse, const float* delta, In grad, Out dq, int total, int drop_stride, DROPOUT
) {
    __shared__ __align__(16) u16 ks[MET * PITCH], vs[MET * PITCH];
    int example = blockIdx.z, head = blockIdx.y, first = blockIdx.x * WARPS * OWN;
    int start = queries[2 * example], count = queries[2 * example + 1];
    int key_start = keys[2 * example], key_count = keys[2 * example + 1], width = heads * columns;
    if (first >= count) return;
    LANE;
    int own = first + threadIdx.x / 32 * OWN;
    q = q + ((u64)start * q_stride + head * columns);
    dq = dq + ((u64)start * q_stride + head * columns);
    k = k + ((u64)key_start * k_stride + head * columns);
    v = v + ((u64)key_start * v_stride + head * columns);
    u32 a[W / 16][4], da[W / 16][4];
    own_rows<W>(a, q, q_stride, own, count, columns);
    own_rows<W>(da, grad + ((u64)start * width + head * columns), width, own, count, columns);
    float sum[W / 8][4];
    clear(sum);
    for (int tile = 0; tile < key_count; tile += MET) {
        __syncthreads();
        load_tile<W>(ks, k, k_stride, tile, key_count, columns);
        load_tile<W>(vs, v, v_stride, tile, key_count, columns);
        __syncthreads();
        float x[MET / 8][4], dx[MET / 8][4];
        clear(x);
        clear(dx);
        times_transposed<W>(x, a, ks);
        times_transposed<W>(dx, da, vs);
        UNROLLED for (int half = 0; half < 2; ++half) {
            int query = own + g + 8 * half;
            u64 at = (u64)head * total + start + min(query, count - 1);
            u64 element = ((u64)(start + query) * heads + head) * drop_stride + tile;
            SUMS_OF(half, n, i, c, MET) {
                float score = seen(scale * x[n][i], MASK, example, query, count, tile + c, key_count);
                float slope = kept(dx[n][i], element + c, p, rest, k0, k1, s0, s1);
                x[n][i] = expf(score - lse[at]) * (slope - delta[at]);
            }
        }
        times<W>(sum, x, ks);
    }
    UNROLLED for (int half = 0; half < 2; ++half) {
        int query = own + g + 8 * half;
        SUMS_OF(half, n, i, c, W) {
            if (query < count && c < columns) put(dq, (u64)query * q_stride + c, scale * sum[n][i], 1);
        }
    }
}

// Adds dS' q to dk and p' do to dv, where they are not null, as attention.cu does.
template <int W>
__device__ void backward_keys_bf16(
    ROWS, SEEN, const u32* groups, const u32* bounds, const u32* members, const float* lse, const float* delta,
    In grad, Out dk, Out dv, int total, int drop_stride, DROPOUT
) {
    __shared__ __align__(16) u16 qs[MET * PITCH], gs[MET * PITCH];
    int group = blockIdx.z, head = blockIdx.y, first = blockIdx.x * WARPS * OWN, width = heads * columns;
    int key_start = groups[2 * group], key_count = groups[2 * group + 1];
    if (first >= key_count) return;
    LANE;
    int own = first + threadIdx.x / 32 * OWN;
    u32 a[W / 16][4], b[W / 16][4];
    own_rows<W>(a, k + ((u64)key_start * k_stride + head * columns), k_stride, own, key_count, columns);
    own_rows<W>(b, v + ((u64)key_start * v_stride + head * columns), v_stride, own, key_count, columns);
    float of_k[W / 8][4], of_v[W / 8][4];
    clear(of_k);
    clear(of_v);
    for (u32 member = bounds[group]; member < bounds[group + 1]; ++member) {
        int example = members[member], start = queries[2 * example], count = queries[2 * example + 1];
        In own_q = q + ((u64)start * q_stride + head * columns);
        In own_g = grad + ((u64)start * width + head * columns);
        for (int tile = 0; tile < count; tile += MET) {
            __syncthreads();
            load_tile<W>(qs, own_q, q_stride, tile, count, columns);
            load_tile<W>(gs, own_g, width, tile, count, columns);
            __syncthreads();
            float x[MET / 8][4], dx[MET / 8][4];
            clear(x);
            clear(dx);
            times_transposed<W>(x, a, qs);
            times_transposed<W>(dx, b, gs);
            UNROLLED for (int half = 0; half < 2; ++half) {
                int key = own + g + 8 * half;
                SUMS_OF(half, n, i, c, MET) {
                    int query = tile + c;
                    u64 at = (u64)head * total + start + min(query, count - 1);
                    u64 element = ((u64)(start + query) * heads + head) * drop_stride + key;
                    float score = seen(scale * x[n][i], MASK, example, query, count, key, key_count);
                    float weight = expf(score - lse[at]);
                    float slope = kept(dx[n][i], element, p, rest, k0, k1, s0, s1);
                    x[n][i] = kept(weight, element, p, rest, k0, k1, s0, s1);
                    dx[n][i] = weight * (slope - delta[at]);
                }
            }
            times<W>(of_v, x, gs);
            times<W>(of_k, dx, qs);
        }
    }
    UNROLLED for (int half = 0; half < 2; ++half) {
        int key = own + g + 8 * half;
        SUMS_OF(half, n, i, c, W) {
            if (key >= key_count || c >= columns) continue;
            if (dk) put(dk, ((u64)key_start + key) * k_stride + head * columns + c, scale * of_k[n][i], 1);
            if (dv) put(dv, ((u64)key_start + key) * v_stride + head * columns + c, of_v[n][i], 1);
        }
    }
}

#define KERNELS(W)                                                                                                     \
    extern "C" __global__ void attention_bf16_##W(                                                                     \
        ROWS, SEEN, Out out, float* lse, int total, int drop_stride, DROPOUT                                           \
    ) {                                                                                                                \
        forward_bf16<W>(GIVEN_ROWS, GIVEN_SEEN, out, lse, total, drop_stride, GIVEN_DROPOUT);                          \
    }                                                                                                                  \
    extern "C" __global__ void attention_bf16_queries_##W(                                                             \
        ROWS, SEEN, const float* lse, const float* delta, In grad, Out dq, int total, int drop_stride, DROPOUT         \
    ) {                                                                                                                \
        backward_queries_bf16<W>(                                                                                      \
            GIVEN_ROWS, GIVEN_SEEN, lse, delta, grad, dq, total, drop_stride, GIVEN_DROPOUT                            \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void attention_bf16_keys_##W(                                                                \
        ROWS, SEEN, const u32* groups, const u32* bounds, const u32* members, const float* lse, const float* delta,    \
        In grad, Out dk, Out dv, int total, int drop_stride, DROPOUT                                                   \
    ) {                                                                                                                \
        backward_keys_bf16<W>(                                                                                         \
            GIVEN_ROWS, GIVEN_SEEN, groups, bounds, members, lse, delta, grad, dk, dv, total, drop_stride,             \
            GIVEN_DROPOUT                                                                                              \
        );                                                                                                             \
    }
KERNELS(64)
KERNELS(128)
#undef KERNELS
