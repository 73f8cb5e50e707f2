// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Translations that come as messages: what a back end finds, what it asks for, and what it logs.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/message_iotlb.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

using Parts = std::vector<Part>;
using Misses = std::vector<Asked>;

}  // namespace

// ---- Ranges ----

TEST_CASE("neighbours in both spaces with the same rights are one range and one piece", "[message-iotlb][VMM-1]") {
  MessageIotlb iotlb;
  SECTION("they join on either side") {
    REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0x3000, 0x3FFF, 0x83000) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 2);
    REQUIRE(iotlb.update(0x2000, 0x2FFF, 0x82000) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 1);
    CHECK(iotlb.parts(0x1000, 0x3000) == Parts{{0x1000, 0x81000, 0x3000}});
    CHECK(iotlb.end.stopped == VIOMMU_IOTLB_COMPLETE);
    CHECK(iotlb.end.translated == 0x3000);
  }
  SECTION("a target that follows at an address that does not is another range") {
    REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0x3000, 0x3FFF, 0x82000) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 2);
    CHECK(iotlb.parts(0x1000, 0x3000) == Parts{{0x1000, 0x81000, 0x1000}});
  }
  SECTION("an address that follows with a target that does not is another piece") {
    REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0x2000, 0x2FFF, 0x81000) == VIOMMU_OK);
    CHECK(iotlb.parts(0x1800, 0x1000) == Parts{{0x1800, 0x81800, 0x800}, {0x2000, 0x81000, 0x800}});
  }
  SECTION("other rights are another piece") {
    REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000, reads) == VIOMMU_OK);
    REQUIRE(iotlb.update(0x2000, 0x2FFF, 0x82000) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 2);
    CHECK(iotlb.parts(0x1000, 0x2000) == Parts{{0x1000, 0x81000, 0x1000, reads}, {0x2000, 0x82000, 0x1000}});
  }
  SECTION("nothing follows the last address, of either space") {
    REQUIRE(iotlb.update(top_address, top_address, 0x5000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0, 0, 0x5001) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 2);
    REQUIRE(iotlb.update(0x1000, 0x1FFF, top_address - 0xFFF) == VIOMMU_OK);
    REQUIRE(iotlb.update(0x2000, 0x2FFF, 0) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 4);
    CHECK(iotlb.parts(0x1000, 0x2000) == Parts{{0x1000, top_address - 0xFFF, 0x1000}, {0x2000, 0, 0x1000}});
  }
}

TEST_CASE("an invalidation inside a range leaves both ends of it", "[message-iotlb][VMM-2]") {
  MessageIotlb iotlb;
  REQUIRE(iotlb.update(0x1000, 0x8FFF, 0x81000, reads) == VIOMMU_OK);
  SECTION("in the middle") {
    iotlb.invalidate(0x3000, 0x4FFF);
    CHECK(iotlb.figures().ranges == 2);
    CHECK(iotlb.parts(0x1000, 0x2000) == Parts{{0x1000, 0x81000, 0x2000, reads}});
    CHECK(iotlb.parts(0x5000, 0x4000) == Parts{{0x5000, 0x85000, 0x4000, reads}});
    CHECK(iotlb.target(0x2FFF) == 0x82FFF);
    CHECK(iotlb.target(0x3000) == top_address);
    CHECK(iotlb.target(0x4FFF) == top_address);
    CHECK(iotlb.target(0x5000) == 0x85000);
  }
  SECTION("at the beginning, and past it") {
    iotlb.invalidate(0, 0x1000);
    CHECK(iotlb.target(0x1000) == top_address);
    CHECK(iotlb.parts(0x1001, 0x7FFF) == Parts{{0x1001, 0x81001, 0x7FFF, reads}});
  }
  SECTION("at the end, and past it") {
    iotlb.invalidate(0x8FFF, top_address);
    CHECK(iotlb.target(0x8FFF) == top_address);
    CHECK(iotlb.parts(0x1000, 0x7FFF) == Parts{{0x1000, 0x81000, 0x7FFF, reads}});
  }
  SECTION("from one range into another, with one between them") {
    REQUIRE(iotlb.update(0xA000, 0xAFFF, 0x1000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0xC000, 0xDFFF, 0x9000) == VIOMMU_OK);
    iotlb.invalidate(0x8800, 0xC7FF);
    CHECK(iotlb.figures().ranges == 2);
    CHECK(iotlb.target(0x87FF) == 0x887FF);
    CHECK(iotlb.target(0x8800) == top_address);
    CHECK(iotlb.target(0xA000) == top_address);
    CHECK(iotlb.target(0xC7FF) == top_address);
    CHECK(iotlb.target(0xC800) == 0x9800);
  }
  SECTION("of the whole range, or of all there is") {
    const bool all = GENERATE(false, true);
    iotlb.invalidate(all ? 0 : 0x1000, all ? top_address : 0x8FFF);
    CHECK(iotlb.figures().ranges == 0);
    CHECK(iotlb.target(0x1000) == top_address);
  }
  SECTION("of what only touches it") {
    iotlb.invalidate(0, 0xFFF);
    iotlb.invalidate(0x9000, 0x9FFF);
    CHECK(iotlb.parts(0x1000, 0x8000) == Parts{{0x1000, 0x81000, 0x8000, reads}});
  }
}

