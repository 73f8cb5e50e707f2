// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Many walks at once: what is asked, what is answered, and the table of functions that one instruction set fills in.
// Plain data; walkers/walk_one.hpp says what a right answer is, walkers/simd/select.hpp hands out the functions.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/format/second_stage_layout.hpp"
#include "walkers/mapped_run.hpp"
#include "walkers/nested_walk.hpp"
#include "walkers/run_events.hpp"
#include "walkers/second_stage_walk.hpp"
#include "walkers/table_scan.hpp"
#include "walkers/walk.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace viommu::walkers {

/// A walk from any table of the tree: the root, or one that a paging-structure cache remembers.
struct WalkRequest {
  Gpa table{};
  Iova iova{};
  std::uint8_t level = 0;      ///< of `table`: 0 to second_stage_levels - 1
  Rights rights = read_write;  ///< what the entries above `table` grant together
  bool is_root = true;         ///< an unreadable `table` is then WalkEnd::top_unreadable
};

/// The whole outcome. `rights` is the AND over the request's and every entry of the path, down to the one named here.
struct WalkAnswer {
  WalkEnd end = WalkEnd::absent;
  std::uint8_t level = 0;  ///< of the entry the walk ended at
  std::uint8_t loads = 0;  ///< of one word or one line
  Rights rights;
  Gpa frame{};          ///< of a leaf: first byte of its page
  Gpa table{};          ///< the table of that entry
  Rights table_rights;  ///< what the entries above that table grant together
  /// Of a 4 KiB leaf: the pages of its 64-byte line that may be answered from this walk too. Bit j is set when entry j
  /// is a well-formed leaf, grants the same rights on this path, and maps the page that follows from contiguity with
  /// the asked one; none of them in the interrupt window, nor the asked one. The bit of the asked page is always set.
  std::uint8_t run = 0;
};

static_assert(sizeof(WalkRequest) == 24 && std::is_trivially_copyable_v<WalkRequest>);
static_assert(sizeof(WalkAnswer) == 32 && std::is_trivially_copyable_v<WalkAnswer>);

/// How much of a leaf's line is loaded.
enum class Fill : std::uint8_t {
  exact,  ///< the entries on the path alone: `run` has one bit
  line,   ///< the leaf's whole line, as one load
};

/// The functions of one instruction set.
struct Kernels {
  const char* name;
  /// Answers requests[i] in answers[i] for every i below `count`, as walk_one() does. Any mix of tables and levels.
  /// At most level + 1 loads a request, each word of guest memory at most once on a path of different tables.
  void (*walk)(const MemoryView& memory, const SecondStageMasks& masks, Fill fill, const WalkRequest* requests,
               WalkAnswer* answers, std::size_t count) noexcept;
  /// The same for one request, where no others are at hand.
  void (*walk_one)(const MemoryView& memory, const SecondStageMasks& masks, Fill fill, const WalkRequest& request,
                   WalkAnswer& answer) noexcept;
  /// Answers requests[i] in answers[i] for every i below `count`, and sets flags, as walk_first_stage() does, in any
  /// order: a walk may or may not see a flag that another one of the batch sets. `format` is one for all: a batch is of
  /// one PASID table entry. At most 5 loads a request of which all flags are set; else 5 and those of a single walk.
  void (*walk_first_stage)(const FirstStage& format, const MemoryView& memory, const FirstStageRequest* requests,
                           FirstStageAnswer* answers, std::size_t count) noexcept;
  /// The same as walk_second_stage() does, of scalable mode: one tree height for all, that of the first.
  void (*walk_second_stage)(const SecondStage& format, const SecondStageControls& controls, const MemoryView& memory,
                            const SecondStageRequest* requests, SecondStageAnswer* answers, std::size_t count) noexcept;
  /// The same as walk_nested() does. Walks that come to tables in one page may share the second-stage walk to it: each
  /// answer counts its loads. At most 29 loads a request of which all flags are set; else those of a single walk too.
  void (*walk_nested)(const NestedStages& stages, const MemoryView& memory, const FirstStageRequest* requests,
                      NestedAnswer* answers, std::size_t count) noexcept;
  /// What a table of 4 KiB leaves maps, as walkers::scan_table() says it.
  ScanResult (*scan_table)(const std::byte* table, unsigned first, unsigned last, const ScanRules& rules, bool merge,
                           MappedRun* runs) noexcept;
  /// Such runs as events, as walkers::spread_runs() writes them.
  std::size_t (*spread_runs)(const MappedRun* runs, std::size_t count, const SpreadRules& rules,
                             std::uint64_t* words) noexcept;
  /// A copy past the caches, as viommu::stream_words() makes it; fastest where `to` begins a line.
  void (*stream_words)(std::uint64_t* to, const std::uint64_t* from, std::size_t count) noexcept;
};

}  // namespace viommu::walkers
