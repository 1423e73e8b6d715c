// Vectors as wide as the processor's registers. Wider ones compile too, but go through memory.
#pragma once

#if !defined(__GNUC__)
#error "the compiled operators need GCC or Clang; without them the PyTorch versions are used"
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace draggan {

// Storage of a bfloat16: the upper half of a float32.
struct bfloat16 {
  std::uint16_t bits;
};

// What a type is computed in.
template <typename T> struct Compute { using type = T; };
template <> struct Compute<bfloat16> { using type = float; };

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename A> struct Simd;
template <> struct Simd<float> {
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t M __attribute__((vector_size(kVectorBytes)));
};
template <> struct Simd<double> {
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef std::int64_t M __attribute__((vector_size(kVectorBytes)));
};
template <typename A> using Vec = typename Simd<A>::V;
template <typename A> constexpr int lanes = kVectorBytes / sizeof(A);

template <typename A> inline Vec<A> splat(A a) { return a - Vec<A>{}; }  // -0 stays so, and costs nothing

inline Vec<float> load(const float* p) {
  Vec<float> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Vec<double> load(const double* p) {
  Vec<double> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Vec<float> load(const bfloat16* p) {
  typedef std::uint16_t H __attribute__((vector_size(kVectorBytes / 2)));
  typedef std::uint32_t U __attribute__((vector_size(kVectorBytes)));
  H h;
  std::memcpy(&h, p, sizeof h);
  const U u = __builtin_convertvector(h, U) << 16;
  Vec<float> v;
  std::memcpy(&v, &u, sizeof v);
  return v;
}

inline void store(float* p, Vec<float> v) { std::memcpy(p, &v, sizeof v); }
inline void store(double* p, Vec<double> v) { std::memcpy(p, &v, sizeof v); }
inline void store(bfloat16* p, Vec<float> v) {
  typedef std::uint16_t H __attribute__((vector_size(kVectorBytes / 2)));
  typedef std::uint32_t U __attribute__((vector_size(kVectorBytes)));
  U u;
  std::memcpy(&u, &v, sizeof u);
  // To nearest, ties to even. Adding would turn some NaNs into infinities.
  const U rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const U nan = U{} + 0x7fc00000u;
  u = (v == v) ? rounded : nan;
  const H h = __builtin_convertvector(u >> 16, H);
  std::memcpy(p, &h, sizeof h);
}

// The first n (less than a vector) elements; the others are zero.
template <typename T> inline Vec<typename Compute<T>::type> load_part(const T* p, int n) {
  T part[lanes<typename Compute<T>::type>] = {};
  std::memcpy(part, p, n * sizeof(T));
  return load(part);
}
template <typename T> inline void store_part(T* p, Vec<typename Compute<T>::type> v, int n) {
  T part[lanes<typename Compute<T>::type>];
  store(part, v);
  std::memcpy(p, part, n * sizeof(T));
}

template <typename A> inline A sum(Vec<A> v) {
  A s = 0;
  for (int i = 0; i < lanes<A>; ++i) s += v[i];
  return s;
}

// Calls f(offset, count) for [0, n) in vectors; count is the constant number of lanes but for the last call.
template <typename A, typename F> inline void for_vectors(std::ptrdiff_t n, F&& f) {
  std::ptrdiff_t i = 0;
  for (; i + lanes<A> <= n; i += lanes<A>) f(i, std::integral_constant<int, lanes<A>>{});
  if (i < n) f(i, static_cast<int>(n - i));
}
template <typename T, int N> inline auto load_some(const T* p, std::integral_constant<int, N>) { return load(p); }
template <typename T> inline auto load_some(const T* p, int n) { return load_part(p, n); }
template <typename T, typename V, int N> inline void store_some(T* p, V v, std::integral_constant<int, N>) { store(p, v); }
template <typename T, typename V> inline void store_some(T* p, V v, int n) { store_part(p, v, n); }

}  // namespace draggan
