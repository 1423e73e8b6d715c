// 3x3 convolutions in four times fewer multiplications: Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks", 2016), for maps that are channels last.
//
//     Y = A^T [ (G g G^T) * (B^T d B) ] A          for tiles d of 6x6 cells that give 4x4
//
// The points are 0, +-3/4, +-3/2 and infinity, which round half as much as the usual 0, +-1, +-2 (on how much the choice
// matters: Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks",
// 2020).
// Summed over channels the middle is 36 matrix products, one per frequency, of [tiles, in] by [in, out].
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "panels.h"

namespace draggan::winograd {

using V = Vec<float>;

constexpr int kTile = 4, kTaps = 3, kPatch = kTile + kTaps - 1, kFrequencies = kPatch * kPatch;
constexpr float kA = 0.75f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;

// Floats between rows that would else be a power of two apart, and share few lines of the cache.
constexpr index kSpace = 16;
// A chunk of tiles, before and after the products, has this many numbers. Where weights are many, all threads work on one
// chunk, which stays in the cache that they share, and each weight is read once per chunk. Where they are few, each thread
// has chunks of its own, which stay in its own cache.
constexpr index kShared = index{4} << 20, kOwn = index{1} << 18, kFewWeights = index{1} << 22;
// What bringing a channel of a tile to all frequencies, or back, takes in multiplications, about.
constexpr index kTransform = 500;

// B^T d
inline std::array<V, 6> into(const std::array<V, 6>& d) {
  const V even_a = d[4] - kB2 * d[2], odd_a = kA * (d[3] - kB2 * d[1]);
  const V even_b = d[4] - kA2 * d[2], odd_b = kB * (d[3] - kA2 * d[1]);
  return {kA2 * kB2 * d[0] - (kA2 + kB2) * d[2] + d[4],
          even_a + odd_a,
          even_a - odd_a,
          even_b + odd_b,
          even_b - odd_b,
          kA2 * kB2 * d[1] - (kA2 + kB2) * d[3] + d[5]};
}

// A^T m
inline std::array<V, 4> out_of(const std::array<V, 6>& m) {
  const V even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  return {m[0] + even_a + even_b, kA * odd_a + kB * odd_b, kA2 * even_a + kB2 * even_b,
          kA * kA2 * odd_a + kB * kB2 * odd_b + m[5]};
}

// G g: a row per point p, (1, p, p^2) over the product of its differences to the others.
constexpr double kGA = 1 / (2.0 * kA2 * (kA2 - kB2)), kGB = 1 / (2.0 * kB2 * (kB2 - kA2));
constexpr double kG[kPatch][kTaps] = {
    {1 / (double{kA2} * kB2), 0, 0},    {kGA, kGA * kA, kGA * kA2}, {kGA, -kGA * kA, kGA * kA2},
    {kGB, kGB * kB, kGB * kB2}, {kGB, -kGB * kB, kGB * kB2}, {0, 0, 1},
};

// How weights are kept: [frequency][panel of outputs][input][output in the panel].
struct Packed {
  index in, out;

  index size() const { return kFrequencies * panels(out) * in * kPanel; }
  index panel(index frequency, index p) const { return (frequency * panels(out) + p) * in * kPanel; }

  // One panel of all frequencies, from weights [out][in][3][3].
  void pack(const float* weight, float* u, index p) const {
    for (index c = 0; c < in; ++c)
      for (index k = 0; k < kPanel; ++k) {
        const index o = p * kPanel + k;
        double half[kPatch][kTaps] = {};
        if (o < out) {
          const float* g = weight + (o * in + c) * kTaps * kTaps;
          for (int i = 0; i < kPatch; ++i)
            for (int x = 0; x < kTaps; ++x)
              half[i][x] = kG[i][0] * g[x] + kG[i][1] * g[kTaps + x] + kG[i][2] * g[2 * kTaps + x];
        }
        for (int i = 0; i < kPatch; ++i)
          for (int j = 0; j < kPatch; ++j)
            u[panel(i * kPatch + j, p) + c * kPanel + k] = static_cast<float>(
                half[i][0] * kG[j][0] + half[i][1] * kG[j][1] + half[i][2] * kG[j][2]);
      }
  }
};

// Tiles of the result, and what they are made from.
struct Tiles {
  Map<const float> from;
  Map<float> to;
  index padding;

  index down() const { return (to.height + kTile - 1) / kTile; }
  index across() const { return (to.width + kTile - 1) / kTile; }
  index count() const { return to.batch * down() * across(); }

  // Which sample a tile is in, and the first cell of the result in it.
  struct Place {
    index n, y, x;
  };
  Place place(index t) const {
    const index rest = t % (down() * across());
    return {t / (down() * across()), rest / across() * kTile, rest % across() * kTile};
  }
};

// One tile of the input to all its frequencies, which are `apart`.
inline void take(const Tiles& tiles, index t, index channels, float* v, index apart) {
  const auto& map = tiles.from;
  const auto place = tiles.place(t);
  const index y = place.y - tiles.padding, x = place.x - tiles.padding;
  const float* corner = map.at(place.n, y, x);
  for_vectors<float>(channels, [&](index c, auto some) {
    std::array<std::array<V, kPatch>, kPatch> half;  // by column
    for (index j = 0; j < kPatch; ++j) {
      std::array<V, kPatch> d{};
      if (x + j >= 0 && x + j < map.width)
        for (index i = 0; i < kPatch; ++i)
          if (y + i >= 0 && y + i < map.height) d[i] = load_some(corner + i * map.row + j * map.cell + c, some);
      half[j] = into(d);
    }
    for (index i = 0; i < kPatch; ++i) {
      const auto d = into({half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]});
      for (index j = 0; j < kPatch; ++j) store_some(v + (i * kPatch + j) * apart + c, d[j], some);
    }
  });
}

