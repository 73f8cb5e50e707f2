// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Runs a few fibers over the real code, whose atomic operations arrive here (shadow/engine/base): each is a point where
// another fiber may go on, and asks the memory model what it returns. One operation may be changed on purpose (Mutant).
//
// Outside of run() the operations are plain ones: what a scenario sets up and checks needs no schedule.
// Threads: one; the fibers are switched by hand.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/harness/memory.hpp"
#include "tests/harness/schedule.hpp"

namespace viommu::harness {

/// Where in the source an operation stands.
using Place = std::source_location;

enum class Operation : std::uint8_t {
  load,
  store,
  modify,
  compare_exchange,
  full_fence,
  compiler_fence,
  process_barrier,
};

/// One operation of the source, as executions met it.
struct Site {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  Operation operation = Operation::load;
  std::memory_order order = std::memory_order_seq_cst;
  bool repeats = false;       ///< a fiber came to a location that it had read or written before
  std::uint64_t reached = 0;  ///< executions of it; whoever wants to know sets it back

  [[nodiscard]] std::string text() const;
};

/// A change of one site.
enum class Change : std::uint8_t {
  none,
  relaxed,    ///< its order
  weaker,     ///< acq_rel in place of seq_cst
  dropped,    ///< the fence, the barrier, the store
  unchecked,  ///< the compare-exchange does not compare
  stale,      ///< the load returns what the fiber last knew of the location
};
[[nodiscard]] const char* name_of(Change change) noexcept;

struct Mutant {
  std::size_t site = 0;
  Change change = Change::none;
};

/// What a scenario is to the simulator. Made anew for each execution, in memory that is taken back as a whole.
struct Body {
  void* scenario = nullptr;
  std::size_t fibers = 0;
  void (*fiber)(void* scenario, std::size_t number) = nullptr;
};

class Simulator {
 public:
  /// Runs all fibers to their end, or to the first failure.
  void run(const Body& body, Model model, Schedule& schedule);
  [[nodiscard]] bool failed() const noexcept { return !failure_.empty(); }
  [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
  /// A claim of the scenario that does not hold: in a fiber the execution ends here, outside it is noted.
  void fail(std::string what);
  void clear_failure() noexcept { failure_.clear(); }

  /// From here on a crash in a fiber is a failure of its execution, and so is an alarm: changed code may do anything.
  static void catch_crashes();
  void set_mutant(const Mutant& mutant) noexcept {
    mutant_ = mutant;
    effective_ = mutant.change != Change::stale;
  }
  /// Whether the mutant has changed anything yet; a load that its thread alone stores to is never stale.
  [[nodiscard]] bool effective() const noexcept { return effective_; }
  [[nodiscard]] std::vector<Site>& sites() noexcept { return sites_; }
  /// Writes each step of the next executions to the standard output.
  void set_trace(bool on) noexcept { trace_ = on; }
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

  // ---- From the shadowed headers ----
  [[nodiscard]] bool running() const noexcept { return running_; }
  void forget(const void* object) {
    if (running_) memory_.forget(object);
  }
  [[nodiscard]] Value load(const void* object, const Value& now, std::memory_order order, const Place& place);
  /// @return whether the object holds `value` now
  [[nodiscard]] bool store(const void* object, const Value& now, const Value& value, std::memory_order order,
                           const Place& place);
  /// A read-modify-write in two steps, between which nobody else goes on. @return what it reads
  [[nodiscard]] Value begin_modify(const void* object, const Value& now, std::memory_order order, const Place& place);
  /// @return whether the object holds `value` now
  [[nodiscard]] bool end_modify(const Value& value, std::memory_order order);
  struct Exchanged {
    bool done = false;
    bool newest = false;  ///< the object holds `desired` now
    Value found;
  };
  [[nodiscard]] Exchanged compare_exchange(const void* object, const Value& now, const Value& expected,
                                           const Value& desired, std::memory_order order, std::memory_order otherwise,
                                           const Place& place);
  void full_fence(const Place& place);
  void compiler_fence(const Place& place);
  void process_barrier(const Place& place);
  /// This fiber can do nothing before another one has gone on.
  void pause();
  /// Only the fiber that gets true may go on as the owner.
  [[nodiscard]] bool try_lock(bool& held);
  void lock(bool& held);
  void unlock(bool& held);

  // ---- From scenarios ----
  [[nodiscard]] std::size_t fiber() const noexcept { return current_; }
  /// A point where another fiber may go on, apart from any operation.
  void point();
  [[nodiscard]] Memory& memory() noexcept { return memory_; }
  void note(const std::string& what) const;

 private:
  struct Switch;
  void enter_fiber();
  void go_on_with(std::size_t next);
  void choose_next(bool yields);
  [[nodiscard]] Change change_at(Operation operation, std::memory_order order, const Place& place);
  [[nodiscard]] std::size_t site_at(Operation operation, std::memory_order order, const Place& place);
  [[nodiscard]] std::size_t age_to_modify(Memory::Location location, std::memory_order order);
  [[noreturn]] void leave_execution();

  Memory memory_;
  Schedule* schedule_ = nullptr;
  Body body_{};
  Mutant mutant_{};
  bool effective_ = false;
  std::string failure_;
  bool running_ = false;
  bool trace_ = false;
  std::size_t current_ = 0;
  std::uint64_t steps_ = 0;
  std::array<bool, most_fibers> finished_{};
  std::array<const bool*, most_fibers> waits_for_{};  ///< a lock that is held
  std::array<bool, most_fibers> paused_{};
  std::size_t site_ = 0;  ///< of the operation under way
  Change change_ = Change::none;
  Memory::Location modified_ = 0;
  std::size_t modified_age_ = 0;
  Model model_ = Model::cxx;

  struct Key {
    const char* file;
    std::uint32_t line;
    std::uint32_t column;
    std::uint32_t operation;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const noexcept {
      return (reinterpret_cast<std::uintptr_t>(key.file) * 31 + key.line) * 1009 + std::uintptr_t{key.column} * 17 +
             key.operation;
    }
  };
  std::unordered_map<Key, std::size_t, Hash> known_sites_;
  std::vector<Site> sites_;
};

/// The only one: the code under test has no way to name another.
[[nodiscard]] Simulator& simulator() noexcept;

/// Plain data of a scenario: fails when two fibers touch it, one of them to write, and neither happened before the
/// other.
class Plain {
 public:
  void read(const char* what);
  void write(const char* what);

 private:
  void check(const std::array<std::uint32_t, most_fibers>& steps, const char* what) const;
  std::array<std::uint32_t, most_fibers> reads_{};
  std::array<std::uint32_t, most_fibers> writes_{};
};

}  // namespace viommu::harness
