// Sweeps over parameters.

extern "C" __global__ void adamw(
    u64 n, float* theta, float* first, float* second, const float* grad, float scale, float b1, float c1, float b2,
    float c2, float keep, float size, float root, float eps
) {
    EACH(i, n) {
        float g = grad[i] * scale;
        float m = first[i] * b1 + g * c1, v = second[i] * b2 + g * g * c2;
        first[i] = m;
        second[i] = v;
        theta[i] = theta[i] * keep - size * (m / (sqrtf(v) / root + eps));
    }
}

extern "C" __global__ void follow(u64 n, float keep, float take, const float* source, float* target) {
    EACH(i, n) target[i] = keep == 0 ? source[i] : keep * target[i] + take * source[i];
}

// The sum of the squares of `step` elements by each block, as a float and what it leaves out: partial (gridDim.x, 2).
extern "C" __global__ void squares(u64 n, int step, const float* x, float* partial) {
    u64 first = (u64)blockIdx.x * step, end = first + step < n ? first + step : n;
    double sum = 0;
    for (u64 i = first + threadIdx.x; i < end; i += blockDim.x) sum += (double)x[i] * (double)x[i];
    sum = block_total(sum);
    if (threadIdx.x > 0) return;
    float whole = (float)sum;
    partial[2 * blockIdx.x] = whole;
    partial[2 * blockIdx.x + 1] = (float)(sum - (double)whole);
}
