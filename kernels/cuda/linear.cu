// Activations, biases and sums of columns: what surrounds the products of a linear map.

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

extern "C" __global__ void activate(u64 n, int kind, In x, Out y) {
    EACH(i, n) {
        float z = x[i];
        if (kind == 0) y.set(i, 0.5f * z * (1.0f + erff(z * 0.70710678f)));
        if (kind == 1) y.set(i, 0.5f * z * (1.0f + tanhf(0.79788456f * (z + 0.044715f * z * z * z))));
        if (kind == 2) y.set(i, z * sigmoid(1.702f * z));
        if (kind == 3) y.set(i, fmaxf(z, 0.0f));
    }
}

extern "C" __global__ void activate_backward(u64 n, int kind, In x, In grad, Out dx, int adds) {
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

// Each row becomes the bias, for a product to be added to.
extern "C" __global__ void fill_rows(u64 n, int width, const float* bias, Out y) {
    EACH(i, n) y.set(i, bias[i % width]);
}

// The sums of `step` rows at a time, one thread a column: partial (gridDim.y, width).
extern "C" __global__ void column_parts(int rows, int width, int step, In x, float* partial) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    int first = blockIdx.y * step, end = min(first + step, rows);
    float sum = 0;
    for (int row = first; row < end; ++row) sum += x[(u64)row * width + column];
    partial[(u64)blockIdx.y * width + column] = sum;
}

// The sums of the first `width` columns of (parts, stride).
extern "C" __global__ void column_total(int parts, u64 stride, u64 width, In partial, Out out, int adds) {
    EACH(column, width) {
        float sum = 0;
        for (int part = 0; part < parts; ++part) sum += partial[part * stride + column];
        put(out, column, sum, adds);
    }
}
