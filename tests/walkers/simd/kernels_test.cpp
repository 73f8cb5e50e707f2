// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Every batch kernel that this machine can run, against the single walk, the plain walk and the specification.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/oracle.hpp"
#include "tests/walkers/simd/table_world.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/simd/select.hpp"
#include "walkers/walk.hpp"
#include "walkers/walk_one.hpp"

namespace viommu::walkers {

// As Catch2 shows them, and finds them equal.
static std::ostream& operator<<(std::ostream& out, const WalkAnswer& answer) {
  const auto rights = [](Rights r) { return std::string{r.read() ? "r" : "-"} + (r.write() ? "w" : "-"); };
  return out << std::hex << "end " << unsigned{static_cast<std::uint8_t>(answer.end)} << " level "
             << unsigned{answer.level} << " loads " << unsigned{answer.loads} << " rights " << rights(answer.rights)
             << " frame " << answer.frame.value << " table " << answer.table.value << ' ' << rights(answer.table_rights)
             << " run " << unsigned{answer.run};
}
static bool operator==(const WalkAnswer& a, const WalkAnswer& b) {
  return a.end == b.end && a.level == b.level && a.loads == b.loads && a.rights == b.rights && a.frame == b.frame &&
         a.table == b.table && a.table_rights == b.table_rights && a.run == b.run;
}

namespace {

using test::Random;
using test::TableWorld;

#if defined(SMALL_TESTS)  // for a run under an emulator
constexpr unsigned worlds = 6;
#else
constexpr unsigned worlds = 24;
#endif

constexpr std::array fills{Fill::exact, Fill::line};
constexpr std::array<unsigned, 5> region_counts{0, 2, 3, 4, 9};

std::vector<WalkAnswer> walk_all(const Kernels& kernels, const MemoryView& view, const SecondStageMasks& masks,
                                 Fill fill, const std::vector<WalkRequest>& requests) {
  WalkAnswer untouched;
  untouched.level = 99;
  std::vector<WalkAnswer> answers(requests.size() + 2, untouched);  // one more at each end
  kernels.walk(view, masks, fill, requests.data(), answers.data() + 1, requests.size());
  REQUIRE(answers.front() == untouched);
  REQUIRE(answers.back() == untouched);
  return {answers.begin() + 1, answers.end() - 1};
}

std::vector<WalkRequest> random_requests(TableWorld& world, std::size_t count, bool one_level) {
  std::vector<WalkRequest> requests(count);
  for (WalkRequest& request : requests) {
    request = world.request();
    if (one_level) request.level = requests.front().level;
  }
  return requests;
}

/// Which pages of the leaf's line a walk of their own leads to next to the asked one.
std::uint8_t run_from_walks(const SecondStage& format, const TableWorld& world, Fill fill, const WalkRequest& request,
                            const WalkAnswer& asked) {
  if (asked.end != WalkEnd::leaf || asked.level != 0) return 0;
  const std::uint64_t own = request.iova.value >> 12 & 7;
  const auto in_window = [](std::uint64_t gpa) { return gpa >= 0xFEE00000 && gpa <= 0xFEEFFFFF; };
  const bool line = fill == Fill::line && world.is_mapped(asked.table.value) && !in_window(asked.frame.value);
  unsigned run = 1U << own;
  for (std::uint64_t i = 0; i < 8 && line; ++i) {
    WalkRequest neighbour = request;
    neighbour.iova.value = (request.iova.value & ~std::uint64_t{0x7FFF}) | i << 12;
    const WalkAnswer there = walk_one(format, world.memory().view(), Fill::exact, neighbour);
    const std::uint64_t expected = asked.frame.value + (i << 12) - (own << 12);
    const bool wraps = i < own && asked.frame.value < ((own - i) << 12);
    if (there.end == WalkEnd::leaf && there.level == 0 && there.rights == asked.rights && !wraps &&
        there.frame.value == expected && !in_window(expected))
      run |= 1U << i;
  }
  return static_cast<std::uint8_t>(run);
}

}  // namespace

TEST_CASE("a single walk from a root is the plain walk, and from a table below it what is left of one",
          "[walkers][kernels]") {
  for (unsigned seed = 1; seed <= worlds; ++seed) {
    for (const unsigned regions : region_counts) {
      TableWorld world{seed, regions};
      const SecondStage format{world.rules()};
      for (unsigned i = 0; i < 500; ++i) {
        const WalkRequest request = world.request();
        const Walk plain = walk(format, world.memory(), request.table, request.level, request.iova);
        for (const Fill fill : fills) {
          const WalkAnswer answer = walk_one(format, world.memory().view(), fill, request);
          const bool unreadable_below_root = !request.is_root && plain.end == WalkEnd::top_unreadable;
          REQUIRE(answer.end == (unreadable_below_root ? WalkEnd::unreadable : plain.end));
          REQUIRE(answer.level == plain.level);
          REQUIRE(answer.loads == plain.loads);
          REQUIRE(answer.frame == plain.frame);
          REQUIRE(answer.rights == (plain.rights & request.rights));
          REQUIRE(unsigned{answer.run} == unsigned{run_from_walks(format, world, fill, request, answer)});
          // From the table it names, the walk goes on as it did.
          WalkRequest rest = request;
          rest.table = answer.table;
          rest.level = answer.level;
          rest.rights = answer.table_rights;
          rest.is_root = request.is_root && answer.level == request.level;
          WalkAnswer again = walk_one(format, world.memory().view(), fill, rest);
          REQUIRE(again.loads == 1);
          again.loads = answer.loads;
          REQUIRE(again == answer);
        }
      }
    }
  }
}

TEST_CASE("every kernel answers as the single walk does", "[walkers][kernels][SEC-1][SEC-4][F3]") {
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    std::array<unsigned, 5> ends{};
    unsigned runs = 0;
    for (unsigned seed = 1; seed <= worlds; ++seed) {
      for (const unsigned regions : region_counts) {
        TableWorld world{seed, regions};
        const SecondStage format{world.rules()};
        const MemoryView view = world.memory().view();
        REQUIRE(view.spans.size() == std::min(regions, 4U));
        for (std::size_t count = 0; count <= 130; count += 1 + world.random().below(7)) {
          const std::vector<WalkRequest> requests = random_requests(world, count, world.random().chance(1, 2));
          for (const Fill fill : fills) {
            const std::vector<WalkAnswer> answers = walk_all(*kernels, view, format.masks(), fill, requests);
            for (std::size_t i = 0; i < count; ++i) {
              const WalkAnswer right = walk_one(format, world.memory().view(), fill, requests[i]);
              if (!(answers[i] == right))
                FAIL("seed " << seed << " regions " << regions << " request " << i << " of " << count << ": "
                             << answers[i] << ", not " << right);
              if (i % 8 == 0) {
                WalkAnswer alone;
                kernels->walk_one(view, format.masks(), fill, requests[i], alone);
                if (!(alone == right)) FAIL("seed " << seed << " alone: " << alone << ", not " << right);
              }
              ++ends.at(static_cast<std::size_t>(answers[i].end));
              runs += answers[i].run > 1 && (answers[i].run & (answers[i].run - 1)) != 0 ? 1U : 0U;
            }
          }
        }
      }
    }
    for (const unsigned count : ends) CHECK(count > 30);  // worth nothing where an outcome does not come up
    CHECK(runs > 100);
  }
}

