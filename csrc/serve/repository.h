// The models of a folder laid out as for Triton: NAME/config.pbtxt, NAME/VERSION/model.pt.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model.h"

namespace labelassemble::serve {

class Repository {
 public:
  // Throws Error when the folder is not there.
  explicit Repository(const Shared& shared);

  // Loads what the options say; a model that cannot be loaded is named on the standard error, and
  // the others serve. Throws Error for a model to load that is not there.
  void load_at_start();

  // Loads a model anew: when that fails, what was loaded before goes on serving. Throws HttpError.
  void load(const std::string& name);
  // Finishes the requests that it has, then forgets it. Throws HttpError.
  void unload(const std::string& name);

  // The version, or the newest one for an empty `version`. Throws HttpError 400 (no number), 404
  // (unknown) or 503 (known, but not ready).
  std::shared_ptr<Model> find(const std::string& name, const std::string& version) const;

  std::vector<std::shared_ptr<Model>> ready_models() const;
  std::vector<std::string> versions(const std::string& name) const;  // those that are ready
  nlohmann::json index(bool only_ready) const;

  // The models of the start are loaded and warm, and at least one serves (or, under explicit
  // control, none was asked for).
  bool serves() const;
  // That, and no model was refused, unless readiness is not strict.
  bool ready() const;

  void close();  // finishes every model's queue

 private:
  struct Version {
    std::string state;  // Triton's: LOADING, READY, UNLOADING, UNAVAILABLE
    std::string reason;
    std::shared_ptr<Model> model;  // of READY
  };
  struct Entry {
    std::string reason;  // why no version could be looked at
    std::map<std::int64_t, Version> versions;
  };

  std::vector<std::string> names() const;
  Entry load_entry(const std::string& name);
  void set_state(const std::string& name, Entry entry);

  const Shared shared_;
  const std::filesystem::path root_;
  std::mutex change_mutex_;  // one load or unload at a time
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  bool started_ = false;
};

}  // namespace labelassemble::serve
