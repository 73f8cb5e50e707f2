// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// First-stage batches of every kernel that this machine can run, against the specification and the single walk.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/first_stage_oracle.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/first_stage_reasons.hpp"
#include "tests/walkers/simd/patchwork.hpp"
#include "walkers/batch.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {

// As Catch2 shows them, and finds them equal.
static std::ostream& operator<<(std::ostream& out, const FirstStageAnswer& answer) {
  return out << std::hex << "end " << unsigned{static_cast<std::uint8_t>(answer.end)} << " level "
             << unsigned{answer.level} << " loads " << unsigned{answer.loads} << " exchanges "
             << unsigned{answer.exchanges} << " updates " << unsigned{answer.updates} << " wrote " << answer.wrote_dirty
             << " dirty " << answer.dirty << " user " << answer.user << " writable " << answer.writable << " rights "
             << answer.rights.bits() << " frame " << answer.frame.value;
}
static bool operator==(const FirstStageAnswer& a, const FirstStageAnswer& b) {
  return a.end == b.end && a.level == b.level && a.loads == b.loads && a.exchanges == b.exchanges &&
         a.updates == b.updates && a.wrote_dirty == b.wrote_dirty && a.dirty == b.dirty && a.user == b.user &&
         a.writable == b.writable && a.rights == b.rights && a.frame == b.frame;
}

namespace {

using test::Patchwork;
using test::Random;

#if defined(SMALL_TESTS)  // for a run under an emulator
constexpr unsigned worlds = 6;
#else
constexpr unsigned worlds = 60;
#endif

constexpr std::array<unsigned, 5> region_counts{0, 1, 2, 3, 5};

/// Table entries in pages of which each may be a table of every level: in regions, of which lanes know two, at the top
/// of the address width, and behind callbacks. Two of one seed are alike.
class World {
 public:
  World(std::uint64_t seed, unsigned regions) : random_{seed} {
    constexpr std::array<unsigned, 6> widths{39, 40, 46, 48, 51, 52};
    constexpr std::array<std::uint64_t, 3> set_for_each_clear{2, 30, 1000};
    unit_.haw = random_.pick(widths);
    unit_.cap = bit(56, random_.chance(3, 4));
    unit_.ecap = bit(48, random_.chance(9, 10)) | bit(31, true) | bit(34, true);
    unit_.pasid_entry_1 = bit(23, random_.chance(9, 10));
    unit_.pasid_entry_2 = bit(0, random_.chance(9, 10)) | bit(2, random_.chance(1, 2)) | bit(4, random_.chance(1, 2)) |
                          bit(7, random_.chance(1, 2));
    flags_ = random_.pick(set_for_each_clear);
    const std::uint64_t top = std::uint64_t{1} << unit_.haw;
    const std::array<std::uint64_t, 5> places{large_page, 0x40000, top - 0x4000, 0x48000, 0x80000};
    for (unsigned i = 0; i < places.size(); ++i) {
      if (i < regions) memory_.add_region(places.at(i), pages_each * 0x1000, random_.chance(1, 12));
      if (i >= regions) memory_.add_behind_callbacks(places.at(i), pages_each * 0x1000);
      for (std::uint64_t page = 0; page < pages_each; ++page) tables_.push_back(places.at(i) + page * 0x1000);
    }
    for (const std::uint64_t table : tables_)
      for (const std::uint64_t line : lines)
        for (std::uint64_t at = table + line; at < table + line + 64; at += 8) memory_.store(at, entry());
  }

