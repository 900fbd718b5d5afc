// Whether the processor has the instructions that torch was told to use. torch believes its
// environment variable ATEN_CPU_CAPABILITY, and a processor that lacks them ends the process with
// an illegal instruction.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>

namespace labelassemble {

// Returns what is wrong with asking a processor for `asked`, as a sentence; empty where nothing is.
inline std::string missing_capability(std::string_view asked, bool has_avx2, bool has_avx512) {
  const bool lacks = (asked.starts_with("avx512") && !has_avx512) || (asked == "avx2" && !has_avx2);
  if (!lacks) return "";
  return "the environment variable ATEN_CPU_CAPABILITY asks for " + std::string(asked) +
         ", which this processor does not have (it has " +
         (has_avx2 ? "avx2" : "neither avx2 nor avx512") + "): unset the variable";
}

// The same for this processor and what its environment asks for.
inline std::string missing_capability() {
#if defined(__x86_64__)
  const char* asked = std::getenv("ATEN_CPU_CAPABILITY");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  return missing_capability(asked == nullptr ? "" : asked, avx2, avx512);
#else
  return "";
#endif
}

}  // namespace labelassemble
