// Layer normalisation, a block for each row.

__device__ inline void moments(int width, In x, float eps, float* mean, float* scale) {
    float sum = 0, squares = 0;
    for (int c = threadIdx.x; c < width; c += blockDim.x) sum += x[c];
    *mean = block_sum(sum) / width;
    for (int c = threadIdx.x; c < width; c += blockDim.x) squares += (x[c] - *mean) * (x[c] - *mean);
    *scale = 1.0f / sqrtf(block_sum(squares) / width + eps);
}

extern "C" __global__ void layer_norm(int width, float eps, In x, const float* gain, const float* bias, Out y) {
    u64 at = (u64)blockIdx.x * width;
    float mean, scale;
    moments(width, x + at, eps, &mean, &scale);
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        y.set(at + c, (x[at + c] - mean) * scale * gain[c] + bias[c]);
    }
}

// Writes mean and scale of each row to `stats` (rows, 2), and dx unless it is null.
extern "C" __global__ void layer_norm_backward(
    int width, float eps, In x, const float* gain, In grad, float* stats, Out dx, int adds
) {
    u64 at = (u64)blockIdx.x * width;
    x = x + at;
    grad = grad + at;
    float mean, scale, average = 0, along = 0;
    moments(width, x, eps, &mean, &scale);
    if (threadIdx.x == 0) {
        stats[2 * blockIdx.x] = mean;
        stats[2 * blockIdx.x + 1] = scale;
    }
    if (!dx) return;
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        average += grad[c] * gain[c];
        along += grad[c] * gain[c] * ((x[c] - mean) * scale);
    }
    average = block_sum(average) / width;
    along = block_sum(along) / width;
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        put(dx, at + c, scale * (grad[c] * gain[c] - average - (x[c] - mean) * scale * along), adds);
    }
}

// What `step` rows contribute to the gradients of gain and bias: partial (gridDim.y, 2 width).
extern "C" __global__ void layer_norm_parts(
    int rows, int width, int step, In x, In grad, const float* stats, float* partial
) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    int first = blockIdx.y * step, end = min(first + step, rows);
    float gain = 0, bias = 0;
    for (int row = first; row < end; ++row) {
        float g = grad[(u64)row * width + column];
        gain += g * ((x[(u64)row * width + column] - stats[2 * row]) * stats[2 * row + 1]);
        bias += g;
    }
    partial[(u64)blockIdx.y * 2 * width + column] = gain;
    partial[(u64)blockIdx.y * 2 * width + width + column] = bias;
}
