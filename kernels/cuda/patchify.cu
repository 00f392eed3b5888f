// Images as rows of patches: a thread for each pixel of (B,C,H,W).

__device__ inline u64 place(u64 pixel, int channels, int height, int width, int patch, int spare) {
    int x = pixel % width, y = pixel / width % height, columns = width / patch;
    int channel = pixel / ((u64)width * height) % channels;
    u64 example = pixel / ((u64)width * height * channels);
    u64 token = example * (spare + height / patch * columns) + spare + y / patch * columns + x / patch;
    return token * channels * patch * patch + (channel * patch + y % patch) * patch + x % patch;
}

extern "C" __global__ void patchify(
    u64 n, int channels, int height, int width, int patch, int spare, In x, Out y
) {
    EACH(i, n) y.set(place(i, channels, height, width, patch, spare), x[i]);
}

extern "C" __global__ void patchify_backward(
    u64 n, int channels, int height, int width, int patch, int spare, In grad, Out dx, int adds
) {
    EACH(i, n) put(dx, i, grad[place(i, channels, height, width, patch, spare)], adds);
}