  [[nodiscard]] Patchwork& memory() noexcept { return memory_; }
  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] oracle::FirstStageUnit unit(const FirstStageRequest& request) const {
    oracle::FirstStageUnit unit = unit_;
    unit.pasid_entry_2 |= request.root.value & ~low_bits(12);
    return unit;
  }
  [[nodiscard]] FirstStage format() const {
    const auto set = [](std::uint64_t word, unsigned number) { return (word >> number & 1) != 0; };
    return {{unit_.haw, set(unit_.cap, 56)},
            {.levels = levels(),
             .supervisor = set(unit_.pasid_entry_2, 0),
             .write_protect = set(unit_.pasid_entry_2, 4),
             .extended_accessed = set(unit_.pasid_entry_2, 7),
             .snooped = set(unit_.ecap, 48) && set(unit_.pasid_entry_1, 23)}};
  }
  /// Its way leads through words that were filled, now and then past them.
  FirstStageRequest request() {
    FirstStageRequest request;
    request.root = {pointer()};
    if (random_.chance(1, 8)) request.root.value |= random_.below(4096);  // no part of the address
    for (unsigned level = 0; level < levels(); ++level) {
      const std::uint64_t slot =
          random_.chance(1, 100) ? random_.below(512) : random_.pick(lines) / 8 + random_.below(8);
      request.iova.value = request.iova.value << 9 | slot;
    }
    request.iova.value = request.iova.value << 12 | random_.below(4096);
    const unsigned width = levels() == 4 ? 48 : 57;
    if ((request.iova.value >> (width - 1) & 1) != 0) request.iova.value |= ~low_bits(width);
    if (random_.chance(1, 60)) request.iova.value ^= std::uint64_t{1} << random_.below(64);
    const bool write = random_.chance(1, 3);
    request.asked = {(!write || random_.chance(1, 3)) && random_.chance(14, 15), write};
    if (random_.chance(1, 3)) request.privilege = Privilege::supervisor;
    request.execute = random_.chance(1, 60);
    return request;
  }
  /// Everything a walk may have written.
  [[nodiscard]] std::vector<std::optional<std::uint64_t>> words() const {
    std::vector<std::optional<std::uint64_t>> words;
    for (const std::uint64_t table : tables_)
      for (const std::uint64_t line : lines)
        for (std::uint64_t at = table + line; at < table + line + 64; at += 8) words.push_back(memory_.word(at));
    return words;
  }

 private:
  static constexpr std::array<std::uint64_t, 3> lines{0x000, 0x7C0, 0xFC0};  // offsets in a page
  static constexpr std::uint64_t pages_each = 3;
  static constexpr std::uint64_t large_page = 0x1'0000'0000;

  static std::uint64_t bit(unsigned number, bool set) { return std::uint64_t{set} << number; }
  [[nodiscard]] unsigned levels() const noexcept { return (unit_.pasid_entry_2 & 0xC) == 0 ? 4 : 5; }

  std::uint64_t pointer() {
    if (random_.chance(1, 150)) return (random_.next() & low_bits(unit_.haw)) >> 12 << 12;  // mostly a hole
    if (random_.chance(1, 100))
      return tables_[pages_each - 1 + pages_each * random_.below(5)] + 0x1000;  // a region's end
    return tables_[random_.below(tables_.size())];
  }
  std::uint64_t entry() {
    if (random_.chance(1, 300)) return random_.next();
    std::uint64_t entry =
        bit(0, random_.chance(60, 61)) | bit(1, random_.chance(16, 17)) | bit(2, random_.chance(40, 41));
    for (const unsigned flag : {5U, 6U, 10U}) entry |= bit(flag, random_.chance(flags_, flags_ + 1));
    if (random_.chance(1, 2)) entry &= ~bit(6, true);  // D of a table is none
    if (random_.chance(1, 4)) entry |= random_.next() & 0xFFF0'0000'0000'0B18;
    if (random_.chance(1, 100)) entry |= std::uint64_t{1} << random_.below(64);
    if (random_.chance(1, 8)) {  // a larger page; at its beginning there may be a table
      const unsigned alignment = random_.chance(1, 2) ? 21 : 30;
      const std::uint64_t page = random_.chance(1, 3) ? large_page : random_.next() & low_bits(unit_.haw);
      return entry | 0x80 | (page & ~low_bits(alignment)) | bit(12, random_.chance(1, 2));
    }
    return entry | pointer();
  }

