// The command line of labelassemble-serve.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command_line.h"

namespace labelassemble::serve {

using std::chrono::milliseconds;

struct Options {
  std::filesystem::path repository;
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  std::optional<std::uint16_t> grpc_port;  // none: HTTP alone
  std::string device = "cpu";
  bool explicit_control = false;         // models are loaded and unloaded by request
  bool strict_readiness = true;          // a model that is refused makes the server not ready
  std::vector<std::string> load_models;  // loaded at start under explicit control

  int threads = 0;           // within an operation; 0: one a core
  int parallel_batches = 1;  // batches that compute at the same time, over all models

  std::size_t max_body = std::size_t{64} << 20;
  std::size_t max_image = std::size_t{192} << 20;
  std::size_t max_header = std::size_t{16} << 10;
  std::size_t max_connections = 512;
  std::size_t max_queue = 256;  // requests that wait, a model
  std::size_t max_memory = std::size_t{1} << 30;

  milliseconds idle_timeout{60'000};
  milliseconds read_timeout{30'000};
  milliseconds write_timeout{30'000};
  milliseconds request_timeout{30'000};
  milliseconds drain_timeout{30'000};

  std::string access_log = "-";    // a file, - for the standard output, or none
  std::string score_log = "none";  // likewise
};

extern const char* const kHelp;

// Throws Error, one sentence, for what cannot be understood.
command_line::Arguments parse_options(const std::vector<std::string>& arguments, Options& options);

}  // namespace labelassemble::serve
