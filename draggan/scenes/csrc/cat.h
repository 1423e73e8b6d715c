// A cat's head from rounded solids. Units: half the picture's width is 1; x right, y up, z towards the viewer.
#pragma once
#include "head.h"

namespace draggan {

struct CatEyes {
  static constexpr float LID = 1.10f;                       // radius of the lids, in eyeballs
  static constexpr float W = 0.80f, U = 0.72f, L = 0.60f;   // half-opening, in sines seen from the eyeball
  static constexpr float TURN = 0.16f;                      // eyes look slightly outwards, in radians
};

struct Cat : Head<CatEyes> {
  // The order is that of CAT in ../cat.py.
  enum Parameter {
    YAW, PITCH, ROLL, SCALE, SHIFT_X, SHIFT_Y, HEAD_WIDTH, CHEEKS, EAR_SIZE, EAR_SPREAD, EAR_TILT, EYE_SIZE, EYE_GAP,
    EYE_OPEN, EYE_SLANT, PUPIL, GAZE_X, GAZE_Y, MUZZLE, NOSE, MOUTH_OPEN, SMILE, FUR_HUE, FUR_SATURATION,
    FUR_BRIGHTNESS, STRIPES, WHITE, EYE_HUE, BACK_HUE, BACK_SATURATION, BACK_BRIGHTNESS, LIGHT_X, PARAMETERS
  };
  static constexpr int LANDMARKS = 28;
  static constexpr float STEP = 0.85f;   // the eye opening and the squashed ears overstate distance a little
  static constexpr float RADIUS = 1.5f;  // everything visible lies in this ball
  static constexpr float PUPIL_H = 0.46f, IRIS = 0.64f;  // half-height of the pupil, radius of the iris, in sines

  S3 skull, cheek_at, cheek_r, ear_at, muzzle_at, muzzle_r, nose_at, nose_r, chin_at, chin_r, mouth_at, mouth_r;
  float ear_sin, ear_cos;
  S3 fur, dark, white, iris, iris_deep, light, shine, shine2;

  explicit Cat(const float* p) : Head(p, Pose(p[YAW], p[PITCH], p[ROLL], p[SCALE], p[SHIFT_X], p[SHIFT_Y])) {
    const float hw = q[HEAD_WIDTH], mz = q[MUZZLE], open = q[MOUTH_OPEN];
    skull = {hw, 0.54f, 0.53f};
    cheek_at = {hw - 0.29f + 0.05f * q[CHEEKS], -0.20f, 0.10f};
    cheek_r = {0.29f + 0.05f * q[CHEEKS], 0.20f + 0.03f * q[CHEEKS], 0.30f};
    ear_at = {q[EAR_SPREAD], 0.33f, -0.02f};
    ear_sin = std::sin(q[EAR_TILT]);
    ear_cos = std::cos(q[EAR_TILT]);
    eye_r = q[EYE_SIZE];
    eye_at = {q[EYE_GAP], 0.055f, 0.53f - 0.80f * eye_r};
    lids = q[EYE_OPEN];
    look(q[EYE_SLANT], q[GAZE_X], q[GAZE_Y]);
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
    glow_x = 0.45f * q[LIGHT_X];
    light = normalize(pose.to_object(S3{q[LIGHT_X], 0.75f, 0.85f}));
    shine = normalize(pose.to_object(S3{0.25f + 0.22f * q[LIGHT_X], 0.46f, 1.f}));
    shine2 = normalize(pose.to_object(S3{-0.42f, -0.40f, 1.f}));
  }

