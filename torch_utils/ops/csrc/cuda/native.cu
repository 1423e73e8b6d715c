// The operators `draggan::*` on CUDA devices; ../native.cpp has their schemas. float32, float16 and bfloat16.
//
// Written where there is no GPU: it compiles for sm_80, sm_90 and sm_120, and the bodies of the kernels give the right
// numbers on a processor (emulate.cpp). An earlier state passed the tests for GPUs once (H100, PyTorch 2.11, November
// 2026). Its speed is untuned.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/outer.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "act_kernel.h"
#include "filtered_lrelu_kernel.h"
#include "upfirdn2d_kernel.h"

namespace draggan {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr int kThreads = 256;
// What every device grants a block without being asked.
constexpr int kSharedNumbers = 48 * 1024 / sizeof(float);

template <typename T, int V> __global__ void act_kernel(ActShape s, const T* x, T* out, int64_t packs) {
  for (int64_t k = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; k < packs; k += int64_t(gridDim.x) * blockDim.x)
    act_pack<T, V>(s, x, out, k);
}

template <typename Body> __global__ void __launch_bounds__(kThreads) act_gradient_kernel(Body body) {
  __shared__ float shared[2 * Body::kThreads];
  for (int k = 0; k < Body::kPhases; ++k) {
    if (k > 0) __syncthreads();
    body.phase(k, blockIdx.x, threadIdx.x, shared);
  }
}

template <typename Body> __global__ void __launch_bounds__(kThreads) tile_kernel(Body body) {
  extern __shared__ float shared[];
#pragma unroll
  for (int k = 0; k < Body::kPhases; ++k) {
    if (k > 0) __syncthreads();
    body.phase(k, blockIdx.x, threadIdx.x, blockDim.x, shared);
  }
}

template <typename Body> __global__ void element_kernel(Body body, int64_t count) {
  for (int64_t k = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; k < count; k += int64_t(gridDim.x) * blockDim.x)
    body.element(k);
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

// ---------------------------------------------------------------------------------------------- modulated_act

// Holds the small tensors that `shape` points to.
struct Act {
  Tensor scale, noise, bias;
  ActShape shape;

  Act(const Tensor& x, const OptionalTensor& scale_, const OptionalTensor& noise_, const OptionalTensor& bias_,
      double slope, double gain, std::optional<double> clamp)
      : scale(small(scale_)), noise(small(noise_)), bias(small(bias_)) {
    ActShape& s = shape;
    s.batch = x.size(0), s.channels = x.size(1), s.pixels = 1, s.last = channels_last(x);
    for (int64_t i = 2; i < x.dim(); ++i) s.pixels *= x.size(i);
    s.scale = pointer(scale), s.noise = pointer(noise), s.bias = pointer(bias);
    if (s.scale)
      TORCH_CHECK(scale.dim() == 2 && scale.size(1) == s.channels && (scale.size(0) == 1 || scale.size(0) == s.batch),
                  "scale must be [batch or 1, channel]");
    if (s.noise)
      TORCH_CHECK(noise.numel() == s.pixels || noise.numel() == s.batch * s.pixels, "noise must be [batch or 1, 1, ...]");
    if (s.bias) TORCH_CHECK(bias.numel() == s.channels, "bias must be [channel]");
    s.scale_stride = s.scale && scale.size(0) > 1 ? s.channels : 0;
    s.noise_stride = s.noise && noise.numel() > s.pixels ? s.pixels : 0;
    s.knee = {static_cast<float>(slope), static_cast<float>(gain), static_cast<float>(clamp.value_or(-1))};
  }
};

// x and out are dense and alike; they may be the same.
void act_into(const Tensor& x, const Tensor& out, const OptionalTensor& scale, const OptionalTensor& noise,
              const OptionalTensor& bias, double slope, double gain, std::optional<double> clamp) {
  if (x.numel() == 0) return;
  const c10::cuda::CUDAGuard guard(x.device());
  const Act act(x, scale, noise, bias, slope, gain, clamp);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int V = 16 / sizeof(T);
    const int64_t inner = act.shape.last ? act.shape.channels : act.shape.pixels;
    const bool packed = inner % V == 0 && reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0 &&
                        reinterpret_cast<uintptr_t>(out.data_ptr()) % 16 == 0;
    const int64_t packs = x.numel() / (packed ? V : 1);
    if (packed)
      act_kernel<T, V><<<blocks_for(packs), kThreads, 0, stream>>>(act.shape, data<T>(x), data<T>(out), packs);
    else
      act_kernel<T, 1><<<blocks_for(packs), kThreads, 0, stream>>>(act.shape, data<T>(x), data<T>(out), packs);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
}

Tensor modulated_act(const Tensor& x_, const OptionalTensor& scale, const OptionalTensor& noise,
                     const OptionalTensor& bias, double slope, double gain, std::optional<double> clamp) {
  TORCH_CHECK(x_.dim() >= 2, "x must be [batch, channel, ...]");
  const Tensor x = x_.contiguous(order(x_));
  Tensor out = empty_map(x, x.sizes().vec());
  act_into(x, out, scale, noise, bias, slope, gain, clamp);
  return out;
}

void modulated_act_(const Tensor& x_, const OptionalTensor& scale, const OptionalTensor& noise,
                    const OptionalTensor& bias, double slope, double gain, std::optional<double> clamp) {
  TORCH_CHECK(x_.dim() >= 2, "x must be [batch, channel, ...]");
  const Tensor x = x_.contiguous(order(x_));
  act_into(x, x, scale, noise, bias, slope, gain, clamp);
  if (!x.is_same(x_)) x_.copy_(x);
}

std::tuple<Tensor, Tensor, Tensor> modulated_act_backward(const Tensor& grad_, const Tensor& x_,
                                                          const OptionalTensor& scale, const OptionalTensor& noise,
                                                          const OptionalTensor& bias, double slope, double gain,
                                                          std::optional<double> clamp) {
  const Tensor x = x_.contiguous(order(x_)), grad = grad_.contiguous(order(x));
  TORCH_CHECK(grad.sizes() == x.sizes() && grad.scalar_type() == x.scalar_type(), "gradient and x must be alike");
  const c10::cuda::CUDAGuard guard(x.device());
  const Act act(x, scale, noise, bias, slope, gain, clamp);
  Tensor gx = empty_map(x, x.sizes().vec());
  // Enough slices that the device has work, and each enough pixels that its sums are worth it.
  const int64_t slices = std::clamp<int64_t>(act.shape.pixels / 2048, 1, 64);
  const Tensor sums = at::empty({2, slices, x.size(0), x.size(1)}, x.options().dtype(at::kFloat));
  if (x.numel() > 0)
    dispatch(x, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      const ActGradient<T> body{act.shape,          data<T>(grad),       data<T>(x), data<T>(gx),
                                pointer(sums),      pointer(sums) + sums[0].numel(), static_cast<int>(slices)};
      TORCH_CHECK(body.blocks() < (int64_t(1) << 31), "the map is too large");
      act_gradient_kernel<<<body.blocks(), ActGradient<T>::kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(body);
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    });
  else
    sums.zero_();
  const Tensor total = sums.sum(1);
  return {gx, total[0].clone(), total[1].clone()};
}

// ---------------------------------------------------------------------------------------------- upfirdn2d

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

// ---------------------------------------------------------------------------------------------- filtered_lrelu

// Fills what both directions share; `fu`, `fd` and `bias` must outlive the launch.
template <typename Body>
void set_maps(Body& body, const Tensor& x, const Tensor& fu, const Tensor& fd, const Tensor& bias, int64_t up, int64_t down,
              at::IntArrayRef padding, double slope, std::optional<double> clamp) {
  body.channels = x.size(1), body.planes = x.size(0) * x.size(1);
  body.low_height = x.size(2), body.low_width = x.size(3);
  body.up = up, body.down = down, body.taps_up = fu.size(0), body.taps_down = fd.size(0);
  body.high_height = x.size(2) * up + padding[2] + padding[3] - fu.size(0) + 1;
  body.high_width = x.size(3) * up + padding[0] + padding[1] - fu.size(0) + 1;
  TORCH_CHECK(body.high_height >= body.taps_down && body.high_width >= body.taps_down,
              "the map is too small for these filters and padding");
  body.out_height = (body.high_height - body.taps_down) / down + 1;
  body.out_width = (body.high_width - body.taps_down) / down + 1;
  body.offset_y = body.taps_up - 1 - padding[2], body.offset_x = body.taps_up - 1 - padding[0];
  body.fu = pointer(fu), body.fd = pointer(fd), body.bias = pointer(bias), body.flat = fd.dim() == 1;
  body.knee = {static_cast<float>(slope), 1.0f, static_cast<float>(clamp.value_or(-1))};
}

// The largest tile that fits.
template <typename Body> void launch_lrelu(Body& body) {
  for (body.tile = 32; body.shared() > kSharedNumbers; body.tile /= 2)
    TORCH_CHECK(body.tile > 1, "these filters and rates do not fit into shared memory");
  launch_tiles(body);
}

void check_lrelu(const Tensor& x, const Tensor& fu, const Tensor& fd, int64_t up, int64_t down, at::IntArrayRef padding) {
  TORCH_CHECK(x.dim() == 4 && padding.size() == 4, "x must be [batch, channel, height, width], padding four numbers");
  TORCH_CHECK(up >= 1 && down >= 1, "rates");
  TORCH_CHECK(fu.dim() == 1, "the upsampling filter must be [n]");
  TORCH_CHECK(fd.dim() == 1 || (fd.dim() == 2 && fd.size(0) == fd.size(1)), "the filter must be [n] or [n, n]");
}

// A leaky ReLU commutes with a positive factor, so the gain goes into the filter: its root into each pass.
Tensor with_gain(const Tensor& fu, const Tensor& x, int64_t up, double gain) {
  return fu.detach().to(x.device(), at::kFloat).mul(up * std::sqrt(gain)).contiguous();
}
Tensor flipped(const Tensor& fd, const Tensor& x) {
  const Tensor f = fd.detach().to(x.device(), at::kFloat);
  return (f.dim() == 1 ? f.flip({0}) : f.flip({0, 1})).contiguous();
}

Tensor filtered_lrelu(const Tensor& x_, const Tensor& fu_, const Tensor& fd_, const OptionalTensor& bias_, int64_t up,
                      int64_t down, at::IntArrayRef padding, double gain, double slope, std::optional<double> clamp) {
  check_lrelu(x_, fu_, fd_, up, down, padding);
  const c10::cuda::CUDAGuard guard(x_.device());
  const Tensor x = x_.contiguous(), fu = with_gain(fu_, x, up, gain), fd = flipped(fd_, x), bias = small(bias_);
  Tensor out;
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    FilteredLrelu<T> body{};
    set_maps(body, x, fu, fd, bias, up, down, padding, slope, clamp);
    out = at::empty({x.size(0), x.size(1), body.out_height, body.out_width}, x.options());
    if (out.numel() == 0) return;
    body.x = data<T>(x), body.out = data<T>(out);
    launch_lrelu(body);
  });
  // In the order that the other devices give.
  return out.contiguous(order(x_));
}

