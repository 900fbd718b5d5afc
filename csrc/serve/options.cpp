#include "options.h"

#include <charconv>
#include <cmath>
#include <functional>
#include <map>

#include "labelassemble/error.h"

namespace labelassemble::serve {
namespace {

std::uint64_t whole_number(const std::string& option, const std::string& text, std::uint64_t least,
                           std::uint64_t most) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    throw Error(option + " must be a whole number from " + std::to_string(least) + " to " +
                std::to_string(most) + ", got '" + text + "'");
  }
  return value;
}

// 65536, 64K, 64M or 1G.
std::size_t size(const std::string& option, const std::string& text) {
  std::string digits = text;
  int shift = 0;
  if (!text.empty()) {
    shift = text.back() == 'K' ? 10 : text.back() == 'M' ? 20 : text.back() == 'G' ? 30 : 0;
    if (shift != 0) digits.pop_back();
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  if (error != std::errc() || end != digits.data() + digits.size() || value < 1 ||
      value > (kMost >> shift)) {
    throw Error(option + " must be a size such as 65536, 64K, 64M or 1G, got '" + text + "'");
  }
  return value << shift;
}

milliseconds seconds(const std::string& option, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0.001) ||
      value > 86'400) {
    throw Error(option + " must be seconds from 0.001 to 86400, got '" + text + "'");
  }
  return milliseconds(std::llround(value * 1000));
}

bool explicit_mode(const std::string& option, const std::string& text) {
  if (text == "none") return false;
  if (text == "explicit") return true;
  throw Error(option + " must be none or explicit, got '" + text + "'");
}

using Setter = std::function<void(Options&, const std::string& option, const std::string& value)>;

const std::map<std::string, Setter>& setters() {
  constexpr std::uint64_t kMany = 1'000'000;
  static const std::map<std::string, Setter> all{
      {"--model-repository", [](auto& o, auto&, auto& v) { o.repository = v; }},
      {"--host", [](auto& o, auto&, auto& v) { o.host = v; }},
      {"--port",
       [](auto& o, auto& n, auto& v) {
         o.port = static_cast<std::uint16_t>(whole_number(n, v, 0, 65535));
       }},
      {"--device", [](auto& o, auto&, auto& v) { o.device = v; }},
      {"--model-control-mode",
       [](auto& o, auto& n, auto& v) { o.explicit_control = explicit_mode(n, v); }},
      {"--load-model", [](auto& o, auto&, auto& v) { o.load_models.push_back(v); }},
      {"--threads", [](auto& o, auto& n,
                       auto& v) { o.threads = static_cast<int>(whole_number(n, v, 1, 1024)); }},
      {"--parallel-batches",
       [](auto& o, auto& n, auto& v) {
         o.parallel_batches = static_cast<int>(whole_number(n, v, 1, 256));
       }},
      {"--max-body", [](auto& o, auto& n, auto& v) { o.max_body = size(n, v); }},
      {"--max-header", [](auto& o, auto& n, auto& v) { o.max_header = size(n, v); }},
      {"--max-memory", [](auto& o, auto& n, auto& v) { o.max_memory = size(n, v); }},
      {"--max-connections",
       [](auto& o, auto& n, auto& v) { o.max_connections = whole_number(n, v, 1, kMany); }},
      {"--max-queue",
       [](auto& o, auto& n, auto& v) { o.max_queue = whole_number(n, v, 1, kMany); }},
      {"--idle-timeout", [](auto& o, auto& n, auto& v) { o.idle_timeout = seconds(n, v); }},
      {"--read-timeout", [](auto& o, auto& n, auto& v) { o.read_timeout = seconds(n, v); }},
      {"--write-timeout", [](auto& o, auto& n, auto& v) { o.write_timeout = seconds(n, v); }},
      {"--request-timeout", [](auto& o, auto& n, auto& v) { o.request_timeout = seconds(n, v); }},
      {"--drain-timeout", [](auto& o, auto& n, auto& v) { o.drain_timeout = seconds(n, v); }},
      {"--access-log", [](auto& o, auto&, auto& v) { o.access_log = v; }},
  };
  return all;
}

}  // namespace

