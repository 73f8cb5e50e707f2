// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Random histories of one domain against the specification's words on an ordered map.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/virtio_iommu/mappings.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"
#include "tests/virtio_iommu/mapping_model.hpp"

namespace viommu::virtio_iommu {
namespace {

using test::MappingModel;
using test::Random;
using test::seen;

/// What a guest maps.
struct Habit {
  const char* name;
  std::uint64_t origin;  ///< addresses are at this and above, and go round at 2^64
  std::uint64_t span;    ///< in granules
  std::uint64_t granule;
  std::uint64_t most;  ///< granules of a mapping
  unsigned odd;        ///< one mapping in so many is of any bytes; 0: none
};

constexpr std::array habits{
    Habit{"bytes", 0, 400, 1, 12, 0},
    Habit{"dense pages", 0x40000000, 2000, page_size_bytes, 1, 0},
    Habit{"dense pages and some bytes", 0, 1000, page_size_bytes, 1, 20},
    Habit{"dense runs of pages", 0x7000000, 3000, page_size_bytes, 9, 0},
    Habit{"runs, bytes among them", 0x7ff000, 1500, page_size_bytes, 5, 6},
    Habit{"the end of the addresses", ~std::uint64_t{0} - 0x3fffff, 1024, page_size_bytes, 4, 30},
    Habit{"the last bytes", ~std::uint64_t{0} - 299, 300, 1, 4, 0},
    Habit{"sparse", 0, std::uint64_t{1} << 36, page_size_bytes, 3, 50},
    Habit{"large", 0, 4000, 0x200000, 30, 10},
};

class Run {
 public:
  Run(const Habit& habit, std::uint64_t seed, bool failures, std::uint64_t limit)
      : habit_{habit},
        random_{seed},
        failures_{failures},
        limit_{limit},
        nodes_{memory_.functions(), {limit, limit * 1500}} {}
  ~Run() = default;

  void step() {
    // The balance of what comes and goes changes, so that the domain fills up and empties.
    const std::uint64_t phase = steps_++ / (limit_ / 2) % 4;
    const bool comes = random_.below(10) < (phase == 0 ? 9U : phase == 2 ? 2U : 5U);
    if (failures_ && random_.chance(1, 8)) memory_.fail_at(1 + random_.below(4));
    if (random_.chance(1, 25)) {
      one_for_many();
    } else if (comes) {
      insert(random_mapping());
    } else {
      remove();
    }
    memory_.fail_at(0);
    look(random_address());
    if (random_.chance(1, 40 + model_.size() / 4)) look_at_all();
    if (random_.chance(1, 2000)) {
      mappings_.clear();
      model_.clear();
    }
    if (random_.chance(1, failures_ ? 100 : 3)) nodes_.seal(++epoch_);
    if (random_.chance(1, 3))
      static_cast<void>(nodes_.reclaim(epoch_ - std::min<std::uint64_t>(epoch_, random_.below(3)), 50));
  }

  void look_at_all() {
    REQUIRE(seen(mappings_) == model_.all());
    REQUIRE(mappings_.size() == model_.size());
    for (const Mapping& one : model_.all()) {
      look(one.range.first);
      look(one.range.last);
      look({one.range.first.value - 1});
      look({one.range.last.value + 1});
    }
  }

  void end() {
    look_at_all();
    mappings_.clear();
    nodes_.seal(++epoch_);
    while (nodes_.reclaim(epoch_, 1000)) {
    }
    REQUIRE_FALSE(nodes_.waiting());
    REQUIRE(nodes_.mappings() == 0);
  }
  std::uint64_t told_later = 0;
  std::uint64_t told_no_memory = 0;
  std::uint64_t told_limit = 0;
  std::uint64_t mapped = 0;
  std::uint64_t split = 0;

 private:
  [[nodiscard]] Iova random_address() {
    return {habit_.origin + random_.below(habit_.span) * habit_.granule + random_.below(habit_.granule)};
  }
  [[nodiscard]] IovaRange random_range(std::uint64_t most) {
    const std::uint64_t first = habit_.origin + random_.below(habit_.span) * habit_.granule;
    const std::uint64_t bytes = (1 + random_.below(most)) * habit_.granule;
    return {{first}, {first + std::min(bytes - 1, ~std::uint64_t{0} - first)}};
  }
  [[nodiscard]] Mapping random_mapping() {
    const bool odd = habit_.odd != 0 && random_.chance(1, habit_.odd);
    IovaRange range = random_range(habit_.most);
    std::uint64_t gpa = random_.below(std::uint64_t{1} << 40) * page_size_bytes;
    if (odd) {
      range.first.value += random_.below(habit_.granule);
      range.last.value = std::max(range.first.value, range.last.value - random_.below(habit_.granule));
      gpa += random_.below(page_size_bytes);
    }
    return {range, {gpa}, Rights::in(random_.next()), random_.chance(1, 2)};
  }

  /// All in a window goes, and one mapping comes that is as wide: over the borders of the leaves that were there.
  void one_for_many() {
    Mapping one = random_mapping();
    one.range = random_range(std::max<std::uint64_t>(habit_.span / 8, 1));
    if (const auto found = model_.find(one.range.first)) one.range.first = found->range.first;
    if (const auto found = model_.find(one.range.last)) one.range.last = found->range.last;
    if (random_.chance(1, 3)) {  // up to what is there
      if (const auto found = model_.first_from(one.range.last)) one.range.last.value = found->range.last.value;
    }
    std::vector<Mapping> gone;
    REQUIRE(mappings_.remove(one.range, ~std::size_t{0}, [&](const Mapping& was) { gone.push_back(was); }) ==
            Removed::all);
    REQUIRE(gone == model_.remove(one.range));
    insert(one);
    if (random_.chance(1, 2)) remove(one.range);
  }

