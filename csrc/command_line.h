// The command lines of the C++ programs: --NAME VALUE or --NAME=VALUE, and --no-NAME without a
// value; each program with a table of its options.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "labelassemble/error.h"

namespace labelassemble::command_line {

// Takes a value for the option `name`; throws Error, one sentence, for one that does not fit.
using Setter = std::function<void(const std::string& name, const std::string& value)>;
using Table = std::map<std::string, Setter>;

struct Arguments {
  std::vector<std::string> positional;
  bool help = false;  // nothing after --help or --version was looked at
  bool version = false;
};

// Throws Error for an option that the table lacks, or one without its value.
Arguments parse(const std::vector<std::string>& arguments, const Table& table);

std::uint64_t whole_number(const std::string& name, const std::string& value, std::uint64_t least,
                           std::uint64_t most);

template <typename T>
Setter text(T& target) {
  return [&target](const std::string&, const std::string& value) { target = value; };
}

Setter text_list(std::vector<std::string>& target);  // may be repeated

template <typename T>
Setter whole_number(T& target, std::uint64_t least, std::uint64_t most) {
  return [&target, least, most](const std::string& name, const std::string& value) {
    target = static_cast<T>(whole_number(name, value, least, most));
  };
}

Setter turn_off(bool& target);                      // of a --no-NAME
Setter size(std::size_t& target);                   // 65536, 64K, 64M or 1G
Setter seconds(std::chrono::milliseconds& target);  // from 0.001 to a day

// "a, b or c"
std::string alternatives(const std::vector<std::string>& names);

template <typename T>
Setter one_of(T& target, std::vector<std::pair<std::string, T>> choices) {
  return
      [&target, choices = std::move(choices)](const std::string& name, const std::string& value) {
        std::vector<std::string> names;
        for (const auto& [choice, meaning] : choices) {
          if (choice == value) {
            target = meaning;
            return;
          }
          names.push_back(choice);
        }
        throw Error(name + " must be " + alternatives(names) + ", got '" + value + "'");
      };
}

// Prints what --help or --version asks for; false where neither does.
bool print_help_or_version(const Arguments& arguments, const char* program, const char* help);

}  // namespace labelassemble::command_line