TEST_CASE("an update over what is there replaces it, and keeps what sticks out", "[message-iotlb][VMM-2][VMM-3]") {
  MessageIotlb iotlb;
  REQUIRE(iotlb.update(0x1000, 0x8FFF, 0x81000) == VIOMMU_OK);
  SECTION("another target at once") {
    REQUIRE(iotlb.update(0x3000, 0x3FFF, 0x20000, reads) == VIOMMU_OK);
    CHECK(iotlb.parts(0x1000, 0x8000) ==
          Parts{{0x1000, 0x81000, 0x2000}, {0x3000, 0x20000, 0x1000, reads}, {0x4000, 0x84000, 0x5000}});
    REQUIRE(iotlb.update(0x1000, 0x8FFF, 0x50000) == VIOMMU_OK);
    CHECK(iotlb.parts(0x1000, 0x8000) == Parts{{0x1000, 0x50000, 0x8000}});
    CHECK(iotlb.figures().ranges == 1);
  }
  SECTION("the same again changes nothing") {
    const std::uint64_t calls = iotlb.memory.calls();
    REQUIRE(iotlb.update(0x2000, 0x3FFF, 0x82000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0x1000, 0x8FFF, 0x81000) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 1);
    CHECK(iotlb.memory.calls() == calls);
  }
  SECTION("what goes on alike beyond both ends is still one range") {
    REQUIRE(iotlb.update(0x4000, 0xFFFF, 0x84000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0, 0x1FFF, 0x80000) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges == 1);
    CHECK(iotlb.parts(0, 0x10000) == Parts{{0, 0x80000, 0x10000}});
  }
}

TEST_CASE("all of 2^64 is one range", "[message-iotlb][B108]") {
  MessageIotlb iotlb;
  REQUIRE(iotlb.update(0, top_address, 0, reads) == VIOMMU_OK);
  CHECK(iotlb.figures().ranges == 1);
  CHECK(iotlb.target(0) == 0);
  CHECK(iotlb.target(top_address) == top_address);
  CHECK(iotlb.end.stopped == VIOMMU_IOTLB_COMPLETE);
  CHECK(iotlb.parts(0, top_address) == Parts{{0, 0, top_address, reads}});
  CHECK(iotlb.parts(1, top_address) == Parts{{1, 1, top_address, reads}});
  iotlb.invalidate(0x1000, 0x1FFF);
  CHECK(iotlb.figures().ranges == 2);
  CHECK(iotlb.parts(0x2000, top_address - 0x1FFF) == Parts{{0x2000, 0x2000, top_address - 0x1FFF, reads}});
  CHECK(iotlb.target(0xFFF) == 0xFFF);
  iotlb.invalidate(0, top_address);
  CHECK(iotlb.figures().ranges == 0);
  CHECK(iotlb.target(top_address) == top_address);
  CHECK(iotlb.end.stopped == VIOMMU_IOTLB_MISSING);
  CHECK(iotlb.take_asked().back() == Asked{top_address, top_address});
}

