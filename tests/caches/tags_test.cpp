// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The life of a tag, with 4-bit tags, so that they are used again and again.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "caches/address_spaces.hpp"
#include "tests/caches/test_epochs.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

constexpr unsigned tag_bits = 4;
constexpr std::size_t tag_count = 15;  // 0 is nobody's
constexpr unsigned pages = 6;

Iova page(unsigned number) { return {0x40000000 + number * page_size_bytes}; }
AddressSpaceKey key_of(std::size_t domain) {
  return {{static_cast<std::uint16_t>(domain)}, Interpretation::second_stage, 2, {0x5000}, {low_bits(48)}};
}

/// What a frame says: whose it is, and in which of that address space's lives it was read.
std::uint64_t frame_of(std::size_t domain, std::uint64_t life) { return (life * 64 + domain) << page_shift; }
std::size_t domain_of(Gpa frame) { return frame.value >> page_shift & 63; }
std::uint64_t life_of(Gpa frame) { return (frame.value >> page_shift) / 64; }

/// Address spaces over a small table, with three readers and a worker that the test calls.
class Spaces {
 public:
  explicit Spaces(std::size_t count = 40) {
    REQUIRE(iotlb.reset({}, 64, 1, 3));
    REQUIRE(structures.reset({}, 16, 1, 3));
    REQUIRE(spaces.reset({}, count, tag_bits, epochs.epochs, {&iotlb, &structures}));
  }
  AddressSpaces* operator->() { return &spaces; }
  [[nodiscard]] static Tag tag_of(const AddressSpace& space) { return space.tag(); }
  [[nodiscard]] auto find(Tag tag, unsigned number) const { return iotlb.lookup({tag, 0}, page(number), all_sizes); }
  [[nodiscard]] FillGuard sample(Tag tag, unsigned number) const {
    return iotlb.sample({tag, 0}, page(number), all_sizes);
  }
  bool fill(const FillGuard& guard, Tag tag, unsigned number, std::uint64_t frame) {
    return iotlb.fill(guard, {tag, 0}, page(number), {{frame}, PageSize::kib4, read_write}, nullptr);
  }
  bool fill(Tag tag, unsigned number, std::uint64_t frame) { return fill(sample(tag, number), tag, number, frame); }
  /// The worker's way: when something runs short, a scan, and then one slice of a sweep a call.
  void work() {
    if (!sweeping_) {
      if (!spaces.short_of_something()) return;
      static_cast<void>(epochs.scan());
      sweeping_ = spaces.begin_sweep();
      next_group_ = 0;
      return;
    }
    const std::size_t slice = (spaces.sweep_groups() + 1) / 2;
    spaces.sweep_slice(next_group_, slice);
    next_group_ += slice;
    if (next_group_ < spaces.sweep_groups()) return;
    spaces.end_sweep();
    sweeping_ = false;
  }
  test::TestEpochs<3> epochs;
  Iotlb iotlb;
  Iotlb structures;
  AddressSpaces spaces;

 private:
  bool sweeping_ = false;
  std::size_t next_group_ = 0;
};

}  // namespace

TEST_CASE("when all tags are live there is no further address space, and never one with a tag of another",
          "[caches][tags][P3][P6]") {
  Spaces spaces;
  std::set<Tag> tags;
  for (std::size_t domain = 0; domain < tag_count; ++domain) {
    const AddressSpace* const space = spaces->acquire(key_of(domain));
    REQUIRE(space != nullptr);
    CHECK(tags.insert(Spaces::tag_of(*space)).second);
  }
  CHECK_FALSE(tags.contains(0));
  CHECK(*tags.rbegin() == tag_count);
  CHECK(spaces->acquire(key_of(tag_count)) == nullptr);
}

