// Messages of ModelInfer, as a client of gRPC may send them.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "error.h"
#include "grpc_request.h"
#include "memory_budget.h"
#include "read_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace labelassemble::serve;
  // A copy on the heap, so that a read beyond it is seen.
  const std::vector<std::uint8_t> message(data, data + size);
  MemoryBudget budget(std::size_t{1} << 20);
  MemoryBudget::Charge charge(budget);
  try {
    require(grpc_target(message).model.size() <= 1024);
    const InferRequest request = parse_grpc_request(message, charge);
    read_request(request, charge);
  } catch (const labelassemble::Error&) {
    // Refused with a sentence, as it should be.
  }
  return 0;
}
