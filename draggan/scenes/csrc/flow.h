// True flow: where a point of the surface goes when a scene's parameters change.
//
// Implicit surfaces have no material, so a scene defines it. It names the solids that it is the union of, and parts:
// frames, curved where a lid or a lip needs it, that turn, stretch and move with the parameters. A material point is a
// point m of the scene at rest (its middle parameters). At other parameters it lies at
//
//     D(m) = sum_k w_k(m) global_k(local_k^rest(m)) + sum_l phi(|m - a_l| / reach) c_l
//
// The weights w belong to the material, so they are the same at all parameters. The second sum makes every landmark at
// rest, a_l, land on the landmark. What is left between D and the surface is closed along the gradient lines of the
// solid at rest. These do not cross, so to go there and back is to return.
#pragma once
#include "raymarch.h"

namespace draggan {

// A scene has, for this:
//   static constexpr int SOLIDS, PARTS; static constexpr float REACH;
//   F solid(int k, V p) const;                     signed distance to solid k alone
//   V local(int part, V p) const;                  object -> coordinates in the part, and
//   V global(int part, V n) const;                 back
//   void weights(int solid, V m, F* w) const;      of the parts, at rest; w comes zeroed, the sum must be 1
template <class Scene>
static V solid_gradient(const Scene& scene, int k, V p, float e) {
  const S3 at[4] = {{1, -1, -1}, {-1, -1, 1}, {-1, 1, -1}, {1, 1, 1}};
  V n = {F{}, F{}, F{}};
  for (int i = 0; i < 4; i++) n = n + splat(at[i]) * scene.solid(k, p + at[i] * e);
  return n * (0.25f / e);
}

// The surface of one solid nearest to a point beside it.
template <class Scene>
static V onto(const Scene& scene, int k, V p) {
  for (int i = 0; i < 4; i++) {
    V g = solid_gradient(scene, k, p, 0.001f);
    p = p - g * (scene.solid(k, p) / max(dot(g, g), 0.1f));
  }
  return p;
}

template <class Scene>
static int nearest_solid(const Scene& scene, S3 p) {
  int best = 0;
  float least = 1e9f;
  for (int k = 0; k < Scene::SOLIDS; k++) {
    const float d = std::fabs(scene.solid(k, splat(p))[0]);
    if (d < least) least = d, best = k;
  }
  return best;
}

// Wendland's C2 function of the squared distance over the squared reach: 1 at 0, 0 from 1 on, positive definite.
static inline F wendland(F r2) {
  F r = sqrt(min(r2, 1.f)), t = 1.f - r;
  t = t * t;
  return t * t * (4.f * r + 1.f);
}

// The material at one set of parameters, for the points of one solid.
template <class Scene>
class Material {
 public:
  Material(const Scene& rest, const Scene& now, int solid) : rest_(rest), now_(now), solid_(solid) {
    const std::vector<S3> from = rest.landmarks().at, to = now.landmarks().at;
    for (size_t i = 0; i < from.size(); i++)
      if (nearest_solid(rest, from[i]) == solid) anchor_.push_back(from[i]), pull_.push_back(to[i]);
    for (size_t i = 0; i < anchor_.size(); i++) pull_[i] = pull_[i] + lane(blend(splat(anchor_[i])), 0) * -1.f;
    solve();
  }

  V operator()(V m) const {
    V p = blend(m);
    for (size_t i = 0; i < anchor_.size(); i++) {
      V d = m - anchor_[i];
      F r2 = dot(d, d) * (1.f / (Scene::REACH * Scene::REACH));
      if (any(r2 < 1.f)) p = p + splat(pull_[i]) * wendland(r2);
    }
    return p;
  }

