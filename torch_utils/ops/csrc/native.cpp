// The operators `draggan::*`: their schemas, and what they do on processors.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "direct.h"
#include "filtered_lrelu.h"
#include "modulated_act.h"
#include "upfirdn2d.h"
#include "winograd.h"

namespace draggan {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Numbers that are worth another thread.
constexpr int64_t kGrain = 1 << 15;
// Cells for which it pays to copy a map first.
constexpr int64_t kMany = 200;

template <typename T> T* data(const Tensor& t) { return reinterpret_cast<T*>(t.data_ptr()); }

// Calls f with a null pointer of the storage type.
template <typename F> void dispatch(const Tensor& x, F&& f) {
  switch (x.scalar_type()) {
    case at::kFloat: f(static_cast<float*>(nullptr)); return;
    case at::kDouble: f(static_cast<double*>(nullptr)); return;
    case at::kBFloat16: f(static_cast<bfloat16*>(nullptr)); return;
    default: TORCH_CHECK(false, "float32, float64 or bfloat16 is needed, not ", x.scalar_type());
  }
}

template <typename T> at::ScalarType compute_type() {
  return std::is_same_v<typename Compute<T>::type, double> ? at::kDouble : at::kFloat;
}

// Whether the channels are next to each other in memory: true for maps that are channels last, and for parts of them.
bool channels_last(const Tensor& x) {
  return x.dim() == 4 && x.size(1) > 1 && x.stride(1) == 1 && !x.is_contiguous();
}
at::MemoryFormat order(const Tensor& x) {
  return channels_last(x) ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}
Tensor dense(const Tensor& x) { return x.contiguous(order(x)); }
// Every row without gaps; rows may be apart.
Tensor dense_rows(const Tensor& x) {
  return x.stride(3) == (channels_last(x) ? x.size(1) : 1) ? x : dense(x);
}
Tensor empty_map(const Tensor& like, std::vector<int64_t> size) {
  return at::empty(size, like.options(), order(like));
}

template <typename T> Tensor small(const OptionalTensor& t) {
  return t && t->defined() ? t->to(compute_type<T>()).contiguous() : Tensor();
}

std::vector<double> taps(const Tensor& f) {
  const Tensor d = f.detach().to(at::kDouble).contiguous();
  return {d.data_ptr<double>(), d.data_ptr<double>() + d.numel()};
}

// ---------------------------------------------------------------------------------------------- modulated_act

// x is [batch, channel, ...] as [batch, channel, pixels].
struct ActSizes {
  int64_t batch, channels, pixels, scale_stride, noise_stride;

