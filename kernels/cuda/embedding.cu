// Rows selected, spread, and their gradients added up.

// y_i = x[rows_i]
extern "C" __global__ void gather(u64 n, int width, const u32* rows, In x, Out y, int adds) {
    EACH(i, n) put(y, i, x[(u64)rows[i / width] * width + i % width], adds);
}

// y[rows_i] = x_i, each row named once
extern "C" __global__ void scatter(u64 n, int width, const u32* rows, In x, Out y) {
    EACH(i, n) y.set((u64)rows[i / width] * width + i % width, x[i]);
}

// Row targets[b] of dx gets the rows order[starts[b]..starts[b+1]] of grad, in that order; a block for each.
extern "C" __global__ void gather_backward(
    int width, const u32* targets, const u32* starts, const u32* order, In grad, Out dx
) {
    u64 target = targets[blockIdx.x];
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        float sum = dx[target * width + c];
        for (u32 at = starts[blockIdx.x]; at < starts[blockIdx.x + 1]; ++at) sum += grad[(u64)order[at] * width + c];
        dx.set(target * width + c, sum);
    }
}
