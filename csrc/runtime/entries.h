// What a model says of itself as texts by name, "labelassemble." before each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

namespace labelassemble {

using Entries = std::unordered_map<std::string, std::string>;

// Each throws Error with the path where there is no such entry, or another kind of it.
const std::string& entry(const Entries& entries, const std::string& name,
                         const std::filesystem::path& path);
std::int64_t whole_number(const Entries& entries, const std::string& name,
                          const std::filesystem::path& path);
double number(const Entries& entries, const std::string& name, const std::filesystem::path& path);

// Lists have one value a line.
std::vector<std::string> lines(const Entries& entries, const std::string& name,
                               const std::filesystem::path& path);
std::vector<double> numbers(const Entries& entries, const std::string& name,
                            const std::filesystem::path& path);
std::vector<std::int64_t> whole_numbers(const Entries& entries, const std::string& name,
                                        const std::filesystem::path& path);

}  // namespace labelassemble