  ActSizes(const Tensor& x, const Tensor& scale, const Tensor& noise, const Tensor& bias)
      : batch(x.size(0)), channels(x.size(1)), pixels(1), scale_stride(0), noise_stride(0) {
    for (int64_t i = 2; i < x.dim(); ++i) pixels *= x.size(i);
    if (scale.defined()) {
      TORCH_CHECK(scale.dim() == 2 && scale.size(1) == channels && (scale.size(0) == 1 || scale.size(0) == batch),
                  "scale must be [batch or 1, channel]");
      scale_stride = scale.size(0) == 1 ? 0 : channels;
    }
    if (noise.defined()) {
      TORCH_CHECK(noise.numel() == pixels || noise.numel() == batch * pixels, "noise must be [batch or 1, 1, ...]");
      noise_stride = noise.numel() == pixels ? 0 : pixels;
    }
    if (bias.defined()) TORCH_CHECK(bias.numel() == channels, "bias must be [channel]");
  }
};

// x is dense, out like x; they may be the same.
void act_into(const Tensor& x, const Tensor& out, const OptionalTensor& scale_, const OptionalTensor& noise_,
              const OptionalTensor& bias_, double slope, double gain, std::optional<double> clamp) {
  if (x.numel() == 0) return;
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    using A = typename Compute<T>::type;
    const Tensor scale = small<T>(scale_), noise = small<T>(noise_), bias = small<T>(bias_);
    const ActSizes n(x, scale, noise, bias);
    const ActVectors<A> act(Act{slope, gain, clamp.value_or(-1)});
    const A* s = scale.defined() ? data<A>(scale) : nullptr;
    const A* z = noise.defined() ? data<A>(noise) : nullptr;
    const A* b = bias.defined() ? data<A>(bias) : nullptr;
    const T* in = data<T>(x);
    T* to = data<T>(out);
    if (channels_last(x)) {
      at::parallel_for(0, n.batch * n.pixels, std::max<int64_t>(1, kGrain / n.channels), [&](int64_t first, int64_t end) {
        for (int64_t p = first; p < end; ++p) {
          const int64_t i = p / n.pixels;
          act_pixel<T, A>(in + p * n.channels, s ? s + i * n.scale_stride : nullptr,
                          z ? z[i * n.noise_stride + p % n.pixels] : A(0), b, act, to + p * n.channels, n.channels);
        }
      });
      return;
    }
    // Planes in pieces, so that a few large ones keep all threads busy.
    const int64_t piece = std::min<int64_t>(n.pixels, kGrain), pieces = (n.pixels + piece - 1) / piece;
    at::parallel_for(0, n.batch * n.channels * pieces, std::max<int64_t>(1, kGrain / piece),
                     [&](int64_t first, int64_t end) {
      for (int64_t k = first; k < end; ++k) {
        const int64_t plane = k / pieces, start = k % pieces * piece, i = plane / n.channels, c = plane % n.channels;
        act_plane<T, A>(in + plane * n.pixels + start, s ? s[i * n.scale_stride + c] : A(1),
                        z ? z + i * n.noise_stride + start : nullptr, b ? b[c] : A(0), act,
                        to + plane * n.pixels + start, std::min(piece, n.pixels - start));
      }
    });
  });
}

Tensor modulated_act(const Tensor& x_, const OptionalTensor& scale, const OptionalTensor& noise,
                     const OptionalTensor& bias, double slope, double gain, std::optional<double> clamp) {
  TORCH_CHECK(x_.dim() >= 2, "x must be [batch, channel, ...]");
  const Tensor x = dense(x_);
  Tensor out = empty_map(x, x.sizes().vec());
  act_into(x, out, scale, noise, bias, slope, gain, clamp);
  return out;
}

// In place. Large results would spend most of their time on getting fresh memory from the system.
void modulated_act_(const Tensor& x_, const OptionalTensor& scale, const OptionalTensor& noise,
                    const OptionalTensor& bias, double slope, double gain, std::optional<double> clamp) {
  TORCH_CHECK(x_.dim() >= 2, "x must be [batch, channel, ...]");
  const Tensor x = dense(x_);
  act_into(x, x, scale, noise, bias, slope, gain, clamp);
  if (!x.is_same(x_)) x_.copy_(x);
}

