#!/usr/bin/env bash
# Compile PyCUDA on a machine with the CUDA toolkit but without a GPU, and run the tests of our calls with it.
# PyCUDA exists as source only; compiling takes minutes.
#
#   scripts/try_pycuda.sh            # the toolkit in ${CUDA_ROOT:-/usr/local/cuda}, the Python in ${PYTHON:-python3}
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
cuda=${CUDA_ROOT:-/usr/local/cuda}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# PyCUDA is linked with libcuda.so, which only a driver has: our stand-in takes its place.
cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so" tests/runtime/engines/libcuda.c -ldl
"$python" -m pip download -q --no-deps --no-binary pycuda -d "$work" 'pycuda>=2024.1'
tar -xf "$work"/pycuda-*.tar.gz -C "$work"
cat > "$(echo "$work"/pycuda-*/)siteconf.py" <<END
CUDA_ROOT = "$cuda"
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = ["$work"]
END
PATH="$cuda/bin:$PATH" "$python" -m pip install -q --no-deps --target "$work/site" "$work"/pycuda-*/
PYTHONPATH="$work/site" "$python" -m pytest -q tests/runtime/engines/test_cuda.py
