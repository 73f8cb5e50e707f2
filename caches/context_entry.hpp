// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a context lookup answers.
#pragma once

#include <cstdint>

#include "caches/address_spaces.hpp"

namespace viommu::caches {

/// What the context tables say about one source, or one PASID of it; null when that is not cached.
class ContextEntry {
 public:
  constexpr ContextEntry() = default;
  ContextEntry(AddressSpace& space, bool fault_disable) noexcept
      : word_{reinterpret_cast<std::uintptr_t>(&space) | (fault_disable ? fault_disable_bit : 0)} {}

  [[nodiscard]] explicit operator bool() const noexcept { return word_ != 0; }
  [[nodiscard]] AddressSpace& space() const noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): made of a pointer; the bit below its alignment is ours
    return *reinterpret_cast<AddressSpace*>(word_ & ~std::uintptr_t{alignof(AddressSpace) - 1});
  }
  [[nodiscard]] bool fault_disable() const noexcept { return (word_ & fault_disable_bit) != 0; }
  friend bool operator==(ContextEntry, ContextEntry) = default;

 private:
  static constexpr std::uintptr_t fault_disable_bit = 1;
  std::uintptr_t word_ = 0;
};

}  // namespace viommu::caches