  Random random_;
  oracle::FirstStageUnit unit_;
  std::uint64_t flags_ = 0;  // how often a flag is set: so many times for each that it is not
  Patchwork memory_;
  std::vector<std::uint64_t> tables_;
};

std::vector<FirstStageAnswer> walk_all(const Kernels& kernels, const FirstStage& format, const MemoryView& view,
                                       const std::vector<FirstStageRequest>& requests) {
  FirstStageAnswer untouched;
  untouched.level = 99;
  std::vector<FirstStageAnswer> answers(requests.size() + 2, untouched);  // one more at each end
  kernels.walk_first_stage(format, view, requests.data(), answers.data() + 1, requests.size());
  REQUIRE(answers.front() == untouched);
  REQUIRE(answers.back() == untouched);
  return {answers.begin() + 1, answers.end() - 1};
}

/// Five pages of tables in two spans of one address, as no view has them: a single walk looks into the first, lanes take
/// the second. They are alike, but for the pages that their leaves lead to.
class Twofold {
 public:
  static constexpr std::uint64_t base = 0x1000;
  static constexpr Gpa page_of_single{0x4000'0000};
  static constexpr Gpa page_of_lanes{0x8000'0000};

  void store(std::uint64_t slot, std::uint64_t entry, bool is_leaf) {
    single_.store_u64(slot, entry | (is_leaf ? page_of_single.value : 0));
    lanes_.store_u64(slot, entry | (is_leaf ? page_of_lanes.value : 0));
  }
  [[nodiscard]] MemoryView view() const noexcept {
    MemoryView view;
    view.spans = spans_;
    return view;
  }

 private:
  static constexpr std::uint64_t bytes = 0x5000;
  test::GuardedRegion single_{base, bytes};
  test::GuardedRegion lanes_{base, bytes};
  std::array<MemorySpan, 2> spans_{MemorySpan{{base}, bytes - 1, single_.data()},
                                   MemorySpan{{base}, bytes - 1, lanes_.data()}};
};

oracle::FirstStageAnswer ask_oracle(World& world, const FirstStageRequest& request) {
  return oracle::translate_first_stage(world.unit(request), test::reader_of(world.memory()),
                                       test::exchanger_of(world.memory()),
                                       {request.iova.value, request.asked.read(), request.asked.write(),
                                        request.privilege == Privilege::supervisor, request.execute});
}

}  // namespace

TEST_CASE("every kernel answers a first-stage batch as the specification and the single walk do, and writes the same",
          "[walkers][kernels][first stage][oracle][SEC-1][SEC-4][F3]") {
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    std::map<unsigned, unsigned> seen;
    std::map<unsigned, unsigned> pages;  // by depth and level
    unsigned earlier = 0;
    for (unsigned seed = 1; seed <= worlds; ++seed) {
      for (const unsigned regions : region_counts) {
        World world{seed, regions};
        World for_walk{seed, regions};
        World for_oracle{seed, regions};
        const FirstStage format = world.format();
        const unsigned levels = format.controls().levels;
        for (std::size_t count = 0; count <= 200; count += 1 + world.random().below(40)) {
          std::vector<FirstStageRequest> requests(count);
          for (FirstStageRequest& request : requests) request = world.request();
          const std::vector<FirstStageAnswer> answers =
              walk_all(*kernels, format, world.memory().memory().view(), requests);
          for (std::size_t i = 0; i < count; ++i) {
            FirstStageAnswer right = walk_first_stage(format, for_walk.memory().memory().view(), requests[i]);
            const oracle::FirstStageAnswer literal = ask_oracle(for_oracle, requests[i]);
            const FirstStageAnswer& answer = answers[i];
            // What needs nothing written was answered before another one of the batch set D.
            if (answer.end == FirstStageEnd::leaf && !answer.dirty && right.dirty && !requests[i].asked.write() &&
                answer.exchanges == 0) {
              const auto before = answers.begin() + static_cast<std::ptrdiff_t>(i);
              REQUIRE(std::any_of(answers.begin(), before,
                                  [](const FirstStageAnswer& other) { return other.wrote_dirty; }));
              right.dirty = false;
              ++earlier;
            }
            if (!(answer == right))
              FAIL("seed " << seed << " regions " << regions << " request " << i << " of " << count << ": " << answer
                           << ", not " << right);
            REQUIRE(test::code_of(answer.end) == literal.reason);
            REQUIRE(answer.level == (literal.level == 0 ? levels : literal.level) - 1);
            REQUIRE(answer.rights == Rights{literal.read, literal.write});
            ++seen[literal.reason];
            if (literal.reason != 0) continue;
            REQUIRE(answer.frame.value + (requests[i].iova.value & literal.page_mask) == literal.gpa);
            ++pages[levels * 8 + answer.level];
          }
          REQUIRE(world.words() == for_walk.words());
          REQUIRE(world.words() == for_oracle.words());
        }
      }
    }
    for (const unsigned reason : {0x00U, 0x5CU, 0x5DU, 0x70U, 0x71U, 0x72U, 0x73U, 0x80U, 0x81U, 0x85U, 0x90U, 0x91U}) {
      CAPTURE(reason);
      CHECK(seen[reason] > worlds / 6);
    }
    CHECK(pages.size() == 6);
    if (worlds > 20) CHECK((earlier > 0) == (std::string{kernels->name} != "scalar"));
  }
}

