// Runs the bodies of the CUDA kernels on a processor, block by block and thread by thread, for the tests. float32 only.
#include <limits>
#include <vector>

#include "act_kernel.h"
#include "filtered_lrelu_kernel.h"
#include "upfirdn2d_kernel.h"

namespace draggan {
namespace {

// Every phase for all threads before the next: what the barriers do.
template <typename Body> void run(const Body& body, int threads) {
  for (int64_t block = 0; block < body.blocks(); ++block) {
    // Nothing that a block did not write may count.
    std::vector<float> shared(body.shared(), std::numeric_limits<float>::quiet_NaN());
    for (int k = 0; k < Body::kPhases; ++k)
      for (int thread = 0; thread < threads; ++thread) body.phase(k, block, thread, threads, shared.data());
  }
}

ActShape act_shape(const int64_t* n, const float* scale, const float* noise, const float* bias, const float* knee) {
  return {n[0], n[1], n[2], n[3] != 0, scale, noise, bias, n[4], n[5], Knee{knee[0], knee[1], knee[2]}};
}

template <typename Body> void set_lrelu(Body& body, const int* n, const float* fu, const float* fd, const float* bias, float slope, float limit) {
  body.channels = n[0], body.planes = n[1], body.low_height = n[2], body.low_width = n[3];
  body.high_height = n[4], body.high_width = n[5], body.out_height = n[6], body.out_width = n[7];
  body.up = n[8], body.down = n[9], body.taps_up = n[10], body.taps_down = n[11];
  body.offset_y = n[12], body.offset_x = n[13], body.flat = n[14] != 0, body.tile = n[15];
  body.fu = fu, body.fd = fd, body.bias = bias, body.knee = Knee{slope, 1.0f, limit};
}

}  // namespace
}  // namespace draggan

using namespace draggan;

extern "C" {

// n: batch, channels, pixels, channels last?, stride of scale and noise; knee: slope, gain, limit.
void act(const int64_t* n, const float* scale, const float* noise, const float* bias, const float* knee, int pack,
         const float* x, float* out) {
  const ActShape s = act_shape(n, scale, noise, bias, knee);
  const int64_t count = s.batch * s.channels * s.pixels;
  for (int64_t k = 0; k < count / pack; ++k) {
    if (pack == 4)
      act_pack<float, 4>(s, x, out, k);
    else
      act_pack<float, 1>(s, x, out, k);
  }
}

void act_gradient(const int64_t* n, const float* scale, const float* noise, const float* bias, const float* knee,
                  const float* grad, const float* x, float* out, float* sum_gx, float* sum_g, int slices) {
  const ActGradient<float> body{act_shape(n, scale, noise, bias, knee), grad, x, out, sum_gx, sum_g, slices};
  for (int64_t block = 0; block < body.blocks(); ++block) {
    std::vector<float> shared(2 * body.kThreads, std::numeric_limits<float>::quiet_NaN());
    for (int k = 0; k < body.kPhases; ++k)
      for (int thread = 0; thread < body.kThreads; ++thread) body.phase(k, block, thread, shared.data());
  }
}

// n: batch, channels, in, out (height, width), up, down, taps y, x, offset y, x, tile height, width; strides: in, out.
void upfirdn(const int* n, const int64_t* strides, const float* f, int tiles, const float* x, float* out) {
  Upfirdn<float> b{};
  b.in = x, b.out = out, b.f = f, b.batch = n[0], b.channels = n[1];
  b.in_height = n[2], b.in_width = n[3], b.out_height = n[4], b.out_width = n[5];
  b.up = n[6], b.down = n[7], b.taps_y = n[8], b.taps_x = n[9], b.offset_y = n[10], b.offset_x = n[11];
  b.tile_height = n[12], b.tile_width = n[13];
  b.in_sample = strides[0], b.in_channel = strides[1], b.in_row = strides[2], b.in_pixel = strides[3];
  b.out_sample = strides[4], b.out_channel = strides[5], b.out_row = strides[6], b.out_pixel = strides[7];
  if (tiles) {
    run(b, 64);
    return;
  }
  for (int64_t k = 0; k < b.batch * b.channels * b.out_height * b.out_width; ++k) b.element(k);
}

// n: channels, planes, low, high, out (height, width), up, down, taps up, down, offset y, x, separable?, tile.
void lrelu(const int* n, const float* fu, const float* fd, const float* bias, float slope, float limit, const float* x,
           float* out) {
  FilteredLrelu<float> body{};
  set_lrelu(body, n, fu, fd, bias, slope, limit);
  body.x = x, body.out = out;
  run(body, 64);
}

void lrelu_gradient(const int* n, const float* fu, const float* fd, const float* bias, float slope, float limit,
                    const float* grad, const float* x, float* out) {
  FilteredLreluGradient<float> body{};
  set_lrelu(body, n, fu, fd, bias, slope, limit);
  body.x = x, body.grad = grad, body.out = out;
  run(body, 64);
}

}  // extern "C"
