// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a consumer holds of 2 MiB, made equal to what the guest's tables map there.
//
//   nothing held          every run is told as it is: in lanes, where all of it is plain memory
//   as it was             nothing, and what is not looked at stays as it is
//   the same pages        each that leads elsewhere goes and comes, where all of it is plain memory
//   else                  the difference in units (slot_diff.hpp)
//   part of a longer unit it goes as a whole, and all of it is looked through again
//
// A longer unit is made where a whole slot goes on with the one before, whose MAP has not been told yet.
#pragma once

#include "engine/consumer/backing.hpp"
#include "engine/consumer/delivery.hpp"
#include "engine/consumer/guest_tables.hpp"
#include "engine/consumer/kept_mappings.hpp"
#include "engine/consumer/mirror.hpp"
#include "engine/consumer/slot_diff.hpp"
#include "walkers/run_events.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace viommu::consumer {

class SlotSync {
 public:
  SlotSync(Mirror& mirror, const Tables& tables, const KeptMappings& kept, Delivery& delivery) noexcept;

  enum class End : std::uint8_t { done, again, no_memory, quota };
  /// @param at     of the slot, `index` of `node`, which is of level 1
  /// @param range  what of it is looked at
  /// @param ahead  a table that is looked through soon, or null
  [[nodiscard]] End run(Shadow::Node& node, std::size_t index, const GuestEntry& entry, std::uint64_t at,
                        IovaRange range, const std::byte* ahead) noexcept;
  /// Of End::again: where it is to be looked again.
  [[nodiscard]] IovaRange broken() const noexcept { return broken_; }

 private:
  /// Whether every run of `wanted_` lies in plain memory, and none is left out.
  [[nodiscard]] bool all_plain() const noexcept;
  /// Cuts runs from `from` on where memory changes its kind, and marks what the consumer does not take: in `after_`.
  void filter(std::size_t from) noexcept;
  [[nodiscard]] End add(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks,
                        std::uint32_t leaves) noexcept;
  /// Those of a slot's units that a look is about.
  struct Window {
    std::span<const MappedRun> all;
    std::size_t first;
    std::size_t count;
    [[nodiscard]] std::span<const MappedRun> runs() const noexcept { return all.subspan(first, count); }
  };
  [[nodiscard]] Window look_at(std::span<const MappedRun> held, unsigned first, unsigned last) noexcept;
  [[nodiscard]] End change(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks,
                           const Window& window, bool plain) noexcept;
  /// Where `wanted_` has other frames for the same pages, and all of it is wanted whole and plain memory.
  void replace(std::uint64_t at, std::span<const MappedRun> held) noexcept;
  /// @param more  than were held before
  [[nodiscard]] End keep(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks,
                         std::span<const MappedRun> runs, bool more) noexcept;
  [[nodiscard]] bool join(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks) noexcept;
  void break_unit(Shadow::Node& node, std::size_t index, std::uint64_t at) noexcept;
  void count_split(std::uint64_t at, std::span<const MappedRun> given) noexcept;
  void deliver(std::uint64_t base, MappedRun run) noexcept;
  void withdraw(std::uint64_t base, MappedRun run) noexcept;
  void count(std::span<const MappedRun> before, std::span<const MappedRun> after) noexcept;
  [[nodiscard]] bool clip(std::uint64_t base, MappedRun run, IovaRange& range, std::uint64_t& inside) const noexcept;
  /// Whether the consumer wants to know of all of the slot.
  [[nodiscard]] bool inside(std::uint64_t at) const noexcept;

  Mirror& mirror_;
  GuestTables tables_;
  const KeptMappings& kept_;
  const walkers::Kernels& kernels_;
  Delivery& delivery_;
  Backing backing_;
  walkers::SpreadRules spread_;
  IovaRange broken_{};
  /// At the same place in its page as the table that it is made of: CPUs take a load to depend on a store that is going
  /// on at the same place of another page, and a scan stores what it has loaded, so the loads that follow would wait.
  alignas(table_pages * sizeof(MappedRun)) Runs wanted_;
  Runs after_;
  Runs all_;
};

}  // namespace viommu::consumer