TEST_CASE("lanes answer every walk of a batch that has all it needs, and leave the others to the single walk",
          "[walkers][kernels][first stage]") {
  constexpr std::uint64_t base = Twofold::base;
  constexpr std::uint64_t dirty = 0x40;
  Twofold memory;
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  const bool extended_accessed = GENERATE(false, true);
  const bool write_protect = GENERATE(false, true);
  const FirstStage format{
      {},
      {.levels = levels, .supervisor = true, .write_protect = write_protect, .extended_accessed = extended_accessed}};
  for (const Privilege privilege : {Privilege::user, Privilege::supervisor}) {
    for (const Rights asked : {Rights{}, read_only, write_only, read_write}) {
      // P, A, and what else such a request needs of each entry; D is a need of the leaf alone.
      const bool needs_write = asked.write() && (privilege == Privilege::user || write_protect);
      const std::uint64_t needs =
          0x21U | (extended_accessed ? 0x400U : 0) | (needs_write ? 2U : 0) | (privilege == Privilege::user ? 4U : 0);
      for (unsigned lacking = 0; lacking < 64; ++lacking) {  // a bit that one entry lacks
        for (unsigned at = leaf; at < levels; ++at) {
          const bool is_dirty_bit = lacking == 6 && at == leaf && asked.write();
          const bool is_need = (needs >> lacking & 1) != 0 || is_dirty_bit;
          for (unsigned level = leaf; level < levels; ++level) {
            const bool is_leaf = level == leaf;
            std::uint64_t entry = needs | (is_leaf ? 0 : base + std::uint64_t{levels - level} * 0x1000);
            if (is_leaf) entry |= (asked.write() ? dirty : 0) | (leaf > 0 ? 0x80U : 0);
            if (level == at && is_need) entry &= ~(std::uint64_t{1} << lacking);
            memory.store(base + std::uint64_t{levels - 1 - level} * 0x1000, entry, is_leaf);
          }
          if (!is_need && (lacking != 63 || at != leaf)) continue;  // one of those that lack nothing is enough
          const std::vector<FirstStageRequest> requests(17, {{base}, {0}, asked, privilege, false});
          for (const Kernels* const kernels : runnable_kernels()) {
            const std::vector<FirstStageAnswer> answers = walk_all(*kernels, format, memory.view(), requests);
            const bool lanes = !is_need && std::string_view{kernels->name} != "scalar";
            const FirstStageAnswer single = walk_first_stage(format, memory.view(), requests.front());
            CAPTURE(kernels->name, lacking, at, asked.bits(), privilege == Privilege::user);
            REQUIRE((single.end == FirstStageEnd::leaf) == !is_need);
            FirstStageAnswer right = single;
            if (lanes) right.frame = Twofold::page_of_lanes;
            REQUIRE(answers.front() == right);
            REQUIRE(answers.back() == right);  // in a vector that it does not fill
          }
        }
      }
    }
  }
}