// One tile of the result from all its frequencies.
inline void give(const Tiles& tiles, index t, const float* m, index apart, index channels) {
  const auto& map = tiles.to;
  const auto [n, y, x] = tiles.place(t);
  const index rows = std::min<index>(kTile, map.height - y), columns = std::min<index>(kTile, map.width - x);
  float* corner = map.at(n, y, x);
  for_vectors<float>(channels, [&](index c, auto some) {
    std::array<std::array<V, kTile>, kPatch> half;  // by column
    for (index j = 0; j < kPatch; ++j) {
      const float* from = m + j * apart + c;
      const index next = kPatch * apart;
      half[j] = out_of({load(from), load(from + next), load(from + 2 * next), load(from + 3 * next),
                        load(from + 4 * next), load(from + 5 * next)});
    }
    for (index i = 0; i < rows; ++i) {
      const auto d = out_of({half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]});
      for (index j = 0; j < columns; ++j) store_some(corner + i * map.row + j * map.cell + c, d[j], some);
    }
  });
}

// Memory for a chunk, kept for the next one: getting as much afresh from the system takes as long as the work. Small and
// large blocks are kept apart, so that small ones do not grow.
class Scratch {
 public:
  explicit Scratch(index size) : pool_(pool(size > kShared / 4)) {
    {
      const std::lock_guard<std::mutex> lock(pool_.mutex);
      if (!pool_.blocks.empty()) block_ = std::move(pool_.blocks.back()), pool_.blocks.pop_back();
    }
    if (block_.size < size) {
      block_.memory.reset();
      block_.memory.reset(new float[size + kPanel]);
      block_.size = size;
    }
  }
  ~Scratch() {
    try {
      const std::lock_guard<std::mutex> lock(pool_.mutex);
      pool_.blocks.push_back(std::move(block_));
    } catch (const std::bad_alloc&) {
      // Then it is not kept.
    }
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* begin() {
    return reinterpret_cast<float*>(round_up(reinterpret_cast<std::intptr_t>(block_.memory.get()), sizeof(V)));
  }

 private:
  struct Block {
    std::unique_ptr<float[]> memory;
    index size = 0;
  };
  struct Pool {
    std::mutex mutex;
    std::vector<Block> blocks;
  };
  static Pool& pool(bool large) {
    // Never destroyed: threads may still be at work when the process ends.
    static Pool* pools = new Pool[2];
    return pools[large];
  }

  Pool& pool_;
  Block block_;
};

// The convolution of some tiles, with room for all their frequencies. parallel(n, each, f) calls f(first, end) for parts of
// [0, n), each of which takes about that many multiplications.
struct Chunk {
  const Tiles& tiles;
  const Packed& packed;
  const float* u;

  index in() const { return round_up(packed.in, lanes<float>) + kSpace; }
  index out() const { return panels(packed.out) * kPanel + kSpace; }
  // Of one tile.
  index numbers() const { return kFrequencies * (in() + out()); }
  index multiplications() const { return kFrequencies * packed.in * packed.out; }

  template <typename Parallel> void run(index start, index count, float* v, Parallel&& parallel) const {
    const index in = this->in(), out = this->out();
    float* m = v + kFrequencies * count * in;
    parallel(count, kTransform * in, [&](index first, index end) {
      for (index t = first; t < end; ++t) take(tiles, start + t, packed.in, v + t * in, count * in);
    });
    parallel(kFrequencies * panels(packed.out), count * packed.in * kPanel, [&](index first, index end) {
      for (index k = first; k < end; ++k) {
        const index frequency = k / panels(packed.out), p = k % panels(packed.out);
        const float *tiles = v + frequency * count * in, *weight = u + packed.panel(frequency, p);
        float* sums = m + frequency * count * out + p * kPanel;
        for_blocks(count, [&](index first, index rows) {
          const float* take[kRows];
          float* give[kRows];
          for (index r = 0; r < rows; ++r) take[r] = tiles + (first + r) * in, give[r] = sums + (first + r) * out;
          product_of(rows)(take, &weight, 1, packed.in, give, kPanel);
        });
      }
    });
    parallel(count, kTransform * out, [&](index first, index end) {
      for (index t = first; t < end; ++t) give(tiles, start + t, m + t * out, count * out, packed.out);
    });
  }
};

template <typename Parallel>
void convolve(const Tiles& tiles, const Packed& packed, const float* u, Parallel&& parallel) {
  const Chunk chunk{tiles, packed, u};
  const bool own = packed.size() <= kFewWeights;
  const index most = std::max<index>(kRows, (own ? kOwn : kShared) / chunk.numbers());
  const index chunks = (tiles.count() + most - 1) / most, size = (tiles.count() + chunks - 1) / chunks;
  const auto each = [&](index first, index end, auto&& inner) {
    Scratch scratch(size * chunk.numbers());
    for (index k = first; k < end; ++k)
      chunk.run(k * size, std::min(size, tiles.count() - k * size), scratch.begin(), inner);
  };
  if (own && chunks > 1)
    parallel(chunks, size * chunk.multiplications(),
             [&](index first, index end) { each(first, end, [](index n, index, auto&& f) { f(0, n); }); });
  else
    each(0, chunks, parallel);
}

}  // namespace draggan::winograd
