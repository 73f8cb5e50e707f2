// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a completion waits for: guards that began before it, holds in its scope, and nothing else.
#include <thread>

#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint16_t other_device = 0x0020;
constexpr std::uint64_t page_a = 0x400000;
constexpr std::uint64_t page_b = 0x500000;
constexpr std::uint64_t second = 1'000'000'000;

/// Two devices in domains 1 and 2, each with 0x5000 and 0x9000 mapped, and a queue by hand.
struct Guest {
  explicit Guest(const viommu_vtd_options& options = usual_options()) : machine{options} {
    for (const std::uint64_t iova : {0x5000u, 0x9000u}) {
      machine.tables.map(tree, iova, page_a + iova);
      machine.tables.map(other_tree, iova, page_a + iova);
    }
    machine.boot_without_queue();
    ring.enable();
  }
  [[nodiscard]] bool done(std::uint32_t wait) const { return machine.word_at(Machine::status_word) == wait; }
  Hold hold(std::uint16_t source, std::uint64_t iova, std::uint64_t cookie = 0, std::uint64_t length = 0) {
    viommu_translation answer{};
    Hold held = machine.reader.hold(request(source, iova, VIOMMU_READ, length), cookie, answer);
    REQUIRE(held);
    return held;
  }
  /// Submits it with a wait of its own. Whether that completes at once.
  bool completes(std::uint64_t low, std::uint64_t high = 0) {
    ring.put(low, high);
    ring.put_wait(descriptor::wait_status, ++last_wait);
    ring.go();
    const bool at_once = done(last_wait);
    CHECK((machine.engine.process().state == VIOMMU_PROCESS_IDLE) == at_once);
    return at_once;
  }

  Machine machine;
  Tree tree = machine.attach(device, 1);
  Tree other_tree = machine.attach(other_device, 2);
  Ring ring{machine};
  std::uint32_t last_wait = 0x100;  ///< status data
};

}  // namespace

TEST_CASE("a wait completes only when every guard that began before it has ended, and then at once",
          "[behaviour][vtd][drain][SEC-11][PR-6]") {
  Guest guest;
  Machine& machine = guest.machine;
  machine.write(offset::completion_event_control, 0);
  {
    const Guard guard = machine.reader.guard();
    CHECK(machine.lands(device, 0x5000) == page_a + 0x5000);
    machine.tables.map(guest.tree, 0x5000, page_b);
    guest.ring.put(descriptor::iotlb_page(1), 0x5000);
    guest.ring.put_wait(descriptor::wait_status | descriptor::wait_interrupt, 7);
    guest.ring.put(descriptor::context_global);
    guest.ring.go();
    CHECK(guest.ring.head() == 16);  // on the wait, not past it
    CHECK(machine.effects.empty());
    CHECK(machine.read(offset::completion_status) == 0);
    // New lookups, even in the guard that delays, already see the new page.
    CHECK(machine.lands(device, 0x5000) == page_b);
    const viommu_progress progress = machine.engine.process();
    CHECK(progress.state == VIOMMU_PROCESS_WAIT);
    CHECK(progress.wait_until_ns == machine.now_ns + second);
    CHECK(machine.effects.empty());
    machine.wakes = 0;
  }
  CHECK(machine.wakes == 1);       // leaving asks for process(), from outside the guard
  CHECK(machine.effects.empty());  // and does not do the work itself
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.effects == std::vector<Effect>{{Effect::store, Machine::status_word, 7}, {Effect::message, 0, 0}});
  CHECK(guest.ring.head() == 48);
}

