// `draggan::modulated_act` and its gradient on CUDA devices; ../native.cpp has the schema. float32, float16 and bfloat16.
//
// Written where there is no GPU: it compiles for sm_80, sm_90 and sm_120, and the bodies of the kernels give the right
// numbers on a processor (emulate.cpp). An earlier state passed the tests for GPUs once (H100, PyTorch 2.11, November
// 2026). Its speed is untuned.
#include <tuple>

#include "act_kernel.h"
#include "launch.h"

namespace draggan {
namespace {

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

}  // namespace

TORCH_LIBRARY_IMPL(draggan, CUDA, m) {
  m.impl("modulated_act", modulated_act);
  m.impl("modulated_act_", modulated_act_);
  m.impl("modulated_act_backward", modulated_act_backward);
}

}  // namespace draggan
