// Cross-entropy of rows of logits that pass in chunks of classes; `kernels/linear_cross_entropy.rs` has the mathematics.

#define LOWEST -3.402823466e38f

// What remains of a row after some chunks, as in `kernels/online_softmax.rs`.
struct Seen {
    float top, greatest, total, target, sum, teacher_top, teacher_total, along;
};

// In double precision, so that classes that are ruled out, whose top is the lowest number, stay finite.
__device__ inline Seen join(const Seen& a, const Seen& b) {
    double top = fmax(a.top, b.top), teacher_top = fmax(a.teacher_top, b.teacher_top);
    double wa = exp(a.teacher_top - teacher_top), wb = exp(b.teacher_top - teacher_top);
    Seen all;
    all.top = (float)top;
    all.greatest = b.top > a.top ? b.greatest : a.greatest;
    all.total = (float)(a.total * exp(a.top - top) + b.total * exp(b.top - top));
    all.target = a.target + b.target;
    all.sum = a.sum + b.sum;
    all.teacher_top = (float)teacher_top;
    all.teacher_total = (float)(wa * a.teacher_total + wb * b.teacher_total);
    all.along = (float)(wa * (a.along + a.teacher_total * (a.top - top)) + wb * (b.along + b.teacher_total * (b.top - top)));
    return all;
}

// Takes the classes first..first+width of logits (R, width), and of the teacher's if it is not null, into account.
extern "C" __global__ void chunk_seen(
    int width, int first, const u32* targets, const float* logits, const float* teacher, Seen* rows
) {
    u32 target = targets[blockIdx.x];
    if (target == IGNORE) return;
    const float* z = logits + (u64)blockIdx.x * width;
    float top = LOWEST, place = -INF, total = 0, sum = 0, teacher_top = LOWEST, teacher_total = 0, along = 0;
    COLUMNS(c) top = fmaxf(top, z[c]);
    top = block_max(top);
    COLUMNS(c) {
        if (z[c] == top) place = fmaxf(place, -(float)c);
        total += expf(z[c] - top);
        sum += z[c];
    }
    place = block_max(place);
    total = block_sum(total);
    sum = block_sum(sum);
    if (teacher) {
        const float* t = teacher + (u64)blockIdx.x * width;
        COLUMNS(c) teacher_top = fmaxf(teacher_top, t[c]);
        teacher_top = block_max(teacher_top);
        COLUMNS(c) {
            float weight = expf(t[c] - teacher_top);
            teacher_total += weight;
            along += weight == 0.0f ? 0.0f : weight * (z[c] - top);
        }
        teacher_total = block_sum(teacher_total);
        along = block_sum(along);
    }
    if (threadIdx.x > 0) return;
    bool here = target >= (u32)first && target - first < (u32)width;
    float greatest = first + (place == -INF ? 0.0f : -place);
    Seen seen = {top, greatest, total, here ? z[target - first] : 0.0f, sum, teacher_top, teacher_total, along};
    rows[blockIdx.x] = first == 0 ? seen : join(rows[blockIdx.x], seen);
}

// What each row costs, and whether its target is the first of the greatest logits.
extern "C" __global__ void chunk_cost(
    u64 n, int classes, float on, float off, float alpha, const u32* targets, const Seen* rows, float* costs,
    float* right
) {
    EACH(i, n) {
        costs[i] = right[i] = 0;
        if (targets[i] == IGNORE) continue;
        const Seen& row = rows[i];
        float cost = logf(row.total) - on * (row.target - row.top);
        if (off > 0) cost -= off * (row.sum - classes * row.top);
        if (alpha > 0) cost -= alpha * (row.along / row.teacher_total);
        costs[i] = cost;
        right[i] = row.greatest == (float)targets[i];
    }
}

// Turns logits (R, width) of classes first.. into the gradient towards them.
extern "C" __global__ void chunk_slopes(
    u64 n, int width, int first, float on, float off, float alpha, float share, const u32* targets, const Seen* rows,
    const float* grad, const float* teacher, float* z
) {
    EACH(i, n) {
        u32 target = targets[i / width];
        const Seen& row = rows[i / width];
        if (target == IGNORE) {
            z[i] = 0;
            continue;
        }
        float slope = expf(z[i] - row.top) / row.total - off;
        if (teacher) slope -= alpha * (expf(teacher[i] - row.teacher_top) / row.teacher_total);
        if (first + (u32)(i % width) == target) slope -= on;
        z[i] = grad[0] * share * slope;
    }
}