  struct Ear {
    F outer, inner;
  };
  HD Ear ear(V s) const {
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

  HD F mouth(V p) const {
    V m = p;
    m.y = m.y - q[SMILE] * p.x * p.x;
    return ellipsoid(m, mouth_at, mouth_r);
  }
  HD S3 tongue_at() const { return {0.f, mouth_at.y - mouth_r.y * 0.62f, 0.40f}; }
  HD S3 tongue_r() const { return {0.085f, 0.02f + 0.045f * q[MOUTH_OPEN], 0.16f}; }
  HD F tongue(V p) const { return ellipsoid(p, tongue_at(), tongue_r()); }
  HD F bridge(V p) const { return ellipsoid(p, {0.f, -0.04f, 0.40f}, {0.13f, 0.20f, 0.17f}); }  // of the nose
  HD F shoulders(V p) const { return ellipsoid(p, {0.f, -1.12f, -0.20f}, {0.60f, 0.62f, 0.42f}); }
  HD F nose_taper(F y) const { return 1.f - 3.2f * clamp(y, -0.07f, 0.05f); }
  HD F nose(V p) const {
    // Wider above than below: a rounded triangle.
    V m = p;
    m.x = p.x * nose_taper(p.y - nose_at.y);
    return ellipsoid(m, nose_at, nose_r);
  }
  HD F coat(V p, V s, const Eye& y, F cavity) const {
    F d = ellipsoid(p, {0.f, 0.02f, 0.f}, skull);
    d = smin(d, ellipsoid(s, cheek_at, cheek_r), 0.20f);
    Ear e = ear(s);
    d = smin(d, smax(e.outer, -e.inner, 0.03f), 0.09f);
    d = smin(d, bridge(p), 0.10f);
    d = smin(d, y.r - eye_r * CatEyes::LID, 0.05f);
    d = max(d, y.open() * y.r * 0.62f);
    d = smin(d, ellipsoid(p, chin_at, chin_r), 0.09f);
    d = smin(d, ellipsoid(s, muzzle_at, muzzle_r), 0.045f);
    d = smin(d, shoulders(p), 0.13f);
    return smax(d, -cavity, 0.015f);
  }
  HD F distance(V p) const {
    V s = {abs(p.x), p.y, p.z};
    Eye y = eye(s);
    F d = coat(p, s, y, mouth(p));
    return min(min(d, y.r - eye_r), min(nose(p), tongue(p)));
  }

  struct Surface {  // what a point of the surface belongs to; none of them: coat
    M eye, nose, tongue, mouth;
  };
  HD Surface surface(V p, V s, const Eye& y, F cavity) const {
    F d_coat = coat(p, s, y, cavity), d_eye = y.r - eye_r, d_nose = nose(p), d_tongue = tongue(p);
    F nearest = min(min(d_coat, d_eye), min(d_nose, d_tongue));
    M eye = d_eye <= nearest, nose = d_nose <= nearest, tongue = d_tongue <= nearest;
    return {eye, nose, tongue, (cavity < 0.004f) & ~nose & ~eye & ~tongue & (p.z > 0.2f)};
  }
  HD F pink_ear(V p, const Ear& e) const {
    return smoothstep(0.035f, -0.005f, e.inner) * smoothstep(0.28f, 0.36f, p.y) * smoothstep(-0.08f, 0.0f, p.z);
  }
  HD F pupil(V off) const {  // below 1 inside
    F x = off.x * (1.f / q[PUPIL]), y = off.y * (1.f / PUPIL_H);
    return x * x + y * y;
  }

  HD Sample shade(V p, V ray) const {
    V s = {abs(p.x), p.y, p.z};
    V n = normal(*this, p);
    Eye y = eye(s);
    F cavity = mouth(p);
    const auto [is_eye, is_nose, is_tongue, is_mouth] = surface(p, s, y, cavity);

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
    c = mix(c, splat(linear(S3{0.95f, 0.62f, 0.60f})), pink_ear(p, e) * 0.9f);
    // Dark rims make eyes readable at any fur colour, and closed eyes a line.
    F rim = smoothstep(-0.20f, -0.06f, y.open()) * smoothstep(1.35f, 1.15f, y.r * (1.f / eye_r)) * smoothstep(0.f, 0.25f, y.front);
    c = mix(c, splat(linear(S3{0.16f, 0.12f, 0.11f})), rim * 0.88f);
    F split = smoothstep(0.022f, 0.006f, s.x) * smoothstep(-0.36f, -0.33f, p.y) * smoothstep(-0.12f, -0.16f, p.y) *
              smoothstep(0.40f, 0.48f, p.z);
    F lips = smoothstep(0.030f, 0.008f, abs(cavity)) * smoothstep(0.40f, 0.48f, p.z);
    c = mix(c, splat(linear(S3{0.30f, 0.17f, 0.16f})), max(split, lips) * 0.7f);

    // Eyeball: white, iris with a dark limb and a light lower half, slit pupil.
    V ed = in_eye(p), off = ed - gaze;
    F r2 = sqrt(off.x * off.x + off.y * off.y);
    V ec = splat(linear(S3{0.97f, 0.96f, 0.93f}));
    V ic = mix(splat(iris_deep), splat(iris), smoothstep(0.62f, 0.20f, r2 + 0.30f * off.y));
    ec = mix(ec, ic, smoothstep(0.68f, 0.60f, r2));
    ec = mix(ec, splat(S3{0.004f, 0.004f, 0.006f}), smoothstep(1.25f, 0.8f, pupil(off)));
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

  // A number in CAT.parts in ../cat.py.
  HD F label(V p) const {
    V s = {abs(p.x), p.y, p.z};
    Eye y = eye(s);
    const Surface at = surface(p, s, y, mouth(p));
    Ear e = ear(s);
    F head = min(ellipsoid(p, {0.f, 0.02f, 0.f}, skull), min(ellipsoid(s, cheek_at, cheek_r), ellipsoid(p, chin_at, chin_r)));
    F part = splat(2.f);                                                                  // head
    part = select(shoulders(p) < head, 1.f, part);                                        // body
    part = select((e.outer < head) & (p.y > 0.30f), 3.f, part);                           // ear
    part = select(pink_ear(p, e) > 0.5f, 4.f, part);                                      // ear_inside
    V off = in_eye(p) - gaze;
    F eye_part = select(off.x * off.x + off.y * off.y < IRIS * IRIS, splat(6.f), splat(5.f));
    part = select(at.eye, select(pupil(off) < 1.f, splat(7.f), eye_part), part);          // eye_white, iris, pupil
    part = select(at.nose, 8.f, part);                                                    // nose
    part = select(at.mouth, 9.f, part);                                                   // mouth
    return select(at.tongue, 10.f, part);                                                 // tongue
  }

  // What flow.h needs. Material coordinates: see there.
  enum Solid { COAT, EYEBALL, NOSE_SOLID, TONGUE, SOLIDS };
  enum Part {
    FIXED, HEAD, CHEEK_L, CHEEK_R, EAR_L, EAR_R, LID_L, LID_R, MUZZLE_PART, CHIN, MOUTH, BALL_L, BALL_R, NOSE_PART,
    TONGUE_PART, PARTS
  };
  static constexpr float REACH = 0.35f;

  F solid(int k, V p) const {
    V s = {abs(p.x), p.y, p.z};
    if (k == NOSE_SOLID) return nose(p);
    if (k == TONGUE) return tongue(p);
    Eye y = eye(s);
    return k == EYEBALL ? y.r - eye_r : coat(p, s, y, mouth(p));
  }

  void weights(int solid, V m, F* w) const {
    if (solid == NOSE_SOLID) w[NOSE_PART] = splat(1.f);
    if (solid == TONGUE) w[TONGUE_PART] = splat(1.f);
    if (solid == EYEBALL) {
      w[BALL_L] = select(m.x < 0.f, 1.f, splat(0.f));
      w[BALL_R] = 1.f - w[BALL_L];
    }
    if (solid != COAT) return;
    V s = {abs(m.x), m.y, m.z};
    // Lids, lips and ears own what is near; the rest is shared by distance.
    Eye y = eye(s);
    F lid = smoothstep(1.75f, 1.12f, y.r * (1.f / eye_r)) * smoothstep(0.02f, 0.35f, y.front);
    F lips = smoothstep(0.12f, 0.02f, mouth(m)) * smoothstep(0.22f, 0.36f, m.z);
    F ears = smoothstep(0.09f, 0.0f, ear(s).outer) *
             smoothstep(-0.12f, 0.16f, (s.x - ear_at.x) * ear_sin + (s.y - ear_at.y) * ear_cos);
    lid = lid * (1.f - lips);
    ears = ears * (1.f - lid) * (1.f - lips);
    F right = smoothstep(-0.05f, 0.05f, m.x), left = 1.f - right;
    w[LID_L] = lid * left, w[LID_R] = lid * right;
    w[EAR_L] = ears * left, w[EAR_R] = ears * right;
    w[MOUTH] = lips;
    F head = share(ellipsoid(m, {0.f, 0.02f, 0.f}, skull)) + 1e-4f, cheek = share(ellipsoid(s, cheek_at, cheek_r));
    F muzzle = share(ellipsoid(s, muzzle_at, muzzle_r)), chin = share(ellipsoid(m, chin_at, chin_r));
    F fixed = share(shoulders(m)) + share(bridge(m));
    F k = (1.f - lid - lips - ears) / (head + cheek + muzzle + chin + fixed);
    w[FIXED] = fixed * k;
    w[HEAD] = head * k;
    w[CHEEK_L] = cheek * k * left, w[CHEEK_R] = cheek * k * right;
    w[MUZZLE_PART] = muzzle * k;
    w[CHIN] = chin * k;
  }

  V local(int part, V p) const {
    const float side = part == CHEEK_L || part == EAR_L || part == LID_L || part == BALL_L ? -1.f : 1.f;
    V s = {p.x * side, p.y, p.z};
    switch (part) {
      case HEAD: return {p.x * (1.f / skull.x), p.y, p.z};
      case CHEEK_L:
      case CHEEK_R: return V{s.x - cheek_at.x, s.y - cheek_at.y, s.z - cheek_at.z} * splat(inverse(cheek_r));
      case EAR_L:
      case EAR_R: {
        V e = s - ear_at;
        F u = e.x * ear_cos - e.y * ear_sin, v = e.x * ear_sin + e.y * ear_cos;
        F k = 1.f / ear_radius(v);
        F along = select(v < 0.f, v, select(v < q[EAR_SIZE], v * (1.f / q[EAR_SIZE]), 1.f + (v - q[EAR_SIZE])));
        return {u * k, along, e.z * k};
      }
      case LID_L:
      case LID_R: return lid_local(s);
      case MUZZLE_PART: return {p.x * (1.f / q[MUZZLE]), (p.y - muzzle_at.y) * (1.f / q[MUZZLE]), p.z};
      case CHIN: return p - chin_at;
      case MOUTH: {
        F ax = abs(p.x), x = select(ax < mouth_r.x, p.x * (1.f / mouth_r.x), sign(p.x) * (1.f + (ax - mouth_r.x)));
        F y = p.y - bend(p.x) - mouth_at.y, ay = abs(y), h = lip_height(p.x);
        return {x, select(ay < h, y / h, sign(y) * (1.f + (ay - h))), p.z};
      }
      case BALL_L:
      case BALL_R: {
        V e = s - eye_at;
        e.x = e.x * side;
        F r2 = dot(e, e), k = rsqrt(r2 + 1e-8f), ox = e.x * k - gaze.x, oy = e.y * k - gaze.y, inner, outer;
        pupil_knots(oy, inner, outer);
        F ax = abs(ox), t = select(ax < inner, ax / inner, 1.f + (ax - inner) / (outer - inner));
        return {sign(ox) * select(ax < outer, t, 2.f + (ax - outer)), oy, r2 * k * (1.f / eye_r)};
      }
      case NOSE_PART: {
        V m = p - nose_at;
        m.x = m.x * nose_taper(m.y);
        return m * splat(inverse(nose_r));
      }
      case TONGUE_PART: return V{p.x, p.y - tongue_at().y, p.z - tongue_at().z} * splat(inverse(tongue_r()));
      default: return p;
    }
  }

  V global(int part, V n) const {
    const float side = part == CHEEK_L || part == EAR_L || part == LID_L || part == BALL_L ? -1.f : 1.f;
    switch (part) {
      case HEAD: return {n.x * skull.x, n.y, n.z};
      case CHEEK_L:
      case CHEEK_R: return mirrored(n * splat(cheek_r) + cheek_at, side);
      case EAR_L:
      case EAR_R: {
        F v = select(n.y < 0.f, n.y, select(n.y < 1.f, n.y * q[EAR_SIZE], q[EAR_SIZE] + (n.y - 1.f)));
        F k = ear_radius(v), u = n.x * k;
        return mirrored(V{u * ear_cos + v * ear_sin, v * ear_cos - u * ear_sin, n.z * k} + ear_at, side);
      }
      case LID_L:
      case LID_R: return mirrored(lid_global(n), side);
      case MUZZLE_PART: return {n.x * q[MUZZLE], n.y * q[MUZZLE] + muzzle_at.y, n.z};
      case CHIN: return n + chin_at;
      case MOUTH: {
        F ax = abs(n.x), x = select(ax < 1.f, n.x * mouth_r.x, sign(n.x) * (mouth_r.x + (ax - 1.f)));
        F h = lip_height(x), ay = abs(n.y), y = select(ay < 1.f, n.y * h, sign(n.y) * (h + (ay - 1.f)));
        return {x, y + mouth_at.y + bend(x), n.z};
      }
      case BALL_L:
      case BALL_R: {
        F inner, outer, t = abs(n.x);
        pupil_knots(n.y, inner, outer);
        F ax = select(t < 1.f, t * inner, inner + (t - 1.f) * (outer - inner));
        F x = sign(n.x) * select(t < 2.f, ax, outer + (t - 2.f)) + gaze.x, y = n.y + gaze.y, r = n.z * eye_r;
        F z = sqrt(max(1.f - x * x - y * y, 1e-4f));
        return {x * r + side * eye_at.x, y * r + eye_at.y, z * r + eye_at.z};
      }
      case NOSE_PART: {
        V m = n * splat(nose_r);
        m.x = m.x / nose_taper(m.y);
        return m + nose_at;
      }
      case TONGUE_PART: return n * splat(tongue_r()) + tongue_at();
      default: return n;
    }
  }

  F ear_radius(F v) const {
    const float base = 0.17f + 0.16f * q[EAR_SIZE];
    return base + (0.032f - base) * clamp(v * (1.f / q[EAR_SIZE]), 0.f, 1.f);
  }
  // Half-widths of pupil and iris at a height.
  void pupil_knots(F y, F& inner, F& outer) const {
    inner = q[PUPIL] * sqrt(max(1.f - y * y * (1.f / (PUPIL_H * PUPIL_H)), 1e-3f));
    outer = max(sqrt(max(IRIS * IRIS - y * y, 0.f)), inner + 0.02f);
  }
  F bend(F x) const {  // beyond the corners the smile goes on straight
    const float far = 1.3f * mouth_r.x;
    F ax = abs(x), over = max(ax - far, 0.f);
    ax = ax - over;
    return q[SMILE] * (ax * ax + 2.f * far * over);
  }
  F lip_height(F x) const { return mouth_r.y * sqrt(max(1.f - x * x * (1.f / (mouth_r.x * mouth_r.x)), 0.02f)); }

  // In the order of CAT.landmarks in ../cat.py.
  Landmarks landmarks() const {
    Aims aims(2.f);
    const float lip = 0.012f;
    auto curve = [&](float x) { return q[SMILE] * x * x; };
    for (float side : {-1.f, 1.f}) {
      // Base of an ear: where a ray at 60 degrees to its axis, in its plane, meets the head.
      S3 base = {side * ear_at.x, ear_at.y, ear_at.z};
      aims.add({side * (ear_sin - 1.6f * ear_cos), ear_cos + 1.6f * ear_sin, 0.5f}, base);  // inner
      aims.add({side * (ear_sin + 1.6f * ear_cos), ear_cos - 1.6f * ear_sin, 0.5f}, base);  // outer
      const float mx = side * 1.04f * mouth_r.x;
      aims.add({0, 0, 1}, {mx, mouth_at.y + curve(mx), 0.f});
      aims.add({side * 0.8f, -0.25f, 0.55f}, {0.f, -0.12f, 0.f});      // cheek
      aims.add({0, 0, 1}, {side * muzzle_at.x, muzzle_at.y, 0.f});     // muzzle
    }
    aims.add({0, 0, 1}, {0.f, mouth_at.y + mouth_r.y + lip, 0.f});     // upper lip
    aims.add({0, 0, 1}, {0.f, mouth_at.y - mouth_r.y - lip, 0.f});     // lower lip
    aims.add({0, -0.75f, 1.f}, chin_at);                               // chin
    aims.add({0, 1, 0.55f}, {0.f, 0.f, 0.f});                          // head top, a little towards the viewer
    aims.add({0, 0, 1}, {0.f, 0.27f, 0.f});                            // forehead
    const std::vector<S3> s = aims.meet(*this);
    Landmarks marks;
    for (int k = 0; k < 2; k++) {
      const float side = k ? 1.f : -1.f, ear = q[EAR_SIZE] + 0.032f;
      marks.add({side * (ear_at.x + ear * ear_sin), ear_at.y + ear * ear_cos, ear_at.z});  // tip
      marks.add(s[5 * k]);
      marks.add(s[5 * k + 1]);
      marks.add(on_eye(side, CatEyes::W, 0.f));
      marks.add(on_eye(side, -CatEyes::W, 0.f));
      marks.add(on_upper_lid(side));
      marks.add(on_lower_lid(side));
      add_pupil(marks, side);
      for (int j = 2; j < 5; j++) marks.add(s[5 * k + j]);
    }
    marks.add(nose_at + S3{0, 0, nose_r.z});
    for (int k = 10; k < 15; k++) marks.add(s[k]);
    return marks;
  }
};

}  // namespace draggan
