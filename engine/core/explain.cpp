// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/explain.hpp"

#include "engine/core/stage_walk.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/format/second_stage_layout.hpp"
#include "walkers/walk.hpp"

namespace viommu::core {
namespace {

using walkers::EntryKind;

/// Of an entry that is present.
[[nodiscard]] bool is_leaf(std::uint64_t raw, unsigned level) noexcept {
  using namespace walkers;
  static_assert(mask_of(first_stage_table::page_size) == mask_of(second_stage_table::page_size) &&
                first_stage_leaf_levels == second_stage_leaf_levels);
  return level == 0 || (level < second_stage_leaf_levels && get(SecondStageTable{raw}, second_stage_table::page_size));
}

/// What a walk looks at, put down as it goes. Which entry a load is for follows from their order: levels go down from
/// the top, and a first-stage entry comes behind the second-stage walk to it.
class Observation {
 public:
  Observation(const walkers::SecondStage& second, const walkers::FirstStage& first, const GuestMemory& memory,
              const caches::AddressSpaceKey& key, PathSeen& path) noexcept
      : second_{second},
        nested_{key.interpretation == caches::Interpretation::nested},
        first_{nested_ ? first.within(key.second_width) : first},
        memory_{memory},
        path_{path},
        stage_{key.has_first_stage() && !nested_ ? Stage::first : Stage::second},
        first_level_{key.top_level},
        second_top_{nested_ ? key.second_top_level : key.top_level},
        second_level_{second_top_} {}

  /// A second-stage walk begins: to a first-stage entry, or to the page.
  void begin_second(bool for_table) noexcept {
    stage_ = Stage::second;
    for_table_ = for_table;
    second_level_ = second_top_;
  }
  void begin_first() noexcept {
    stage_ = Stage::first;
    for_table_ = false;
  }
  [[nodiscard]] std::optional<std::uint64_t> load(Gpa at) noexcept {
    EntrySeen entry;
    entry.stage = stage_;
    entry.for_table = for_table_;
    entry.level = static_cast<std::uint8_t>(stage_ == Stage::first ? first_level_-- : second_level_--);
    entry.at = at;
    entry.raw = load_once(at);
    if (entry.raw) judge(entry);
    if (path_.count != PathSeen::most) path_.entries[path_.count++] = entry;
    if (nested_ && stage_ == Stage::first) begin_second(false);
    return entry.raw;
  }
  [[nodiscard]] Exchange exchange(Gpa at, std::uint64_t expected, std::uint64_t desired) noexcept {
    if (!memory_.may_exchange(at)) return Exchange::failed;
    for (std::size_t i = path_.count; i-- > 0;) {
      if (path_.entries[i].at != at) continue;
      path_.entries[i].sets = desired & ~expected;
      break;
    }
    return Exchange::done;
  }

 private:
  /// As the walk would find it, which may have set flags there on another path.
  [[nodiscard]] std::optional<std::uint64_t> load_once(Gpa at) const noexcept {
    const EntrySeen* first = nullptr;
    std::uint64_t sets = 0;
    for (const EntrySeen& each : path_.seen()) {
      if (each.at != at) continue;
      if (first == nullptr) first = &each;
      sets |= each.sets;
    }
    if (first == nullptr) return memory_.load_u64(at);
    return first->raw ? std::optional{*first->raw | sets} : std::nullopt;
  }
  void judge(EntrySeen& entry) const noexcept {
    const auto with_masks_of = [&](const auto& format) {
      entry.kind = format.classify(*entry.raw, entry.level);
      if (entry.kind != EntryKind::malformed) return;
      const auto& masks = format.masks();
      entry.wrong =
          *entry.raw & (is_leaf(*entry.raw, entry.level) ? masks.leaf[entry.level] : masks.table[entry.level]);
    };
    if (entry.stage == Stage::first) return with_masks_of(first_);
    with_masks_of(second_);
  }

