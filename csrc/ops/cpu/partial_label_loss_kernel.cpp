// partial_label_loss on the CPU: forward and backward each read every input once and write nothing
// of their size but the gradients (reduction "none": the losses). Other dtypes and strides are
// converted block by block in the first-level cache.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <array>

#include "ops/cpu/entry_loop.h"
#include "ops/partial_label_loss.h"

namespace labelassemble::cpu {
namespace {

using at::Tensor;

template <typename T>
struct Buffers {
  alignas(64) T weak[kBlock];
  alignas(64) T strong[kBlock];
  alignas(64) T targets[kBlock];
  alignas(64) T pos_weight[kBlock];
  alignas(64) T scale[kBlock];
  alignas(64) T absent[kBlock];
  alignas(64) T grad[kBlock];
  alignas(64) T first_output[kBlock];
  alignas(64) T second_output[kBlock];
};

// Places in the loop of the inputs that both passes read; -1: absent.
struct Places {
  int weak;
  int targets;
  int strong = -1;
  int pos_weight = -1;
  int class_weight = -1;
  int absent = -1;
};

Places add_inputs(EntryLoop& loop, const LossInputs& inputs, Terms terms) {
  Places places{loop.add_input(inputs.weak), loop.add_input(inputs.targets)};
  const bool general = terms == Terms::kGeneral;
  const bool strong = terms == Terms::kAll || (general && inputs.reads_strong());
  if (general && inputs.reads_absent()) places.absent = loop.add_input(*inputs.absent);
  if (strong) places.strong = loop.add_input(*inputs.strong);
  if (inputs.pos_weight.has_value())
    places.pos_weight = loop.add_input(along_classes(*inputs.pos_weight, inputs.weak));
  if (inputs.class_weight.has_value())
    places.class_weight = loop.add_input(along_classes(*inputs.class_weight, inputs.weak));
  return places;
}

// The terms that have a weight.
Terms terms_of(const LossInputs& inputs) {
  if (inputs.both_views() || inputs.reads_absent()) return Terms::kGeneral;
  if (inputs.reads_strong()) return Terms::kAll;
  return inputs.options.pseudo_weight != 0 ? Terms::kWeak : Terms::kKnownOnly;
}

GeneralTerms general_terms(const LossInputs& inputs) {
  return {inputs.both_views(), inputs.has_unknown(), inputs.has_consistency()};
}

template <typename T>
LossSums forward_sums(const LossInputs& inputs, const Tensor& entries) {
  const auto& [weak, strong, targets, pos_weight, class_weight, absent, options] = inputs;
  const Terms terms = terms_of(inputs);
  const GeneralTerms general = general_terms(inputs);
  const bool weighted = pos_weight.has_value() || class_weight.has_value();
  EntryLoop loop;
  const int output = entries.defined() ? loop.add_output(entries) : -1;
  const Places places = add_inputs(loop, inputs, terms);
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  const LossConstants<T> constants{
      static_cast<T>(options.threshold), static_cast<T>(1 / options.temperature),
      static_cast<T>(options.pseudo_weight), static_cast<T>(options.consistency_weight)};
  const std::int64_t total = weak.numel();
  c10::SmallVector<LossSums, 8> sums((total + kChunk - 1) / kChunk);
  const auto body = [&](std::int64_t chunk, const Rectangle* rectangles) {
    Buffers<T> buffers;
    std::fill_n(buffers.pos_weight, weighted ? kBlock : 0, T(1));
    std::fill_n(buffers.scale, weighted ? kBlock : 0, T(1));
    const std::int64_t size = rectangles[places.weak].columns * rectangles[places.weak].rows;
    for (std::int64_t begin = 0; begin < size; begin += kBlock) {
      const std::int64_t count = std::min(kBlock, size - begin);
      const auto read = [&](int place, const Tensor& tensor, bool target, T* buffer) {
        return read_block(kernels, rectangles[place], element_of(tensor), target, begin, count,
                          buffer);
      };
      LossForwardBlock<T> block{terms,   constants, nullptr, nullptr, nullptr, nullptr,
                                nullptr, nullptr,   count,   nullptr, {}};
      block.weak = read(places.weak, weak, false, buffers.weak);
      block.targets = read(places.targets, targets, true, buffers.targets);
      if (places.strong >= 0) block.strong = read(places.strong, *strong, false, buffers.strong);
      if (places.absent >= 0) block.absent = read(places.absent, *absent, false, buffers.absent);
      block.general = general;
      if (weighted) {
        block.pos_weight = places.pos_weight >= 0
                               ? read(places.pos_weight, *pos_weight, false, buffers.pos_weight)
                               : buffers.pos_weight;
        block.class_weight = places.class_weight >= 0
                                 ? read(places.class_weight, *class_weight, false, buffers.scale)
                                 : buffers.scale;
      }
      if (output >= 0) {
        block.entries =
            output_block(rectangles[output], element_of(entries), begin, buffers.first_output);
      }
      kernels.loss_forward(block, sums[chunk]);
      if (output >= 0) {
        write_block(kernels, rectangles[output], element_of(entries), begin, count, block.entries,
                    buffers.first_output);
      }
    }
  };
  loop.run(total, body);
  LossSums all;
  for (const LossSums& chunk : sums) {
    all.bce += chunk.bce;
    all.pseudo += chunk.pseudo;
    all.consistency += chunk.consistency;
    all.known += chunk.known;
    all.outside = all.outside || chunk.outside;
  }
  return all;
}

template <typename T>
void check_weights_of(const char* name, const Tensor& vector) {
  const T* values = vector.const_data_ptr<T>();
  for (std::int64_t i = 0; i < vector.numel(); ++i)
    check_weight_value(name, static_cast<double>(values[i * vector.stride(0)]));
}

void check_weights(const char* name, const std::optional<Tensor>& vector) {
  if (!vector.has_value()) return;
  if (vector->scalar_type() == at::kDouble) return check_weights_of<double>(name, *vector);
  check_weights_of<float>(name, vector->to(at::kFloat));
}

LossPair forward(const LossInputs& inputs, bool validate) {
  check_loss_inputs(inputs);
  if (validate) {
    check_weights("pos_weight", inputs.pos_weight);
    check_weights("class_weight", inputs.class_weight);
  }
  const at::ScalarType type = inputs.accumulation();
  const LossOptions& options = inputs.options;
  Tensor entries;
  if (inputs.per_entry()) entries = at::empty_like(inputs.weak, type);
  LossSums sums = type == at::kDouble ? forward_sums<double>(inputs, entries)
                                      : forward_sums<float>(inputs, entries);
  if (validate && sums.outside) refuse_targets(inputs);
  const auto known = static_cast<double>(sums.known);
  const auto unknown = static_cast<double>(inputs.weak.numel() - sums.known);
  const bool mean = options.reduction == Reduction::kMean;
  const double bce = mean && known > 0 ? sums.bce / known : sums.bce;
  if (options.pseudo_weight == 0) sums.pseudo = 0;  // skipped, as where no strong view is read
  const double pseudo = mean && unknown > 0 ? sums.pseudo / unknown : sums.pseudo;
  const double consistency = mean && unknown > 0 ? sums.consistency / unknown : sums.consistency;
  Tensor terms = at::empty({5}, inputs.weak.options().dtype(at::kDouble));
  const std::array<double, 5> values{bce, pseudo, consistency, known, unknown};
  std::copy(values.begin(), values.end(), terms.mutable_data_ptr<double>());
  if (entries.defined()) return {entries, terms};
  Tensor loss = at::empty({}, inputs.weak.options().dtype(type));
  const double total =
      bce + options.pseudo_weight * pseudo + options.consistency_weight * consistency;
  if (type == at::kDouble) {
    *loss.mutable_data_ptr<double>() = total;
  } else {
    *loss.mutable_data_ptr<float>() = static_cast<float>(total);
  }
  return {loss, terms};
}

template <typename T>
void backward_into(const LossInputs& inputs, const LossGradients& gradients,
                   const Tensor& grad_weak, const Tensor& grad_strong) {
  const auto& [weak, strong, targets, pos_weight, class_weight, absent, options] = inputs;
  const double target_slope = options.target_slope();
  Terms which = terms_of(inputs);
  // The strong view matters to its own gradient and, through the target, to the weak one's.
  if (which == Terms::kAll && target_slope == 0 && !grad_strong.defined()) which = Terms::kWeak;
  const bool per_entry = inputs.per_entry();
  const bool weighted = per_entry || pos_weight.has_value() || class_weight.has_value();
  const Tensor& grad = gradients.grad;
  const double* numbers = gradients.terms.const_data_ptr<double>();
  const bool mean = options.reduction == Reduction::kMean;
  const double incoming = per_entry ? 1 : static_cast<double>(*grad.const_data_ptr<T>());
  double known = !mean ? incoming : numbers[3] > 0 ? incoming / numbers[3] : 0;
  const double unknown = !mean ? incoming : numbers[4] > 0 ? incoming / numbers[4] : 0;
  if (inputs.both_views()) known /= 2;
  const GeneralTerms general = general_terms(inputs);
  const LossConstants<T> constants{static_cast<T>(options.threshold),
                                   static_cast<T>(1 / options.temperature),
                                   static_cast<T>(options.pseudo_weight * unknown),
                                   static_cast<T>(options.consistency_weight * unknown)};

  EntryLoop loop;
  const int weak_output = grad_weak.defined() ? loop.add_output(grad_weak) : -1;
  const int strong_output = grad_strong.defined() ? loop.add_output(grad_strong) : -1;
  const Places places = add_inputs(loop, inputs, which);
  const int incoming_grad = per_entry ? loop.add_input(grad) : -1;
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  const auto body = [&](std::int64_t /*chunk*/, const Rectangle* rectangles) {
    Buffers<T> buffers;
    std::fill_n(buffers.pos_weight, weighted ? kBlock : 0, T(1));
    std::fill_n(buffers.scale, weighted ? kBlock : 0, T(1));
    const std::int64_t size = rectangles[places.weak].columns * rectangles[places.weak].rows;
    for (std::int64_t begin = 0; begin < size; begin += kBlock) {
      const std::int64_t count = std::min(kBlock, size - begin);
      const auto read = [&](int place, const Tensor& tensor, bool target, T* buffer) {
        return read_block(kernels, rectangles[place], element_of(tensor), target, begin, count,
                          buffer);
      };
      LossBackwardBlock<T> block{};
      block.terms = which;
      block.constants = constants;
      block.bce_weight = static_cast<T>(known);
      block.target_slope = static_cast<T>(target_slope);
      block.count = count;
      block.weak = read(places.weak, weak, false, buffers.weak);
      block.targets = read(places.targets, targets, true, buffers.targets);
      if (places.strong >= 0) block.strong = read(places.strong, *strong, false, buffers.strong);
      if (places.absent >= 0) block.absent = read(places.absent, *absent, false, buffers.absent);
      block.general = general;
      if (weighted) {
        block.pos_weight = places.pos_weight >= 0
                               ? read(places.pos_weight, *pos_weight, false, buffers.pos_weight)
                               : buffers.pos_weight;
        block.scale = places.class_weight >= 0
                          ? read(places.class_weight, *class_weight, false, buffers.scale)
                          : buffers.scale;
        if (incoming_grad >= 0) {
          const T* grads = read(incoming_grad, grad, false, buffers.grad);
          for (std::int64_t i = 0; i < count; ++i) buffers.grad[i] = grads[i] * block.scale[i];
          block.scale = buffers.grad;
        }
      }
      block.grad_weak = weak_output >= 0
                            ? output_block(rectangles[weak_output], element_of(grad_weak), begin,
                                           buffers.first_output)
                            : buffers.first_output;
      block.grad_strong = strong_output >= 0
                              ? output_block(rectangles[strong_output], element_of(grad_strong),
                                             begin, buffers.second_output)
                              : buffers.second_output;
      kernels.loss_backward(block);
      if (weak_output >= 0) {
        write_block(kernels, rectangles[weak_output], element_of(grad_weak), begin, count,
                    block.grad_weak, buffers.first_output);
      }
      if (strong_output >= 0) {
        write_block(kernels, rectangles[strong_output], element_of(grad_strong), begin, count,
                    block.grad_strong, buffers.second_output);
      }
    }
  };
  loop.run(weak.numel(), body);
}

LossPair backward(const LossInputs& inputs, const LossGradients& gradients) {
  check_loss_gradients(inputs, gradients);
  const Tensor grad_weak = gradients.need_weak ? at::empty_like(inputs.weak) : Tensor();
  const Tensor grad_strong = gradients.need_strong ? at::empty_like(*inputs.strong) : Tensor();
  inputs.accumulation() == at::kDouble
      ? backward_into<double>(inputs, gradients, grad_weak, grad_strong)
      : backward_into<float>(inputs, gradients, grad_weak, grad_strong);
  return {grad_weak, grad_strong};
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, CPU, m) {
  m.impl("partial_label_loss_terms", with_terms_schema<forward>);
  m.impl("_partial_label_loss_backward", with_backward_schema<backward>);
}

}  // namespace labelassemble::cpu
