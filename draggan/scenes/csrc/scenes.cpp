// Plain C interface to the scenes; ../scene.py calls it through ctypes. All functions return 0, or 1 for an unknown
// scene and 2 for widths that disagree.
#include <algorithm>
#include <vector>

#include "flow.h"
#include "scenes.h"

using namespace draggan;

#define EXPORT extern "C" __attribute__((visibility("default")))

// parameters [count, width]; picture [count, 3, size, size] and importance [count, size, size], or both null;
// landmarks [count, marks, 3] = x, y in pixels, visible 0 or 1.
EXPORT int draggan_draw(int scene, const float* parameters, int count, int width, int size, uint8_t* picture,
                        uint8_t* importance, float* landmarks, int marks, int threads) {
  return with_scene(scene, width, [&](auto kind) {
    using Scene = typename decltype(kind)::Type;
    if (marks != Scene::LANDMARKS) return WRONG_WIDTHS;
    const size_t pixels = (size_t)size * size;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++) {
      Scene one(parameters + (size_t)i * width);
      if (picture) render(one, size, picture + i * 3 * pixels, importance + i * pixels);
      project(one, one.landmarks(), size, 0.035f, landmarks + (size_t)i * marks * 3);
    }
    return 0;
  });
}

// segments [count, size, size]: a number in the scene's parts per pixel.
EXPORT int draggan_segments(int scene, const float* parameters, int count, int width, int size, uint8_t* out,
                            int threads) {
  return with_scene(scene, width, [&](auto kind) {
    using Scene = typename decltype(kind)::Type;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++)
      segments(Scene(parameters + (size_t)i * width), size, out + (size_t)i * size * size);
    return 0;
  });
}

// rest [width]: the parameters at which the material is defined; a, b [count, width]; points [count, marks, 2] in
// pixels of a; out [count, marks, 3] = x, y in pixels of b, visible 0 or 1.
EXPORT int draggan_flow(int scene, const float* rest, const float* a, const float* b, int count, int width, int size,
                        const float* points, int marks, float* out, int threads) {
  return with_scene(scene, width, [&](auto kind) {
    using Scene = typename decltype(kind)::Type;
    const Scene still(rest);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++) {
      Scene from(a + (size_t)i * width), to(b + (size_t)i * width);
      flow(still, from, to, size, points + (size_t)i * marks * 2, marks, out + (size_t)i * marks * FLOW_COLUMNS);
    }
    return 0;
  });
}