std::tuple<Tensor, Tensor, Tensor> modulated_act_backward(const Tensor& grad_, const Tensor& x_,
                                                          const OptionalTensor& scale_, const OptionalTensor& noise_,
                                                          const OptionalTensor& bias_, double slope, double gain,
                                                          std::optional<double> clamp) {
  const Tensor x = dense(x_);
  const bool last = channels_last(x);
  const Tensor grad = grad_.contiguous(last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  TORCH_CHECK(grad.sizes() == x.sizes() && grad.scalar_type() == x.scalar_type(), "gradient and x must be alike");
  Tensor gx = empty_map(x, x.sizes().vec()), sum_gx, sum_g;
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    using A = typename Compute<T>::type;
    const Tensor scale = small<T>(scale_), noise = small<T>(noise_), bias = small<T>(bias_);
    const ActSizes n(x, scale, noise, bias);
    const auto options = x.options().dtype(compute_type<T>());
    sum_gx = at::zeros({n.batch, n.channels}, options);
    sum_g = at::zeros({n.batch, n.channels}, options);
    if (x.numel() == 0) return;
    const ActVectors<A> act(Act{slope, gain, clamp.value_or(-1)});
    const A* s = scale.defined() ? data<A>(scale) : nullptr;
    const A* z = noise.defined() ? data<A>(noise) : nullptr;
    const A* b = bias.defined() ? data<A>(bias) : nullptr;
    const T *in = data<T>(x), *g = data<T>(grad);
    T* to = data<T>(gx);
    if (last) {
      // Every part sums for itself; the first one where the result is wanted.
      const int64_t parts = std::clamp<int64_t>(n.pixels * n.channels / kGrain, 1, at::get_num_threads());
      const Tensor more = parts > 1 ? at::zeros({2, parts - 1, n.batch, n.channels}, options) : Tensor();
      at::parallel_for(0, parts, 1, [&](int64_t from, int64_t until) {
        for (int64_t part = from; part < until; ++part) {
          A* with_x = part ? data<A>(more[0][part - 1]) : data<A>(sum_gx);
          A* alone = part ? data<A>(more[1][part - 1]) : data<A>(sum_g);
          const int64_t first = part * n.pixels / parts, end = (part + 1) * n.pixels / parts;
          for (int64_t i = 0; i < n.batch; ++i)
            for (int64_t p = first; p < end; ++p) {
              const int64_t at = (i * n.pixels + p) * n.channels;
              act_pixel_gradient<T, A>(g + at, in + at, s ? s + i * n.scale_stride : nullptr,
                                       z ? z[i * n.noise_stride + p] : A(0), b, act, to + at, with_x + i * n.channels,
                                       alone + i * n.channels, n.channels);
            }
        }
      });
      if (parts > 1) {
        sum_gx += more[0].sum(0);
        sum_g += more[1].sum(0);
      }
      return;
    }
    at::parallel_for(0, n.batch * n.channels, std::max<int64_t>(1, kGrain / n.pixels), [&](int64_t first, int64_t end) {
      for (int64_t plane = first; plane < end; ++plane) {
        const int64_t i = plane / n.channels, c = plane % n.channels, at = plane * n.pixels;
        act_plane_gradient<T, A>(g + at, in + at, s ? s[i * n.scale_stride + c] : A(1),
                                 z ? z + i * n.noise_stride : nullptr, b ? b[c] : A(0), act, to + at,
                                 data<A>(sum_gx) + plane, data<A>(sum_g) + plane, n.pixels);
      }
    });
  });
  return {gx, sum_gx, sum_g};
}

// ---------------------------------------------------------------------------------------------- upfirdn2d

