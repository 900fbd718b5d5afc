// _images: the decoders of the C++ programs as a Python module, so that all parts read by one rule.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string_view>
#include <utility>

#include "decoders.h"
#include "labelassemble/error.h"

namespace {

namespace py = pybind11;
using labelassemble::Bytes;
using labelassemble::Decoded;

Bytes bytes_of(const py::bytes& data) {
  const std::string_view text = data;
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// [channels, H, W], which owns `values`.
template <typename T>
py::array array_of(std::vector<T>&& values, const labelassemble::Image& image) {
  auto* kept = new std::vector<T>(std::move(values));
  const py::capsule owner(kept, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>({image.channels, image.height, image.width}, kept->data(), owner);
}

// Sentences of the decoders begin with the name; Python puts its own before them.
std::string reason_of(const labelassemble::Error& error) {
  return std::string(error.what()).substr(2);
}

py::object decode(const py::bytes& data) {
  const Bytes bytes = bytes_of(data);
  Decoded decoded;
  try {
    const py::gil_scoped_release release;
    decoded = labelassemble::decode_file(bytes, "");
  } catch (const labelassemble::Error& error) {
    return py::str(reason_of(error));
  }
  py::array samples = decoded.wide.empty()
                          ? array_of(std::move(decoded.image.pixels), decoded.image)
                          : array_of(std::move(decoded.wide), decoded.image);
  return py::make_tuple(std::move(samples), decoded.orientation, decoded.bits,
                        decoded.significant_bits, decoded.white_is_zero);
}

py::object check_jpeg(const py::bytes& data) {
  const Bytes bytes = bytes_of(data);
  try {
    const py::gil_scoped_release release;
    labelassemble::check_jpeg(bytes, "");
  } catch (const labelassemble::Error& error) {
    return py::str(reason_of(error));
  }
  return py::none();
}

}  // namespace

PYBIND11_MODULE(_images, m) {
  m.doc() = "The decoders of labelassemble-predict and labelassemble-serve.";
  m.def("formats", &labelassemble::readable_formats, "The formats that this build reads.");
  m.def("decode", &decode, py::arg("data"),
        "Return (samples uint8 or uint16 [C, H, W] as stored, EXIF orientation, bits of uint16 "
        "samples, of which count "
        "(0: all), whether 0 is white in them), or the reason why the image cannot be read.");
  m.def("check_jpeg", &check_jpeg, py::arg("data"),
        "Return None if the code of a JPEG gives every block of its image, or the reason why "
        "decode refuses it.");
}
