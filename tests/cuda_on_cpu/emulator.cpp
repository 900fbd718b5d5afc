#include "emulator.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <boost/context/fiber.hpp>
#include <boost/context/preallocated.hpp>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "races.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_on_cpu {

dim3 threadIdx;
dim3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace {

namespace context = boost::context;

constexpr unsigned kBlocksUnderWay = 3;
constexpr unsigned kMaxThreads = 1024;
constexpr std::size_t kStack = 1 << 16;
constexpr unsigned char kPoison =
    0xa5;  // a double of it is -1e-128, a float -3e-16, a bool undefined

enum class State { kReady, kAtBarrier, kAtShuffle, kDone };

// ASan is told of each change of the stack.
class StackSwitch {
 public:
#if defined(__SANITIZE_ADDRESS__)
  void leave(const void* bottom, std::size_t size) {
    __sanitizer_start_switch_fiber(&fake_, bottom, size);
  }
  static void leave_for_good(const void* bottom, std::size_t size) {
    __sanitizer_start_switch_fiber(nullptr, bottom, size);
  }
  void enter(const void** from, std::size_t* size) {
    __sanitizer_finish_switch_fiber(fake_, from, size);
  }

 private:
  void* fake_ = nullptr;
#else
  void leave(const void* /*bottom*/, std::size_t /*size*/) {}
  static void leave_for_good(const void* /*bottom*/, std::size_t /*size*/) {}
  void enter(const void** /*from*/, std::size_t* /*size*/) {}
#endif
};

struct Thread {
  context::fiber fiber;   // where it goes on
  context::fiber caller;  // the scheduler, while it runs
  StackSwitch stack_switch;
  char* stack = nullptr;
  State state = State::kReady;
  unsigned shuffles = 0;
  unsigned fences = 0;
};

struct Warp {
  std::uint64_t sent[2][kWarp] =
      {};  // of this shuffle and of the one before, which a lane may still read
  unsigned arrived = 0;
};

struct Block {
  std::int64_t index = 0;
  unsigned slot = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<unsigned> ready;
  unsigned at_barrier = 0;
  unsigned done = 0;
  unsigned interval = 0;
  std::vector<unsigned char> shared;
};

// The thread that runs, and what it belongs to. There is one launch at a time.
struct Current {
  Block* block = nullptr;
  Thread* thread = nullptr;
  unsigned number = 0;
  Position position;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_size = 0;
};
Current current;

std::recursive_mutex one_at_a_time;
std::string fault;
std::string taken;
std::set<std::pair<std::string, int>> left_out;
std::int64_t launches = 0;
bool capturing = false;
cudaError_t last_error = cudaSuccess;
std::vector<std::function<cudaError_t()>> captured;

// The stacks of all threads under way, in one piece.
char* stacks() {
  static char* const memory = static_cast<char*>(
      mmap(nullptr, kStack * kMaxThreads * kBlocksUnderWay, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

struct NoDeallocation {
  context::stack_context allocate() { std::abort(); }
  void deallocate(context::stack_context& /*stack*/) {}
};

// The thread-local variables of this library: what kernels call shared, and this one.
thread_local char marker = 0;
struct Shared {
  std::uintptr_t begin = 0;
  std::size_t size = 0;
};
const Shared& shared() {
  static const Shared found = [] {
    Shared result;
    marker = 1;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t /*size*/, void* data) {
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            const auto begin = reinterpret_cast<std::uintptr_t>(info->dlpi_tls_data);
            const auto inside = reinterpret_cast<std::uintptr_t>(&marker) - begin;
            if (header.p_type == PT_TLS && begin != 0 && inside < header.p_memsz)
              *static_cast<Shared*>(data) = {begin, header.p_memsz};
          }
          return 0;
        },
        &result);
    if (result.size == 0) std::abort();
    return result;
  }();
  return found;
}

void make_ready(unsigned number) {
  current.block->threads[number].state = State::kReady;
  current.block->ready.push_back(number);
}

// The scheduler goes on; returns when the thread is chosen again.
void wait(State state) {
  Thread& self = *current.thread;
  self.state = state;
  self.stack_switch.leave(current.scheduler_stack, current.scheduler_stack_size);
  self.caller = std::move(self.caller).resume();
  self.stack_switch.enter(&current.scheduler_stack, &current.scheduler_stack_size);
}

void open_barrier_when_all_are_there() {
  Block& block = *current.block;
  if (block.at_barrier == 0 || block.at_barrier + block.done < block.threads.size()) return;
  block.at_barrier = 0;
  ++block.interval;
  for (unsigned i = 0; i < block.threads.size(); ++i)
    if (block.threads[i].state == State::kAtBarrier) make_ready(i);
  races::pass_barrier(block.slot);
}

std::unique_ptr<Block> start_block(std::int64_t index, unsigned slot, unsigned threads,
                                   const std::function<void()>& body) {
  auto block = std::make_unique<Block>();
  block->index = index;
  block->slot = slot;
  block->threads.resize(threads);
  block->warps.resize((threads + kWarp - 1) / kWarp);
  block->shared.assign(shared().size, kPoison);
  races::start_block(slot);
  for (unsigned i = 0; i < threads; ++i) {
    Thread& thread = block->threads[i];
    thread.stack = stacks() + (static_cast<std::size_t>(slot) * kMaxThreads + i) * kStack;
    context::stack_context stack;
    stack.size = kStack;
    stack.sp = thread.stack + kStack;
    thread.fiber = context::fiber(
        std::allocator_arg, context::preallocated(stack.sp, stack.size, stack), NoDeallocation(),
        [&thread, &body](context::fiber&& caller) {
          thread.caller = std::move(caller);
          thread.stack_switch.enter(&current.scheduler_stack, &current.scheduler_stack_size);
          body();
          thread.state = State::kDone;
          StackSwitch::leave_for_good(current.scheduler_stack, current.scheduler_stack_size);
          return std::move(thread.caller);
        });
    block->ready.push_back(i);
  }
  return block;
}

// Runs a thread of the block to where it waits or ends.
void run_one(Block& block) {
  auto& ready = block.ready;
  std::swap(ready[random()() % ready.size()], ready.back());
  current.number = ready.back();
  ready.pop_back();
  Thread& thread = block.threads[current.number];
  current.thread = &thread;
  threadIdx.x = current.number;
  current.position = {launches,       block.index,    block.slot,
                      current.number, block.interval, thread.fences};
  StackSwitch scheduler;
  scheduler.leave(thread.stack, kStack);
  thread.fiber = std::move(thread.fiber).resume();
  scheduler.enter(nullptr, nullptr);
  if (thread.state == State::kDone) {
    ++block.done;
    open_barrier_when_all_are_there();
  }
}

// Runs some threads of the block, with its shared memory in place.
void run_some(Block& block) {
  current.block = &block;
  blockIdx.x = static_cast<unsigned>(block.index);
  auto* const memory = reinterpret_cast<void*>(shared().begin);
  std::memcpy(memory, block.shared.data(), block.shared.size());
  for (auto left = 1 + random()() % (2 * block.threads.size()); left > 0 && !block.ready.empty();
       --left)
    run_one(block);
  std::memcpy(block.shared.data(), memory, block.shared.size());
  current = {};
}

cudaError_t run_grid(dim3 grid, dim3 threads, const std::function<void()>& body) {
  const std::scoped_lock lock(one_at_a_time);
  if (!fault.empty()) return cudaErrorLaunchFailure;
  ++launches;
  races::start_launch(launches);
  gridDim = grid;
  blockDim = threads;
  std::vector<std::int64_t> waiting(grid.x);
  for (std::size_t i = 0; i < waiting.size(); ++i) waiting[i] = static_cast<std::int64_t>(i);
  std::shuffle(waiting.begin(), waiting.end(), random());
  std::vector<std::unique_ptr<Block>> under_way(kBlocksUnderWay);
  for (std::size_t left = grid.x; left > 0;) {
    const auto slot = static_cast<unsigned>(random()() % kBlocksUnderWay);
    auto& block = under_way[slot];
    if (block == nullptr) {
      if (waiting.empty()) continue;
      block = start_block(waiting.back(), slot, threads.x, body);
      waiting.pop_back();
    }
    run_some(*block);
    if (block->done == threads.x) {
      block.reset();
      --left;
    } else if (block->ready.empty()) {
      report("the threads of block " + std::to_string(block->index) + " wait for each other");
      for (auto& stuck : under_way)
        static_cast<void>(stuck.release());  // its threads cannot be ended: they stay as they are
      break;
    }
  }
  return fault.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

cudaError_t launch_checked(dim3 grid, dim3 threads, const std::function<void()>& body) {
  const bool one_axis = grid.y == 1 && grid.z == 1 && threads.y == 1 && threads.z == 1;
  if (!one_axis || grid.x == 0 || grid.x > 0x7fffffff || threads.x == 0 || threads.x > kMaxThreads)
    return cudaErrorInvalidConfiguration;
  if (!capturing) return run_grid(grid, threads, body);
  captured.emplace_back([=] { return run_grid(grid, threads, body); });
  return cudaSuccess;
}

std::string name_of(const char* file) {
  return std::string(file).substr(std::string(file).rfind('/') + 1);
}

}  // namespace

std::mt19937_64& random() {
  static std::mt19937_64 generator(0);
  return generator;
}

void report(const std::string& what) {
  if (fault.empty()) fault = what;
}

const Position& position() { return current.position; }
std::uintptr_t shared_begin() { return shared().begin; }
std::size_t shared_size() { return shared().size; }
bool on_a_stack(std::uintptr_t address) {
  return address - reinterpret_cast<std::uintptr_t>(stacks()) <
         kStack * kMaxThreads * kBlocksUnderWay;
}

void barrier(const char* file, int line) {
  if (!left_out.empty() && left_out.contains({name_of(file), line})) return;
  Block& block = *current.block;
  ++block.at_barrier;
  current.thread->state = State::kAtBarrier;
  open_barrier_when_all_are_there();
  // The last to come is ready at once, and waits its turn as the others do.
  wait(current.thread->state);
}

void fence(const char* file, int line) {
  if (!left_out.empty() && left_out.contains({name_of(file), line})) return;
  current.position.fences = ++current.thread->fences;
  races::pass_fence();
}

unsigned add(unsigned* place, unsigned value) {
  races::atomic(place);
  const unsigned before = *place;
  *place += value;
  return before;
}

std::uint64_t value_of_lane(unsigned mask, std::uint64_t value, unsigned down) {
  Block& block = *current.block;
  const unsigned first = current.number / kWarp * kWarp;
  const unsigned lane = current.number - first;
  Warp& warp = block.warps[first / kWarp];
  auto& sent = warp.sent[current.thread->shuffles++ % 2];
  sent[lane] = value;
  warp.arrived |= 1u << lane;
  current.thread->state = State::kAtShuffle;
  if ((warp.arrived & mask) == mask) {
    warp.arrived = 0;
    for (unsigned i = 0; i < kWarp && first + i < block.threads.size(); ++i)
      if (block.threads[first + i].state == State::kAtShuffle) make_ready(first + i);
  }
  wait(current.thread->state);
  return lane + down < kWarp ? sent[lane + down] : value;
}

cudaError_t launch(dim3 grid, dim3 threads, const std::function<void()>& body) {
  return last_error = launch_checked(grid, threads, body);
}

}  // namespace cuda_on_cpu

