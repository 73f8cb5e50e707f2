// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Identifiers, each its own type.
#pragma once

#include <compare>
#include <cstdint>

namespace viommu {

/// Requester id of a PCI function: bus << 8 | device << 3 | function.
struct SourceId {
  std::uint16_t value = 0;

  friend constexpr auto operator<=>(SourceId, SourceId) = default;
  [[nodiscard]] constexpr std::uint8_t bus() const noexcept { return static_cast<std::uint8_t>(value >> 8); }
  [[nodiscard]] constexpr std::uint8_t devfn() const noexcept { return static_cast<std::uint8_t>(value & 0xFF); }
};

/// The domain id a guest wrote into a context or PASID entry.
struct DomainId {
  std::uint16_t value = 0;

  friend constexpr auto operator<=>(DomainId, DomainId) = default;
};

/// Process address space id, 20 bits.
struct Pasid {
  std::uint32_t value = 0;

  friend constexpr auto operator<=>(Pasid, Pasid) = default;
};

}  // namespace viommu
