// A toy car from rounded slabs. Units: half the picture's width is 1; x along the car to its front, y up from the
// ground, z to its right side, which the viewer sees.
#pragma once
#include "raymarch.h"

namespace draggan {

struct Car {
  // The order is that of CAR in ../car.py.
  enum Parameter {
    YAW, PITCH, SCALE, SHIFT_X, SHIFT_Y, LENGTH, WIDTH, BODY_HEIGHT, HOOD, HOOD_DROP, TRUNK, TRUNK_DROP, ROOF_HEIGHT,
    WINDSCREEN, REAR_WINDOW, RIDE_HEIGHT, WHEEL_SIZE, FRONT_WHEEL, REAR_WHEEL, RIM_SIZE, SPOKES, ROUNDNESS, GLASS,
    HEADLIGHT, TAIL_LIGHT, GRILLE, PAINT_HUE, PAINT_SATURATION, PAINT_BRIGHTNESS, ROOF_WHITE, BACK_HUE,
    BACK_SATURATION, BACK_BRIGHTNESS, GROUND, LIGHT_X, PARAMETERS
  };
  static constexpr int LANDMARKS = 35;
  static constexpr float STEP = 0.80f;     // slabs that do not meet at right angles overstate distance at their edges
  static constexpr float RADIUS = 1.20f;   // everything visible but the ground lies in this ball
  static constexpr float TYRE = 0.15f;     // width
  static constexpr float TREAD = 0.04f;    // radius of the tyre's edges
  static constexpr float FRAME = 0.045f;   // between a window and the edge of its face
  static constexpr float LEAN = 0.30f;     // the cabin's sides lean inwards
  static constexpr float CABIN_EDGE = 0.085f;
  static constexpr float BOW = 0.20f;      // front and rear seen from above: x falls by this times z^2
  static constexpr float BELT_BOW = 0.55f;  // front and rear seen from the side

  const float* q;
  Pose pose;
  float hx, hz, edge, belt, bottom, middle, roof;      // body: half length and width, radius of edges, heights
  float base_f, base_r, top_f, top_r;                  // cabin: x of windscreen and rear window
  float hood_k, trunk_k, trunk_at;                     // slopes of the ends
  float nf_x, nf_y, nr_x, nr_y;                        // outward normals of windscreen and rear window
  float wheel_x, wheel_half, wheel_z, arch;            // wheels: middle and half of the wheelbase, centre, radius of the arch
  float handle_x, bumper, grille_y;
  S3 lamp, mirror;
  S3 paint, roof_paint, glass, back_top, back_bottom, floor, glow, light, eye, box;

