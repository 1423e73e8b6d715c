// What heads share: eyes that look and blink, and the backdrop.
#pragma once
#include "raymarch.h"

namespace draggan {

// Eyes: a struct of constants, see CatEyes. All of it is about the eye on the side of positive x; the other mirrors it.
template <class Eyes>
struct Head {
  const float* q;
  Pose pose;
  S3 eye_at, gaze;
  float eye_r, lids, turn_sin, turn_cos, slant_sin, slant_cos;  // lids: 0 shut, 1 wide open
  S3 back_top, back_bottom, glow;
  float glow_x;

  Head(const float* parameters, const Pose& pose_) : q(parameters), pose(pose_) {}

  void look(float slant, float gaze_x, float gaze_y) {
    turn_sin = std::sin(Eyes::TURN);
    turn_cos = std::cos(Eyes::TURN);
    slant_sin = std::sin(slant);
    slant_cos = std::cos(slant);
    gaze = normalize(S3{std::sin(gaze_x), std::sin(gaze_y), 1.f});
  }

  // A place as an eye sees it: direction along and across the opening and to the front (sines, cosine), distance.
  struct Seen {
    F along, across, front, r;
  };
  HD Seen seen(V s) const {
    V e = s - eye_at;
    F k = rsqrt(dot(e, e) + 1e-8f), r = dot(e, e) * k;
    F a = (e.x * turn_cos - e.z * turn_sin) * k, b = e.y * k, c = (e.x * turn_sin + e.z * turn_cos) * k;
    return {a * slant_cos + b * slant_sin, b * slant_cos - a * slant_sin, c, r};
  }
  struct Eye {
    F r, upper, lower, front;  // distance from the centre; below the upper and above the lower lid; cosine to the axis
    HD F open() const { return select(front > 0.f, min(upper, lower), -1.f); }  // > 0 between the lids
  };
  HD Eye eye(V s) const {
    const Seen at = seen(s);
    F h = 1.f - at.along * at.along * (1.f / (Eyes::W * Eyes::W));
    F low = -Eyes::L * h, up = low + (lids * (Eyes::U + Eyes::L)) * h;
    return {at.r, up - at.across, at.across - low, at.front};
  }
  HD V in_eye(V p) const {  // direction from the centre of the eyeball on that side
    V d = {p.x - select(p.x > 0.f, splat(eye_at.x), splat(-eye_at.x)), p.y - eye_at.y, p.z - eye_at.z};
    return normalize(d);
  }

  HD Sample background(F u, F v) const {
    F t = smoothstep(-1.2f, 1.0f, v);
    V c = mix(splat(back_bottom), splat(back_top), t);
    F gx = u - glow_x, gy = v - 0.25f;
    F g = clamp(1.f - (gx * gx + gy * gy) * 0.42f, 0.f, 1.f);
    return {mix(c, splat(glow), g * g * 0.75f), splat(0.5f)};
  }

  // Material coordinates, for flow.h.
  static F share(F d) {  // of a solid in what lies at a distance from it
    F t = clamp(1.f - d * 4.f, 0.f, 1.f);
    t = t * t;
    return t * t * t;
  }
  // Skin between the upper lid's edge and its crease stretches, the lower lid stays.
  void lid_knots(F along, F& lower, F& upper, F& top) const {
    F h = max(1.f - along * along * (1.f / (Eyes::W * Eyes::W)), 0.02f);
    lower = -Eyes::L * h;
    upper = lower + std::max(lids, 0.02f) * (Eyes::U + Eyes::L) * h;
    top = Eyes::U * h + 0.25f;
  }
  V lid_local(V s) const {
    const Seen at = seen(s);
    F b = at.across, lower, upper, top;
    lid_knots(at.along, lower, upper, top);
    F t = select(b < lower, b - lower, (b - lower) / (upper - lower));
    t = select(b < upper, t, 1.f + (b - upper) / (top - upper));
    return {at.along, select(b < top, t, 2.f + (b - top)), at.r * (1.f / eye_r)};
  }
  V lid_global(V n) const {
    F a2 = n.x, lower, upper, top;
    lid_knots(a2, lower, upper, top);
    F b2 = select(n.y < 0.f, lower + n.y, lower + n.y * (upper - lower));
    b2 = select(n.y < 1.f, b2, upper + (n.y - 1.f) * (top - upper));
    b2 = select(n.y < 2.f, b2, top + (n.y - 2.f));
    F a = a2 * slant_cos - b2 * slant_sin, b = b2 * slant_cos + a2 * slant_sin;
    F c = sqrt(max(1.f - a * a - b * b, 1e-4f)), r = n.z * eye_r;
    return V{(a * turn_cos + c * turn_sin) * r, b * r, (c * turn_cos - a * turn_sin) * r} + eye_at;
  }

  // Landmarks. A direction in an eye's own frame -> object.
  S3 on_eye(float side, float a2, float b2) const {
    float a = a2 * slant_cos - b2 * slant_sin, b = b2 * slant_cos + a2 * slant_sin;
    float c = std::sqrt(std::max(0.f, 1.f - a * a - b * b));
    S3 d = {a * turn_cos + c * turn_sin, b, c * turn_cos - a * turn_sin};
    const float r = eye_r * 1.06f;  // between eyeball and lid, where the two meet
    return {side * (eye_at.x + r * d.x), eye_at.y + r * d.y, eye_at.z + r * d.z};
  }
  S3 on_lower_lid(float side) const { return on_eye(side, 0.f, -Eyes::L); }
  S3 on_upper_lid(float side) const { return on_eye(side, 0.f, -Eyes::L + lids * (Eyes::U + Eyes::L)); }
  void add_pupil(Landmarks& marks, float side) const {
    const S3 at = S3{side * eye_at.x, eye_at.y, eye_at.z} + gaze * eye_r;
    // A pupil is just under its lid: ask the opening, the depth would not tell.
    marks.add(at, eye(splat(S3{std::fabs(at.x), at.y, at.z})).open()[0] < 0.02f);
  }
};

}  // namespace draggan
