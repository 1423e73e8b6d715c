// What the operators on CUDA devices share: sizes of launches, types, orders of memory.
//
// Each operator is a file of its own, so that they are compiled side by side.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

namespace draggan {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr int kThreads = 256;
// What every device grants a block without being asked.
constexpr int kSharedNumbers = 48 * 1024 / sizeof(float);

template <typename Body> __global__ void __launch_bounds__(kThreads) tile_kernel(Body body) {
  extern __shared__ float shared[];
#pragma unroll
  for (int k = 0; k < Body::kPhases; ++k) {
    if (k > 0) __syncthreads();
    body.phase(k, blockIdx.x, threadIdx.x, blockDim.x, shared);
  }
}

template <typename Body> void launch_tiles(const Body& body) {
  TORCH_CHECK(body.blocks() < (int64_t(1) << 31), "the map is too large");
  tile_kernel<<<body.blocks(), kThreads, body.shared() * sizeof(float), c10::cuda::getCurrentCUDAStream()>>>(body);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

unsigned blocks_for(int64_t count) { return std::min<int64_t>((count + kThreads - 1) / kThreads, 1 << 20); }

template <typename F> void dispatch(const Tensor& x, F&& f) {
  switch (x.scalar_type()) {
    case at::kFloat: f(static_cast<float*>(nullptr)); return;
    case at::kHalf: f(static_cast<at::Half*>(nullptr)); return;
    case at::kBFloat16: f(static_cast<at::BFloat16*>(nullptr)); return;
    default: TORCH_CHECK(false, "float32, float16 or bfloat16 is needed, not ", x.scalar_type());
  }
}

template <typename T> T* data(const Tensor& t) { return static_cast<T*>(t.data_ptr()); }

bool channels_last(const Tensor& x) {
  return x.dim() == 4 && x.size(1) > 1 && x.stride(1) == 1 && !x.is_contiguous();
}
at::MemoryFormat order(const Tensor& x) {
  return channels_last(x) ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}
Tensor empty_map(const Tensor& like, std::vector<int64_t> size) {
  return at::empty(size, like.options(), order(like));
}
Tensor small(const OptionalTensor& t) { return t && t->defined() ? t->to(at::kFloat).contiguous() : Tensor(); }
float* pointer(const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

}  // namespace
}  // namespace draggan
