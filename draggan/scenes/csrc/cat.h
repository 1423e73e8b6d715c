// A cat's head from rounded solids. Units: half the picture's width is 1; x right, y up, z towards the viewer.
#pragma once
#include "raymarch.h"

namespace draggan {

// The order is that of CAT in ../cat.py.
enum CatParameter {
  YAW, PITCH, ROLL, SCALE, SHIFT_X, SHIFT_Y, HEAD_WIDTH, CHEEKS, EAR_SIZE, EAR_SPREAD, EAR_TILT, EYE_SIZE, EYE_GAP,
  EYE_OPEN, EYE_SLANT, PUPIL, GAZE_X, GAZE_Y, MUZZLE, NOSE, MOUTH_OPEN, SMILE, FUR_HUE, FUR_SATURATION, FUR_BRIGHTNESS,
  STRIPES, WHITE, EYE_HUE, BACK_HUE, BACK_SATURATION, BACK_BRIGHTNESS, LIGHT_X, CAT_PARAMETERS
};

struct Cat {
  static constexpr float STEP = 0.85f;   // the eye opening and the squashed ears overstate distance a little
  static constexpr float RADIUS = 1.5f;  // everything visible lies in this ball
  static constexpr float LID = 1.10f;    // radius of the lids, in eyeballs
  static constexpr float EYE_W = 0.80f, EYE_U = 0.72f, EYE_L = 0.60f;  // half-opening, in sines seen from the eyeball
  static constexpr float EYE_TURN = 0.16f;                             // eyes look slightly outwards

  const float* q;
  Pose pose;
  S3 skull, cheek_at, cheek_r, ear_at, eye_at, muzzle_at, muzzle_r, nose_at, nose_r, chin_at, chin_r, mouth_at, mouth_r;
  float ear_sin, ear_cos, eye_r, turn_sin, turn_cos, slant_sin, slant_cos;
  S3 fur, dark, white, iris, iris_deep, back_top, back_bottom, glow, light, gaze, shine, shine2;

  explicit Cat(const float* p) : q(p), pose(p[YAW], p[PITCH], p[ROLL], p[SCALE], p[SHIFT_X], p[SHIFT_Y]) {
    const float hw = q[HEAD_WIDTH], mz = q[MUZZLE], open = q[MOUTH_OPEN];
    skull = {hw, 0.54f, 0.53f};
    cheek_at = {hw - 0.29f + 0.05f * q[CHEEKS], -0.20f, 0.10f};
    cheek_r = {0.29f + 0.05f * q[CHEEKS], 0.20f + 0.03f * q[CHEEKS], 0.30f};
    ear_at = {q[EAR_SPREAD], 0.33f, -0.02f};
    ear_sin = std::sin(q[EAR_TILT]);
    ear_cos = std::cos(q[EAR_TILT]);
    eye_r = q[EYE_SIZE];
    eye_at = {q[EYE_GAP], 0.055f, 0.53f - 0.80f * eye_r};
    turn_sin = std::sin(EYE_TURN);
    turn_cos = std::cos(EYE_TURN);
    slant_sin = std::sin(q[EYE_SLANT]);
    slant_cos = std::cos(q[EYE_SLANT]);
    muzzle_at = {0.115f * mz, -0.245f, 0.43f};
    muzzle_r = {0.17f * mz, 0.13f * mz, 0.17f};
    nose_at = {0.f, -0.135f, 0.585f};
    nose_r = {0.085f * q[NOSE], 0.055f * q[NOSE], 0.06f};
    chin_at = {0.f, -0.385f - 0.15f * open, 0.36f};
    chin_r = {0.17f, 0.10f, 0.17f};
    mouth_at = {0.f, -0.345f - 0.075f * open, 0.50f};
    mouth_r = {0.115f + 0.035f * open, 0.014f + 0.105f * open, 0.24f};

    // Ginger .. cream .. grey .. brown: warm hues, grey through low saturation.
    S3 display = hsv(q[FUR_HUE], q[FUR_SATURATION], q[FUR_BRIGHTNESS]);
    fur = linear(display);
    dark = linear(S3{display.x * 0.42f, display.y * 0.38f, display.z * 0.36f});
    white = linear(S3{0.96f, 0.94f, 0.91f});
    iris = linear(hsv(q[EYE_HUE], 0.58f, 0.92f));
    iris_deep = linear(hsv(q[EYE_HUE], 0.85f, 0.42f));
    const float h = q[BACK_HUE], s = q[BACK_SATURATION], b = q[BACK_BRIGHTNESS];
    back_top = linear(hsv(h, s, b));
    back_bottom = linear(hsv(h, s * 1.1f, b * 0.72f));
    glow = linear(hsv(h, s * 0.55f, std::min(1.f, b * 1.18f)));
    light = normalize(pose.to_object(S3{q[LIGHT_X], 0.75f, 0.85f}));
    gaze = normalize(S3{std::sin(q[GAZE_X]), std::sin(q[GAZE_Y]), 1.f});
    shine = normalize(pose.to_object(S3{0.25f + 0.22f * q[LIGHT_X], 0.46f, 1.f}));
    shine2 = normalize(pose.to_object(S3{-0.42f, -0.40f, 1.f}));
  }