TEST_CASE("guards of every reader count, and a nested one ends with its outermost", "[behaviour][vtd][drain][SEC-11]") {
  Guest guest;
  Machine& machine = guest.machine;
  Expected<Reader> second_reader = machine.engine.reader();
  REQUIRE(second_reader);
  viommu_enter(machine.reader.get());
  viommu_enter(second_reader->get());
  viommu_enter(second_reader->get());
  CHECK_FALSE(guest.completes(descriptor::iotlb_global));
  viommu_leave(machine.reader.get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  viommu_leave(second_reader->get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  viommu_leave(second_reader->get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.done(guest.last_wait));
  viommu_leave(second_reader->get());  // without a guard: nothing
}

TEST_CASE("a guard that began after the invalidation does not delay it", "[behaviour][vtd][drain]") {
  Guest guest;
  Machine& machine = guest.machine;
  Expected<Reader> later = machine.engine.reader();
  REQUIRE(later);
  viommu_enter(machine.reader.get());
  CHECK_FALSE(guest.completes(descriptor::iotlb_global));
  viommu_enter(later->get());
  viommu_leave(machine.reader.get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.done(guest.last_wait));
  viommu_leave(later->get());
}

TEST_CASE("process() that gets past one wait says that the next one is open", "[behaviour][vtd][drain]") {
  Guest guest;
  Machine& machine = guest.machine;
  Expected<Reader> later = machine.engine.reader();
  REQUIRE(later);
  viommu_enter(machine.reader.get());
  for (const std::uint32_t wait : {1U, 2U}) {
    guest.ring.put(descriptor::iotlb_global);
    guest.ring.put_wait(descriptor::wait_status, wait);
  }
  guest.ring.go();
  CHECK(guest.ring.head() == 16);
  viommu_enter(later->get());  // after the first invalidation, before the second
  viommu_leave(machine.reader.get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  CHECK(guest.done(1));
  CHECK(guest.ring.head() == 48);
  viommu_leave(later->get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.done(2));
}

TEST_CASE("a wait without an invalidation before it waits for nobody", "[behaviour][vtd][drain]") {
  Guest guest;
  const Hold hold = guest.hold(device, 0x5000);
  const Guard guard = guest.machine.reader.guard();
  guest.ring.put_wait(descriptor::wait_status, 3);
  guest.ring.go();
  CHECK(guest.done(3));
}

TEST_CASE("a wait is for the invalidations since the one before it, and for none from before a restart",
          "[behaviour][vtd][drain]") {
  Guest guest;
  SECTION("the wait before it") { CHECK(guest.completes(descriptor::iotlb_global)); }
  SECTION("the queue was off") {
    guest.ring.put(descriptor::iotlb_global);
    guest.ring.go();
    guest.machine.command(0, command::queue);
    guest.ring = Ring{guest.machine};
    guest.machine.write(offset::queue_tail, 0, 8);
    guest.ring.enable();
  }
  SECTION("the unit was reset") {
    guest.ring.put(descriptor::iotlb_global);
    guest.ring.go();
    REQUIRE(guest.machine.engine.reset() == VIOMMU_OK);
    guest.machine.boot_without_queue();
    guest.ring = Ring{guest.machine};
    guest.ring.enable();
  }
  const Hold hold = guest.hold(device, 0x5000);
  guest.ring.put_wait(descriptor::wait_status, 3);
  guest.ring.go();
  CHECK(guest.done(3));
}

TEST_CASE("a hold delays the invalidations that concern it and no others", "[behaviour][vtd][drain][SEC-11]") {
  Guest guest;
  Hold hold = guest.hold(device, 0x5000);
  const auto page = [](std::uint64_t first, unsigned mask) { return first | mask; };
  const std::uint64_t device_context = 0x31 | std::uint64_t{1} << 16 | std::uint64_t{device} << 32;
  const std::uint64_t other_context = 0x31 | std::uint64_t{2} << 16 | std::uint64_t{other_device} << 32;
  SECTION("outside its scope") {
    CHECK(guest.completes(descriptor::iotlb_domain(2)));
    CHECK(guest.completes(descriptor::iotlb_page(2), page(0x5000, 0)));
    CHECK(guest.completes(descriptor::iotlb_page(1), page(0x9000, 0)));
    CHECK(guest.completes(descriptor::iotlb_page(1), page(0x8000, 1)));
    CHECK(guest.completes(0x21 | std::uint64_t{2} << 16));
    CHECK(guest.completes(other_context));
    CHECK(guest.completes(descriptor::interrupt_entries_global));
  }
  SECTION("inside its scope") {
    struct Descriptor {
      std::uint64_t low;
      std::uint64_t high;
    };
    const auto [low, high] =
        GENERATE_COPY(Descriptor{descriptor::iotlb_global, 0}, Descriptor{descriptor::iotlb_domain(1), 0},
                      Descriptor{descriptor::iotlb_page(1), 0x5000}, Descriptor{descriptor::iotlb_page(1), 0x4001},
                      Descriptor{descriptor::context_global, 0}, Descriptor{0x21 | std::uint64_t{1} << 16, 0},
                      Descriptor{device_context, 0});
    CHECK_FALSE(guest.completes(low, high));
    guest.machine.wakes = 0;
    hold.release();
    CHECK(guest.machine.wakes == 1);
    CHECK_FALSE(guest.done(guest.last_wait));
    CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_IDLE);
    CHECK(guest.done(guest.last_wait));
  }
}

TEST_CASE("a hold of a buffer covers the whole of it", "[behaviour][vtd][drain]") {
  Guest guest;
  guest.machine.tables.map(guest.tree, 0x6000, page_a + 0x6000);
  Hold hold = guest.hold(device, 0x5800, 0, 0x1000);
  CHECK(guest.completes(descriptor::iotlb_page(1), 0x7000));
  CHECK_FALSE(guest.completes(descriptor::iotlb_page(1), 0x6000));
  hold.release();
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_IDLE);
}

TEST_CASE("several invalidations before one wait are waited for together", "[behaviour][vtd][drain]") {
  Guest guest;
  Hold first = guest.hold(device, 0x5000);
  Hold other = guest.hold(other_device, 0x9000);
  for (std::uint64_t i = 0; i < 40; ++i) guest.ring.put(descriptor::iotlb_page(9), i << 12);  // a domain nobody is in
  guest.ring.put(descriptor::iotlb_page(2), 0x9000);
  guest.ring.put(descriptor::iotlb_page(1), 0x5000);
  guest.ring.put_wait(descriptor::wait_status, 4);
  guest.ring.go();
  CHECK_FALSE(guest.done(4));
  first.release();
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  other.release();
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.done(4));
}

