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
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

constexpr unsigned tag_bits = 4;
constexpr std::size_t tag_count = 15;  // 0 is nobody's
constexpr std::uint8_t all_sizes = bit_of(PageSize::kib4) | bit_of(PageSize::mib2) | bit_of(PageSize::gib1);
constexpr unsigned pages = 6;

Iova page(unsigned number) { return {0x40000000 + number * page_size_bytes}; }
AddressSpaceKey key_of(std::size_t domain) {
  return {{static_cast<std::uint16_t>(domain)}, Interpretation::second_stage, 2, {0x5000}, {low_bits(48)}};
}

/// What a frame says: whose it is, and in which of that address space's lives it was read.
std::uint64_t frame_of(std::size_t domain, std::uint64_t life) { return (life * 64 + domain) << page_shift; }
std::size_t domain_of(Gpa frame) { return frame.value >> page_shift & 63; }
std::uint64_t life_of(Gpa frame) { return (frame.value >> page_shift) / 64; }

class Spaces {
 public:
  explicit Spaces(std::size_t count = 40) {
    REQUIRE(iotlb.reset({}, 64, 3));
    REQUIRE(spaces.reset({}, count, tag_bits, {&epochs, words}, iotlb));
  }
  AddressSpaces* operator->() { return &spaces; }
  [[nodiscard]] static Tag tag_of(const AddressSpace& space) {
    return static_cast<Tag>(space.tag.load(std::memory_order_acquire));
  }
  bool fill(Tag tag, unsigned number, std::uint64_t frame) {
    return iotlb.fill(iotlb.sample(tag, page(number)), tag, page(number), {{frame}, PageSize::kib4, read_write});
  }
  Epochs epochs;
  std::array<EpochWord, 3> words;
  Iotlb iotlb;
  AddressSpaces spaces;
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
  CHECK(tags.count(0) == 0);
  CHECK(*tags.rbegin() == tag_count);
  CHECK(spaces->acquire(key_of(tag_count)) == nullptr);
}

TEST_CASE("a tag that an open reader may have seen is not given out: the table is swept instead",
          "[caches][tags][P3][SEC-10]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  AddressSpace* const other = spaces->acquire(key_of(2));
  spaces.epochs.enter(spaces.words[0]);  // stalls
  std::set<Tag> seen{Spaces::tag_of(*space), Spaces::tag_of(*other)};
  for (std::size_t i = 2; i < tag_count; ++i) {
    spaces->forget(*space);
    REQUIRE(seen.insert(Spaces::tag_of(*space)).second);  // each one new
  }
  CHECK(spaces->sweeps() == 0);
  // Now every tag is in use or was seen.
  for (std::uint64_t sweeps = 1; sweeps <= 50; ++sweeps) {
    const Tag tag = Spaces::tag_of(*space);
    REQUIRE(spaces.fill(tag, 0, frame_of(1, sweeps)));
    REQUIRE(spaces.fill(Spaces::tag_of(*other), 1, frame_of(2, 0)));
    const FillGuard late = spaces.iotlb.sample(tag, page(2));
    spaces->forget(*space);
    CHECK(Spaces::tag_of(*space) == tag);
    CHECK(spaces->sweeps() == sweeps);
    CHECK_FALSE(spaces.iotlb.lookup(tag, page(0), all_sizes));
    CHECK_FALSE(spaces.iotlb.fill(late, tag, page(2), {{0x1000}, PageSize::kib4, read_write}));
    CHECK(spaces.iotlb.lookup(Spaces::tag_of(*other), page(1), all_sizes));
  }
  // An address space that goes and comes back gets nothing either, until the reader has left.
  spaces->release(*other);
  CHECK(spaces->acquire(key_of(2)) == nullptr);
  Epochs::leave(spaces.words[0]);
  CHECK(spaces->acquire(key_of(2)) != nullptr);
  const Tag tag = Spaces::tag_of(*space);
  spaces->forget(*space);
  CHECK(Spaces::tag_of(*space) != tag);
}

TEST_CASE("a reader that enters after a tag was retired does not delay its reuse", "[caches][tags]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  for (unsigned round = 0; round < 10'000; ++round) {
    spaces.epochs.enter(spaces.words[round % 2]);
    spaces->forget(*space);
    Epochs::leave(spaces.words[(round + 1) % 2]);
  }
  // One sweep frees every tag retired so far: about one in 14 rounds.
  CHECK(spaces->sweeps() > 0);
  CHECK(spaces->sweeps() < 1'000);
}

TEST_CASE("a fill that comes after its tag was retired is found by nobody, also when the tag comes back",
          "[caches][tags][P1][P3]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key_of(1));
  for (unsigned round = 0; round < 200; ++round) {
    spaces.epochs.enter(spaces.words[0]);
    const Tag tag = Spaces::tag_of(*space);
    const FillGuard guard = spaces.iotlb.sample(tag, page(0));
    spaces->forget(*space);
    static_cast<void>(spaces.iotlb.fill(guard, tag, page(0), {{0xBAD000}, PageSize::kib4, read_write}));
    Epochs::leave(spaces.words[0]);
    for (std::size_t i = 0; i < tag_count; ++i) {
      REQUIRE_FALSE(spaces.iotlb.lookup(Spaces::tag_of(*space), page(0), all_sizes));
      spaces->forget(*space);
    }
  }
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
          Epochs::leave(spaces.words[reader]);
        } else {
          spaces.epochs.enter(spaces.words[reader]);
        }
        inside[reader] = !inside[reader];
        break;
      }
      default:
        if (slot.space == nullptr) break;
        const auto number = static_cast<unsigned>(random.below(pages));
        const auto found = spaces.iotlb.lookup(Spaces::tag_of(*slot.space), page(number), all_sizes);
        if (found) {
          ++found_some;
          REQUIRE(domain_of(found->frame) == domain);
          REQUIRE(life_of(found->frame) == slot.life);
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
  for (std::size_t reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      test::Random random{reader + 1};
      while (!stop.load(std::memory_order_relaxed)) {
        const std::size_t domain = random.below(domains);
        Slot& slot = slots[domain];
        const auto number = static_cast<unsigned>(random.below(pages));
        spaces.epochs.enter(spaces.words[reader]);
        const std::uint64_t settled = slot.settled.load(std::memory_order_acquire);
        const Tag tag = Spaces::tag_of(*slot.space);
        const auto found = spaces.iotlb.lookup(tag, page(number), all_sizes);
        if (found) {
          hits.fetch_add(1, std::memory_order_relaxed);
          if (domain_of(found->frame) != domain || life_of(found->frame) < settled) ++wrong;
        } else {
          const FillGuard guard = spaces.iotlb.sample(tag, page(number));
          const std::uint64_t frame = frame_of(domain, slot.table.load(std::memory_order_acquire));
          if (random.chance(1, 8)) std::this_thread::yield();  // a walk that takes its time
          static_cast<void>(spaces.iotlb.fill(guard, tag, page(number), {{frame}, PageSize::kib4, read_write}));
        }
        Epochs::leave(spaces.words[reader]);
      }
    });
  }
  test::Random random{99};
  for (unsigned round = 0; round < rounds || hits < 1000; ++round) {
    Slot& slot = slots[random.below(domains)];
    const std::uint64_t life = slot.table.load(std::memory_order_relaxed) + 1;
    slot.table.store(life, std::memory_order_release);
    spaces->forget(*slot.space);
    slot.settled.store(life, std::memory_order_release);
    if (round % 32 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
}

}  // namespace viommu::caches
