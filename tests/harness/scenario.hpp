// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A scenario: some objects of the library, two to four fibers that use them, and claims. Made anew for each execution
// in memory that is taken back as a whole, so that an execution may be left at any point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "engine/base/host_memory.hpp"
#include "tests/harness/simulator.hpp"

namespace viommu::harness {

/// Memory of the scenario under way, for the library's objects.
[[nodiscard]] HostAllocator arena() noexcept;
[[nodiscard]] void* take_from_arena(std::size_t bytes, std::size_t alignment) noexcept;
void take_back_arena() noexcept;

struct Scenario {
  const char* name;
  const char* rule;
  std::size_t fibers;
  void* (*make)();
  void (*fiber)(void* scenario, std::size_t number);
  void (*check)(void* scenario);  ///< after all fibers have ended
  /// Executions in a normal run, of each model; the long one has many more.
  std::uint64_t executions;
};

/// S has `fibers`, fiber(number) and check().
template <class S, auto... arguments>
[[nodiscard]] constexpr Scenario scenario(const char* name, const char* rule, std::uint64_t executions = 10'000) {
  return {name,
          rule,
          S::fibers,
          [] {
            void* const memory = take_from_arena(sizeof(S), alignof(S) < 64 ? 64 : alignof(S));
            return static_cast<void*>(new (memory) S{arguments...});
          },
          [](void* self, std::size_t number) { static_cast<S*>(self)->fiber(number); },
          [](void* self) { static_cast<S*>(self)->check(); },
          executions};
}

/// A claim. In a fiber the execution ends where it does not hold.
inline void require(bool holds, const char* what) {
  if (!holds) simulator().fail(what);
}

/// Something that is used until it is gone: a page that DMA goes to, a region, an object.
class Thing {
 public:
  void use(const char* what) {
    accesses_.read(what);
    if (gone_) simulator().fail(std::string{"used when it was gone: "} + what);
  }
  /// Nobody may be using it, and nobody may use it afterwards.
  void end(const char* what) {
    accesses_.write(what);
    gone_ = true;
  }
  [[nodiscard]] bool gone() const noexcept { return gone_; }

 private:
  Plain accesses_;
  bool gone_ = false;
};

[[nodiscard]] std::span<const Scenario> epoch_scenarios();
[[nodiscard]] std::span<const Scenario> iotlb_scenarios();
[[nodiscard]] std::span<const Scenario> tag_scenarios();
[[nodiscard]] std::span<const Scenario> waist_scenarios();
[[nodiscard]] std::span<const Scenario> drop_scenarios();
[[nodiscard]] std::span<const Scenario> worker_scenarios();
[[nodiscard]] std::span<const Scenario> mapping_scenarios();
[[nodiscard]] std::span<const Scenario> consumer_scenarios();

/// The checker checked: what small programs of known outcome do here. @return whether all is as it must be
[[nodiscard]] bool run_litmus_tests();

}  // namespace viommu::harness
