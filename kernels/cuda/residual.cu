// Sums of tensors, and dropout.

extern "C" __global__ void residual(
    u64 n, int width, In x, In branch, const float* bias, Out y, DROPOUT
) {
    EACH(i, n) {
        float b = bias ? branch[i] + bias[i % width] : branch[i];
        y.set(i, kept(b, i, p, rest, k0, k1, s0, s1) + x[i]);
    }
}

extern "C" __global__ void drop(u64 n, In x, Out y, int adds, DROPOUT) {
    EACH(i, n) put(y, i, kept(x[i], i, p, rest, k0, k1, s0, s1), adds);
}

// Each row has its factor; what is dropped may be infinite.
extern "C" __global__ void drop_rows(u64 n, u64 width, const float* factors, In x, Out y, int adds) {
    EACH(i, n) {
        float factor = factors[i / width];
        put(y, i, factor == 0.0f ? 0.0f : x[i] * factor, adds);
    }
}

extern "C" __global__ void add_table(u64 n, u64 size, In x, const float* table, Out y) {
    EACH(i, n) y.set(i, x[i] + table[i % size]);
}
