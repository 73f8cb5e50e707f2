// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A queue whose memory another thread writes: at random while it is read, and as a good driver does.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>

#include "engine/base/guest_memory.hpp"
#include "engine/virtqueue/queue.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/random.hpp"

namespace viommu::virtqueue {
namespace {

using test::GuardedRegion;
using test::Random;

constexpr std::uint64_t base = 0x100000;
constexpr std::uint64_t bytes = 0x4000;
constexpr std::uint64_t data = base + 0x3000;

/// Guest memory that several threads use.
struct SharedGuest {
  SharedGuest() {
    RegionMap* const map = RegionMap::create({}, 1);
    map->assign_with(nullptr, {{{base}, {base + (bytes - 1)}}, ram.data()});
    memory.publish(map);
  }
  SharedGuest(const SharedGuest&) = delete;
  SharedGuest& operator=(const SharedGuest&) = delete;
  ~SharedGuest() { RegionMap::destroy({}, memory.publish(nullptr)); }

  template <class T>
  [[nodiscard]] std::atomic_ref<T> at(std::uint64_t gpa) {
    void* const where = ram.data() + (gpa - base);
    return std::atomic_ref{*static_cast<T*>(where)};
  }

  GuardedRegion ram{base, bytes};
  GuestMemory memory{{}};
};

Config config_of(bool packed, bool event_index) {
  return {16, {base}, {base + 0x1000}, {base + 0x2000}, {true, event_index, packed}};
}

}  // namespace

TEST_CASE("rings that change while they are read end in bounded work", "[virtqueue][threads][B98]") {
  SharedGuest guest;
  std::atomic<bool> stop{false};
  std::thread writer{[&] {
    Random random{3};
    while (!stop.load(std::memory_order_relaxed)) {
      const std::uint64_t gpa = base + 8 * random.below(bytes / 8);
      const std::uint64_t word = random.chance(1, 2) ? random.next() : base + random.below(bytes);
      guest.ram.store_u64(gpa, random.chance(1, 3) ? word & 0x7'0000'0000'001F : word);
    }
  }};
  Chain chain;
  unsigned served = 0;
  for (unsigned round = 0; round < 20'000; ++round) {
    // A chain as it should be, for as long as it lasts.
    const bool packed = round % 2 == 0;
    const std::uint64_t flags = packed ? 0x80ull << 48 : 0;
    guest.ram.store_u64(base, data);
    guest.ram.store_u64(base + 8, 16 | 1ull << (packed ? 48 : 32) | (packed ? 0 : 1ull << 48) | flags);
    guest.ram.store_u64(base + 16, data + 16);
    guest.ram.store_u64(base + 24, 4 | 2ull << (packed ? 48 : 32) | flags);
    guest.ram.store_u64(base + 0x1000, 1ull << 16);
    Queue queue;
    REQUIRE(queue.enable(config_of(packed, round % 4 < 2)) == ConfigProblem::none);
    const Memory memory{guest.memory};
    const RunResult result = queue.run(memory, chain, 8, [&](const Chain& c) {
      std::array<std::byte, 36> received{};
      ++served;
      const std::size_t count = std::min<std::size_t>(c.readable_bytes(), received.size());
      const bool read = c.read(memory, 0, std::span{received}.first(count));
      return Served{read ? Served::Outcome::done : Served::Outcome::memory_gone, 0};
    });
    if (result.stop == RunResult::Stop::broken) REQUIRE(queue.problem() != Problem::none);
  }
  stop.store(true, std::memory_order_relaxed);
  writer.join();
  CHECK(served > 0);
}

TEST_CASE("a driver on another thread gets every answer, in order", "[virtqueue][threads]") {
  // A split ring of one-descriptor requests: a number goes in by a readable buffer, and comes out by a writable one.
  SharedGuest guest;
  constexpr std::uint64_t size = 16;
  constexpr std::uint32_t total = 50'000;
  Queue queue;
  REQUIRE(queue.enable(config_of(false, false)) == ConfigProblem::none);
  std::atomic<bool> done{false};
  std::uint32_t got = 0;
  std::thread driver{[&] {
    std::uint32_t sent = 0;
    while (got < total && !done.load(std::memory_order_relaxed)) {
      while (sent < total && sent - got < size / 2) {
        const std::uint64_t slot = sent % (size / 2);
        const std::uint64_t descriptor = base + 32 * slot;
        guest.at<std::uint32_t>(data + 8 * slot).store(sent, std::memory_order_relaxed);
        guest.at<std::uint64_t>(descriptor).store(data + 8 * slot, std::memory_order_relaxed);
        guest.at<std::uint64_t>(descriptor + 8).store(4 | 1ull << 32 | (2 * slot + 1) << 48, std::memory_order_relaxed);
        guest.at<std::uint64_t>(descriptor + 16).store(data + 8 * slot + 4, std::memory_order_relaxed);
        guest.at<std::uint64_t>(descriptor + 24).store(4 | 2ull << 32, std::memory_order_relaxed);
        guest.at<std::uint16_t>(base + 0x1004 + 2 * (sent % size))
            .store(static_cast<std::uint16_t>(2 * slot), std::memory_order_relaxed);
        ++sent;
        guest.at<std::uint16_t>(base + 0x1002).store(static_cast<std::uint16_t>(sent), std::memory_order_release);
      }
      const auto index = guest.at<std::uint16_t>(base + 0x2002).load(std::memory_order_acquire);
      if (index == static_cast<std::uint16_t>(got)) {
        std::this_thread::yield();
        continue;
      }
      const std::uint64_t slot = got % (size / 2);
      const bool right =
          guest.at<std::uint32_t>(base + 0x2004 + 8 * (got % size)).load(std::memory_order_relaxed) == 2 * slot &&
          guest.at<std::uint32_t>(base + 0x2008 + 8 * (got % size)).load(std::memory_order_relaxed) == 4 &&
          guest.at<std::uint32_t>(data + 8 * slot + 4).load(std::memory_order_relaxed) == ~got;
      if (!right) break;
      ++got;
    }
    done.store(true, std::memory_order_relaxed);
  }};
  Chain chain;
  const Memory memory{guest.memory};
  while (!done.load(std::memory_order_relaxed)) {
    const RunResult result = queue.run(memory, chain, 100, [&](const Chain& c) {
      std::uint32_t number = 0;
      bool all = c.read(memory, 0, std::as_writable_bytes(std::span{&number, 1}));
      number = ~number;
      all = all && c.write(memory, 0, std::as_bytes(std::span{&number, 1}));
      return Served{all ? Served::Outcome::done : Served::Outcome::memory_gone, 4};
    });
    if (result.stop == RunResult::Stop::broken) break;
    std::this_thread::yield();
  }
  done.store(true, std::memory_order_relaxed);
  driver.join();
  CHECK(got == total);
  CHECK(queue.problem() == Problem::none);
}

}  // namespace viommu::virtqueue
