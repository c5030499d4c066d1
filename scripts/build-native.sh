#!/bin/sh
# Builds the native libraries of a published folder against this machine's own torch (that of python3, or $LIBTORCH), with the CUDA kernels where
# nvcc is found, and puts them beside the program. Needs CMake 3.22 and a C++17 compiler; about two minutes.
set -eu
cd "$(dirname "$0")"

[ -d native ] || { printf '%s\n' "build-native: there is no native/ beside this script; run it in a folder that make publish made" >&2; exit 2; }
command -v cmake > /dev/null || { printf '%s\n' "build-native: cmake is not installed" "  try     python3 -m pip install cmake" >&2; exit 2; }
if [ -z "${CUDACXX:-}" ] && ! command -v nvcc > /dev/null && [ -x /usr/local/cuda/bin/nvcc ]; then
  CUDACXX=/usr/local/cuda/bin/nvcc
  export CUDACXX
fi
cmake -S native -B native/build -DCMAKE_BUILD_TYPE=Release "$@"
cmake --build native/build --parallel "$(nproc)"
cp native/build/libmoe_*.so bin/
printf '%s\n' "build-native: $(ls bin/libmoe_*.so | tr '\n' ' ')"
