// The little JSON that is written here.
#pragma once

#include <string>
#include <string_view>

namespace labelassemble::predict {

// A quoted JSON string. Bytes that are not UTF-8 become U+FFFD, so that the document is always
// valid.
std::string json_string(std::string_view text);

// The shortest number that reads back as the same float, or double; null for what is not finite.
std::string json_number(float value);
std::string json_number(double value);

}  // namespace labelassemble::predict
