// Optimal transport by IPOT, a block for each example; `kernels/ipot.rs` has the iteration.

// rows and columns list what is visible of each example, (B, m) and (B, n), so many as counts (B, 2) says. A and Q lie
// column by column in work (B, 2 m n + n + 2 m), with delta, sigma and the sums after them.
extern "C" __global__ void ipot(
    int m, int n, float beta, int iterations, int k, const u32* rows, const u32* columns, const u32* counts,
    In cost, float* work, float* plan
) {
    int example = blockIdx.x, high = counts[2 * example], wide = counts[2 * example + 1];
    if (high == 0 || wide == 0) return;
    rows += (u64)example * m;
    columns += (u64)example * n;
    cost = cost + (u64)example * m * n;
    plan += (u64)example * m * n;
    float* a = work + (u64)example * (2 * (u64)m * n + n + 2 * m);
    float *q = a + (u64)m * n, *delta = q + (u64)m * n, *sigma = delta + n;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int j = warp; j < wide; j += warps) {
        // A factor common to a row of A is undone by its delta, so the largest may be 1: none vanishes whole.
        float least = INF;
        for (int i = lane; i < high; i += 32) least = fminf(least, cost[rows[i] * n + columns[j]]);
        least = -warp_max(-least);
        for (int i = lane; i < high; i += 32) {
            a[j * high + i] = expf((least - cost[rows[i] * n + columns[j]]) / beta);
            q[j * high + i] = 1;
        }
    }
    for (int i = threadIdx.x; i < high; i += blockDim.x) sigma[i] = 1.0f / high;
    __syncthreads();
    for (int iteration = 0; iteration < iterations; ++iteration) {
        for (int at = threadIdx.x; at < high * wide; at += blockDim.x) q[at] *= a[at];
        __syncthreads();
        for (int update = 0; update < k; ++update) {
            for (int j = warp; j < wide; j += warps) {
                float sum = 0;
                for (int i = lane; i < high; i += 32) sum += q[j * high + i] * sigma[i];
                sum = warp_sum(sum);
                // What keeps the reciprocal of a vanished sum finite is multiplied by the zeros of that sum.
                if (lane == 0) delta[j] = 1.0f / fmaxf(wide * sum, 1e-30f);
            }
            __syncthreads();
            for (int i = threadIdx.x; i < high; i += blockDim.x) {
                float sum = 0;
                for (int j = 0; j < wide; ++j) sum += delta[j] * q[j * high + i];
                sigma[i] = 1.0f / fmaxf(high * sum, 1e-30f);
            }
            __syncthreads();
        }
        for (int at = threadIdx.x; at < high * wide; at += blockDim.x) {
            q[at] = (delta[at / high] * q[at]) * sigma[at % high];
        }
        __syncthreads();
    }
    for (int at = threadIdx.x; at < high * wide; at += blockDim.x) plan[rows[at % high] * n + columns[at / high]] = q[at];
}