TEST_CASE("a tag that an open reader may have seen is not given out: the table is swept instead",
          "[caches][tags][P3][SEC-10]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  AddressSpace* const other = spaces->acquire(key_of(2));
  spaces.epochs.enter(0);  // stalls
  std::set<Tag> seen{Spaces::tag_of(*space), Spaces::tag_of(*other)};
  for (std::size_t i = 2; i < tag_count; ++i) {
    spaces->forget(*space);
    REQUIRE(seen.insert(Spaces::tag_of(*space)).second);  // each one new
    for (unsigned round = 0; round < 10; ++round) spaces.work();
  }
  CHECK(spaces->sweeps() == 0);
  // Now every tag is in use or was seen.
  for (std::uint64_t sweeps = 1; sweeps <= 50; ++sweeps) {
    const Tag tag = Spaces::tag_of(*space);
    REQUIRE(spaces.fill(tag, 0, frame_of(1, sweeps)));
    REQUIRE(spaces.fill(Spaces::tag_of(*other), 1, frame_of(2, 0)));
    const FillGuard late = spaces.sample(tag, 2);
    spaces->forget(*space);
    CHECK(Spaces::tag_of(*space) == tag);
    CHECK(spaces->sweeps() == sweeps);
    CHECK_FALSE(spaces.find(tag, 0));
    CHECK_FALSE(spaces.fill(late, tag, 2, 0x1000));
    CHECK(spaces.find(Spaces::tag_of(*other), 1));
    for (unsigned round = 0; round < 10; ++round) spaces.work();
  }
  // An address space that goes and comes back gets nothing either, until the reader has left.
  spaces->release(*other);
  CHECK(spaces->acquire(key_of(2)) == nullptr);
  CHECK(spaces->short_of_something());
  spaces.epochs.leave(0);
  for (unsigned round = 0; round < 10; ++round) spaces.work();
  CHECK(spaces->acquire(key_of(2)) != nullptr);
  const Tag tag = Spaces::tag_of(*space);
  spaces->forget(*space);
  CHECK(Spaces::tag_of(*space) != tag);
}

TEST_CASE("a reader that enters after a tag was retired does not delay its reuse", "[caches][tags]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  spaces.epochs.enter(1);
  for (unsigned round = 0; round < 10'000; ++round) {
    spaces.epochs.enter(round % 2);
    spaces->forget(*space);
    spaces.epochs.leave((round + 1) % 2);
    spaces.work();
  }
  // One sweep frees every tag that has passed, and begins while a quarter of the tags is still free.
  CHECK(spaces->sweeps() > 0);
  CHECK(spaces->sweeps() < 3'000);
}

TEST_CASE("a fill that comes after its tag was retired is found by nobody, also when the tag comes back",
          "[caches][tags][P1][P3]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  for (unsigned round = 0; round < 200; ++round) {
    spaces.epochs.enter(0);
    const Tag tag = Spaces::tag_of(*space);
    const FillGuard guard = spaces.sample(tag, 0);
    spaces->forget(*space);
    static_cast<void>(spaces.fill(guard, tag, 0, 0xBAD000));
    spaces.epochs.leave(0);
    for (std::size_t i = 0; i < tag_count; ++i) {
      REQUIRE_FALSE(spaces.find(Spaces::tag_of(*space), 0));
      spaces->forget(*space);
      spaces.work();
    }
  }
}

TEST_CASE("a tag that was retired after a sweep began is not freed by it", "[caches][tags][P3]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  for (unsigned round = 0; round < 100; ++round) {
    std::set<Tag> live{Spaces::tag_of(*space)};
    spaces->forget(*space);
    CHECK(spaces.epochs.scan());
    if (!spaces->begin_sweep()) FAIL("nothing to sweep");
    CHECK_FALSE(spaces->begin_sweep());  // one at a time
    const Tag late = Spaces::tag_of(*space);
    REQUIRE(spaces.fill(late, 0, frame_of(1, round)));
    const FillGuard sampled = spaces.sample(late, 1);
    spaces->forget(*space);
    CHECK(spaces.epochs.scan());  // passed, but not swept
    spaces->sweep_slice(0, spaces->sweep_groups());
    // A filler that began before, and has not looked whether the tag is still live.
    static_cast<void>(spaces.fill(sampled, late, 1, frame_of(1, round)));
    spaces->end_sweep();
    for (std::size_t i = 0; i < tag_count - 2; ++i) {
      spaces->forget(*space);
      REQUIRE(Spaces::tag_of(*space) != late);
      REQUIRE_FALSE(spaces.find(Spaces::tag_of(*space), 0));
      REQUIRE_FALSE(spaces.find(Spaces::tag_of(*space), 1));
      if (spaces->sweeps() > 2 * round + 1) break;  // by itself, for want of tags: the late one is free by then
    }
    CHECK(spaces.epochs.scan());
    if (!spaces->begin_sweep()) continue;
    spaces->sweep_slice(0, spaces->sweep_groups());
    spaces->end_sweep();
  }
}

