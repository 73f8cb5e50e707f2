// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Readers, guards, holds, and when an invalidation is over.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "tests/core/test_waist.hpp"
#include "tests/support/paths.hpp"

namespace viommu::core {
namespace {

using caches::Scope;
using caches::Usage;
using test::TestWaist;
using test::WaistGuard;
using Kind = Scope::Kind;

constexpr Usage usage{{0x0110}, {5}, {{0x1000}, {0x1FFF}}};
constexpr Scope domain_5{Kind::domain, {5}, all_iovas, {}, 0};
constexpr Scope domain_6{Kind::domain, {6}, all_iovas, {}, 0};

std::uint64_t hold_in_guard(TestWaist& waist, Reader& reader, std::uint64_t cookie = 0) {
  const WaistGuard guard{waist.waist, reader};
  return waist->hold(waist->hold_since(), usage, cookie);
}

}  // namespace

TEST_CASE("a ticket is drained when the guards that were open have closed, later ones do not count",
          "[core][tickets][P2][PR-6]") {
  TestWaist waist;
  Reader& first = waist.reader();
  Reader& second = waist.reader();
  Reader& third = waist.reader();
  CHECK(waist->drained(waist.ticket({})));
  waist->enter(first);
  waist->enter(second);
  const Ticket ticket = waist.ticket({});
  CHECK_FALSE(waist->drained(ticket));
  waist->enter(third);  // after the first look for older guards
  CHECK_FALSE(waist->drained(ticket));
  waist->leave(first);
  CHECK_FALSE(waist->drained(ticket));
  waist->enter(first);  // a new guard
  CHECK_FALSE(waist->drained(ticket));
  waist->leave(second);
  CHECK(waist->drained(ticket));
  CHECK_FALSE(waist->drained(waist.ticket({})));
  waist->leave(first);
  waist->leave(third);
}

TEST_CASE("a hold that goes by a PASID delays what drops its PASID entry, and nobody else's",
          "[core][tickets][pasid][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  Usage by_pasid = usage;
  by_pasid.pasid = {7};
  std::uint64_t hold = 0;
  {
    const WaistGuard guard{waist.waist, reader};
    hold = waist->hold(waist->hold_since(), by_pasid, 0);
  }
  Scope scope{Kind::pasid, {5}, all_iovas, {}, 0};
  scope.pasid = {8};
  CHECK(waist->drained(waist.ticket(scope)));
  scope.pasid = {7};
  const Ticket ticket = waist.ticket(scope);
  CHECK_FALSE(waist->drained(ticket));
  CHECK(waist->release(hold, false));
  CHECK(waist->drained(ticket));
}

TEST_CASE("a hold that goes by a PASID delays what drops its translations, in its range and nowhere else",
          "[core][tickets][pasid][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  Usage by_pasid = usage;
  by_pasid.pasid = {7};
  std::uint64_t hold = 0;
  {
    const WaistGuard guard{waist.waist, reader};
    hold = waist->hold(waist->hold_since(), by_pasid, 0);
  }
  const auto ticket_of = [&waist](Kind kind, Pasid pasid, IovaRange range) {
    Scope scope{kind, {5}, range, {}, 0};
    scope.pasid = pasid;
    return waist.ticket(scope);
  };
  const IovaRange behind{{usage.range.last.value + 1}, {usage.range.last.value + 1}};
  CHECK(waist->drained(ticket_of(Kind::pasid_translations, {8}, all_iovas)));
  CHECK(waist->drained(ticket_of(Kind::pasid_pages, {8}, usage.range)));
  CHECK(waist->drained(ticket_of(Kind::pasid_pages, {7}, behind)));
  const Ticket translations = ticket_of(Kind::pasid_translations, {7}, behind);
  const Ticket pages = ticket_of(Kind::pasid_pages, {7}, usage.range);
  CHECK_FALSE(waist->drained(translations));
  CHECK_FALSE(waist->drained(pages));
  CHECK(waist->release(hold, false));
  CHECK(waist->drained(translations));
  CHECK(waist->drained(pages));
}

TEST_CASE("nested guards are one guard", "[core][tickets][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  waist->enter(reader);
  const Ticket ticket = waist.ticket({});
  waist->enter(reader);
  waist->enter(reader);
  waist->leave(reader);
  waist->leave(reader);
  CHECK_FALSE(waist->drained(ticket));
  waist->leave(reader);
  CHECK(waist->drained(ticket));
  waist->leave(reader);  // one too many does nothing
  waist->enter(reader);
  CHECK_FALSE(waist->drained(waist.ticket({})));
  waist->leave(reader);
  CHECK(waist->drained(waist.ticket({})));
}

TEST_CASE("a guard delays tickets of any scope, a hold those it is in", "[core][tickets][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  waist->enter(reader);
  CHECK_FALSE(waist->drained(waist.ticket(domain_6)));
  const std::uint64_t hold = waist->hold(waist->hold_since(), usage, 0);
  REQUIRE(hold != 0);
  const Ticket concerned = waist.ticket(domain_5);
  const Ticket unconcerned = waist.ticket(domain_6);
  waist->leave(reader);
  CHECK(waist->drained(unconcerned));
  CHECK_FALSE(waist->drained(concerned));
  CHECK(waist->release(hold, false));
  CHECK(waist->drained(concerned));
}

TEST_CASE("a hold made in a guard that began after the invalidation does not delay it", "[core][tickets][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  const Ticket ticket = waist.ticket({});
  const std::uint64_t hold = hold_in_guard(waist, reader);
  CHECK(waist->drained(ticket));
  CHECK_FALSE(waist->drained(waist.ticket({})));
  CHECK(waist->release(hold, false));
}

TEST_CASE("a hold is as old as the translation it is for, whenever it is made and however old its guard",
          "[core][tickets][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  waist->enter(reader);
  const std::uint64_t since = waist->hold_since();  // before the translation
  const Ticket ticket = waist.ticket({});
  const std::uint64_t old = waist->hold(since, usage, 0);
  const std::uint64_t fresh = waist->hold(waist->hold_since(), usage, 0);  // of an answer asked for afterwards
  CHECK_FALSE(waist->drained(ticket));                                     // for the guard
  waist->leave(reader);
  CHECK_FALSE(waist->drained(ticket));
  CHECK(waist->release(old, false));
  CHECK(waist->drained(ticket));
  CHECK_FALSE(waist->drained(waist.ticket({})));
  CHECK(waist->release(fresh, false));
}

TEST_CASE("holds are bounded, and a released one is not found again", "[core][tickets][P6]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  std::vector<std::uint64_t> holds;
  holds.reserve(test::small_waist.holds);
  for (unsigned i = 0; i < test::small_waist.holds; ++i) holds.push_back(hold_in_guard(waist, reader));
  CHECK(hold_in_guard(waist, reader) == 0);
  for (const std::uint64_t hold : holds) CHECK(waist->release(hold, false));
  for (const std::uint64_t hold : holds) CHECK_FALSE(waist->release(hold, true));
  CHECK(waist->holds().revoked_count() == 0);
}

TEST_CASE("an overdue hold is told to the host once, with its cookie, while its completion is kept back",
          "[core][tickets][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  const std::uint64_t hold = hold_in_guard(waist, reader, 4711);
  const Ticket ticket = waist.ticket(domain_5);
  CHECK_FALSE(waist->drained(ticket));
  CHECK(waist.host.overdue.empty());
  waist.host.now_ns = test::small_waist.hold_report_ns;
  CHECK(waist->drained(waist.ticket(domain_6)));
  CHECK(waist.host.overdue.empty());  // nobody waits for it
  CHECK_FALSE(waist->drained(ticket));
  const std::vector<test::CoreHost::Overdue> told{{hold, 4711, test::small_waist.hold_report_ns}};
  CHECK(waist.host.overdue == told);
  waist.host.now_ns *= 50;
  for (unsigned i = 0; i < 5; ++i) CHECK_FALSE(waist->drained(ticket));
  CHECK(waist.host.overdue == told);
  CHECK(waist->release(hold, true));
  CHECK(waist->drained(ticket));
  CHECK(waist->holds().overdue_count() == 1);
  CHECK(waist->holds().revoked_count() == 1);
}

TEST_CASE("without a clock no hold is ever overdue", "[core][tickets][P2]") {
  TestWaist waist{test::small_waist, false};
  Reader& reader = waist.reader();
  const std::uint64_t hold = hold_in_guard(waist, reader);
  const Ticket ticket = waist.ticket(domain_5);
  for (unsigned i = 0; i < 5; ++i) CHECK_FALSE(waist->drained(ticket));
  CHECK(waist.host.overdue.empty());
  CHECK(waist->release(hold, false));
}

TEST_CASE("the host is woken when something ends that somebody waits for, and at no other time",
          "[core][tickets][P5]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  waist->enter(reader);
  waist->leave(reader);
  const std::uint64_t early = hold_in_guard(waist, reader);
  CHECK(waist->release(early, false));
  CHECK(waist->drained(waist.ticket({})));
  waist->enter(reader);
  waist->leave(reader);
  CHECK(waist.host.wakes == 0);  // nobody has waited

  waist->enter(reader);
  const Ticket ticket = waist.ticket({});
  CHECK_FALSE(waist->drained(ticket));
  CHECK(waist.host.wakes == 0);
  waist->enter(reader);
  waist->leave(reader);
  CHECK(waist.host.wakes == 0);  // the guard is still open
  waist->leave(reader);
  CHECK(waist.host.wakes == 1);
  CHECK(waist->drained(ticket));
  waist->enter(reader);
  waist->leave(reader);
  CHECK(waist.host.wakes == 1);

  const std::uint64_t hold = hold_in_guard(waist, reader);
  const Ticket second = waist.ticket({});
  CHECK_FALSE(waist->drained(second));
  CHECK_FALSE(waist->release(hold + 1, false));
  CHECK(waist.host.wakes == 1);
  CHECK(waist->release(hold, false));
  CHECK(waist.host.wakes == 2);
  CHECK(waist->drained(second));
}

TEST_CASE("a wait that is never looked at again costs one wake", "[core][tickets][P5]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  waist->enter(reader);
  for (unsigned i = 0; i < 5; ++i) CHECK_FALSE(waist->drained(waist.ticket({})));
  waist->leave(reader);
  for (unsigned i = 0; i < 5; ++i) {
    waist->enter(reader);
    waist->leave(reader);
  }
  CHECK(waist.host.wakes == 1);
}

TEST_CASE("whoever waits is woken, however the end of the guard and the wait meet", "[core][tickets][P5][PR-6]") {
  const unsigned rounds = test::run_whole() ? 200'000 : 2'000;
  WaistOptions options = test::small_waist;
  options.drain = GENERATE(caches::Drain::fence, caches::Drain::barrier, caches::Drain::automatic);
  TestWaist waist{options};
  Reader& reader = waist.reader();
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> guards{0};
  std::thread busy{[&] {
    while (!stop.load(std::memory_order_relaxed)) {
      waist->enter(reader);
      guards.fetch_add(1, std::memory_order_relaxed);
      waist->leave(reader);
    }
  }};
  unsigned waited = 0;
  unsigned lost = 0;
  for (unsigned round = 0; round < rounds && lost == 0; ++round) {
    const std::uint64_t wakes = waist.host.wakes;
    const Ticket ticket = waist.ticket({});
    if (waist->drained(ticket)) continue;
    ++waited;
    // The guard ends soon. When it has (two more have begun since), the wake must have come.
    const std::uint64_t seen = guards;
    while (waist.host.wakes == wakes && guards < seen + 3) std::this_thread::yield();
    for (unsigned patience = 0; waist.host.wakes == wakes && patience < 1000; ++patience) std::this_thread::yield();
    if (waist.host.wakes == wakes) ++lost;
    if (!waist->drained(ticket)) ++lost;
  }
  stop = true;
  busy.join();
  CHECK(lost == 0);
  CAPTURE(waited);
}

TEST_CASE("readers are handed out until none is left, and again when they come back", "[core][readers][P6]") {
  TestWaist waist;
  std::set<Reader*> readers;
  for (unsigned i = 0; i < test::small_waist.readers; ++i) CHECK(readers.insert(waist->take_reader()).second);
  CHECK_FALSE(readers.contains(nullptr));
  CHECK(waist->take_reader() == nullptr);
  CHECK(waist->readers_in_use() == test::small_waist.readers);
  Reader* const one = *readers.begin();
  one->counters.add(Count::walks, 3);
  waist->put_reader(*one);
  CHECK(waist->readers_in_use() == test::small_waist.readers - 1);
  CHECK(waist->take_reader() == one);
  CHECK(waist->count(Count::walks) == 3);  // totals do not shrink with the readers
}

TEST_CASE("readers for one call are apart from the others, and as many as promised", "[core][readers][P6]") {
  TestWaist waist;
  std::set<Reader*> readers;
  for (unsigned i = 0; i < Waist::transient_readers; ++i) CHECK(readers.insert(waist->take_transient_reader()).second);
  CHECK_FALSE(readers.contains(nullptr));
  CHECK(waist->take_transient_reader() == nullptr);
  CHECK_FALSE(readers.contains(&waist.reader()));
  waist->put_reader(**readers.begin());
  CHECK(waist->take_transient_reader() == *readers.begin());
}

TEST_CASE("the guard of a reader for one call counts like any other", "[core][readers][P2]") {
  TestWaist waist;
  Reader* const reader = waist->take_transient_reader();
  waist->enter(*reader);
  const Ticket ticket = waist.ticket({});
  CHECK_FALSE(waist->drained(ticket));
  waist->leave(*reader);
  CHECK(waist->drained(ticket));
}

}  // namespace viommu::core
