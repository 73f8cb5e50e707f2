// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: for any tables of a first stage, of a second stage with accessed and dirty flags, and of both nested, a
// batch of any kernel, the single walk and the literal reading of the specification come to the same answers and leave
// the same words in memory.
//
//   head: kind of walk, kernel, layout of memory, CAP/ECAP choices, PASID entry choices, width
//   record: what it is, page, slot, more; an entry, or the slots of an address
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/bits.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/table_pool.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/support/nested_oracle.hpp"
#include "tests/walkers/first_stage_reasons.hpp"
#include "tests/walkers/nested_world.hpp"
#include "tests/walkers/second_stage_world.hpp"
#include "walkers/batch.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/nested_walk.hpp"
#include "walkers/second_stage_walk.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {
namespace {

using fuzz::Input;
using fuzz::require_equal;
using fuzz::TablePool;
using test::code_of;

constexpr std::size_t most_requests = 48;

std::uint64_t bit(unsigned number, bool set) { return std::uint64_t{set} << number; }
bool has(std::uint64_t word, unsigned number) { return (word >> number & 1) != 0; }

/// The unit, as an oracle and as the walkers know it.
struct Setting {
  oracle::NestedUnit unit;

  explicit Setting(Input& input) {
    constexpr std::array<unsigned, 6> widths{39, 40, 46, 48, 51, 52};
    constexpr std::array<unsigned, 4> guest_widths{39, 46, 48, 57};
    unit.haw = input.pick(widths);
    const auto caps = input.take<std::uint8_t>();
    unit.cap = std::uint64_t{guest_widths[caps & 3] - 1} << 16 | bit(34, !has(caps, 2)) | bit(35, !has(caps, 3)) |
               bit(56, !has(caps, 4));
    unit.ecap = bit(7, has(caps, 5)) | bit(31, true) | bit(34, true) | bit(45, true) | bit(48, !has(caps, 6));
    const auto entry = input.take<std::uint8_t>();
    const auto roots = input.take<std::uint8_t>();
    unit.pasid_entry_0 = fuzz::pool_page(roots >> 4) | 1 | std::uint64_t{1U + entry % 3} << 2 | bit(9, has(entry, 2));
    unit.pasid_entry_1 = bit(23, !has(entry, 3));
    unit.pasid_entry_2 = fuzz::pool_page(roots & 15) | bit(0, !has(entry, 4)) | bit(2, has(entry, 5)) |
                         bit(4, has(entry, 6)) | bit(7, has(entry, 7));
  }
  [[nodiscard]] unsigned first_levels() const { return (unit.pasid_entry_2 & 0xC) == 0 ? 4 : 5; }
  [[nodiscard]] unsigned second_levels() const { return static_cast<unsigned>(unit.pasid_entry_0 >> 2 & 7) + 2; }
  [[nodiscard]] bool snooped() const { return has(unit.ecap, 48) && has(unit.pasid_entry_1, 23); }
  [[nodiscard]] FirstStage first() const {
    return FirstStage{{unit.haw, has(unit.cap, 56)},
                      {.levels = first_levels(),
                       .supervisor = has(unit.pasid_entry_2, 0),
                       .write_protect = has(unit.pasid_entry_2, 4),
                       .extended_accessed = has(unit.pasid_entry_2, 7),
                       .snooped = snooped()}};
  }
  [[nodiscard]] SecondStage second() const {
    return SecondStage{SecondStageRules{unit.haw, has(unit.ecap, 7), has(unit.cap, 34), has(unit.cap, 35)}};
  }
  [[nodiscard]] SecondStageControls controls() const {
    return {.flags = has(unit.pasid_entry_0, 9), .snooped = snooped()};
  }
  [[nodiscard]] NestedStages nested() const {
    const unsigned input_width = std::min(static_cast<unsigned>(unit.cap >> 16 & 0x3F) + 1, 12 + 9 * second_levels());
    return {first(), second(), controls(), {unit.pasid_entry_0}, second_levels() - 1, input_width};
  }
};

/// Memory for the batch, for the single walk and for the oracle, alike at first.
struct Triple {
  explicit Triple(TablePool::Layout layout) : batch{layout}, single{layout}, literal{layout} {}
  TablePool batch;
  TablePool single;
  TablePool literal;