  void insert(Mapping one) {
    // The range of before, now and then, as guests use their addresses again.
    if (recent_count_ != 0 && random_.chance(1, 2))
      one.range = recent_[random_.below(std::min(recent_count_, recent_.size()))];
    const Inserted result = mappings_.insert(one);
    if (model_.overlaps(one.range)) {
      REQUIRE(result == Inserted::overlap);
    } else if (model_.size() == limit_) {
      REQUIRE(result == Inserted::limit);
      ++told_limit;
    } else if (result == Inserted::later) {
      REQUIRE(nodes_.waiting());
      ++told_later;
    } else if (result == Inserted::no_memory) {
      REQUIRE(failures_);
      ++told_no_memory;
    } else {
      REQUIRE(result == Inserted::ok);
      model_.insert(one);
      ++mapped;
      if (random_.chance(1, 10)) {  // and is taken back: a consumer has failed
        REQUIRE(mappings_.remove(one.range, 1, [](const Mapping&) {}) == Removed::all);
        REQUIRE(model_.remove(one.range) == std::vector{one});
      }
    }
    look(one.range.first);
    look(one.range.last);
  }

  void remove() {
    IovaRange range = random_range(habit_.most * 4);
    if (model_.size() != 0 && random_.chance(3, 4)) {
      range = model_.nth(random_.below(model_.size())).range;
      if (random_.chance(1, 4)) range.last = model_.nth(random_.below(model_.size())).range.last;
      if (range.last < range.first) return;
      if (random_.chance(1, 12) && range.first < range.last) ++range.first.value;
      if (random_.chance(1, 12) && range.first < range.last) --range.last.value;
    }
    if (random_.chance(1, 300)) range = all_iovas;
    remove(range);
  }
  void remove(IovaRange range) {
    const bool splits = model_.splits(range);
    REQUIRE(mappings_.splits(range) == splits);
    if (splits) {
      ++split;
      REQUIRE(mappings_.remove(range, 100, [](const Mapping&) { FAIL("nothing may go"); }) == Removed::split);
      return look_at_all();
    }
    std::vector<Mapping> gone;
    Removed result = Removed::more;
    while (result == Removed::more)
      result = mappings_.remove(range, 1 + random_.below(20), [&](const Mapping& one) { gone.push_back(one); });
    REQUIRE(result == Removed::all);
    REQUIRE(gone == model_.remove(range));
    for (const Mapping& one : gone) recent_[recent_count_++ % recent_.size()] = one.range;
  }

  void look(Iova iova) {
    REQUIRE(mappings_.find(iova) == model_.find(iova));
    REQUIRE(mappings_.first_from(iova) == model_.first_from(iova));
  }

  const Habit& habit_;
  Random random_;
  bool failures_;
  std::uint64_t limit_;
  std::uint64_t steps_ = 0;
  std::uint64_t epoch_ = 0;
  std::array<IovaRange, 64> recent_{};
  std::size_t recent_count_ = 0;

 public:
  test::CountingAllocator& memory() { return memory_; }

 private:
  test::CountingAllocator memory_;
  MappingNodes nodes_;
  Mappings mappings_{nodes_};
  MappingModel model_;
};

}  // namespace

TEST_CASE("any history of MAP and UNMAP gives what the specification says", "[virtio-iommu][S3.10][S3.12][A28]") {
  for (const Habit& habit : habits) {
    CAPTURE(habit.name);
    std::uint64_t mapped = 0;
    std::uint64_t split = 0;
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      CAPTURE(seed);
      Run run{habit, seed, false, 700};
      for (int i = 0; i < 4000; ++i) run.step();
      run.end();
      mapped += run.mapped;
      split += run.split;
    }
    CHECK(mapped > 1000);
    CHECK(split > 10);
  }
}

TEST_CASE("a tree of many levels is as right as a small one", "[virtio-iommu][S3.10][S3.12]") {
  constexpr std::array large{Habit{"ranges", 0x1234, std::uint64_t{1} << 24, 1000, 900, 0},
                             Habit{"pages", 0, std::uint64_t{1} << 15, page_size_bytes, 2, 300}};
  for (const Habit& habit : large) {
    CAPTURE(habit.name);
    Run run{habit, 5, false, 10'000};
    for (int i = 0; i < 30'000; ++i) run.step();
    run.end();
  }
}

TEST_CASE("whichever allocation fails, a MAP is refused and nothing has changed", "[virtio-iommu][S3.11][S3.13]") {
  std::uint64_t told = 0;
  for (const Habit& habit : habits) {
    CAPTURE(habit.name);
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      CAPTURE(seed);
      Run run{habit, seed, true, 700};
      for (int i = 0; i < 2000; ++i) run.step();
      run.end();
      told += run.told_later + run.told_no_memory;
      CHECK(run.memory().mistakes() == 0);
    }
  }
  CHECK(told > 100);
}

}  // namespace viommu::virtio_iommu
