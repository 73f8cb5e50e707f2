// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/nested_oracle.hpp"

#include <algorithm>
#include <optional>

#include "tests/support/first_stage_figures.hpp"

namespace viommu::oracle {

using namespace first_stage;

namespace {

constexpr std::uint8_t lacks_write = 0x85;
constexpr std::uint8_t lacks_read = 0x86;

NestedAnswer fault(std::uint8_t reason, unsigned level) {
  NestedAnswer answer;
  answer.reason = reason;
  answer.level = level;
  return answer;
}

/// One request on its way down.
struct Walk {
  const NestedUnit& unit;
  const ReadWord& read_word;
  const CompareExchange& compare_exchange;
  const FirstStageRequest& request;
  const FirstStageUnit first = first_stage_of(unit);
  const SecondStageUnit second = second_stage_of(unit);
  const unsigned top = levels_of(first);
  unsigned lost_at = 0;  ///< level of the entry on which four exchanges were lost
  // An entry that is looked at twice in succession lies where it lay.
  std::optional<std::uint64_t> last_entry = std::nullopt;
  SecondStageAnswer last_place{};

  SecondStageAnswer translate(std::uint64_t address, bool read, bool write) const {
    return translate_second_stage(second, read_word, compare_exchange, {address, read, write});
  }

  /// "Nested Translation": an entry is read, and where the second stage has flags that counts as a write too.
  SecondStageAnswer place_of(std::uint64_t entry_address) {
    if (last_entry != entry_address) last_place = translate(entry_address, true, second_stage_flags_enabled(second));
    last_entry = entry_address;
    return last_place;
  }

  /// From the table of this level on; nothing when the same entry was lost four times.
  std::optional<NestedAnswer> from(std::uint64_t table, unsigned level, const Path& above) {
    const unsigned low = 12 + 9 * (level - 1);
    const SecondStageAnswer place = place_of(table + 8 * ((request.address >> low) % 512));
    const bool is_top = level == top;
    if (place.reason == lacks_read || place.reason == lacks_write) return fault(is_top ? 0x75 : 0x76, level);
    if (place.reason != 0) return fault(place.reason, level);

    for (int attempt = 1; attempt <= 4; ++attempt) {
      const std::optional<std::uint64_t> word = read_word(place.gpa);
      if (!word) return fault(is_top ? 0x73 : 0x70, level);
      std::uint64_t entry = *word;
      if (!bit(entry, present)) return fault(0x71, level);
      if (reserved_bit_set(first, entry, level)) return fault(0x72, level);
      std::uint64_t address = (entry >> 12) % (std::uint64_t{1} << 40) << 12;
      if (maps_page(entry, level)) address = address >> low << low;  // PAT of a larger page is none of it
      if (address > highest_second_stage_input(second)) return fault(0x74, level);

      const Path here = above.through(entry);
      const std::uint8_t denied = here.reason(first, request);
      if (denied == 0 && used(first, request, entry, level) != entry) {
        if (!walks_are_snooped(first)) return fault(0x90, level);
        if (!place.write) return fault(0x77, level);
        const int outcome = compare_exchange(place.gpa, entry, used(first, request, entry, level));
        if (outcome < 0) return fault(0x91, level);
        if (outcome > 0) continue;
        entry = used(first, request, entry, level);
      }
      if (!maps_page(entry, level)) return from(address, level - 1, here);
      if (denied != 0) {
        NestedAnswer answer = fault(denied, level);
        answer.read = here.may_read(request);
        answer.write = here.may_write(first, request);
        return answer;
      }
      return page(entry, address, level, here);
    }
    lost_at = level;
    return std::nullopt;
  }

  /// The page of the first stage is input of the second.
  [[nodiscard]] NestedAnswer page(std::uint64_t entry, std::uint64_t address, unsigned level, const Path& path) const {
    const std::uint64_t first_mask = (std::uint64_t{1} << (12 + 9 * (level - 1))) - 1;
    const SecondStageAnswer place = translate(address + (request.address & first_mask), request.read, request.write);
    NestedAnswer answer = fault(place.reason, level);
    answer.at_page = true;
    answer.read = path.may_read(request) && place.read;
    answer.write = path.may_write(first, request) && place.write;
    if (place.reason != 0) return answer;
    if (!answer.read && !answer.write) answer.reason = lacks_read;
    if (answer.reason != 0) return answer;
    answer.gpa = place.gpa;
    answer.second_level = place.level;
    answer.page_mask = std::min(first_mask, place.page_mask);
    answer.first_dirty = bit(entry, dirty);
    answer.second_dirty = place.dirty;
    return answer;
  }
};

}  // namespace

FirstStageUnit first_stage_of(const NestedUnit& unit) {
  return {unit.cap, unit.ecap, unit.haw, unit.pasid_entry_1, unit.pasid_entry_2};
}
SecondStageUnit second_stage_of(const NestedUnit& unit) {
  return {unit.cap, unit.ecap, unit.haw, unit.pasid_entry_0, unit.pasid_entry_1};
}

NestedAnswer translate_nested(const NestedUnit& unit, const ReadWord& read_word,
                              const CompareExchange& compare_exchange, const FirstStageRequest& request) {
  Walk walk{unit, read_word, compare_exchange, request};
  if (root_of(walk.first) > highest_second_stage_input(walk.second)) return fault(0x5B, 0);
  if (request.execute) return fault(0x5C, 0);
  if (request.supervisor && !supervisor_enabled(walk.first)) return fault(0x5D, 0);
  if (!canonical(request.address, walk.top)) return fault(0x80, 0);
  for (int pass = 1; pass <= 2; ++pass)
    if (const auto answer = walk.from(root_of(walk.first), walk.top, Path{})) return *answer;
  return fault(0x91, walk.lost_at);
}

}  // namespace viommu::oracle
