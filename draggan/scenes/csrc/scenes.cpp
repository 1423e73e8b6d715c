// Plain C interface to the scenes; ../__init__.py calls it through ctypes.
#include <algorithm>
#include <vector>

#include "car.h"
#include "cat.h"

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
  if (scene == 2 && width == Car::PARAMETERS && marks == Car::LANDMARKS) {
    draw<Car>(parameters, count, width, size, picture, importance, landmarks, marks, threads);
    return 0;
  }
  return 1;
}