  const walkers::SecondStage& second_;
  const bool nested_;
  const walkers::FirstStage first_;
  const GuestMemory& memory_;
  PathSeen& path_;
  // Of the next load:
  Stage stage_;
  bool for_table_ = false;
  unsigned first_level_;
  const unsigned second_top_;
  unsigned second_level_;
};

/// Guest memory as a walk sees it.
struct Observed {
  Observation& observation;

  [[nodiscard]] std::optional<std::uint64_t> load_u64(Gpa at) const noexcept { return observation.load(at); }
  [[nodiscard]] Exchange compare_exchange_u64(Gpa at, const std::uint64_t& expected,
                                              std::uint64_t desired) const noexcept {
    return observation.exchange(at, expected, desired);
  }
};

/// A second stage without flags, from a table of any level on: a cached one is a root like any other.
void explain_plain(const walkers::SecondStage& second, const walkers::FirstStage& first, const GuestMemory& memory,
                   const caches::AddressSpaceKey& key, Iova iova, Rights asked, PathSeen& path) noexcept {
  Observation observation{second, first, memory, key, path};
  const walkers::Walk walk = walkers::walk(second, Observed{observation}, key.root, key.top_level, iova);
  StageWalk walked{outcome_of(walk.end), Stage::second, walk.level, walk.loads, true, walk.rights, walk.frame};
  const bool denied = asked.none() ? walk.rights.none() : !walk.rights.covers(asked);
  if (walked.outcome == Outcome::translated && denied) walked.outcome = Outcome::denied;
  caches::CachedPage page;
  static_cast<void>(conclude(iova, walked, path.found, page));
}

}  // namespace

const char* name_of_level(unsigned level) noexcept {
  constexpr std::array<const char*, walkers::second_stage_levels> names{"PTE", "PDE", "PDPE", "PML4E", "PML5E"};
  return level < names.size() ? names[level] : "";
}

std::span<const Row> rows_of(const EntrySeen& entry) noexcept {
  using namespace walkers;
  const bool first = entry.stage == Stage::first;
  if (!entry.raw || !is_leaf(*entry.raw, entry.level))
    return first ? std::span<const Row>{first_stage_table::rows.list}
                 : std::span<const Row>{second_stage_table::rows.list};
  switch (entry.level) {
    case 0:
      return first ? std::span<const Row>{first_stage_leaf::rows.list}
                   : std::span<const Row>{second_stage_leaf::rows.list};
    case 1:
      return first ? std::span<const Row>{first_stage_leaf_2m::rows.list}
                   : std::span<const Row>{second_stage_leaf_2m::rows.list};
    default:
      return first ? std::span<const Row>{first_stage_leaf_1g::rows.list}
                   : std::span<const Row>{second_stage_leaf_1g::rows.list};
  }
}

void explain(const walkers::SecondStage& second, const walkers::FirstStage& first, const GuestMemory& memory,
             const caches::AddressSpaceKey& key, Iova iova, Rights asked, PathSeen& path) noexcept {
  Translation& found = path.found;
  if (iova > key.last && !key.is_upper(iova)) return Waist::judge_beyond_width(key, found);
  if (key.interpretation == caches::Interpretation::pass_through) return Waist::judge_identity(iova, found);
  if (!key.sets_flags()) return explain_plain(second, first, memory, key, iova, asked, path);
  Observation observation{second, first, memory, key, path};
  const Observed observed{observation};
  const walkers::SecondStageControls controls = second_controls_of(key);
  const auto translate_table = [&](const walkers::SecondStageRequest& table) noexcept {
    observation.begin_second(true);
    const walkers::SecondStageAnswer place = walkers::walk_second_stage(second, controls, observed, table);
    observation.begin_first();
    return place;
  };
  caches::CachedPage page;
  const StageWalk walked = walk_stages({second, first}, observed, key, iova, asked, translate_table);
  static_cast<void>(conclude(iova, walked, found, page));
}

}  // namespace viommu::core
