// Answers HTTP requests: finds what a path asks for, and turns every error into an answer.
#pragma once

#include <string>
#include <vector>

#include "engine.h"
#include "http_message.h"
#include "memory_budget.h"
#include "metrics.h"
#include "options.h"
#include "route.h"

namespace labelassemble::serve {

class Service {
 public:
  Service(const Options& options, Engine& engine, Metrics& metrics, MemoryBudget& memory)
      : options_(options), engine_(engine), metrics_(metrics), memory_(memory) {}

  // Answers exactly once, on this thread (health, which must not wait for any other) or on another.
  // Never throws.
  void handle(HttpRequest request, Reply reply);

 private:
  // Everything that is answered at once.
  HttpResponse answer(const HttpRequest& request, const std::vector<std::string>& parts);
  HttpResponse answer_repository(const HttpRequest& request, const std::vector<std::string>& parts);
  HttpResponse answer_model(const HttpRequest& request, const ModelPath& path);
  HttpResponse health(const HttpRequest& request, const std::string& what) const;

  const Options& options_;
  Engine& engine_;
  Metrics& metrics_;
  MemoryBudget& memory_;
};

}  // namespace labelassemble::serve