Tensor upfirdn2d(const Tensor& x_, const Tensor& f, int64_t up, int64_t down, at::IntArrayRef padding, double gain) {
  TORCH_CHECK(x_.dim() == 4 && padding.size() == 4, "x must be [batch, channel, height, width], padding four numbers");
  TORCH_CHECK(up >= 1 && up <= UpRow<float>::kMaxRate && down >= 1 && down <= UpRow<float>::kMaxRate, "rates");
  const Tensor x = dense_rows(x_);
  std::vector<double> filter = taps(f);
  const int fh = f.size(0), fw = f.size(-1);
  if (f.dim() == 1) {
    std::vector<double> square(fh * fw);
    for (int i = 0; i < fh; ++i)
      for (int j = 0; j < fw; ++j) square[i * fw + j] = filter[i] * filter[j];
    filter = square;
  }
  for (double& tap : filter) tap *= gain;
  const bool last = channels_last(x);
  const int64_t batch = x.size(0), channels = x.size(1);
  UpfirdnShape s{};
  s.in_height = x.size(2), s.in_width = x.size(3);
  s.out_height = floor_div(s.in_height * up + padding[2] + padding[3] - fh, down) + 1;
  s.out_width = floor_div(s.in_width * up + padding[0] + padding[1] - fw, down) + 1;
  TORCH_CHECK(s.out_height >= 1 && s.out_width >= 1, "the map is too small for this filter and padding");
  s.inner = last ? channels : 1;
  s.in_row = x.stride(2);
  s.up = up, s.down = down, s.taps_y = fh, s.taps_x = fw;
  // With f flipped as a convolution wants it, and the padding as an offset.
  s.offset_y = fh - 1 - padding[2], s.offset_x = fw - 1 - padding[0];
  Tensor out = empty_map(x, {batch, channels, s.out_height, s.out_width});
  if (out.numel() == 0) return out;
  const Terms terms(filter.data(), fh, fw);
  const int64_t maps = last ? batch : batch * channels;
  const int64_t line = s.out_width * s.inner;
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const auto map = [&](int64_t k) {
      const T* start = data<T>(x);
      return last ? start + k * x.stride(0) : start + k / channels * x.stride(0) + k % channels * x.stride(1);
    };
    at::parallel_for(0, maps * s.out_height, std::max<int64_t>(1, kGrain / line), [&](int64_t first, int64_t end) {
      Upfirdn<T> work(s, terms);
      for (int64_t k = first; k < end; ++k)
        work.row(map(k / s.out_height), k % s.out_height, data<T>(out) + k * line);
    });
  });
  return out;
}

// ---------------------------------------------------------------------------------------------- filtered_lrelu

struct LreluSizes {
  MapSize low, high, out;
  // From the first tap at the higher rate to the first input.
  index offset_y, offset_x;
};

LreluSizes lrelu_sizes(const Tensor& x, int64_t fu, int64_t fd, int64_t up, int64_t down, at::IntArrayRef padding) {
  TORCH_CHECK(x.dim() == 4 && padding.size() == 4, "x must be [batch, channel, height, width], padding four numbers");
  TORCH_CHECK(up >= 1 && up <= UpRow<float>::kMaxRate && down >= 1 && down <= UpRow<float>::kMaxRate, "rates");
  LreluSizes s{};
  s.low = {x.size(2), x.size(3)};
  s.high = {s.low.height * up + padding[2] + padding[3] - fu + 1, s.low.width * up + padding[0] + padding[1] - fu + 1};
  TORCH_CHECK(s.high.height >= fd && s.high.width >= fd, "the map is too small for these filters and padding");
  s.out = {(s.high.height - fd) / down + 1, (s.high.width - fd) / down + 1};
  s.offset_y = fu - 1 - padding[2], s.offset_x = fu - 1 - padding[0];
  return s;
}

struct LreluFilters {
  std::vector<double> up, down, down2;
  int64_t up_taps, down_taps;

  LreluFilters(const Tensor& fu, const Tensor& fd, int64_t rate, double gain) {
    TORCH_CHECK(fu.dim() == 1, "the upsampling filter must be [n]");
    TORCH_CHECK(fd.dim() == 1 || (fd.dim() == 2 && fd.size(0) == fd.size(1)), "the filter must be [n] or [n, n]");
    up = taps(fu);
    // A leaky ReLU commutes with a positive factor, so the gain goes into the filter: its root into each pass.
    const double factor = rate * std::sqrt(gain);
    for (double& t : up) t *= factor;
    (fd.dim() == 1 ? down : down2) = taps(fd);
    up_taps = fu.size(0), down_taps = fd.size(0);
  }
};

std::vector<double> reversed(const std::vector<double>& v) { return {v.rbegin(), v.rend()}; }