  explicit Car(const float* p)
      : q(p), pose(-p[YAW], p[PITCH], 0.f, p[SCALE], p[SHIFT_X], p[SHIFT_Y]) {
    hx = 0.5f * q[LENGTH];
    hz = 0.5f * q[WIDTH];
    edge = q[ROUNDNESS];
    belt = q[BODY_HEIGHT] + 1.2f * (q[WHEEL_SIZE] - 0.175f);  // large wheels need high wings
    bottom = q[RIDE_HEIGHT];
    middle = 0.5f * (belt + bottom);
    roof = belt + q[ROOF_HEIGHT];
    base_f = hx - q[HOOD] * q[LENGTH];
    base_r = -hx + q[TRUNK] * q[LENGTH];
    const float cabin = base_f - base_r;
    top_f = base_f - q[WINDSCREEN] * cabin;
    top_r = base_r + q[REAR_WINDOW] * cabin;
    hood_k = 1.f / (hx - base_f);
    trunk_at = base_r + 0.10f;
    trunk_k = 1.f / (hx + trunk_at);
    auto slope = [&](float run, float& x, float& y) {
      const float k = 1.f / std::sqrt(run * run + q[ROOF_HEIGHT] * q[ROOF_HEIGHT]);
      x = q[ROOF_HEIGHT] * k;
      y = run * k;
    };
    slope(base_f - top_f, nf_x, nf_y);
    slope(top_r - base_r, nr_x, nr_y);
    nr_x = -nr_x;
    const float r = q[WHEEL_SIZE];
    arch = r + 0.035f;
    const float front = hx - 0.07f - arch - 0.13f * q[FRONT_WHEEL], rear = -hx + 0.06f + arch + 0.15f * q[REAR_WHEEL];
    wheel_x = 0.5f * (front + rear);
    wheel_half = 0.5f * (front - rear);
    wheel_z = hz - 0.5f * TYRE + 0.015f;
    const float nose = belt - q[HOOD_DROP], lamp_y = bottom + 0.64f * (nose - bottom);
    lamp = {hx - 0.055f, lamp_y, hz - 0.05f - 0.55f * edge - 0.8f * q[HEADLIGHT]};
    lamp.x -= BOW * lamp.z * lamp.z;
    mirror = {base_f - 0.05f, belt + 0.055f, hz - 0.025f};
    handle_x = 0.5f * (top_f + top_r) - 0.02f;
    bumper = bottom + 0.075f;
    grille_y = bottom + 0.56f * (nose - bottom);

    S3 display = hsv(q[PAINT_HUE], q[PAINT_SATURATION], q[PAINT_BRIGHTNESS]);
    paint = linear(display);
    S3 white = linear(S3{0.94f, 0.93f, 0.90f});
    const float t = q[ROOF_WHITE];
    roof_paint = paint * (1.f - t) + white * t;
    const float g = 0.20f + 0.42f * q[GLASS];
    glass = linear(S3{g * 0.86f, g * 0.97f, g * 1.06f});
    const float h = q[BACK_HUE], s = q[BACK_SATURATION], b = q[BACK_BRIGHTNESS];
    back_top = linear(hsv(h, s, b));
    back_bottom = linear(hsv(h, s * 0.8f, std::min(1.f, b * 1.08f)));
    floor = linear(hsv(h, s * 0.8f, std::min(1.f, b * q[GROUND])));
    glow = linear(hsv(h, s * 0.5f, std::min(1.f, b * 1.15f)));
    light = normalize(pose.to_object(S3{q[LIGHT_X], 0.95f, 0.75f}));
    eye = pose.to_object(S3{-pose.tx / pose.scale, -pose.ty / pose.scale, CAMERA_DISTANCE / pose.scale});
    box = normalize(pose.to_object(S3{0.6f * q[LIGHT_X], 1.f, 0.35f}));
  }

