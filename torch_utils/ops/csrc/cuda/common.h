// What the bodies of the CUDA kernels share.
//
// A body is a plain struct whose phases are run by every thread of a block, with a barrier between two phases. It
// compiles without CUDA too, so that `emulate.cpp` can run it on a processor, thread by thread: the index arithmetic that
// runs on a GPU is the one that the tests check.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define DRAGGAN_HD __host__ __device__ __forceinline__
#else
#define DRAGGAN_HD inline
#endif

namespace draggan {

DRAGGAN_HD int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
DRAGGAN_HD int ceil_div(int a, int b) { return -floor_div(-a, b); }
DRAGGAN_HD int smaller(int a, int b) { return a < b ? a : b; }
DRAGGAN_HD int larger(int a, int b) { return a > b ? a : b; }

// gain times the slope of the leaky ReLU at v, 0 where the result is beyond the limit; limit < 0 for none.
struct Knee {
  float slope, gain, limit;

  DRAGGAN_HD float derivative(float v) const {
    const float d = v > 0 ? gain : gain * slope, y = v * d;
    return limit >= 0 && (y > limit || y < -limit) ? 0.0f : d;
  }
  DRAGGAN_HD float value(float v) const {
    float y = v * (v > 0 ? gain : gain * slope);
    if (limit >= 0) {
      // NaN stays NaN.
      y = y < -limit ? -limit : y;
      y = y > limit ? limit : y;
    }
    return y;
  }
};

// A rectangle of a map in shared memory.
struct Tile {
  float* data;
  // Of the first cell, in cells of the map it is cut from.
  int y, x;
  int height, width;
};

// Inputs that outputs [first, first + count) of `sum_i in[i] f[j * down + offset - i * up]` depend on.
DRAGGAN_HD int first_input(int first, int up, int down, int taps, int offset) {
  return ceil_div(first * down + offset - taps + 1, up);
}
DRAGGAN_HD int input_count(int count, int up, int down, int taps) { return ((count - 1) * down + taps - 1) / up + 2; }

// A rectangle of a plane plus a constant; zero outside the plane. Strides in elements.
template <typename T>
DRAGGAN_HD void load_tile(const T* plane, int height, int width, int64_t row, int64_t pixel, float constant, Tile to,
                          int thread, int threads) {
  for (int k = thread; k < to.height * to.width; k += threads) {
    const int y = to.y + k / to.width, x = to.x + k % to.width;
    const bool in = y >= 0 && y < height && x >= 0 && x < width;
    to.data[k] = in ? static_cast<float>(plane[y * row + x * pixel]) + constant : 0.0f;
  }
}

// out[j] = sum_i in[i] f[j * down + offset - i * up] along columns; the tiles have the same x and width.
DRAGGAN_HD void filter_columns(Tile in, const float* f, int taps, int up, int down, int offset, Tile out, int thread,
                               int threads) {
  for (int k = thread; k < out.height * out.width; k += threads) {
    const int x = k % out.width, at = (out.y + k / out.width) * down + offset;
    float s = 0;
    // The last tap that meets an input, and from there every up-th.
    for (int i = ceil_div(at - taps + 1, up); i * up <= at; ++i) s += f[at - i * up] * in.data[(i - in.y) * in.width + x];
    out.data[k] = s;
  }
}

// Likewise along rows; the tiles have the same y and height. `post(y, x, k, sum)` is what is stored.
template <typename Post>
DRAGGAN_HD void filter_rows(Tile in, const float* f, int taps, int up, int down, int offset, Tile out, int thread,
                            int threads, Post post) {
  for (int k = thread; k < out.height * out.width; k += threads) {
    const int y = k / out.width, x = out.x + k % out.width, at = x * down + offset;
    const float* row = in.data + y * in.width - in.x;
    float s = 0;
    for (int i = ceil_div(at - taps + 1, up); i * up <= at; ++i) s += f[at - i * up] * row[i];
    out.data[k] = post(out.y + y, x, k, s);
  }
}

}  // namespace draggan
