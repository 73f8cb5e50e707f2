// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Mappings that no tables in guest memory have: a front end keeps them, by domain, and whoever translates or mirrors
// asks it (caches::Interpretation::mappings).
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"

namespace viommu::core {

struct StoredMapping {
  IovaRange range{};
  Gpa gpa;  ///< of the range's first address
  Rights rights;
  bool mmio = false;  ///< asked for as a device's memory

  [[nodiscard]] constexpr Gpa gpa_of(Iova iova) const noexcept { return gpa + (iova.value - range.first.value); }
};

/// The domain is one that an address space of the caller's names. @return false when there is none
struct MappingStore {
  using Look = bool (*)(void* opaque, DomainId domain, Iova iova, StoredMapping& found) noexcept;

  void* opaque = nullptr;
  /// The mapping that has the address; perhaps a part of it, that has. Threads: any, inside a guard.
  Look find = nullptr;
  /// The first one that ends at or behind the address: the one that has it, or the next. Threads: who has the role of
  /// the front end's work, and tasks that it waits for.
  Look first_from = nullptr;
};

}  // namespace viommu::core
