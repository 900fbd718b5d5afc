#include "options.h"

namespace labelassemble::serve {
namespace {

command_line::Setter grpc_port(std::optional<std::uint16_t>& target) {
  return [&target](const std::string& name, const std::string& value) {
#ifndef LABELASSEMBLE_WITH_GRPC
    throw Error(
        "--grpc-port: this server was built without gRPC; to change that: apt-get install "
        "libgrpc++-dev libprotobuf-dev protobuf-compiler, then build it again");
#endif
    target = static_cast<std::uint16_t>(command_line::whole_number(name, value, 0, 65535));
  };
}

}  // namespace

const char* const kHelp =
    R"(Usage: labelassemble-serve --model-repository DIR [OPTION]...

Answer inference requests over HTTP and gRPC: the Open Inference Protocol (KServe v2) with Triton's
binary tensors, for models that labelassemble exported. No Python runs in this process.

DIR holds a folder a model, as for Triton: NAME/config.pbtxt and NAME/VERSION/model.pt. Clients of
Triton work unchanged, for example tritonclient[http,grpc]; or, with an image (a NIfTI volume, for a
model of a detection) and no client at all:

  curl --data-binary @chest.png -H 'Inference-Header-Content-Length: 0' \
       http://127.0.0.1:8000/v2/models/NAME/infer

Models:
  --model-repository DIR      the models to serve (needed); a request to a model whose config.pbtxt
                              has no max_batch_size may hold 64 images, and none are batched
  --model-control-mode MODE   none (default): all models are loaded at start, and stay; explicit:
                              requests load and unload them
  --load-model NAME           with explicit: load this one at start; may be repeated
  --no-strict-readiness       ready as soon as one model serves; without it a model that is refused
                              makes the server not ready (it still serves the others)
  --device DEVICE             cpu (default), cuda or cuda:N

Listening:
  --host ADDRESS              address to listen on (default 127.0.0.1: this machine only; there is
                              neither encryption nor a password, so put a proxy before any other)
  --port N                    port of HTTP (default 8000; 0 lets the system choose)
  --grpc-port N               answer gRPC too, on this port (default: HTTP alone; Triton's clients
                              expect 8001; 0 lets the system choose)

Computing:
  --threads N                 threads within an operation (default: one a core that affinity and the
                              container's quota leave)
  --parallel-batches N        batches that compute at the same time, over all models (default 1,
                              since each already uses every core)

Limits (sizes such as 65536, 64K, 64M, 1G; times in seconds):
  --max-body SIZE             largest body of a request, or message of gRPC (default 64M); beyond:
                              413
  --max-image SIZE            pixels of one image, or values of one volume, as its format stores
                              them, without compression (default 192M: three radiographs of 5,000
                              x 6,000 pixels of 16 bits); beyond: 413
  --max-header SIZE           largest header of a request (default 16K); beyond: 431
  --max-connections N         open connections (default 512); one more closes the connection that
                              has been idle longest, or is answered 503 where all are at work;
                              as many again, and as many calls, over gRPC
  --max-queue N               requests that wait, a model (default 256, or less where its
                              config.pbtxt says so); beyond: 503 with Retry-After
  --max-memory SIZE           everything that all requests hold together: bodies as they arrive,
                              what they inflate to, numbers, decoded and resized images, volumes
                              and their maps (default 1G); beyond: 503 with Retry-After, or 413
                              for a request that would not fit alone. With --grpc-port, a
                              quarter of it (at least 4M) is for messages on their way in, each of
                              them at most three quarters of that
  --idle-timeout S            a connection may be silent, or busy with one header (default 60)
  --read-timeout S            a body may take to arrive (default 30)
  --write-timeout S           a client may take to read its answer (default 30)
                              beyond these three the connection is closed
  --request-timeout S         from a request's arrival until a batch takes it: decoding, resizing
                              and waiting; for a volume until it is answered (default 30); beyond:
                              504. A request's own parameter "timeout", in microseconds, may
                              shorten it
  --drain-timeout S           after SIGTERM, to finish what was begun (default 30); half a second
                              later the process ends in any case

Other:
  --access-log FILE           one line of JSON a request to FILE, - for the standard output
                              (default), or none
  --score-log FILE            one line of JSON an image to FILE, for `labelassemble monitor`: its
                              scores, the mean and the spread of its grey values, and whether it
                              could not be read; no image, no id (default none)
  --version                   print the version and the image formats that are read, and exit
  --help                      print this and exit

gRPC answers what HTTP does, with UNAVAILABLE for 503, RESOURCE_EXHAUSTED for 413, DEADLINE_EXCEEDED
for 504, NOT_FOUND for 404, INVALID_ARGUMENT for 400 and UNIMPLEMENTED for 501.

Metrics for Prometheus are at /metrics of HTTP, under Triton's names.

SIGTERM or SIGINT finishes the requests that were begun and exits. Exit status: 0; 1 when no model
could be loaded, or requests were cut off by the drain timeout; 2, with one sentence on the standard
error, for a mistake on the command line or an address that is taken.
)";

command_line::Arguments parse_options(const std::vector<std::string>& arguments, Options& options) {
  namespace cl = command_line;
  constexpr std::uint64_t kMany = 1'000'000;
  const cl::Arguments parsed = cl::parse(
      arguments,
      {
          {"--model-repository", cl::text(options.repository)},
          {"--host", cl::text(options.host)},
          {"--port", cl::whole_number(options.port, 0, 65535)},
          {"--grpc-port", grpc_port(options.grpc_port)},
          {"--device", cl::text(options.device)},
          {"--model-control-mode",
           cl::one_of<bool>(options.explicit_control, {{"none", false}, {"explicit", true}})},
          {"--load-model", cl::text_list(options.load_models)},
          {"--no-strict-readiness", cl::turn_off(options.strict_readiness)},
          {"--threads", cl::whole_number(options.threads, 1, 1024)},
          {"--parallel-batches", cl::whole_number(options.parallel_batches, 1, 256)},
          {"--max-body", cl::size(options.max_body)},
          {"--max-image", cl::size(options.max_image)},
          {"--max-header", cl::size(options.max_header)},
          {"--max-memory", cl::size(options.max_memory)},
          {"--max-connections", cl::whole_number(options.max_connections, 1, kMany)},
          {"--max-queue", cl::whole_number(options.max_queue, 1, kMany)},
          {"--idle-timeout", cl::seconds(options.idle_timeout)},
          {"--read-timeout", cl::seconds(options.read_timeout)},
          {"--write-timeout", cl::seconds(options.write_timeout)},
          {"--request-timeout", cl::seconds(options.request_timeout)},
          {"--drain-timeout", cl::seconds(options.drain_timeout)},
          {"--access-log", cl::text(options.access_log)},
          {"--score-log", cl::text(options.score_log)},
      });
  if (parsed.help || parsed.version) return parsed;
  if (!parsed.positional.empty()) {
    throw Error("unknown option '" + parsed.positional.front() + "' (see --help)");
  }
  if (options.repository.empty()) throw Error("--model-repository DIR is needed (see --help)");
  if (!options.load_models.empty() && !options.explicit_control) {
    throw Error(
        "--load-model needs --model-control-mode explicit; without it every model is loaded");
  }
  return parsed;
}

}  // namespace labelassemble::serve