// As many channels as there are lanes from each sample: what is treated at once.
template <typename T> struct Blocks {
  static constexpr int64_t kLanes = lanes<typename Compute<T>::type>;
  int64_t channels, per_sample, count;

  explicit Blocks(const Tensor& x)
      : channels(x.size(1)), per_sample((channels + kLanes - 1) / kLanes), count(x.size(0) * per_sample) {}
  int64_t channel(int64_t k) const { return k % per_sample * kLanes; }
  template <typename U> MapView<U> view(const Tensor& t, int64_t k) const {
    const int64_t c = channel(k);
    return {data<std::remove_const_t<U>>(t) + k / per_sample * t.stride(0) + c * t.stride(1), t.stride(1), t.stride(2),
            t.stride(3), static_cast<int>(std::min(kLanes, channels - c))};
  }
  template <typename A> Vec<A> vector(const Tensor& t, int64_t k) const {
    const int64_t c = channel(k);
    return t.defined() ? load_part(data<A>(t) + c, std::min(kLanes, channels - c)) : Vec<A>{};
  }
};

Tensor filtered_lrelu(const Tensor& x_, const Tensor& fu, const Tensor& fd, const OptionalTensor& bias_, int64_t up,
                      int64_t down, at::IntArrayRef padding, double gain, double slope, std::optional<double> clamp) {
  const Tensor x = dense_rows(x_);
  const LreluFilters f(fu, fd, up, gain);
  const LreluSizes s = lrelu_sizes(x, f.up_taps, f.down_taps, up, down, padding);
  Tensor out = empty_map(x, {x.size(0), x.size(1), s.out.height, s.out.width});
  if (out.numel() == 0) return out;
  const UpFilter up_filter{f.up, static_cast<int>(up), s.offset_y, s.offset_x};
  const DownFilter down_filter{reversed(f.down), reversed(f.down2), static_cast<int>(down), 0, 0};
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    using A = typename Compute<T>::type;
    const Tensor bias = small<T>(bias_);
    const Blocks<T> blocks(x);
    at::parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t end) {
      FilteredLrelu<T> work(up_filter, down_filter, s.low, s.high, s.out, Knee{slope, clamp.value_or(-1)});
      for (int64_t k = first; k < end; ++k)
        work.value(blocks.template view<const T>(x, k), blocks.template vector<A>(bias, k),
                   blocks.template view<T>(out, k));
    });
  });
  return out;
}

Tensor filtered_lrelu_backward(const Tensor& grad_, const Tensor& x_, const Tensor& fu, const Tensor& fd,
                               const OptionalTensor& bias_, int64_t up, int64_t down, at::IntArrayRef padding,
                               double gain, double slope, std::optional<double> clamp) {
  const Tensor x = dense_rows(x_), grad = dense_rows(grad_);
  const LreluFilters f(fu, fd, up, gain);
  TORCH_CHECK(fd.dim() == 1, "the gradient needs a separable filter");
  const LreluSizes s = lrelu_sizes(x, f.up_taps, f.down_taps, up, down, padding);
  TORCH_CHECK(grad.dim() == 4 && grad.size(0) == x.size(0) && grad.size(1) == x.size(1) &&
                  grad.size(2) == s.out.height && grad.size(3) == s.out.width && grad.scalar_type() == x.scalar_type(),
              "the gradient must have the shape and type of the result");
  Tensor gx = empty_map(x, x.sizes().vec());
  if (gx.numel() == 0) return gx;
  const UpFilter up_filter{f.up, static_cast<int>(up), s.offset_y, s.offset_x};
  // Transposes: what came down goes up through the same taps, and the other way round.
  const UpFilter back_up{reversed(f.down), static_cast<int>(down), 0, 0};
  const DownFilter back_down{f.up, {}, static_cast<int>(up), -s.offset_y, -s.offset_x};
  dispatch(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    using A = typename Compute<T>::type;
    const Tensor bias = small<T>(bias_);
    const Blocks<T> blocks(x);
    at::parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t end) {
      FilteredLreluGradient<T> work(up_filter, back_up, back_down, s.low, s.high, s.out,
                                    Knee{slope, clamp.value_or(-1)});
      for (int64_t k = first; k < end; ++k)
        work.gradient(blocks.template view<const T>(x, k), blocks.template vector<A>(bias, k),
                      blocks.template view<const T>(grad, k), blocks.template view<T>(gx, k));
    });
  });
  return gx;
}

