// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who passes the unit, and who decides it: what a device is able to, what the platform wishes, and, of a virtio device,
// what its driver has agreed to. Declared device by device: who made a device says nothing about it.
//
//   ability x wish ──way_for()──> way        fixed while the device is there
//   way x driver   ──way_now()──> way        what its requests meet now
#pragma once

#include <cstdint>

namespace viommu::machine {

/// Whether a device can be made to send its requests through a unit.
enum class Ability : std::uint8_t { able, not_able, unknown };
/// What the platform wants of it.
enum class Wish : std::uint8_t { unset, translate, bypass };
/// What becomes of a device that nobody knows the ability of.
enum class UnknownPolicy : std::uint8_t {
  closed,  ///< it is refused, and its requests are blocked
  legacy,  ///< it is taken for one that is not able
};

enum class Way : std::uint8_t {
  unit,    ///< through the unit
  system,  ///< to guest memory at its own addresses
  blocked,
};

/// The way of a device, and whether that is an error of whoever plugs it.
struct Decision {
  Way way = Way::unit;
  bool refused = false;  ///< `blocked`: its ability is not known; `system`: it is to be translated, and cannot be

  friend constexpr bool operator==(Decision, Decision) = default;
};

[[nodiscard]] constexpr Decision way_for(Ability ability, Wish wish, UnknownPolicy policy) noexcept {
  switch (ability) {
    case Ability::able:     return {wish == Wish::bypass ? Way::system : Way::unit};
    case Ability::not_able: return {Way::system, wish == Wish::translate};
    case Ability::unknown:  break;
  }
  return policy == UnknownPolicy::legacy ? Decision{Way::system} : Decision{Way::blocked, true};
}

/// Of two ways that requests cannot be told apart of: what neither forbids.
[[nodiscard]] constexpr Way stricter(Way a, Way b) noexcept {
  if (a == Way::blocked || b == Way::blocked) return Way::blocked;
  return a == b ? a : Way::unit;
}

/// How far the driver of a virtio device has come with VIRTIO_F_ACCESS_PLATFORM.
enum class DriverState : std::uint8_t {
  none,     ///< it has not said (FEATURES_OK)
  agreed,   ///< it has accepted the bit where it was offered
  refused,  ///< it has not: such a device must not make requests
};

/// A virtio device uses the unit only when its driver has agreed to. Others have no such driver, and are `agreed`.
[[nodiscard]] constexpr Way way_now(Way way, DriverState driver) noexcept {
  if (driver == DriverState::refused || way == Way::blocked) return Way::blocked;
  return driver == DriverState::none ? Way::system : way;
}

}  // namespace viommu::machine
