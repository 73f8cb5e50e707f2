// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a context lookup answers.
#pragma once

#include <cstdint>

#include "caches/address_spaces.hpp"

namespace viommu::caches {

/// What a context says beside the address space.
struct ContextFlags {
  // NOLINTNEXTLINE(google-explicit-constructor): most have the first alone
  constexpr ContextFlags(bool disables_faults = false, bool has_device_tlb = false) noexcept
      : fault_disable{disables_faults}, device_tlb{has_device_tlb} {}

  bool fault_disable;  ///< faults are not recorded (FPD)
  bool device_tlb;     ///< the source may ask for translations, and use them

  friend constexpr bool operator==(const ContextFlags&, const ContextFlags&) = default;
};

/// What the context tables say about one source, or one PASID of it; null when that is not cached.
class ContextEntry {
 public:
  constexpr ContextEntry() = default;
  ContextEntry(AddressSpace& space, ContextFlags flags) noexcept
      : word_{reinterpret_cast<std::uintptr_t>(&space) | (flags.fault_disable ? fault_disable_bit : 0) |
              (flags.device_tlb ? device_tlb_bit : 0)} {}

  [[nodiscard]] explicit operator bool() const noexcept { return word_ != 0; }
  [[nodiscard]] AddressSpace& space() const noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): made of a pointer; the bit below its alignment is ours
    return *reinterpret_cast<AddressSpace*>(word_ & ~std::uintptr_t{alignof(AddressSpace) - 1});
  }
  [[nodiscard]] bool fault_disable() const noexcept { return (word_ & fault_disable_bit) != 0; }
  [[nodiscard]] bool device_tlb() const noexcept { return (word_ & device_tlb_bit) != 0; }
  friend bool operator==(ContextEntry, ContextEntry) = default;

 private:
  static constexpr std::uintptr_t fault_disable_bit = 1;
  static constexpr std::uintptr_t device_tlb_bit = 2;
  std::uintptr_t word_ = 0;
};

}  // namespace viommu::caches
