// A drawn human head from rounded solids. Units: half the picture's width is 1; x right, y up, z towards the viewer.
#pragma once
#include "head.h"

namespace draggan {

struct FaceEyes {
  static constexpr float LID = 1.07f;                       // radius of the lids, in eyeballs
  static constexpr float W = 0.86f, U = 0.64f, L = 0.50f;   // half-opening, in sines seen from the eyeball
  static constexpr float TURN = 0.12f;                      // eyes look slightly outwards, in radians
};

struct Face : Head<FaceEyes> {
  // The order is that of FACE in ../face.py.
  enum Parameter {
    YAW, PITCH, ROLL, SCALE, SHIFT_X, SHIFT_Y, HEAD_WIDTH, JAW_WIDTH, CHIN, CHEEKS, EYE_SIZE, EYE_GAP, EYE_OPEN,
    EYE_SLANT, GAZE_X, GAZE_Y, IRIS, BROW_HEIGHT, BROW_SLANT, BROW_THICKNESS, NOSE_SIZE, NOSE_WIDTH, NOSE_TIP,
    MOUTH_OPEN, SMILE, MOUTH_WIDTH, LIP_FULLNESS, LIP_COLOUR, EARS, HAIR_VOLUME, HAIR_LENGTH, FRINGE, PARTING, CURLS,
    HAIR_LIGHTNESS, HAIR_WARMTH, SKIN, UNDERTONE, GLASSES, CLOTH_HUE, CLOTH_BRIGHTNESS, BACK_HUE, BACK_BRIGHTNESS,
    LIGHT_X, PARAMETERS
  };
  static constexpr int LANDMARKS = 32;
  static constexpr float STEP = 0.85f;   // the eye opening and the bent mouth overstate distance a little
  static constexpr float RADIUS = 1.5f;  // everything visible lies in this ball
  static constexpr float IRIS_R = 0.525f, PUPIL_R = 0.245f;            // in sines
  static constexpr float BEND_Z = 0.9f;                                // how the mouth follows the face's roundness

  S3 skull_at, skull, jaw_at, jaw_r, chin_at, chin_r, cheek_at, muzzle_at, muzzle_r, bridge_at, bridge_r;
  S3 tip_at, wing_at, mouth_at, mouth_r, lip_r, teeth_at, teeth_r, tongue_at, tongue_r, ear_at, ear_r;
  S3 cap_at, cap_r, side_at, side_r, glass_at;
  float cheek_r, tip_r, wing_r, hair_line, hair_side, curl;
  float locks, tube, brow_y, brow_slope, brow_half;
  S3 skin, blush, lip, hair, brow, iris, iris_deep, cloth, light, shine, shine2;

  // Display colours at even places of a scale, the value between them by a straight line.
  template <int N>
  static S3 scale(const S3 (&c)[N], float t) {
    t = std::min(std::max(t, 0.f), 1.f) * (N - 1);
    int i = std::min((int)t, N - 2);
    t -= i;
    return c[i] * (1.f - t) + c[i + 1] * t;
  }
  static S3 blend(S3 a, S3 b, float t) { return a * (1.f - t) + b * t; }
  static S3 times(S3 a, S3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }

