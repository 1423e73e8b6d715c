// Upsample, leaky ReLU, clamp, downsample, a tile of one channel per block; what is between stays in shared memory.
#pragma once

#include "common.h"

namespace draggan {

// What the forward pass and the gradient have in common.
template <typename T> struct LreluMaps {
  int64_t channels, planes;
  // x is [planes, low], the result [planes, out], without gaps.
  int low_height, low_width, high_height, high_width, out_height, out_width;
  int up, down, taps_up, taps_down, offset_y, offset_x;
  // fu has the gain; fd is flipped, [taps_down] or, if `flat` is false, [taps_down, taps_down].
  const float *fu, *fd;
  const float* bias;
  bool flat;
  // The gain is in the filter, so it is 1 here.
  Knee knee;
  // Of the map that is made.
  int tile;

  DRAGGAN_HD float bias_of(int64_t plane) const { return bias ? bias[plane % channels] : 0.0f; }
};

template <typename T> struct FilteredLrelu : LreluMaps<T> {
  static constexpr int kPhases = 5;
  const T* x;
  T* out;

  DRAGGAN_HD int tiles_x() const { return (this->out_width + this->tile - 1) / this->tile; }
  DRAGGAN_HD int tiles_y() const { return (this->out_height + this->tile - 1) / this->tile; }
  DRAGGAN_HD int64_t blocks() const { return int64_t(tiles_x()) * tiles_y() * this->planes; }
  // Cells of the high and of the low map along one axis.
  DRAGGAN_HD int high_part() const { return (this->tile - 1) * this->down + this->taps_down; }
  DRAGGAN_HD int low_part() const { return input_count(high_part(), this->up, 1, this->taps_up); }
  // Numbers of shared memory: [low, low] and later [high, tile]; [high, low]; [high, high].
  DRAGGAN_HD int shared() const {
    const int h = high_part(), l = low_part();
    return larger(l * l, h * this->tile) + h * l + h * h;
  }

  DRAGGAN_HD void phase(int k, int64_t block, int thread, int threads, float* shared) const {
    const int tx = block % tiles_x(), ty = block / tiles_x() % tiles_y(), h = high_part(), l = low_part();
    const int64_t plane = block / tiles_x() / tiles_y();
    const int x0 = tx * this->tile, y0 = ty * this->tile;
    // High cells begin at the first tap of the first output.
    const int hy = y0 * this->down, hx = x0 * this->down;
    const int ly = first_input(hy, this->up, 1, this->taps_up, this->offset_y);
    const int lx = first_input(hx, this->up, 1, this->taps_up, this->offset_x);
    float* second = shared + larger(l * l, h * this->tile);
    const Tile low{shared, ly, lx, l, l}, tall{second, hy, lx, h, l}, high{second + h * l, hy, hx, h, h};
    const Tile narrow{shared, hy, x0, h, this->tile};
    const Knee knee = this->knee;
    switch (k) {
      case 0:
        load_tile(x + plane * this->low_height * this->low_width, this->low_height, this->low_width, this->low_width, 1,
                  this->bias_of(plane), low, thread, threads);
        return;
      case 1: filter_columns(low, this->fu, this->taps_up, this->up, 1, this->offset_y, tall, thread, threads); return;
      case 2:
        filter_rows(tall, this->fu, this->taps_up, this->up, 1, this->offset_x, high, thread, threads,
                    [=](int, int, int, float v) { return knee.value(v); });
        return;
      case 3:
        if (!this->flat) return;
        for (int c = thread; c < h * this->tile; c += threads) {
          const float* from = high.data + c / this->tile * h + c % this->tile * this->down;
          float s = 0;
          for (int t = 0; t < this->taps_down; ++t) s += this->fd[t] * from[t];
          narrow.data[c] = s;
        }
        return;
      default:
        for (int c = thread; c < this->tile * this->tile; c += threads) {
          const int y = c / this->tile, x = c % this->tile;
          if (y0 + y >= this->out_height || x0 + x >= this->out_width) continue;
          float s = 0;
          for (int t = 0; t < this->taps_down; ++t) {
            if (this->flat) {
              s += this->fd[t] * narrow.data[(y * this->down + t) * this->tile + x];
              continue;
            }
            const float* from = high.data + (y * this->down + t) * h + x * this->down;
            for (int u = 0; u < this->taps_down; ++u) s += this->fd[t * this->taps_down + u] * from[u];
          }
          out[(plane * this->out_height + y0 + y) * this->out_width + x0 + x] = static_cast<T>(s);
        }
    }
  }
};

// The gradient with respect to x; separable filters only.
template <typename T> struct FilteredLreluGradient : LreluMaps<T> {
  static constexpr int kPhases = 8;
  const T *x, *grad;
  T* out;

  DRAGGAN_HD int tiles_x() const { return (this->low_width + this->tile - 1) / this->tile; }
  DRAGGAN_HD int tiles_y() const { return (this->low_height + this->tile - 1) / this->tile; }
  DRAGGAN_HD int64_t blocks() const { return int64_t(tiles_x()) * tiles_y() * this->planes; }
  DRAGGAN_HD int high_part() const { return (this->tile - 1) * this->up + this->taps_up; }
  // Along one axis: of x, and of the cotangent.
  DRAGGAN_HD int x_part() const { return input_count(high_part(), this->up, 1, this->taps_up); }
  DRAGGAN_HD int grad_part() const { return input_count(high_part(), this->down, 1, this->taps_down); }
  // Numbers of shared memory: [x, x], [grad, grad] and later [high, tile]; [high, x] or [high, grad]; [high, high].
  DRAGGAN_HD int shared() const {
    const int h = high_part(), a = x_part(), g = grad_part();
    return larger(larger(a * a, g * g), h * this->tile) + h * larger(a, g) + h * h;
  }

  DRAGGAN_HD void phase(int k, int64_t block, int thread, int threads, float* shared) const {
    const int tx = block % tiles_x(), ty = block / tiles_x() % tiles_y(), h = high_part(), a = x_part(), g = grad_part();
    const int64_t plane = block / tiles_x() / tiles_y();
    const int x0 = tx * this->tile, y0 = ty * this->tile;
    // gx[i] = sum_j high[j] fu[j + offset - i * up]: the first high cell is i * up - offset, which may be outside.
    const int hy = y0 * this->up - this->offset_y, hx = x0 * this->up - this->offset_x;
    const int ay = first_input(hy, this->up, 1, this->taps_up, this->offset_y);
    const int ax = first_input(hx, this->up, 1, this->taps_up, this->offset_x);
    const int gy = first_input(hy, this->down, 1, this->taps_down, 0), gx = first_input(hx, this->down, 1, this->taps_down, 0);
    float* second = shared + larger(larger(a * a, g * g), h * this->tile);
    const Tile high{second + h * larger(a, g), hy, hx, h, h}, narrow{shared, hy, x0, h, this->tile};
    const Tile low{shared, ay, ax, a, a}, tall{second, hy, ax, h, a};
    const Tile given{shared, gy, gx, g, g}, given_tall{second, hy, gx, h, g};
    const Knee knee = this->knee;
    const float* slopes = high.data;
    const int bottom = this->high_height, right = this->high_width;
    switch (k) {
      case 0:
        load_tile(x + plane * this->low_height * this->low_width, this->low_height, this->low_width, this->low_width, 1,
                  this->bias_of(plane), low, thread, threads);
        return;
      case 1: filter_columns(low, this->fu, this->taps_up, this->up, 1, this->offset_y, tall, thread, threads); return;
      case 2:
        filter_rows(tall, this->fu, this->taps_up, this->up, 1, this->offset_x, high, thread, threads,
                    [=](int, int, int, float v) { return knee.derivative(v); });
        return;
      case 3:
        load_tile(grad + plane * this->out_height * this->out_width, this->out_height, this->out_width, this->out_width,
                  1, 0.0f, given, thread, threads);
        return;
      case 4: filter_columns(given, this->fd, this->taps_down, this->down, 1, 0, given_tall, thread, threads); return;
      case 5:
        filter_rows(given_tall, this->fd, this->taps_down, this->down, 1, 0, high, thread, threads,
                    [=](int y, int x, int i, float v) {
                      return y >= 0 && y < bottom && x >= 0 && x < right ? v * slopes[i] : 0.0f;
                    });
        return;
      case 6:
        for (int c = thread; c < h * this->tile; c += threads) {
          const float* from = high.data + c / this->tile * h + c % this->tile * this->up;
          float s = 0;
          for (int t = 0; t < this->taps_up; ++t) s += this->fu[t] * from[t];
          narrow.data[c] = s;
        }
        return;
      default:
        for (int c = thread; c < this->tile * this->tile; c += threads) {
          const int y = c / this->tile, x = c % this->tile;
          if (y0 + y >= this->low_height || x0 + x >= this->low_width) continue;
          float s = 0;
          for (int t = 0; t < this->taps_up; ++t) s += this->fu[t] * narrow.data[(y * this->up + t) * this->tile + x];
          out[(plane * this->low_height + y0 + y) * this->low_width + x0 + x] = static_cast<T>(s);
        }
    }
  }
};

}  // namespace draggan
