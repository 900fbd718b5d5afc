# torch throws through the shared libstdc++. A compiler that was built without one (gcc --disable-shared) would link a
# copy of the archive into each of our libraries, where torch's exceptions end the process: then the system's is linked.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  execute_process(COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=libstdc++.so
    OUTPUT_VARIABLE shared_libstdcxx OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT IS_ABSOLUTE "${shared_libstdcxx}")
    find_library(LABELASSEMBLE_LIBSTDCXX NAMES libstdc++.so.6)
    if(NOT LABELASSEMBLE_LIBSTDCXX)
      message(FATAL_ERROR "${CMAKE_CXX_COMPILER} has no shared libstdc++, which labelassemble needs beside torch, and the "
        "system has none either. Install one, for example: apt install libstdc++6, or set the environment variable CXX to "
        "another compiler.")
    endif()
    message(STATUS "${CMAKE_CXX_COMPILER} has no shared libstdc++: ${LABELASSEMBLE_LIBSTDCXX} is linked")
    link_libraries("${LABELASSEMBLE_LIBSTDCXX}")
  endif()
endif()
