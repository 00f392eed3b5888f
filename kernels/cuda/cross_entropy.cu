// Cross-entropy with hard and soft targets, a block for each row.

#define CLASSES(c) for (int c = threadIdx.x; c < classes; c += blockDim.x)

__device__ inline void normaliser(int classes, In z, float* top, float* total) {
    float most = -INF, sum = 0;
    CLASSES(c) most = fmaxf(most, z[c]);
    *top = block_max(most);
    CLASSES(c) sum += expf(z[c] - *top);
    *total = block_sum(sum);
}

extern "C" __global__ void hard_loss(int classes, float s, const u32* targets, In logits, float* losses) {
    In z = logits + (u64)blockIdx.x * classes;
    u32 target = targets[blockIdx.x];
    float top, total, sum = 0;
    normaliser(classes, z, &top, &total);
    CLASSES(c) sum += z[c];
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    float loss = target == IGNORE ? 0.0f : top + logf(total) - (1.0f - s) * z[target] - s * (sum / classes);
    losses[blockIdx.x] = loss;
}

extern "C" __global__ void hard_backward(
    int classes, float s, float share, const u32* targets, In logits, const float* grad, Out dz, int adds
) {
    u64 at = (u64)blockIdx.x * classes;
    u32 target = targets[blockIdx.x];
    float top, total, scale = grad[0] * share;
    normaliser(classes, logits + at, &top, &total);
    CLASSES(c) {
        float slope = expf(logits[at + c] - top) / total - s / classes - (c == (int)target ? 1.0f - s : 0.0f);
        put(dz, at + c, target == IGNORE ? 0.0f : scale * slope, adds);
    }
}

extern "C" __global__ void soft_loss(int classes, In targets, In logits, float* losses) {
    u64 at = (u64)blockIdx.x * classes;
    float top, total, sum = 0;
    normaliser(classes, logits + at, &top, &total);
    CLASSES(c) sum += targets[at + c] == 0 ? 0.0f : targets[at + c] * (top + logf(total) - logits[at + c]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = sum;
}

extern "C" __global__ void soft_backward(
    int classes, float share, In targets, In logits, const float* grad, Out dz, int adds
) {
    u64 at = (u64)blockIdx.x * classes;
    float top, total, sum = 0, scale = grad[0] * share;
    normaliser(classes, logits + at, &top, &total);
    CLASSES(c) sum += targets[at + c];
    sum = block_sum(sum);
    CLASSES(c) put(dz, at + c, scale * (expf(logits[at + c] - top) * (sum / total) - targets[at + c]), adds);
}

// The sum of all rows' losses times `share`, by one block.
extern "C" __global__ void mean_loss(int rows, float share, const float* losses, float* out) {
    double sum = 0;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) sum += losses[row];
    sum = block_total(sum);
    if (threadIdx.x == 0) out[0] = (float)(sum * share);
}