TEST_CASE("ranges that wrap, lead past the end or to nowhere are refused", "[message-iotlb][B107][B112]") {
  MessageIotlb iotlb;
  CHECK(iotlb.update(0x2000, 0x1FFF, 0) == VIOMMU_E_ARGUMENT);
  CHECK(iotlb.update(0x1000, 0x1FFF, 0, 0) == VIOMMU_E_ARGUMENT);
  CHECK(iotlb.update(0x1000, 0x1FFF, 0, 4) == VIOMMU_E_ARGUMENT);
  CHECK(iotlb.update(0x1000, 0x1FFF, top_address - 0xFFE) == VIOMMU_E_RANGE);
  CHECK(iotlb.update(0, top_address, 1) == VIOMMU_E_RANGE);
  CHECK(iotlb.update(0x1000, 0x1000, top_address) == VIOMMU_E_RANGE);  // what a failed mmap() says
  CHECK(iotlb.update(0x1000, 0x1FFF, top_address - 0xFFF) == VIOMMU_OK);
  CHECK(viommu_iotlb_invalidate(iotlb.iotlb, 1, 0, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_failed(iotlb.iotlb, 1, 0) == VIOMMU_E_ARGUMENT);
  viommu_iotlb_piece piece{};
  viommu_iotlb_end end{7, 7, 7};
  const auto translate = [&](std::uint64_t iova, std::uint64_t length, std::uint32_t access, std::uint32_t capacity) {
    return viommu_iotlb_translate_range(iotlb.reader, iova, length, access, &piece, capacity, &end);
  };
  CHECK(translate(top_address - 6, 8, reads, 1) == VIOMMU_E_ARGUMENT);
  CHECK(translate(1, top_address, 0, 1) == VIOMMU_E_ARGUMENT);
  CHECK(translate(0x1000, 0, reads, 1) == VIOMMU_E_ARGUMENT);
  CHECK(translate(0x1000, 1, 8, 1) == VIOMMU_E_ARGUMENT);
  CHECK(translate(0x1000, 1, reads, 0) == VIOMMU_E_ARGUMENT);
  CHECK(end.pieces == 7);
  CHECK(iotlb.asked.empty());
  CHECK(iotlb.figures().ranges == 1);
}

// ---- Buffers ----

TEST_CASE("a buffer that ends outside what is there is translated as far as it goes", "[message-iotlb][B102][VMM-3]") {
  MessageIotlb iotlb;
  REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000) == VIOMMU_OK);
  CHECK(iotlb.parts(0x1000, 0x2000) == Parts{{0x1000, 0x81000, 0x1000}});
  CHECK(iotlb.end.translated == 0x1000);
  CHECK(iotlb.end.stopped == VIOMMU_IOTLB_MISSING);
  CHECK(iotlb.take_asked() == Misses{{0x2000, 0x2FFF}});
  REQUIRE(iotlb.update(0x2000, 0x2FFF, 0x20000, reads) == VIOMMU_OK);
  CHECK(iotlb.parts(0x1000, 0x2000, writes) == Parts{{0x1000, 0x81000, 0x1000}});
  CHECK(iotlb.end.stopped == VIOMMU_IOTLB_DENIED);
  CHECK(iotlb.take_asked() == Misses{{0x2000, 0x2FFF, writes}});
}

TEST_CASE("a buffer takes the entries it needs and no other", "[message-iotlb][B109]") {
  MessageIotlb iotlb;
  for (std::uint64_t page = 1; page <= 5; ++page)
    REQUIRE(iotlb.update(page << 12, (page << 12) + 0xFFF, (0x90 - 2 * page) << 12) == VIOMMU_OK);
  CHECK(iotlb.parts(0x1F00, 0x1200) ==
        Parts{{0x1F00, 0x8EF00, 0x100}, {0x2000, 0x8C000, 0x1000}, {0x3000, 0x8A000, 0x100}});
  CHECK(iotlb.end.translated == 0x1200);
  CHECK(iotlb.parts(0x1F00, 0x1200, reads, 2) == Parts{{0x1F00, 0x8EF00, 0x100}, {0x2000, 0x8C000, 0x1000}});
  CHECK(iotlb.end.stopped == VIOMMU_IOTLB_FULL);
  CHECK(iotlb.end.translated == 0x1100);
  // A buffer that ends with an entry does not look behind it.
  CHECK(iotlb.parts(0x5000, 0x1000).size() == 1);
  CHECK(iotlb.asked.empty());
}

TEST_CASE("each missing range of a buffer is asked for once, and exactly", "[message-iotlb][VMM-3]") {
  viommu_iotlb_options options{};
  options.repeat = 5;
  MessageIotlb iotlb{options};
  REQUIRE(iotlb.update(0x2000, 0x2FFF, 0x82000) == VIOMMU_OK);
  REQUIRE(iotlb.update(0x4000, 0x4FFF, 0x84000, writes) == VIOMMU_OK);
  CHECK(iotlb.parts(0x1800, 0x4000).empty());
  CHECK(iotlb.take_asked() == Misses{{0x1800, 0x1FFF}, {0x3000, 0x57FF}});  // 4000h may not be read
  SECTION("not again while it waits, nor for a part of it") {
    iotlb.parts(0x1800, 0x4000);
    iotlb.parts(0x1900, 8);
    CHECK(iotlb.asked.empty());
    CHECK(iotlb.figures().misses == 2);
    CHECK(iotlb.figures().repeated == 3);
  }
  SECTION("for another right") {
    iotlb.parts(0x1800, 8, reads_and_writes);
    CHECK(iotlb.take_asked() == Misses{{0x1800, 0x1807, reads_and_writes}});
    iotlb.parts(0x1800, 8, writes);
    CHECK(iotlb.asked.empty());
  }
  SECTION("what an answer left open is asked for") {
    REQUIRE(iotlb.update(0x1800, 0x1BFF, 0x50000) == VIOMMU_OK);
    iotlb.parts(0x1800, 0x800);
    CHECK(iotlb.take_asked() == Misses{{0x1C00, 0x1FFF}});
  }
  SECTION("after a failure, or an invalidation") {
    const bool failed = GENERATE(false, true);
    if (failed) {
      REQUIRE(viommu_iotlb_failed(iotlb.iotlb, 0x1900, 0x19FF) == VIOMMU_OK);
    } else {
      iotlb.invalidate(0x1900, 0x19FF);
    }
    iotlb.parts(0x1800, 0x4000);
    CHECK(iotlb.take_asked() == Misses{{0x1800, 0x1FFF}});
  }
  SECTION("when nobody answers") {
    for (int i = 0; i < 4; ++i) iotlb.parts(0x1800, 1);
    CHECK(iotlb.asked.empty());
    iotlb.parts(0x1800, 1);
    CHECK(iotlb.take_asked() == Misses{{0x1800, 0x1800}});
  }
  SECTION("an answer makes the buffer whole") {
    REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000) == VIOMMU_OK);
    REQUIRE(iotlb.update(0x3000, 0x5FFF, 0x83000) == VIOMMU_OK);
    CHECK(iotlb.parts(0x1800, 0x4000) == Parts{{0x1800, 0x81800, 0x4000}});
    CHECK(iotlb.asked.empty());
  }
}

