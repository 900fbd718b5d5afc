#include "model.h"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <utility>

#include "infer_job.h"

namespace labelassemble::serve {
namespace {

std::filesystem::path model_file(const ModelConfig& config, const std::filesystem::path& folder) {
  if (!config.default_model_filename.empty()) return folder / config.default_model_filename;
  const std::filesystem::path package = folder / "model.pt2";
  return std::filesystem::exists(package) ? package : folder / "model.pt";
}

std::vector<std::string> read_labels(const ModelConfig& config,
                                     const std::filesystem::path& folder) {
  std::vector<std::string> labels;
  if (config.output.label_filename.empty()) return labels;
  const std::filesystem::path path = folder.parent_path() / config.output.label_filename;
  std::ifstream file(path);
  if (!file) throw Error(path.string() + ": the file of labels cannot be opened");
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    labels.push_back(line);
  }
  return labels;
}

// The configuration promises what the file then must hold, or clients would be told wrong.
void check(const ModelConfig& config, const Description& model,
           const std::vector<std::string>& labels, bool patches) {
  const auto classes = static_cast<std::int64_t>(model.classes.size());
  const std::vector<std::int64_t>& dims = config.output.dims;
  std::size_t place = dims.size() - 1;
  if (patches) place = config.max_batch_size > 0 ? 0 : std::min<std::size_t>(1, place);
  const std::int64_t promised = dims[place];
  if (promised != -1 && promised != classes) {
    throw Error("output '" + config.output.name + "' has dims [" + std::to_string(promised) +
                "] in config.pbtxt, but the model has " + std::to_string(classes) + " classes");
  }
  if (!labels.empty() && labels != model.classes) {
    throw Error(config.output.label_filename + " must name the model's " + std::to_string(classes) +
                " classes in their order, and does not");
  }
}

// What a model of volumes is served with: config.pbtxt has the patches that Triton answers.
ModelConfig as_served(ModelConfig config, const VolumeNetwork* volumes) {
  if (volumes == nullptr) return config;
  config.max_batch_size = 0;
  config.input = volumes->input();
  const std::string labels = config.output.label_filename;
  config.output = volumes->outputs().front();
  config.output.label_filename = labels;
  if (config.dynamic_batching) config.dynamic_batching->max_queue_delay = {};
  return config;
}

}  // namespace

Model::Networks Model::load(const ModelConfig& config, const std::filesystem::path& folder,
                            const std::string& device) {
  const std::filesystem::path file = model_file(config, folder);
  try {
    return {std::make_unique<Network>(file, device), nullptr};
  } catch (const AnswersVoxels&) {
    return {nullptr, std::make_unique<VolumeNetwork>(file, device)};
  }
}

Model::Model(ModelConfig config, std::string version, const std::filesystem::path& folder,
             const Shared& shared)
    : Model(load(config, folder, shared.options.device), config, std::move(version), folder,
            shared) {}

Model::Model(Networks networks, const ModelConfig& config, std::string version,
             const std::filesystem::path& folder, const Shared& shared)
    : networks_(std::move(networks)),
      config_(as_served(config, volumes())),
      version_(std::move(version)),
      shared_(shared),
      metrics_(shared.metrics.for_model(config_.name, version_)),
      batcher_(
          {
              .max_batch =
                  config_.dynamic_batching ? std::max<std::int64_t>(1, config_.max_batch_size) : 1,
              .window = config_.dynamic_batching ? config_.dynamic_batching->max_queue_delay
                                                 : std::chrono::microseconds(0),
              .max_queue = config_.dynamic_batching && config_.dynamic_batching->max_queue_size > 0
                               ? std::min<std::size_t>(config_.dynamic_batching->max_queue_size,
                                                       shared.options.max_queue)
                               : shared.options.max_queue,
          },
          [this](Batcher::Batch& batch, const auto& computed) { run(batch, computed); }) {
  check(config, describe(), read_labels(config_, folder), volumes() != nullptr);
  if (volumes() != nullptr) {
    volumes()->warm_up();
    return;
  }
  check_image_dims(config);
  networks_.images->warm_up(1);
  if (config_.max_batch_size > 1) networks_.images->warm_up(config_.max_batch_size);
}

Model::~Model() { batcher_.close(); }

