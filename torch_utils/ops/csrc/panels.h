// Matrix products of float32 whose left rows may lie anywhere: sums over taps of rows[tap][r][c] * weight[tap][c][k]. The
// weights are cut into panels of as many columns as, for a handful of rows, fit into a processor's registers.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "simd.h"

namespace draggan {

using index = std::ptrdiff_t;

// Rows and vectors of the block of results that stays in registers: of 32, or of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 14, kWide = 2;
#else
constexpr int kRows = 6, kWide = 2;
#endif
constexpr index kPanel = kWide * lanes<float>;

// A map that is channels last: its size, and what lies between neighbours of each axis.
template <typename T> struct Map {
  T* start;
  index batch, height, width, sample, row, cell;

  T* at(index n, index y, index x) const { return start + n * sample + y * row + x * cell; }
};

// How far ahead weights are asked for, in inputs.
constexpr index kAhead = 32;

// Loops over rows and vectors are written out, or the sums would not stay in registers.
#if defined(__clang__)
#define DRAGGAN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define DRAGGAN_UNROLL _Pragma("GCC unroll 16")
#endif

inline index round_up(index n, index to) { return (n + to - 1) / to * to; }
inline index panels(index columns) { return round_up(columns, kPanel) / kPanel; }

// R rows by one panel. rows: [taps][R]; weight: where each tap's [in][kPanel] begins; out: [R], `columns` of each written.
template <int R>
void product(const float* const* rows, const float* const* weight, index taps, index in, float* const* out,
             index columns) {
  Vec<float> sums[R][kWide] = {};
  for (index t = 0; t < taps; ++t, rows += R) {
    const float* from[R];
    DRAGGAN_UNROLL
    for (int r = 0; r < R; ++r) from[r] = rows[r];
    const float* w = weight[t];
    for (index c = 0; c < in; ++c, w += kPanel) {
      // Weights come from far away the first time, and processors do not look ahead over the ends of pages.
      for (int j = 0; j < kWide; ++j) __builtin_prefetch(w + kAhead * kPanel + j * lanes<float>);
      Vec<float> v[kWide];
      DRAGGAN_UNROLL
      for (int j = 0; j < kWide; ++j) v[j] = load(w + j * lanes<float>);
      DRAGGAN_UNROLL
      for (int r = 0; r < R; ++r) {
        const Vec<float> x = splat(from[r][c]);
        DRAGGAN_UNROLL
        for (int j = 0; j < kWide; ++j) sums[r][j] += x * v[j];
      }
    }
  }
  DRAGGAN_UNROLL
  for (int r = 0; r < R; ++r) {
    DRAGGAN_UNROLL
    for (int j = 0; j < kWide; ++j) {
      const index left = columns - j * lanes<float>;
      if (left >= lanes<float>)
        store(out[r] + j * lanes<float>, sums[r][j]);
      else if (left > 0)
        store_part(out[r] + j * lanes<float>, sums[r][j], static_cast<int>(left));
    }
  }
}

using Product = void (*)(const float* const*, const float* const*, index, index, float* const*, index);
template <int... R> constexpr std::array<Product, sizeof...(R)> products(std::integer_sequence<int, R...>) {
  return {product<R + 1>...};
}
// Of 1 to kRows rows.
inline Product product_of(index rows) {
  static constexpr auto of_rows = products(std::make_integer_sequence<int, kRows>{});
  return of_rows[rows - 1];
}

// Calls f(first, count) for [0, rows) in blocks of at most kRows, of about one size rather than full ones and a rest.
template <typename F> void for_blocks(index rows, F&& f) {
  const index blocks = (rows + kRows - 1) / kRows;
  for (index b = 0; b < blocks; ++b) f(b * rows / blocks, (b + 1) * rows / blocks - b * rows / blocks);
}

}  // namespace draggan