  void put(std::uint64_t gpa, std::uint64_t entry) {
    for (TablePool* const pool : {&batch, &single, &literal}) pool->put(gpa, entry);
  }
  void require_alike() {
    for (const std::uint64_t gpa : batch.written()) {
      const std::uint64_t right = literal.memory().word(gpa).value_or(0);
      require_equal(single.memory().word(gpa).value_or(0), right, "a word that a single walk has written");
      require_equal(batch.memory().word(gpa).value_or(0), right, "a word that a batch has written");
    }
  }
  void clear() {
    for (TablePool* const pool : {&batch, &single, &literal}) pool->clear();
  }
};

FirstStageRequest to_first(const Setting& setting, const oracle::FirstStageRequest& from) {
  return {{setting.unit.pasid_entry_2},
          {from.address},
          {from.read, from.write},
          from.supervisor ? Privilege::supervisor : Privilege::user,
          from.execute};
}

// The three kinds of walk: what is asked, who answers.
struct OfFirstStage {
  using Answer = FirstStageAnswer;
  using Literal = oracle::FirstStageAnswer;
  static constexpr bool keeps_level = true;
  static FirstStageRequest request(const Setting& setting, const oracle::FirstStageRequest& from) {
    return to_first(setting, from);
  }
  static void batch(const Kernels& kernels, const Setting& setting, const MemoryView& view,
                    std::span<const FirstStageRequest> requests, Answer* answers) {
    kernels.walk_first_stage(setting.first(), view, requests.data(), answers, requests.size());
  }
  static Answer single(const Setting& setting, const MemoryView& view, const FirstStageRequest& request) {
    return walk_first_stage(setting.first(), view, request);
  }
  static Literal literal(const Setting& setting, TablePool& pool, const oracle::FirstStageRequest& request) {
    return oracle::translate_first_stage(oracle::first_stage_of(setting.unit), test::reader_of(pool.memory()),
                                         test::exchanger_of(pool.memory()), request);
  }
  static unsigned levels(const Setting& setting) { return setting.first_levels(); }
  static unsigned page_shift(unsigned level) { return FirstStage::page_shift(level); }
};

struct OfSecondStage {
  using Answer = SecondStageAnswer;
  using Literal = oracle::SecondStageAnswer;
  static constexpr bool keeps_level = true;
  static SecondStageRequest request(const Setting& setting, const oracle::FirstStageRequest& from) {
    return {{setting.unit.pasid_entry_0}, {from.address}, {from.read, from.write}, setting.second_levels() - 1};
  }
  static void batch(const Kernels& kernels, const Setting& setting, const MemoryView& view,
                    std::span<const SecondStageRequest> requests, Answer* answers) {
    kernels.walk_second_stage(setting.second(), setting.controls(), view, requests.data(), answers, requests.size());
  }
  static Answer single(const Setting& setting, const MemoryView& view, const SecondStageRequest& request) {
    return walk_second_stage(setting.second(), setting.controls(), view, request);
  }
  static Literal literal(const Setting& setting, TablePool& pool, const oracle::FirstStageRequest& request) {
    return oracle::translate_second_stage(oracle::second_stage_of(setting.unit), test::reader_of(pool.memory()),
                                          test::exchanger_of(pool.memory()),
                                          {request.address, request.read, request.write});
  }
  static unsigned levels(const Setting& setting) { return setting.second_levels(); }
  static unsigned page_shift(unsigned level) { return SecondStage::page_shift(level); }
};

struct Nested {
  using Answer = NestedAnswer;
  using Literal = oracle::NestedAnswer;
  static constexpr bool keeps_level = false;
  static FirstStageRequest request(const Setting& setting, const oracle::FirstStageRequest& from) {
    return to_first(setting, from);
  }
  static void batch(const Kernels& kernels, const Setting& setting, const MemoryView& view,
                    std::span<const FirstStageRequest> requests, Answer* answers) {
    kernels.walk_nested(setting.nested(), view, requests.data(), answers, requests.size());
  }
  static Answer single(const Setting& setting, const MemoryView& view, const FirstStageRequest& request) {
    return walk_nested(setting.nested(), view, request);
  }
  static Literal literal(const Setting& setting, TablePool& pool, const oracle::FirstStageRequest& request) {
    return oracle::translate_nested(setting.unit, test::reader_of(pool.memory()), test::exchanger_of(pool.memory()),
                                    request);
  }
  static unsigned levels(const Setting& setting) { return setting.first_levels(); }
  static unsigned page_shift(unsigned level) { return FirstStage::page_shift(level); }
};

template <class Kind>
void compare(const Kernels& kernels, const Setting& setting, Triple& memory,
             std::span<const oracle::FirstStageRequest> asked) {
  using Request = decltype(Kind::request(setting, asked.front()));
  using Answer = typename Kind::Answer;
  std::vector<Request> requests;
  for (const oracle::FirstStageRequest& one : asked) requests.push_back(Kind::request(setting, one));
  std::vector<Answer> answers(requests.size());
  Kind::batch(kernels, setting, memory.batch.view(), requests, answers.data());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Answer single = Kind::single(setting, memory.single.view(), requests[i]);
    const typename Kind::Literal right = Kind::literal(setting, memory.literal, asked[i]);
    for (const Answer& answer : {single, answers[i]}) {
      require_equal(code_of(answer.end), right.reason, "reason");
      require_equal(answer.rights.bits(), Rights{right.read, right.write}.bits(), "rights");
      if constexpr (Kind::keeps_level)
        require_equal(answer.level, (right.level == 0 ? Kind::levels(setting) : right.level) - 1, "level");
      if (right.reason != 0) continue;
      const std::uint64_t page_mask = low_bits(Kind::page_shift(answer.level));
      require_equal(page_mask, right.page_mask, "size of a page");
      require_equal(answer.frame.value + (asked[i].address & page_mask), right.gpa, "address");
    }
    ++fuzz::work_done;
  }
  memory.require_alike();
}

