#!/bin/sh
# On a fresh machine with a GPU, PyTorch for it and nvcc: install what else is needed, ask everything, leave it in $OUT.
#   sh benchmarks/on_gpu.sh [--minutes 8] [--scenes face]
# Python is $PYTHON, the folder for tables, logs and weights $OUT. Without a network everything has to be there already.
# The same command again goes on where the first one ended.
set -u
cd "$(dirname "$0")/.." || exit 1
python="${PYTHON:-python3}"
if ! "$python" -c 'import beartype, hypothesis, jaxtyping, numpy, PIL, pytest, safetensors' 2>/dev/null; then
    # PyTorch stays as it is: what is here was chosen for this GPU.
    "$python" -m pip install --quiet beartype hypothesis jaxtyping ninja numpy pillow pytest safetensors || exit 1
fi
# One architecture, that of this GPU: every other one would only take time.
if [ -z "${TORCH_CUDA_ARCH_LIST:-}" ]; then
    found=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())' 2>/dev/null) &&
        export TORCH_CUDA_ARCH_LIST="$found"
fi
MAX_JOBS="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
export MAX_JOBS
exec "$python" -m benchmarks gpu --out "${OUT:-runs/gpu}" "$@"