Clock::time_point Model::deadline_of(const InferCall& call) const {
  std::chrono::microseconds allowed = shared_.options.request_timeout;
  if (config_.dynamic_batching && config_.dynamic_batching->default_timeout.count() > 0) {
    allowed = std::min(allowed, config_.dynamic_batching->default_timeout);
  }
  if (call.request.timeout_us) {
    allowed = std::min(allowed, std::chrono::microseconds(*call.request.timeout_us));
  }
  return std::min(call.deadline, call.arrived + allowed);
}

std::vector<TensorConfig> Model::outputs() const {
  if (volumes() == nullptr) return {config_.output};
  std::vector<TensorConfig> outputs = volumes()->outputs();
  outputs.front() = config_.output;  // with the file of labels
  return outputs;
}

void Model::check_outputs(const InferRequest& request, std::size_t columns) const {
  const std::vector<TensorConfig> known = outputs();
  const auto most = static_cast<std::int64_t>(columns);
  for (const RequestedOutput& output : request.outputs) {
    const auto is_it = [&](const TensorConfig& one) { return one.name == output.name; };
    if (std::none_of(known.begin(), known.end(), is_it)) {
      std::string names;
      for (const TensorConfig& one : known) names += (names.empty() ? "'" : ", '") + one.name + "'";
      throw HttpError(400, "model '" + config_.name + "' has no output '" + output.name +
                               (known.size() == 1 ? "'; its output is " : "'; its outputs are ") +
                               names);
    }
    if (output.class_count > most) {
      throw HttpError(400, "classification of output '" + output.name + "' must be at most " +
                               std::to_string(most) + ", got " +
                               std::to_string(output.class_count));
    }
  }
  if (volumes() != nullptr) check_volume_outputs(request);
}

void Model::infer(InferCall call, Done done) {
  const Clock::time_point start = Clock::now();
  std::vector<std::size_t> columns = columns_of(call.request);
  check_outputs(call.request, columns.size());
  const Clock::time_point deadline = deadline_of(call);
  const auto interrupt = [&] {
    if (call.gone && call.gone->load()) throw HttpError(499, "the client closed the connection");
    if (Clock::now() >= deadline) {
      throw HttpError(504, std::string("reading the ") + (volumes() ? "volume" : "images") +
                               " took longer than the request's time allows");
    }
  };
  const std::size_t max_image = shared_.options.max_image;
  PreparedImages images;
  PreparedVolume volume;
  try {
    if (volumes() != nullptr) {
      images.count = 1;
      volume = volumes()->read(call.request, columns.size(), max_image, call.charge, interrupt);
    } else {
      images = read_images(config_, networks_.images->input(), call.request, max_image, call.charge,
                           interrupt);
    }
  } catch (const UnreadableImage&) {
    shared_.scores.unreadable(config_.name, version_);
    throw;
  }
  call.request.inputs.clear();
  std::vector<std::uint8_t>().swap(call.body);
  const std::size_t kept =  // images here and in the batch
      volumes() != nullptr ? volume.bytes : 2 * sizeof(float) * images.values.size();
  call.charge.subtract(call.charge.bytes() - kept);
  auto job = std::make_unique<InferJob>(*this, std::move(call), std::move(images),
                                        std::move(volume), std::move(columns), std::move(done));
  job->deadline = deadline;
  job->arrived = Clock::now();
  job->input = job->arrived - start;
  metrics_.pending(1);
  try {
    batcher_.submit(std::move(job));
  } catch (...) {
    metrics_.pending(-1);
    throw;
  }
}