TEST_CASE("lanes answer walks of the first and the last address of both halves",
          "[walkers][kernels][first stage][B30]") {
  const unsigned levels = GENERATE(4U, 5U);
  const std::uint64_t half = low_bits(levels == 4 ? 47 : 56);
  const FirstStage format{{}, {.levels = levels}};
  for (const Iova iova : {Iova{0}, Iova{half}, Iova{~half}, Iova{~std::uint64_t{0}}}) {
    Twofold memory;
    for (unsigned level = 0; level < levels; ++level) {
      const std::uint64_t table = Twofold::base + std::uint64_t{levels - 1 - level} * 0x1000;
      const std::uint64_t index = iova.value >> (12 + 9 * level) & 0x1FF;
      memory.store(table + 8 * index, (level == 0 ? 0 : table + 0x1000) | 0x27, level == 0);
    }
    const std::vector<FirstStageRequest> requests(17, {{Twofold::base}, iova, read_only, Privilege::user, false});
    for (const Kernels* const kernels : runnable_kernels()) {
      CAPTURE(kernels->name, levels, iova.value);
      const bool lanes = std::string_view{kernels->name} != "scalar";
      for (const FirstStageAnswer& answer : walk_all(*kernels, format, memory.view(), requests)) {
        REQUIRE(answer.end == FirstStageEnd::leaf);
        REQUIRE(answer.frame == (lanes ? Twofold::page_of_lanes : Twofold::page_of_single));
      }
    }
  }
}

TEST_CASE("first-stage tables that point at themselves end each walk of a batch at its last level",
          "[walkers][kernels][first stage][SEC-1][SEC-4]") {
  Random random{6};
  for (const Kernels* const kernels : runnable_kernels()) {
    for (const unsigned levels : {4U, 5U}) {
      Patchwork memory;
      memory.add_region(0x1000, 0x1000, false);  // what lies behind it is inaccessible
      for (std::uint64_t at = 0x1000; at < 0x2000; at += 8) memory.store(at, 0x1027);
      FirstStageControls controls;
      controls.levels = levels;
      std::vector<FirstStageRequest> requests(150);
      for (FirstStageRequest& request : requests) {
        request = {{0x1FF8}, {random.next() & low_bits(12 + 9 * levels - 1)}, read_only, Privilege::user, false};
        if (random.chance(1, 2)) request.iova.value |= ~low_bits(12 + 9 * levels - 1);
      }
      for (const FirstStageAnswer& answer :
           walk_all(*kernels, FirstStage{{}, controls}, memory.memory().view(), requests)) {
        REQUIRE(answer.end == FirstStageEnd::leaf);
        REQUIRE(answer.level == 0);
        REQUIRE(answer.loads == levels);
        REQUIRE(answer.frame == Gpa{0x1000});
      }
    }
  }
}

TEST_CASE("where nothing is mapped, or one piece alone, a table at address 0 is not found there",
          "[walkers][kernels][first stage][SEC-1]") {
  const unsigned regions = GENERATE(0U, 1U);
  Patchwork memory;
  if (regions == 1) memory.add_region(0x1000, 0x1000, false);
  const std::vector<FirstStageRequest> requests(24, {{0}, {0}, read_only, Privilege::user, false});
  for (const Kernels* const kernels : runnable_kernels())
    for (const FirstStageAnswer& answer : walk_all(*kernels, FirstStage{{}, {}}, memory.memory().view(), requests))
      REQUIRE(answer.end == FirstStageEnd::top_unreadable);
}