// ---------------------------------------------------------------------------------------------- convolutions

// f(first, end) for parts of [0, n), each of which takes that many multiplications.
template <typename F> void in_parallel(int64_t n, int64_t each, F&& f) {
  constexpr int64_t worth_a_thread = 1 << 20;
  at::parallel_for(0, n, std::max<int64_t>(1, worth_a_thread / std::max<int64_t>(1, each)), f);
}

// [out, in, kernel, kernel] in an order of panels.
template <typename Packed> Tensor prepared(const Tensor& weight_, const Packed& packed) {
  TORCH_CHECK(weight_.scalar_type() == at::kFloat, "weight must be of float32, not ", weight_.scalar_type());
  const Tensor weight = weight_.contiguous();
  Tensor to = at::empty({packed.size()}, weight.options());
  at::parallel_for(0, panels(packed.out), 1, [&](int64_t first, int64_t end) {
    for (int64_t p = first; p < end; ++p) packed.pack(data<float>(weight), data<float>(to), p);
  });
  return to;
}

template <typename Packed> void check_prepared(const Tensor& weight, const Packed& packed) {
  TORCH_CHECK(weight.scalar_type() == at::kFloat && weight.is_contiguous() && weight.numel() == packed.size(),
              "the weight was prepared for other channels");
}

// A map whose channels are next to each other.
Tensor with_channels_last(const Tensor& x) {
  TORCH_CHECK(x.dim() == 4 && x.scalar_type() == at::kFloat, "x must be [batch, channel, height, width] of float32");
  return x.stride(1) == 1 ? x : x.contiguous(at::MemoryFormat::ChannelsLast);
}

template <typename T> Map<T> map_of(const Tensor& x) {
  return {data<float>(x), x.size(0), x.size(2), x.size(3), x.stride(0), x.stride(2), x.stride(3)};
}

Tensor direct_weight(const Tensor& weight) {
  TORCH_CHECK(weight.dim() == 4 && weight.size(2) == weight.size(3), "weight must be [out, in, kernel, kernel]");
  return prepared(weight, direct::Packed{weight.size(1), weight.size(0), weight.size(2)});
}

