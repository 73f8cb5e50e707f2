// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Why a request is translated or blocked, step by step: each word that the tables have for it, with the verdict. The
// walks are those of translating (context_walk, pasid_walk, core/explain), on memory that keeps what it was asked for,
// so what is shown is what was decided on. Nothing is cached, set, recorded or counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "caches/address_spaces.hpp"
#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/core/explain.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/dma.hpp"
#include "engine/vtd/register_file.hpp"

namespace viommu::vtd {

/// The tables above the page tables, word by word.
enum class ContextTable : std::uint8_t {
  root_low,
  root_high,
  scalable_root_lower,  ///< the half that is for functions 0 to 127
  scalable_root_upper,
  context_low,
  context_high,
  scalable_context_low,
  scalable_context_high,
  scalable_context_rest,
  pasid_directory,
  pasid_entry_0,
  pasid_entry_1,
  pasid_entry_2,
  pasid_entry_rest,
};
struct WordSeen {
  ContextTable table = ContextTable::root_low;
  Gpa at;
  std::optional<std::uint64_t> raw;  ///< nothing: it cannot be read
  std::uint64_t wrong = 0;           ///< bits that must be zero and are not; told of legacy mode only
};
[[nodiscard]] std::span<const Row> rows_of(const WordSeen& word) noexcept;
[[nodiscard]] std::string_view name_of(ContextTable table) noexcept;

/// From a source, and perhaps a PASID, to what translates.
struct ContextSeen {
  static constexpr std::size_t most = 16;  ///< two of the root entry, four of the context, one, and eight of the PASID
  std::array<WordSeen, most> words{};
  std::size_t count = 0;
  FaultReason fault = FaultReason::none;
  bool fault_disable = false;
  bool device_tlb = false;        ///< without a fault
  caches::AddressSpaceKey key{};  ///< without a fault

  [[nodiscard]] std::span<const WordSeen> seen() const noexcept { return {words.data(), count}; }
};
/// @param in_force  as mode_in_force() says; legacy or scalable
void explain_context(const GuestMemory& memory, const Capabilities& capabilities, Gpa root, TableMode in_force,
                     const DmaRequest& request, ContextSeen& seen) noexcept;

/// By what a request is answered.
enum class AnsweredBy : std::uint8_t {
  way,             ///< the device does not pass the unit, or must not make requests
  mode,            ///< translation is off, an access to the interrupt range, or a mode that blocks it
  iotlb,           ///< a cached page
  cached_table,    ///< a walk from a page table that is cached
  cached_context,  ///< a walk of the tables that a cached context leads to
  tables,          ///< a walk of all tables
};

struct DmaExplanation {
  bool translating = false;
  bool protecting = false;
  TableMode mode = TableMode::legacy;
  Gpa root;
  // What the caches say.
  caches::ContextEntry context;  ///< good as long as the guard
  std::optional<caches::CachedTranslation> page;
  std::optional<core::CachedTable> table;
  // What the tables say now, with translation on and no answer by the mode.
  bool walked = false;
  ContextSeen contexts{};
  core::PathSeen path{};
  /// Of the path, or of what stops it before.
  FaultReason reason = FaultReason::none;
  /// What the cached context, or the cached table, leads to, where that is another path.
  bool walked_from_cache = false;
  core::PathSeen path_from_cache{};
  // What a device would be answered.
  AnsweredBy by = AnsweredBy::mode;
  DmaAnswer answer{};
  bool protected_region = false;  ///< blocked, without a reason
};

}  // namespace viommu::vtd