  struct Cabin {
    F front, rear, roof, side;  // distance from each plane
  };
  HD Cabin cabin(V p, F z) const {
    F y = p.y - belt, x = p.x - 0.5f * (top_f + top_r);
    return {(p.x - base_f) * nf_x + y * nf_y, (p.x - base_r) * nr_x + y * nr_y, p.y - roof + 0.10f * x * x,
            (z - hz + 0.045f + LEAN * max(y, -0.05f)) * 0.958f};
  }
  HD static F slabs(F a, F b, F c, float r) {
    a = a + r;
    b = b + r;
    c = c + r;
    F u = max(a, 0.f), v = max(b, 0.f), w = max(c, 0.f);
    return sqrt(u * u + v * v + w * w) + min(max(a, max(b, c)), 0.f) - r;
  }
  HD F wheel_radius(V p) const {
    F x = abs(p.x - wheel_x) - wheel_half, y = p.y - q[WHEEL_SIZE];
    return sqrt(x * x + y * y);
  }
  struct Ends {
    F length, height, side;  // distance from each slab of the lower body
    F top;                   // and from its upper side alone
  };
  HD Ends ends(V p, F z, F r) const {
    F f = max((p.x - base_f) * hood_k, 0.f), g = max((trunk_at - p.x) * trunk_k, 0.f);
    F top = belt - q[HOOD_DROP] * f * f - q[TRUNK_DROP] * g * g;
    F y = p.y - middle;
    F flare = max(1.f - abs(r - arch) * 9.f, 0.f);
    return {abs(p.x) - hx + BOW * z * z + BELT_BOW * y * y, max(p.y - top, bottom - p.y),
            z - hz + 0.06f * p.x * p.x + 0.40f * y * y - 0.014f * flare, p.y - top};
  }
  struct Body {
    F cut, whole;  // with and without the hollows for the wheels
  };
  HD Body body(V p, F z, F r) const {
    Ends e = ends(p, z, r);
    F d = slabs(e.length, e.height, e.side, edge);
    Cabin c = cabin(p, z);
    F k = slabs(max(c.front, c.rear), c.roof, c.side, CABIN_EDGE);
    d = smin(d, max(smax(k, e.length + 0.03f, 0.08f), belt - 0.10f - p.y), 0.05f);
    F hollow = min(min(arch - r, z - (hz - TYRE - 0.03f)), -0.055f - e.top);
    return {smax(d, hollow, 0.015f), d};
  }
  HD F wheel(F z, F r) const {
    F a = max(r - (q[WHEEL_SIZE] - TREAD), 0.f), b = max(abs(z - wheel_z) - (0.5f * TYRE - TREAD), 0.f);
    return sqrt(a * a + b * b) - TREAD;
  }
  HD F lens(V p, F z) const {
    F x = (p.x - lamp.x) * 0.75f, y = p.y - lamp.y, w = z - lamp.z;
    return sqrt(x * x + y * y + w * w) - q[HEADLIGHT];
  }
  HD F mirrors(V p, F z) const {
    F x = (p.x - mirror.x) * 1.4f, y = p.y - mirror.y, w = z - mirror.z;
    return (sqrt(x * x + y * y + w * w) - 0.048f) * 0.8f;
  }
  HD F distance(V p) const {
    F z = abs(p.z), r = wheel_radius(p);
    return min(min(body(p, z, r).cut, wheel(z, r)), min(lens(p, z), mirrors(p, z)));
  }

  // How far outside the footprint of the car a point of the ground is.
  HD F footprint(F x, F z) const {
    F a = abs(x) - (hx - 0.16f), b = abs(z) - (hz - 0.12f);
    F u = max(a, 0.f), v = max(b, 0.f);
    return sqrt(u * u + v * v) + min(max(a, b), 0.f) - 0.10f;
  }
  HD Sample background(F u, F v) const {
    V d = pose.to_object<V>(normalize(V{u, v, splat(-CAMERA_DISTANCE)}));
    F t = -eye.y / min(d.y, -0.02f);
    F x = eye.x + d.x * t, z = eye.z + d.z * t;
    F r2 = x * x + z * z;
    V wall = mix(splat(back_bottom), splat(back_top), smoothstep(-0.2f, 1.0f, v));
    // The floor: lit around the car, then it becomes the wall.
    F pool = 1.f / (1.f + 0.10f * r2);
    V ground = splat(floor) * (0.88f + 0.15f * pool);
    F a = footprint(x, z);
    const float lift = 0.40f / light.y;
    F b = footprint(x + light.x * lift, z + light.z * lift);
    F wx = abs(abs(x - wheel_x) - wheel_half), wz = abs(z) - wheel_z;
    F tyre = clamp(1.f - (wx * wx * 50.f + wz * wz * 90.f), 0.f, 1.f);
    F shade = (1.f - 0.62f * smoothstep(0.16f, -0.22f, a)) * (1.f - 0.30f * smoothstep(0.22f, -0.16f, b)) * (1.f - 0.55f * tyre);
    F far = smoothstep(1.0f, 20.f, r2);
    V c = mix(ground, wall, far) * mix(shade, splat(1.f), far);
    F importance = 0.5f + 1.5f * smoothstep(0.3f, 0.0f, a);
    return {c, importance};
  }

