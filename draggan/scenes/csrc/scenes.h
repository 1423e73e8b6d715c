// The list of scenes; their numbers are those of `Scene.index` in Python.
#pragma once
#include "car.h"
#include "cat.h"
#include "face.h"

namespace draggan {

template <class Scene>
struct Kind {
  using Type = Scene;
};

constexpr int UNKNOWN_SCENE = 1, WRONG_WIDTHS = 2;

// Calls act(Kind<...>{}) for the scene of that number and returns what it returns. width: how many parameters the
// caller thinks it has.
template <class Act>
static int with_scene(int scene, int width, Act act) {
  if (scene == 0) return width == Cat::PARAMETERS ? act(Kind<Cat>{}) : WRONG_WIDTHS;
  if (scene == 1) return width == Face::PARAMETERS ? act(Kind<Face>{}) : WRONG_WIDTHS;
  if (scene == 2) return width == Car::PARAMETERS ? act(Kind<Car>{}) : WRONG_WIDTHS;
  return UNKNOWN_SCENE;
}

}  // namespace draggan
