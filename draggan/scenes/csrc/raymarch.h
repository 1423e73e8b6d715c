// The part that every scene shares: camera, sphere tracing, lighting helpers, anti-aliasing of edges, landmarks.
// Pictures and segments are made by the same functions here and, one thread for a pixel, on a GPU: see pixels.h.
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
  HD T to_object(T v) const {  // direction, camera -> object
    T a = {cr * v.x + sr * v.y, cr * v.y - sr * v.x, v.z};
    T b = {a.x, cp * a.y + sp * a.z, cp * a.z - sp * a.y};
    return {cy * b.x - sy * b.z, b.y, cy * b.z + sy * b.x};
  }
  template <class T>
  HD T to_camera(T v) const {  // direction, object -> camera
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
HD static Hit trace(const Scene& scene, V origin, V direction, F t, float far, int steps, M active) {
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
HD static V normal(const Scene& scene, V p) {
  const float e = 0.004f;
  const S3 k[4] = {{1, -1, -1}, {-1, -1, 1}, {-1, 1, -1}, {1, 1, 1}};
  V n = {F{}, F{}, F{}};
  for (int i = 0; i < 4; i++) n = n + splat(k[i]) * scene.distance(p + k[i] * e);
  return normalize(n);
}

template <class Scene>
HD static F occlusion(const Scene& scene, V p, V n) {
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
HD static F soft_shadow(const Scene& scene, V p, V light) {
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
HD static Sample shoot(const Scene& scene, F u, F v) {
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

HD static inline float encode(float linear) {  // display value = sqrt: gamma 2, one instruction
  float v = linear < 0 ? 0 : linear > 1 ? 1 : linear;
  return ::sqrtf(v);
}

// One sample per pixel, four where neighbours differ: the rules of `render` and of pixels.h.
constexpr float EDGE = 0.045f;  // in display values

struct Place {
  float u, v;
};
HD static inline Place place(int pixel, int R, float right, float down) {  // right, down: within the pixel, 0 to 1
  return {((pixel % R) + right) * 2.f / R - 1.f, 1.f - ((pixel / R) + down) * 2.f / R};
}
struct Channels {  // [pixels] each: display values, importance
  float *r, *g, *b, *importance;
  HD void put(int at, const Sample& s, int l) const {
    r[at] = encode(s.colour.x[l]);
    g[at] = encode(s.colour.y[l]);
    b[at] = encode(s.colour.z[l]);
    importance[at] = s.importance[l];
  }
  HD bool differ(int a, int b_) const {
    return ::fmaxf(::fmaxf(::fabsf(r[a] - r[b_]), ::fabsf(g[a] - g[b_])), ::fabsf(b[a] - b[b_])) > EDGE;
  }
  HD bool edge(int i, int R) const {
    const int x = i % R, y = i / R;
    return (x > 0 && differ(i, i - 1)) || (x + 1 < R && differ(i, i + 1)) || (y > 0 && differ(i, i - R)) ||
           (y + 1 < R && differ(i, i + R));
  }
};
HD static inline uint8_t to_byte(float display) { return (uint8_t)(display * 255.f + 0.5f); }
HD static inline uint8_t to_sixteenths(float importance) { return (uint8_t)(::fminf(15.9f, importance) * 16.f + 0.5f); }

// The middles of a pixel and those after it, one a lane; the last pixel again where there are no more.
static inline void middles(int pixel, int R, F& u, F& v) {
  for (int l = 0; l < LANES; l++) {
    const Place at = place(std::min(pixel + l, R * R - 1), R, 0.5f, 0.5f);
    u[l] = at.u, v[l] = at.v;
  }
}

// picture [3, R, R], importance [R, R] in sixteenths.
template <class Scene>
static void render(const Scene& scene, int R, uint8_t* picture, uint8_t* importance) {
  const int P = R * R, stride = P + LANES;
  std::vector<float> buf(4 * stride);
  const Channels first = {buf.data(), buf.data() + stride, buf.data() + 2 * stride, buf.data() + 3 * stride};
  for (int i = 0; i < P; i += LANES) {
    F u, v;
    middles(i, R, u, v);
    Sample s = shoot(scene, u, v);
    for (int l = 0; l < LANES; l++) first.put(i + l, s, l);
  }
  std::vector<int> edges;
  for (int i = 0; i < P; i++)
    if (first.edge(i, R)) edges.push_back(i);
  std::vector<float> fine(4 * edges.size());
  const int E = (int)edges.size();
  for (int e = 0; e < E; e += LANES / 4) {
    F u, v;
    for (int l = 0; l < LANES; l++) {
      const int j = edges[std::min(e + l / 4, E - 1)];
      const Place at = place(j, R, 0.25f + 0.5f * (l & 1), 0.25f + 0.5f * ((l >> 1) & 1));
      u[l] = at.u, v[l] = at.v;
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
    const int j = edges[e];
    const float* f = &fine[4 * e];
    first.r[j] = f[0], first.g[j] = f[1], first.b[j] = f[2], first.importance[j] = f[3];
  }
  for (int i = 0; i < P; i++) {
    picture[i] = to_byte(first.r[i]);
    picture[P + i] = to_byte(first.g[i]);
    picture[2 * P + i] = to_byte(first.b[i]);
    importance[i] = to_sixteenths(first.importance[i]);
  }
}

struct Ray {
  V origin, direction;
};

// Through a place of the picture plane, in the object's frame.
template <class Scene>
HD static Ray ray(const Scene& scene, F u, F v) {
  const Pose& pose = scene.pose;
  V o = {splat(-pose.tx / pose.scale), splat(-pose.ty / pose.scale), splat(CAMERA_DISTANCE / pose.scale)};
  return {pose.template to_object<V>(o), pose.template to_object<V>(normalize(V{u, v, splat(-CAMERA_DISTANCE)}))};
}

// The number of the part seen there, 0 for the backdrop.
template <class Scene>
HD static F part(const Scene& scene, F u, F v) {
  const float near = CAMERA_DISTANCE / scene.pose.scale - Scene::RADIUS, far = near + 2 * Scene::RADIUS;
  Ray r = ray(scene, u, v);
  Hit h = trace(scene, r.origin, r.direction, splat(near), far, 44, ~M{});  // as `shoot` does
  F label = F{};
  if (any(h.hit)) label = select(h.hit, scene.label(r.origin + r.direction * h.t), label);
  return label;
}

// The part that the middle of every pixel shows, [R, R].
template <class Scene>
static void segments(const Scene& scene, int R, uint8_t* out) {
  const int P = R * R;
  for (int i = 0; i < P; i += LANES) {
    F u, v;
    middles(i, R, u, v);
    F label = part(scene, u, v);
    for (int l = 0; l < LANES && i + l < P; l++) out[i + l] = (uint8_t)(label[l] + 0.5f);
  }
}

struct Landmarks {
  std::vector<S3> at;
  std::vector<bool> hidden;  // what a ray from the viewer cannot decide
  void add(S3 p, bool out_of_sight = false) {
    at.push_back(p);
    hidden.push_back(out_of_sight);
  }
};

static inline V gather(const std::vector<S3>& points, size_t first) {  // the last one again where there are no more
  V v;
  for (int l = 0; l < LANES; l++) {
    const S3& p = points[std::min(first + l, points.size() - 1)];
    v.x[l] = p.x, v.y[l] = p.y, v.z[l] = p.z;
  }
  return v;
}

// Landmarks on the surface: the first point met on the way from far off, in a direction, towards a target.
class Aims {
 public:
  explicit Aims(float away) : away_(away) {}
  void add(S3 direction, S3 target) {
    from_.push_back(target + normalize(direction) * away_);
    to_.push_back(target);
  }
  // `beyond`: how far past the target to look.
  template <class Scene>
  std::vector<S3> meet(const Scene& scene, float beyond = 0.f) const {
    std::vector<S3> met(from_.size());
    for (size_t i = 0; i < from_.size(); i += LANES) {
      V a = gather(from_, i), d = normalize(gather(to_, i) - a);
      Hit h = trace(scene, a, d, F{}, away_ + beyond, 96, ~M{});
      V at = a + d * h.t;
      for (int l = 0; l < LANES && i + l < from_.size(); l++) met[i + l] = lane(at, l);
    }
    return met;
  }

 private:
  float away_;
  std::vector<S3> from_, to_;
};

// Projects landmarks to the picture: pixel = ((u + 1) R - 1) / 2, integers at pixel centres; out [landmarks, 3].
// One is visible when it is not `hidden` and nothing lies more than `slack` before it on its own ray.
template <class Scene>
static void project(const Scene& scene, const Landmarks& marks, int R, float slack, float* out) {
  const Pose& pose = scene.pose;
  const int N = (int)marks.at.size();
  for (int i = 0; i < N; i += LANES) {
    F u, v, depth;
    for (int l = 0; l < LANES; l++) {
      S3 c = pose.to_camera(marks.at[std::min(i + l, N - 1)]) * pose.scale;
      c.x += pose.tx;
      c.y += pose.ty;
      float w = CAMERA_DISTANCE / (CAMERA_DISTANCE - c.z);
      u[l] = c.x * w;
      v[l] = c.y * w;
      float dx = c.x, dy = c.y, dz = CAMERA_DISTANCE - c.z;
      depth[l] = std::sqrt(dx * dx + dy * dy + dz * dz) / pose.scale;
    }
    Ray r = ray(scene, u, v);
    const float near = CAMERA_DISTANCE / pose.scale - Scene::RADIUS, far = CAMERA_DISTANCE / pose.scale + Scene::RADIUS;
    Hit h = trace(scene, r.origin, r.direction, splat(near), far, 64, ~M{});
    for (int l = 0; l < LANES && i + l < N; l++) {
      float x = ((u[l] + 1.f) * R - 1.f) * 0.5f, y = ((1.f - v[l]) * R - 1.f) * 0.5f;
      bool inside = x >= -0.5f && y >= -0.5f && x < R - 0.5f && y < R - 0.5f;
      bool clear = !h.hit[l] || h.t[l] > depth[l] - slack;
      out[3 * (i + l)] = x;
      out[3 * (i + l) + 1] = y;
      out[3 * (i + l) + 2] = inside && clear && !marks.hidden[i + l] ? 1.f : 0.f;
    }
  }
}

}  // namespace draggan