TEST_CASE("address spaces say when tags or objects run short, and no longer when the worker has looked",
          "[caches][tags][P5]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  CHECK_FALSE(spaces->short_of_something());
  unsigned forgotten = 0;
  while (!spaces->short_of_something() && forgotten < 100) {
    spaces->forget(*space);
    ++forgotten;
  }
  CHECK(forgotten == 11);  // of 15 tags one is in use, and short is when four or fewer of 16 are free
  CHECK(spaces->sweeps() == 0);
  spaces.work();
  CHECK_FALSE(spaces->short_of_something());
  while (spaces->sweeps() == 0) spaces.work();
  for (unsigned i = 0; i < 10; ++i) {
    spaces->forget(*space);
    CHECK_FALSE(spaces->short_of_something());
  }

  Spaces few{2};  // and objects: twice as many as can be in use
  for (unsigned i = 0; i < 4; ++i) {
    CHECK_FALSE(few->short_of_something());
    AddressSpace* const other = few->acquire(key_of(i));
    REQUIRE(other != nullptr);
    few->release(*other);
  }
  CHECK(few->acquire(key_of(9)) == nullptr);
  CHECK(few->short_of_something());
  few.work();
  CHECK(few->acquire(key_of(9)) != nullptr);
}

TEST_CASE("there is room for another address space while a tag is free, or waits for its readers",
          "[caches][tags][P6]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  CHECK(spaces->has_room());
  for (std::size_t i = 1; i < tag_count; ++i) spaces->forget(*space);
  CHECK(spaces->acquire(key_of(2)) == nullptr);  // not now
  CHECK(spaces->has_room());                     // but soon
  static_cast<void>(spaces.epochs.scan());
  CHECK(spaces->acquire(key_of(2)) != nullptr);
  for (std::size_t domain = 3; domain <= tag_count; ++domain) REQUIRE(spaces->acquire(key_of(domain)) != nullptr);
  CHECK_FALSE(spaces->has_room());  // all are in use
  CHECK(spaces->short_of_something());
}

TEST_CASE("thousands of reuses of few tags never show one address space another's pages or its own past",
          "[caches][tags][P1][P3][SEC-10]") {
  // One thread, readers that stall at random: what each sees must be of the address space it looks at, and as new.
  struct Slot {
    AddressSpace* space = nullptr;
    std::uint64_t life = 0;  // raised by each forgetting
  };
  Spaces spaces{12};
  std::array<Slot, 20> slots{};
  std::array<bool, 3> inside{};
  test::Random random{11};
  const unsigned steps = test::run_whole() ? 10'000'000 : 60'000;
  unsigned found_some = 0;
  for (unsigned step = 0; step < steps; ++step) {
    const std::size_t domain = random.below(slots.size());
    Slot& slot = slots[domain];
    spaces.work();
    switch (random.below(8)) {
      case 0:
        if (slot.space == nullptr) {
          slot.space = spaces->acquire(key_of(domain));
          ++slot.life;
        }
        break;
      case 1:
        if (slot.space != nullptr && random.chance(1, 4)) {
          spaces->release(*slot.space);
          slot.space = nullptr;
        }
        break;
      case 2:
        if (slot.space != nullptr) {
          spaces->forget(*slot.space);
          ++slot.life;
        }
        break;
      case 3: {
        const std::size_t reader = random.below(inside.size());
        if (inside[reader]) {
          spaces.epochs.leave(reader);
        } else {
          spaces.epochs.enter(reader);
        }
        inside[reader] = !inside[reader];
        break;
      }
      default:
        if (slot.space == nullptr) break;
        const auto number = static_cast<unsigned>(random.below(pages));
        const auto found = spaces.find(Spaces::tag_of(*slot.space), number);
        if (found) {
          ++found_some;
          REQUIRE(domain_of(found->gpa) == domain);
          REQUIRE(life_of(found->gpa) == slot.life);
        }
        static_cast<void>(spaces.fill(Spaces::tag_of(*slot.space), number, frame_of(domain, slot.life)));
    }
  }
  CHECK(found_some > 1000);
  CHECK(spaces->sweeps() > 100);
}