void Model::run(Batcher::Batch& batch, const std::function<void()>& computed) {
  if (volumes() != nullptr) return run_volume(static_cast<InferJob&>(*batch.front()), computed);
  shared_.compute.acquire();
  const Clock::time_point start = Clock::now();
  std::int64_t images = 0;
  for (const auto& job : batch) {
    static_cast<InferJob&>(*job).queue = start - job->arrived;
    images += job->size;
  }
  std::vector<float> together;
  if (batch.size() > 1) {
    const auto [channels, size] = networks_.images->input();
    together.reserve(static_cast<std::size_t>(images * channels * size * size));
    for (const auto& job : batch) {
      const std::vector<float>& own = static_cast<InferJob&>(*job).values();
      together.insert(together.end(), own.begin(), own.end());
    }
  }
  const std::span<const float> values =
      batch.size() > 1 ? together : static_cast<InferJob&>(*batch.front()).values();
  const Clock::time_point ready = Clock::now();
  std::vector<float> rows;
  std::string failure;
  try {
    rows = networks_.images->predict(values, images);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  const Clock::time_point end = Clock::now();
  shared_.compute.release();
  computed();

  if (!failure.empty() && batch.size() > 1) {
    // One of them is to blame; each alone, so that it spoils only its own answer.
    for (auto& job : batch) {
      Batcher::Batch alone;
      alone.push_back(std::move(job));
      run(alone, [] {});
    }
    batch.clear();
    return;
  }
  if (!failure.empty()) {
    batch.front()->fail(500, failure);
    return;
  }
  const std::size_t classes = describe().classes.size();
  std::span<const float> rest = rows;
  std::vector<InferOutcome> outcomes;
  for (const auto& job : batch) {
    auto& own = static_cast<InferJob&>(*job);
    const std::size_t count = static_cast<std::size_t>(own.size) * classes;
    InferOutcome& outcome = outcomes.emplace_back();
    outcome.outputs = outputs_of(own, rest.first(count));
    outcome.images = own.size;
    outcome.batch = images;
    outcome.queue = own.queue;
    outcome.infer = end - ready;
    rest = rest.subspan(count);
    metrics_.computed(own.input, outcome.queue, outcome.infer);
  }
  shared_.scores.answered(config_.name, version_, describe().classes, rows, values);
  metrics_.executed(images, ready - start, end - ready, Clock::now() - end);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    static_cast<InferJob&>(*batch[i]).finish(std::move(outcomes[i]));
  }
}

// The model's columns of the classes that are asked for, in the order of the request.
std::vector<std::size_t> Model::columns_of(const InferRequest& request) const {
  const std::vector<std::string>& names = describe().classes;
  std::vector<std::size_t> columns(request.classes ? 0 : names.size());
  std::iota(columns.begin(), columns.end(), std::size_t{0});
  if (!request.classes) return columns;
  if (request.classes->empty()) throw HttpError(400, "classes must name at least one class");
  for (const std::string& name : *request.classes) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      throw HttpError(400, "model '" + config_.name + "' has no class '" + name + "'");
    }
    columns.push_back(static_cast<std::size_t>(found - names.begin()));
  }
  return columns;
}

// `rows` holds all classes: those of a batch are computed together, whoever asked for which.
std::vector<OutputTensor> Model::outputs_of(const InferJob& job, std::span<const float> rows,
                                            const FileOutput& file_output) const {
  const InferRequest& request = job.request();
  const std::size_t classes = describe().classes.size();
  std::vector<RequestedOutput> wanted = request.outputs;
  if (wanted.empty()) wanted.push_back({config_.output.name, std::nullopt, 0});
  std::vector<OutputTensor> outputs;
  for (const RequestedOutput& one : wanted) {
    OutputTensor output;
    if (one.name != config_.output.name) {
      output = file_output(one);
    } else if (one.class_count > 0) {
      output = classification(one, job, rows);
    } else {
      output.shape = {job.size, static_cast<std::int64_t>(job.columns().size())};
      for (std::size_t start = 0; start < rows.size(); start += classes) {
        for (const std::size_t column : job.columns()) {
          output.numbers.push_back(rows[start + column]);
        }
      }
    }
    output.name = one.name;
    output.binary = one.binary.value_or(request.binary_output);
    outputs.push_back(std::move(output));
  }
  return outputs;
}

OutputTensor Model::classification(const RequestedOutput& wanted, const InferJob& job,
                                   std::span<const float> rows) const {
  const std::vector<std::string>& names = describe().classes;
  OutputTensor output;
  output.type = DataType::kBytes;
  output.shape = {job.size, wanted.class_count};
  for (std::size_t start = 0; start < rows.size(); start += names.size()) {
    const auto row = rows.subspan(start, names.size());
    std::vector<std::size_t> order = job.columns();
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
    for (std::int64_t i = 0; i < wanted.class_count; ++i) {
      const std::size_t index = order[static_cast<std::size_t>(i)];
      output.strings.push_back(std::to_string(row[index]) + ":" + std::to_string(index) + ":" +
                               names[index]);
    }
  }
  return output;
}

}  // namespace labelassemble::serve