TEST_CASE("a hold that began after the invalidation does not delay it", "[behaviour][vtd][drain]") {
  Guest guest;
  Hold first = guest.hold(device, 0x5000);
  CHECK_FALSE(guest.completes(descriptor::iotlb_domain(1)));
  const Hold later = guest.hold(device, 0x5000);
  first.release();
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.done(guest.last_wait));
}

TEST_CASE("an overdue hold is reported once with its cookie, and the completion stays back",
          "[behaviour][vtd][drain][PR-6]") {
  const bool revoke = GENERATE(false, true);
  Guest guest;
  Machine& machine = guest.machine;
  machine.now_ns = 5 * second;
  Hold hold = guest.hold(device, 0x5000, 0xC00C1E);
  Hold unconcerned = guest.hold(other_device, 0x5000, 0xBAD);
  CHECK_FALSE(guest.completes(descriptor::iotlb_domain(1)));
  machine.now_ns += second - 1;
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  CHECK(machine.effects.empty());
  machine.now_ns += 1;
  for (int time = 0; time < 3; ++time) {
    const viommu_progress progress = machine.engine.process();
    CHECK(progress.state == VIOMMU_PROCESS_WAIT);
    CHECK(machine.effects == std::vector<Effect>{{Effect::overdue, 0xC00C1E, second}});
    machine.now_ns += second;
  }
  CHECK(machine.engine.statistics().holds_overdue == 1);
  machine.effects.clear();
  const std::uint64_t handle = hold.handle();
  if (revoke) {
    CHECK(viommu_hold_revoke(machine.engine.get(), handle) == VIOMMU_OK);
    CHECK(viommu_release(machine.engine.get(), handle) == VIOMMU_E_NOT_FOUND);
  } else {
    hold.release();
    CHECK(viommu_hold_revoke(machine.engine.get(), handle) == VIOMMU_E_NOT_FOUND);
  }
  CHECK(machine.engine.statistics().holds_revoked == (revoke ? 1 : 0));
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.effects == std::vector<Effect>{{Effect::store, Machine::status_word, guest.last_wait}});
}

TEST_CASE("a hold released while it is being reported delays no longer, and nobody needs to wake the unit",
          "[behaviour][vtd][drain]") {
  Guest guest;
  Hold hold = guest.hold(device, 0x5000);
  CHECK_FALSE(guest.completes(descriptor::iotlb_global));
  guest.machine.on_effect = [&](const Effect& effect) {
    if (effect.kind == Effect::overdue) elsewhere([&] { hold.release(); });
  };
  guest.machine.now_ns += second;
  // Once: the release came when nobody was waiting to be woken yet.
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.done(guest.last_wait));
}

TEST_CASE("a hold taken in a guard goes on delaying when the guard has ended, whoever releases it",
          "[behaviour][vtd][drain]") {
  Guest guest;
  Hold hold;
  {
    const Guard guard = guest.machine.reader.guard();
    hold = guest.hold(device, 0x5000);
    CHECK_FALSE(guest.completes(descriptor::iotlb_domain(1)));
  }
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  std::thread{[&hold] { hold.release(); }}.join();
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.done(guest.last_wait));
}

TEST_CASE("a switched-off queue forgets a wait that was open", "[behaviour][vtd][drain][Invalidation Queue]") {
  Guest guest;
  viommu_enter(guest.machine.reader.get());
  CHECK_FALSE(guest.completes(descriptor::iotlb_global));
  guest.machine.command(0, command::queue);
  viommu_leave(guest.machine.reader.get());
  CHECK(guest.machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(guest.machine.effects.empty());
  CHECK(guest.ring.head() == 0);
}

}  // namespace viommu::test
