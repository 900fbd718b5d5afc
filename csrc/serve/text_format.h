// Protocol Buffers' text format, in which config.pbtxt is written, as a tree; no schema.
//
// Not libprotobuf: libtorch carries a libprotobuf of its own, another version than the system's,
// and two of them in a process are a known source of crashes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace labelassemble::serve {

struct TextField;

// The fields of a message in the order of the file; one that repeats stands there repeatedly.
struct TextMessage {
  std::vector<TextField> fields;
};

struct TextField {
  enum class Kind { kString, kWord, kMessage };  // kWord: a number, an enumerator, true or false
  std::string name;
  Kind kind = Kind::kWord;
  std::string text;
  TextMessage message;
  int line = 0;
};

// Throws Error: what is wrong and in which line.
TextMessage parse_text_format(std::string_view text);

}  // namespace labelassemble::serve
