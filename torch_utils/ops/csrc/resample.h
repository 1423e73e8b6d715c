// Rows of a map through short filters, with zero insertion or decimation. Shared by upfirdn2d and filtered_lrelu.
//
// A row is `count` pixels of `inner` numbers each (1 for [.., height, width], the channels for channels last).
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "simd.h"

namespace draggan {

using index = std::ptrdiff_t;

inline index floor_div(index a, index b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
inline index ceil_div(index a, index b) { return -floor_div(-a, b); }

// A row in the computing type with zeros before and after, and room for whole vectors behind.
template <typename A> class Row {
 public:
  static constexpr int kBlock = 4 * lanes<A>;

  Row() = default;
  Row(index before, index count, index after, index inner)
      : data_((before + count + after) * inner + 2 * kBlock), start_(before * inner) {}
  A* begin() { return data_.data() + start_; }
  const A* begin() const { return data_.data() + start_; }

 private:
  std::vector<A> data_;
  index start_ = 0;
};

// dst[i] (+)= sum_t w[t] src[i + t * step] for 0 <= i < n, and for some i beyond: both must be rows.
template <typename A, bool add> void fir(const A* src, const A* w, int taps, index step, A* dst, index n) {
  for (index i = 0; i < n; i += Row<A>::kBlock) {
    Vec<A> s[4];
    for (int v = 0; v < 4; ++v) s[v] = add ? load(dst + i + v * lanes<A>) : Vec<A>{};
    const A* from = src + i;
    for (int t = 0; t < taps; ++t, from += step) {
      const Vec<A> tap = splat<A>(w[t]);
      for (int v = 0; v < 4; ++v) s[v] += tap * load(from + v * lanes<A>);
    }
    for (int v = 0; v < 4; ++v) store(dst + i + v * lanes<A>, s[v]);
  }
}

// dst[i] = constant + sum_k w[k] rows[k][i] for 0 <= i < n; nothing beyond n is touched.
template <typename T, typename A>
void combine(const T* const* rows, const A* w, int count, A constant, A* dst, index n) {
  constexpr int L = lanes<A>;
  index i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    Vec<A> s[4];
    for (int v = 0; v < 4; ++v) s[v] = splat<A>(constant);
    for (int k = 0; k < count; ++k) {
      const Vec<A> weight = splat<A>(w[k]);
      for (int v = 0; v < 4; ++v) s[v] += weight * load(rows[k] + i + v * L);
    }
    for (int v = 0; v < 4; ++v) store(dst + i + v * L, s[v]);
  }
  for_vectors<A>(n - i, [&](index j, auto m) {
    Vec<A> s = splat<A>(constant);
    for (int k = 0; k < count; ++k) s += splat<A>(w[k]) * load_some(rows[k] + i + j, m);
    store_some(dst + i + j, s, m);
  });
}

// out[U r + p] = phases[p][r], for n outputs.
template <typename A, int U> void interleave_by(const A* const* phases, A* out, index n) {
  const index whole = n / U;
  for (index r = 0; r < whole; ++r)
    for (int p = 0; p < U; ++p) out[U * r + p] = phases[p][r];
  for (index j = whole * U; j < n; ++j) out[j] = phases[j % U][j / U];
}
// parts[q][r] = in[D r + q] for the given number of r each.
template <typename A, int D> void deinterleave_by(const A* in, A* const* parts, index n) {
  for (index r = 0; r < n; ++r)
    for (int q = 0; q < D; ++q) parts[q][r] = in[D * r + q];
}

// out[j] = sum_i in[i] f[j + offset - i * up] for 0 <= j < size: upsampling along a row.
template <typename A> class UpRow {
 public:
  UpRow() = default;
  UpRow(const double* f, int taps, int up, index offset, index low, index size, index inner)
      : up_(up), size_(size), inner_(inner), low_(low) {
    for (int p = 0; p < up; ++p) {
      Phase phase;
      const index base = floor_div(p + offset, up);
      const index q = p + offset - base * up;
      for (index tap = q; tap < taps; tap += up) phase.w.push_back(static_cast<A>(f[tap]));
      std::reverse(phase.w.begin(), phase.w.end());
      phase.first = base - static_cast<index>(phase.w.size()) + 1;
      phase.count = size > p ? (size - p - 1) / up + 1 : 0;
      before_ = std::max(before_, -phase.first);
      after_ = std::max(after_, phase.first + phase.count - 1 + static_cast<index>(phase.w.size()) - low);
      if (up > 1) phase.out = Row<A>(0, phase.count, 0, inner);
      phases_.push_back(std::move(phase));
    }
  }
  // A row for the input, with the zeros that the filter will read.
  Row<A> input() const { return Row<A>(before_, low_, after_, inner_); }

  // Writes (or adds to) size pixels of out, which is a row.
  template <bool add> void run(const Row<A>& in, A* out) {
    if (up_ == 1) {
      const Phase& p = phases_[0];
      fir<A, add>(in.begin() + p.first * inner_, p.w.data(), p.w.size(), inner_, out, size_ * inner_);
      return;
    }
    const A* parts[kMaxRate];
    for (int k = 0; k < up_; ++k) {
      Phase& p = phases_[k];
      fir<A, false>(in.begin() + p.first * inner_, p.w.data(), p.w.size(), inner_, p.out.begin(), p.count * inner_);
      parts[k] = p.out.begin();
    }
    if (add || inner_ > 1 || (up_ != 2 && up_ != 4)) {
      for (index j = 0; j < size_; ++j) {
        const A* from = parts[j % up_] + j / up_ * inner_;
        for (index c = 0; c < inner_; ++c) out[j * inner_ + c] = (add ? out[j * inner_ + c] : A(0)) + from[c];
      }
    } else if (up_ == 2) {
      interleave_by<A, 2>(parts, out, size_);
    } else {
      interleave_by<A, 4>(parts, out, size_);
    }
  }

  static constexpr int kMaxRate = 16;

 private:
  struct Phase {
    std::vector<A> w;
    index first = 0, count = 0;
    Row<A> out;
  };
  int up_ = 1;
  index size_ = 0, inner_ = 1, low_ = 0, before_ = 0, after_ = 0;
  std::vector<Phase> phases_;
};

// out[i] = sum_t g[t] in[i * down + t + offset] for 0 <= i < size: decimation along a row of `high` pixels.
// The row is first split by its index modulo `down`; that may be done once for several filters.
template <typename A> class DownRow {
 public:
  struct Parts {
    std::vector<Row<A>> rows;
  };

  DownRow() = default;
  DownRow(const double* g, int taps, int down, index offset, index high, index size, index inner)
      : down_(down), high_(high), size_(size), inner_(inner), filters_(down) {
    for (int t = 0; t < taps; ++t) {
      const index m = floor_div(t + offset, down);
      Filter& f = filters_[t + offset - m * down];
      if (f.w.empty()) f.first = m;
      f.w.push_back(static_cast<A>(g[t]));
    }
    for (const Filter& f : filters_) {
      if (f.w.empty()) continue;
      before_ = std::max(before_, -f.first);
      after_ = std::max(after_, f.first + size - 1 + static_cast<index>(f.w.size()) - ceil_div(high, down));
    }
  }
  Parts parts() const {
    Parts p;
    for (int q = 0; q < down_; ++q) p.rows.emplace_back(before_, ceil_div(high_, down_), after_, inner_);
    return p;
  }
  // `in` is a row; what it holds beyond its end is not used.
  void split(A* in, Parts& parts) const {
    const index n = ceil_div(high_, down_);
    std::fill(in + high_ * inner_, in + n * down_ * inner_, A(0));
    A* to[UpRow<A>::kMaxRate];
    for (int q = 0; q < down_; ++q) to[q] = parts.rows[q].begin();
    if (down_ == 1) {
      std::copy(in, in + n * inner_, to[0]);
    } else if (inner_ == 1 && down_ == 2) {
      deinterleave_by<A, 2>(in, to, n);
    } else if (inner_ == 1 && down_ == 4) {
      deinterleave_by<A, 4>(in, to, n);
    } else {
      for (index j = 0; j < n * down_; ++j)
        std::copy(in + j * inner_, in + (j + 1) * inner_, to[j % down_] + j / down_ * inner_);
    }
  }
  template <bool add> void run(const Parts& parts, A* out) const {
    bool more = add;
    for (int q = 0; q < down_; ++q) {
      const Filter& f = filters_[q];
      if (f.w.empty()) continue;
      const A* from = parts.rows[q].begin() + f.first * inner_;
      if (more)
        fir<A, true>(from, f.w.data(), f.w.size(), inner_, out, size_ * inner_);
      else
        fir<A, false>(from, f.w.data(), f.w.size(), inner_, out, size_ * inner_);
      more = true;
    }
  }

 private:
  struct Filter {
    std::vector<A> w;
    index first = 0;
  };
  int down_ = 1;
  index high_ = 0, size_ = 0, inner_ = 1, before_ = 0, after_ = 0;
  std::vector<Filter> filters_;
};

// fy and fx with f[y][x] = fy[y] fx[x], if there are any.
inline bool separate(const double* f, int fh, int fw, std::vector<double>& fy, std::vector<double>& fx) {
  int py = 0, px = 0;
  for (int y = 0; y < fh; ++y)
    for (int x = 0; x < fw; ++x)
      if (std::abs(f[y * fw + x]) > std::abs(f[py * fw + px])) py = y, px = x;
  const double pivot = f[py * fw + px];
  fy.assign(fh, 0), fx.assign(fw, 0);
  for (int y = 0; y < fh; ++y) fy[y] = f[y * fw + px];
  for (int x = 0; x < fw; ++x) fx[x] = pivot == 0 ? 0 : f[py * fw + x] / pivot;
  for (int y = 0; y < fh; ++y)
    for (int x = 0; x < fw; ++x)
      // The filters are float32.
      if (std::abs(f[y * fw + x] - fy[y] * fx[x]) > 1e-7 * std::abs(pivot)) return false;
  return true;
}

}  // namespace draggan
