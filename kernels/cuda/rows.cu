// Softmax, its logarithm, and scaling to unit length, a block for each row.

__device__ inline void top_and_total(int width, In x, float* top, float* total) {
    float most = -INF, sum = 0;
    COLUMNS(c) most = fmaxf(most, x[c]);
    *top = block_max(most);
    COLUMNS(c) sum += expf(x[c] - *top);
    *total = block_sum(sum);
}

extern "C" __global__ void softmax(int width, int logarithm, In x, Out y) {
    u64 at = (u64)blockIdx.x * width;
    float top, total;
    top_and_total(width, x + at, &top, &total);
    COLUMNS(c) {
        float z = x[at + c] - top;
        if (logarithm) y.set(at + c, x[at + c] - (top + logf(total)));
        // A row of minus infinities becomes zeros.
        else y.set(at + c, x[at + c] == -INF ? 0.0f : expf(z) / total);
    }
}

extern "C" __global__ void softmax_backward(
    int width, int logarithm, In y, In grad, Out dx, int adds
) {
    u64 at = (u64)blockIdx.x * width;
    float along = 0;
    COLUMNS(c) along += logarithm ? grad[at + c] : grad[at + c] * y[at + c];
    along = block_sum(along);
    COLUMNS(c) {
        float g = grad[at + c], value = y[at + c];
        put(dx, at + c, logarithm ? g - expf(value) * along : value * (g - along), adds);
    }
}

// Scaled by the largest element so that squares neither overflow nor vanish.
__device__ inline float row_length(int width, In x) {
    float most = 0, sum = 0;
    COLUMNS(c) most = fmaxf(most, fabsf(x[c]));
    most = block_max(most);
    if (most == 0) return 0;
    COLUMNS(c) sum += (x[c] / most) * (x[c] / most);
    return most * sqrtf(block_sum(sum));
}

extern "C" __global__ void normalize(int width, float eps, In x, Out y) {
    u64 at = (u64)blockIdx.x * width;
    float size = fmaxf(row_length(width, x + at), eps);
    COLUMNS(c) y.set(at + c, x[at + c] / size);
}

extern "C" __global__ void normalize_backward(
    int width, float eps, In x, In y, In grad, Out dx, int adds
) {
    u64 at = (u64)blockIdx.x * width;
    float size = row_length(width, x + at), along = 0;
    COLUMNS(c) along += grad[at + c] * y[at + c];
    // Below eps the divisor is a constant.
    along = size > eps ? block_sum(along) : 0.0f;
    size = fmaxf(size, eps);
    COLUMNS(c) put(dx, at + c, (grad[at + c] - y[at + c] * along) / size, adds);
}