TEST_CASE("no more than eight ranges are asked for at once, and the rest behind them", "[message-iotlb][VMM-3]") {
  MessageIotlb iotlb;
  for (std::uint64_t page = 1; page < 40; page += 2)
    REQUIRE(iotlb.update(page << 12, (page << 12) + 0xFFF, page << 20) == VIOMMU_OK);
  iotlb.parts(0, 40 << 12);
  REQUIRE(iotlb.take_asked().size() == 8);
  for (std::uint64_t page = 0; page < 16; page += 2)
    REQUIRE(iotlb.update(page << 12, (page << 12) + 0xFFF, page << 20) == VIOMMU_OK);
  iotlb.parts(0, 40 << 12);
  CHECK(iotlb.asked.size() == 8);
  CHECK(iotlb.asked.front() == Asked{0x10000, 0x10FFF});
}

TEST_CASE("a range is mapped on demand inside the miss, with nothing locked and no guard open",
          "[message-iotlb][VMM-3][B103]") {
  MessageIotlb iotlb;
  REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000) == VIOMMU_OK);
  unsigned calls = 0;
  iotlb.on_miss = [&](const Asked& asked) {
    ++calls;
    // The feeder's thread does its work meanwhile: what this thread held would keep it from it for ever.
    std::thread{[&] {
      viommu_iotlb_reader* reader = nullptr;
      REQUIRE(viommu_iotlb_reader_create(iotlb.iotlb, &reader) == VIOMMU_OK);
      REQUIRE(viommu_iotlb_reader_destroy(reader) == VIOMMU_OK);
      CHECK(iotlb.drained(iotlb.invalidate(0x1000, 0x17FF)));
      REQUIRE(iotlb.update(asked.first, asked.last, asked.first + 0x80000) == VIOMMU_OK);
    }}.join();
    CHECK(iotlb.target(asked.first) == asked.first + 0x80000);  // and so may the callback
  };
  SECTION("of a call without a guard") {
    CHECK(iotlb.parts(0x1800, 0x1000).size() == 1);
    CHECK(calls == 1);
  }
  SECTION("of a guard: when the outermost ends") {
    viommu_iotlb_enter(iotlb.reader);
    viommu_iotlb_enter(iotlb.reader);
    iotlb.parts(0x1800, 0x1000);
    viommu_iotlb_leave(iotlb.reader);
    CHECK(calls == 0);
    CHECK(viommu_iotlb_reader_destroy(iotlb.reader) == VIOMMU_E_BUSY);
    viommu_iotlb_leave(iotlb.reader);
    CHECK(calls == 1);
    viommu_iotlb_leave(iotlb.reader);
  }
  CHECK(iotlb.parts(0x1800, 0x1000) == Parts{{0x1800, 0x81800, 0x1000}});
}

TEST_CASE("an invalidation has drained when the guards that were open have ended", "[message-iotlb][B103][P2]") {
  MessageIotlb iotlb;
  REQUIRE(iotlb.update(0x1000, 0x1FFF, 0x81000) == VIOMMU_OK);
  viommu_iotlb_enter(iotlb.reader);
  CHECK(iotlb.target(0x1000) == 0x81000);
  const std::uint64_t ticket = iotlb.invalidate(0x1000, 0x1FFF);
  CHECK_FALSE(iotlb.drained(ticket));
  CHECK(iotlb.target(0x1000) == top_address);
  viommu_iotlb_leave(iotlb.reader);
  viommu_iotlb_enter(iotlb.reader);
  CHECK(iotlb.drained(ticket));
  viommu_iotlb_leave(iotlb.reader);
}

// ---- Quotas and memory ----

