// Plain C interface to the scenes; ../__init__.py calls it through ctypes.
#include <algorithm>
#include <vector>

#include "car.h"
#include "cat.h"
#include "face.h"
#include "flow.h"

using namespace draggan;

constexpr int CAT_LANDMARKS = 28;

template <class Scene>
static void draw(const float* parameters, int count, int width, int size, uint8_t* picture, uint8_t* importance,
                 float* landmarks, int marks, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int i = 0; i < count; i++) {
    Scene scene(parameters + (size_t)i * width);
    const size_t pixels = (size_t)size * size;
    if (picture) render(scene, size, picture + i * 3 * pixels, importance + i * pixels);
    std::vector<S3> points;
    std::vector<bool> hidden;
    scene.landmarks(points, hidden);
    float* out = landmarks + (size_t)i * marks * 3;
    project(scene, points, size, 0.035f, out);
    for (int k = 0; k < marks; k++)
      if (hidden[k]) out[3 * k + 2] = 0.f;
  }
}

// parameters [count, width]; picture [count, 3, size, size] or null; importance [count, size, size];
// landmarks [count, marks, 3] = x, y in pixels, visible 0 or 1. Returns 0, or 1 for an unknown scene or widths that disagree.
extern "C" __attribute__((visibility("default"))) int draggan_draw(int scene, const float* parameters, int count, int width,
                                                                   int size, uint8_t* picture, uint8_t* importance,
                                                                   float* landmarks, int marks, int threads) {
  if (scene == 0 && width == CAT_PARAMETERS && marks == CAT_LANDMARKS) {
    draw<Cat>(parameters, count, width, size, picture, importance, landmarks, marks, threads);
    return 0;
  }
  if (scene == 1 && width == Face::PARAMETERS && marks == Face::LANDMARKS) {
    draw<Face>(parameters, count, width, size, picture, importance, landmarks, marks, threads);
    return 0;
  }
  if (scene == 2 && width == Car::PARAMETERS && marks == Car::LANDMARKS) {
    draw<Car>(parameters, count, width, size, picture, importance, landmarks, marks, threads);
    return 0;
  }
  return 1;
}

// A scene may lack both: 2.
template <class Scene>
static int label(const float* parameters, int count, int width, int size, uint8_t* out, int threads) {
  if constexpr (HasLabel<Scene>::value) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++) {
      Scene scene(parameters + (size_t)i * width);
      segments(scene, size, out + (size_t)i * size * size);
    }
    return 0;
  }
  return 2;
}
template <class Scene>
static int follow(const float* rest, const float* a, const float* b, int count, int width, int size, const float* points,
                  int marks, float* out, int threads) {
  if constexpr (HasFlow<Scene>::value) {
    const Scene still(rest);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++) {
      Scene from(a + (size_t)i * width), to(b + (size_t)i * width);
      flow(still, from, to, size, points + (size_t)i * marks * 2, marks, out + (size_t)i * marks * FLOW_COLUMNS);
    }
    return 0;
  }
  return 2;
}

// segments [count, size, size]: a number in the scene's parts per pixel. Returns as draggan_draw, or 2 if it has no parts.
extern "C" __attribute__((visibility("default"))) int draggan_segments(int scene, const float* parameters, int count,
                                                                       int width, int size, uint8_t* segments, int threads) {
  if (scene == 0 && width == CAT_PARAMETERS) return label<Cat>(parameters, count, width, size, segments, threads);
  if (scene == 1 && width == Face::PARAMETERS) return label<Face>(parameters, count, width, size, segments, threads);
  if (scene == 2 && width == Car::PARAMETERS) return label<Car>(parameters, count, width, size, segments, threads);
  return 1;
}

// rest [width]: the parameters at which the material is defined; a, b [count, width]; points [count, marks, 2] in
// pixels of a; out [count, marks, 3] = x, y in pixels of b, visible 0 or 1. Returns as draggan_segments.
extern "C" __attribute__((visibility("default"))) int draggan_flow(int scene, const float* rest, const float* a,
                                                                   const float* b, int count, int width, int size,
                                                                   const float* points, int marks, float* out,
                                                                   int threads) {
  if (scene == 0 && width == CAT_PARAMETERS)
    return follow<Cat>(rest, a, b, count, width, size, points, marks, out, threads);
  if (scene == 1 && width == Face::PARAMETERS)
    return follow<Face>(rest, a, b, count, width, size, points, marks, out, threads);
  if (scene == 2 && width == Car::PARAMETERS)
    return follow<Car>(rest, a, b, count, width, size, points, marks, out, threads);
  return 1;
}
