// To float or double from any dtype and stride, and back: a kernel's loop then has one dtype and
// stride 1, and no tensor of the input's size is ever converted whole. Half precision by integer
// arithmetic, which every instruction set vectorises.
#include "ops/cpu/convert_block.h"

#include <cstring>
#include <limits>

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {
namespace {

[[gnu::always_inline]] inline float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

[[gnu::always_inline]] inline std::uint32_t to_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct BFloat16 {
  std::uint16_t bits;
  [[gnu::always_inline]] float widen() const {
    return from_bits(static_cast<std::uint32_t>(bits) << 16);
  }
  [[gnu::always_inline]] static BFloat16 round(float value) {
    const std::uint32_t full = to_bits(value);
    const std::uint32_t rounded = (full + 0x7fffu + ((full >> 16) & 1u)) >> 16;  // to nearest even
    return {static_cast<std::uint16_t>(value == value ? rounded : 0x7fc0u)};
  }
};

struct Half {
  std::uint16_t bits;
  // Exponent and mantissa in a float's place, times 2^112; inf and NaN keep a full exponent.
  [[gnu::always_inline]] float widen() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16;
    const std::uint32_t magnitude = (bits & 0x7fffu) << 13;
    const std::uint32_t finite = to_bits(from_bits(magnitude) * from_bits(0x77800000u));
    return from_bits(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite));
  }
  // Normal results round in integers; denormal ones by adding 0.5, whose last place is theirs.
  [[gnu::always_inline]] static Half round(float value) {
    const std::uint32_t full = to_bits(value);
    const std::uint32_t sign = (full >> 16) & 0x8000u;
    const std::uint32_t magnitude = full & 0x7fffffffu;
    const std::uint32_t normal =
        (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
    const std::uint32_t denormal = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000u;
    std::uint32_t result = magnitude < 0x38800000u ? denormal : normal;
    result = magnitude >= 0x477ff000u ? 0x7c00u : result;  // rounds beyond 65504
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    return {static_cast<std::uint16_t>(sign | result)};
  }
};

template <typename T, typename S>
[[gnu::always_inline]] inline T widen(S value) {
  if constexpr (requires { value.widen(); }) {
    return static_cast<T>(value.widen());
  } else {
    return static_cast<T>(value);
  }
}

template <typename S, typename T>
[[gnu::always_inline]] inline S narrow(T value) {
  if constexpr (requires { S::round(0.0f); }) {
    return S::round(static_cast<float>(value));
  } else {
    return static_cast<S>(value);
  }
}

// An integer -1 is an unknown target.
template <typename T, typename S>
[[gnu::always_inline]] inline T widen_target(S value) {
  if constexpr (std::numeric_limits<S>::is_integer && std::numeric_limits<S>::is_signed) {
    return value == S(-1) ? std::numeric_limits<T>::quiet_NaN() : static_cast<T>(value);
  } else {
    return widen<T>(value);
  }
}

template <typename T, typename S, bool kTarget>
void load_from(T* __restrict to, const char* __restrict from, std::int64_t stride,
               std::int64_t count) {
  const auto convert = [](S value) __attribute__((always_inline)) {
    return kTarget ? widen_target<T>(value) : widen<T>(value);
  };
  if (stride == sizeof(S)) {
    const S* __restrict source = reinterpret_cast<const S*>(from);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) to[i] = convert(source[i]);
  } else if (stride == 0) {
    const T value = convert(*reinterpret_cast<const S*>(from));
    for (std::int64_t i = 0; i < count; ++i) to[i] = value;
  } else {
    for (std::int64_t i = 0; i < count; ++i)
      to[i] = convert(*reinterpret_cast<const S*>(from + i * stride));
  }
}

template <typename T, bool kTarget>
void load_any(T* to, const char* from, Element element, std::int64_t stride, std::int64_t count) {
  switch (element) {
    case Element::kFloat:
      return load_from<T, float, kTarget>(to, from, stride, count);
    case Element::kDouble:
      return load_from<T, double, kTarget>(to, from, stride, count);
    case Element::kHalf:
      return load_from<T, Half, kTarget>(to, from, stride, count);
    case Element::kBFloat16:
      return load_from<T, BFloat16, kTarget>(to, from, stride, count);
    case Element::kInt8:
      return load_from<T, std::int8_t, kTarget>(to, from, stride, count);
    case Element::kUInt8:
      return load_from<T, std::uint8_t, kTarget>(to, from, stride, count);
    case Element::kInt16:
      return load_from<T, std::int16_t, kTarget>(to, from, stride, count);
    case Element::kInt32:
      return load_from<T, std::int32_t, kTarget>(to, from, stride, count);
    case Element::kInt64:
      return load_from<T, std::int64_t, kTarget>(to, from, stride, count);
  }
}

template <typename T, typename S>
void store_to(char* __restrict to, std::int64_t stride, const T* __restrict from,
              std::int64_t count) {
  if (stride == sizeof(S)) {
    S* __restrict target = reinterpret_cast<S*>(to);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) target[i] = narrow<S>(from[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i)
      *reinterpret_cast<S*>(to + i * stride) = narrow<S>(from[i]);
  }
}

}  // namespace

template <typename T>
void load(T* to, const char* from, Element element, std::int64_t stride, std::int64_t count) {
  load_any<T, false>(to, from, element, stride, count);
}

template <typename T>
void load_target(T* to, const char* from, Element element, std::int64_t stride,
                 std::int64_t count) {
  load_any<T, true>(to, from, element, stride, count);
}

template <typename T>
void store(char* to, Element element, std::int64_t stride, const T* from, std::int64_t count) {
  switch (element) {
    case Element::kFloat:
      return store_to<T, float>(to, stride, from, count);
    case Element::kDouble:
      return store_to<T, double>(to, stride, from, count);
    case Element::kHalf:
      return store_to<T, Half>(to, stride, from, count);
    case Element::kBFloat16:
      return store_to<T, BFloat16>(to, stride, from, count);
    default:
      return;  // logits and gradients are floating
  }
}

template void load<float>(float*, const char*, Element, std::int64_t, std::int64_t);
template void load<double>(double*, const char*, Element, std::int64_t, std::int64_t);
template void load_target<float>(float*, const char*, Element, std::int64_t, std::int64_t);
template void load_target<double>(double*, const char*, Element, std::int64_t, std::int64_t);
template void store<float>(char*, Element, std::int64_t, const float*, std::int64_t);
template void store<double>(char*, Element, std::int64_t, const double*, std::int64_t);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