  explicit Face(const float* p) : Head(p, Pose(p[YAW], p[PITCH], p[ROLL], p[SCALE], p[SHIFT_X], p[SHIFT_Y])) {
    const float hw = q[HEAD_WIDTH], open = q[MOUTH_OPEN], chin = q[CHIN], plump = q[CHEEKS], merry = q[SMILE] / 2.9f;
    skull_at = {0.f, 0.13f, -0.06f};
    skull = {hw, 0.45f, 0.48f};
    jaw_at = {0.f, -0.15f - 0.05f * open, 0.06f};
    jaw_r = {q[JAW_WIDTH], 0.345f + 0.03f * chin, 0.355f};
    chin_at = {0.f, -0.405f - 0.055f * chin - 0.12f * open, 0.235f + 0.02f * chin};
    chin_r = {0.10f + 0.03f * chin + 0.15f * (q[JAW_WIDTH] - 0.29f), 0.085f, 0.115f};
    cheek_at = {0.215f + 0.02f * plump, -0.135f + 0.03f * std::max(merry, 0.f), 0.235f};
    cheek_r = 0.135f + 0.05f * plump;
    muzzle_at = {0.f, -0.285f - 0.02f * open, 0.30f};
    muzzle_r = {0.19f, 0.125f, 0.135f};
    eye_r = q[EYE_SIZE];
    eye_at = {q[EYE_GAP], 0.055f, 0.415f - 0.86f * eye_r};
    lids = 1.f - std::pow(1.f - std::min(std::max(q[EYE_OPEN], 0.f), 1.f), 1.6f);
    look(q[EYE_SLANT], q[GAZE_X], q[GAZE_Y]);
    brow_y = eye_at.y + eye_r * (0.80f + 0.14f * lids) + 0.045f + 0.065f * q[BROW_HEIGHT];
    brow_slope = 0.34f * q[BROW_SLANT] + 0.5f * q[EYE_SLANT];
    brow_half = 0.014f + 0.020f * q[BROW_THICKNESS];
    const float ns = q[NOSE_SIZE], nw = q[NOSE_WIDTH], tip = q[NOSE_TIP];
    bridge_at = {0.f, 0.00f, 0.375f};
    bridge_r = {0.050f * (0.6f + 0.4f * nw), 0.15f, 0.075f + 0.02f * ns};
    tip_r = 0.058f * ns * (0.75f + 0.25f * nw);
    tip_at = {0.f, -0.105f - 0.035f * ns + 0.024f * tip, 0.425f + 0.055f * ns};
    wing_r = 0.041f * ns;
    wing_at = {0.056f * nw * ns, -0.118f - 0.036f * ns + 0.006f * tip, 0.415f + 0.01f * ns};
    mouth_at = {0.f, -0.300f - 0.012f * (ns - 1.f) - 0.052f * open, 0.42f};
    mouth_r = {(q[MOUTH_WIDTH] + 0.022f * merry) * (1.f - 0.14f * open), 0.009f + 0.093f * open, 0.22f};
    const float full = q[LIP_FULLNESS];
    lip_r = {mouth_r.x + 0.022f, mouth_r.y + 0.022f + 0.026f * full, 0.052f + 0.016f * full};
    teeth_at = {0.f, mouth_at.y + mouth_r.y * 0.95f, 0.385f};
    teeth_r = {mouth_r.x * 0.84f, 0.006f + 0.066f * open, 0.045f};
    tongue_at = {0.f, mouth_at.y - mouth_r.y * 0.80f, 0.33f};
    tongue_r = {mouth_r.x * 0.66f, 0.006f + 0.052f * open, 0.09f};
    ear_at = {hw - 0.005f, 0.01f, -0.07f};
    ear_r = {0.075f * q[EARS], 0.125f * q[EARS], 0.062f};

    // Hair: a shell around the skull, thinner than nothing when bald, and a curtain on each side.
    const float v = q[HAIR_VOLUME], length = std::max(q[HAIR_LENGTH], 0.f), grown = smoothstep(0.03f, 0.08f, v);
    const float cropped = std::min(q[HAIR_LENGTH], 0.f);
    const float thick = -0.045f + (0.062f + 0.085f * v + 0.05f * v * q[CURLS]) * grown;
    const float hang = smoothstep(0.02f, 0.36f, length) * smoothstep(0.06f, 0.14f, v);
    cap_at = {0.015f * q[PARTING] * grown, skull_at.y + 0.05f * v * grown, skull_at.z - 0.035f};
    cap_r = {hw + thick * (0.9f + 0.5f * cropped), skull.y + thick * 1.15f, skull.z + thick};
    side_at = {hw - 0.20f + 0.12f * hang, 0.10f - 0.42f * length * hang, -0.16f};
    side_r = {0.11f + (0.07f + 0.04f * v) * hang, 0.30f + 0.32f * length * hang, 0.16f + 0.08f * hang};
    hair_line = 0.425f - 0.175f * q[FRINGE];
    hair_side = -0.06f + 0.06f * cropped + 0.18f * hang;
    locks = 0.010f * (1.f - 0.7f * q[CURLS]) * smoothstep(0.05f, 0.30f, v);
    curl = 0.022f * q[CURLS] * grown * (0.4f + 0.6f * v);
    tube = 0.0138f * smoothstep(0.788f, 0.800f, q[GLASSES]);
    glass_at = {eye_at.x + 0.012f, eye_at.y - 0.012f, eye_at.z + eye_r * FaceEyes::LID + 0.035f};

    // Even steps of lightness, once lit: about L* 83 to 32 on the cheek.
    const S3 tones[] = {{0.900f, 0.785f, 0.715f}, {0.806f, 0.654f, 0.550f}, {0.702f, 0.536f, 0.417f},
                        {0.591f, 0.426f, 0.316f}, {0.476f, 0.330f, 0.240f}, {0.360f, 0.245f, 0.185f}};
    S3 tone = scale(tones, q[SKIN]);
    const float warm = q[UNDERTONE];
    tone = times(tone, S3{1.f - 0.012f * warm, 1.f + 0.018f * warm, 1.f - 0.060f * warm});
    skin = linear(tone);
    blush = linear(times(tone, S3{1.0f, 0.72f, 0.70f}));
    const float dark = q[SKIN];
    S3 natural = times(tone, blend(S3{0.94f, 0.62f, 0.62f}, S3{0.86f, 0.70f, 0.74f}, dark));
    lip = linear(blend(natural, blend(S3{0.84f, 0.24f, 0.28f}, S3{0.58f, 0.12f, 0.18f}, dark), 0.85f * q[LIP_COLOUR]));
    const S3 melanin[] = {{0.095f, 0.080f, 0.080f}, {0.235f, 0.155f, 0.115f}, {0.420f, 0.275f, 0.175f},
                          {0.660f, 0.480f, 0.290f}, {0.860f, 0.720f, 0.470f}};
    const float light_hair = q[HAIR_LIGHTNESS], grey = smoothstep(-0.50f, -0.90f, q[HAIR_WARMTH]);
    const float red = smoothstep(0.50f, 0.90f, q[HAIR_WARMTH]);
    S3 colour = scale(melanin, light_hair);
    colour = blend(colour, blend(S3{0.40f, 0.13f, 0.07f}, S3{0.90f, 0.46f, 0.17f}, light_hair), 0.85f * red);
    colour = blend(colour, blend(S3{0.42f, 0.42f, 0.44f}, S3{0.85f, 0.85f, 0.85f}, light_hair), grey);
    hair = linear(colour);
    // Light brows take something of the skin, so that they are seen on it.
    brow = linear(blend(colour * 0.62f, times(tone, S3{0.50f, 0.42f, 0.38f}), 0.30f));
    const S3 irises[] = {{0.30f, 0.16f, 0.09f}, {0.48f, 0.28f, 0.13f}, {0.58f, 0.44f, 0.18f},
                         {0.36f, 0.58f, 0.32f}, {0.30f, 0.58f, 0.80f}, {0.58f, 0.68f, 0.76f}};
    S3 eye = scale(irises, q[IRIS]);
    iris = linear(blend(eye, S3{1.f, 1.f, 1.f}, 0.08f));
    iris_deep = linear(eye * 0.52f);
    const float cb = q[CLOTH_BRIGHTNESS];
    cloth = linear(hsv(q[CLOTH_HUE], 0.62f - 0.30f * cb, cb));
    const float h = q[BACK_HUE], b = q[BACK_BRIGHTNESS], s = 0.40f - 0.16f * b;
    back_top = linear(hsv(h, s, b));
    back_bottom = linear(hsv(h, s * 1.1f, b * 0.72f));
    glow = linear(hsv(h, s * 0.6f, std::min(1.f, b * 1.15f + 0.03f)));
    glow_x = 0.45f * q[LIGHT_X];
    light = normalize(pose.to_object(S3{q[LIGHT_X], 0.70f, 0.95f}));
    shine = normalize(pose.to_object(S3{0.36f * q[LIGHT_X], 0.34f, 1.f}));
    shine2 = normalize(pose.to_object(S3{-0.40f * q[LIGHT_X], -0.30f, 1.f}));
  }

