// Runs what the threads of scenes.cu run on a processor, one pixel after the other, for the tests.
#define DRAGGAN_ONE_LANE
#include "pixels.h"
#include "scenes.h"

using namespace draggan;

// As draggan_draw and draggan_segments in scenes.cpp, without landmarks.
extern "C" __attribute__((visibility("default"))) int draggan_emulate(int scene, const float* parameters, int count,
                                                                      int width, int size, uint8_t* picture,
                                                                      uint8_t* importance, uint8_t* segments) {
  return with_scene(scene, width, [&](auto kind) {
    using Scene = typename decltype(kind)::Type;
    const int pixels = size * size;
    std::vector<float> first(4 * (size_t)pixels);
    for (int i = 0; i < count; i++) {
      const Scene one(parameters + (size_t)i * width);
      const size_t at = (size_t)i * pixels;
      for (int k = 0; k < pixels; k++) first_look(one, size, k, first.data());
      for (int k = 0; k < pixels; k++) second_look(one, size, k, first.data(), picture + 3 * at, importance + at);
      for (int k = 0; k < pixels; k++) name_part(one, size, k, segments + at);
    }
    return 0;
  });
}