TEST_CASE("every kernel walks as the specification reads", "[walkers][kernels][Second-Stage Translation][B24][B35]") {
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    unsigned translated = 0;
    for (unsigned seed = 100; seed < 100 + worlds; ++seed) {
      TableWorld world{seed, region_counts[seed % region_counts.size()]};
      const SecondStageRules& rules = world.rules();
      oracle::Unit unit;
      unit.haw = rules.host_address_width;
      unit.cap = std::uint64_t{0xE} << 8 | std::uint64_t{56} << 16 | std::uint64_t{rules.pages_2m} << 34 |
                 std::uint64_t{rules.pages_1g} << 35;
      unit.ecap = std::uint64_t{rules.snoop_control} << 7;
      unit.translation_enabled = true;
      unit.root_table = 0x10000000;
      for (unsigned i = 0; i < 8; ++i) {
        std::vector<WalkRequest> requests(64);
        for (WalkRequest& request : requests) {
          request = world.root_request();
          request.iova.value &= low_bits(30 + 9 * (request.level - 1U));  // the unit checks the width first
        }
        for (const Fill fill : fills) {
          const std::vector<WalkAnswer> answers =
              walk_all(*kernels, world.memory().view(), second_stage_masks(rules), fill, requests);
          for (std::size_t at = 0; at < requests.size(); ++at) {
            const WalkRequest& request = requests[at];
            if (request.table.value >> unit.haw != 0) continue;  // the context entry would be malformed
            if (request.iova.value >= 0xFEE00000 && request.iova.value <= 0xFEEFFFFF) continue;
            // A root and a context table that lead to this one.
            const auto read = [&](std::uint64_t gpa) -> std::optional<std::uint64_t> {
              if (gpa == 0x10000000) return 0x10001001;
              if (gpa == 0x10001000) return request.table.value | 1;
              if (gpa == 0x10001008) return 0x100 | (request.level - 1U);
              return gpa >= 0x10000000 && gpa < 0x10002000 ? std::optional<std::uint64_t>{0} : world.word(gpa);
            };
            oracle::Request asked;
            asked.iova = request.iova.value;
            asked.read = true;
            const oracle::Answer for_read = oracle::translate(unit, read, asked);
            asked.read = false;
            asked.write = true;
            const oracle::Answer for_write = oracle::translate(unit, read, asked);
            const WalkAnswer& answer = answers[at];
            INFO(answer << " reasons " << unsigned{for_read.reason} << ' ' << unsigned{for_write.reason});
            switch (answer.end) {
              case WalkEnd::top_unreadable: REQUIRE(for_read.reason == 0x3); break;
              case WalkEnd::unreadable:     REQUIRE(for_read.reason == 0x7); break;
              case WalkEnd::malformed:      REQUIRE(for_read.reason == 0xC); break;
              case WalkEnd::absent:
                REQUIRE(for_read.reason == 0x6);
                REQUIRE(for_write.reason == 0x5);
                break;
              case WalkEnd::leaf: {
                const std::uint64_t gpa = answer.frame.value + (request.iova.value & low_bits(12 + 9U * answer.level));
                const bool in_window = gpa >= 0xFEE00000 && gpa <= 0xFEEFFFFF;
                REQUIRE(for_read.reason == (!answer.rights.read() ? 0x6 : in_window ? 0xE : 0));
                REQUIRE(for_write.reason == (!answer.rights.write() ? 0x5 : in_window ? 0xE : 0));
                for (const oracle::Answer& right : {for_read, for_write}) {
                  if (right.kind != oracle::Answer::translated) continue;
                  ++translated;
                  REQUIRE(right.gpa == gpa);
                  REQUIRE(right.page_mask == low_bits(12 + 9U * answer.level));
                  REQUIRE(right.read == answer.rights.read());
                  REQUIRE(right.write == answer.rights.write());
                }
              }
            }
          }
        }
      }
    }
    CHECK(translated > 500);
  }
}