Tensor filtered_lrelu_backward(const Tensor& grad_, const Tensor& x_, const Tensor& fu_, const Tensor& fd_,
                               const OptionalTensor& bias_, int64_t up, int64_t down, at::IntArrayRef padding,
                               double gain, double slope, std::optional<double> clamp) {
  check_lrelu(x_, fu_, fd_, up, down, padding);
  TORCH_CHECK(fd_.dim() == 1, "the gradient needs a separable filter");
  const c10::cuda::CUDAGuard guard(x_.device());
  const Tensor x = x_.contiguous(), grad = grad_.contiguous(), fu = with_gain(fu_, x, up, gain), fd = flipped(fd_, x);
  const Tensor bias = small(bias_);
  Tensor gx = at::empty(x.sizes(), x.options());
  if (gx.numel() == 0) return gx.contiguous(order(x_));
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    FilteredLreluGradient<T> body{};
    set_maps(body, x, fu, fd, bias, up, down, padding, slope, clamp);
    TORCH_CHECK(grad.dim() == 4 && grad.size(0) == x.size(0) && grad.size(1) == x.size(1) &&
                    grad.size(2) == body.out_height && grad.size(3) == body.out_width &&
                    grad.scalar_type() == x.scalar_type(),
                "the gradient must have the shape and type of the result");
    body.x = data<T>(x), body.grad = data<T>(grad), body.out = data<T>(gx);
    launch_lrelu(body);
  });
  return gx.contiguous(order(x_));
}

}  // namespace

TORCH_LIBRARY_IMPL(draggan, CUDA, m) {
  m.impl("modulated_act", modulated_act);
  m.impl("modulated_act_", modulated_act_);
  m.impl("modulated_act_backward", modulated_act_backward);
  m.impl("upfirdn2d", upfirdn2d);
  m.impl("filtered_lrelu", filtered_lrelu);
  m.impl("filtered_lrelu_backward", filtered_lrelu_backward);
}

}  // namespace draggan