TEST_CASE("a first-stage entry that flips under a kernel is taken as it was or as it became",
          "[walkers][kernels][first stage][SEC-2][SEC-3]") {
  // A page that may be written and is dirty, another that may only be read, a larger one, nothing, and flags that go.
  constexpr unsigned rounds = worlds * 200;
  constexpr std::uint64_t at = 0x1000;
  test::GuardedRegion ram{at, 0x4000};
  for (std::uint64_t slot = 0; slot < 512; ++slot) {
    ram.store_u64(at + 8 * slot, (at + 0x1000) | 0x27);
    ram.store_u64(at + 0x1000 + 8 * slot, (at + 0x2000) | 0x27);
  }
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{at}, {at + 0x3FFF}}, ram.data(), false});
  static_cast<void>(memory.publish(map));
  for (const Kernels* const kernels : runnable_kernels()) {
    for (std::uint64_t slot = 0; slot < 8; ++slot) {
      ram.store_u64(at + 0x2000 + 8 * slot, (at + 0x3000) | 0x27);
      ram.store_u64(at + 0x3000 + 8 * slot, 0x5000067 + (slot << 12));
    }
    std::atomic<bool> stop{false};
    std::thread guest{[&] {
      while (!stop) {
        for (const std::uint64_t value : {std::uint64_t{0x70000A7}, (at + 0x3000) | 0x27})
          for (std::uint64_t slot = 0; slot < 8; ++slot) ram.store_u64(at + 0x2000 + 8 * slot, value);
        for (const std::uint64_t value :
             {std::uint64_t{0x9000025}, std::uint64_t{0}, std::uint64_t{0x5000007}, std::uint64_t{0x5000067}})
          for (std::uint64_t slot = 0; slot < 8; ++slot)
            ram.store_u64(at + 0x3000 + 8 * slot, value + (value == 0 ? 0 : slot << 12));
      }
    }};
    const char* complaint = nullptr;
    std::vector<FirstStageRequest> requests(64);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i].root = {at};
      requests[i].iova = {i % 8 << 21 | (i / 8) << 12};
      requests[i].asked = i % 3 == 0 ? read_write : read_only;
    }
    std::vector<FirstStageAnswer> answers(requests.size());
    const FirstStage format{{}, {}};
    for (unsigned round = 0; round < rounds && complaint == nullptr; ++round) {
      kernels->walk_first_stage(format, memory.view(), requests.data(), answers.data(), requests.size());
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const FirstStageAnswer& answer = answers[i];
        const bool writes = requests[i].asked.write();
        const std::uint64_t slot = i / 8;
        if (answer.end == FirstStageEnd::absent) {
          if (answer.level != 0) complaint = "absent";
        } else if (answer.end == FirstStageEnd::write_denied) {
          if (!writes || answer.writable || answer.level != 0) complaint = "denied";
        } else if (answer.end == FirstStageEnd::update_failed) {
          if (answer.exchanges < 8) complaint = "losses";
        } else if (answer.end != FirstStageEnd::leaf) {
          complaint = "end";
        } else if (answer.level == 1) {
          if (answer.frame.value != 0x7000000 || answer.rights != read_write || (writes && !answer.dirty))
            complaint = "large page";
        } else if (answer.frame.value == 0x5000000 + (slot << 12)) {
          if (answer.rights != read_write || (writes && !answer.dirty)) complaint = "first page";
        } else if (answer.frame.value != 0x9000000 + (slot << 12) || answer.rights != read_only || writes ||
                   answer.dirty) {
          complaint = "second page";
        }
      }
    }
    stop = true;
    guest.join();
    CAPTURE(kernels->name);
    if (complaint != nullptr) FAIL(complaint);
  }
  RegionMap::destroy({}, memory.publish(nullptr));
}

}  // namespace viommu::walkers
