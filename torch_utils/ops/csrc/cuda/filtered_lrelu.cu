// `draggan::filtered_lrelu` and its gradient on CUDA devices; ../native.cpp has the schema. float32, float16 and bfloat16.
//
// Written where there is no GPU: it compiles for sm_80, sm_90 and sm_120, and the bodies of the kernels give the right
// numbers on a processor (emulate.cpp). An earlier state passed the tests for GPUs once (H100, PyTorch 2.11, November
// 2026). Its speed is untuned.
#include "filtered_lrelu_kernel.h"
#include "launch.h"

namespace draggan {
namespace {

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
  m.impl("filtered_lrelu", filtered_lrelu);
  m.impl("filtered_lrelu_backward", filtered_lrelu_backward);
}

}  // namespace draggan
