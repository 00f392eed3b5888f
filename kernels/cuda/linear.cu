// Activations, biases and sums of columns: what surrounds the products of a linear map.

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

extern "C" __global__ void activate(u64 n, int kind, const float* x, float* y) {
    EACH(i, n) {
        float z = x[i];
        if (kind == 0) y[i] = 0.5f * z * (1.0f + erff(z * 0.70710678f));
        if (kind == 1) y[i] = 0.5f * z * (1.0f + tanhf(0.79788456f * (z + 0.044715f * z * z * z)));
        if (kind == 2) y[i] = z * sigmoid(1.702f * z);
        if (kind == 3) y[i] = fmaxf(z, 0.0f);
    }
}

extern "C" __global__ void activate_backward(u64 n, int kind, const float* x, const float* grad, float* dx, int adds) {
    EACH(i, n) {
        float z = x[i], slope = 0;
        if (kind == 0) {
            slope = 0.5f * (1.0f + erff(z * 0.70710678f)) + z * 0.39894228f * expf(-0.5f * z * z);
        }
        if (kind == 1) {
            // tanh is exactly one long before 20; the bound keeps its slope times z cubed finite.
            z = fminf(fmaxf(z, -20.0f), 20.0f);
            float t = tanhf(0.79788456f * (z + 0.044715f * z * z * z));
            slope = 0.5f * (1.0f + t + z * (1.0f - t * t) * 0.79788456f * (1.0f + 0.134145f * z * z));
        }
        if (kind == 2) {
            float s = sigmoid(1.702f * z);
            slope = s * (1.0f + 1.702f * z * (1.0f - s));
        }
        if (kind == 3) slope = z > 0.0f;
        put(dx, i, grad[i] * slope, adds);
    }
}

// The nearest bf16, ties to even; what is no number stays none.
extern "C" __global__ void to_bf16(u64 n, const float* x, unsigned short* y) {
    EACH(i, n) {
        u32 bits = __float_as_uint(x[i]);
        bool number = (bits & 0x7fffffffu) <= 0x7f800000u;
        y[i] = (unsigned short)((number ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | 0x400000u) >> 16);
    }
}

extern "C" __global__ void add_bias(u64 n, int width, const float* bias, float* y) {
    EACH(i, n) y[i] += bias[i % width];
}

// The sums of `step` rows at a time, one thread a column: partial (gridDim.y, width).
extern "C" __global__ void column_parts(int rows, int width, int step, const float* x, float* partial) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    int first = blockIdx.y * step, end = min(first + step, rows);
    float sum = 0;
    for (int row = first; row < end; ++row) sum += x[(u64)row * width + column];
    partial[(u64)blockIdx.y * width + column] = sum;
}

// The sums of the first `width` columns of (parts, stride).
extern "C" __global__ void column_total(int parts, u64 stride, u64 width, const float* partial, float* out, int adds) {
    EACH(column, width) {
        float sum = 0;
        for (int part = 0; part < parts; ++part) sum += partial[part * stride + column];
        put(out, column, sum, adds);
    }
}
