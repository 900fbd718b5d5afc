add_library(labelassemble_warnings INTERFACE)
add_library(labelassemble::warnings ALIAS labelassemble_warnings)
target_compile_options(labelassemble_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