TEST_CASE("a kernel loads the words of its paths, each once", "[walkers][kernels][SEC-2]") {
  struct Counted {
    const GuestMemory* memory;
    // A view reads through a pointer to const.
    mutable std::vector<std::uint64_t> words;
    mutable std::vector<std::uint64_t> lines;
  };
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    for (unsigned seed = 200; seed < 200 + worlds; ++seed) {
      TableWorld world{seed, 3};
      const SecondStage format{world.rules()};
      Counted counted{&world.memory(), {}, {}};
      MemoryView view;
      view.opaque = &counted;
      view.any_u64 = [](const void* self, Gpa gpa) noexcept {
        const auto& to = *static_cast<const Counted*>(self);
        to.words.push_back(gpa.value);
        return to.memory->load_u64(gpa);
      };
      view.any_line = [](const void* self, Gpa gpa, Line& line) noexcept {
        const auto& to = *static_cast<const Counted*>(self);
        if (!to.memory->load_line(gpa, line)) return false;
        to.lines.push_back(gpa.value);
        return true;
      };
      for (const std::size_t count : {1U, 7U, 64U, 100U}) {
        const std::vector<WalkRequest> requests = random_requests(world, count, world.random().chance(1, 2));
        for (const Fill fill : fills) {
          counted.words.clear();
          counted.lines.clear();
          static_cast<void>(walk_all(*kernels, view, format.masks(), fill, requests));
          std::vector<std::uint64_t> words;
          std::vector<std::uint64_t> lines;
          for (const WalkRequest& request : requests) {
            static_cast<void>(
                walk(format, world.memory(), request.table, request.level, request.iova, [&](const WalkStep& step) {
                  if (fill == Fill::line && step.level == 0 && world.is_mapped(step.slot.value))
                    lines.push_back(step.slot.value & ~std::uint64_t{63});
                  else
                    words.push_back(step.slot.value);
                }));
          }
          for (auto* const list : {&words, &lines, &counted.words, &counted.lines}) std::ranges::sort(*list);
          REQUIRE(counted.words == words);
          REQUIRE(counted.lines == lines);
        }
      }
    }
  }
}