  HD static F sphere(V p, S3 c, float r) {
    V e = p - c;
    return sqrt(dot(e, e)) - r;
  }

  HD V bent(V p, V s) const {  // the mouth's own coordinates
    F x = min(s.x, 0.26f), x2 = x * x;
    return {p.x, p.y - q[SMILE] * x2, p.z + BEND_Z * x2};
  }
  HD F cavity(V m) const {
    // The approximate distance to a slit is far too short beside its ends: the limit in width corrects that.
    return max(ellipsoid(m, mouth_at, mouth_r), abs(m.x) - mouth_r.x) * 0.8f;
  }
  HD F lips(V m) const { return ellipsoid(m, {0.f, mouth_at.y - 0.004f, 0.400f}, lip_r) * 0.8f; }
  HD F teeth(V m) const { return ellipsoid(m, teeth_at, teeth_r) * 0.8f; }
  HD F tongue(V m) const { return ellipsoid(m, tongue_at, tongue_r) * 0.8f; }

  HD F neck(V p) const {
    return ellipsoid(p, {0.f, -0.58f, -0.09f}, {0.165f + 0.12f * (q[JAW_WIDTH] - 0.29f), 0.42f, 0.17f});
  }
  HD F torso(V p) const { return ellipsoid(p, {0.f, -1.21f, -0.14f}, {0.78f, 0.53f, 0.40f}); }
  HD F ear(V s) const {
    F d = ellipsoid(s, ear_at, ear_r);
    return smax(d, -sphere(s, {ear_at.x + 0.040f, ear_at.y + 0.005f, ear_at.z + 0.085f}, 0.070f * q[EARS]), 0.03f);
  }
  HD F head(V p, V s) const {  // skin without the features in front
    F d = ellipsoid(p, skull_at, skull);
    d = smin(d, ellipsoid(p, jaw_at, jaw_r), 0.20f);
    d = smin(d, ear(s), 0.035f);
    d = smin(d, neck(p), 0.06f);
    return smin(d, torso(p), 0.13f);
  }
  HD F nose(V p, V s) const {
    F d = smin(ellipsoid(p, bridge_at, bridge_r), sphere(p, tip_at, tip_r), 0.07f);
    return smin(d, sphere(s, wing_at, wing_r), 0.035f);
  }
  HD F features(F d, V p, V s, const Eye& y, F hole, F lip_d) const {
    d = smin(d, sphere(s, cheek_at, cheek_r), 0.16f);
    d = smin(d, ellipsoid(p, chin_at, chin_r), 0.12f);
    d = smin(d, ellipsoid(p, muzzle_at, muzzle_r), 0.14f);
    d = smin(d, y.r - eye_r * FaceEyes::LID, 0.05f);
    d = max(d, y.open() * y.r * 0.62f);
    d = smin(d, nose(p, s), 0.085f);
    d = smin(d, lip_d, 0.018f);
    return smax(d, -hole, 0.012f);
  }
  HD F strands(V p) const {  // -1..1 across the locks
    return wave(21.f * p.x + 8.f * q[PARTING] * (p.y - 0.4f) - 1.5708f);
  }
  HD F mane(V p, V s) const {
    F d = ellipsoid(p, cap_at, cap_r);
    F lock = locks * strands(p);
    F line = hair_line - 0.40f * p.x * p.x + 0.30f * q[PARTING] * p.x + lock;
    F window = smax(p.y - line, hair_side + 0.5f * (p.y - 0.1f) - p.z, 0.12f);
    d = smax(d, -window, 0.035f);
    d = smin(d, ellipsoid(s, side_at, side_r), 0.09f) + lock * 0.8f;
    if (curl > 0.001f) d = d + curl * wave(p.x * 26.f + 1.5708f) * wave(p.y * 26.f + 1.f) * wave(p.z * 26.f + 0.8f);
    return d;
  }
  HD F glasses(V s) const {
    const float R = 0.150f;
    F dx = s.x - glass_at.x, dy = s.y - glass_at.y, dz = s.z - glass_at.z;
    F ring = sqrt(dx * dx * 0.92f + dy * dy + 1e-8f) - R;
    F d = sqrt(ring * ring + dz * dz);
    F bx = max(s.x - (glass_at.x - R), 0.f), by = s.y - glass_at.y - 0.035f;
    d = min(d, sqrt(bx * bx + by * by + dz * dz));
    const S3 a = {glass_at.x + R, glass_at.y + 0.02f, glass_at.z}, b = {skull.x + 0.02f, glass_at.y + 0.03f, -0.08f};
    const S3 ab = b + a * -1.f;
    V e = s - a;
    F t = clamp((e.x * ab.x + e.y * ab.y + e.z * ab.z) * (1.f / (ab.x * ab.x + ab.y * ab.y + ab.z * ab.z)), 0.f, 1.f);
    e = {e.x - ab.x * t, e.y - ab.y * t, e.z - ab.z * t};
    d = min(d, sqrt(dot(e, e)));
    return d - tube;
  }

