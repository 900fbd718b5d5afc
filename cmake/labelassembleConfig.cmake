# find_package(labelassemble) in an outside project: gives
#   labelassemble::runtime  the C++ library; its headers need no header of torch
#   labelassemble::torch    libtorch, for programs that pass tensors; where torch lies beside labelassemble,
#                           or where LABELASSEMBLE_TORCH says (the folder of torch's lib and include)
include("${CMAKE_CURRENT_LIST_DIR}/labelassembleTargets.cmake")

get_filename_component(_labelassemble_site "${CMAKE_CURRENT_LIST_DIR}/../../../.." ABSOLUTE)
set(_labelassemble_torch "${_labelassemble_site}/torch")
if(LABELASSEMBLE_TORCH)
  set(_labelassemble_torch "${LABELASSEMBLE_TORCH}")
endif()
if(EXISTS "${_labelassemble_torch}/lib" AND NOT TARGET labelassemble::torch)
  add_library(labelassemble::torch INTERFACE IMPORTED)
  target_include_directories(labelassemble::torch SYSTEM INTERFACE
    "${_labelassemble_torch}/include" "${_labelassemble_torch}/include/torch/csrc/api/include")
  target_compile_features(labelassemble::torch INTERFACE cxx_std_20)
  target_link_directories(labelassemble::torch INTERFACE "${_labelassemble_torch}/lib")
  target_link_libraries(labelassemble::torch INTERFACE torch torch_cpu c10)
endif()
unset(_labelassemble_site)
unset(_labelassemble_torch)
