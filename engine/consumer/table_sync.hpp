// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One look through tables and a shadow side by side, from an address on, until the range or the slice is over.
#pragma once

#include "engine/consumer/backing.hpp"
#include "engine/consumer/mirror.hpp"
#include "engine/consumer/slot_diff.hpp"

#include <array>
#include <cstdint>

namespace viommu::consumer {

class TableSync {
 public:
  TableSync(Mirror& mirror, const Tables& tables, Delivery& delivery, Slice& slice) noexcept
      : mirror_{mirror},
        tables_{tables},
        delivery_{delivery},
        slice_{slice},
        backing_{tables.memory.map(), mirror.declared()} {
    if (backing_.map() != nullptr) plain_ = backing_.map()->plain();
  }

  enum class End : std::uint8_t { done, paused, again, no_memory, quota };
  /// @param next  receives where to go on when it is paused
  [[nodiscard]] End run(IovaRange range, Iova& next) noexcept;

 private:
  /// A table of the guest, or what stands for one.
  struct Table {
    enum class Kind : std::uint8_t { none, real, large_page } kind = Kind::none;
    std::uint64_t rights = walkers::MappedRun::right_bits;  ///< that the path grants
    Gpa at{};                                               ///< of the table, or of the page that it divides
    std::byte* host = nullptr;                              ///< null: read through the memory's functions
  };
  struct Entry {
    enum class Kind : std::uint8_t { none, table, leaf } kind = Kind::none;
    Table table{};  ///< for a leaf, `at` is its frame
  };

  [[nodiscard]] Table open(Gpa at, std::uint64_t rights) const noexcept;
  [[nodiscard]] Entry entry(const Table& table, unsigned level, std::size_t index) const noexcept;
  [[nodiscard]] bool visit(Shadow::Node& node, unsigned level, const Table& table, std::uint64_t base,
                           IovaRange range) noexcept;
  [[nodiscard]] bool visit_child(Shadow::Node& node, unsigned level, std::size_t index, const Entry& entry,
                                 std::uint64_t at, IovaRange range) noexcept;
  /// Of 1 GiB that is one unit, or may become one. @return whether it is dealt with
  [[nodiscard]] bool keep_large(Shadow::Node& node, std::size_t index, const Entry& entry, std::uint64_t at) noexcept;
  [[nodiscard]] bool sync_slot(Shadow::Node& node, std::size_t index, const Entry& entry, std::uint64_t at,
                               IovaRange range) noexcept;
  void look_through(const Entry& entry, unsigned first, unsigned last) noexcept;
  void filter() noexcept;
  /// Whether every run of `wanted_` lies in plain memory.
  [[nodiscard]] bool all_plain() const noexcept;
  void deliver_all(std::uint64_t base) noexcept;
  [[nodiscard]] const std::byte* ahead(const Table& table, std::size_t index) const noexcept;
  void deliver(std::uint64_t base, MappedRun run) noexcept;
  void withdraw(std::uint64_t base, MappedRun run) noexcept;
  void count(std::span<const MappedRun> before, std::span<const MappedRun> after) noexcept;
  [[nodiscard]] bool clip(std::uint64_t base, MappedRun run, IovaRange& range, std::uint64_t& inside) const noexcept;
  [[nodiscard]] bool stop(End end, std::uint64_t at) noexcept {
    end_ = end;
    next_ = {at};
    return false;
  }

  Mirror& mirror_;
  const Tables& tables_;
  Delivery& delivery_;
  Slice& slice_;
  Backing backing_;
  unsigned tables_top_ = 0;  ///< level of the guest's top table
  End end_ = End::done;
  Iova next_{};
  const std::byte* ahead_ = nullptr;
  std::array<MemorySpan, 2> plain_{};
  Runs wanted_;
  Runs after_;
};

}  // namespace viommu::consumer
