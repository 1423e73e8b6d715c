// The part that every scene shares: camera, sphere tracing, lighting helpers, anti-aliasing of edges, landmarks.
#pragma once
#include <algorithm>
#include <vector>

#include "simd.h"

namespace draggan {

constexpr float CAMERA_DISTANCE = 5.5f;  // mild perspective: in units of half the picture's width

struct Pose {  // object -> camera: scale * Rz(roll) Rx(pitch) Ry(yaw) p + (tx, ty, 0)
  float cy, sy, cp, sp, cr, sr, scale, tx, ty;
  Pose(float yaw, float pitch, float roll, float s, float x, float y)
      : cy(std::cos(yaw)), sy(std::sin(yaw)), cp(std::cos(pitch)), sp(std::sin(pitch)), cr(std::cos(roll)),
        sr(std::sin(roll)), scale(s), tx(x), ty(y) {}
  template <class T>
  T to_object(T v) const {  // direction, camera -> object
    T a = {cr * v.x + sr * v.y, cr * v.y - sr * v.x, v.z};
    T b = {a.x, cp * a.y + sp * a.z, cp * a.z - sp * a.y};
    return {cy * b.x - sy * b.z, b.y, cy * b.z + sy * b.x};
  }
  template <class T>
  T to_camera(T v) const {  // direction, object -> camera
    T b = {cy * v.x + sy * v.z, v.y, cy * v.z - sy * v.x};
    T a = {b.x, cp * b.y - sp * b.z, cp * b.z + sp * b.y};
    return {cr * a.x - sr * a.y, cr * a.y + sr * a.x, a.z};
  }
};

struct Hit {
  F t;
  M hit;
};

// Walks until the surface is nearer than the tolerance in every lane or the far end is passed.
template <class Scene>
static Hit trace(const Scene& scene, V origin, V direction, F t, float far, int steps, M active) {
  M hit = M{};
  for (int i = 0; i < steps; i++) {
    F d = scene.distance(origin + direction * t);
    M now = active & (d < 0.0015f);
    hit |= now;
    active &= ~now;
    t = select(active, t + d * Scene::STEP, t);
    active &= (t < far);
    if (!any(active)) break;
  }
  // A lane that is still walking along a grazing surface counts as a hit: it is close to it.
  return {t, hit | active};
}

template <class Scene>
static V normal(const Scene& scene, V p) {
  const float e = 0.004f;
  const S3 k[4] = {{1, -1, -1}, {-1, -1, 1}, {-1, 1, -1}, {1, 1, 1}};
  V n = {F{}, F{}, F{}};
  for (int i = 0; i < 4; i++) n = n + splat(k[i]) * scene.distance(p + k[i] * e);
  return normalize(n);
}

template <class Scene>
static F occlusion(const Scene& scene, V p, V n) {
  F sum = F{};
  float weight = 1.f;
  const float at[3] = {0.03f, 0.09f, 0.19f};
  for (int i = 0; i < 3; i++) {
    sum = sum + max(at[i] - scene.distance(p + n * at[i]), 0.f) * weight / at[i];
    weight *= 0.75f;
  }
  return clamp(1.f - 0.42f * sum, 0.f, 1.f);
}

template <class Scene>
static F soft_shadow(const Scene& scene, V p, V light) {
  F shade = splat(1.f), t = splat(0.04f);
  for (int i = 0; i < 9; i++) {
    F d = scene.distance(p + light * t);
    shade = min(shade, 7.f * d / t);
    t = t + clamp(d, 0.04f, 0.14f);
  }
  shade = clamp(shade, 0.f, 1.f);
  return shade * shade * (3.f - 2.f * shade);
}

struct Sample {
  V colour;      // linear light
  F importance;  // 0.5 .. 12
};

// u, v: picture plane, -1..1, v upwards.
template <class Scene>
static Sample shoot(const Scene& scene, F u, F v) {
  const Pose& pose = scene.pose;
  V from = {F{}, F{}, splat(CAMERA_DISTANCE)};
  V ray = normalize(V{u, v, splat(-CAMERA_DISTANCE)});
  V o = {(from.x - pose.tx) * (1.f / pose.scale), (from.y - pose.ty) * (1.f / pose.scale), from.z * (1.f / pose.scale)};
  o = pose.to_object<V>(o);
  V d = pose.to_object<V>(ray);
  const float near = CAMERA_DISTANCE / pose.scale - Scene::RADIUS, far = CAMERA_DISTANCE / pose.scale + Scene::RADIUS;
  Hit h = trace(scene, o, d, splat(near), far, 44, ~M{});
  Sample back = scene.background(u, v);
  if (!any(h.hit)) return back;
  Sample front = scene.shade(o + d * h.t, d);
  return {select(h.hit, front.colour, back.colour), select(h.hit, front.importance, back.importance)};
}

static inline float encode(float linear) {  // display value = sqrt: gamma 2, one instruction
  float v = linear < 0 ? 0 : linear > 1 ? 1 : linear;
  return std::sqrt(v);
}

// One sample per pixel, four where neighbours differ. picture [3, R, R], importance [R, R] in sixteenths.
template <class Scene>
static void render(const Scene& scene, int R, uint8_t* picture, uint8_t* importance) {
  const int P = R * R;
  std::vector<float> buf(4 * (P + LANES));
  float *cr = buf.data(), *cg = cr + P + LANES, *cb = cg + P + LANES, *im = cb + P + LANES;
  for (int i = 0; i < P; i += LANES) {
    F u, v;
    for (int l = 0; l < LANES; l++) {
      int j = std::min(i + l, P - 1);
      u[l] = ((j % R) + 0.5f) * 2.f / R - 1.f;
      v[l] = 1.f - ((j / R) + 0.5f) * 2.f / R;
    }
    Sample s = shoot(scene, u, v);
    for (int l = 0; l < LANES; l++) {
      cr[i + l] = encode(s.colour.x[l]);
      cg[i + l] = encode(s.colour.y[l]);
      cb[i + l] = encode(s.colour.z[l]);
      im[i + l] = s.importance[l];
    }
  }
  std::vector<int> edges;
  auto differs = [&](int a, int b) {
    return std::max(std::max(std::fabs(cr[a] - cr[b]), std::fabs(cg[a] - cg[b])), std::fabs(cb[a] - cb[b])) > 0.045f;
  };
  for (int y = 0; y < R; y++)
    for (int x = 0; x < R; x++) {
      int i = y * R + x;
      if ((x > 0 && differs(i, i - 1)) || (x + 1 < R && differs(i, i + 1)) || (y > 0 && differs(i, i - R)) ||
          (y + 1 < R && differs(i, i + R)))
        edges.push_back(i);
    }
  std::vector<float> fine(4 * edges.size());
  const int E = (int)edges.size();
  for (int e = 0; e < E; e += LANES / 4) {
    F u, v;
    for (int l = 0; l < LANES; l++) {
      int j = edges[std::min(e + l / 4, E - 1)];
      u[l] = ((j % R) + 0.25f + 0.5f * (l & 1)) * 2.f / R - 1.f;
      v[l] = 1.f - ((j / R) + 0.25f + 0.5f * ((l >> 1) & 1)) * 2.f / R;
    }
    Sample s = shoot(scene, u, v);
    for (int k = 0; k < LANES / 4 && e + k < E; k++)
      for (int c = 0; c < 4; c++) {
        const F& f = c == 0 ? s.colour.x : c == 1 ? s.colour.y : c == 2 ? s.colour.z : s.importance;
        float sum = 0;
        for (int l = 4 * k; l < 4 * k + 4; l++) sum += c < 3 ? encode(f[l]) : f[l];
        fine[4 * (e + k) + c] = sum * 0.25f;
      }
  }
  for (int e = 0; e < E; e++) {
    int j = edges[e];
    cr[j] = fine[4 * e];
    cg[j] = fine[4 * e + 1];
    cb[j] = fine[4 * e + 2];
    im[j] = fine[4 * e + 3];
  }
  for (int i = 0; i < P; i++) {
    picture[i] = (uint8_t)(cr[i] * 255.f + 0.5f);
    picture[P + i] = (uint8_t)(cg[i] * 255.f + 0.5f);
    picture[2 * P + i] = (uint8_t)(cb[i] * 255.f + 0.5f);
    importance[i] = (uint8_t)(std::min(15.9f, im[i]) * 16.f + 0.5f);
  }
}

// Projects object points to the picture: pixel = ((u + 1) R - 1) / 2, integers at pixel centres.
// A point is visible when nothing lies more than `slack` before it on its own ray.
template <class Scene>
static void project(const Scene& scene, const std::vector<S3>& points, int R, float slack, float* out) {
  const Pose& pose = scene.pose;
  const int N = (int)points.size();
  for (int i = 0; i < N; i += LANES) {
    F u, v, depth;
    for (int l = 0; l < LANES; l++) {
      S3 c = pose.to_camera(points[std::min(i + l, N - 1)]) * pose.scale;
      c.x += pose.tx;
      c.y += pose.ty;
      float w = CAMERA_DISTANCE / (CAMERA_DISTANCE - c.z);
      u[l] = c.x * w;
      v[l] = c.y * w;
      float dx = c.x, dy = c.y, dz = CAMERA_DISTANCE - c.z;
      depth[l] = std::sqrt(dx * dx + dy * dy + dz * dz) / pose.scale;
    }
    V o = {splat(-pose.tx / pose.scale), splat(-pose.ty / pose.scale), splat(CAMERA_DISTANCE / pose.scale)};
    o = pose.to_object<V>(o);
    V d = pose.to_object<V>(normalize(V{u, v, splat(-CAMERA_DISTANCE)}));
    const float near = CAMERA_DISTANCE / pose.scale - Scene::RADIUS, far = CAMERA_DISTANCE / pose.scale + Scene::RADIUS;
    Hit h = trace(scene, o, d, splat(near), far, 64, ~M{});
    for (int l = 0; l < LANES && i + l < N; l++) {
      float x = ((u[l] + 1.f) * R - 1.f) * 0.5f, y = ((1.f - v[l]) * R - 1.f) * 0.5f;
      bool inside = x >= -0.5f && y >= -0.5f && x < R - 0.5f && y < R - 0.5f;
      bool clear = !h.hit[l] || h.t[l] > depth[l] - slack;
      out[3 * (i + l)] = x;
      out[3 * (i + l) + 1] = y;
      out[3 * (i + l) + 2] = inside && clear ? 1.f : 0.f;
    }
  }
}

}  // namespace draggan
