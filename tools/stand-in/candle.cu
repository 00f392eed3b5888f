// The kernels of bf16 that this program has of candle, by candle's macros and names: its own take CUDA's header of bf16.
UNARY_OP(bf16, ucopy_bf16, x)
COPY2D_OP(bf16, copy2d_bf16)
BINARY_OP(bf16, badd_bf16, (float)x + (float)y)

extern "C" __global__ void cast_bf16_f32(
    const size_t numel, const size_t num_dims, const size_t* info, const bf16* inp, float* out
) {
    cast_<bf16, float>(numel, num_dims, info, inp, out);
}

extern "C" __global__ void cast_f32_bf16(
    const size_t numel, const size_t num_dims, const size_t* info, const float* inp, bf16* out
) {
    cast_<float, bf16>(numel, num_dims, info, inp, out);
}
