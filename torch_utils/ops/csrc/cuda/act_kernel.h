// clamp(gain * leaky_relu(x * scale + noise + bias)) and its gradient.
#pragma once

#include "common.h"

namespace draggan {

// Of a map [batch, channel, pixels], or [batch, pixels, channel] if `last`.
struct ActShape {
  int64_t batch, channels, pixels;
  bool last;
  // Null for none; strides from sample to sample, 0 if all share them.
  const float *scale, *noise, *bias;
  int64_t scale_stride, noise_stride;
  Knee knee;

  DRAGGAN_HD float scale_at(int64_t n, int64_t c) const { return scale ? scale[n * scale_stride + c] : 1.0f; }
  DRAGGAN_HD float argument(float x, int64_t n, int64_t c, int64_t pixel) const {
    return x * scale_at(n, c) + (noise ? noise[n * noise_stride + pixel] : 0.0f) + (bias ? bias[c] : 0.0f);
  }
  // Sample, channel and pixel of element i.
  DRAGGAN_HD void locate(int64_t i, int64_t* n, int64_t* c, int64_t* pixel) const {
    const int64_t inner = i % (last ? channels : pixels), rest = i / (last ? channels : pixels);
    const int64_t middle = rest % (last ? pixels : channels);
    *n = rest / (last ? pixels : channels);
    *c = last ? inner : middle;
    *pixel = last ? middle : inner;
  }
  DRAGGAN_HD int64_t element(int64_t n, int64_t c, int64_t pixel) const {
    return last ? (n * pixels + pixel) * channels + c : (n * channels + c) * pixels + pixel;
  }
};

// V elements at once, which must not straddle the innermost axis: one load, one store.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack {
  T v[V];
};

template <typename T, int V>
DRAGGAN_HD void act_pack(const ActShape& s, const T* x, T* out, int64_t k) {
  Pack<T, V> p = reinterpret_cast<const Pack<T, V>*>(x)[k];
  int64_t n, c, pixel;
  s.locate(k * V, &n, &c, &pixel);
  for (int j = 0; j < V; ++j) {
    const float v = s.argument(static_cast<float>(p.v[j]), n, c + (s.last ? j : 0), pixel + (s.last ? 0 : j));
    p.v[j] = static_cast<T>(s.knee.value(v));
  }
  reinterpret_cast<Pack<T, V>*>(out)[k] = p;
}

// One block: some channels (1, or kAcross if these come last) of a sample, and a slice of the pixels. Gives the gradient
// there, and the slice's share of sum(g * x) and sum(g) per channel, with g the gradient before the scale. No atomics,
// so the sums are the same every time.
template <typename T> struct ActGradient {
  static constexpr int kAcross = 32;
  static constexpr int kThreads = 256;
  // 0: sums per thread; then halving, until every channel has one.
  static constexpr int kPhases = 10;

  ActShape s;
  const T *grad, *x;
  T* out;
  // [slices, batch, channels] each.
  float *sum_gx, *sum_g;
  int slices;

  DRAGGAN_HD int across() const { return s.last ? kAcross : 1; }
  DRAGGAN_HD int64_t groups() const { return (s.channels + across() - 1) / across(); }
  DRAGGAN_HD int64_t blocks() const { return groups() * s.batch * slices; }

  DRAGGAN_HD void phase(int k, int64_t block, int thread, float* shared) const {
    const int64_t group = block % groups(), n = block / groups() % s.batch, slice = block / groups() / s.batch;
    const int lanes = across(), rows = kThreads / lanes;
    const int64_t c = group * lanes + thread % lanes;
    if (k == 0) {
      float with_x = 0, alone = 0;
      const int64_t first = slice * s.pixels / slices, end = (slice + 1) * s.pixels / slices;
      if (c < s.channels)
        for (int64_t pixel = first + thread / lanes; pixel < end; pixel += rows) {
          const int64_t i = s.element(n, c, pixel);
          const float in = static_cast<float>(x[i]);
          const float g = static_cast<float>(grad[i]) * s.knee.derivative(s.argument(in, n, c, pixel));
          with_x += g * in;
          alone += g;
          out[i] = static_cast<T>(g * s.scale_at(n, c));
        }
      shared[thread] = with_x;
      shared[kThreads + thread] = alone;
      return;
    }
    const int step = kThreads >> k;
    if (step >= lanes) {
      if (thread < step) {
        shared[thread] += shared[thread + step];
        shared[kThreads + thread] += shared[kThreads + thread + step];
      }
    } else if (k == kPhases - 1 && thread < lanes && c < s.channels) {
      const int64_t at = (slice * s.batch + n) * s.channels + c;
      sum_gx[at] = shared[thread];
      sum_g[at] = shared[kThreads + thread];
    }
  }
};

}  // namespace draggan