  struct Marks {  // painted on the body, 0 to 1
    F sill, bumper, grille, grille_rim, tail_light, door, handle;
  };
  HD Marks marks(V p, F z, const Ends& e) const {
    F sill = smoothstep(bottom + 0.050f, bottom + 0.035f, p.y);
    F end = smoothstep(-0.13f, -0.10f, e.length);
    F bar = smoothstep(0.048f, 0.036f, abs(p.y - bumper)) * end;
    F gy = (p.y - grille_y) * (1.f / 0.055f), gz = z * (1.f / q[GRILLE]);
    F oval = gy * gy * gy * gy + gz * gz * gz * gz;
    M in_front = p.x > 0.f;
    F mouth = select(in_front, smoothstep(1.25f, 0.85f, oval) * end, 0.f);
    F lip = select(in_front, smoothstep(2.6f, 2.0f, oval) * end, 0.f);
    F red = select(in_front, 0.f, smoothstep(-0.085f, -0.065f, e.length) * smoothstep(q[TAIL_LIGHT] + 0.008f, q[TAIL_LIGHT] - 0.008f, abs(p.y - lamp.y)) *
                                      smoothstep(hz - 0.215f, hz - 0.195f, z));
    M on_side = (e.side > e.length) & (e.side > e.height) & (p.y < belt);
    F line = select(on_side, smoothstep(0.014f, 0.006f, abs(p.x - handle_x + 0.10f)) * smoothstep(bottom + 0.05f, bottom + 0.07f, p.y), 0.f);
    F hx_ = (p.x - handle_x) * (1.f / 0.055f), hy_ = (p.y - belt + 0.075f) * (1.f / 0.016f);
    F handle = select(on_side, smoothstep(1.4f, 0.7f, hx_ * hx_ + hy_ * hy_), 0.f);
    return {sill, bar, mouth, lip, red, line, handle};
  }
  // Windows: on every face of the cabin, a frame's width from its edges. Negative inside.
  HD F windows(V p, const Cabin& c, M is_body) const {
    F across = max(c.front, c.rear);
    M sideways = c.side > across;
    F pane = max(max(belt + 0.025f - p.y, c.roof + FRAME),
                 select(sideways, max(across + FRAME, 0.018f - abs(p.x - handle_x + 0.10f)), c.side + FRAME));
    return select(is_body & (p.y > belt), pane, 1.f);
  }
  HD F hubcap(F z, F r) const {  // r in radii of the wheel
    const float rim = q[RIM_SIZE];
    return select(z > wheel_z, smoothstep(rim + 0.03f, rim - 0.03f, r), 0.f);
  }
  struct Surface {  // what a point of the surface belongs to; none of them: a mirror
    M wheel, lens, body;
  };
  HD Surface surface(V p, F z, F r, F d_body) const {
    F d_wheel = wheel(z, r), d_lens = lens(p, z), d_mirror = mirrors(p, z);
    F nearest = min(min(d_body, d_wheel), min(d_lens, d_mirror));
    M is_wheel = d_wheel <= nearest, is_lens = (d_lens <= nearest) & ~is_wheel;
    return {is_wheel, is_lens, ~is_wheel & ~is_lens & (d_mirror > nearest)};
  }

