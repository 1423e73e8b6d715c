// Pictures and segments of the scenes on a CUDA device: one thread for a pixel, one row of blocks for a scene. Plain C
// interface; ../gpu.py calls it through ctypes.
//
// NEVER RUN. This was written where there is no GPU: it compiles for sm_80, sm_90 and sm_120, and what a thread does
// (pixels.h) gives the processor's pictures within rounding (emulate.cpp). Launches, copies and speed are untried.
#include <cuda_runtime.h>

#include <cstring>
#include <type_traits>
#include <vector>

#include "pixels.h"
#include "scenes.h"

namespace draggan {
namespace {

constexpr int kThreads = 128;

// A scene as the host has made it, and the parameters that it points to: the same for all threads of a block.
template <class Scene>
struct Packed {
  alignas(8) unsigned char scene[sizeof(Scene)];
  float parameters[Scene::PARAMETERS];
};

template <class Scene>
Packed<Scene> pack(const float* parameters) {
  static_assert(std::is_trivially_copyable<Scene>::value, "a scene is copied byte by byte");
  static_assert(sizeof(Packed<Scene>) % sizeof(int) == 0, "and moved word by word");
  Packed<Scene> packed;
  const Scene scene(parameters);
  std::memcpy(packed.scene, &scene, sizeof(Scene));
  std::memcpy(packed.parameters, parameters, sizeof packed.parameters);
  return packed;
}

// Copies this block's scene to shared memory, where all threads read the same word at the same time.
template <class Scene>
__device__ const Scene& unpack(const Packed<Scene>* scenes, Packed<Scene>& shared) {
  const int* from = reinterpret_cast<const int*>(scenes + blockIdx.y);
  int* to = reinterpret_cast<int*>(&shared);
  for (int i = threadIdx.x; i < int(sizeof(Packed<Scene>) / sizeof(int)); i += kThreads) to[i] = from[i];
  __syncthreads();
  Scene* scene = reinterpret_cast<Scene*>(shared.scene);
  if (threadIdx.x == 0) scene->q = shared.parameters;
  __syncthreads();
  return *scene;
}

// first [scenes, 4, size, size]; the others as in pixels.h, for all scenes.
template <class Scene>
__global__ void __launch_bounds__(kThreads) first_look_kernel(const Packed<Scene>* scenes, int size, float* first) {
  __shared__ Packed<Scene> shared;
  const Scene& scene = unpack(scenes, shared);
  const int pixel = blockIdx.x * kThreads + threadIdx.x;
  if (pixel < size * size) first_look(scene, size, pixel, first + size_t(blockIdx.y) * 4 * size * size);
}

template <class Scene>
__global__ void __launch_bounds__(kThreads)
    second_look_kernel(const Packed<Scene>* scenes, int size, float* first, uint8_t* picture, uint8_t* importance) {
  __shared__ Packed<Scene> shared;
  const Scene& scene = unpack(scenes, shared);
  const int pixel = blockIdx.x * kThreads + threadIdx.x;
  const size_t at = size_t(blockIdx.y) * size * size;
  if (pixel < size * size) second_look(scene, size, pixel, first + 4 * at, picture + 3 * at, importance + at);
}

template <class Scene>
__global__ void __launch_bounds__(kThreads)
    name_part_kernel(const Packed<Scene>* scenes, int size, uint8_t* segments) {
  __shared__ Packed<Scene> shared;
  const Scene& scene = unpack(scenes, shared);
  const int pixel = blockIdx.x * kThreads + threadIdx.x;
  if (pixel < size * size) name_part(scene, size, pixel, segments + size_t(blockIdx.y) * size * size);
}

size_t scenes_bytes(size_t one, int count) { return (one * count + 255) / 256 * 256; }

template <class Scene>
int draw(const float* parameters, int count, int size, unsigned char* workspace, uint8_t* picture, uint8_t* importance,
         uint8_t* segments, cudaStream_t stream) {
  std::vector<Packed<Scene>> packed;
  for (int i = 0; i < count; i++) packed.push_back(pack<Scene>(parameters + size_t(i) * Scene::PARAMETERS));
  auto* scenes = reinterpret_cast<Packed<Scene>*>(workspace);
  auto* first = reinterpret_cast<float*>(workspace + scenes_bytes(sizeof(Packed<Scene>), count));
  // From memory that is not pinned: the call returns only when the bytes have been read.
  cudaError_t error =
      cudaMemcpyAsync(scenes, packed.data(), sizeof(Packed<Scene>) * count, cudaMemcpyHostToDevice, stream);
  if (error != cudaSuccess) return error;
  const dim3 blocks((size * size + kThreads - 1) / kThreads, count);
  first_look_kernel<Scene><<<blocks, kThreads, 0, stream>>>(scenes, size, first);
  second_look_kernel<Scene><<<blocks, kThreads, 0, stream>>>(scenes, size, first, picture, importance);
  if (segments) name_part_kernel<Scene><<<blocks, kThreads, 0, stream>>>(scenes, size, segments);
  return cudaGetLastError();
}

}  // namespace
}  // namespace draggan

using namespace draggan;

#define EXPORT extern "C" __attribute__((visibility("default")))

// Bytes on the device that draggan_cuda_draw needs; negative: what with_scene says is wrong.
EXPORT long long draggan_cuda_workspace(int scene, int count, int width, int size) {
  long long bytes = 0;
  const int wrong = with_scene(scene, width, [&](auto kind) {
    using Scene = typename decltype(kind)::Type;
    bytes = scenes_bytes(sizeof(Packed<Scene>), count) + 4 * sizeof(float) * size_t(count) * size * size;
    return 0;
  });
  return wrong ? -wrong : bytes;
}

// parameters [count, width] on the host, count up to 65535. The rest on that device: workspace; picture [count, 3, size,
// size], importance and segments [count, size, size] as draggan_draw and draggan_segments in scenes.cpp make them;
// segments may be null. Returns before the work is done: 0, an error of CUDA's, or, negative, what with_scene says.
EXPORT int draggan_cuda_draw(int device, void* stream, int scene, const float* parameters, int count, int width,
                             int size, unsigned char* workspace, uint8_t* picture, uint8_t* importance,
                             uint8_t* segments) {
  int before = 0, status = 0;
  cudaError_t error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  if (error != cudaSuccess) return error;
  const int wrong = with_scene(scene, width, [&](auto kind) {
    using Scene = typename decltype(kind)::Type;
    status = draw<Scene>(parameters, count, size, workspace, picture, importance, segments,
                         static_cast<cudaStream_t>(stream));
    return 0;
  });
  cudaSetDevice(before);
  return wrong ? -wrong : status;
}

EXPORT const char* draggan_cuda_reason(int status) { return cudaGetErrorString(static_cast<cudaError_t>(status)); }
