// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory that is another one at each look: the queue ends, in bounded work, and reaches for nothing that is not there.
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "engine/virtqueue/queue.hpp"
#include "tests/support/random.hpp"
#include "tests/virtqueue/packed_driver.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::virtqueue {
namespace {

using test::PackedDriver;
using test::Random;
using test::Reach;
using test::RingGuest;
using test::SplitDriver;

/// A word that looks like part of a ring: small numbers, addresses in memory, any flags.
std::uint64_t plausible(Random& random) {
  switch (random.below(4)) {
    case 0:  return random.next();
    case 1:  return RingGuest::first + random.below(RingGuest::bytes);
    case 2:  return random.below(8) * 0x0001'0001'0001'0001;
    default: return random.below(64) | random.below(8) << 32 | random.next() << 48;
  }
}

/// Takes, reads, writes and puts once. @return what became of it
Problem once(Queue& queue, const RingGuest& guest, Chain& chain) {
  const Memory memory{guest.memory()};
  const RunResult result = queue.run(memory, chain, 4, [&](const Chain& c) {
    std::array<std::byte, 36> bytes{};
    const bool all = c.read(memory, 0, std::span{bytes}.first(c.readable_bytes() < 36 ? c.readable_bytes() : 36)) &&
                     c.write(memory, 0, std::span{bytes}.first(c.writable_bytes() < 4 ? c.writable_bytes() : 4));
    return Served{all ? Served::Outcome::done : Served::Outcome::memory_gone, 4};
  });
  REQUIRE((result.stop == RunResult::Stop::broken) == (queue.problem() != Problem::none));
  return queue.problem();
}

template <class Driver>
void lie_to(std::uint16_t size, bool event_index, std::uint64_t seed, std::set<Problem>& met) {
  Random random{seed};
  RingGuest guest{Reach::callbacks};
  const Driver driver{guest, size, event_index};
  guest.liar = [&](std::uint64_t) { return plausible(random); };
  Queue queue;
  Chain chain;
  for (int round = 0; round < 300; ++round) {
    if (!queue.enabled() || queue.problem() != Problem::none)
      REQUIRE(queue.enable(driver.config()) == ConfigProblem::none);
    guest.accesses.clear();
    met.insert(once(queue, guest, chain));
    // Per chain: two words of each descriptor, one before them, and what is read and written.
    REQUIRE(guest.accesses.size() <= 4 * (std::size_t{4} * Chain::most_segments + 100));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("a ring that is another one at each look ends in bounded work", "[virtqueue][hostile][B98][SEC-8]",
                   SplitDriver, PackedDriver) {
  std::set<Problem> met;
  for (const std::uint16_t size : {std::uint16_t{1}, std::uint16_t{8}, std::uint16_t{256}})
    for (std::uint64_t seed = 0; seed < 20; ++seed) lie_to<TestType>(size, seed % 2 == 0, seed, met);
  std::string names;
  for (const Problem problem : met) names += std::string{text_of(problem)} + "; ";
  INFO(names);
  CHECK(met.contains(Problem::none));
  CHECK(met.size() > 6);
}

TEMPLATE_TEST_CASE("a ring of any bytes ends in bounded work", "[virtqueue][hostile][B98]", SplitDriver, PackedDriver) {
  std::set<Problem> met;
  RingGuest guest{Reach::mapped};
  Random random{7};
  Chain chain;
  for (int round = 0; round < 3000; ++round) {
    const TestType driver{guest, 8, round % 2 == 0};
    for (std::uint64_t gpa = RingGuest::first; gpa < RingGuest::first + 0x100; gpa += 8)
      guest.put(gpa, plausible(random));
    for (std::uint64_t gpa = RingGuest::first + 0x10000; gpa < RingGuest::first + 0x10020; gpa += 8)
      guest.put(gpa, plausible(random));
    guest.put(RingGuest::first + 8 * random.below(RingGuest::bytes / 8), plausible(random));
    Queue queue;
    REQUIRE(queue.enable(driver.config()) == ConfigProblem::none);
    for (int i = 0; i < 4; ++i) met.insert(once(queue, guest, chain));
  }
  CHECK(met.contains(Problem::none));
  CHECK(met.size() > 4);
}

}  // namespace viommu::virtqueue
