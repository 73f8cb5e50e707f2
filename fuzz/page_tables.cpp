// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: for any page tables, every kernel that this machine can run walks as the single walk does, alone and in a
// batch, with whole leaf lines and without; and the single walk as the literal reading of the specification.
//
//   head: address width, features, layout of memory, a level     record: what it is, page, slot, more; an entry, or the
//                                                                slots of an address
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/bits.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/table_pool.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/support/oracle.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/simd/select.hpp"
#include "walkers/walk_one.hpp"

namespace viommu::walkers {
namespace {

using fuzz::Input;
using fuzz::require_equal;
using fuzz::TablePool;

constexpr std::array fills{Fill::exact, Fill::line};
constexpr std::size_t most_requests = 128;

void require_same(const WalkAnswer& found, const WalkAnswer& right) {
  require_equal(static_cast<unsigned>(found.end), static_cast<unsigned>(right.end), "end of a walk");
  require_equal(found.level, right.level, "level of a walk");
  require_equal(found.loads, right.loads, "loads of a walk");
  require_equal(found.rights.bits(), right.rights.bits(), "rights of a walk");
  require_equal(found.frame.value, right.frame.value, "frame of a walk");
  require_equal(found.table.value, right.table.value, "last table of a walk");
  require_equal(found.table_rights.bits(), right.table_rights.bits(), "rights above the last table of a walk");
  require_equal(found.run, right.run, "run of a walk");
}

/// From the root: as legacy mode reads, with a context entry that leads to this table.
void require_as_specified(TablePool& pool, const SecondStageRules& rules, const WalkRequest& request,
                          const WalkAnswer& answer) {
  constexpr std::uint64_t root = 0x1000'0000;
  constexpr std::uint64_t contexts = root + 0x1000;
  oracle::Unit unit;
  unit.haw = rules.host_address_width;
  unit.cap = std::uint64_t{0xE} << 8 | std::uint64_t{56} << 16 | std::uint64_t{rules.pages_2m} << 34 |
             std::uint64_t{rules.pages_1g} << 35;
  unit.ecap = std::uint64_t{rules.snoop_control} << 7;
  unit.translation_enabled = true;
  unit.root_table = root;
  bool in_tables = false;  // from then on there is nothing at these addresses
  const oracle::ReadWord read = [&](std::uint64_t gpa) -> std::optional<std::uint64_t> {
    in_tables = in_tables || gpa < root || gpa >= contexts + 0x1000;
    if (in_tables) return pool.memory().word(gpa);
    if (gpa == root) return contexts | 1;
    if (gpa == contexts) return request.table.value | 1;
    if (gpa == contexts + 8) return 0x100 | (request.level - 1U);
    return 0;
  };
  oracle::Request asked;
  asked.iova = request.iova.value;
  asked.read = (answer.rights.bits() & 1) != 0 || answer.end != WalkEnd::leaf;
  asked.write = !asked.read;
  const oracle::Answer right = oracle::translate(unit, read, asked);
  switch (answer.end) {
    case WalkEnd::top_unreadable: return require_equal(right.reason, 0x3, "reason of an unreadable top table");
    case WalkEnd::unreadable:     return require_equal(right.reason, 0x7, "reason of an unreadable table");
    case WalkEnd::malformed:      return require_equal(right.reason, 0xC, "reason of a malformed entry");
    case WalkEnd::absent:         return require_equal(right.reason, 0x6, "reason of an absent entry");
    case WalkEnd::leaf:           break;
  }
  const std::uint64_t page_mask = low_bits(12 + 9U * answer.level);
  const std::uint64_t gpa = answer.frame.value + (request.iova.value & page_mask);
  const bool in_window = gpa >= 0xFEE0'0000 && gpa <= 0xFEEF'FFFF;
  if (answer.rights.none()) return require_equal(right.reason, 0x5, "reason of a page without rights");
  require_equal(right.reason, in_window ? 0xE : 0, "reason of a page that is there");
  if (in_window) return;
  require_equal(gpa, right.gpa, "address of a translation");
  require_equal(page_mask, right.page_mask, "size of a page");
  require_equal(answer.rights.read(), right.read, "right to read");
  require_equal(answer.rights.write(), right.write, "right to write");
}

void compare(TablePool& pool, const SecondStageRules& rules, std::span<const WalkRequest> requests) {
  const SecondStage format{rules};
  const MemoryView view = pool.view();
  static std::array<WalkAnswer, most_requests> right;
  static std::array<WalkAnswer, most_requests + 2> answers;  // one more at each end
  for (const Fill fill : fills) {
    for (std::size_t i = 0; i < requests.size(); ++i) right.at(i) = walk_one(format, view, fill, requests[i]);
    for (const Kernels* const kernels : runnable_kernels()) {
      WalkAnswer untouched;
      untouched.level = 99;
      answers[0] = answers.at(requests.size() + 1) = untouched;
      kernels->walk(view, format.masks(), fill, requests.data(), answers.data() + 1, requests.size());
      require_same(answers[0], untouched);
      require_same(answers.at(requests.size() + 1), untouched);
      for (std::size_t i = 0; i < requests.size(); ++i) require_same(answers.at(i + 1), right.at(i));
      if (requests.empty()) continue;
      WalkAnswer alone;
      kernels->walk_one(view, format.masks(), fill, requests.back(), alone);
      require_same(alone, right.at(requests.size() - 1));
      fuzz::work_done += requests.size() + 1;
    }
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const WalkRequest& request = requests[i];
    if (!request.is_root || request.level < 2 || request.rights != read_write) continue;
    if (request.table.value >> rules.host_address_width != 0) continue;        // of a malformed context entry
    if (request.iova.value >> (30 + 9 * (request.level - 1U)) != 0) continue;  // the unit looks at the width first
    if (request.iova.value >= 0xFEE0'0000 && request.iova.value <= 0xFEEF'FFFF) continue;  // nor is that a walk
    require_as_specified(pool, rules, request, right.at(i));
  }
}

constexpr std::size_t head_bytes = 4;
constexpr std::size_t record_bytes = 12;

void run(Input input) {
  static const std::array<std::unique_ptr<TablePool>, 3> pools{
      std::make_unique<TablePool>(TablePool::Layout::callbacks),
      std::make_unique<TablePool>(TablePool::Layout::one_region),
      std::make_unique<TablePool>(TablePool::Layout::regions)};
  constexpr std::array<unsigned, 6> widths{39, 40, 46, 48, 51, 52};
  SecondStageRules rules;
  rules.host_address_width = input.pick(widths);
  const auto features = input.take<std::uint8_t>();
  rules.snoop_control = (features & 1) != 0;
  rules.pages_2m = (features & 2) == 0;
  rules.pages_1g = (features & 4) == 0 && rules.pages_2m;
  TablePool& pool = *input.pick(pools);
  const unsigned level = input.below(second_stage_levels);
  std::vector<WalkRequest> requests;
  while (!input.empty()) {
    Input record = input.record(record_bytes);
    const auto kind = record.take<std::uint8_t>();
    const auto page = record.take<std::uint8_t>();
    const auto slot = record.take<std::uint8_t>();
    const auto more = record.take<std::uint8_t>();
    const auto bits = record.take<std::uint64_t>();
    if ((kind & 8) == 0) {
      const auto style = static_cast<fuzz::EntryStyle>(kind & 3);
      // Alone, or with the rest of its line: pages that follow one another.
      const std::uint64_t line =
          fuzz::pool_page(page % fuzz::pool_pages) + 8 * (fuzz::pool_slot(slot) & ~std::uint64_t{7});
      const std::uint64_t at = fuzz::pool_slot(slot) % 8;
      for (std::uint64_t i = 0; i < 8; ++i)
        if (i == at || ((kind & 4) != 0 && (more >> i & 1) != 0))
          pool.put(line + 8 * i, fuzz::pool_entry(style, bits + ((i - at) << 12), rules.host_address_width));
      continue;
    }
    WalkRequest request;
    request.table = {fuzz::pool_page(page)};
    request.level = static_cast<std::uint8_t>((kind & 0x10) != 0 ? more % second_stage_levels : level);
    request.is_root = (kind & 0x20) == 0;
    if ((kind & 0x40) != 0) request.rights = Rights{(more & 0x40) != 0, (more & 0x80) != 0};
    if ((kind & 0x80) != 0) {
      request.iova = {bits};
    } else {
      for (unsigned i = 0; i < second_stage_levels; ++i)
        request.iova = {request.iova.value << 9 | fuzz::pool_slot(bits >> (8 * i) & 0xFF)};
      request.iova = {request.iova.value << 12 | (bits >> 48 & 0xFFF)};
      request.iova.value &= low_bits(12 + 9 * (request.level + 1U));
    }
    // And its neighbours in the leaf's line.
    for (std::uint64_t i = 0; i < 8 && requests.size() < most_requests; ++i) {
      requests.push_back(request);
      requests.back().iova.value ^= i << 12;
    }
  }
  compare(pool, rules, requests);
  pool.clear();
}

constexpr std::array<fuzz::Cell, 6> cells{{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 8}, {4, 2}}};
constexpr std::array<std::uint64_t, 14> values{0x3,         0x1,      0x2,      0x83,        0x0,
                                               0x803,       0x4'0003, 0x4'1003, 0xFEDF'F003, 0xFEE0'0003,
                                               0xFEEF'F003, 0x87,     0x7F3,    0xFEE0'0083};
constexpr fuzz::RecordShape shape{head_bytes, record_bytes, cells, values};

}  // namespace
}  // namespace viommu::walkers

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  viommu::fuzz::work_name = "differential walks";
  viommu::walkers::run(viommu::fuzz::Input{data, size});
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::walkers::shape, data, size, most, seed);
}