TEST_CASE(
    "readers that look up while tags go round see their own address space, and nothing forgotten before they came",
    "[caches][tags][P1][P3][PR-3]") {
  constexpr std::size_t domains = 4;
  struct Slot {
    AddressSpace* space = nullptr;
    std::atomic<std::uint64_t> table{1};    // the life that a walk finds now
    std::atomic<std::uint64_t> settled{1};  // after the forgetting of all older ones
  };
  const unsigned rounds = test::run_whole() ? 1'000'000 : 5'000;
  Spaces spaces;
  std::array<Slot, domains> slots;
  for (std::size_t domain = 0; domain < domains; ++domain) slots[domain].space = spaces->acquire(key_of(domain));
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> hits{0};
  std::vector<std::thread> readers;
  readers.reserve(2);
  for (std::size_t reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      test::Random random{reader + 1};
      while (!stop.load(std::memory_order_relaxed)) {
        const std::size_t domain = random.below(domains);
        Slot& slot = slots[domain];
        const auto number = static_cast<unsigned>(random.below(pages));
        spaces.epochs.enter(reader);
        const std::uint64_t settled = slot.settled.load(std::memory_order_acquire);
        const Tag tag = Spaces::tag_of(*slot.space);
        const auto found = spaces.find(tag, number);
        if (found) {
          hits.fetch_add(1, std::memory_order_relaxed);
          if (domain_of(found->gpa) != domain || life_of(found->gpa) < settled) ++wrong;
        } else {
          const FillGuard guard = spaces.sample(tag, number);
          const std::uint64_t frame = frame_of(domain, slot.table.load(std::memory_order_acquire));
          if (random.chance(1, 8)) std::this_thread::yield();  // a walk that takes its time
          static_cast<void>(spaces.fill(guard, tag, number, frame));
        }
        spaces.epochs.leave(reader);
      }
    });
  }
  // One that stays inside for long, with the tags that it loaded at first.
  readers.emplace_back([&] {
    test::Random random{77};
    while (!stop.load(std::memory_order_relaxed)) {
      spaces.epochs.enter(2);
      std::array<Tag, domains> loaded{};
      std::array<std::uint64_t, domains> settled{};
      for (std::size_t domain = 0; domain < domains; ++domain) {
        settled[domain] = slots[domain].settled.load(std::memory_order_acquire);
        loaded[domain] = Spaces::tag_of(*slots[domain].space);
      }
      for (unsigned look = 0; look < 200; ++look) {
        const std::size_t domain = random.below(domains);
        const auto found = spaces.find(loaded[domain], static_cast<unsigned>(random.below(pages)));
        if (found && (domain_of(found->gpa) != domain || life_of(found->gpa) < settled[domain])) ++wrong;
        if (look % 50 == 0) std::this_thread::yield();
      }
      spaces.epochs.leave(2);
    }
  });
  test::Random random{99};
  for (unsigned round = 0; round < rounds || hits < 1000; ++round) {
    Slot& slot = slots[random.below(domains)];
    const std::uint64_t life = slot.table.load(std::memory_order_relaxed) + 1;
    slot.table.store(life, std::memory_order_release);
    spaces->forget(*slot.space);
    slot.settled.store(life, std::memory_order_release);
    spaces.work();
    if (round % 32 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
}

}  // namespace viommu::caches
