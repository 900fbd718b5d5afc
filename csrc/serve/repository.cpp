#include "repository.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include "say.h"

namespace labelassemble::serve {
namespace {

constexpr const char* kUnloaded = "unloaded";  // by a request

constexpr std::uintmax_t kMaxConfigBytes = std::uintmax_t{1} << 20;

std::optional<std::int64_t> version_number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) return std::nullopt;
  return value;
}

ModelConfig read_config(const std::filesystem::path& folder, const std::string& name) {
  const std::filesystem::path path = folder / "config.pbtxt";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return default_model_config(name);
  if (std::filesystem::file_size(path, error) > kMaxConfigBytes || error) {
    throw Error("config.pbtxt cannot be read, or is larger than 1 MiB");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error("config.pbtxt cannot be opened");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  try {
    return parse_model_config(text, name);
  } catch (const Error& failure) {
    throw Error(std::string("config.pbtxt: ") + failure.what());
  }
}

std::vector<std::int64_t> version_folders(const std::filesystem::path& folder) {
  std::vector<std::int64_t> versions;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto number = version_number(entry.path().filename().string());
    if (number && entry.is_directory()) versions.push_back(*number);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

std::vector<std::int64_t> chosen(const VersionPolicy& policy, std::vector<std::int64_t> versions) {
  if (policy.kind == VersionPolicy::Kind::kLatest) {
    const auto keep = std::min<std::int64_t>(policy.latest, std::ssize(versions));
    versions.erase(versions.begin(), versions.end() - keep);
  }
  if (policy.kind == VersionPolicy::Kind::kSpecific) {
    std::erase_if(versions, [&](std::int64_t version) {
      return std::find(policy.specific.begin(), policy.specific.end(), version) ==
             policy.specific.end();
    });
  }
  return versions;
}

}  // namespace

Repository::Repository(const Shared& shared) : shared_(shared), root_(shared.options.repository) {
  std::error_code error;
  if (!std::filesystem::is_directory(root_, error)) {
    throw Error(root_.string() + ": no such folder of models");
  }
}

std::vector<std::string> Repository::names() const {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root_, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with('.') && entry.is_directory(error)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Repository::Entry Repository::load_entry(const std::string& name) {
  Entry entry;
  const std::filesystem::path folder = root_ / name;
  ModelConfig config;
  std::vector<std::int64_t> numbers;
  try {
    config = read_config(folder, name);
    if (!config.backend.empty() && config.backend != "pytorch") {
      throw Error("backend '" + config.backend +
                  "' is not served here, only pytorch (model.pt and model.pt2)");
    }
    numbers = chosen(config.version_policy, version_folders(folder));
    if (numbers.empty())
      throw Error("no folder of a version (1, 2, ...) that version_policy takes");
  } catch (const std::exception& failure) {
    entry.reason = failure.what();
    say("model '" + name + "' is refused: " + entry.reason);
    return entry;
  }
  for (const std::int64_t number : numbers) {
    const std::string version = std::to_string(number);
    const Clock::time_point start = Clock::now();
    try {
      auto model = std::make_shared<Model>(config, version, folder / version, shared_);
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      char time[32];
      std::snprintf(time, sizeof time, "%.1f", seconds);
      say("model '" + name + "' version " + version +
          " is ready: " + std::to_string(model->describe().classes.size()) +
          " classes, loaded and warm in " + time + " s");
      entry.versions[number] = {"READY", "", std::move(model)};
    } catch (const std::exception& failure) {
      entry.versions[number] = {"UNAVAILABLE", failure.what(), nullptr};
      say("model '" + name + "' version " + version + " is refused: " + failure.what());
    }
  }
  return entry;
}

void Repository::set_state(const std::string& name, Entry entry) {
  Entry old;
  {
    const std::lock_guard lock(mutex_);
    old = std::exchange(entries_[name], std::move(entry));
  }
  // Requests that have found the old models are finished by them: the last one lets them go.
}

void Repository::load_at_start() {
  const std::lock_guard change(change_mutex_);
  const std::vector<std::string> all = names();
  const Options& options = shared_.options;
  for (const std::string& name : options.load_models) {
    if (std::find(all.begin(), all.end(), name) == all.end()) {
      throw Error("--load-model " + name + ": no such folder in " + root_.string());
    }
  }
  for (const std::string& name : options.explicit_control ? options.load_models : all) {
    {
      const std::lock_guard lock(mutex_);
      entries_[name].reason = "it is being loaded";
    }
    set_state(name, load_entry(name));
  }
  const std::lock_guard lock(mutex_);
  started_ = true;
}

void Repository::load(const std::string& name) {
  if (!shared_.options.explicit_control) {
    throw HttpError(
        400, "models are loaded at start; --model-control-mode explicit lets requests do it");
  }
  const std::lock_guard change(change_mutex_);
  const std::vector<std::string> all = names();  // no other name becomes a path
  if (std::find(all.begin(), all.end(), name) == all.end()) {
    throw HttpError(404, "the repository has no model '" + name + "'");
  }
  Entry entry = load_entry(name);
  std::string reason = entry.reason;
  for (const auto& [number, version] : entry.versions) {
    if (version.model == nullptr && reason.empty()) reason = version.reason;
  }
  if (!reason.empty()) {
    bool serving = false;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [number, version] : entries_[name].versions) {
        serving = serving || version.model != nullptr;
      }
    }
    if (!serving) set_state(name, std::move(entry));
    throw HttpError(400, "model '" + name + "' cannot be loaded: " + reason);
  }
  set_state(name, std::move(entry));
}

