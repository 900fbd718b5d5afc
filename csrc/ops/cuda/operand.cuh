// Reading and writing entries of operands in any dtype and layout.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "ops/cuda/launch.h"

namespace labelassemble::cuda {

// Byte offsets of entry `index` in operands of the same sizes: one division for each axis but the
// last, of 32 bits where the indices are.
template <int kOperands>
__device__ __forceinline__ void offsets_of(const std::int64_t* sizes, int axes, std::int64_t index,
                                           const std::int64_t* const (&strides)[kOperands],
                                           std::int64_t (&offsets)[kOperands]) {
#pragma unroll
  for (int i = 0; i < kOperands; ++i) offsets[i] = 0;
#pragma unroll 1  // unrolled, the kernels spill
  for (int axis = 0; axis < axes; ++axis) {
    std::int64_t coordinate = index;
    if (axis + 1 < axes) {
      const std::int64_t size = sizes[axis];
      const std::int64_t rest = (index | size) <= 0xffffffff ? static_cast<std::uint32_t>(index) /
                                                                   static_cast<std::uint32_t>(size)
                                                             : index / size;
      coordinate = index - rest * size;
      index = rest;
    }
#pragma unroll
    for (int i = 0; i < kOperands; ++i) offsets[i] += coordinate * strides[i][axis];
  }
}

__device__ __forceinline__ float widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }

__device__ __forceinline__ void narrow(__half* to, float value) { *to = __float2half_rn(value); }
__device__ __forceinline__ void narrow(__nv_bfloat16* to, float value) {
  *to = __float2bfloat16_rn(value);
}
__device__ __forceinline__ void narrow(float* to, float value) { *to = value; }
__device__ __forceinline__ void narrow(double* to, double value) { *to = value; }

// With kTarget, -1 of a signed integer is NaN: unknown.
template <typename T, bool kTarget = false>
__device__ __forceinline__ T load(const char* from, Element element) {
  const auto integer = [](auto value) {
    if constexpr (kTarget && std::is_signed_v<decltype(value)>) {
      return value == -1 ? static_cast<T>(NAN) : static_cast<T>(value);
    } else {
      return static_cast<T>(value);
    }
  };
  switch (element) {
    case Element::kFloat:
      return static_cast<T>(*reinterpret_cast<const float*>(from));
    case Element::kDouble:
      return static_cast<T>(*reinterpret_cast<const double*>(from));
    case Element::kHalf:
      return static_cast<T>(widen(*reinterpret_cast<const __half*>(from)));
    case Element::kBFloat16:
      return static_cast<T>(widen(*reinterpret_cast<const __nv_bfloat16*>(from)));
    case Element::kInt8:
      return integer(*reinterpret_cast<const std::int8_t*>(from));
    case Element::kUInt8:
      return integer(*reinterpret_cast<const std::uint8_t*>(from));
    case Element::kInt16:
      return integer(*reinterpret_cast<const std::int16_t*>(from));
    case Element::kInt32:
      return integer(*reinterpret_cast<const std::int32_t*>(from));
    case Element::kInt64:
      return integer(*reinterpret_cast<const std::int64_t*>(from));
  }
  return T(0);
}

template <typename T>
__device__ __forceinline__ void store(char* to, Element element, T value) {
  switch (element) {
    case Element::kFloat:
      return narrow(reinterpret_cast<float*>(to), static_cast<float>(value));
    case Element::kDouble:
      return narrow(reinterpret_cast<double*>(to), static_cast<double>(value));
    case Element::kHalf:
      return narrow(reinterpret_cast<__half*>(to), static_cast<float>(value));
    case Element::kBFloat16:
      return narrow(reinterpret_cast<__nv_bfloat16*>(to), static_cast<float>(value));
    default:
      return;  // results are floating
  }
}

// kCount entries of S at once, by loads and stores of 16 bytes.
template <typename S, int kCount>
struct alignas(sizeof(S) * kCount < 16 ? sizeof(S) * kCount : 16) Pack {
  S values[kCount];
};

template <typename S, int kCount, typename T>
__device__ __forceinline__ void load_pack(const char* from, std::int64_t index, T* to) {
  const auto pack = *reinterpret_cast<const Pack<S, kCount>*>(
      from + index * static_cast<std::int64_t>(sizeof(S)));
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = widen(pack.values[i]);
}

template <typename S, int kCount, typename T>
__device__ __forceinline__ void store_pack(char* to, std::int64_t index, const T* from) {
  Pack<S, kCount> pack;
#pragma unroll
  for (int i = 0; i < kCount; ++i) narrow(&pack.values[i], from[i]);
  *reinterpret_cast<Pack<S, kCount>*>(to + index * static_cast<std::int64_t>(sizeof(S))) = pack;
}

}  // namespace labelassemble::cuda
