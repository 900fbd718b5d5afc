// The parameters of a request, whatever its protocol writes them in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "protocol.h"

namespace labelassemble::serve {

// Of a request.
inline constexpr std::size_t kMaxTensors = 64;
inline constexpr std::size_t kMaxDimensions = 8;
inline constexpr std::size_t kMaxName = 1024;  // bytes of a name or an id

// One value that holds no others. Its functions throw HttpError 400 where it is of another kind.
struct Scalar {
  enum class Kind { kNull, kBoolean, kInteger, kFloat, kString };
  Kind kind = Kind::kNull;
  bool boolean = false;
  bool negative = false;
  std::uint64_t magnitude = 0;  // of an integer
  double number = 0;            // of any number
  const std::string* text = nullptr;

  static Scalar of(std::int64_t integer);

  bool is_integer() const { return kind == Kind::kInteger; }
  bool is_number() const { return kind == Kind::kInteger || kind == Kind::kFloat; }
  std::optional<std::int64_t> integer() const;
  const std::string& string(const char* what) const;
  const std::string& name(const char* what) const;  // of at most kMaxName bytes
  bool truth(const char* what) const;
};

// HTTP's tensors may come as JSON or binary, gRPC's are binary: its parameters say nothing of it.
enum class Protocol { kHttp, kGrpc };

// Of the whole request, of one of its outputs, and of one of its inputs (`label`). They throw
// HttpError 400 for a parameter that is not known: a wish that nobody would hear.
void check_parameter(Protocol protocol, const std::string& name);
void check_output_parameter(Protocol protocol, const std::string& name);
void check_input_parameter(Protocol protocol, const std::string& label, const std::string& name);

// The same, and throw where the value is wrong.
void set_parameter(Protocol protocol, InferRequest& request, const std::string& name,
                   const Scalar& value);
void set_output_parameter(Protocol protocol, RequestedOutput& output, const std::string& name,
                          const Scalar& value);

// One more of the classes that are asked for.
void add_class(InferRequest& request, const std::string& name);

}  // namespace labelassemble::serve