  HD F distance(V p) const {
    V s = {abs(p.x), p.y, p.z};
    F d = head(p, s);
    F far = min(d, mane(p, s));
    // Features lie in a box and stand out by less than 0.15. As long as no lane comes near, they need no look; the
    // margin is as wide as occlusion and shadow see, so nobody notices.
    F box = max(max(s.x - 0.45f, 0.10f - p.z), max(p.y - 0.30f, -0.66f - p.y));
    if (!any((far < 0.35f) & (box < 0.20f))) return min(far, max(box, far - 0.15f));
    Eye y = eye(s);
    V m = bent(p, s);
    d = features(d, p, s, y, cavity(m), lips(m));
    // The plain head stays as it is: it closes the mouth behind teeth and tongue.
    d = min(min(d, far), min(y.r - eye_r, min(teeth(m), tongue(m))));
    if (tube > 0.f) d = min(d, glasses(s));
    return d;
  }

  HD F brow_line(F x) const {  // height of a brow over x, arched
    F t = x - eye_at.x;
    return brow_y + brow_slope * t - 1.5f * t * t;
  }

  struct Surface {  // what a point of the surface belongs to; the inside of the mouth is skin too
    M glass, hair, eye, teeth, tongue, skin, mouth;
  };
  HD Surface surface(V p, V s, V m, const Eye& y, F hole, F lip_d) const {
    F d_head = head(p, s), d_skin = features(d_head, p, s, y, hole, lip_d), d_hair = mane(p, s), d_eye = y.r - eye_r;
    // What lies behind the face keeps what the features do not carve.
    d_skin = select(p.z > 0.08f, d_skin, d_head);
    F d_teeth = teeth(m), d_tongue = tongue(m), d_glass = tube > 0.f ? glasses(s) : splat(9.f);
    F nearest = min(min(min(d_skin, d_hair), min(d_eye, d_glass)), min(d_teeth, d_tongue));
    M front = p.z > 0.08f;
    M glass = d_glass <= nearest, hair = (d_hair <= nearest) & ~glass;
    M eye = (d_eye <= nearest) & ~glass & front, teeth = (d_teeth <= nearest) & ~glass & front;
    M tongue = (d_tongue <= nearest) & ~glass & ~teeth & front;
    M skin = ~(glass | hair | eye | teeth | tongue);
    return {glass, hair, eye, teeth, tongue, skin, (hole < 0.004f) & skin & (p.z > 0.15f)};
  }
  HD F lip_mask(V p, F lip_d) const { return smoothstep(0.010f, 0.001f, lip_d) * smoothstep(0.25f, 0.30f, p.z); }
  HD F brow_mask(V p, V s) const {
    F bt = clamp((s.x - eye_at.x) * (1.f / 0.15f) * 0.5f + 0.5f, 0.f, 1.f);
    F half = brow_half * (1.15f - 0.65f * bt * bt);
    F d = abs(p.y - brow_line(s.x)) - half;
    F ends = max(s.x - eye_at.x - 0.145f, eye_at.x - 0.125f - s.x);
    d = smax(d, ends, 0.03f);
    return smoothstep(0.012f, -0.006f, d) * smoothstep(0.05f, 0.12f, p.z);
  }
  HD F neckline(V p) const {  // below 0: clothing
    F r = min(sqrt(p.x * p.x + (p.z + 0.1f) * (p.z + 0.1f)), 0.25f);
    return p.y + 0.71f - 0.55f * (r - 0.20f);
  }
  HD M on_nose(V p) const {
    V d = p - S3{0.f, tip_at.y, 0.44f};
    return d.x * d.x * 0.6f + d.y * d.y < 0.0062f;
  }

