// labelassemble-serve: exported models over HTTP and gRPC. No Python.
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <mutex>
#include <optional>
#include <semaphore>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "access_log.h"
#include "cores.h"
#include "engine.h"
#include "labelassemble/error.h"
#include "labelassemble/memory.h"
#ifdef LABELASSEMBLE_WITH_GRPC
#include "grpc_server.h"
#endif
#include "memory_budget.h"
#include "metrics.h"
#include "network.h"
#include "options.h"
#include "repository.h"
#include "say.h"
#include "server.h"
#include "service.h"

namespace {

namespace serve = labelassemble::serve;
using serve::say;

constexpr int kFailed = 1;
constexpr int kMistake = 2;
constexpr std::chrono::milliseconds kGrace{500};

// Ends the process a moment after the drain timeout, whatever still runs: a batch, a decoder, a log
// whose reader has stopped.
void end_in_any_case(serve::milliseconds drain_timeout) {
  std::thread([drain_timeout] {
    std::this_thread::sleep_for(drain_timeout + kGrace);
    say("stopped while work was under way: the drain timeout has passed");
    std::_Exit(kFailed);
  }).detach();
}

// Gives what small blocks have left in the heap back to the system, when requests have come and
// gone.
class Trimmer {
 public:
  explicit Trimmer(const serve::MemoryBudget& memory)
      : thread_([&memory](const std::stop_token& stop) {
          std::mutex mutex;
          std::condition_variable_any changed;
          std::size_t seen = 0;
          std::unique_lock lock(mutex);
          while (!changed.wait_for(lock, stop, kPause, [] { return false; })) {
            if (stop.stop_requested()) return;
            if (memory.used() != 0 || memory.taken() == seen) continue;
            seen = memory.taken();
#ifdef __GLIBC__
            malloc_trim(0);
#endif
          }
        }) {
  }

 private:
  static constexpr std::chrono::seconds kPause{2};
  std::jthread thread_;
};

// A connection over HTTP takes one file, one over gRPC three; most systems give a process 1,024
// until it asks for more.
void allow_files(const serve::Options& options) {
  constexpr rlim_t kOthers = 192;  // models, logs, pollers, connections that are refused
  const rlim_t needed = kOthers + (options.grpc_port ? 4 : 1) * options.max_connections;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= needed) return;
  files.rlim_cur = std::min(needed, files.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur == needed) return;
  say("--max-connections " + std::to_string(options.max_connections) + " may need " +
      std::to_string(needed) + " open files, and the system allows " +
      std::to_string(files.rlim_max) + " (ulimit -n)");
}

// What arrives over gRPC is held by gRPC itself until it is whole.
std::size_t share_of_grpc(const serve::Options& options) {
#ifdef LABELASSEMBLE_WITH_GRPC
  if (options.grpc_port) return serve::grpc_share(options.max_memory);
#endif
  return 0 * options.max_memory;
}

int run(const serve::Options& options) {
  serve::set_threads(options.threads);
  allow_files(options);
  serve::Metrics metrics;
  serve::MemoryBudget memory(options.max_memory - share_of_grpc(options));
  const Trimmer trimmer(memory);
  std::counting_semaphore<> compute(options.parallel_batches);
  serve::ScoreLog scores(options.score_log, metrics.lost_score_lines());
  serve::Repository repository({options, metrics, memory, compute, scores});
  serve::AccessLog log(options.access_log, metrics.lost_access_lines());
  boost::asio::io_context io(1);
  serve::Engine engine(options, repository);
  serve::Service service(options, engine, metrics, memory);
  serve::Server server(io, {options, service, metrics, memory, log});
#ifdef LABELASSEMBLE_WITH_GRPC
  std::optional<serve::GrpcServer> grpc;
  if (options.grpc_port) grpc.emplace(io, options, engine, metrics, memory, log);
#endif

  int status = 0;
  bool stopping = false;
  int draining = 1;  // servers
  boost::asio::signal_set signals(io, SIGTERM, SIGINT);
  const auto stop = [&](int failed) {
    if (failed != 0) status = failed;
    if (stopping) return;
    stopping = true;
    end_in_any_case(options.drain_timeout);
    engine.drain();
    const auto drained = [&](std::size_t cut_off, const char* what) {
      if (cut_off > 0) {
        say(std::to_string(cut_off) + " " + what + " were cut off");
        status = kFailed;
      }
      if (--draining == 0) signals.cancel();
    };
#ifdef LABELASSEMBLE_WITH_GRPC
    if (grpc) {
      ++draining;
      grpc->drain([drained](std::size_t cut_off) { drained(cut_off, "calls of gRPC"); });
    }
#endif
    server.drain([drained](std::size_t cut_off) { drained(cut_off, "connections"); });
  };
  std::function<void()> await_signal = [&] {
    signals.async_wait([&](boost::system::error_code error, int) {
      if (error) return;
      if (stopping) std::_Exit(kFailed);  // asked twice: at once
      await_signal();                     // before stop(), which may already cancel it
      stop(0);
      say("stopping: requests that were begun are finished");
    });
  };
  await_signal();

  const int threads = options.threads > 0 ? options.threads : serve::available_cores();
  say("computing with " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"));
  say("listening on " + server.url());
#ifdef LABELASSEMBLE_WITH_GRPC
  if (grpc) say("answering gRPC on " + grpc->url());
#endif
  std::thread loader([&] {
    std::string failure;
    try {
      repository.load_at_start();
      if (!repository.serves()) failure = "no model could be loaded";
    } catch (const std::exception& error) {
      failure = error.what();
    }
    boost::asio::post(io, [&, failure] {
      if (!failure.empty()) {
        say(failure);
        stop(kFailed);
      } else if (!stopping) {
        say("ready");
      }
    });
  });
  io.run();
  loader.join();
  repository.close();
  if (status == 0) say("stopped");
  return status;
}

// Bodies and images go back to the system when they are freed, so that the process is as large as
// what its requests hold. By itself glibc would keep blocks of up to 32 MiB for each thread.
void return_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
  mallopt(M_ARENA_MAX, 2);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  return_freed_memory();
  labelassemble::keep_freed_memory();
  try {
    serve::Options options;
    const auto arguments = serve::parse_options({argv + 1, argv + argc}, options);
    if (labelassemble::command_line::print_help_or_version(arguments, "labelassemble-serve",
                                                           serve::kHelp)) {
      return 0;
    }
    return run(options);
  } catch (const std::exception& error) {
    say(error.what());
    return kMistake;
  }
}