Tensor direct_convolve(const Tensor& x_, const Tensor& weight, int64_t out, int64_t kernel, int64_t stride,
                       int64_t padding, bool transposed) {
  TORCH_CHECK(stride >= 1 && padding >= 0 && (!transposed || (stride == 2 && padding == 0)),
              "a transposed convolution has stride 2 and no padding");
  Tensor x = with_channels_last(x_);
  const direct::Packed packed{x.size(1), out, kernel};
  check_prepared(weight, packed);
  const auto extent = [&](int64_t n) {
    return transposed ? 2 * (n - 1) + kernel : floor_div(n + 2 * padding - kernel, stride) + 1;
  };
  const int64_t height = extent(x.size(2)), width = extent(x.size(3));
  TORCH_CHECK(height >= 1 && width >= 1, "the map is too small for this kernel and padding");
  Tensor y = at::empty({x.size(0), out, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  if (y.numel() == 0) return y;
  if (x.stride(3) * stride % direct::kConflict == 0 && y.size(2) * y.size(3) > kMany) {
    const int64_t cell = x.size(1) + lanes<float>, row = x.size(3) * cell;
    Tensor apart = at::empty_strided(x.sizes(), {x.size(2) * row, 1, row, cell}, x.options());
    x = apart.copy_(x);
  }
  const auto phases = transposed ? direct::transposed(kernel, height, width)
                                 : std::vector<direct::Phase>{direct::straight(kernel, stride, padding, height, width)};
  const std::vector<float> zeros(packed.in);
  // Few panels are cut into parts of their cells, so that there is something to do for all threads.
  const int64_t parts = std::max<int64_t>(1, 2 * at::get_num_threads() / panels(out));
  const direct::Work work{phases,       packed,           map_of<const float>(x), data<float>(weight),
                          zeros.data(), map_of<float>(y), parts};
  in_parallel(work.pieces(), work.multiplications(), [&](int64_t first, int64_t end) {
    for (int64_t k = first; k < end; ++k) work(k);
  });
  return y;
}

Tensor winograd_weight(const Tensor& weight) {
  TORCH_CHECK(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3, "weight must be [out, in, 3, 3]");
  return prepared(weight, winograd::Packed{weight.size(1), weight.size(0)});
}

Tensor winograd_convolve(const Tensor& x_, const Tensor& u, int64_t out, int64_t padding) {
  const Tensor x = with_channels_last(x_);
  const winograd::Packed packed{x.size(1), out};
  check_prepared(u, packed);
  const int64_t height = x.size(2) + 2 * padding - 2, width = x.size(3) + 2 * padding - 2;
  TORCH_CHECK(padding >= 0 && height >= 1 && width >= 1, "the map is too small for this padding");
  Tensor y = at::empty({x.size(0), out, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  if (y.numel() == 0) return y;
  winograd::convolve({map_of<const float>(x), map_of<float>(y), padding}, packed, data<float>(u),
                     [](int64_t n, int64_t each, auto&& f) { in_parallel(n, each, f); });
  return y;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(draggan, m) {
  m.def(
      "modulated_act(Tensor x, Tensor? scale, Tensor? noise, Tensor? bias, float slope, float gain, float? clamp)"
      " -> Tensor");
  m.def(
      "modulated_act_(Tensor(a!) x, Tensor? scale, Tensor? noise, Tensor? bias, float slope, float gain, float? clamp)"
      " -> ()");
  m.def(
      "modulated_act_backward(Tensor grad, Tensor x, Tensor? scale, Tensor? noise, Tensor? bias, float slope,"
      " float gain, float? clamp) -> (Tensor, Tensor, Tensor)");
  m.def("upfirdn2d(Tensor x, Tensor f, int up, int down, int[] padding, float gain) -> Tensor");
  m.def(
      "filtered_lrelu(Tensor x, Tensor fu, Tensor fd, Tensor? bias, int up, int down, int[] padding, float gain,"
      " float slope, float? clamp) -> Tensor");
  m.def(
      "filtered_lrelu_backward(Tensor grad, Tensor x, Tensor fu, Tensor fd, Tensor? bias, int up, int down,"
      " int[] padding, float gain, float slope, float? clamp) -> Tensor");
  m.def("direct_weight(Tensor weight) -> Tensor");
  m.def(
      "direct_convolve(Tensor x, Tensor prepared, int out, int kernel, int stride, int padding, bool transposed)"
      " -> Tensor");
  m.def("winograd_weight(Tensor weight) -> Tensor");
  m.def("winograd_convolve(Tensor x, Tensor prepared, int out, int padding) -> Tensor");
}

TORCH_LIBRARY_IMPL(draggan, CPU, m) {
  m.impl("modulated_act", modulated_act);
  m.impl("modulated_act_", modulated_act_);
  m.impl("modulated_act_backward", modulated_act_backward);
  m.impl("upfirdn2d", upfirdn2d);
  m.impl("filtered_lrelu", filtered_lrelu);
  m.impl("filtered_lrelu_backward", filtered_lrelu_backward);
  m.impl("direct_weight", direct_weight);
  m.impl("direct_convolve", direct_convolve);
  m.impl("winograd_weight", winograd_weight);
  m.impl("winograd_convolve", winograd_convolve);
}

// Who asks these for a gradient gets an error, not none.
TORCH_LIBRARY_IMPL(draggan, Autograd, m) {
  for (const char* name : {"direct_weight", "direct_convolve", "winograd_weight", "winograd_convolve"})
    m.impl(name, torch::autograd::autogradNotImplementedFallback());
}

}  // namespace draggan