  HD Sample shade(V p, V ray) const {
    V n = normal(*this, p);
    F z = abs(p.z), r = wheel_radius(p);
    Body shell = body(p, z, r);
    const auto [is_wheel, is_lens, is_body] = surface(p, z, r, shell.cut);
    Cabin c = cabin(p, z);
    Ends e = ends(p, z, r);
    const S3 dark = {0.012f, 0.012f, 0.014f}, chrome = {0.52f, 0.53f, 0.55f};

    // Paint, two-tone above the belt.
    V base = mix(splat(paint), splat(roof_paint), smoothstep(belt + 0.012f, belt + 0.03f, p.y));
    const auto [sill, bar, mouth, lip, red, line, handle] = marks(p, z, e);
    base = mix(base, base * 0.35f, line);
    base = mix(base, splat(dark), sill * 0.85f);
    F metal = max(max(bar, lip), handle);
    base = mix(base, splat(chrome), metal);
    base = mix(base, splat(dark), mouth);
    base = mix(base, splat(S3{0.62f, 0.02f, 0.02f}), red);
    F pane = windows(p, c, is_body);
    F window = smoothstep(0.006f, -0.006f, pane);
    F seal = smoothstep(0.022f, 0.010f, abs(pane));
    base = mix(base, splat(glass), window);
    base = mix(base, splat(dark), seal * 0.7f);

    // Wheels: tyre, rim with five spokes, hub.
    const float inv = 1.f / q[WHEEL_SIZE];
    F rr = r * inv;
    F k = (abs(p.x - wheel_x) - wheel_half) * (1.f / (r + 1e-4f)), k2 = k * k;
    F five = k * (k2 * (16.f * k2 - 20.f) + 5.f);  // cos 5 angle
    const float rim = q[RIM_SIZE];
    F disc = hubcap(z, rr);
    F gap = smoothstep(0.15f, -0.25f, five) * smoothstep(rim - 0.08f, rim - 0.16f, rr) * smoothstep(0.20f, 0.28f, rr);
    V metal_w = mix(splat(S3{0.60f, 0.61f, 0.63f}), splat(dark), gap * q[SPOKES]);
    metal_w = metal_w * (0.75f + 0.25f * smoothstep(0.0f, 0.5f, rr));
    V wc = mix(splat(S3{0.018f, 0.018f, 0.020f}), metal_w, disc);
    base = select(is_wheel, wc, base);
    // Lens: bright towards the front, a pod in the body's colour behind.
    F ahead = smoothstep(0.0f, 0.45f, n.x);
    base = select(is_lens, mix(splat(chrome), splat(S3{0.93f, 0.92f, 0.84f}), ahead), base);
    base = select(is_body & (shell.whole < -0.012f), base * 0.08f, base);

    // Light: soft key, sky, floor; then what the paint mirrors.
    F ao = occlusion(*this, p, n);
    F low = clamp(1.f - p.y * 2.6f, 0.f, 1.f);
    ao = ao * (1.f - 0.55f * low * (0.65f - 0.35f * n.y));
    F lambert = dot(n, splat(light));
    F key = clamp(lambert * 0.72f + 0.28f, 0.f, 1.f) * mix(splat(0.45f), splat(1.f), ao) * 0.84f;
    F sky = ao * (0.30f + 0.17f * n.y);
    V lit = {key * 1.03f + sky * 0.96f, key + sky, key * 0.95f + sky * 1.08f};
    lit = lit + splat(glow) * (ao * 0.12f);
    F cosine = min(dot(n, ray), 0.f);
    V m = ray - n * (2.f * cosine);
    F facing = 1.f + cosine;
    F fresnel = 0.04f + 0.40f * facing * facing * facing;
    F up = smoothstep(-0.05f, 0.40f, m.y);
    F lamp_box = smoothstep(0.80f, 0.93f, dot(m, splat(box)));
    V env = mix(splat(floor) * 0.35f, splat(glow), up) + splat(S3{1.f, 1.f, 1.f}) * (lamp_box * 1.6f);
    F gloss = select(is_wheel, 0.15f, splat(1.f));
    gloss = gloss + 1.6f * window + 0.6f * max(metal, 0.f);
    V out = base * lit + env * (fresnel * gloss * ao);
    out = select(is_lens, out + splat(S3{0.25f, 0.24f, 0.20f}) * ahead, out);
    out = out + splat(S3{0.20f, 0.f, 0.f}) * select(is_body, red, 0.f);

    // Weights for training: what a viewer looks at and what the pictures disagree about.
    F imp = splat(3.f) + 2.f * smoothstep(0.55f, 0.85f, facing);
    imp = select(is_body & (window > 0.5f), 5.f, imp);
    imp = select(is_body & (seal > 0.3f), 9.f, imp);
    imp = select(is_body & (max(metal, mouth) > 0.4f), 7.f, imp);
    imp = select(~is_body & ~is_wheel, 7.f, imp);  // mirrors
    imp = select(is_wheel, select(disc > 0.1f, 10.f, 8.f), imp);
    imp = select(is_lens | (is_body & (red > 0.4f)), 12.f, imp);
    return {out, imp};
  }