  struct Ear {
    F outer, inner;
  };
  Ear ear(V s) const {
    V e = s - ear_at;
    F u = e.x * ear_cos - e.y * ear_sin, v = e.x * ear_sin + e.y * ear_cos;
    const float c = 0.936f, n = 0.351f;  // the opening faces outwards by 0.36 rad
    F w = u * n + e.z * c;
    u = u * c - e.z * n;
    const float size = q[EAR_SIZE], base = 0.17f + 0.16f * size;
    F h = clamp(v * (1.f / size), 0.f, 1.f), dv = v - h * size, ww = w * 1.9f;
    F outer = sqrt(u * u + dv * dv + ww * ww) - (base + (0.032f - base) * h);
    F hi = clamp(v * (1.f / size), 0.0f, 0.80f), di = v - hi * size, wi = (w - 0.085f) * 1.5f;
    F inner = sqrt(u * u + di * di + wi * wi) - 0.70f * (base + (0.032f - base) * hi);
    return {outer * 0.62f, inner * 0.62f};
  }

  struct Eye {
    F r, g, front;  // distance from the centre, inside the lids' opening where > 0, cosine to its axis
  };
  Eye eye(V s) const {
    V e = s - eye_at;
    F k = rsqrt(dot(e, e) + 1e-8f), r = dot(e, e) * k;
    F a = (e.x * turn_cos - e.z * turn_sin) * k, b = e.y * k, c = (e.x * turn_sin + e.z * turn_cos) * k;
    F a2 = a * slant_cos + b * slant_sin, b2 = b * slant_cos - a * slant_sin;
    F h = 1.f - a2 * a2 * (1.f / (EYE_W * EYE_W));
    F lower = -EYE_L * h, upper = lower + (q[EYE_OPEN] * (EYE_U + EYE_L)) * h;
    F g = min(upper - b2, b2 - lower);
    return {r, select(c > 0.f, g, -1.f), c};
  }

  F mouth(V p) const {
    V m = p;
    m.y = m.y - q[SMILE] * p.x * p.x;
    return ellipsoid(m, mouth_at, mouth_r);
  }
  F tongue(V p) const {
    const float o = q[MOUTH_OPEN];
    return ellipsoid(p, {0.f, mouth_at.y - mouth_r.y * 0.62f, 0.40f}, {0.085f, 0.02f + 0.045f * o, 0.16f});
  }
  F nose(V p) const {
    // Wider above than below: a rounded triangle.
    V m = p;
    m.x = p.x * (1.f - 3.2f * clamp(p.y - nose_at.y, -0.07f, 0.05f));
    return ellipsoid(m, nose_at, nose_r);
  }
  F coat(V p, V s, const Eye& y, F cavity) const {
    F d = ellipsoid(p, {0.f, 0.02f, 0.f}, skull);
    d = smin(d, ellipsoid(s, cheek_at, cheek_r), 0.20f);
    Ear e = ear(s);
    d = smin(d, smax(e.outer, -e.inner, 0.03f), 0.09f);
    d = smin(d, ellipsoid(p, {0.f, -0.04f, 0.40f}, {0.13f, 0.20f, 0.17f}), 0.10f);  // bridge of the nose
    d = smin(d, y.r - eye_r * LID, 0.05f);
    d = max(d, y.g * y.r * 0.62f);
    d = smin(d, ellipsoid(p, chin_at, chin_r), 0.09f);
    d = smin(d, ellipsoid(s, muzzle_at, muzzle_r), 0.045f);
    d = smin(d, ellipsoid(p, {0.f, -1.12f, -0.20f}, {0.60f, 0.62f, 0.42f}), 0.13f);  // shoulders
    return smax(d, -cavity, 0.015f);
  }
  F distance(V p) const {
    V s = {abs(p.x), p.y, p.z};
    Eye y = eye(s);
    F d = coat(p, s, y, mouth(p));
    return min(min(d, y.r - eye_r), min(nose(p), tongue(p)));
  }