TEST_CASE("tables that point at themselves end each walk of a batch at its last level", "[walkers][kernels][SEC-4]") {
  test::GuardedRegion ram{0x1000, 0x1000};
  for (std::uint64_t at = 0x1000; at < 0x2000; at += 8) ram.store_u64(at, 0x1003);
  const MemorySpan span{{0x1000}, 0xFFF, ram.data()};
  MemoryView view;
  view.spans = {&span, 1};
  Random random{5};
  for (const Kernels* const kernels : runnable_kernels()) {
    std::vector<WalkRequest> requests(70);
    for (WalkRequest& request : requests)
      request = {{0x1000}, {random.next()}, static_cast<std::uint8_t>(random.below(5)), read_write, true};
    for (const Fill fill : fills) {
      const std::vector<WalkAnswer> answers = walk_all(*kernels, view, second_stage_masks({}), fill, requests);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        REQUIRE(answers[i].end == WalkEnd::leaf);
        REQUIRE(answers[i].level == 0);
        REQUIRE(answers[i].loads == requests[i].level + 1);
        REQUIRE(answers[i].frame == Gpa{0x1000});
      }
    }
  }
}

TEST_CASE("a table at no page's beginning is taken as its page, which no slot leaves", "[walkers][kernels][SEC-1]") {
  test::GuardedRegion ram{0x1000, 0x1000};  // what lies behind it is inaccessible
  for (std::uint64_t at = 0x1000; at < 0x2000; at += 8) ram.store_u64(at, 0x5003);
  const MemorySpan span{{0x1000}, 0xFFF, ram.data()};
  MemoryView view;
  view.spans = {&span, 1};
  for (const Kernels* const kernels : runnable_kernels()) {
    for (const std::size_t count : {1U, 5U, 64U}) {
      const std::vector<WalkRequest> requests(count, {{0x1FF8}, {~std::uint64_t{0}}, 0, read_write, true});
      for (const Fill fill : fills) {
        for (const WalkAnswer& answer : walk_all(*kernels, view, second_stage_masks({}), fill, requests)) {
          REQUIRE(answer.end == WalkEnd::leaf);
          REQUIRE(answer.table == Gpa{0x1000});
        }
      }
    }
  }
}

