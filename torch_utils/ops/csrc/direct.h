// Convolutions of float32 maps that are channels last: at stride 1 or 2, or transposed at stride 2. The map is not unfolded:
// the rows of the product are its cells, as each tap sees them.
#pragma once

#include <vector>

#include "panels.h"

namespace draggan::direct {

// How weights are kept: [panel of outputs][tap][input][output in the panel].
struct Packed {
  index in, out, kernel;

  index taps() const { return kernel * kernel; }
  index size() const { return panels(out) * taps() * in * kPanel; }
  index tap(index panel, index t) const { return (panel * taps() + t) * in * kPanel; }

  // One panel of weights [out][in][kernel][kernel].
  void pack(const float* weight, float* to, index panel) const {
    for (index t = 0; t < taps(); ++t)
      for (index c = 0; c < in; ++c)
        for (index k = 0; k < kPanel; ++k) {
          const index o = panel * kPanel + k;
          to[tap(panel, t) + c * kPanel + k] = o < out ? weight[(o * in + c) * taps() + t] : 0.f;
        }
  }
};

// Cells of the result that take the same taps: cell (u, v) of them is cell (from + step * u, ...) of the result, and tap i
// of it is cell (in_step * u + taps[i].y, ...) of the input.
struct Phase {
  struct Tap {
    index which, y, x;
  };
  index top, left, step, rows, columns, in_step;
  std::vector<Tap> taps;
};

inline Phase straight(index kernel, index stride, index padding, index height, index width) {
  Phase phase{0, 0, 1, height, width, stride, {}};
  for (index a = 0; a < kernel; ++a)
    for (index b = 0; b < kernel; ++b) phase.taps.push_back({a * kernel + b, a - padding, b - padding});
  return phase;
}

// Transposed at stride 2: cell 2 i + a of the result takes tap a of cell i.
inline std::vector<Phase> transposed(index kernel, index height, index width) {
  std::vector<Phase> phases;
  for (index y = 0; y < 2; ++y)
    for (index x = 0; x < 2; ++x) {
      Phase phase{y, x, 2, (height - y + 1) / 2, (width - x + 1) / 2, 1, {}};
      for (index a = y; a < kernel; a += 2)
        for (index b = x; b < kernel; b += 2) phase.taps.push_back({a * kernel + b, (y - a) / 2, (x - b) / 2});
      phases.push_back(phase);
    }
  return phases;
}

// Cells that are a multiple of this many floats apart lie in the same lines of a processor's first cache.
constexpr index kConflict = 1024;

// A convolution in pieces: a piece is one panel of some cells. zeros: as many as there are input channels.
struct Work {
  const std::vector<Phase>& phases;
  const Packed& packed;
  Map<const float> from;
  const float *weights, *zeros;
  Map<float> to;
  index parts;  // of the cells

  index pieces() const { return panels(packed.out) * parts; }
  index multiplications() const {  // of one piece
    index sum = 0;
    for (const Phase& phase : phases) sum += phase.rows * phase.columns * phase.taps.size();
    return from.batch * sum / parts * packed.in * kPanel;
  }

  void operator()(index piece) const {
    for (const Phase& phase : phases) run(phase, piece / parts, piece % parts);
  }

 private:
  void run(const Phase& phase, index panel, index part) const {
    const index cells = phase.rows * phase.columns, total = from.batch * cells, taps = phase.taps.size();
    const index start = part * total / parts, end = (part + 1) * total / parts;
    std::vector<const float*> rows(taps * kRows), tap(taps);
    for (index t = 0; t < taps; ++t) tap[t] = weights + packed.tap(panel, phase.taps[t].which);
    for_blocks(end - start, [&](index first, index count) {
      float* out[kRows];
      for (index r = 0; r < count; ++r) {
        const index cell = start + first + r, n = cell / cells;
        const index u = cell % cells / phase.columns, v = cell % phase.columns;
        out[r] = to.at(n, phase.top + phase.step * u, phase.left + phase.step * v) + panel * kPanel;
        for (index t = 0; t < taps; ++t) {
          const index y = phase.in_step * u + phase.taps[t].y, x = phase.in_step * v + phase.taps[t].x;
          const bool inside = y >= 0 && y < from.height && x >= 0 && x < from.width;
          rows[t * count + r] = inside ? from.at(n, y, x) : zeros;
        }
      }
      product_of(count)(rows.data(), tap.data(), taps, packed.in, out, packed.out - panel * kPanel);
    });
  }
};

}  // namespace draggan::direct