TEST_CASE("what the quota has no room for pushes out something else", "[message-iotlb][SEC-10]") {
  viommu_iotlb_options options{};
  options.ranges = 8;
  MessageIotlb iotlb{options};
  for (std::uint64_t i = 0; i < 100; ++i) {
    REQUIRE(iotlb.update(i << 20, (i << 20) + 0xFFF, i << 30) == VIOMMU_OK);
    CHECK(iotlb.figures().ranges <= 8);
    CHECK(iotlb.target(i << 20) == i << 30);
  }
  CHECK(iotlb.figures().evicted == 92);
  // Cutting what is there needs room, too.
  iotlb.invalidate(0, top_address);
  REQUIRE(iotlb.update(0, 0xFFFFFF, 0) == VIOMMU_OK);
  for (std::uint64_t i = 1; i < 20; ++i) {
    iotlb.invalidate(i << 13, (i << 13) + 0xFFF);
    CHECK(iotlb.figures().ranges <= 8);
    CHECK(iotlb.target((i << 13) + 0x1000) == (i << 13) + 0x1000);
    CHECK(iotlb.target(i << 13) == top_address);
  }
}

TEST_CASE("an open guard keeps memory, and never more than the bound", "[message-iotlb][SEC-10]") {
  viommu_iotlb_options options{};
  options.ranges = 64;
  MessageIotlb iotlb{options};
  viommu_iotlb_enter(iotlb.reader);
  Random random{1};
  unsigned refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t at = random.below(256) << 12;
    const viommu_result result = iotlb.update(at, at + 0xFFF, random.below(1 << 20) << 12);
    if (result == VIOMMU_E_BUSY)
      ++refused;
    else
      REQUIRE(result == VIOMMU_OK);
    if (i % 3 == 0) iotlb.invalidate(at, at + 0x800);
    REQUIRE(iotlb.figures().bytes <= 64 * 256 + 0x10000);
  }
  CHECK(refused > 0);
  viommu_iotlb_leave(iotlb.reader);
  CHECK(iotlb.update(0x5000, 0x5FFF, 0x1000) == VIOMMU_OK);
  CHECK(iotlb.target(0x5000) == 0x1000);
}

TEST_CASE("a missing block of memory is an answer, and leaves no old translation", "[message-iotlb][SEC-15]") {
  for (std::uint64_t k = 1; k < 12; ++k) {
    MessageIotlb iotlb;
    REQUIRE(iotlb.update(0x1000, 0x8FFF, 0x81000) == VIOMMU_OK);
    iotlb.memory.fail_at(k);
    const viommu_result result = iotlb.update(0x3000, 0x4FFF, 0x20000);
    CHECK((result == VIOMMU_OK || result == VIOMMU_E_MEMORY));
    const std::uint64_t there = iotlb.target(0x3000);
    CHECK((there == 0x20000 || there == top_address));
    iotlb.memory.fail_at(k);
    iotlb.invalidate(0x6000, 0x6FFF);
    CHECK(iotlb.target(0x6000) == top_address);
    CHECK((iotlb.target(0x8FFF) == 0x88FFF || iotlb.target(0x8FFF) == top_address));
    iotlb.memory.fail_at(0);
  }
  CountingAllocator memory;
  viommu_iotlb_options options{};
  options.size = sizeof options;
  options.opaque = &memory;
  options.allocate = [](void* opaque, std::size_t size, std::size_t alignment) {
    return static_cast<CountingAllocator*>(opaque)->allocate(size, alignment);
  };
  options.deallocate = [](void* opaque, void* block, std::size_t size, std::size_t alignment) {
    static_cast<CountingAllocator*>(opaque)->deallocate(block, size, alignment);
  };
  viommu_iotlb* iotlb = nullptr;
  std::uint64_t refused = 0;
  for (;; ++refused) {
    memory.fail_at(refused + 1);
    const viommu_result created = viommu_iotlb_create(&options, &iotlb);
    if (created == VIOMMU_OK) break;
    REQUIRE(created == VIOMMU_E_MEMORY);
    CHECK(iotlb == nullptr);
    CHECK(memory.open_blocks() == 0);
  }
  CHECK(refused >= 4);
  CHECK(viommu_iotlb_destroy(iotlb) == VIOMMU_OK);
  CHECK(memory.open_blocks() == 0);
}