  Sample background(F u, F v) const {
    F t = smoothstep(-1.2f, 1.0f, v);
    V c = mix(splat(back_bottom), splat(back_top), t);
    F gx = u - 0.45f * q[LIGHT_X], gy = v - 0.25f;
    F g = clamp(1.f - (gx * gx + gy * gy) * 0.42f, 0.f, 1.f);
    return {mix(c, splat(glow), g * g * 0.75f), splat(0.5f)};
  }

  Sample shade(V p, V ray) const {
    V s = {abs(p.x), p.y, p.z};
    V n = normal(*this, p);
    Eye y = eye(s);
    F cavity = mouth(p);
    F d_coat = coat(p, s, y, cavity), d_eye = y.r - eye_r, d_nose = nose(p), d_tongue = tongue(p);
    F nearest = min(min(d_coat, d_eye), min(d_nose, d_tongue));
    M is_eye = d_eye <= nearest, is_nose = d_nose <= nearest, is_tongue = d_tongue <= nearest;
    M is_mouth = (cavity < 0.004f) & ~is_nose & ~is_eye & ~is_tongue & (p.z > 0.2f);

    // Coat.
    V c = splat(fur);
    F above = smoothstep(0.20f, 0.42f, p.y), side = smoothstep(0.34f, 0.52f, s.x) * smoothstep(0.30f, 0.10f, p.y);
    F lower = smoothstep(-0.50f, -0.66f, p.y);
    F bands = wave(s.x * (24.f - 6.f * p.y) + 1.5f) * above + wave(p.y * 24.f - s.x * 7.f) * max(side, lower);
    F stripe = smoothstep(0.05f, 0.55f, bands) * q[STRIPES];
    Ear e = ear(s);
    stripe = stripe * smoothstep(0.02f, 0.06f, e.outer);
    c = mix(c, splat(dark), 0.72f * stripe);
    F wh = smoothstep(0.02f, 0.30f, splat(q[WHITE]));
    const float grow = 0.80f + 0.45f * q[WHITE];
    F mx = s.x * (1.f / (0.27f * grow)), my = (p.y + 0.33f) * (1.f / (0.20f * grow));
    F patch = smoothstep(1.25f, 0.80f, mx * mx + my * my) * smoothstep(0.10f, 0.25f, p.z);
    F bx = s.x * (1.f / (0.05f + 0.05f * q[WHITE]));
    F blaze = smoothstep(1.3f, 0.5f, bx + max(p.y - 0.30f, 0.f) * 6.f) * smoothstep(-0.25f, -0.15f, p.y) *
              smoothstep(0.45f, 0.75f, splat(q[WHITE])) * smoothstep(0.1f, 0.2f, p.z);
    F cx = s.x * (1.f / (0.24f * grow)), cy = (p.y + 0.92f) * (1.f / 0.40f);
    F chest = smoothstep(1.2f, 0.7f, cx * cx + cy * cy) * smoothstep(-0.1f, 0.1f, p.z);
    c = mix(c, splat(white), wh * max(patch, max(blaze, chest)));
    F pink_ear = smoothstep(0.035f, -0.005f, e.inner) * smoothstep(0.28f, 0.36f, p.y) * smoothstep(-0.08f, 0.0f, p.z);
    c = mix(c, splat(linear(S3{0.95f, 0.62f, 0.60f})), pink_ear * 0.9f);
    // Dark rims make eyes readable at any fur colour, and closed eyes a line.
    F rim = smoothstep(-0.20f, -0.06f, y.g) * smoothstep(1.35f, 1.15f, y.r * (1.f / eye_r)) * smoothstep(0.f, 0.25f, y.front);
    c = mix(c, splat(linear(S3{0.16f, 0.12f, 0.11f})), rim * 0.88f);
    F split = smoothstep(0.022f, 0.006f, s.x) * smoothstep(-0.36f, -0.33f, p.y) * smoothstep(-0.12f, -0.16f, p.y) *
              smoothstep(0.40f, 0.48f, p.z);
    F lips = smoothstep(0.030f, 0.008f, abs(cavity)) * smoothstep(0.40f, 0.48f, p.z);
    c = mix(c, splat(linear(S3{0.30f, 0.17f, 0.16f})), max(split, lips) * 0.7f);

    // Eyeball: white, iris with a dark limb and a light lower half, slit pupil.
    V ed = {p.x - select(p.x > 0.f, splat(eye_at.x), splat(-eye_at.x)), p.y - eye_at.y, p.z - eye_at.z};
    ed = normalize(ed);
    V off = ed - gaze;
    F r2 = sqrt(off.x * off.x + off.y * off.y);
    V ec = splat(linear(S3{0.97f, 0.96f, 0.93f}));
    V ic = mix(splat(iris_deep), splat(iris), smoothstep(0.62f, 0.20f, r2 + 0.30f * off.y));
    ec = mix(ec, ic, smoothstep(0.68f, 0.60f, r2));
    F px = off.x * (1.f / q[PUPIL]), py = off.y * (1.f / 0.46f);
    F pr = px * px + py * py;
    ec = mix(ec, splat(S3{0.004f, 0.004f, 0.006f}), smoothstep(1.25f, 0.8f, pr));
    c = select(is_eye, ec, c);
    c = select(is_nose, splat(linear(S3{0.90f, 0.50f, 0.52f})), c);
    F deep = smoothstep(0.58f, 0.36f, p.z);
    c = select(is_mouth, mix(splat(linear(S3{0.62f, 0.20f, 0.22f})), splat(linear(S3{0.26f, 0.05f, 0.08f})), deep), c);
    c = select(is_tongue, splat(linear(S3{0.95f, 0.50f, 0.52f})), c);

    // Light: warm key with a soft shadow, sky from above, the backdrop's colour as fill and as rim.
    F ao = occlusion(*this, p, n);
    F lambert = dot(n, splat(light));
    F wrap = clamp(lambert * 0.80f + 0.20f, 0.f, 1.f);
    F shadow = soft_shadow(*this, p + n * 0.01f, splat(light));
    F key = wrap * mix(splat(0.35f), splat(1.f), shadow) * 1.12f;
    V nc = pose.to_camera<V>(n);
    F sky = ao * (0.30f + 0.16f * nc.y);
    F facing = clamp(1.f - max(-dot(n, ray), 0.f), 0.f, 1.f);
    F edge = facing * facing * facing * ao * 0.45f * select(is_eye, 0.2f, splat(1.f));
    V lit = {key * 1.03f + sky * 0.95f, key + sky, key * 0.93f + sky * 1.10f};
    lit = lit + splat(glow) * (ao * 0.14f);
    V out = c * lit + splat(glow) * edge;
    // Highlights: two painted catch-lights on the eyes, a soft one on nose and tongue.
    F s1 = smoothstep(0.964f, 0.976f, dot(ed, splat(shine))), s2 = smoothstep(0.984f, 0.992f, dot(ed, splat(shine2)));
    out = select(is_eye, mix(out, splat(S3{0.98f, 0.98f, 0.98f}), max(s1, 0.55f * s2)), out);
    V half = normalize(splat(light) - ray);
    F spec = max(dot(n, half), 0.f);
    spec = spec * spec;
    spec = spec * spec;
    spec = spec * spec;
    spec = spec * spec;
    out = select(is_nose | is_tongue, out + V{spec, spec, spec} * 0.45f, out);

    // Weights for training: what a viewer looks at and what the pictures disagree about.
    F imp = splat(1.5f);
    imp = select((p.z > 0.15f) & (p.y < -0.05f) & (p.y > -0.58f) & (s.x < 0.40f), 4.5f, imp);
    imp = select((p.z > 0.15f) & (p.y > -0.12f) & (p.y < 0.30f), 4.5f, imp);
    imp = select((e.outer < 0.02f) & (p.y > 0.36f), 6.f, imp);
    imp = select((rim > 0.3f), 9.f, imp);
    imp = select(is_eye | is_nose | is_mouth | is_tongue | (lips > 0.5f), 12.f, imp);
    return {out, imp};
  }