  // A number in CAR.parts in ../car.py; the ground is backdrop.
  HD F label(V p) const {
    F z = abs(p.z), r = wheel_radius(p);
    const Surface at = surface(p, z, r, body(p, z, r).cut);
    const Marks m = marks(p, z, ends(p, z, r));
    F part = splat(1.f);                                                                    // body
    part = select(m.bumper > 0.5f, 7.f, part);                                              // bumper
    part = select(max(m.grille, m.grille_rim) > 0.5f, 6.f, part);                           // grille
    part = select(m.tail_light > 0.5f, 9.f, part);                                          // tail_light
    part = select(p.y > belt + 0.02f, select(windows(p, cabin(p, z), at.body) < 0.f, splat(3.f), splat(2.f)), part);
    part = select(at.body, part, 10.f);                                                     // roof, window, mirror
    F wheel_part = select(hubcap(z, r * (1.f / q[WHEEL_SIZE])) > 0.5f, splat(5.f), splat(4.f));
    return select(at.wheel, wheel_part, select(at.lens, 8.f, part));                        // tyre, rim, headlight
  }

  // What flow.h needs. Material coordinates: see there.
  enum Solid { BODY, WHEELS, LENSES, MIRRORS, SOLIDS };
  // N and F: near and far, the car's right and left.
  enum Part {
    UPPER, LOWER, ARCH_FRONT, ARCH_REAR, WHEEL_FRONT_N, WHEEL_FRONT_F, WHEEL_REAR_N, WHEEL_REAR_F, LENS_N, LENS_F,
    MIRROR_N, MIRROR_F, PARTS
  };
  static constexpr float REACH = 0.35f;

  F solid(int k, V p) const {
    F z = abs(p.z);
    if (k == LENSES) return lens(p, z);
    if (k == MIRRORS) return mirrors(p, z);
    F r = wheel_radius(p);
    return k == WHEELS ? wheel(z, r) : body(p, z, r).cut;
  }

  void weights(int solid, V m, F* w) const {
    const F one = splat(1.f);
    F near = select(m.z > 0.f, one, 0.f), far = 1.f - near, front = select(m.x > wheel_x, one, 0.f);
    if (solid == WHEELS) {
      w[WHEEL_FRONT_N] = front * near, w[WHEEL_FRONT_F] = front * far;
      w[WHEEL_REAR_N] = (1.f - front) * near, w[WHEEL_REAR_F] = (1.f - front) * far;
    }
    if (solid == LENSES) w[LENS_N] = near, w[LENS_F] = far;
    if (solid == MIRRORS) w[MIRROR_N] = near, w[MIRROR_F] = far;
    if (solid != BODY) return;
    F arches = smoothstep(arch + 0.12f, arch + 0.01f, wheel_radius(m)), ahead = smoothstep(-0.1f, 0.1f, m.x - wheel_x);
    F upper = (1.f - arches) * smoothstep(belt - 0.20f, belt - 0.02f, m.y);
    w[ARCH_FRONT] = arches * ahead;
    w[ARCH_REAR] = arches * (1.f - ahead);
    w[UPPER] = upper;
    w[LOWER] = 1.f - arches - upper;
  }

