# A C++20 compiler, or one sentence that says how to get one (CMake's own answer to none is a page long).
include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER)
  message(FATAL_ERROR "labelassemble compiles C++ code and found no C++ compiler. Install one that knows C++20, "
    "for example: apt install g++ (GCC 11 or later), or set the environment variable CXX to yours.")
endif()
enable_language(CXX)
set(CMAKE_CXX_STANDARD 20)
include(CheckCXXSourceCompiles)
check_cxx_source_compiles("
#include <concepts>
#include <string>
template <typename T> requires std::integral<T> bool odd(T x) { return x % 2; }
int main() { return odd(std::string(\"a\").starts_with(\"a\") ? 1 : 2) ? 0 : 1; }" LABELASSEMBLE_CXX20)
if(NOT LABELASSEMBLE_CXX20)
  message(FATAL_ERROR "labelassemble needs a C++20 compiler, and ${CMAKE_CXX_COMPILER} "
    "(${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}) is none. Install GCC 11 or Clang 14 or later, and "
    "set the environment variable CXX to it.")
endif()
