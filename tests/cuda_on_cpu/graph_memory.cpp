// What is allocated while a graph is captured stays, as in the pool of memory that a CUDA graph
// has.
#include <c10/core/CPUAllocator.h>

namespace {

bool keeping = false;

class Keeping final : public c10::Allocator {
 public:
  explicit Keeping(c10::Allocator* allocator) : allocator_(allocator) {}
  c10::DataPtr allocate(std::size_t bytes) override {
    c10::DataPtr memory = allocator_->allocate(bytes);
    if (!keeping) return memory;
    void* const kept = memory.release_context();
    return {kept, kept, [](void* /*stays*/) {}, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return allocator_->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  c10::Allocator* allocator_;
};

}  // namespace

extern "C" void cuda_on_cpu_keep_memory(int keep) {
  static Keeping allocator(c10::GetCPUAllocator());
  c10::SetCPUAllocator(&allocator, 1);
  keeping = keep != 0;
}
