// `draggan::upfirdn2d` on CUDA devices; ../native.cpp has the schema. float32, float16 and bfloat16.
//
// Written where there is no GPU: it compiles for sm_80, sm_90 and sm_120, and the bodies of the kernels give the right
// numbers on a processor (emulate.cpp). An earlier state passed the tests for GPUs once (H100, PyTorch 2.11, November
// 2026). Its speed is untuned.
#include <ATen/ops/outer.h>

#include "launch.h"
#include "upfirdn2d_kernel.h"

namespace draggan {
namespace {

template <typename Body> __global__ void element_kernel(Body body, int64_t count) {
  for (int64_t k = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; k < count; k += int64_t(gridDim.x) * blockDim.x)
    body.element(k);
}

Tensor upfirdn2d(const Tensor& x, const Tensor& f_, int64_t up, int64_t down, at::IntArrayRef padding, double gain) {
  TORCH_CHECK(x.dim() == 4 && padding.size() == 4, "x must be [batch, channel, height, width], padding four numbers");
  TORCH_CHECK(up >= 1 && down >= 1, "rates");
  const c10::cuda::CUDAGuard guard(x.device());
  Tensor f = f_.detach().to(x.device(), at::kFloat);
  f = (f.dim() == 1 ? at::outer(f, f) : f).mul(gain).contiguous();
  const int fh = f.size(0), fw = f.size(1);
  const int64_t height = x.size(2) * up + padding[2] + padding[3] - fh, width = x.size(3) * up + padding[0] + padding[1] - fw;
  TORCH_CHECK(height >= 0 && width >= 0, "the map is too small for this filter and padding");
  Tensor out = empty_map(x, {x.size(0), x.size(1), height / down + 1, width / down + 1});
  if (out.numel() == 0) return out;
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    Upfirdn<T> body{};
    body.in = data<T>(x), body.out = data<T>(out), body.f = pointer(f);
    body.batch = x.size(0), body.channels = x.size(1);
    body.in_height = x.size(2), body.in_width = x.size(3), body.out_height = out.size(2), body.out_width = out.size(3);
    body.up = up, body.down = down, body.taps_y = fh, body.taps_x = fw;
    body.offset_y = fh - 1 - padding[2], body.offset_x = fw - 1 - padding[0];
    body.in_sample = x.stride(0), body.in_channel = x.stride(1), body.in_row = x.stride(2), body.in_pixel = x.stride(3);
    body.out_sample = out.stride(0), body.out_channel = out.stride(1), body.out_row = out.stride(2);
    body.out_pixel = out.stride(3);
    body.tile_height = std::min(16, body.out_height), body.tile_width = std::min(64, body.out_width);
    if (!channels_last(out) && body.shared() <= kSharedNumbers) {
      launch_tiles(body);
      return;
    }
    const int64_t count = out.numel();
    element_kernel<<<blocks_for(count), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(body, count);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(draggan, CUDA, m) {
  m.impl("upfirdn2d", upfirdn2d);
}

}  // namespace draggan
