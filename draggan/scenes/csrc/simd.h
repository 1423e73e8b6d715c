// As many floats at a time as a register holds, by GCC's and Clang's vector extensions.
// On a GPU one float, because there the threads are the lanes; with DRAGGAN_ONE_LANE a processor does the same.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// What a GPU needs too. All else is for the processor.
#if defined(__CUDACC__)
#define HD __host__ __device__
#else
#define HD
#endif

namespace draggan {

#if defined(__CUDACC__) || defined(DRAGGAN_ONE_LANE)

constexpr int LANES = 1;
// Types of their own, so that everything means what it means for vectors: ~ turns a mask round, and a float becomes an
// F by `splat` alone.
struct M {
  bool v;
  HD bool operator[](int) const { return v; }
};
HD static inline M operator~(M a) { return {!a.v}; }
HD static inline M operator&(M a, M b) { return {a.v && b.v}; }
HD static inline M operator|(M a, M b) { return {a.v || b.v}; }
HD static inline M& operator&=(M& a, M b) { return a = a & b; }
HD static inline M& operator|=(M& a, M b) { return a = a | b; }
struct F {
  float v;
  HD float operator[](int) const { return v; }
  HD float& operator[](int) { return v; }
};
HD static inline F operator-(F a) { return {-a.v}; }
#define DRAGGAN_OPERATOR(result, op)                                            \
  HD static inline result operator op(F a, F b) { return {a.v op b.v}; }       \
  HD static inline result operator op(F a, float b) { return {a.v op b}; }     \
  HD static inline result operator op(float a, F b) { return {a op b.v}; }
DRAGGAN_OPERATOR(F, +)
DRAGGAN_OPERATOR(F, -)
DRAGGAN_OPERATOR(F, *)
DRAGGAN_OPERATOR(F, /)
DRAGGAN_OPERATOR(M, <)
DRAGGAN_OPERATOR(M, >)
DRAGGAN_OPERATOR(M, <=)
DRAGGAN_OPERATOR(M, >=)
#undef DRAGGAN_OPERATOR

HD static inline F select(M m, F a, F b) { return m.v ? a : b; }
HD static inline F min(F a, F b) { return {::fminf(a.v, b.v)}; }
HD static inline F max(F a, F b) { return {::fmaxf(a.v, b.v)}; }
HD static inline F sqrt(F a) { return {::sqrtf(a.v)}; }
HD static inline F rsqrt(F a) {
#if defined(__CUDA_ARCH__)
  return {::rsqrtf(a.v)};
#else
  return {1.f / ::sqrtf(a.v)};
#endif
}
HD static inline F floor(F a) { return {::floorf(a.v)}; }
HD static inline bool any(M m) { return m.v; }

#else

// Not more: wider vectors compile too, but go through memory.
#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float F __attribute__((vector_size(4 * LANES)));
typedef int32_t M __attribute__((vector_size(4 * LANES)));  // comparison result: -1 true, 0 false

static inline F select(M m, F a, F b) { return m ? a : b; }
static inline F floor(F a) {
  F r;
  for (int i = 0; i < LANES; i++) r[i] = __builtin_floorf(a[i]);
  return r;
}
#if defined(__AVX512F__)
static inline F min(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
static inline F max(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
static inline F sqrt(F a) { return (F)_mm512_sqrt_ps((__m512)a); }
// 14 bits from the table, doubled by one Newton step: enough for normals taken over 0.004 of a unit.
static inline F rsqrt(F a) {
  F y = (F)_mm512_rsqrt14_ps((__m512)a);
  return y * (1.5f - 0.5f * a * y * y);
}
static inline bool any(M m) { return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0; }
#else
static inline F min(F a, F b) { return a < b ? a : b; }
static inline F max(F a, F b) { return a > b ? a : b; }
static inline F sqrt(F a) {
  F r;
  for (int i = 0; i < LANES; i++) r[i] = __builtin_sqrtf(a[i]);
  return r;
}
static inline F rsqrt(F a) { return 1.f / sqrt(a); }
static inline bool any(M m) {
  int r = 0;
  for (int i = 0; i < LANES; i++) r |= m[i];
  return r != 0;
}
#endif

#endif

HD static inline F splat(float a) { return F{} + a; }
HD static inline F select(M m, float a, F b) { return select(m, splat(a), b); }
HD static inline F select(M m, F a, float b) { return select(m, a, splat(b)); }
HD static inline F select(M m, float a, float b) { return select(m, splat(a), splat(b)); }
HD static inline F min(F a, float b) { return min(a, splat(b)); }
HD static inline F max(F a, float b) { return max(a, splat(b)); }
HD static inline F abs(F a) { return max(a, -a); }
HD static inline F sign(F x) { return select(x < 0.f, -1.f, splat(1.f)); }
HD static inline F clamp(F a, float lo, float hi) { return min(max(a, splat(lo)), splat(hi)); }
HD static inline F mix(F a, F b, F t) { return a + (b - a) * t; }
HD static inline F smoothstep(float lo, float hi, F x) {
  F t = clamp((x - lo) * (1.f / (hi - lo)), 0.f, 1.f);
  return t * t * (3.f - 2.f * t);
}
static inline float smoothstep(float lo, float hi, float x) {
  float t = (x - lo) / (hi - lo);
  t = t < 0 ? 0 : t > 1 ? 1 : t;
  return t * t * (3.f - 2.f * t);
}
// sin(x) as a wave for patterns: a parabola pair, peak error 0.06, no call to libm.
HD static inline F wave(F x) {
  F t = x * 0.15915494f;
  t = 2.f * (t - floor(t)) - 1.f;  // -1..1 over a period, sin(x) = -sin(pi t)
  return -4.f * t * (1.f - abs(t));
}

struct V {
  F x, y, z;
};
HD static inline V operator+(V a, V b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
HD static inline V operator-(V a, V b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
HD static inline V operator*(V a, F s) { return {a.x * s, a.y * s, a.z * s}; }
HD static inline V operator*(V a, float s) { return {a.x * s, a.y * s, a.z * s}; }
HD static inline V operator*(V a, V b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
HD static inline F dot(V a, V b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
HD static inline F length(V v) { return sqrt(dot(v, v)); }
HD static inline V normalize(V a) { return a * rsqrt(dot(a, a) + 1e-12f); }
HD static inline V mix(V a, V b, F t) { return a + (b - a) * t; }
HD static inline V select(M m, V a, V b) { return {select(m, a.x, b.x), select(m, a.y, b.y), select(m, a.z, b.z)}; }
HD static inline V mirrored(V p, float side) { return {p.x * side, p.y, p.z}; }  // for side -1

struct S3 {  // the same for all lanes
  float x, y, z;
};
HD static inline V splat(S3 a) { return {splat(a.x), splat(a.y), splat(a.z)}; }
HD static inline V operator-(V a, S3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
HD static inline V operator+(V a, S3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
HD static inline S3 operator+(S3 a, S3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
HD static inline S3 operator*(S3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
static inline S3 inverse(S3 r) { return {1.f / r.x, 1.f / r.y, 1.f / r.z}; }
static inline S3 normalize(S3 a) {
  float k = 1.f / std::sqrt(a.x * a.x + a.y * a.y + a.z * a.z + 1e-12f);
  return {a.x * k, a.y * k, a.z * k};
}
static inline S3 lane(V v, int l) { return {v.x[l], v.y[l], v.z[l]}; }

// Colours: display values 0..1, and linear light.
static inline S3 hsv(float h, float s, float v) {
  auto f = [&](float n) {
    float k = std::fmod(n + h * 6.f, 6.f);
    return v - v * s * std::max(0.f, std::min({k, 4.f - k, 1.f}));
  };
  return {f(5), f(3), f(1)};
}
HD static inline S3 linear(S3 c) { return {c.x * c.x, c.y * c.y, c.z * c.z}; }  // undoes encode() of raymarch.h

// Signed distances. Negative inside; approximate ones never overstate by much.
HD static inline F ellipsoid(V p, S3 c, S3 r) {
  V q = {(p.x - c.x) * (1.f / r.x), (p.y - c.y) * (1.f / r.y), (p.z - c.z) * (1.f / r.z)};
  V g = {q.x * (1.f / r.x), q.y * (1.f / r.y), q.z * (1.f / r.z)};
  F k = dot(q, q) + 1e-8f;
  return (k - k * rsqrt(k)) * rsqrt(dot(g, g) + 1e-8f);
}
HD static inline F smin(F a, F b, float k) {
  F h = max(k - abs(a - b), 0.f);
  return min(a, b) - h * h * (0.25f / k);
}
HD static inline F smax(F a, F b, float k) {
  F h = max(k - abs(a - b), 0.f);
  return max(a, b) + h * h * (0.25f / k);
}

}  // namespace draggan