  HD Sample shade(V p, V ray) const {
    V s = {abs(p.x), p.y, p.z};
    V n = normal(*this, p);
    Eye y = eye(s);
    V m = bent(p, s);
    F hole = cavity(m), lip_d = lips(m);
    const auto [is_glass, is_hair, is_eye, is_teeth, is_tongue, is_skin, is_mouth] = surface(p, s, m, y, hole, lip_d);

    // Skin: rosy where blood is near.
    V c = splat(skin);
    F bx = (s.x - 0.25f) * (1.f / 0.17f), by = (p.y + 0.13f) * (1.f / 0.12f);
    F rosy = smoothstep(1.f, 0.f, bx * bx + by * by) * smoothstep(0.05f, 0.2f, p.z) * 0.42f;
    V to_tip = p - tip_at;
    rosy = max(rosy, smoothstep(0.013f, 0.002f, dot(to_tip, to_tip)) * 0.40f);
    rosy = max(rosy, smoothstep(skull.x - 0.03f, skull.x + 0.05f, s.x) * smoothstep(-0.3f, -0.1f, p.y) * 0.6f);
    c = mix(c, splat(blush), rosy);
    // Nostrils.
    F nx = (s.x - wing_at.x * 0.62f) * (1.f / 0.022f), ny = (p.y - wing_at.y + 0.030f) * (1.f / 0.013f);
    F nostril = smoothstep(1.6f, 0.5f, nx * nx + ny * ny) * smoothstep(0.36f, 0.40f, p.z);
    c = mix(c, splat(blush) * 0.22f, nostril * 0.75f);
    // Lips.
    F lip_here = lip_mask(p, lip_d);
    c = mix(c, splat(lip), lip_here);
    F seam = smoothstep(0.018f, 0.004f, abs(hole)) * smoothstep(0.30f, 0.36f, p.z);
    c = mix(c, splat(lip) * 0.22f, seam * 0.65f);
    // Lids: a dark line along the upper one, a faint one along the lower; shut eyes are that line.
    F by_eye = smoothstep(1.28f, 1.12f, y.r * (1.f / eye_r)) * smoothstep(0.f, 0.25f, y.front);
    F between = smoothstep(-0.07f, 0.01f, min(y.upper, y.lower));
    F upper = smoothstep(-0.17f, -0.05f, y.upper) * smoothstep(-0.09f, -0.01f, y.lower);
    F lower = smoothstep(-0.13f, -0.02f, y.lower) * smoothstep(-0.02f, 0.04f, y.upper);
    F rim = by_eye * max(upper, max(lower * 0.45f, between));
    c = mix(c, splat(linear(S3{0.12f, 0.085f, 0.08f})), rim * 0.9f);
    // Brows.
    F brow_here = brow_mask(p, s);
    c = mix(c, splat(brow), brow_here * 0.92f);
    // Clothing.
    F collar = neckline(p), cloth_here = smoothstep(0.008f, -0.008f, collar);
    F rib = smoothstep(-0.075f, -0.060f, collar);
    c = mix(c, mix(splat(cloth), splat(cloth) * 0.62f, rib), cloth_here);

    // Eyeball: white, iris with a dark limb and a light lower half, round pupil.
    V ed = in_eye(p), off = ed - gaze;
    F r2 = sqrt(off.x * off.x + off.y * off.y);
    V ec = splat(linear(S3{0.97f, 0.95f, 0.93f}));
    V ic = mix(splat(iris_deep), splat(iris), smoothstep(0.54f, 0.24f, r2 + 0.35f * off.y));
    ic = mix(ic, splat(iris_deep) * 0.5f, smoothstep(0.42f, 0.52f, r2));
    ec = mix(ec, ic, smoothstep(0.56f, 0.49f, r2));
    ec = mix(ec, splat(S3{0.004f, 0.004f, 0.006f}), smoothstep(0.28f, 0.21f, r2));
    ec = ec * mix(splat(0.45f), splat(1.f), smoothstep(-0.02f, 0.26f, y.upper));  // the lid's shadow
    c = select(is_eye, ec, c);

    // Hair: a little darker in soft strands.
    F strand = strands(p);
    V hc = splat(hair) * (1.f - 0.15f * strand);
    c = select(is_hair, hc, c);
    F deep = smoothstep(0.44f, 0.26f, p.z);
    c = select(is_mouth, mix(splat(linear(S3{0.52f, 0.16f, 0.17f})), splat(linear(S3{0.22f, 0.05f, 0.07f})), deep), c);
    c = select(is_teeth, splat(linear(S3{0.97f, 0.95f, 0.92f})), c);
    c = select(is_tongue, splat(linear(S3{0.86f, 0.42f, 0.43f})), c);
    c = select(is_glass, splat(linear(S3{0.16f, 0.13f, 0.13f})), c);

    // Light: warm key with a soft shadow, sky from above, the backdrop's colour as fill and as rim.
    F ao = occlusion(*this, p, n);
    F lambert = dot(n, splat(light));
    F shadow = mix(splat(0.42f), splat(1.f), soft_shadow(*this, p + n * 0.01f, splat(light)));
    // Skin lets light through: red reaches further into the dark side.
    F lr = clamp(lambert * 0.72f + 0.28f, 0.f, 1.f), lb = clamp(lambert * 0.80f + 0.20f, 0.f, 1.f);
    V nc = pose.to_camera<V>(n);
    F sky = ao * (0.31f + 0.15f * nc.y);
    F inside = select(is_mouth | is_teeth | is_tongue, smoothstep(0.20f, 0.36f, p.z) * 0.75f + 0.25f, splat(1.f));
    F key = shadow * 1.06f * inside;
    V lit = {lr * key * 1.03f + sky * 0.96f, lb * key + sky, lb * key * 0.94f + sky * 1.06f};
    lit = lit + splat(glow) * (ao * 0.12f);
    F facing = clamp(1.f - max(-dot(n, ray), 0.f), 0.f, 1.f);
    F edge = facing * facing * facing * ao * select(is_eye | is_teeth, 0.05f, splat(0.30f));
    V out = c * lit + splat(glow) * edge;
    // Highlights: broad on skin, narrower on hair and lips, two painted catch-lights on the eyes.
    V halfway = normalize(splat(light) - ray);
    F spec = max(dot(n, halfway), 0.f);
    spec = spec * spec;
    spec = spec * spec;
    F spec8 = spec * spec, spec16 = spec8 * spec8, spec32 = spec16 * spec16;
    F skin_shine = spec16 * 0.075f + spec32 * lip_here * 0.22f;
    F gloss = select(is_hair, (spec8 * 0.05f + spec16 * 0.10f) * (1.f - 0.3f * strand), skin_shine);
    gloss = select(is_eye | is_mouth, 0.f, gloss) + select(is_glass | is_teeth | is_tongue, spec32 * 0.4f, splat(0.f));
    gloss = gloss * shadow * (1.f - cloth_here) * (1.f - brow_here);
    out = out + V{gloss, gloss, gloss};
    F s1 = smoothstep(0.962f, 0.976f, dot(ed, splat(shine))), s2 = smoothstep(0.984f, 0.992f, dot(ed, splat(shine2)));
    out = select(is_eye, mix(out, splat(S3{0.98f, 0.98f, 0.98f}), max(s1, 0.30f * s2)), out);

    // Weights for training: what a viewer looks at and what the pictures disagree about.
    F imp = splat(2.f);
    imp = select(p.y < -0.62f, 1.f, imp);
    imp = select(is_hair, 2.f, imp);
    M face = (p.z > 0.15f) & (s.x < 0.40f) & (p.y < 0.36f) & ~is_hair;
    imp = select(face & (p.y > -0.52f), 4.f, imp);
    imp = select(face & (p.y > brow_y - 0.14f), 5.f, imp);
    imp = select((brow_here > 0.3f) & is_skin, 8.f, imp);
    imp = select(on_nose(p) & face, 12.f, imp);
    imp = select((rim > 0.3f) & is_skin, 10.f, imp);
    imp = select(is_glass, 8.f, imp);
    imp = select((is_eye | is_mouth | is_teeth | is_tongue | ((lip_here > 0.3f) & is_skin)), 12.f, imp);
    return {out, imp};
  }

