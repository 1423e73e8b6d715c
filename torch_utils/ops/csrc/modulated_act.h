// clamp(gain * leaky_relu(x * scale + noise + bias)) and its gradient on processors.
#pragma once

#include "simd.h"

namespace draggan {

using index = std::ptrdiff_t;

// A slope of 1 makes it linear; clamp < 0 means none.
struct Act {
  double slope, gain, clamp;
};

template <typename A> struct ActVectors {
  Vec<A> slope, gain, high, low;
  bool clamped;

  explicit ActVectors(const Act& a)
      // The gain of both branches, so that one multiplication does.
      : slope(splat<A>(A(a.slope * a.gain))),
        gain(splat<A>(A(a.gain))),
        high(splat<A>(A(a.clamp))),
        low(splat<A>(A(-a.clamp))),
        clamped(a.clamp >= 0) {}

  Vec<A> value(Vec<A> v) const {
    v = v * (v > 0 ? gain : slope);
    if (clamped) {
      // NaN stays NaN.
      v = v < low ? low : v;
      v = v > high ? high : v;
    }
    return v;
  }
  // The derivative where the argument is v.
  Vec<A> slope_at(Vec<A> v) const {
    Vec<A> d = v > 0 ? gain : slope;
    if (clamped) {
      const Vec<A> y = v * d, zero = {};
      d = y > high ? zero : d;
      d = y < low ? zero : d;
    }
    return d;
  }
};

// n numbers of one channel; noise may be null.
template <typename T, typename A>
void act_plane(const T* x, A scale, const A* noise, A bias, const ActVectors<A>& act, T* out, index n) {
  const Vec<A> s = splat<A>(scale), b = splat<A>(bias);
  for_vectors<A>(n, [&](index i, auto m) {
    Vec<A> v = load_some(x + i, m) * s + b;
    if (noise) v += load_some(noise + i, m);
    store_some(out + i, act.value(v), m);
  });
}

// n channels of one pixel; scale and bias may be null.
template <typename T, typename A>
void act_pixel(const T* x, const A* scale, A noise, const A* bias, const ActVectors<A>& act, T* out, index n) {
  for_vectors<A>(n, [&](index i, auto m) {
    Vec<A> v = load_some(x + i, m);
    if (scale) v *= load_some(scale + i, m);
    if (bias) v += load_some(bias + i, m);
    store_some(out + i, act.value(v + splat<A>(noise)), m);
  });
}

// The gradient of one channel. Also sum(g * x) and sum(g), with g the gradient before the scale.
template <typename T, typename A>
void act_plane_gradient(const T* grad, const T* x, A scale, const A* noise, A bias, const ActVectors<A>& act, T* out,
                        A* sum_gx, A* sum_g, index n) {
  const Vec<A> s = splat<A>(scale), b = splat<A>(bias);
  Vec<A> with_x = {}, alone = {};
  for_vectors<A>(n, [&](index i, auto m) {
    const Vec<A> in = load_some(x + i, m);
    Vec<A> v = in * s + b;
    if (noise) v += load_some(noise + i, m);
    const Vec<A> g = load_some(grad + i, m) * act.slope_at(v);
    with_x += g * in;
    alone += g;
    store_some(out + i, g * s, m);
  });
  *sum_gx = sum<A>(with_x);
  *sum_g = sum<A>(alone);
}

// The gradient of one pixel; adds to sum_gx and sum_g, each [n].
template <typename T, typename A>
void act_pixel_gradient(const T* grad, const T* x, const A* scale, A noise, const A* bias, const ActVectors<A>& act,
                        T* out, A* sum_gx, A* sum_g, index n) {
  for_vectors<A>(n, [&](index i, auto m) {
    const Vec<A> in = load_some(x + i, m);
    Vec<A> v = in;
    if (scale) v *= load_some(scale + i, m);
    if (bias) v += load_some(bias + i, m);
    Vec<A> g = load_some(grad + i, m) * act.slope_at(v + splat<A>(noise));
    store_some(sum_gx + i, load_some(sum_gx + i, m) + g * in, m);
    store_some(sum_g + i, load_some(sum_g + i, m) + g, m);
    if (scale) g *= load_some(scale + i, m);
    store_some(out + i, g, m);
  });
}

}  // namespace draggan
