#!/bin/sh
# Lays out a CUDA 13.0 build root in target/cuda from PyPI wheels: nvcc, cicc, ptxas, headers, static cudart,
# and empty stand-ins for the libraries that the binary loads at run time. No GPU, driver or root needed.
# 13.0 on purpose: PTX of a newer toolkit is refused by a 580 driver (CUDA_ERROR_UNSUPPORTED_PTX_VERSION).
set -eu
root=${1:-$(dirname "$0")/../target/cuda}
rm -rf "$root" "$root.pip"
mkdir -p "$(dirname "$root")"
python3 -m pip install -q --root-user-action=ignore --no-deps --no-compile --target "$root.pip" \
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
mv "$root.pip/nvidia/cu13" "$root"
rm -rf "$root.pip"
chmod +x "$root"/bin/* "$root"/nvvm/bin/*
ln -s lib "$root/lib64"
# candle-kernels asks for `-lcudart`: give it the static one, so that the binary has no libcudart to find.
rm -f "$root"/lib/libcudart.so*
ln -s libcudart_static.a "$root/lib/libcudart.a"
# cudarc asks for these by name even when it loads them at run time; nothing is taken from them.
mkdir -p "$root/lib/stubs"
for l in cuda nvrtc curand cublas cublasLt; do ar crs "$root/lib/stubs/lib$l.a"; done
"$root/bin/nvcc" --version | sed -n 4p
