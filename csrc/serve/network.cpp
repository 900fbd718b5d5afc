#include "network.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "cores.h"
#include "labelassemble/not_finite.h"

namespace labelassemble::serve {

std::vector<float> Network::predict(std::span<const float> images, std::int64_t count) const {
  const c10::InferenceMode inference;
  const auto [channels, size] = input();
  // from_blob has no const twin; the tensor is only read.
  const at::Tensor batch =
      at::from_blob(const_cast<float*>(images.data()), {count, channels, size, size}, at::kFloat);
  const at::Tensor answer = classifier_.predict(batch).to(at::kCPU, at::kFloat).contiguous();
  const auto classes = static_cast<std::int64_t>(describe().classes.size());
  if (answer.dim() != 2 || answer.size(0) != count || answer.size(1) != classes) {
    throw Error("the model must answer [" + std::to_string(count) + ", " + std::to_string(classes) +
                "], and did not");
  }
  const float* values = answer.const_data_ptr<float>();
  return {values, values + answer.numel()};
}

void Network::warm_up(std::int64_t batch) const {
  const auto [channels, size] = input();
  try {
    predict(std::vector<float>(static_cast<std::size_t>(batch * channels * size * size)), batch);
  } catch (const NotFinite& error) {
    throw NotFinite(error.image, "a blank image", error.class_name, error.value);
  }
}

void set_threads(int threads) { at::set_num_threads(threads > 0 ? threads : available_cores()); }

}  // namespace labelassemble::serve
