// Pictures and segments one pixel at a time: what a thread of a GPU does, and emulate.cpp on a processor.
//
// A picture takes two passes, because whether a pixel lies on an edge depends on its neighbours: `first_look` at all
// pixels, then `second_look`. The rules, and the results within rounding, are those of `render` in raymarch.h.
#pragma once
#include "raymarch.h"

namespace draggan {

static_assert(LANES == 1, "a thread has one pixel");

HD static inline Channels channels(float* first, int R) {  // first: [4, R, R]
  const int P = R * R;
  return {first, first + P, first + 2 * P, first + 3 * P};
}

template <class Scene>
HD static void first_look(const Scene& scene, int R, int pixel, float* first) {
  const Place at = place(pixel, R, 0.5f, 0.5f);
  channels(first, R).put(pixel, shoot(scene, splat(at.u), splat(at.v)), 0);
}

// picture [3, R, R], importance [R, R] in sixteenths.
template <class Scene>
HD static void second_look(const Scene& scene, int R, int pixel, float* first, uint8_t* picture, uint8_t* importance) {
  const Channels seen = channels(first, R);
  float r = seen.r[pixel], g = seen.g[pixel], b = seen.b[pixel], weight = seen.importance[pixel];
  if (seen.edge(pixel, R)) {
    r = g = b = weight = 0.f;
    for (int k = 0; k < 4; k++) {
      const Place at = place(pixel, R, 0.25f + 0.5f * (k & 1), 0.25f + 0.5f * (k >> 1));
      const Sample s = shoot(scene, splat(at.u), splat(at.v));
      r += 0.25f * encode(s.colour.x[0]);
      g += 0.25f * encode(s.colour.y[0]);
      b += 0.25f * encode(s.colour.z[0]);
      weight += 0.25f * s.importance[0];
    }
  }
  const int P = R * R;
  picture[pixel] = to_byte(r);
  picture[P + pixel] = to_byte(g);
  picture[2 * P + pixel] = to_byte(b);
  importance[pixel] = to_sixteenths(weight);
}

template <class Scene>
HD static void name_part(const Scene& scene, int R, int pixel, uint8_t* segments) {
  const Place at = place(pixel, R, 0.5f, 0.5f);
  segments[pixel] = (uint8_t)(part(scene, splat(at.u), splat(at.v))[0] + 0.5f);
}

}  // namespace draggan
