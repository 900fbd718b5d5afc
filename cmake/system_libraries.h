// What the build uses where the system has it. `make` gives this file to the preprocessor, and builds again when what
// comes out has changed: a package was installed, or removed. The names are Debian's.
#if __has_include(<boost/version.hpp>)
libboost-dev
#endif
#if __has_include(<nlohmann/json.hpp>)
nlohmann-json3-dev
#endif
#if __has_include(<prometheus/registry.h>)
prometheus-cpp-dev
#endif
#if __has_include(<zlib.h>)
zlib1g-dev
#endif
#if __has_include(<jpeglib.h>)
libjpeg-dev
#endif
#if __has_include(<png.h>)
libpng-dev
#endif
#if __has_include(<tiffio.h>)
libtiff-dev
#endif
#if __has_include(<webp/demux.h>)
libwebp-dev
#endif
#if __has_include(<grpcpp/grpcpp.h>)
libgrpc++-dev
#endif
#if __has_include(<google/protobuf/message.h>)
libprotobuf-dev
#endif