constexpr std::size_t head_bytes = 7;
constexpr std::size_t record_bytes = 12;

oracle::FirstStageRequest request_of(Input& record, unsigned kind, unsigned more, unsigned levels) {
  oracle::FirstStageRequest request;
  const auto bits = record.take<std::uint64_t>();
  if ((kind & 0x80) != 0) {
    request.address = bits;
  } else {
    for (unsigned i = 0; i < levels; ++i)
      request.address = request.address << 9 | fuzz::pool_slot(bits >> (8 * i) & 0xFF);
    request.address = request.address << 12 | (bits >> 48 & 0xFFF);
  }
  request.read = (more & 1) == 0;
  request.write = (more & 2) != 0;
  request.supervisor = (more & 4) != 0;
  request.execute = (more & 0x38) == 0x38;
  return request;
}

void run(Input input) {
  static std::array<std::unique_ptr<Triple>, 3> triples;
  const unsigned walk = input.below(3);
  const std::span<const Kernels* const> all = runnable_kernels();
  const Kernels& kernels = *all[input.take<std::uint8_t>() % all.size()];
  const auto layout = static_cast<TablePool::Layout>(input.below(3));
  std::unique_ptr<Triple>& memory = triples.at(static_cast<std::size_t>(layout));
  if (!memory) memory = std::make_unique<Triple>(layout);
  const Setting setting{input};
  const unsigned levels = walk == 1 ? setting.second_levels() : setting.first_levels();
  std::vector<oracle::FirstStageRequest> asked;
  while (!input.empty()) {
    Input record = input.record(record_bytes);
    const auto kind = record.take<std::uint8_t>();
    const auto page = record.take<std::uint8_t>();
    const auto slot = record.take<std::uint8_t>();
    const auto more = record.take<std::uint8_t>();
    if ((kind & 8) == 0) {
      const std::uint64_t at = fuzz::pool_page(page % fuzz::pool_pages) + 8 * fuzz::pool_slot(slot);
      memory->put(at, fuzz::pool_entry(static_cast<fuzz::EntryStyle>(kind & 3), record.take<std::uint64_t>(),
                                       setting.unit.haw));
      continue;
    }
    if (asked.size() == most_requests) continue;
    oracle::FirstStageRequest request = request_of(record, kind, more, levels);
    const unsigned width = levels == 4 ? 48 : 57;
    // The caller of a second stage looks at the width first.
    if (walk == 1) request.address &= oracle::highest_second_stage_input(oracle::second_stage_of(setting.unit));
    if (walk != 1 && (kind & 0xC0) == 0 && has(request.address, width - 1)) request.address |= ~low_bits(width);
    asked.push_back(request);
  }
  if (walk == 0) compare<OfFirstStage>(kernels, setting, *memory, asked);
  if (walk == 1) compare<OfSecondStage>(kernels, setting, *memory, asked);
  if (walk == 2) compare<Nested>(kernels, setting, *memory, asked);
  memory->clear();
}

constexpr std::array<fuzz::Cell, 6> cells{{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 8}, {4, 2}}};
constexpr std::array<std::uint64_t, 14> values{0x3,   0x7,      0x27, 0x67,  0x467,  0x4'0003, 0x4'0067,
                                               0x303, 0x4'0303, 0xE7, 0x383, 0x1000, 0x103,    0x807};
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