  // A number in FACE.parts in ../face.py.
  HD F label(V p) const {
    V s = {abs(p.x), p.y, p.z};
    Eye y = eye(s);
    V m = bent(p, s);
    F hole = cavity(m), lip_d = lips(m);
    const Surface at = surface(p, s, m, y, hole, lip_d);
    F part = splat(2.f);                                                                // skin
    part = select(neckline(p) < 0.f, 1.f, part);                                        // clothing
    part = select((ear(s) < 0.02f) & (s.x > skull.x - 0.02f), 3.f, part);               // ear
    part = select(on_nose(p) & (p.z > 0.15f), 4.f, part);                               // nose
    part = select(brow_mask(p, s) > 0.5f, 5.f, part);                                   // brow
    part = select(lip_mask(p, lip_d) > 0.5f, 6.f, part);                                // lips
    part = select(at.mouth, 7.f, part);                                                 // mouth
    part = select(at.teeth, 8.f, part);                                                 // teeth
    part = select(at.tongue, 9.f, part);                                                // tongue
    V off = in_eye(p) - gaze;
    F r2 = off.x * off.x + off.y * off.y;
    F eye_part = select(r2 < IRIS_R * IRIS_R, select(r2 < PUPIL_R * PUPIL_R, splat(12.f), splat(11.f)), splat(10.f));
    part = select(at.eye, eye_part, part);                                              // eye_white, iris, pupil
    part = select(at.hair, 13.f, part);                                                 // hair
    return select(at.glass, 14.f, part);                                                // glasses
  }

  // What flow.h needs. Material coordinates: see there.
  enum Solid { SKIN_SOLID, HAIR, EYEBALL, TEETH, TONGUE, FRAME, SOLIDS };
  enum Part {
    FIXED, SKULL, JAW, CHIN_PART, CHEEK_L, CHEEK_R, NOSE, EAR_L, EAR_R, LID_L, LID_R, MOUTH, BALL_L, BALL_R, TEETH_PART,
    TONGUE_PART, HAIR_PART, FRAME_L, FRAME_R, PARTS
  };
  static constexpr float REACH = 0.30f;

  F solid(int k, V p) const {
    V s = {abs(p.x), p.y, p.z};
    if (k == HAIR) return mane(p, s);
    if (k == FRAME) return glasses(s);
    V m = bent(p, s);
    if (k == TEETH) return teeth(m);
    if (k == TONGUE) return tongue(m);
    Eye y = eye(s);
    if (k == EYEBALL) return y.r - eye_r;
    F d = head(p, s);
    return min(d, features(d, p, s, y, cavity(m), lips(m)));
  }

  void weights(int solid, V m, F* w) const {
    const F one = splat(1.f);
    F sharp = select(m.x > 0.f, one, 0.f);
    if (solid == HAIR) w[HAIR_PART] = one;
    if (solid == TEETH) w[TEETH_PART] = one;
    if (solid == TONGUE) w[TONGUE_PART] = one;
    if (solid == FRAME) w[FRAME_R] = sharp, w[FRAME_L] = 1.f - sharp;
    if (solid == EYEBALL) w[BALL_R] = sharp, w[BALL_L] = 1.f - sharp;
    if (solid != SKIN_SOLID) return;
    V s = {abs(m.x), m.y, m.z}, b = bent(m, s);
    // Lips, lids, nose and ears own what is near, in this order; the rest is shared by distance.
    Eye y = eye(s);
    F lip = smoothstep(0.09f, 0.012f, lips(b)) * smoothstep(0.20f, 0.28f, m.z);
    F lid = smoothstep(1.60f, 1.12f, y.r * (1.f / eye_r)) * smoothstep(0.02f, 0.35f, y.front) * (1.f - lip);
    F tip = smoothstep(0.07f, 0.005f, nose(m, s)) * smoothstep(0.05f, -0.02f, m.y) * (1.f - lip) * (1.f - lid);
    F ears = smoothstep(0.07f, 0.0f, ear(s)) * smoothstep(skull.x - 0.06f, skull.x + 0.01f, s.x);
    F right = smoothstep(-0.05f, 0.05f, m.x), left = 1.f - right;
    w[MOUTH] = lip;
    w[LID_L] = lid * left, w[LID_R] = lid * right;
    w[NOSE] = tip;
    w[EAR_L] = ears * left, w[EAR_R] = ears * right;
    F top = share(ellipsoid(m, skull_at, skull)) + 1e-4f, jaw = share(ellipsoid(m, jaw_at, jaw_r));
    F chin = share(ellipsoid(m, chin_at, chin_r)), cheek = share(sphere(s, cheek_at, cheek_r));
    F fixed = share(neck(m)) + share(torso(m));
    F k = (1.f - lip - lid - tip - ears) / (top + jaw + chin + cheek + fixed);
    w[FIXED] = fixed * k;
    w[SKULL] = top * k;
    w[JAW] = jaw * k;
    w[CHIN_PART] = chin * k;
    w[CHEEK_L] = cheek * k * left, w[CHEEK_R] = cheek * k * right;
  }