// What the sources call of CUDA's runtime.
extern "C" {

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t /*stream*/) {
  const auto set = [=] {
    std::memset(memory, value, bytes);
    return cudaSuccess;
  };
  if (!cuda_on_cpu::capturing) return set();
  cuda_on_cpu::captured.emplace_back(set);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

// Few multiprocessors, so that threads take several turns of their loops.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int /*device*/) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 3 : 0;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned /*flags*/) {
  *memory = std::calloc(1, bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(cuda_on_cpu::last_error, cudaSuccess); }

// What tests call by ctypes.
const char* cuda_on_cpu_take_fault() {
  cuda_on_cpu::taken = std::exchange(cuda_on_cpu::fault, "");
  return cuda_on_cpu::taken.c_str();
}
std::int64_t cuda_on_cpu_launches() { return cuda_on_cpu::launches; }
void cuda_on_cpu_seed(std::uint64_t seed) { cuda_on_cpu::random().seed(seed); }
void cuda_on_cpu_leave_out(const char* file, int line) {
  cuda_on_cpu::left_out.insert({file, line});
}
void cuda_on_cpu_leave_nothing_out() { cuda_on_cpu::left_out.clear(); }
void cuda_on_cpu_begin_capture() {
  cuda_on_cpu::captured.clear();
  cuda_on_cpu::capturing = true;
}
void cuda_on_cpu_end_capture() { cuda_on_cpu::capturing = false; }
int cuda_on_cpu_replay() {
  for (const auto& call : cuda_on_cpu::captured)
    if (const cudaError_t error = call(); error != cudaSuccess) return error;
  return cudaSuccess;
}
}
