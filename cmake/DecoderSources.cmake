# What reads images and volumes from files, without libtorch and without Python: for the library, and for tests that compile it
# with sanitizers.
set(labelassemble_decoder_sources
  decode_bmp.cpp
  decode_guard.cpp
  decode_jpeg.cpp
  decode_png.cpp
  decode_pnm.cpp
  decode_tiff.cpp
  decode_webp.cpp
  exif.cpp
  image.cpp
  nifti.cpp
  nifti_header.cpp
  sides.cpp
  tiff_directory.cpp
  tiff_source.cpp)
list(TRANSFORM labelassemble_decoder_sources PREPEND "${CMAKE_CURRENT_LIST_DIR}/../csrc/runtime/")