  // The material point at p: Newton's method from the best of several guesses. `off`: what is left.
  V inverse(V p, F& off) const {
    V m = p;
    off = length(p - (*this)(m));
    for (int k = 0; k < Scene::PARTS; k++) {
      V guess = rest_.global(k, now_.local(k, p));
      F error = length(p - (*this)(guess));
      M better = error < off;
      m = select(better, guess, m);
      off = select(better, error, off);
    }
    F step = splat(1.f);
    const float e = 0.002f;
    for (int i = 0; i < 24 && any(off > 1e-6f); i++) {
      V at = (*this)(m), r = p - at;
      V a = ((*this)(m + S3{e, 0, 0}) - at) * (1.f / e), b = ((*this)(m + S3{0, e, 0}) - at) * (1.f / e),
        c = ((*this)(m + S3{0, 0, e}) - at) * (1.f / e);
      V bc = cross(b, c), ca = cross(c, a), ab = cross(a, b);
      F det = dot(a, bc);
      F inv = 1.f / select(abs(det) > 1e-3f, det, splat(1e-3f));
      V s = {dot(r, bc) * inv, dot(r, ca) * inv, dot(r, ab) * inv};
      s = s * min(0.10f / (length(s) + 1e-9f), splat(1.f));
      V next = m + s * step;
      F error = length(p - (*this)(next));
      M better = error < off;
      m = select(better, next, m);
      off = select(better, error, off);
      step = select(better, min(step * 2.f, 1.f), step * 0.4f);
    }
    return m;
  }

  // Along the gradient line of the solid at rest to where the material meets the surface. `off`: what is left.
  V settle(V m, F& off) const {
    const float e = 0.002f, wide = 0.02f;
    V best = m;
    off = splat(1e9f);
    for (int i = 0; i < 16; i++) {
      F d = now_.solid(solid_, (*this)(m));
      M better = abs(d) < off;
      best = select(better, m, best);
      off = select(better, abs(d), off);
      if (!any(off > 1e-6f)) break;
      V v = normalize(solid_gradient(rest_, solid_, m, wide));
      F slope = (now_.solid(solid_, (*this)(m + v * e)) - d) * (1.f / e);
      F step = clamp(-d / max(abs(slope), 0.2f), -0.05f, 0.05f);
      // The midpoint's direction keeps the walk on one curve.
      V half = normalize(solid_gradient(rest_, solid_, m + v * (0.5f * step), wide));
      m = m + half * step;
    }
    return best;
  }

 private:
  const Scene& rest_;
  const Scene& now_;
  int solid_;
  std::vector<S3> anchor_, pull_;

  static V cross(V a, V b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }

  V blend(V m) const {
    F w[Scene::PARTS] = {};
    rest_.weights(solid_, m, w);
    V p = {F{}, F{}, F{}};
    for (int k = 0; k < Scene::PARTS; k++)
      if (any(w[k] > 0.f)) p = p + now_.global(k, rest_.local(k, m)) * w[k];
    return p;
  }