const char* const kHelp =
    R"(Usage: labelassemble-serve --model-repository DIR [OPTION]...

Answer inference requests over HTTP: the Open Inference Protocol (KServe v2) with Triton's binary
tensors, for models that labelassemble exported. No Python runs in this process.

DIR holds a folder a model, as for Triton: NAME/config.pbtxt and NAME/VERSION/model.pt. Clients of
Triton work unchanged, for example tritonclient[http]; or, with an image and no client at all:

  curl --data-binary @chest.png -H 'Inference-Header-Content-Length: 0' \
       http://127.0.0.1:8000/v2/models/NAME/infer

Models:
  --model-repository DIR      the models to serve (needed)
  --model-control-mode MODE   none (default): all models are loaded at start, and stay; explicit:
                              requests load and unload them
  --load-model NAME           with explicit: load this one at start; may be repeated
  --device DEVICE             cpu (default), cuda or cuda:N

Listening:
  --host ADDRESS              address to listen on (default 127.0.0.1: this machine only; there is
                              neither encryption nor a password, so put a proxy before any other)
  --port N                    port (default 8000; 0 lets the system choose)

Computing:
  --threads N                 threads within an operation (default: one a core)
  --parallel-batches N        batches that compute at the same time, over all models (default 1,
                              since each already uses every core)

Limits (sizes such as 65536, 64K, 64M, 1G; times in seconds):
  --max-body SIZE             largest body of a request (default 64M); beyond: 413
  --max-header SIZE           largest header of a request (default 16K); beyond: 431
  --max-connections N         open connections (default 512); beyond: 503
  --max-queue N               requests that wait, a model (default 256, or less where its
                              config.pbtxt says so); beyond: 503 with Retry-After
  --max-memory SIZE           bodies and decoded images, all requests together (default 1G);
                              beyond: 503 with Retry-After
  --idle-timeout S            a connection may be silent, or busy with one header (default 60)
  --read-timeout S            a body may take to arrive (default 30)
  --write-timeout S           a client may take to read its answer (default 30)
                              beyond these three the connection is closed
  --request-timeout S         a request may wait for its turn (default 30); beyond: 504. A request's
                              own parameter "timeout", in microseconds, may shorten it
  --drain-timeout S           after SIGTERM, to finish what was begun (default 30)

Other:
  --access-log FILE           one line of JSON a request to FILE, - for the standard output
                              (default), or none
  --version                   print the version and the image formats that are read, and exit
  --help                      print this and exit

Metrics for Prometheus are at /metrics, under Triton's names.

SIGTERM or SIGINT finishes the requests that were begun and exits. Exit status: 0; 1 when no model
could be loaded, or requests were cut off by the drain timeout; 2, with one sentence on the standard
error, for a mistake on the command line or an address that is taken.
)";

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string option = arguments[i];
    if (option == "--help" || option == "-h") {
      options.help = true;
      return options;
    }
    if (option == "--version") {
      options.version = true;
      return options;
    }
    // --option VALUE and --option=VALUE
    std::string value;
    const std::size_t equals = option.find('=');
    const bool attached = equals != std::string::npos && option.starts_with("--");
    if (attached) {
      value = option.substr(equals + 1);
      option.resize(equals);
    }
    const auto setter = setters().find(option);
    if (setter == setters().end()) throw Error("unknown option '" + option + "' (see --help)");
    if (!attached) {
      if (i + 1 == arguments.size()) throw Error(option + " needs a value (see --help)");
      value = arguments[++i];
    }
    if (value.empty()) throw Error(option + " needs a value that is not empty (see --help)");
    setter->second(options, option, value);
  }
  if (options.repository.empty()) throw Error("--model-repository DIR is needed (see --help)");
  if (!options.load_models.empty() && !options.explicit_control) {
    throw Error(
        "--load-model needs --model-control-mode explicit; without it every model is loaded");
  }
  return options;
}

}  // namespace labelassemble::serve
