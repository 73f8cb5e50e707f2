// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/isolation.hpp"

#include <algorithm>
#include <array>
#include <bitset>
#include <optional>

namespace viommu::machine {
namespace {

constexpr unsigned functions_of_slot = 8;
constexpr std::size_t source_ids = 0x10000;

/// What counts of a device, or of a bridge, for its group.
struct Function {
  SourceId source;
  SourceId requester;
  SourceId physical;  ///< a function of the physical device
  bool isolates = false;
  std::optional<std::size_t> open_bridge;  ///< the outermost that it is behind, or is

  [[nodiscard]] std::size_t slot() const noexcept { return physical.value / functions_of_slot; }
};

class Bridges {
 public:
  explicit Bridges(std::span<const Bridge> bridges) noexcept : bridges_{bridges} {
    for (std::size_t i = 0; i < bridges_.size(); ++i)
      open_[i] = bridges_[i].conventional || !bridges_[i].isolates || has_open_port(i);
  }
  [[nodiscard]] std::size_t size() const noexcept { return bridges_.size(); }
  [[nodiscard]] Function function(std::size_t i) const noexcept {
    const SourceId source = bridges_[i].source;
    Function function{source, source, source, bridges_[i].isolates, outermost(source.bus())};
    if (!function.open_bridge && open_[i]) function.open_bridge = i;
    return function;
  }
  [[nodiscard]] std::optional<std::size_t> outermost(std::uint8_t bus) const noexcept {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < bridges_.size(); ++i)
      if (open_[i] && bridges_[i].is_before(bus) && (!found || width(i) > width(*found))) found = i;
    return found;
  }

 private:
  [[nodiscard]] unsigned width(std::size_t i) const noexcept {
    return unsigned{bridges_[i].subordinate} - bridges_[i].secondary;
  }
  /// A port on the bus behind it passes requests on to the others there.
  [[nodiscard]] bool has_open_port(std::size_t i) const noexcept {
    return std::ranges::any_of(bridges_, [&](const Bridge& port) {
      return port.source.bus() == bridges_[i].secondary && !port.isolates && !port.conventional;
    });
  }

  std::span<const Bridge> bridges_;
  std::bitset<most_bridges> open_;
};

/// By what its members can be found.
class Group {
 public:
  [[nodiscard]] bool reaches(const Function& function) const noexcept {
    return ids_[function.source.value] || ids_[function.requester.value] || open_slots_[function.slot()] ||
           (slots_[function.slot()] && !function.isolates) ||
           (function.open_bridge && open_bridges_[*function.open_bridge]);
  }
  void take(const Function& function) noexcept {
    ids_.set(function.source.value);
    ids_.set(function.requester.value);
    slots_.set(function.slot());
    if (!function.isolates) open_slots_.set(function.slot());
    if (function.open_bridge) open_bridges_.set(*function.open_bridge);
  }

 private:
  std::bitset<source_ids> ids_;
  std::bitset<source_ids / functions_of_slot> slots_;
  std::bitset<source_ids / functions_of_slot> open_slots_;  ///< where one of them has no ACS
  std::bitset<most_bridges> open_bridges_;
};

[[nodiscard]] Function function_of(const Device& device, const Registry& registry, const Bridges& bridges) noexcept {
  const Device* const physical = device.physical ? registry.find(*device.physical) : nullptr;
  return {device.source, device.requester(), device.physical.value_or(device.source),
          device.isolates || (physical != nullptr && physical->isolates), bridges.outermost(device.source.bus())};
}

}  // namespace

bool isolatable(const Registry& registry, std::span<const Bridge> bridges, SourceId source) noexcept {
  const Bridges behind{bridges};
  const Device* const device = registry.find(source);
  Group group;
  group.take(device != nullptr ? function_of(*device, registry, behind)
                               : Function{source, source, source, false, behind.outermost(source.bus())});
  bool all_pass = device == nullptr || device->way == Way::unit;
  std::bitset<source_ids> devices;
  devices.set(source.value);
  std::bitset<most_bridges> taken;
  for (bool grows = true; grows && all_pass;) {  // ends: each round takes one more
    grows = false;
    for (std::size_t i = 0; i < behind.size(); ++i) {
      const Function function = behind.function(i);
      if (taken[i] || !group.reaches(function)) continue;
      group.take(function);
      taken.set(i);
      grows = true;
    }
    registry.for_each([&](const Device& other) {
      if (devices[other.source.value]) return;
      const Function function = function_of(other, registry, behind);
      if (!group.reaches(function)) return;
      all_pass = all_pass && other.way == Way::unit;
      group.take(function);
      devices.set(other.source.value);
      grows = true;
    });
  }
  return all_pass;
}

}  // namespace viommu::machine