TEST_CASE("options that make no sense are refused, and readers are counted", "[message-iotlb]") {
  viommu_iotlb* iotlb = nullptr;
  viommu_iotlb_options options{};
  CHECK(viommu_iotlb_create(&options, &iotlb) == VIOMMU_E_ARGUMENT);
  options.size = sizeof options;
  const auto refused = [&](auto change) {
    viommu_iotlb_options changed = options;
    change(changed);
    return viommu_iotlb_create(&changed, &iotlb) == VIOMMU_E_ARGUMENT;
  };
  CHECK(refused([](auto& o) { o.ranges = 7; }));
  CHECK(refused([](auto& o) { o.ranges = (1 << 24) + 1; }));
  CHECK(refused([](auto& o) { o.readers = 4097; }));
  CHECK(refused([](auto& o) { o.misses = 4097; }));
  CHECK(refused([](auto& o) { o.reserved = 1; }));
  CHECK(refused([](auto& o) { o.deallocate = [](void*, void*, std::size_t, std::size_t) {}; }));
  options.readers = 2;
  REQUIRE(viommu_iotlb_create(&options, &iotlb) == VIOMMU_OK);
  std::array<viommu_iotlb_reader*, 3> readers{};
  CHECK(viommu_iotlb_reader_create(iotlb, readers.data()) == VIOMMU_OK);
  CHECK(viommu_iotlb_reader_create(iotlb, &readers[1]) == VIOMMU_OK);
  CHECK(viommu_iotlb_reader_create(iotlb, &readers[2]) == VIOMMU_E_LIMIT);
  CHECK(viommu_iotlb_destroy(iotlb) == VIOMMU_E_BUSY);
  CHECK(viommu_iotlb_reader_destroy(readers[0]) == VIOMMU_OK);
  CHECK(viommu_iotlb_reader_create(iotlb, &readers[2]) == VIOMMU_OK);
  CHECK(viommu_iotlb_reader_destroy(readers[1]) == VIOMMU_OK);
  CHECK(viommu_iotlb_reader_destroy(readers[2]) == VIOMMU_OK);
  CHECK(viommu_iotlb_destroy(iotlb) == VIOMMU_OK);
  CHECK(viommu_iotlb_destroy(nullptr) == VIOMMU_OK);
  CHECK(viommu_iotlb_reader_destroy(nullptr) == VIOMMU_OK);
  viommu_iotlb_enter(nullptr);
  viommu_iotlb_leave(nullptr);
  CHECK(viommu_iotlb_create(nullptr, &iotlb) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_update(nullptr, 0, 1, 0, reads) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_invalidate(nullptr, 0, 1, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_failed(nullptr, 0, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_drained(nullptr, 0, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_log_set(nullptr, nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_written(nullptr, nullptr, 0) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_iotlb_figures_get(nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  // The binary interface: these only ever grow.
  CHECK((sizeof(viommu_iotlb_options) == 64 && sizeof(viommu_iotlb_log) == 56 && sizeof(viommu_iotlb_figures) == 72));
  CHECK((sizeof(viommu_iotlb_piece) == 32 && sizeof(viommu_iotlb_end) == 16 && sizeof(viommu_iotlb_region) == 24));
}

// ---- Writes ----

namespace {

struct Dirty {
  std::vector<Part> told;  ///< target: the gpa
  std::vector<std::uint8_t> bitmap = std::vector<std::uint8_t>(64);

  viommu_iotlb_log log() {
    viommu_iotlb_log made{};
    made.size = sizeof made;
    made.opaque = this;
    made.bitmap = bitmap.data();
    made.bitmap_bytes = bitmap.size() / 2;  // what is behind it must stay as it is
    made.dirty = [](void* opaque, std::uint64_t iova, std::uint64_t gpa, std::uint64_t length) {
      static_cast<Dirty*>(opaque)->told.push_back({iova, gpa, length, 0});
    };
    return made;
  }
  /// Guest pages that are dirty.
  [[nodiscard]] std::vector<std::uint64_t> pages() const {
    std::vector<std::uint64_t> set;
    for (std::uint64_t page = 0; page < bitmap.size() * 8; ++page)
      if ((bitmap[page / 8] >> (page % 8) & 1) != 0) set.push_back(page);
    return set;
  }
};
using Pages = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("writes are logged by guest address, not by the device's", "[message-iotlb][B110][VMM-3]") {
  MessageIotlb iotlb;
  Dirty dirty;
  viommu_iotlb_log log = dirty.log();
  // The device's addresses are above all guest memory, the back end's own are elsewhere again.
  const std::array<viommu_iotlb_region, 2> regions{
      {{0x7F00'0010'0000, 0x80000, 0x10000}, {0x7F00'0000'0000, 0, 0x20000}}};
  log.regions = regions.data();
  log.region_count = 2;
  REQUIRE(iotlb.update(0xFFFF'0000, 0xFFFF'7FFF, 0x7F00'0000'4000) == VIOMMU_OK);
  REQUIRE(iotlb.update(0xFFFF'8000, 0xFFFF'8FFF, 0x7F00'0010'1000) == VIOMMU_OK);
  std::array<viommu_iotlb_piece, 4> pieces{};
  viommu_iotlb_end end{};
  REQUIRE(viommu_iotlb_translate_range(iotlb.reader, 0xFFFF'6FFF, 0x1002, writes, pieces.data(), 4, &end) == VIOMMU_OK);
  REQUIRE(end.pieces == 2);
  CHECK(viommu_iotlb_written(iotlb.reader, pieces.data(), 2) == VIOMMU_OK);
  CHECK(dirty.pages().empty());  // nothing is logged yet
  REQUIRE(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_OK);
  CHECK(viommu_iotlb_written(iotlb.reader, pieces.data(), 2) == VIOMMU_OK);
  CHECK(dirty.pages() == Pages{0xA, 0xB, 0x81});
  CHECK(dirty.told == Parts{{0xFFFF'6FFF, 0xAFFF, 0x1001, 0}, {0xFFFF'8000, 0x81000, 1, 0}});
}

TEST_CASE("a write outside guest memory, or past the bitmap, is told and sets no bit", "[message-iotlb][B110][B112]") {
  MessageIotlb iotlb;
  Dirty dirty;
  viommu_iotlb_log log = dirty.log();
  const auto written = [&](std::uint64_t target, std::uint64_t length) {
    const viommu_iotlb_piece piece{0x9000, target, length, 2, {}};
    return viommu_iotlb_written(iotlb.reader, &piece, 1);
  };
  SECTION("without regions a target is the guest's address") {
    REQUIRE(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_OK);
    CHECK(written(0xFE000, 0x1000) == VIOMMU_OK);
    CHECK(written(0xFF000, 0x1001) == VIOMMU_E_RANGE);  // the last page of the bitmap, and one byte more
    CHECK(written(top_address - 0xFFF, 0x1000) == VIOMMU_E_RANGE);
    CHECK(written(top_address - 0xFFE, 0x1000) == VIOMMU_E_RANGE);  // past 2^64
    CHECK(written(0x1000, 0) == VIOMMU_E_RANGE);
    CHECK(dirty.pages() == Pages{0xFE, 0xFF});
  }
  SECTION("between and around regions") {
    const std::array<viommu_iotlb_region, 2> regions{{{0x100000, 0x10000, 0x2000}, {0x103000, 0x40000, 0x1000}}};
    log.regions = regions.data();
    log.region_count = 2;
    REQUIRE(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_OK);
    CHECK(written(0xFF000, 0x1000) == VIOMMU_E_RANGE);
    CHECK(dirty.pages().empty());
    CHECK(written(0xFFFFF, 0x10000) == VIOMMU_E_RANGE);
    CHECK(dirty.pages() == Pages{0x10, 0x11, 0x40});
    CHECK(dirty.told == Parts{{0x9001, 0x10000, 0x2000, 0}, {0xC001, 0x40000, 0x1000, 0}});
  }
  SECTION("regions that make no sense") {
    const auto refused = [&](std::array<viommu_iotlb_region, 2> regions) {
      log.regions = regions.data();
      log.region_count = 2;
      return viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_E_ARGUMENT;
    };
    CHECK(refused({{{0x1000, 0, 0x1000}, {0x1FFF, 0x8000, 0x1000}}}));
    CHECK(refused({{{0x1000, 0, 0x1000}, {0x8000, 0, 0}}}));
    CHECK(refused({{{0x1000, 0, 0x1000}, {top_address - 0xFFE, 0, 0x1000}}}));
    CHECK(refused({{{0x1000, top_address - 0xFFE, 0x1000}, {0x8000, 0, 0x1000}}}));
    CHECK_FALSE(refused({{{0x1000, 0, 0x1000}, {top_address - 0xFFF, top_address - 0xFFF, 0x1000}}}));
    CHECK(written(0x1000, 0) == VIOMMU_E_RANGE);
    log.region_count = 4097;
    CHECK(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_E_ARGUMENT);
  }
}

TEST_CASE("a log is used until the guards have ended that may have found it", "[message-iotlb][B110]") {
  MessageIotlb iotlb;
  Dirty first;
  const viommu_iotlb_log log = first.log();
  const viommu_iotlb_piece piece{0x9000, 0x5000, 0x1000, 2, {}};
  REQUIRE(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_OK);
  viommu_iotlb_enter(iotlb.reader);
  std::uint64_t ticket = 0;
  REQUIRE(viommu_iotlb_log_set(iotlb.iotlb, nullptr, &ticket) == VIOMMU_OK);
  CHECK_FALSE(iotlb.drained(ticket));
  CHECK(viommu_iotlb_written(iotlb.reader, &piece, 1) == VIOMMU_OK);
  CHECK(first.told.empty());
  for (int i = 0; i < 8; ++i) REQUIRE(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_OK);
  CHECK(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_E_BUSY);
  viommu_iotlb_leave(iotlb.reader);
  CHECK(iotlb.drained(ticket));
  CHECK(viommu_iotlb_log_set(iotlb.iotlb, &log, nullptr) == VIOMMU_OK);
}

// ---- Against a plain map of bytes ----

namespace {

struct Leads {
  std::uint64_t shift = 0;  ///< target - iova
  std::uint32_t rights = 0;
  friend bool operator==(const Leads&, const Leads&) = default;
};
/// What each address leads to, kept as the borders at which that changes.
class Model {
 public:
  void set(std::uint64_t first, std::uint64_t last, Leads leads) {
    const Leads behind = last == top_address ? Leads{} : at(last + 1);
    borders_.erase(borders_.lower_bound(first), borders_.upper_bound(last));
    borders_[first] = leads;
    if (last != top_address) borders_.insert_or_assign(last + 1, behind);
  }
  [[nodiscard]] Leads at(std::uint64_t iova) const { return std::prev(borders_.upper_bound(iova))->second; }
  /// The last address that goes on like `iova`.
  [[nodiscard]] std::uint64_t last(std::uint64_t iova) const {
    for (auto next = borders_.upper_bound(iova); next != borders_.end(); ++next)
      if (!(next->second == at(iova))) return next->first - 1;
    return top_address;
  }

 private:
  std::map<std::uint64_t, Leads> borders_{{0, {}}};
};

}  // namespace

TEST_CASE("any order of updates and invalidations answers as a plain model does",
          "[message-iotlb][VMM-1][VMM-2][B108]") {
  const std::uint64_t seed = GENERATE(1U, 2U, 3U, 4U);
  CAPTURE(seed);
  MessageIotlb iotlb;
  Model model;
  Random random{seed};
  // Dense pages, odd bytes, both ends of the space; a few targets, so that neighbours go on alike now and then.
  const auto address = [&]() -> std::uint64_t {
    switch (random.below(8)) {
      case 0:  return random.below(3);
      case 1:  return top_address - random.below(3);
      case 2:  return random.below(0x40'0000);
      case 3:  return std::uint64_t{1} << random.below(64);
      default: return random.below(1024) << 12;
    }
  };
  for (int step = 0; step < 4000; ++step) {
    std::uint64_t first = address();
    std::uint64_t last = random.chance(1, 2) ? first | 0xFFF : address();
    if (last < first) std::swap(first, last);
    if (random.chance(1, 3)) {
      iotlb.invalidate(first, last);
      model.set(first, last, {});
    } else {
      const std::uint64_t shift = random.below(3) << 40;
      const auto rights = static_cast<std::uint32_t>(1 + random.below(3));
      const std::uint64_t target = first + shift;
      const bool wraps = last - first > ~target || target == top_address;
      REQUIRE(iotlb.update(first, last, target, rights) == (wraps ? VIOMMU_E_RANGE : VIOMMU_OK));
      if (!wraps) model.set(first, last, {shift, rights});
    }
    for (int look = 0; look < 4; ++look) {
      const std::uint64_t iova = look == 0 ? first : look == 1 ? last : address();
      const auto access = static_cast<std::uint32_t>(1 + random.below(3));
      const std::uint64_t length =
          std::min(std::uint64_t{1} << random.below(64), top_address - iova) + (iova == top_address ? 1 : 0);
      iotlb.asked.clear();
      const Parts parts = iotlb.parts(iova, length, access, 64);
      CAPTURE(step, iova, length, access);
      std::uint64_t at = iova;
      for (const Part& part : parts) {
        const Leads leads = model.at(at);
        const std::uint64_t target = at + leads.shift;  // nothing goes on behind its last address
        const std::uint64_t more = std::min({model.last(at) - at, iova + (length - 1) - at, ~target});
        REQUIRE(part == Part{at, target, more + 1, leads.rights});
        REQUIRE((leads.rights & access) == access);
        at += part.length;
      }
      REQUIRE(iotlb.end.translated == at - iova);
      if (iotlb.end.stopped == VIOMMU_IOTLB_COMPLETE) REQUIRE(at - iova == length);
      if (iotlb.end.stopped == VIOMMU_IOTLB_MISSING) REQUIRE(model.at(at).rights == 0);
      if (iotlb.end.stopped == VIOMMU_IOTLB_DENIED) {
        REQUIRE(model.at(at).rights != 0);
        REQUIRE((model.at(at).rights & access) != access);
      }
      for (const Asked& asked : iotlb.asked) {
        // Nothing of it is there, and it goes as far as that is so.
        REQUIRE((asked.first >= at && asked.last <= iova + (length - 1)));
        for (std::uint64_t byte = asked.first;;) {
          REQUIRE((model.at(byte).rights & access) != access);
          if (model.last(byte) >= asked.last) break;
          byte = model.last(byte) + 1;
        }
        if (asked.last != iova + (length - 1)) REQUIRE((model.at(asked.last + 1).rights & access) == access);
        if (asked.first != iova) REQUIRE((model.at(asked.first - 1).rights & access) == access);
      }
    }
  }
}

}  // namespace viommu::test