  V local(int part, V p) const {
    const float side = on_left(part) ? -1.f : 1.f;
    V s = {p.x * side, p.y, p.z};
    switch (part) {
      case SKULL: return {p.x * (1.f / skull.x), p.y, p.z};
      case JAW: return V{p.x, p.y - jaw_at.y, p.z - jaw_at.z} * splat(inverse(jaw_r));
      case CHIN_PART: return V{p.x, p.y - chin_at.y, p.z - chin_at.z} * splat(inverse(chin_r));
      case CHEEK_L:
      case CHEEK_R: return (s - cheek_at) * (1.f / cheek_r);
      case NOSE: return (p - tip_at) * splat(inverse(nose_scale()));
      case EAR_L:
      case EAR_R: return (s - ear_at) * splat(inverse(ear_r));
      case LID_L:
      case LID_R: return lid_local(s);
      case MOUTH: {
        F ax = abs(p.x), x = select(ax < mouth_r.x, p.x * (1.f / mouth_r.x), sign(p.x) * (1.f + (ax - mouth_r.x)));
        V m = bent(p, {ax, p.y, p.z});
        F v = m.y - mouth_at.y, av = abs(v), inner, outer;
        lip_knots(p.x, inner, outer);
        F t = select(av < inner, av / inner, 1.f + (av - inner) / (outer - inner));
        return {x, sign(v) * select(av < outer, t, 2.f + (av - outer)), m.z};
      }
      case BALL_L:
      case BALL_R: {
        V e = s - eye_at;
        F r2 = dot(e, e), k = rsqrt(r2 + 1e-8f), iris_half, rim, shift;
        const S3 g = gaze_direction();
        F x = e.x * side * k, y = e.y * k, u = x * g.x + y * g.y, v = y * g.x - x * g.y;
        gaze_knots(v, iris_half, rim, shift);
        F outside = (rim - iris_half), t = u - shift;
        t = select(t < -iris_half, (u + rim) * outside / (outside + shift) - rim, t);
        t = select(t > iris_half, rim - (rim - u) * outside / (outside - shift), t);
        return {t * g.x - v * g.y, t * g.y + v * g.x, r2 * k * (1.f / eye_r)};
      }
      case TEETH_PART: return (bent(p, {abs(p.x), p.y, p.z}) - teeth_at) * splat(inverse(teeth_r));
      case TONGUE_PART: return (bent(p, {abs(p.x), p.y, p.z}) - tongue_at) * splat(inverse(tongue_r));
      case HAIR_PART: {
        F y = p.y - HAIR_MIDDLE;
        return {(p.x - cap_at.x) * (1.f / cap_r.x), y * select(y > 0.f, splat(1.f / above()), splat(1.f / below())),
                p.z * (1.f / cap_r.z)};
      }
      case FRAME_L:
      case FRAME_R: return s - glass_at;
      default: return p;
    }
  }

  V global(int part, V n) const {
    const float side = on_left(part) ? -1.f : 1.f;
    switch (part) {
      case SKULL: return {n.x * skull.x, n.y, n.z};
      case JAW: return n * splat(jaw_r) + jaw_at;
      case CHIN_PART: return n * splat(chin_r) + chin_at;
      case CHEEK_L:
      case CHEEK_R: return mirrored(n * cheek_r + cheek_at, side);
      case NOSE: return n * splat(nose_scale()) + tip_at;
      case EAR_L:
      case EAR_R: return mirrored(n * splat(ear_r) + ear_at, side);
      case LID_L:
      case LID_R: return mirrored(lid_global(n), side);
      case MOUTH: {
        F ax = abs(n.x), x = select(ax < 1.f, n.x * mouth_r.x, sign(n.x) * (mouth_r.x + (ax - 1.f)));
        F inner, outer, t = abs(n.y);
        lip_knots(x, inner, outer);
        F v = select(t < 1.f, t * inner, inner + (t - 1.f) * (outer - inner));
        return straight({x, sign(n.y) * select(t < 2.f, v, outer + (t - 2.f)) + mouth_at.y, n.z});
      }
      case BALL_L:
      case BALL_R: {
        const S3 g = gaze_direction();
        F t = n.x * g.x + n.y * g.y, v = n.y * g.x - n.x * g.y, iris_half, rim, shift;
        gaze_knots(v, iris_half, rim, shift);
        F outside = (rim - iris_half), u = t + shift;
        u = select(t < -iris_half, (t + rim) * (outside + shift) / outside - rim, u);
        u = select(t > iris_half, rim - (rim - t) * (outside - shift) / outside, u);
        F x = u * g.x - v * g.y, y = u * g.y + v * g.x, r = n.z * eye_r, z = sqrt(max(1.f - x * x - y * y, 1e-4f));
        return {x * r + side * eye_at.x, y * r + eye_at.y, z * r + eye_at.z};
      }
      case TEETH_PART: return straight(n * splat(teeth_r) + teeth_at);
      case TONGUE_PART: return straight(n * splat(tongue_r) + tongue_at);
      case HAIR_PART:
        return {n.x * cap_r.x + cap_at.x, HAIR_MIDDLE + n.y * select(n.y > 0.f, splat(above()), splat(below())),
                n.z * cap_r.z};
      case FRAME_L:
      case FRAME_R: return mirrored(n + glass_at, side);
      default: return n;
    }
  }

