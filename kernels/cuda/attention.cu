// Attention of one head at a time. Scores live in registers and shared memory and are computed again in the backward
// pass from their saved log-sum-exp; `kernels/attention.rs` has the mathematics.
//
// A block is four warps. Each warp owns R rows (queries, or keys in the last kernel) and meets the other side 32 rows
// at a time, one a lane. W is the widest head; a shared row of 32 others has a spare element against bank conflicts.

// Copies rows first.. of one head to shared memory, zeros beyond the last.
template <int PITCH>
__device__ inline void load(float* to, int count, In from, u64 stride, int first, int rows, int columns) {
    for (int at = threadIdx.x; at < count * columns; at += blockDim.x) {
        int row = at / columns, c = at % columns;
        to[row * PITCH + c] = first + row < rows ? from[(first + row) * stride + c] : 0.0f;
    }
}

__device__ inline float dot(const float* x, const float* y, int columns) {
    float sum = 0;
    for (int c = 0; c < columns; ++c) sum += x[c] * y[c];
    return sum;
}

template <int W, int R>
__device__ void forward(ROWS, SEEN, Out out, float* lse, int total, int drop_stride, DROPOUT) {
    __shared__ float own[WARPS * R * W], ks[OTHERS * (W + 1)], vs[OTHERS * (W + 1)], weights[WARPS * R * OTHERS];
    int example = blockIdx.z, head = blockIdx.y, first = blockIdx.x * WARPS * R;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int start = queries[2 * example], count = queries[2 * example + 1];
    int key_start = keys[2 * example], key_count = keys[2 * example + 1], width = heads * columns;
    if (first >= count) return;
    q = q + ((u64)start * q_stride + head * columns);
    k = k + ((u64)key_start * k_stride + head * columns);
    v = v + ((u64)key_start * v_stride + head * columns);
    load<W>(own, WARPS * R, q, q_stride, first, count, columns);
    float top[R], total_weight[R], sum[R][W / 32];
    UNROLLED for (int r = 0; r < R; ++r) {
        top[r] = -INF;
        total_weight[r] = 0;
        UNROLLED for (int c = 0; c < W / 32; ++c) sum[r][c] = 0;
    }
    for (int tile = 0; tile < key_count; tile += OTHERS) {
        __syncthreads();
        load<W + 1>(ks, OTHERS, k, k_stride, tile, key_count, columns);
        load<W + 1>(vs, OTHERS, v, v_stride, tile, key_count, columns);
        __syncthreads();
        UNROLLED for (int r = 0; r < R; ++r) {
            int row = warp * R + r, query = first + row, key = tile + lane;
            float score = scale * dot(own + row * W, ks + lane * (W + 1), columns);
            score = seen(score, MASK, example, query, count, key, key_count);
            float most = fmaxf(top[r], warp_max(score));
            // Written so that a score that is no number reaches the outcome.
            float shrink = top[r] == most ? 1.0f : expf(top[r] - most);
            float weight = score == -INF ? 0.0f : expf(score - most);
            top[r] = most;
            total_weight[r] = total_weight[r] * shrink + warp_sum(weight);
            u64 element = ((u64)(start + query) * heads + head) * drop_stride + key;
            weights[row * OTHERS + lane] = kept(weight, element, p, rest, k0, k1, s0, s1);
            UNROLLED for (int c = 0; c < W / 32; ++c) sum[r][c] *= shrink;
        }
        __syncwarp();
        for (int j = 0; j < OTHERS; ++j) {
            UNROLLED for (int c = 0; c < W / 32; ++c) {
                int column = lane + 32 * c;
                float value = column < columns ? vs[j * (W + 1) + column] : 0.0f;
                UNROLLED for (int r = 0; r < R; ++r) sum[r][c] += weights[(warp * R + r) * OTHERS + j] * value;
            }
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        int query = first + warp * R + r;
        if (query >= count) continue;
        // A query that sees nothing has no weights: its saved normaliser makes them zero again.
        float share = total_weight[r] > 0 ? 1.0f / total_weight[r] : 0.0f;
        if (lane == 0) lse[(u64)head * total + start + query] = share > 0 ? top[r] + logf(total_weight[r]) : INF;
        UNROLLED for (int c = 0; c < W / 32; ++c) {
            int column = lane + 32 * c;
            u64 at = (u64)(start + query) * width + head * columns + column;
            if (column < columns) out.set(at, sum[r][c] * share);
        }
    }
}

// delta (H, rows): the product of each head of an outcome with its gradient; a warp for each.
extern "C" __global__ void attention_delta(int rows, int heads, int columns, In out, In grad, float* delta) {
    u64 at = (u64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (at >= (u64)rows * heads) return;
    u64 row = at / heads, head = at % heads, begin = (row * heads + head) * columns;
    float sum = 0;
    for (int c = threadIdx.x % 32; c < columns; c += 32) sum += out[begin + c] * grad[begin + c];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[head * rows + row] = sum;
}

// Adds dS k to dq.
template <int W, int R>
__device__ void backward_queries(
    ROWS, SEEN, const float* lse, const float* delta, In grad, Out dq, int total, int drop_stride, DROPOUT
) {
    __shared__ float own[WARPS * R * W], gs[WARPS * R * W];
    __shared__ float ks[OTHERS * (W + 1)], vs[OTHERS * (W + 1)], slopes[WARPS * R * OTHERS];
    int example = blockIdx.z, head = blockIdx.y, first = blockIdx.x * WARPS * R;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int start = queries[2 * example], count = queries[2 * example + 1];
    int key_start = keys[2 * example], key_count = keys[2 * example + 1], width = heads * columns;
    if (first >= count) return;
    q = q + ((u64)start * q_stride + head * columns);
    dq = dq + ((u64)start * q_stride + head * columns);
    k = k + ((u64)key_start * k_stride + head * columns);
    v = v + ((u64)key_start * v_stride + head * columns);
    load<W>(own, WARPS * R, q, q_stride, first, count, columns);
    load<W>(gs, WARPS * R, grad + ((u64)start * width + head * columns), width, first, count, columns);
    float sum[R][W / 32];
    UNROLLED for (int r = 0; r < R; ++r) {
        UNROLLED for (int c = 0; c < W / 32; ++c) sum[r][c] = 0;
    }
    for (int tile = 0; tile < key_count; tile += OTHERS) {
        __syncthreads();
        load<W + 1>(ks, OTHERS, k, k_stride, tile, key_count, columns);
        load<W + 1>(vs, OTHERS, v, v_stride, tile, key_count, columns);
        __syncthreads();
        UNROLLED for (int r = 0; r < R; ++r) {
            int row = warp * R + r, query = first + row, key = tile + lane;
            u64 at = (u64)head * total + start + min(query, count - 1);
            float score = scale * dot(own + row * W, ks + lane * (W + 1), columns);
            float weight = expf(seen(score, MASK, example, query, count, key, key_count) - lse[at]);
            u64 element = ((u64)(start + query) * heads + head) * drop_stride + key;
            float slope = kept(dot(gs + row * W, vs + lane * (W + 1), columns), element, p, rest, k0, k1, s0, s1);
            slopes[row * OTHERS + lane] = weight * (slope - delta[at]);
        }
        __syncwarp();
        for (int j = 0; j < OTHERS; ++j) {
            UNROLLED for (int c = 0; c < W / 32; ++c) {
                int column = lane + 32 * c;
                float value = column < columns ? ks[j * (W + 1) + column] : 0.0f;
                UNROLLED for (int r = 0; r < R; ++r) sum[r][c] += slopes[(warp * R + r) * OTHERS + j] * value;
            }
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        int query = first + warp * R + r;
        UNROLLED for (int c = 0; c < W / 32; ++c) {
            int column = lane + 32 * c;
            if (query < count && column < columns) put(dq, (u64)query * q_stride + column, scale * sum[r][c], 1);
        }
    }
}

// Adds dS' q to dk and p' do to dv, where they are not null. A block owns keys of a group of examples that see the same
// ones, and meets the queries of one example after another: group (start, count) of keys, members[bounds[g]..bounds[g+1]].
template <int W, int R>
__device__ void backward_keys(
    ROWS, SEEN, const u32* groups, const u32* bounds, const u32* members, const float* lse, const float* delta,
    In grad, Out dk, Out dv, int total, int drop_stride, DROPOUT
) {
    __shared__ float ks[WARPS * R * W], vs[WARPS * R * W];
    __shared__ float qs[OTHERS * (W + 1)], gs[OTHERS * (W + 1)];
    __shared__ float weights[WARPS * R * OTHERS], slopes[WARPS * R * OTHERS];
    int group = blockIdx.z, head = blockIdx.y, first = blockIdx.x * WARPS * R;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, width = heads * columns;
    int key_start = groups[2 * group], key_count = groups[2 * group + 1];
    if (first >= key_count) return;
    k = k + ((u64)key_start * k_stride + head * columns);
    v = v + ((u64)key_start * v_stride + head * columns);
    load<W>(ks, WARPS * R, k, k_stride, first, key_count, columns);
    load<W>(vs, WARPS * R, v, v_stride, first, key_count, columns);
    float of_k[R][W / 32], of_v[R][W / 32];
    UNROLLED for (int r = 0; r < R; ++r) {
        UNROLLED for (int c = 0; c < W / 32; ++c) of_k[r][c] = of_v[r][c] = 0;
    }
    for (u32 member = bounds[group]; member < bounds[group + 1]; ++member) {
        int example = members[member], start = queries[2 * example], count = queries[2 * example + 1];
        In own_q = q + ((u64)start * q_stride + head * columns);
        In own_g = grad + ((u64)start * width + head * columns);
        for (int tile = 0; tile < count; tile += OTHERS) {
            __syncthreads();
            load<W + 1>(qs, OTHERS, own_q, q_stride, tile, count, columns);
            load<W + 1>(gs, OTHERS, own_g, width, tile, count, columns);
            __syncthreads();
            int query = tile + lane;
            u64 at = (u64)head * total + start + min(query, count - 1);
            UNROLLED for (int r = 0; r < R; ++r) {
                int row = warp * R + r, key = first + row;
                float score = scale * dot(qs + lane * (W + 1), ks + row * W, columns);
                float weight = expf(seen(score, MASK, example, query, count, key, key_count) - lse[at]);
                u64 element = ((u64)(start + query) * heads + head) * drop_stride + key;
                float slope = dot(gs + lane * (W + 1), vs + row * W, columns);
                weights[row * OTHERS + lane] = kept(weight, element, p, rest, k0, k1, s0, s1);
                slopes[row * OTHERS + lane] = weight * (kept(slope, element, p, rest, k0, k1, s0, s1) - delta[at]);
            }
            __syncwarp();
            for (int j = 0; j < OTHERS; ++j) {
                UNROLLED for (int c = 0; c < W / 32; ++c) {
                    int column = lane + 32 * c;
                    if (column >= columns) continue;
                    float query_value = qs[j * (W + 1) + column], grad_value = gs[j * (W + 1) + column];
                    UNROLLED for (int r = 0; r < R; ++r) {
                        of_k[r][c] += slopes[(warp * R + r) * OTHERS + j] * query_value;
                        of_v[r][c] += weights[(warp * R + r) * OTHERS + j] * grad_value;
                    }
                }
            }
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        int key = first + warp * R + r;
        UNROLLED for (int c = 0; c < W / 32; ++c) {
            int column = lane + 32 * c;
            if (key >= key_count || column >= columns) continue;
            if (dk) put(dk, ((u64)key_start + key) * k_stride + head * columns + column, scale * of_k[r][c], 1);
            if (dv) put(dv, ((u64)key_start + key) * v_stride + head * columns + column, of_v[r][c], 1);
        }
    }
}

// Copies the rows of one head that stand at places first.. to shared memory, zeros where none does.
template <int PITCH>
__device__ inline void pick(
    float* to, int count, In from, u64 stride, const u32* rows, int first, int places, int columns
) {
    for (int at = threadIdx.x; at < count * columns; at += blockDim.x) {
        int place = first + at / columns, c = at % columns;
        u32 row = place < places ? rows[place] : NOWHERE;
        to[at / columns * PITCH + c] = row == NOWHERE ? 0.0f : from[row * stride + c];
    }
}

// The gradient of the bias: the sum of the dS of each pair of places over all examples. A block owns some places of
// queries and 32 of keys. In a layer of an example at most one row stands at a place, so that a lane adds to a sum of
// its own: pairs (example, layer of queries, layer of keys), of_queries (layers, places), of_keys (layers, others).
template <int W, int R>
__device__ void backward_bias(
    ROWS, SEEN, const u32* pairs, int count_pairs, const u32* of_queries, const u32* of_keys, const float* lse,
    const float* delta, In grad, Out dbias, int adds, int total, int drop_stride, DROPOUT
) {
    __shared__ float qs[WARPS * R * W], gs[WARPS * R * W], ks[OTHERS * (W + 1)], vs[OTHERS * (W + 1)];
    int head = blockIdx.y, first = blockIdx.x * WARPS * R, tile = blockIdx.z * OTHERS;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, width = heads * columns, column = head * columns;
    float sum[R];
    UNROLLED for (int r = 0; r < R; ++r) sum[r] = 0;
    for (int pair = 0; pair < count_pairs; ++pair) {
        int example = pairs[3 * pair], start = queries[2 * example], key_start = keys[2 * example];
        int count = queries[2 * example + 1], key_count = keys[2 * example + 1];
        const u32* own = of_queries + (u64)pairs[3 * pair + 1] * places;
        const u32* other = of_keys + (u64)pairs[3 * pair + 2] * others;
        __syncthreads();
        pick<W>(qs, WARPS * R, q + column, q_stride, own, first, places, columns);
        pick<W>(gs, WARPS * R, grad + column, width, own, first, places, columns);
        pick<W + 1>(ks, OTHERS, k + column, k_stride, other, tile, others, columns);
        pick<W + 1>(vs, OTHERS, v + column, v_stride, other, tile, others, columns);
        __syncthreads();
        u32 key = tile + lane < others ? other[tile + lane] : NOWHERE;
        UNROLLED for (int r = 0; r < R; ++r) {
            int row = warp * R + r;
            u32 query = first + row < places ? own[first + row] : NOWHERE;
            if (query == NOWHERE || key == NOWHERE) continue;
            u64 at = (u64)head * total + query;
            float score = scale * dot(qs + row * W, ks + lane * (W + 1), columns);
            score = seen(score, MASK, example, query - start, count, key - key_start, key_count);
            u64 element = ((u64)query * heads + head) * drop_stride + (key - key_start);
            float slope = kept(dot(gs + row * W, vs + lane * (W + 1), columns), element, p, rest, k0, k1, s0, s1);
            sum[r] += expf(score - lse[at]) * (slope - delta[at]);
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        int place = first + warp * R + r;
        if (place < places && tile + lane < others) {
            put(dbias, ((u64)head * places + place) * others + tile + lane, sum[r], adds);
        }
    }
}

// The widest head that fits the shared memory of a block decides how many rows a warp owns.
#define KERNELS(W, R)                                                                                                  \
    extern "C" __global__ void attention_##W(ROWS, SEEN, Out out, float* lse, int total, int drop_stride, DROPOUT) {  \
        forward<W, R>(GIVEN_ROWS, GIVEN_SEEN, out, lse, total, drop_stride, GIVEN_DROPOUT);                            \
    }                                                                                                                  \
    extern "C" __global__ void attention_queries_##W(                                                                  \
        ROWS, SEEN, const float* lse, const float* delta, In grad, Out dq, int total, int drop_stride,    \
        DROPOUT                                                                                                        \
    ) {                                                                                                                \
        backward_queries<W, R>(                                                                                        \
            GIVEN_ROWS, GIVEN_SEEN, lse, delta, grad, dq, total, drop_stride, GIVEN_DROPOUT                            \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void attention_keys_##W(                                                                     \
        ROWS, SEEN, const u32* groups, const u32* bounds, const u32* members, const float* lse, const float* delta,    \
        In grad, Out dk, Out dv, int total, int drop_stride, DROPOUT                                   \
    ) {                                                                                                                \
        backward_keys<W, R>(                                                                                           \
            GIVEN_ROWS, GIVEN_SEEN, groups, bounds, members, lse, delta, grad, dk, dv, total, drop_stride,             \
            GIVEN_DROPOUT                                                                                              \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void attention_bias_##W(                                                                     \
        ROWS, SEEN, const u32* pairs, int count_pairs, const u32* of_queries, const u32* of_keys, const float* lse,    \
        const float* delta, In grad, Out dbias, int adds, int total, int drop_stride, DROPOUT             \
    ) {                                                                                                                \
        backward_bias<W, R>(                                                                                           \
            GIVEN_ROWS, GIVEN_SEEN, pairs, count_pairs, of_queries, of_keys, lse, delta, grad, dbias, adds, total,     \
            drop_stride, GIVEN_DROPOUT                                                                                 \
        );                                                                                                             \
    }
KERNELS(64, 4)
KERNELS(128, 2)
#undef KERNELS
