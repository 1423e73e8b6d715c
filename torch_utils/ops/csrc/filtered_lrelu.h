// Upsample, leaky ReLU, clamp, downsample, a row at a time: the map at the higher rate is never in memory as a whole.
//
// As many channels as a vector has lanes are treated at once, so a pixel is a vector and a filter along a row never
// mixes lanes. Forward and gradient are one machine: maps are brought to the higher rate row by row (`Source`), combined
// point by point, and filtered down again (`Sink`), which keeps as many rows as its filter is high.
#pragma once

#include <algorithm>
#include <cmath>

#include "resample.h"

namespace draggan {

// out[j] = sum_i in[i] f[j + offset - i * up], along both axes.
struct UpFilter {
  std::vector<double> f;
  int up;
  index offset_y, offset_x;
};
// out[i] = sum_j in[j] g[j - offset - i * down], along both axes: taps g, separable if `g2` is empty, else [n, n].
struct DownFilter {
  std::vector<double> g, g2;
  int down;
  index offset_y, offset_x;
};
struct MapSize {
  index height, width;
};

// A few channels of a map, in whatever order it is in memory.
template <typename T> struct MapView {
  T* start;
  // Elements from one channel, row or pixel to the next.
  index channel, row, pixel;
  // Channels to treat: at most as many as there are lanes; the others are zero, or not written.
  int count;
};

// Pixels with zeros before and after.
template <typename A> class Pixels {
 public:
  Pixels() = default;
  Pixels(index before, index count, index after) : data_((before + count + after) * lanes<A>), start_(before) {}
  // Vectors need not be aligned here, so they are read and written through `load` and `store`.
  A* at(index i) { return data_.data() + (start_ + i) * lanes<A>; }
  const A* at(index i) const { return data_.data() + (start_ + i) * lanes<A>; }

 private:
  std::vector<A> data_;
  index start_ = 0;
};

template <typename T, typename A = typename Compute<T>::type> void read_row(const MapView<const T>& m, index y, index width, A* to) {
  const T* from = m.start + y * m.row;
  if (m.channel == 1) {
    for (index x = 0; x < width; ++x)
      store(to + x * lanes<A>, m.count == lanes<A> ? load(from + x * m.pixel) : load_part(from + x * m.pixel, m.count));
    return;
  }
  for (int c = 0; c < m.count; ++c)
    for_vectors<A>(width, [&](index x, auto n) {
      A part[lanes<A>];
      store(part, load_some(from + c * m.channel + x, n));
      for (int k = 0; k < static_cast<int>(n); ++k) to[(x + k) * lanes<A> + c] = part[k];
    });
}

template <typename T, typename A = typename Compute<T>::type> void write_row(const MapView<T>& m, index y, index width, const A* from) {
  T* to = m.start + y * m.row;
  if (m.channel == 1) {
    for (index x = 0; x < width; ++x) {
      if (m.count == lanes<A>)
        store(to + x * m.pixel, load(from + x * lanes<A>));
      else
        store_part(to + x * m.pixel, load(from + x * lanes<A>), m.count);
    }
    return;
  }
  for (int c = 0; c < m.count; ++c)
    for_vectors<A>(width, [&](index x, auto n) {
      A part[lanes<A>];
      for (int k = 0; k < static_cast<int>(n); ++k) part[k] = from[(x + k) * lanes<A> + c];
      store_some(to + c * m.channel + x, load(part), n);
    });
}

// dst[r * to] = post(r, sum_t w[t] src[r * step + t]) in pixels, for 0 <= r < n; adds to what is there if `add`.
template <bool add, typename A, typename Post>
inline void fir_pixels(const A* src, index step, const A* w, int taps, A* dst, index to, index n, Post&& post) {
  constexpr int L = lanes<A>;
  constexpr int K = 6;
  index r = 0;
  for (; r + K <= n; r += K) {
    Vec<A> s[K];
    for (int k = 0; k < K; ++k) s[k] = add ? load(dst + (r + k) * to * L) : Vec<A>{};
    const A* from = src + r * step * L;
    for (int t = 0; t < taps; ++t, from += L) {
      const Vec<A> tap = splat<A>(w[t]);
      for (int k = 0; k < K; ++k) s[k] += tap * load(from + k * step * L);
    }
    for (int k = 0; k < K; ++k) store(dst + (r + k) * to * L, post(r + k, s[k]));
  }
  for (; r < n; ++r) {
    Vec<A> s = add ? load(dst + r * to * L) : Vec<A>{};
    for (int t = 0; t < taps; ++t) s += splat<A>(w[t]) * load(src + (r * step + t) * L);
    store(dst + r * to * L, post(r, s));
  }
}

// dst[x] = constant + sum_k w[k] rows[k][x] in pixels.
template <typename A>
inline void combine_pixels(const A* const* rows, const A* w, int count, Vec<A> constant, A* dst, index n) {
  constexpr int L = lanes<A>, K = 6;
  index x = 0;
  for (; x + K <= n; x += K) {
    Vec<A> s[K];
    for (int k = 0; k < K; ++k) s[k] = constant;
    for (int i = 0; i < count; ++i) {
      const Vec<A> weight = splat<A>(w[i]);
      const A* from = rows[i] + x * L;
      for (int k = 0; k < K; ++k) s[k] += weight * load(from + k * L);
    }
    for (int k = 0; k < K; ++k) store(dst + (x + k) * L, s[k]);
  }
  for (; x < n; ++x) {
    Vec<A> s = constant;
    for (int i = 0; i < count; ++i) s += splat<A>(w[i]) * load(rows[i] + x * L);
    store(dst + x * L, s);
  }
}

// A map at the higher rate, row by row.
template <typename T> class Source {
 public:
  using A = typename Compute<T>::type;

  Source(const UpFilter& filter, MapSize low, MapSize high) : filter_(filter), low_(low) {
    const index taps = filter.f.size();
    index before = 0, after = 0;
    for (int p = 0; p < filter.up; ++p) {
      // Output up * r + p takes inputs r + first ... with every up-th tap.
      Phase phase;
      const index base = floor_div(p + filter.offset_x, filter.up);
      for (index tap = p + filter.offset_x - base * filter.up; tap < taps; tap += filter.up)
        phase.w.push_back(static_cast<A>(filter.f[tap]));
      std::reverse(phase.w.begin(), phase.w.end());
      phase.first = base - static_cast<index>(phase.w.size()) + 1;
      phase.count = high.width > p ? (high.width - p - 1) / filter.up + 1 : 0;
      before = std::max(before, -phase.first);
      after = std::max(after, phase.first + phase.count + static_cast<index>(phase.w.size()) - low.width);
      phases_.push_back(std::move(phase));
    }
    line_ = Pixels<A>(before, low.width, after);
    for (index k = 0; k < taps / filter.up + 2; ++k) ring_.emplace_back(0, low.width, 0);
  }

  void start(const MapView<const T>& map, Vec<A> constant) {
    map_ = map, constant_ = constant, read_ = 0;
  }

  // Row j at the higher rate of the map plus the constant, which is added before the filter. Rows come in order.
  template <typename Post> void row(index j, A* out, Post&& post) {
    const index at = j + filter_.offset_y, taps = filter_.f.size();
    const index first = std::max<index>(0, ceil_div(at - taps + 1, filter_.up));
    const index last = std::min(low_.height - 1, floor_div(at, filter_.up));
    const index size = ring_.size();
    rows_.clear(), weights_.clear();
    A total = 0;
    read_ = std::max(read_, first);
    for (; read_ <= last; ++read_) read_row<T>(map_, read_, low_.width, ring_[read_ % size].at(0));
    for (index i = first; i <= last; ++i) {
      rows_.push_back(ring_[i % size].at(0));
      weights_.push_back(static_cast<A>(filter_.f[at - i * filter_.up]));
      total += weights_.back();
    }
    combine_pixels<A>(rows_.data(), weights_.data(), rows_.size(), constant_ * total, line_.at(0), low_.width);
    for (int p = 0; p < filter_.up; ++p) {
      const Phase& phase = phases_[p];
      fir_pixels<false, A>(line_.at(phase.first), 1, phase.w.data(), phase.w.size(), out + p * lanes<A>, filter_.up,
                           phase.count, [&](index r, Vec<A> v) { return post(filter_.up * r + p, v); });
    }
  }

 private:
  struct Phase {
    std::vector<A> w;
    index first = 0, count = 0;
  };
  const UpFilter& filter_;
  MapSize low_;
  std::vector<Phase> phases_;
  Pixels<A> line_;
  std::vector<Pixels<A>> ring_;
  MapView<const T> map_{};
  Vec<A> constant_{};
  index read_ = 0;
  std::vector<const A*> rows_;
  std::vector<A> weights_;
};

// Filters rows at the higher rate down to a map.
template <typename T> class Sink {
 public:
  using A = typename Compute<T>::type;

  Sink(const DownFilter& filter, MapSize high, MapSize low)
      : filter_(filter), high_(high), low_(low), flat_(filter.g2.empty()) {
    taps_ = flat_ ? filter.g.size() : static_cast<index>(std::lround(std::sqrt(double(filter.g2.size()))));
    w_.assign(filter.g.begin(), filter.g.end());
    w2_.assign(filter.g2.begin(), filter.g2.end());
    const index before = std::max<index>(0, -filter.offset_x);
    const index after = std::max<index>(0, (low.width - 1) * filter.down + filter.offset_x + taps_ - high.width);
    for (index k = 0; k < taps_; ++k) ring_.push_back(flat_ ? Pixels<A>(0, low.width, 0) : Pixels<A>(before, high.width, after));
    high_row_ = Pixels<A>(before, high.width, after);
    line_ = Pixels<A>(0, low.width, 0);
  }

  // `make(j, row)` writes row j at the higher rate; it is asked for rows in order, for each at most once.
  template <typename Make> void run(const MapView<T>& out, Make&& make) {
    const auto keep = [](index, Vec<A> v) { return v; };
    index next = 0;
    for (index i = 0; i < low_.height; ++i) {
      const index start = i * filter_.down + filter_.offset_y;
      const index first = std::max<index>(0, start), last = std::min(high_.height - 1, start + taps_ - 1);
      next = std::max(next, first);
      for (; next <= last; ++next) {
        Pixels<A>& kept = ring_[next % taps_];
        make(next, flat_ ? high_row_.at(0) : kept.at(0));
        if (flat_)
          fir_pixels<false, A>(high_row_.at(filter_.offset_x), filter_.down, w_.data(), taps_, kept.at(0), 1, low_.width, keep);
      }
      if (flat_) {
        rows_.clear(), weights_.clear();
        for (index j = first; j <= last; ++j) {
          rows_.push_back(ring_[j % taps_].at(0));
          weights_.push_back(w_[j - start]);
        }
        combine_pixels<A>(rows_.data(), weights_.data(), rows_.size(), Vec<A>{}, line_.at(0), low_.width);
      } else {
        std::fill(line_.at(0), line_.at(low_.width), A(0));
        for (index j = first; j <= last; ++j)
          fir_pixels<true, A>(ring_[j % taps_].at(filter_.offset_x), filter_.down, w2_.data() + (j - start) * taps_, taps_,
                              line_.at(0), 1, low_.width, keep);
      }
      write_row<T>(out, i, low_.width, line_.at(0));
    }
  }

 private:
  const DownFilter& filter_;
  MapSize high_, low_;
  bool flat_;
  index taps_;
  std::vector<A> w_, w2_;
  std::vector<Pixels<A>> ring_;
  Pixels<A> high_row_, line_;
  std::vector<const A*> rows_;
  std::vector<A> weights_;
};

// The leaky ReLU of values that have the gain already; clamp < 0 for none.
struct Knee {
  double slope, clamp;
};

// The value, for maps of one shape: what one thread needs.
template <typename T> class FilteredLrelu {
 public:
  using A = typename Compute<T>::type;

  FilteredLrelu(const UpFilter& up, const DownFilter& down, MapSize low, MapSize high, MapSize out, Knee knee)
      : knee_(knee), source_(up, low, high), sink_(down, high, out) {}

  void value(const MapView<const T>& x, Vec<A> bias, const MapView<T>& out) {
    const Vec<A> slope = splat<A>(A(knee_.slope));
    const Vec<A> high = splat<A>(A(knee_.clamp)), low = splat<A>(A(-knee_.clamp));
    const auto activate = [&](index, Vec<A> v) { return v > 0 ? v : v * slope; };
    const auto clamped = [&](index, Vec<A> v) {
      v = v > 0 ? v : v * slope;
      // NaN stays NaN.
      v = v < low ? low : v;
      return v > high ? high : v;
    };
    source_.start(x, bias);
    if (knee_.clamp >= 0)
      sink_.run(out, [&](index j, A* row) { source_.row(j, row, clamped); });
    else
      sink_.run(out, [&](index j, A* row) { source_.row(j, row, activate); });
  }

 private:
  Knee knee_;
  Source<T> source_;
  Sink<T> sink_;
};

// The gradient with respect to x: the cotangent goes up through the transpose of the downsampling, is multiplied by
// the slope where x is after upsampling, and goes down through the transpose of the upsampling.
template <typename T> class FilteredLreluGradient {
 public:
  using A = typename Compute<T>::type;

  FilteredLreluGradient(const UpFilter& up, const UpFilter& back_up, const DownFilter& back_down, MapSize low,
                        MapSize high, MapSize out, Knee knee)
      : knee_(knee), x_(up, low, high), cotangent_(back_up, out, high), sink_(back_down, high, low), slopes_(0, high.width, 0) {}

  void gradient(const MapView<const T>& x, Vec<A> bias, const MapView<const T>& cotangent, const MapView<T>& out) {
    const Vec<A> slope = splat<A>(A(knee_.slope)), one = splat<A>(1), zero = {};
    const Vec<A> high = splat<A>(knee_.clamp >= 0 ? A(knee_.clamp) : A(INFINITY)), low = -high;
    const auto derivative = [&](index, Vec<A> v) {
      Vec<A> d = v > 0 ? one : slope;
      const Vec<A> y = v * d;
      d = y > high ? zero : d;
      return y < low ? zero : d;
    };
    const auto multiply = [&](index k, Vec<A> v) { return v * load(slopes_.at(k)); };
    x_.start(x, bias);
    cotangent_.start(cotangent, zero);
    sink_.run(out, [&](index j, A* row) {
      x_.row(j, slopes_.at(0), derivative);
      cotangent_.row(j, row, multiply);
    });
  }

 private:
  Knee knee_;
  Source<T> x_, cotangent_;
  Sink<T> sink_;
  Pixels<A> slopes_;
};

}  // namespace draggan