  // Gauss elimination; the matrix is positive definite, so no pivots are needed.
  void solve() {
    const size_t n = anchor_.size();
    std::vector<double> k(n * n);
    std::vector<double> x(3 * n);
    for (size_t i = 0; i < n; i++) {
      x[3 * i] = pull_[i].x, x[3 * i + 1] = pull_[i].y, x[3 * i + 2] = pull_[i].z;
      for (size_t j = 0; j < n; j++) {
        const S3 d = anchor_[i] + anchor_[j] * -1.f;
        const double r = std::min(1.0, std::sqrt((double)d.x * d.x + d.y * d.y + d.z * d.z) / Scene::REACH);
        k[i * n + j] = std::pow(1 - r, 4) * (4 * r + 1) + (i == j ? 1e-6 : 0);
      }
    }
    for (size_t i = 0; i < n; i++)
      for (size_t j = i + 1; j < n; j++) {
        const double f = k[j * n + i] / k[i * n + i];
        for (size_t c = i; c < n; c++) k[j * n + c] -= f * k[i * n + c];
        for (size_t c = 0; c < 3; c++) x[3 * j + c] -= f * x[3 * i + c];
      }
    for (size_t i = n; i-- > 0;)
      for (size_t c = 0; c < 3; c++) {
        for (size_t j = i + 1; j < n; j++) x[3 * i + c] -= k[i * n + j] * x[3 * j + c];
        x[3 * i + c] /= k[i * n + i];
      }
    for (size_t i = 0; i < n; i++) pull_[i] = {(float)x[3 * i], (float)x[3 * i + 1], (float)x[3 * i + 2]};
  }
};

// The surface seen there, exactly: the tracer's tolerance is refined away. A ray that passes within `near` of the
// surface belongs to the outline. Lanes that see nothing are not `hit`.
template <class Scene>
static Hit look(const Scene& scene, Ray r, float near) {
  const float begin = CAMERA_DISTANCE / scene.pose.scale - Scene::RADIUS, far = begin + 2 * Scene::RADIUS;
  F t = splat(begin), best = splat(1e9f), closest = t;
  M hit = M{}, active = ~M{};
  for (int i = 0; i < 160 && any(active); i++) {
    F d = scene.distance(r.origin + r.direction * t);
    M nearer = active & (d < best);
    best = select(nearer, d, best);
    closest = select(nearer, t, closest);
    M now = active & (d < 2e-6f);
    hit |= now;
    active &= ~now;
    t = select(active, t + d * Scene::STEP, t);
    active &= (t < far);
  }
  hit |= active | (best < near);
  // Where a field overstates distance, the last step went too far.
  for (int i = 0; i < 4; i++) {
    const float e = 0.001f;
    F d = scene.distance(r.origin + r.direction * closest);
    F slope = (scene.distance(r.origin + r.direction * (closest + e)) - d) * (1.f / e);
    closest = closest - select(slope < -0.05f, clamp(d / min(slope, -0.05f), -0.01f, 0.01f), 0.f);
  }
  return {closest, hit};
}

constexpr int FLOW_COLUMNS = 3;  // x, y in pixels, visible

// points [count, 2] in picture a -> out [count, 3] in picture b.
template <class Scene>
static void flow(const Scene& rest, const Scene& a, const Scene& b, int size, const float* points, int count,
                 float* out) {
  const float pixel = 2.f / size;  // in the picture plane
  const float outline = 0.6f * pixel / a.pose.scale;
  std::vector<std::vector<int>> index(Scene::SOLIDS);
  std::vector<std::vector<S3>> where(Scene::SOLIDS);
  for (int i = 0; i < count; i += LANES) {
    F u, v;
    for (int l = 0; l < LANES; l++) {
      const float* p = points + 2 * (size_t)std::min(i + l, count - 1);
      u[l] = (p[0] + 0.5f) * pixel - 1.f;
      v[l] = 1.f - (p[1] + 0.5f) * pixel;
    }
    Ray r = ray(a, u, v);
    Hit h = look(a, r, outline);
    V at = r.origin + r.direction * h.t;
    for (int l = 0; l < LANES && i + l < count; l++) {
      float* o = out + FLOW_COLUMNS * (size_t)(i + l);
      const float* p = points + 2 * (size_t)(i + l);
      o[0] = p[0], o[1] = p[1], o[2] = 0.f;  // the backdrop stays and counts as not visible
      if (!h.hit[l]) continue;
      const S3 s = lane(at, l);
      const int k = nearest_solid(a, s);
      index[k].push_back(i + l);
      where[k].push_back(s);
    }
  }
  for (int k = 0; k < Scene::SOLIDS; k++) {
    if (index[k].empty()) continue;
    const Material<Scene> before(rest, a, k), after(rest, b, k);
    for (size_t i = 0; i < index[k].size(); i += LANES) {
      F off_m, off_s, off_back, off_a;
      V p = onto(a, k, gather(where[k], i));
      V m = before.inverse(p, off_m);
      V q = after(after.settle(m, off_s));
      // Where the material folds over, as in the corner of a shut mouth, the way back leads elsewhere.
      V back = before(before.settle(after.inverse(q, off_back), off_a));
      V c = b.pose.template to_camera<V>(q) * b.pose.scale;
      F depth = CAMERA_DISTANCE - c.z, x = c.x + b.pose.tx, y = c.y + b.pose.ty;
      F u = x * CAMERA_DISTANCE / depth, v = y * CAMERA_DISTANCE / depth;
      Ray r = ray(b, u, v);
      Hit h = look(b, r, 1e-4f);
      V seen = r.origin + r.direction * h.t;  // must be the point itself
      M clear = h.hit & (length(seen - q) < 0.005f) & (abs(b.solid(k, seen)) < 0.001f);
      clear &= (off_m < 1e-3f) & (off_s < 1e-3f) & (length(back - p) < 0.003f);
      F px = ((u + 1.f) * (float)size - 1.f) * 0.5f, py = ((1.f - v) * (float)size - 1.f) * 0.5f;
      clear &= (px >= -0.5f) & (py >= -0.5f) & (px < size - 0.5f) & (py < size - 0.5f);
      for (int l = 0; l < LANES && i + l < index[k].size(); l++) {
        float* o = out + FLOW_COLUMNS * (size_t)index[k][i + l];
        o[0] = px[l], o[1] = py[l], o[2] = clear[l] ? 1.f : 0.f;
      }
    }
  }
}

}  // namespace draggan
