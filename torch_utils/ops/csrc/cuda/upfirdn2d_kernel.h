// out[y][x] = sum_ij in[i][j] f[y * down + offset_y - i * up][x * down + offset_x - j * up].
#pragma once

#include "common.h"

namespace draggan {

template <typename T> struct Upfirdn {
  static constexpr int kPhases = 2;

  const T* in;
  T* out;
  // [taps_y, taps_x], with the gain.
  const float* f;
  int64_t batch, channels;
  int in_height, in_width, out_height, out_width;
  int up, down, taps_y, taps_x, offset_y, offset_x;
  // Elements from sample to sample, channel to channel and so on.
  int64_t in_sample, in_channel, in_row, in_pixel, out_sample, out_channel, out_row, out_pixel;
  // Of the output that one block makes.
  int tile_height, tile_width;

  DRAGGAN_HD int tiles_x() const { return (out_width + tile_width - 1) / tile_width; }
  DRAGGAN_HD int tiles_y() const { return (out_height + tile_height - 1) / tile_height; }
  DRAGGAN_HD int64_t blocks() const { return int64_t(tiles_x()) * tiles_y() * batch * channels; }
  DRAGGAN_HD int part_height() const { return input_count(tile_height, up, down, taps_y); }
  DRAGGAN_HD int part_width() const { return input_count(tile_width, up, down, taps_x); }
  // Numbers of shared memory.
  DRAGGAN_HD int shared() const { return taps_y * taps_x + part_height() * part_width(); }

  // With shared memory: a block makes a tile of one channel.
  DRAGGAN_HD void phase(int k, int64_t block, int thread, int threads, float* shared) const {
    const int tx = block % tiles_x(), ty = block / tiles_x() % tiles_y();
    const int64_t map = block / tiles_x() / tiles_y(), n = map / channels, c = map % channels;
    const int x0 = tx * tile_width, y0 = ty * tile_height, taps = taps_y * taps_x;
    const Tile part{shared + taps, first_input(y0, up, down, taps_y, offset_y), first_input(x0, up, down, taps_x, offset_x),
                    part_height(), part_width()};
    if (k == 0) {
      for (int t = thread; t < taps; t += threads) shared[t] = f[t];
      load_tile(in + n * in_sample + c * in_channel, in_height, in_width, in_row, in_pixel, 0.0f, part, thread, threads);
      return;
    }
    for (int t = thread; t < tile_height * tile_width; t += threads) {
      const int y = y0 + t / tile_width, x = x0 + t % tile_width;
      if (y >= out_height || x >= out_width) continue;
      const int at_y = y * down + offset_y, at_x = x * down + offset_x;
      float s = 0;
      for (int i = ceil_div(at_y - taps_y + 1, up); i * up <= at_y; ++i) {
        const float* row = part.data + (i - part.y) * part.width - part.x;
        const float* tap = shared + (at_y - i * up) * taps_x;
        for (int j = ceil_div(at_x - taps_x + 1, up); j * up <= at_x; ++j) s += tap[at_x - j * up] * row[j];
      }
      out[n * out_sample + c * out_channel + y * out_row + x * out_pixel] = static_cast<T>(s);
    }
  }

  // Without: one output, straight from memory. For maps with channels last, whose neighbouring threads read neighbouring
  // channels, and for filters that do not fit.
  DRAGGAN_HD void element(int64_t k) const {
    const bool last = out_channel == 1;
    const int64_t inner = last ? channels : out_width;
    int64_t rest = k / inner;
    const int64_t a = k % inner, b = rest % (last ? out_width : out_height);
    rest /= last ? out_width : out_height;
    const int64_t d = rest % (last ? out_height : channels), n = rest / (last ? out_height : channels);
    const int64_t c = last ? a : d;
    const int x = last ? b : a, y = last ? d : b;
    const int at_y = y * down + offset_y, at_x = x * down + offset_x;
    const T* map = in + n * in_sample + c * in_channel;
    float s = 0;
    for (int i = larger(0, ceil_div(at_y - taps_y + 1, up)); i * up <= at_y && i < in_height; ++i)
      for (int j = larger(0, ceil_div(at_x - taps_x + 1, up)); j * up <= at_x && j < in_width; ++j)
        s += f[(at_y - i * up) * taps_x + at_x - j * up] * static_cast<float>(map[i * in_row + j * in_pixel]);
    out[n * out_sample + c * out_channel + y * out_row + x * out_pixel] = static_cast<T>(s);
  }
};

}  // namespace draggan
