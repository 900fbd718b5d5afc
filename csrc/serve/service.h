// Answers HTTP requests: finds what a path asks for, and turns every error into an answer.
#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>
#include <vector>

#include "http_message.h"
#include "memory_budget.h"
#include "metrics.h"
#include "options.h"
#include "repository.h"
#include "route.h"

namespace labelassemble::serve {

class Service {
 public:
  Service(const Options& options, Repository& repository, Metrics& metrics, MemoryBudget& memory);
  ~Service();

  // Answers exactly once, on this thread (health, which must not wait for any other) or on another.
  // Never throws.
  void handle(HttpRequest request, Reply reply);

  // Not ready from now on; what comes is still answered.
  void drain() { draining_ = true; }

 private:
  // Everything that is answered at once.
  HttpResponse answer(const HttpRequest& request, const std::vector<std::string>& parts);
  HttpResponse answer_repository(const HttpRequest& request, const std::vector<std::string>& parts);
  HttpResponse answer_model(const HttpRequest& request, const ModelPath& path);
  HttpResponse server_metadata() const;
  HttpResponse health(const HttpRequest& request, const std::string& what) const;
  // Inference is answered when its batch has run.
  void infer(HttpRequest request, const ModelPath& path, Reply reply);

  const Options& options_;
  Repository& repository_;
  Metrics& metrics_;
  MemoryBudget& memory_;
  std::atomic<bool> draining_{false};
  boost::asio::thread_pool workers_;  // parse, decode and resize
  boost::asio::thread_pool light_;    // metrics, metadata, statistics: never behind an image
  boost::asio::thread_pool control_;  // load and unload, which take long
};

}  // namespace labelassemble::serve