  V local(int part, V p) const {
    const float side = far_side(part) ? -1.f : 1.f;
    switch (part) {
      case UPPER:
      case LOWER: {
        // The ends' heights follow from the place along the car, which follows from the height: all can be undone.
        F knot[4];
        stations(part, p.y, knot);
        F x = p.x - knot[0];
        for (int i = 0; i < 3; i++) x = select(p.x > knot[i], (float)i + (p.x - knot[i]) / (knot[i + 1] - knot[i]), x);
        x = select(p.x > knot[3], 3.f + (p.x - knot[3]), x);
        F top = deck(x), above = 1.f + (p.y - top) * (1.f / (roof - belt));
        return {x, select(p.y < top, (p.y - bottom) / (top - bottom), above), p.z / half_width(p.y)};
      }
      case ARCH_FRONT:
      case ARCH_REAR: return {(p.x - wheel_at(part)) * (1.f / arch), (p.y - q[WHEEL_SIZE]) * (1.f / arch), p.z * (1.f / hz)};
      case LENS_N:
      case LENS_F: return (V{p.x, p.y, p.z * side} - lamp) * (1.f / q[HEADLIGHT]);
      case MIRROR_N:
      case MIRROR_F: return V{p.x, p.y, p.z * side} - mirror;
      default: {
        F x = p.x - wheel_at(part), y = p.y - q[WHEEL_SIZE], r = sqrt(x * x + y * y + 1e-10f);
        const float rim = q[RIM_SIZE] * q[WHEEL_SIZE], rubber = q[WHEEL_SIZE] - rim;
        F k = select(r < rim, splat(1.f / rim), (1.f + (r - rim) * (1.f / rubber)) / r);
        return {x * k, y * k, p.z * side - wheel_z};
      }
    }
  }

  V global(int part, V n) const {
    const float side = far_side(part) ? -1.f : 1.f;
    switch (part) {
      case UPPER:
      case LOWER: {
        F top = deck(n.x);
        F y = select(n.y < 1.f, bottom + n.y * (top - bottom), top + (n.y - 1.f) * (roof - belt));
        F knot[4];
        stations(part, y, knot);
        F x = knot[0] + n.x;
        for (int i = 0; i < 3; i++) x = select(n.x > (float)i, knot[i] + (n.x - (float)i) * (knot[i + 1] - knot[i]), x);
        return {select(n.x > 3.f, knot[3] + (n.x - 3.f), x), y, n.z * half_width(y)};
      }
      case ARCH_FRONT:
      case ARCH_REAR: return {n.x * arch + wheel_at(part), n.y * arch + q[WHEEL_SIZE], n.z * hz};
      case LENS_N:
      case LENS_F: {
        V p = n * q[HEADLIGHT] + lamp;
        return {p.x, p.y, p.z * side};
      }
      case MIRROR_N:
      case MIRROR_F: {
        V p = n + mirror;
        return {p.x, p.y, p.z * side};
      }
      default: {
        F t = sqrt(n.x * n.x + n.y * n.y + 1e-10f);
        const float rim = q[RIM_SIZE] * q[WHEEL_SIZE], rubber = q[WHEEL_SIZE] - rim;
        F k = select(t < 1.f, splat(rim), (rim + (t - 1.f) * rubber) / t);
        return {n.x * k + wheel_at(part), n.y * k + q[WHEEL_SIZE], (n.z + wheel_z) * side};
      }
    }
  }

  static bool far_side(int part) {
    return part == WHEEL_FRONT_F || part == WHEEL_REAR_F || part == LENS_F || part == MIRROR_F;
  }
  float wheel_at(int part) const {
    const bool front = part == WHEEL_FRONT_N || part == WHEEL_FRONT_F || part == ARCH_FRONT;
    return front ? wheel_x + wheel_half : wheel_x - wheel_half;
  }
  // Along the car: tail, rear window, windscreen, nose; or, further down, the wheels in the middle.
  void stations(int part, F y, F* knot) const {
    F up = clamp((y - belt) * (1.f / (roof - belt)), 0.f, 1.f);
    knot[0] = splat(-hx), knot[3] = splat(hx);
    knot[1] = part == UPPER ? base_r + up * (top_r - base_r) : splat(wheel_x - wheel_half);
    knot[2] = part == UPPER ? base_f + up * (top_f - base_f) : splat(wheel_x + wheel_half);
  }
  F deck(F station) const {  // height of hood, belt line or trunk
    F f = clamp(station - 2.f, 0.f, 1.f), g = clamp(1.f - station, 0.f, 1.f);
    return belt - q[HOOD_DROP] * f * f - q[TRUNK_DROP] * g * g;
  }
  F half_width(F y) const { return hz - LEAN * clamp(y - belt, 0.f, roof - belt); }

