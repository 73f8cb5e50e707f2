// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Mappings that a front end keeps itself (core::MappingStore), looked at as if page tables had them:
//
//   an entry    none where no mapping has an address of it; a leaf where one mapping has all of it and its target is
//               aligned as a leaf's has to be; else a table
//   a page      mapped where one mapping has all of it and leads to a whole page
//
// A consumer maps pages. What of a page several mappings have, or one that leads into the middle of two pages or beyond
// what a frame can say, is left out, and shown as such. Mappings without rights are none.
//
// The store is asked once for each mapping that a look in ascending order passes, and not for what lies between two of
// them. Threads: one at a time, while the mappings stay as they are: one object for each look.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"
#include "engine/consumer/guest_tables.hpp"
#include "engine/consumer/slot_diff.hpp"
#include "engine/core/mapping_store.hpp"

#include <cstdint>

namespace viommu::consumer {

class KeptMappings {
 public:
  /// @param store  null: nothing is mapped
  KeptMappings(const core::MappingStore* store, DomainId domain) noexcept : store_{store}, domain_{domain} {}

  /// The table of a level above all entries, which all have one.
  [[nodiscard]] static GuestTable top() noexcept { return {GuestTable::Kind::kept, 0, {}, nullptr}; }
  /// @param at  first address of the entry
  [[nodiscard]] GuestEntry entry(Iova at, unsigned level) const noexcept;
  /// Pages [first, last] of the 512 at `slot`; of GuestTables::scan(), what is not a leaf. Bound: two questions a page.
  /// @param merge  false: a run for each mapping  @return pages that have a run, those left out included
  std::uint32_t scan(Iova slot, unsigned first, unsigned last, bool merge, Runs& runs) const noexcept;

 private:
  /// The first mapping that ends at or behind the address, or null.
  [[nodiscard]] const core::StoredMapping* first_from(Iova iova) const noexcept;

  const core::MappingStore* store_;
  DomainId domain_;
  // The last answer, which is that of every address from the one asked for up to the mapping's last.
  mutable bool asked_ = false;
  mutable bool any_ = false;
  mutable Iova from_{};
  mutable core::StoredMapping found_{};
};

}  // namespace viommu::consumer
