// Reads the JSON of an inference request as it streams by: tensor data goes straight into arrays,
// whose memory is taken before they grow.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parameters.h"
#include "protocol.h"

namespace labelassemble::serve {

// An input as the JSON describes it, before its data is looked at.
struct RawInput {
  enum class Data { kNone, kNumbers, kBooleans, kStrings };
  std::optional<std::string> name;
  std::optional<std::string> datatype;
  std::optional<std::vector<std::int64_t>> shape;
  std::optional<std::uint64_t> binary_size;
  bool has_data = false;
  Data kind = Data::kNone;
  std::vector<double> numbers;
  std::vector<std::uint8_t> strings;  // each with its length before it, as in binary data
  std::size_t count = 0;              // elements of the data
};

// The tensor of the input number `index`, checked: its data are the elements that the description
// holds, or the first `binary_size` bytes of `binary`, which are taken from it. Throws HttpError.
InputTensor tensor_of(RawInput& raw, std::size_t index, Bytes& binary,
                      MemoryBudget::Charge& charge);

// That there are inputs, none of a name twice, and that outputs have names. Throws HttpError 400.
void check_names(const InferRequest& request);

// The handler of nlohmann's SAX parser; throws HttpError 400 at the first thing that is wrong.
class RequestReader {
 public:
  using json = nlohmann::json;
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;

  // `charge` grows by the memory of the data.
  explicit RequestReader(MemoryBudget::Charge& charge) : charge_(charge) {}

  // Parses the whole text.
  void read(std::string_view text);

  InferRequest request;  // everything but the inputs
  std::vector<RawInput> inputs;

  bool null();
  bool boolean(bool value);
  bool number_integer(number_integer_t value);
  bool number_unsigned(number_unsigned_t value);
  bool number_float(number_float_t value, const string_t& text);
  bool string(string_t& value);
  bool binary(binary_t& value);
  bool start_object(std::size_t size);
  bool key(string_t& value);
  bool end_object();
  bool start_array(std::size_t size);
  bool end_array();
  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& error);

 private:
  // Where in the request the parser is.
  enum class In {
    kStart,
    kTop,
    kParameters,
    kClasses,
    kInputs,
    kInput,
    kInputParameters,
    kShape,
    kData,
    kOutputs,
    kOutput,
    kOutputParameters,
    kSkipped,
  };

  void scalar(const Scalar& value);
  void top(const Scalar& value);
  void input(const Scalar& value);
  void input_parameter(const Scalar& value);
  void shape(const Scalar& value);
  void data(const Scalar& value);
  void output(const Scalar& value);
  [[noreturn]] void refuse_nested(const char* what) const;
  void enter(In where);
  std::string input_label() const;

  MemoryBudget::Charge& charge_;
  std::vector<In> stack_{In::kStart};
  std::string key_;
};

}  // namespace labelassemble::serve