  static bool on_left(int part) {
    return part == CHEEK_L || part == EAR_L || part == LID_L || part == BALL_L || part == FRAME_L;
  }
  V straight(V m) const {  // undoes `bent`
    F x = min(abs(m.x), 0.26f), x2 = x * x;
    return {m.x, m.y + q[SMILE] * x2, m.z - BEND_Z * x2};
  }
  S3 nose_scale() const { return {q[NOSE_WIDTH] * q[NOSE_SIZE], q[NOSE_SIZE], q[NOSE_SIZE]}; }
  // The iris moves in the direction of the gaze as a whole, the white before and behind it gives way, the rim stays.
  // On a line in that direction, at a distance v from the eye's middle: half the iris, the rim, how far the iris moves.
  S3 gaze_direction() const {
    const float r = std::sqrt(gaze.x * gaze.x + gaze.y * gaze.y);
    return r > 1e-5f ? S3{gaze.x / r, gaze.y / r, 0.f} : S3{1.f, 0.f, 0.f};
  }
  void gaze_knots(F v, F& iris_half, F& rim, F& shift) const {
    rim = sqrt(max(1.f - v * v, 1e-4f));
    iris_half = min(sqrt(max(IRIS_R * IRIS_R - v * v, 4e-4f)), rim * 0.55f);
    shift = smoothstep(1.f, 0.6f, abs(v)) * std::sqrt(gaze.x * gaze.x + gaze.y * gaze.y);
    shift = min(shift, (rim - iris_half) * 0.95f);
  }
  // Half-heights of the mouth's opening and of the lips around it.
  void lip_knots(F x, F& inner, F& outer) const {
    F x2 = x * x;
    inner = mouth_r.y * sqrt(max(1.f - x2 * (1.f / (mouth_r.x * mouth_r.x)), 0.02f));
    outer = max(lip_r.y * sqrt(max(1.f - x2 * (1.f / (lip_r.x * lip_r.x)), 0.02f)), inner + 0.01f);
  }
  // Hair stretches from here to its top and to its lower end.
  static constexpr float HAIR_MIDDLE = 0.15f;
  float above() const { return cap_at.y + cap_r.y - HAIR_MIDDLE; }
  float below() const { return HAIR_MIDDLE - std::min(cap_at.y - cap_r.y, side_at.y - side_r.y); }

  // In the order of FACE.landmarks in ../face.py.
  Landmarks landmarks() const {
    Aims aims(2.f);
    auto bend = [&](float x) { return q[SMILE] * x * x; };
    auto brow_at = [&](float side, float t) {
      float x = eye_at.x + t;
      aims.add({0, 0, 1}, {side * x, brow_line(splat(x))[0], 0.f});
    };
    const float lip_edge = lip_r.y * 0.72f;
    constexpr int PER_SIDE = 7;
    for (float side : {-1.f, 1.f}) {
      aims.add({0, 0, 1}, on_eye(side, -0.90f * FaceEyes::W, 0.f));  // the nose grows over the very corner
      brow_at(side, -0.105f);
      brow_at(side, 0.120f);
      aims.add({side * 0.55f, -0.1f, 1.f}, {side * wing_at.x, wing_at.y, wing_at.z});
      const float mx = side * 1.02f * mouth_r.x;
      aims.add({0, 0, 1}, {mx, mouth_at.y + bend(mx), 0.f});
      aims.add({side * 1.f, -0.45f, 0.8f}, {side * 0.10f, -0.26f, 0.f});   // jaw
      aims.add({side * 0.55f, -0.05f, 1.f}, S3{side * cheek_at.x, cheek_at.y, cheek_at.z});
    }
    aims.add({0, 0, 1}, {0.f, 0.045f, 0.f});                            // nose bridge
    aims.add({0, 0.05f, 1}, tip_at);                                    // nose tip
    aims.add({0, 0, 1}, {0.f, mouth_at.y + lip_edge, 0.f});             // upper lip
    aims.add({0, 0, 1}, {0.f, mouth_at.y - lip_edge, 0.f});             // lower lip
    aims.add({0, -0.75f, 1.f}, chin_at);                                // chin
    aims.add({0, 0, 1}, {0.f, (brow_y + hair_line) * 0.5f, 0.f});       // forehead
    aims.add({0, 0.2f, 1}, {0.f, hair_line, 0.2f});                     // hairline
    aims.add({0, 1, 0.5f}, {0.f, 0.1f, -0.05f});                        // head top, a little towards the viewer
    const std::vector<S3> s = aims.meet(*this);
    auto in_hair = [&](S3 at) {
      V p = splat(at), m = splat(S3{std::fabs(at.x), at.y, at.z});
      return mane(p, m)[0] < 0.012f;
    };
    Landmarks marks;
    for (int k = 0; k < 2; k++) {
      const float side = k ? 1.f : -1.f;
      const S3* own = &s[PER_SIDE * k];
      marks.add(on_eye(side, 0.95f * FaceEyes::W, 0.f));
      marks.add(own[0]);
      marks.add(on_upper_lid(side));
      marks.add(on_lower_lid(side));
      add_pupil(marks, side);
      marks.add(own[1], in_hair(own[1]));
      marks.add(own[2], in_hair(own[2]));
      marks.add(own[3]);
      marks.add(own[4]);
      S3 ear = {side * (ear_at.x + 0.75f * ear_r.x), ear_at.y + 0.02f, ear_at.z + 0.55f * ear_r.z};
      marks.add(ear, in_hair(ear));
      marks.add(own[5], in_hair(own[5]));
      marks.add(own[6], in_hair(own[6]));
    }
    for (int k = 0; k < 8; k++) marks.add(s[2 * PER_SIDE + k], k == 5 && in_hair(s[2 * PER_SIDE + k]));
    return marks;
  }
};

}  // namespace draggan
