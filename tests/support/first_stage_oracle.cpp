// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/first_stage_oracle.hpp"

#include <optional>

#include "tests/support/first_stage_figures.hpp"

namespace viommu::oracle {

using namespace first_stage;

namespace {

FirstStageAnswer fault(std::uint8_t reason, unsigned level) {
  FirstStageAnswer answer;
  answer.reason = reason;
  answer.level = level;
  return answer;
}

/// One way from the top to the page; nothing when the same entry was lost four times.
std::optional<FirstStageAnswer> one_pass(const FirstStageUnit& unit, const ReadWord& read_word,
                                         const CompareExchange& compare_exchange, const FirstStageRequest& request,
                                         unsigned& level) {
  std::uint64_t table = root_of(unit);
  Path path;
  unsigned lost = 0;
  for (level = levels_of(unit); lost < 4;) {
    const unsigned low = 12 + 9 * (level - 1);
    const std::uint64_t at = table + 8 * ((request.address >> low) % 512);
    const std::optional<std::uint64_t> read = read_word(at);
    if (!read) return fault(level == levels_of(unit) ? 0x73 : 0x70, level);
    std::uint64_t entry = *read;
    if (!bit(entry, present)) return fault(0x71, level);
    if (reserved_bit_set(unit, entry, level)) return fault(0x72, level);

    const Path here = path.through(entry);
    const std::uint8_t denied = here.reason(unit, request);
    if (denied == 0 && used(unit, request, entry, level) != entry) {
      if (!walks_are_snooped(unit)) return fault(0x90, level);
      const int outcome = compare_exchange(at, entry, used(unit, request, entry, level));
      if (outcome < 0) return fault(0x91, level);
      if (outcome > 0) {
        ++lost;
        continue;
      }
      entry = used(unit, request, entry, level);
    }
    lost = 0;
    path = here;
    const std::uint64_t address = (entry >> 12) % (std::uint64_t{1} << 40) << 12;
    if (!maps_page(entry, level)) {
      table = address;
      --level;
      continue;
    }
    FirstStageAnswer answer = fault(denied, level);
    answer.read = path.may_read(request);
    answer.write = path.may_write(unit, request);
    if (denied != 0) return answer;
    answer.page_mask = (std::uint64_t{1} << low) - 1;
    answer.gpa = (address & ~answer.page_mask) + (request.address & answer.page_mask);
    answer.dirty = bit(entry, dirty);
    return answer;
  }
  return std::nullopt;
}

}  // namespace

FirstStageAnswer translate_first_stage(const FirstStageUnit& unit, const ReadWord& read_word,
                                       const CompareExchange& compare_exchange, const FirstStageRequest& request) {
  if (request.execute) return fault(0x5C, 0);
  if (request.supervisor && !supervisor_enabled(unit)) return fault(0x5D, 0);
  if (!canonical(request.address, levels_of(unit))) return fault(0x80, 0);
  unsigned level = 0;
  for (int pass = 1; pass <= 2; ++pass)
    if (const auto answer = one_pass(unit, read_word, compare_exchange, request, level)) return *answer;
  return fault(0x91, level);
}

}  // namespace viommu::oracle