  // In the order of CAT.landmarks in ../cat.py. `hidden` marks what a ray from the viewer cannot decide.
  void landmarks(std::vector<S3>& out, std::vector<bool>& hidden) const {
    const float far = 2.f;
    // Surface landmarks: the first point met on the way from `from` towards `to`.
    std::vector<S3> from, to;
    auto aim = [&](S3 direction, S3 target) {
      from.push_back(target + normalize(direction) * far);
      to.push_back(target);
    };
    const float lip = 0.012f;
    auto bend = [&](float x) { return q[SMILE] * x * x; };
    for (float side : {-1.f, 1.f}) {
      // Base of an ear: where a ray at 60 degrees to its axis, in its plane, meets the head.
      S3 base = {side * ear_at.x, ear_at.y, ear_at.z};
      aim({side * (ear_sin - 1.6f * ear_cos), ear_cos + 1.6f * ear_sin, 0.5f}, base);  // inner
      aim({side * (ear_sin + 1.6f * ear_cos), ear_cos - 1.6f * ear_sin, 0.5f}, base);  // outer
      const float mx = side * 1.04f * mouth_r.x;
      aim({0, 0, 1}, {mx, mouth_at.y + bend(mx), 0.f});
      aim({side * 0.8f, -0.25f, 0.55f}, {0.f, -0.12f, 0.f});      // cheek
      aim({0, 0, 1}, {side * muzzle_at.x, muzzle_at.y, 0.f});     // muzzle
    }
    aim({0, 0, 1}, {0.f, mouth_at.y + mouth_r.y + lip, 0.f});     // upper lip
    aim({0, 0, 1}, {0.f, mouth_at.y - mouth_r.y - lip, 0.f});     // lower lip
    aim({0, -0.75f, 1.f}, chin_at);                               // chin
    aim({0, 1, 0.55f}, {0.f, 0.f, 0.f});                          // head top, a little towards the viewer
    aim({0, 0, 1}, {0.f, 0.27f, 0.f});                            // forehead
    std::vector<S3> s(from.size());
    for (size_t i = 0; i < from.size(); i += LANES) {
      V a, b;
      for (int l = 0; l < LANES; l++) {
        size_t j = std::min(i + l, from.size() - 1);
        a.x[l] = from[j].x, a.y[l] = from[j].y, a.z[l] = from[j].z;
        b.x[l] = to[j].x, b.y[l] = to[j].y, b.z[l] = to[j].z;
      }
      V d = normalize(b - a);
      Hit h = trace(*this, a, d, F{}, far, 96, ~M{});
      V at = a + d * h.t;
      for (int l = 0; l < LANES && i + l < from.size(); l++) s[i + l] = {at.x[l], at.y[l], at.z[l]};
    }
    // A direction in an eye's own frame -> object, mirrored for the other side.
    auto on_eye = [&](float side, float a2, float b2) {
      float a = a2 * slant_cos - b2 * slant_sin, b = b2 * slant_cos + a2 * slant_sin;
      float c = std::sqrt(std::max(0.f, 1.f - a * a - b * b));
      S3 d = {a * turn_cos + c * turn_sin, b, c * turn_cos - a * turn_sin};
      const float r = eye_r * 1.06f;  // between eyeball and lid, where the two meet
      return S3{side * (eye_at.x + r * d.x), eye_at.y + r * d.y, eye_at.z + r * d.z};
    };
    const float low = -EYE_L, up = low + q[EYE_OPEN] * (EYE_U + EYE_L);
    for (int k = 0; k < 2; k++) {
      const float side = k ? 1.f : -1.f;
      S3 tip = {side * (ear_at.x + (q[EAR_SIZE] + 0.032f) * ear_sin), ear_at.y + (q[EAR_SIZE] + 0.032f) * ear_cos,
                ear_at.z};
      out.push_back(tip);
      out.push_back(s[5 * k]);
      out.push_back(s[5 * k + 1]);
      out.push_back(on_eye(side, EYE_W, 0.f));
      out.push_back(on_eye(side, -EYE_W, 0.f));
      out.push_back(on_eye(side, 0.f, up));
      out.push_back(on_eye(side, 0.f, low));
      out.push_back(S3{side * eye_at.x, eye_at.y, eye_at.z} + gaze * eye_r);
      out.push_back(s[5 * k + 2]);
      out.push_back(s[5 * k + 3]);
      out.push_back(s[5 * k + 4]);
    }
    hidden.assign(out.size() + 6, false);
    for (int k = 0; k < 2; k++) {
      // A pupil is just under its lid: ask the opening, the depth would not tell.
      S3 at = out[11 * k + 7];
      hidden[11 * k + 7] = eye(splat(S3{std::fabs(at.x), at.y, at.z})).g[0] < 0.02f;
    }
    out.push_back(nose_at + S3{0, 0, nose_r.z});
    for (int k = 10; k < 15; k++) out.push_back(s[k]);
  }
};

}  // namespace draggan