TEST_CASE("an entry that flips under a kernel is taken as it was or as it became", "[walkers][kernels][SEC-2][SEC-3]") {
  // Two tables, two pages, and a page of another size: whatever a walk reports, it is from one value of each entry.
  constexpr unsigned rounds = worlds * 400;
  constexpr std::uint64_t at = 0x1000;
  test::GuardedRegion ram{at, 0x4000};
  const auto store = [&](std::uint64_t page, std::uint64_t slot, std::uint64_t value) {
    ram.store_u64(at + page * 0x1000 + 8 * slot, value);
  };
  for (std::uint64_t slot = 0; slot < 512; ++slot) {
    store(0, slot, (at + 0x1000) | 3);
    store(2, slot, 0x5000003 + (slot << 12));
    store(3, slot, 0x6000001 + (slot << 12));
  }
  const MemorySpan span{{at}, 0x3FFF, ram.data()};
  MemoryView view;
  view.spans = {&span, 1};
  for (const Kernels* const kernels : runnable_kernels()) {
    for (std::uint64_t slot = 0; slot < 512; ++slot) store(1, slot, (at + 0x2000) | 3);
    std::atomic<bool> stop{false};
    std::thread guest{[&] {
      while (!stop) {
        for (const std::uint64_t value : {(at + 0x3000) | 2, std::uint64_t{0x7000083}, (at + 0x2000) | 3})
          for (std::uint64_t slot = 0; slot < 8; ++slot) store(1, slot, value);
        for (const std::uint64_t value : {std::uint64_t{0x9000001}, std::uint64_t{0}, std::uint64_t{0x5000003}})
          for (std::uint64_t slot = 0; slot < 8; ++slot) store(2, slot, value + (value == 0 ? 0 : slot << 12));
      }
    }};
    const char* complaint = nullptr;
    std::vector<WalkRequest> requests(64);
    for (std::size_t i = 0; i < requests.size(); ++i)
      requests[i] = {{at}, {i % 8 << 21 | (i / 8) << 12}, 2, read_write, true};
    std::vector<WalkAnswer> answers(requests.size());
    for (unsigned round = 0; round < rounds && complaint == nullptr; ++round) {
      kernels->walk(view, second_stage_masks({}), fills[round % 2], requests.data(), answers.data(), requests.size());
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const WalkAnswer& answer = answers[i];
        const std::uint64_t slot = i / 8;
        if (answer.end == WalkEnd::absent) {
          if (answer.table.value != at + 0x2000 || !(answer.rights == Rights{})) complaint = "absent";
        } else if (answer.end != WalkEnd::leaf) {
          complaint = "end";
        } else if (answer.level == 1) {
          if (answer.frame.value != 0x7000000 || !(answer.rights == read_write)) complaint = "large page";
        } else if (answer.table.value == at + 0x2000) {
          const bool old = answer.frame.value == 0x5000000 + (slot << 12) && answer.rights == read_write;
          const bool young = answer.frame.value == 0x9000000 + (slot << 12) && answer.rights == read_only;
          if (!old && !young) complaint = "page of the first table";
        } else if (answer.table.value != at + 0x3000 || !(answer.rights == Rights{}) ||
                   !(answer.table_rights == write_only) || answer.frame.value != 0x6000000 + (slot << 12)) {
          complaint = "page of the second table";
        }
        if (answer.level == 0 && answer.end == WalkEnd::leaf && (answer.run >> slot & 1) == 0) complaint = "run";
      }
    }
    stop = true;
    guest.join();
    CAPTURE(kernels->name);
    if (complaint != nullptr) FAIL(complaint);
  }
}

TEST_CASE("a kernel is chosen by name, and the best one by none", "[walkers][kernels]") {
  REQUIRE_FALSE(runnable_kernels().empty());
  CHECK(runnable_kernels().front() == select_kernels("scalar"));
  for (const Kernels* const kernels : runnable_kernels()) CHECK(select_kernels(kernels->name) == kernels);
  CHECK(select_kernels("") == select_kernels());
  REQUIRE(select_kernels() != nullptr);
  CHECK(std::string{select_kernels()->name}.find("gather") == std::string::npos);
  CHECK(select_kernels("sse9") == nullptr);
  CHECK(select_kernels("avx") == nullptr);
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  CHECK(select_kernels("neon") == nullptr);
#elif defined(__aarch64__)
  CHECK(select_kernels("avx2") == nullptr);
  CHECK(std::string{select_kernels()->name} == "neon");
#endif
}

}  // namespace viommu::walkers
