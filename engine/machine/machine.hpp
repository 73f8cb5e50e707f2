// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The machine around a unit: which devices there are, what their hosts can do, and who is let in.
//
//   Building --ready()--> Ready      cold devices may narrow our capabilities (Policy::sync); then these are frozen
//
// A refusal leaves nothing behind: all checks come before the first change, and memory is taken before a change that
// could not be undone. Source: requirements of admission and of host facts, engine/docs/conformance.md.
//
// Threads: one at a time, that which has the role of the unit's work; narrowed() from any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/machine/admission.hpp"
#include "engine/machine/device.hpp"
#include "engine/machine/front_end.hpp"
#include "engine/machine/isolation.hpp"
#include "engine/machine/refusal.hpp"
#include "engine/machine/registry.hpp"

namespace viommu::machine {

enum class Phase : std::uint8_t { building, ready };

/// Whether a device may be plugged into a running machine. Not 0, and a text, when it may not.
struct Veto {
  void* opaque = nullptr;
  std::int32_t (*refuses)(void* opaque, const Candidate& candidate, char* text, std::size_t text_size) = nullptr;
};
inline constexpr std::size_t most_vetoes = 16;

/// Where a device that is let in becomes known to whoever answers its requests: the last step that can fail.
struct Placement {
  void* opaque = nullptr;
  bool (*place)(void* opaque, const Device& device) = nullptr;  ///< @return false: all is as before
};

/// Why capabilities that were narrowed block migration: another host may not have narrowed them.
inline constexpr const char* narrowed_text = "capabilities were narrowed to those of the host IOMMU";

class Machine {
 public:
  Machine(const FrontEnd& front_end, const Policy& policy, const HostAllocator& allocator) noexcept
      : front_end_{front_end}, policy_{policy}, allocator_{allocator}, registry_{allocator} {}

  /// @param why  receives it where the answer is refused
  [[nodiscard]] Admitted add(const Candidate& candidate, Refusal& why, const Placement& placement = {}) noexcept;
  /// @return whether there was one
  bool remove(SourceId source) noexcept;
  void unset_facts(SourceId source) noexcept;
  /// @return false when there is a device on `to`
  [[nodiscard]] bool renumber(std::uint8_t from, std::uint8_t to) noexcept { return registry_.renumber(from, to); }

  /// The driver of a virtio device has come to FEATURES_OK. @return false: it is not to get there, and `why` says so
  [[nodiscard]] bool driver_chose(SourceId source, bool accepted, Refusal& why) noexcept;
  /// A virtio device was reset: its driver has not chosen.
  void driver_gone(SourceId source) noexcept;
  /// What the requests of a source id meet now. One that no device was added for passes the unit.
  [[nodiscard]] Way way_of(SourceId source) const noexcept;
  /// All bridges that there are, instead of those told before. @return false when the host has no memory
  [[nodiscard]] bool put_bridges(std::span<const Bridge> bridges) noexcept;
  [[nodiscard]] bool isolatable(SourceId source) const noexcept {
    return machine::isolatable(registry_, {bridges_.begin(), bridges_.size()}, source);
  }

  /// @return false when there are `most_vetoes`
  [[nodiscard]] bool add_veto(const Veto& veto) noexcept;

  /// @param tell  called with each Refusal, ascending by source @return whether the machine is ready now
  template <class Tell>
  [[nodiscard]] bool ready(const Tell& tell) {
    if (phase_ == Phase::ready) return true;
    bool all = true;
    registry_.for_each([&](const Device& device) {
      Refusal why;
      const bool is_mirrored = lacks_announcing(device.kind, device.bypassed) && !device.facts_withdrawn;
      if (is_mirrored) refuse_for_announcing(device.source, why);
      if (!is_mirrored && !lacks_memory(device, why)) return;
      tell(why);
      all = false;
    });
    if (all) phase_ = Phase::ready;
    return all;
  }

  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  [[nodiscard]] const Device* find(SourceId source) const noexcept { return registry_.find(source); }
  /// Devices with equal facts about their hosts have equal ones, and no others; 0: it has none.
  [[nodiscard]] std::uint64_t facts_class(SourceId source) const noexcept {
    const Device* const device = registry_.find(source);
    return device != nullptr && device->facts ? device->facts_class : 0;
  }
  /// Ascending by source id.
  template <class Use>
  void for_each(const Use& use) const {
    registry_.for_each(use);
  }
  [[nodiscard]] std::size_t size() const noexcept { return registry_.size(); }
  /// Capabilities are not those the unit was created with. Stays so: a guest may have seen them.
  [[nodiscard]] bool narrowed() const noexcept { return narrowed_.load(std::memory_order_acquire); }

 private:
  /// Of a device whose mappings have to be mirrored.
  [[nodiscard]] bool lacks_announcing(DeviceKind kind, bool bypassed) const noexcept {
    return kind == DeviceKind::host && !bypassed && front_end_.announces(front_end_.opaque) == AnnounceAbility::none;
  }
  void refuse_for_announcing(SourceId source, Refusal& why) const noexcept;
  /// What is declared of a device, with what it inherits and has not.
  struct Conduct {
    Ability ability = Ability::able;
    Wish wish = Wish::unset;
    Way way = Way::unit;
  };
  /// Nothing where that is an error, which `why` says.
  [[nodiscard]] std::optional<Conduct> conduct_of(const Candidate& candidate, Refusal& why) const noexcept;
  /// Whether memory that is to be mapped one to one for a device is none: a guest would map it, and the device would go
  /// nowhere.
  [[nodiscard]] bool lacks_memory(const Device& device, Refusal& why) const noexcept;
  /// A number for its facts: of another device that has the same, or a new one.
  [[nodiscard]] std::uint64_t class_of(const Device& added) noexcept;
  /// What a device that was there keeps when its facts come anew.
  [[nodiscard]] static bool is_another(const Device& device, const Candidate& candidate, bool bypassed,
                                       Refusal& why) noexcept;
  [[nodiscard]] bool vetoed(const Candidate& candidate, Refusal& why) const noexcept;

  const FrontEnd front_end_;
  const Policy policy_;
  const HostAllocator allocator_;
  Registry registry_;
  HostArray<Bridge> bridges_;
  std::array<Veto, most_vetoes> vetoes_{};
  std::size_t veto_count_ = 0;
  std::uint64_t facts_classes_ = 0;  ///< numbers given
  Phase phase_ = Phase::building;
  Atomic<bool> narrowed_{false};
};

}  // namespace viommu::machine
