// out[y][x] = sum_ij in[i][j] f[y * down + offset_y - i * up][x * down + offset_x - j * up]: upfirdn2d on processors.
#pragma once

#include "resample.h"

namespace draggan {

struct UpfirdnShape {
  index in_height, in_width, out_height, out_width;
  // Numbers per pixel: 1, or the channels where these come last.
  index inner;
  // Numbers from one row of the input to the next.
  index in_row;
  int up, down, taps_y, taps_x;
  index offset_y, offset_x;
};

// A filter as a sum of separable ones: one if it is separable, else one per row.
struct Terms {
  // Of each term: the weights of the rows, and the filter along a row.
  std::vector<std::vector<double>> fy, fx;

  Terms(const double* f, int fh, int fw) {
    std::vector<double> y, x;
    if (separate(f, fh, fw, y, x)) {
      fy.push_back(y), fx.push_back(x);
      return;
    }
    for (int k = 0; k < fh; ++k) {
      std::vector<double> one(fh, 0.0);
      one[k] = 1;
      fy.push_back(one);
      fx.emplace_back(f + k * fw, f + (k + 1) * fw);
    }
  }
};

// What one thread needs to filter rows.
template <typename T> class Upfirdn {
 public:
  using A = typename Compute<T>::type;

  Upfirdn(const UpfirdnShape& s, const Terms& terms) : s_(s), terms_(terms) {
    // With both rates above 1, the full upsampled row is made and decimated.
    direct_down_ = s.up == 1 && s.down > 1;
    const index high = s.down == 1 ? s.out_width : (s.out_width - 1) * s.down + 1;
    for (const auto& fx : terms.fx) {
      if (direct_down_) {
        std::vector<double> flipped(fx.rbegin(), fx.rend());
        down_.emplace_back(flipped.data(), s.taps_x, s.down, s.offset_x - s.taps_x + 1, s.in_width, s.out_width, s.inner);
      } else {
        up_.emplace_back(fx.data(), s.taps_x, s.up, s.offset_x, s.in_width, high, s.inner);
      }
    }
    if (direct_down_) {
      low_ = Row<A>(0, s.in_width + s.down, 0, s.inner);
      parts_.push_back(down_[0].parts());
    } else {
      low_ = up_[0].input();
    }
    out_ = Row<A>(0, high, 0, s.inner);
  }

  void row(const T* in, index y, T* out) {
    const index line = s_.in_width * s_.inner;
    const index at = y * s_.down + s_.offset_y;
    const index first = std::max<index>(0, ceil_div(at - s_.taps_y + 1, s_.up));
    const index last = std::min(s_.in_height - 1, floor_div(at, s_.up));
    rows_.clear();
    bool any = false;
    for (size_t k = 0; k < terms_.fy.size(); ++k) {
      rows_.clear(), weights_.clear();
      for (index i = first; i <= last; ++i) {
        const double w = terms_.fy[k][at - i * s_.up];
        if (w == 0) continue;
        rows_.push_back(in + i * s_.in_row);
        weights_.push_back(static_cast<A>(w));
      }
      if (rows_.empty()) continue;
      combine<T, A>(rows_.data(), weights_.data(), rows_.size(), A(0), low_.begin(), line);
      if (any)
        along<true>(k);
      else
        along<false>(k);
      any = true;
    }
    const index n = s_.out_width * s_.inner;
    const A* from = out_.begin();
    if (!any) std::fill(out_.begin(), out_.begin() + n, A(0));
    if (!direct_down_ && s_.down > 1 && any) {
      for (index x = 0; x < s_.out_width; ++x)
        std::copy(from + x * s_.down * s_.inner, from + (x * s_.down + 1) * s_.inner, out_.begin() + x * s_.inner);
    }
    for_vectors<A>(n, [&](index i, auto m) { store_some(out + i, load(from + i), m); });
  }

 private:
  template <bool add> void along(size_t k) {
    if (direct_down_) {
      down_[k].split(low_.begin(), parts_[0]);
      down_[k].template run<add>(parts_[0], out_.begin());
    } else {
      up_[k].template run<add>(low_, out_.begin());
    }
  }

  const UpfirdnShape& s_;
  const Terms& terms_;
  bool direct_down_;
  std::vector<UpRow<A>> up_;
  std::vector<DownRow<A>> down_;
  std::vector<typename DownRow<A>::Parts> parts_;
  Row<A> low_, out_;
  std::vector<const T*> rows_;
  std::vector<A> weights_;
};

}  // namespace draggan
