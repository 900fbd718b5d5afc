#include "command_line.h"

#include <charconv>
#include <cmath>
#include <iostream>

#include "labelassemble/image.h"

namespace labelassemble::command_line {
namespace {

// Whether all of `text` is a number.
template <typename T>
bool parse_number(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Arguments parse(const std::vector<std::string>& arguments, const Table& table) {
  Arguments result;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string option = arguments[i];
    if (option.size() < 2 || option[0] != '-') {
      result.positional.push_back(option);
      continue;
    }
    if (option == "--") {
      result.positional.insert(result.positional.end(), arguments.begin() + i + 1, arguments.end());
      break;
    }
    result.help = option == "--help" || option == "-h";
    result.version = option == "--version";
    if (result.help || result.version) break;
    std::string value;
    const std::size_t equals = option.find('=');
    const bool attached = equals != std::string::npos;
    if (attached) {
      value = option.substr(equals + 1);
      option.resize(equals);
    }
    const auto setter = table.find(option);
    if (setter == table.end()) throw Error("unknown option '" + option + "' (see --help)");
    if (option.starts_with("--no-")) {
      if (attached) throw Error(option + " takes no value (see --help)");
      setter->second(option, value);
      continue;
    }
    if (!attached) {
      if (i + 1 == arguments.size()) throw Error(option + " needs a value (see --help)");
      value = arguments[++i];
    }
    if (value.empty()) throw Error(option + " needs a value that is not empty (see --help)");
    setter->second(option, value);
  }
  return result;
}

std::uint64_t whole_number(const std::string& name, const std::string& value, std::uint64_t least,
                           std::uint64_t most) {
  std::uint64_t number = 0;
  if (!parse_number(value, number) || number < least || number > most) {
    throw Error(name + " must be a whole number from " + std::to_string(least) + " to " +
                std::to_string(most) + ", got '" + value + "'");
  }
  return number;
}

Setter text_list(std::vector<std::string>& target) {
  return [&target](const std::string&, const std::string& value) { target.push_back(value); };
}

Setter turn_off(bool& target) {
  return [&target](const std::string&, const std::string&) { target = false; };
}

Setter size(std::size_t& target) {
  return [&target](const std::string& name, const std::string& value) {
    const char unit = value.back();
    const int shift = unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0;
    std::uint64_t number = 0;
    constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
    if (!parse_number(value.substr(0, value.size() - (shift != 0 ? 1 : 0)), number) || number < 1 ||
        number > (kMost >> shift)) {
      throw Error(name + " must be a size such as 65536, 64K, 64M or 1G, got '" + value + "'");
    }
    target = number << shift;
  };
}

Setter seconds(std::chrono::milliseconds& target) {
  return [&target](const std::string& name, const std::string& value) {
    double number = 0;
    if (!parse_number(value, number) || !(number >= 0.001) || number > 86'400) {
      throw Error(name + " must be seconds from 0.001 to 86400, got '" + value + "'");
    }
    target = std::chrono::milliseconds(std::llround(number * 1000));
  };
}

std::string alternatives(const std::vector<std::string>& names) {
  std::string all;
  for (std::size_t i = 0; i < names.size(); ++i) {
    all += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
  }
  return all;
}

bool print_help_or_version(const Arguments& arguments, const char* program, const char* help) {
  if (arguments.help) {
    std::cout << help;
  } else if (arguments.version) {
    std::cout << program << " " LABELASSEMBLE_VERSION ", reads";
    for (const std::string& format : readable_formats()) std::cout << " " << format;
    std::cout << "\n";
  }
  return arguments.help || arguments.version;
}

}  // namespace labelassemble::command_line