  // In the order of CAR.landmarks in ../car.py.
  Landmarks landmarks() const {
    Aims aims(1.5f);
    const float in = 0.5f * FRAME, lean = hz - 0.045f;
    // Where the tail ends at the height of the roof: a van's cabin reaches that far.
    auto tail = [&](float z) { return -hx + 0.06f + BOW * z * z + BELT_BOW * (roof - middle) * (roof - middle); };
    for (float side : {1.f, -1.f}) {
      // Feet and heads of the pillars beside windscreen and rear window.
      aims.add({0.f, 0.f, side}, {base_f - in, belt, 0.f});
      aims.add({0.f, 0.3f, side}, {top_f - in, roof - in, side * (lean - LEAN * q[ROOF_HEIGHT] - 0.03f)});
      aims.add({0.f, 0.3f, side}, {std::max(top_r + in, tail(0.6f * hz)), roof - in, side * (lean - LEAN * q[ROOF_HEIGHT] - 0.03f)});
      aims.add({0.f, 0.f, side}, {base_r + in, belt, 0.f});
      aims.add({0.f, 0.f, side}, {handle_x, belt - 0.075f, 0.f});
      aims.add({-1.f, 0.f, 0.4f * side}, {-hx + 0.14f, lamp.y, side * (hz - 0.18f)});  // tail light
      aims.add({1.f, 0.f, side}, {hx - 0.14f, bumper, side * (hz - 0.14f)});
      aims.add({-1.f, 0.f, side}, {-hx + 0.14f, bumper, side * (hz - 0.14f)});
    }
    aims.add({1, 0, 0}, {0.f, grille_y, 0.f});                           // badge
    aims.add({0.35f, 1, 0}, {hx - 0.12f, belt - q[HOOD_DROP], 0.f});     // hood's front edge
    aims.add({0.6f, 1, 0}, {base_f, belt, 0.f});                         // windscreen
    aims.add({0.6f, 1, 0}, {top_f, roof, 0.f});
    aims.add({0, 1, 0}, {0.5f * (top_f + top_r), roof, 0.f});
    aims.add({-0.6f, 1, 0}, {std::max(top_r, tail(0.f)), roof, 0.f});
    aims.add({-0.35f, 1, 0}, {-hx + 0.08f, belt - q[TRUNK_DROP], 0.f});  // trunk's edge
    const std::vector<S3> s = aims.meet(*this, 0.5f);
    Landmarks marks;
    for (int k = 0; k < 2; k++) {
      const float side = k ? -1.f : 1.f, r = q[WHEEL_SIZE], face = wheel_z + 0.5f * TYRE;
      marks.add({wheel_x + wheel_half, r, side * face});
      marks.add({wheel_x - wheel_half, r, side * face});
      // Contact with the ground: half round the tyre's edge, or the tyre itself would hide it.
      marks.add({wheel_x + wheel_half, 0.3f * TREAD, side * (face - 0.3f * TREAD)});
      marks.add({wheel_x - wheel_half, 0.3f * TREAD, side * (face - 0.3f * TREAD)});
      for (int j = 0; j < 4; j++) marks.add(s[8 * k + j]);
      marks.add({mirror.x, mirror.y, side * (mirror.z + 0.048f)});
      marks.add(s[8 * k + 4]);
      marks.add({lamp.x + q[HEADLIGHT] / 0.75f, lamp.y, side * lamp.z});
      for (int j = 5; j < 8; j++) marks.add(s[8 * k + j]);
    }
    for (int j = 16; j < 23; j++) marks.add(s[j]);
    return marks;
  }
};

}  // namespace draggan