void Repository::unload(const std::string& name) {
  if (!shared_.options.explicit_control) {
    throw HttpError(400,
                    "models stay loaded; --model-control-mode explicit lets requests unload them");
  }
  const std::lock_guard change(change_mutex_);
  Entry gone;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(name);
    if (found == entries_.end()) throw HttpError(404, "no model '" + name + "' is loaded");
    gone = found->second;
    for (auto& [number, version] : found->second.versions) {
      version = {"UNAVAILABLE", kUnloaded, nullptr};
    }
    found->second.reason = kUnloaded;
  }
  for (auto& [number, version] : gone.versions) {
    if (version.model) version.model->close();
  }
  say("model '" + name + "' is unloaded");
}

std::shared_ptr<Model> Repository::find(const std::string& name, const std::string& version) const {
  std::optional<std::int64_t> number;
  if (!version.empty()) {
    number = version_number(version);
    if (!number) throw HttpError(400, "a version must be a whole number, got '" + version + "'");
  }
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw HttpError(404, "there is no model '" + name + "'");
  const Entry& entry = found->second;
  std::string reason = entry.reason;
  if (number) {
    const auto one = entry.versions.find(*number);
    if (one == entry.versions.end()) {
      if (!reason.empty()) throw HttpError(503, "model '" + name + "' is not ready: " + reason);
      throw HttpError(404, "model '" + name + "' has no version " + version);
    }
    if (one->second.model) return one->second.model;
    reason = one->second.reason;
  } else {
    for (auto one = entry.versions.rbegin(); one != entry.versions.rend(); ++one) {
      if (one->second.model) return one->second.model;
      if (reason.empty()) reason = one->second.reason;
    }
  }
  throw HttpError(503, "model '" + name + "' is not ready: " + reason);
}

std::vector<std::shared_ptr<Model>> Repository::ready_models() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Model>> models;
  for (const auto& [name, entry] : entries_) {
    for (const auto& [number, version] : entry.versions) {
      if (version.model) models.push_back(version.model);
    }
  }
  return models;
}

std::vector<std::string> Repository::versions(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> versions;
  if (const auto found = entries_.find(name); found != entries_.end()) {
    for (const auto& [number, version] : found->second.versions) {
      if (version.model) versions.push_back(std::to_string(number));
    }
  }
  return versions;
}

nlohmann::json Repository::index(bool only_ready) const {
  std::vector<std::string> all = names();
  const std::lock_guard lock(mutex_);
  nlohmann::json index = nlohmann::json::array();
  for (const auto& [name, entry] : entries_) {
    std::erase(all, name);
    for (const auto& [number, version] : entry.versions) {
      if (only_ready && version.state != "READY") continue;
      nlohmann::json row{
          {"name", name}, {"version", std::to_string(number)}, {"state", version.state}};
      if (!version.reason.empty()) row["reason"] = version.reason;
      index.push_back(std::move(row));
    }
    if (entry.versions.empty() && !only_ready) {
      index.push_back({{"name", name}, {"state", "UNAVAILABLE"}, {"reason", entry.reason}});
    }
  }
  if (!only_ready) {
    for (const std::string& name : all) index.push_back({{"name", name}});  // never loaded
  }
  return index;
}

bool Repository::serves() const {
  const std::lock_guard lock(mutex_);
  if (!started_) return false;
  // Under explicit control there may be none: none was asked for, or all were unloaded.
  if (shared_.options.explicit_control &&
      std::all_of(entries_.begin(), entries_.end(),
                  [](const auto& named) { return named.second.reason == kUnloaded; })) {
    return true;
  }
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& named) {
    const auto& versions = named.second.versions;
    return std::any_of(versions.begin(), versions.end(),
                       [](const auto& one) { return one.second.model != nullptr; });
  });
}

bool Repository::ready() const {
  if (!serves()) return false;
  if (!shared_.options.strict_readiness) return true;
  const std::lock_guard lock(mutex_);
  return std::all_of(entries_.begin(), entries_.end(), [](const auto& named) {
    const Entry& entry = named.second;
    if (entry.reason == kUnloaded) return true;
    return !entry.versions.empty() &&
           std::all_of(entry.versions.begin(), entry.versions.end(),
                       [](const auto& one) { return one.second.model != nullptr; });
  });
}

void Repository::close() {
  for (const auto& model : ready_models()) model->close();
}

}  // namespace labelassemble::serve
