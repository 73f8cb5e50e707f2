// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The guest's page tables, as a look through them reads them: each entry by one load, whose copy decides.
#pragma once

#include "engine/base/guest_memory.hpp"
#include "engine/consumer/shadow.hpp"
#include "engine/consumer/slot_diff.hpp"
#include "engine/core/mapping_store.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/second_stage.hpp"

#include <cstddef>
#include <cstdint>

namespace viommu::consumer {

/// What tables are made of, and where they lie.
struct Tables {
  const GuestMemory& memory;
  const walkers::SecondStage& format;
  const walkers::Kernels& kernels;
  const core::MappingStore* kept = nullptr;  ///< what is mapped without tables; null: nothing
};

/// A table of the guest, or what stands for one.
struct GuestTable {
  enum class Kind : std::uint8_t { none, real, large_page, kept /* KeptMappings */ } kind = Kind::none;
  std::uint64_t rights = MappedRun::right_bits;  ///< that the path grants
  Gpa at{};                                      ///< of the table, or of the page that it divides
  std::byte* host = nullptr;                     ///< null: read through the memory's functions
};
struct GuestEntry {
  enum class Kind : std::uint8_t { none, table, leaf } kind = Kind::none;
  GuestTable table{};  ///< for a leaf, `at` is its frame
};

/// Good as long as regions are: who looks through tables has the role that whoever takes a region away waits for.
class GuestTables {
 public:
  explicit GuestTables(const Tables& tables) noexcept : tables_{tables} {}

  [[nodiscard]] GuestTable open(Gpa at, std::uint64_t rights) const noexcept;
  /// Of a table at a level from 1 on.
  [[nodiscard]] GuestEntry entry(const GuestTable& table, unsigned level, std::size_t index) const noexcept;
  /// Of a table at level 1: the table of leaves after the next one. Null when there is none.
  [[nodiscard]] const std::byte* ahead(const GuestTable& table, std::size_t index) const noexcept;

  /// What an entry of level 1 maps of pages [first, last] of its 512.
  /// @param merge  false: a run for each page of a table  @return pages that are mapped
  std::uint32_t scan(const GuestEntry& entry, unsigned first, unsigned last, bool merge, const std::byte* ahead,
                     Runs& runs) const noexcept;

 private:
  /// GuestMemory::page(), which is asked about one region after another.
  [[nodiscard]] std::byte* page(Gpa at) const noexcept {
    if (near_.host == nullptr || !near_.contains(at)) [[unlikely]]
      near_ = tables_.memory.pages_around(at);
    return near_.host == nullptr ? nullptr : near_.at(at);
  }

  const Tables& tables_;
  mutable MemorySpan near_;
};

}  // namespace viommu::consumer
