// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One look through tables and a shadow side by side, from an address on, until the range or the slice is over.
#pragma once

#include "engine/consumer/backing.hpp"
#include "engine/consumer/guest_tables.hpp"
#include "engine/consumer/kept_mappings.hpp"
#include "engine/consumer/mirror.hpp"
#include "engine/consumer/slot_sync.hpp"

#include <cstddef>
#include <cstdint>

namespace viommu::consumer {

class TableSync {
 public:
  TableSync(Mirror& mirror, const Tables& tables, Delivery& delivery, Slice& slice) noexcept
      : mirror_{mirror},
        tables_{tables},
        kept_{tables.kept, mirror.content().key.domain},
        delivery_{delivery},
        slice_{slice},
        backing_{tables.memory.map(), mirror.declared()},
        slots_{mirror, tables, kept_, delivery} {}

  enum class End : std::uint8_t { done, paused, again, no_memory, quota };
  [[nodiscard]] End run(IovaRange range) noexcept;
  /// Of End::paused: where to go on. Of End::again: what is to be looked through once more.
  [[nodiscard]] IovaRange next() const noexcept { return next_; }

 private:
  [[nodiscard]] GuestEntry entry(const GuestTable& table, unsigned level, std::size_t index, Iova at) const noexcept;
  [[nodiscard]] bool visit(Shadow::Node& node, unsigned level, const GuestTable& table, std::uint64_t base,
                           IovaRange range) noexcept;
  [[nodiscard]] bool visit_slot(Shadow::Node& node, std::size_t index, const GuestTable& table, const GuestEntry& entry,
                                std::uint64_t at, IovaRange range) noexcept;
  [[nodiscard]] bool visit_child(Shadow::Node& node, unsigned level, std::size_t index, const GuestEntry& entry,
                                 std::uint64_t at, IovaRange range) noexcept;
  /// Of 1 GiB that is one leaf and one unit, or may become that. @return whether it is dealt with
  [[nodiscard]] bool keep_large(Shadow::Node& node, std::size_t index, const GuestEntry& entry,
                                std::uint64_t at) noexcept;
  bool stop(End end, IovaRange next) noexcept {
    end_ = end;
    next_ = next;
    return false;
  }

  Mirror& mirror_;
  GuestTables tables_;
  KeptMappings kept_;
  Delivery& delivery_;
  Slice& slice_;
  Backing backing_;
  SlotSync slots_;
  unsigned tables_top_ = 0;  ///< level of the guest's top table
  End end_ = End::done;
  IovaRange next_{};
};

}  // namespace viommu::consumer
