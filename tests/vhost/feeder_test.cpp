// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A VT-d unit, and a vhost back end that is fed from it.
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "tests/behaviour/mirrored.hpp"
#include "tests/support/random.hpp"
#include "tests/vhost/back_end.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x100;
constexpr std::uint16_t domain = 7;
constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t mib2 = 0x20'0000;
constexpr std::uint64_t gib = 0x4000'0000;
constexpr std::uint64_t base = 0x40'0000;         // of what is mapped
constexpr std::uint64_t target = 0x1000'0000;     // where to
constexpr std::uint64_t user = 0x7F00'0000'0000;  // where guest memory is for the back end
constexpr std::uint64_t ram = 0x8000'0000;

using Messages = std::vector<Sent>;

struct World : Machine {
  explicit World(const viommu_vtd_options& options = options_39()) : Machine{options} {
    const viommu_region region{0, ram, nullptr, VIOMMU_REGION_UNMAPPED};
    REQUIRE(viommu_region_add(engine.get(), &region) == VIOMMU_OK);
    back_end.regions = {{0, ram, user}};
  }
  /// The device in its domain, and the feeder, which begins with an empty back end.
  void start() {
    tables.attach(device, tree, {.domain_id = domain});
    boot();
    back_end.begin(engine.get());
    back_end.take_sent();
  }
  void map(std::uint64_t iova, std::uint64_t gpa, std::uint64_t rights = entry_read_write, unsigned level = 1) {
    tables.map(tree, iova, gpa, rights, level);
  }
  /// `count` pages that lead to pages in a row.
  void map_pages(std::uint64_t iova, std::uint64_t gpa, std::uint64_t count, std::uint64_t rights = entry_read_write) {
    for (std::uint64_t i = 0; i < count; ++i) map(iova + i * page, gpa + i * page, rights);
  }
  void pages(std::uint64_t iova, unsigned mask = 0) {
    driver.add_page(domain, iova, mask);
    driver.submit_and_wait();
  }
  Messages answer(std::uint64_t first, std::uint64_t last, std::uint32_t access = reads,
                  viommu_result result = VIOMMU_OK) {
    CHECK(back_end.miss(first, last, access) == result);
    return back_end.take_sent();
  }
  Messages answer(std::uint64_t iova) { return answer(iova, iova); }

  Tree tree = tables.create_tree(3);
  BackEnd back_end{device};
};

}  // namespace

// ---- Answers ----

TEST_CASE("a miss is answered with all that goes on alike around it, in one message", "[vhost][feeder][VMM-1]") {
  World world;
  SECTION("pages in a row, wherever it is missed") {
    world.map_pages(base, target, 100);
    world.start();
    for (const std::uint64_t at : {0U, 1U, 7U, 8U, 31U, 50U, 98U, 99U})
      CHECK(world.answer(base + at * page + 0x123) == Messages{updated(base, base + 100 * page - 1, user + target)});
    CHECK(world.back_end.figures().updates == 8);
    CHECK(world.back_end.iotlb.figures().ranges == 1);
    CHECK(world.back_end.iotlb.target(base + 0x5432) == user + target + 0x5432);
  }
  SECTION("pages of every size beside each other") {
    world.map_pages(base, target, 512);
    world.map(base + mib2, target + mib2, entry_read_write, 2);
    world.map_pages(base + 2 * mib2, target + 2 * mib2, 3);
    world.start();
    const Messages whole{updated(base, base + 2 * mib2 + 3 * page - 1, user + target)};
    for (const std::uint64_t at : {std::uint64_t{0}, mib2 - 1, mib2, 2 * mib2 - 1, 2 * mib2, 2 * mib2 + 3 * page - 1})
      CHECK(world.answer(base + at) == whole);
  }
  SECTION("up to a hole, another target, and other rights") {
    world.map_pages(base, target, 10);
    world.map_pages(base + 11 * page, target + 11 * page, 10);
    world.map_pages(base + 21 * page, target + 22 * page, 10);
    world.map_pages(base + 31 * page, target + 32 * page, 10, entry_read);
    world.start();
    CHECK(world.answer(base + 4 * page) == Messages{updated(base, base + 10 * page - 1, user + target)});
    CHECK(world.answer(base + 14 * page) ==
          Messages{updated(base + 11 * page, base + 21 * page - 1, user + target + 11 * page)});
    CHECK(world.answer(base + 30 * page) ==
          Messages{updated(base + 21 * page, base + 31 * page - 1, user + target + 22 * page)});
    CHECK(world.answer(base + 31 * page) ==
          Messages{updated(base + 31 * page, base + 41 * page - 1, user + target + 32 * page, reads)});
  }
  SECTION("inside the window") {
    world.back_end.options.window = 16 * page;
    world.map_pages(base, target, 100);
    world.map(base + mib2, target + mib2, entry_read_write, 2);
    world.start();
    CHECK(world.answer(base + 20 * page) ==
          Messages{updated(base + 16 * page, base + 32 * page - 1, user + target + 16 * page)});
    CHECK(world.answer(base + mib2 + 20 * page) ==
          Messages{updated(base + mib2 + 16 * page, base + mib2 + 32 * page - 1, user + target + mib2 + 16 * page)});
  }
  SECTION("what may only be written") {
    world.map_pages(base, target, 10, entry_write);
    world.start();
    CHECK(world.answer(base + 4 * page, base + 4 * page, writes) ==
          Messages{updated(base, base + 10 * page - 1, user + target, writes)});
  }
}

TEST_CASE("any run of pages is answered whole, from any of its pages", "[vhost][feeder][VMM-1]") {
  World world;
  // Runs of random lengths, none of which goes on in the next.
  Random random{5};
  struct Run {
    std::uint64_t first;
    std::uint64_t count;
  };
  std::vector<Run> runs;
  std::uint64_t at = 3;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const std::uint64_t count = 1 + random.below(i % 4 == 0 ? 200 : 12);
    runs.push_back({base + at * page, count});
    world.map_pages(base + at * page, target + i * mib2, count);
    at += count + (random.chance(1, 2) ? 1 : 0);
  }
  world.start();
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (std::uint64_t inside = 0; inside < runs[i].count; ++inside)
      REQUIRE(world.answer(runs[i].first + inside * page + 8) ==
              Messages{updated(runs[i].first, runs[i].first + runs[i].count * page - 1, user + target + i * mib2)});
}

TEST_CASE("a missing range is answered as far as it is mapped, and what lies behind it as far as asked for",
          "[vhost][feeder][VMM-3][B102]") {
  World world;
  world.map_pages(base, target, 4);
  world.map_pages(base + 4 * page, target + 8 * page, 4);
  world.map_pages(base + 8 * page, target + 16 * page, 4);
  world.map_pages(base + 13 * page, target + 32 * page, 4);
  SECTION("each run of the range") {
    world.start();
    CHECK(world.answer(base + 2 * page, base + 5 * page) ==
          Messages{updated(base, base + 4 * page - 1, user + target),
                   updated(base + 4 * page, base + 8 * page - 1, user + target + 8 * page)});
  }
  SECTION("not past a hole") {
    world.start();
    CHECK(world.answer(base + 9 * page, base + 15 * page) ==
          Messages{updated(base + 8 * page, base + 12 * page - 1, user + target + 16 * page)});
  }
  SECTION("further ones, in a batch") {
    world.back_end.options.ahead = 1;
    world.back_end.options.form = VIOMMU_VHOST_V2;
    world.back_end.options.asid = 3;
    world.back_end.options.flags |= VIOMMU_VHOST_BATCH;
    world.start();
    CHECK(world.answer(base) == Messages{{VIOMMU_VHOST_BATCH_BEGIN},
                                         updated(base, base + 4 * page - 1, user + target),
                                         updated(base + 4 * page, base + 8 * page - 1, user + target + 8 * page),
                                         {VIOMMU_VHOST_BATCH_END}});
    viommu_vhost_message other{base, base, 0, 4, VIOMMU_READ, VIOMMU_VHOST_MISS, 0};  // of another address space
    std::array<std::byte, VIOMMU_VHOST_MESSAGE_BYTES> bytes;
    std::size_t length = 0;
    const auto message = [&] {
      REQUIRE(viommu_vhost_message_write(VIOMMU_VHOST_V2, &other, bytes.data(), bytes.size(), &length) == VIOMMU_OK);
      return viommu_vhost_feeder_message(world.back_end.feeder, bytes.data(), length);
    };
    CHECK(message() == VIOMMU_E_ARGUMENT);
    CHECK(world.back_end.take_sent().empty());
    other.asid = 3;
    CHECK(message() == VIOMMU_OK);
    CHECK(world.back_end.take_sent().size() == 4);
    CHECK(world.answer(base + 13 * page) ==  // nothing behind it, and one message is no batch
          Messages{updated(base + 13 * page, base + 17 * page - 1, user + target + 32 * page)});
  }
}

TEST_CASE("an answer ends where the memory behind it does", "[vhost][feeder][B89][B102][B107]") {
  World world;
  world.map_pages(base, target, 32);
  auto& regions = world.back_end.regions;
  SECTION("at a region that lies elsewhere, and at none") {
    regions = {{target + 4 * page, 4 * page, user}, {target + 8 * page, 4 * page, 2 * user}};
    world.start();
    CHECK(world.answer(base + 5 * page) == Messages{updated(base + 4 * page, base + 8 * page - 1, user)});
    CHECK(world.answer(base + 11 * page) == Messages{updated(base + 8 * page, base + 12 * page - 1, 2 * user)});
    CHECK(world.answer(base + 12 * page, base + 12 * page, reads, VIOMMU_E_FAULT) ==
          Messages{failed(base + 12 * page, base + 12 * page, reads)});
    CHECK_FALSE(world.driver.take_fault());
  }
  SECTION("what the guest may write, and its memory may not") {
    regions = {{target, ram - target, user, VIOMMU_REGION_READ_ONLY}};
    world.start();
    CHECK(world.answer(base) == Messages{updated(base, base + 32 * page - 1, user, reads)});
    CHECK(world.answer(base, base, writes, VIOMMU_E_FAULT) == Messages{failed(base, base, writes)});
  }
  SECTION("what is no memory of the back end") {
    const UserRegion nothing =
        GENERATE(UserRegion{target, mib2, 0}, UserRegion{target, mib2, user, VIOMMU_REGION_MMIO},
                 UserRegion{target, mib2, user, VIOMMU_REGION_UNMAPPED}, UserRegion{target, mib2, top_address - page});
    regions = {nothing};
    world.start();
    CHECK(world.answer(base, base, reads, VIOMMU_E_FAULT).size() == 1);
  }
  SECTION("without regions an address is the guest's") {
    world.back_end.options.memory = nullptr;
    world.start();
    CHECK(world.answer(base + 7 * page) == Messages{updated(base, base + 32 * page - 1, target)});
  }
}

TEST_CASE("a blocked miss is reported once like the device's request, and the look around it never",
          "[vhost][feeder][B102]") {
  World world;
  world.map_pages(base, target, 4, entry_read);
  const bool tells = GENERATE(false, true);
  if (!tells) world.back_end.options.flags = 0;
  world.start();
  CHECK(world.answer(base).size() == 1);
  CHECK_FALSE(world.driver.take_fault());
  CHECK(world.answer(base, base, writes, VIOMMU_E_FAULT) ==
        (tells ? Messages{failed(base, base, writes)} : Messages{}));
  CHECK(world.driver.take_fault() == fault_record(device, base, VIOMMU_WRITE, 5));
  CHECK(world.answer(base + 4 * page, base + 6 * page, reads, VIOMMU_E_FAULT).size() == (tells ? 1 : 0));
  CHECK(world.driver.take_fault() == fault_record(device, base + 4 * page, VIOMMU_READ, 6));
  CHECK_FALSE(world.driver.take_fault());
  CHECK(world.back_end.figures().faults == 2);
}

TEST_CASE("while translation is off the answer is guest memory itself", "[vhost][feeder]") {
  World world;
  world.back_end.regions = {{0, ram, user}, {0x1'0000'0000, gib, 2 * user}};
  world.back_end.begin(world.engine.get());
  CHECK(world.answer(0x1234'5678) == Messages{updated(0, gib - 1, user)});
  CHECK(world.answer(ram, ram, reads, VIOMMU_E_FAULT).size() == 1);
  CHECK(world.answer(0x1'2345'6789) == Messages{updated(0x1'0000'0000, 0x1'3FFF'FFFF, 2 * user)});
  CHECK(world.back_end.figures().misses == 3);
  world.boot();
  CHECK(world.back_end.iotlb.figures().ranges == 0);
}

TEST_CASE("an interrupt is no memory, whatever tables say", "[vhost][feeder]") {
  World world;
  constexpr std::uint64_t interrupts = 0xFEE0'0000;
  world.map_pages(interrupts - 4 * page, target, 8);
  world.map_pages(0xFEF0'0000, target, 4);
  world.start();
  world.back_end.regions.push_back({0xC000'0000, gib, 2 * user});  // what no machine has
  CHECK(world.answer(interrupts, interrupts, writes, VIOMMU_E_FAULT) ==
        Messages{failed(interrupts, interrupts, writes)});
  CHECK(world.answer(interrupts - 1) == Messages{updated(interrupts - 4 * page, interrupts - 1, user + target)});
  CHECK(world.answer(0xFEF0'0000) == Messages{updated(0xFEF0'0000, 0xFEF0'3FFF, user + target)});
}

// ---- Invalidations ----

TEST_CASE("what the guest invalidates is sent before it sees that it is done", "[vhost][feeder][VMM-2]") {
  World world;
  world.map_pages(base, target, 64);
  world.start();
  CHECK(world.answer(base).size() == 1);
  auto& back_end = world.back_end;
  SECTION("a page: both sides of it stay") {
    world.pages(base + 8 * page);
    CHECK(back_end.take_sent() == Messages{invalidated(base + 8 * page, base + 9 * page - 1)});
    CHECK(back_end.iotlb.target(base + 8 * page) == top_address);
    CHECK(back_end.iotlb.target(base + 7 * page) == user + target + 7 * page);
    CHECK(back_end.iotlb.target(base + 9 * page) == user + target + 9 * page);
  }
  SECTION("pages in a row are one message each descriptor") {
    world.pages(base, 3);
    CHECK(back_end.take_sent() == Messages{invalidated(base, base + 8 * page - 1)});
  }
  SECTION("all of it: a domain, everything, a context, the root pointer, translation off, a reset, dirty tracking") {
    const int what = GENERATE(range(0, 7));
    CAPTURE(what);
    if (what == 0) world.driver.add_domain(domain);
    if (what == 1) world.driver.add_global();
    if (what == 2) world.driver.add_context_device(domain, device);
    if (what < 3) world.driver.submit_and_wait();
    if (what == 3) world.driver.set_root_table(world.tables.root_table());
    if (what == 4) world.driver.enable_translation(false);
    if (what == 5) REQUIRE(world.engine.reset() == VIOMMU_OK);
    if (what == 6) {
      REQUIRE(viommu_dirty_tracking(world.engine.get(), VIOMMU_DIRTY_ON) == VIOMMU_OK);
      world.engine.process();
    }
    CHECK_FALSE(back_end.sent.empty());
    CHECK(back_end.iotlb.figures().ranges == 0);
  }
  SECTION("of another domain: nothing") {
    world.driver.add_domain(8);
    world.driver.add_page(9, base);
    world.driver.submit_and_wait();
    CHECK(back_end.sent.empty());
  }
  SECTION("by the VMM itself") {
    CHECK(viommu_vhost_feeder_withdraw(back_end.feeder, 0, top_address) == VIOMMU_OK);
    CHECK(back_end.take_sent() == all_invalidated);
    CHECK(viommu_vhost_feeder_withdraw(back_end.feeder, 1, 0) == VIOMMU_E_ARGUMENT);
  }
}

TEST_CASE("the device's own invalidations are passed on where it has a TLB", "[vhost][feeder]") {
  viommu_vtd_options options = options_39();
  options.extended_capability |= ecap_device_tlb;
  World world{options};
  world.back_end.options.flags |= VIOMMU_VHOST_DEVICE_TLB;
  world.map_pages(base, target, 64);
  world.start();
  world.driver.add(0x3 | std::uint64_t{device} << 32, base);
  world.driver.submit_and_wait();
  CHECK(world.back_end.take_sent() == Messages{invalidated(base, base + page - 1)});
}

TEST_CASE("a context that came without a word is invalidated as if it had been announced", "[vhost][feeder][S1.19]") {
  viommu_vtd_options options = options_39();
  options.capability &= ~cap_caching_mode;
  World world{options};
  world.boot();
  world.back_end.begin(world.engine.get());
  world.map_pages(base, target, 4);
  world.tables.attach(device, world.tree, {.domain_id = domain});
  CHECK(world.answer(base) == Messages{updated(base, base + 4 * page - 1, user + target)});
  world.map(base, target + mib2);
  world.pages(base);
  CHECK(world.back_end.iotlb.target(base) == top_address);
  CHECK(world.answer(base).back() == updated(base, base + page - 1, user + target + mib2));
}

TEST_CASE("a context that came without a word, in the middle of the queue, is invalidated by what stands behind it",
          "[vhost][feeder][S1.19]") {
  viommu_vtd_options options = options_39();
  options.capability &= ~cap_caching_mode;
  World world{options};
  constexpr std::uint16_t neighbour = 0x200;  // in the same domain: what it asked for is cached for both
  world.map_pages(base, target, 1);
  world.boot();
  world.back_end.begin(world.engine.get());
  world.tables.attach(neighbour, world.tree, {.domain_id = domain});
  REQUIRE(world.lands(neighbour, base) == target);
  world.engine.process();
  world.tables.attach(device, world.tree, {.domain_id = domain});
  world.map(base, target + mib2);
  // Between two of the unit's steps: it has begun with the queue, and has not come to the page yet.
  std::atomic<bool> asked{false};
  world.on_read = [&](std::uint64_t gpa) {
    if (gpa < Machine::queue_page || gpa >= Machine::queue_page + page || asked.exchange(true)) return;
    elsewhere([&] { CHECK(world.back_end.miss(base) == VIOMMU_OK); });
    CHECK(world.back_end.iotlb.target(base) == user + target);
  };
  world.pages(base);
  REQUIRE(asked.load());
  CHECK(world.back_end.iotlb.target(base) != user + target);
}

// ---- Order ----

TEST_CASE("an answer that an invalidation overtakes is looked for again", "[vhost][feeder][B103]") {
  World world;
  world.map_pages(base, target, 16);
  world.start();
  auto& back_end = world.back_end;
  unsigned looks = 0;
  SECTION("once") {
    // Between the translation and the message.
    back_end.on_memory = [&] {
      if (looks++ != 0) return;
      elsewhere([&] {
        world.map_pages(base, target + mib2, 16);
        world.pages(base, 4);
      });
    };
    CHECK(back_end.miss(base + page) == VIOMMU_OK);
    CHECK(back_end.take_sent() ==
          Messages{invalidated(base, base + 16 * page - 1), updated(base, base + 16 * page - 1, user + target + mib2)});
    CHECK(back_end.figures().overtaken == 1);
  }
  SECTION("not by one of something else") {
    back_end.on_memory = [&] {
      if (looks++ == 0) elsewhere([&] { world.pages(base + mib2); });
    };
    CHECK(back_end.miss(base + page) == VIOMMU_OK);
    CHECK(looks == 1);
    CHECK(back_end.sent.size() == 2);
  }
  SECTION("by so many that not all are remembered") {
    back_end.on_memory = [&] {
      if (looks++ != 0) return;
      elsewhere([&] {
        world.map_pages(base, target + mib2, 16);
        world.pages(base, 4);
        for (int i = 0; i < 100; ++i) world.pages(base + mib2);
      });
    };
    CHECK(back_end.miss(base + page) == VIOMMU_OK);
    CHECK(back_end.sent.back() == updated(base, base + 16 * page - 1, user + target + mib2));
  }
  SECTION("and given up when that does not end, with nothing sent") {
    back_end.on_memory = [&] {
      ++looks;
      elsewhere([&] { world.pages(base, 4); });
    };
    CHECK(back_end.miss(base + page) == VIOMMU_E_BUSY);
    CHECK(looks == 8);
    CHECK(back_end.figures().overtaken == 8);
    for (const Sent& sent : back_end.sent) CHECK(sent.type == VIOMMU_VHOST_INVALIDATE);
  }
  SECTION("a failure too") {
    back_end.on_memory = [] {};
    world.tables.unmap(world.tree, base);
    world.pages(base);
    back_end.take_sent();
    unsigned faults = 0;
    world.on_read = [&](std::uint64_t) {
      const bool first = looks++ == 0;
      elsewhere([&] {
        // A mapping that came while its absence was looked at.
        if (first) CHECK(viommu_vhost_feeder_withdraw(back_end.feeder, base, base) == VIOMMU_OK);
        if (world.driver.take_fault()) ++faults;  // so that another one is recorded
      });
    };
    CHECK(back_end.miss(base) == VIOMMU_E_FAULT);
    CHECK(back_end.take_sent() == Messages{invalidated(base, base), failed(base, base, reads)});
    CHECK(back_end.figures().overtaken == 1);
    if (world.driver.take_fault()) ++faults;
    CHECK(faults == 1);
  }
}

TEST_CASE("while a message is being sent nothing is locked, and the order stays", "[vhost][feeder][B103]") {
  World world;
  for (std::uint64_t i = 0; i < 6; ++i) world.map(base + i * page, target + 2 * i * page);
  world.back_end.options.ahead = 2;
  world.start();
  auto& back_end = world.back_end;
  const auto update = [](std::uint64_t i) {
    return updated(base + i * page, base + (i + 1) * page - 1, user + target + 2 * i * page);
  };
  const Sent gone = invalidated(base, base + page - 1);
  SECTION("an invalidation from inside send is sent behind all that was before it") {
    back_end.on_sent = [&](const Sent& sent) {
      if (sent == update(0)) world.pages(base);
      if (sent == gone) CHECK(back_end.sent.size() == 4);
    };
    CHECK(back_end.miss(base) == VIOMMU_OK);
    CHECK(back_end.take_sent() == Messages{update(0), update(1), update(2), gone});
    CHECK(back_end.iotlb.target(base) == top_address);
  }
  SECTION("a miss from inside send is answered") {
    back_end.on_sent = [&](const Sent& sent) {
      if (sent == update(0)) CHECK(back_end.miss(base + 4 * page) == VIOMMU_OK);
    };
    CHECK(back_end.miss(base) == VIOMMU_OK);
    CHECK(back_end.take_sent() == Messages{update(0), update(1), update(2), update(4), update(5)});
  }
  SECTION("another thread's invalidation waits until it is sent, and no longer") {
    std::atomic<bool> returned{false};
    std::thread other;
    back_end.on_sent = [&](const Sent& sent) {
      if (sent == update(0)) {
        std::atomic<bool> begun{false};
        other = std::thread{[&] {
          begun.store(true);
          CHECK(viommu_vhost_feeder_withdraw(back_end.feeder, base, base + page - 1) == VIOMMU_OK);
          returned.store(true);
        }};
        while (!begun.load()) std::this_thread::yield();
      }
      if (sent != gone) CHECK_FALSE(returned.load());
    };
    CHECK(back_end.miss(base) == VIOMMU_OK);
    other.join();
    CHECK(back_end.take_sent() == Messages{update(0), update(1), update(2), gone});
  }
  SECTION("as many misses as there are readers, and another is told to come again") {
    viommu_result third = VIOMMU_OK;
    back_end.on_sent = [&](const Sent& sent) {
      if (sent == update(0)) CHECK(back_end.miss(base + 4 * page) == VIOMMU_OK);
      if (sent == update(4)) third = back_end.miss(base);
    };
    CHECK(back_end.miss(base) == VIOMMU_OK);
    CHECK(third == VIOMMU_E_BUSY);
  }
}

// ---- Dirty pages ----

TEST_CASE("while writes are logged a feeder asks for no more than what is written", "[vhost][feeder][S1.25][B110]") {
  World world;
  world.map_pages(base, target, 64);
  world.start();
  CHECK(world.answer(base, base, writes).size() == 1);
  REQUIRE(viommu_dirty_tracking(world.engine.get(), VIOMMU_DIRTY_ON) == VIOMMU_OK);
  world.engine.process();
  CHECK(world.back_end.take_sent().size() == 2);  // all of 2^64 has no message of its own
  CHECK(world.back_end.iotlb.figures().ranges == 0);
  CHECK(world.answer(base) == Messages{updated(base, base + 64 * page - 1, user + target, reads)});
  CHECK(world.answer(base + 3 * page, base + 3 * page, writes) ==
        Messages{updated(base + 3 * page, base + 4 * page - 1, user + target + 3 * page)});
  viommu_range runs[4];
  std::uint32_t count = 0;
  REQUIRE(viommu_dirty_fetch(world.engine.get(), runs, 4, &count) == VIOMMU_OK);
  std::vector<std::uint64_t> dirty;
  for (std::uint32_t i = 0; i < count; ++i)
    if (runs[i].first >= target) dirty.push_back(runs[i].first);  // beside the unit's own writes
  CHECK(dirty == std::vector{target + 3 * page});
  // What may not be read is not looked at beyond the page.
  for (std::uint64_t i = 0; i < 8; ++i) world.map(base + mib2 + i * page, target + mib2 + i * page, entry_write);
  CHECK(world.answer(base + mib2, base + mib2, writes) ==
        Messages{updated(base + mib2, base + mib2 + page - 1, user + target + mib2, writes)});
  REQUIRE(viommu_dirty_fetch(world.engine.get(), runs, 4, &count) == VIOMMU_OK);
  REQUIRE(count == 1);
  CHECK((runs[0].first == target + mib2 && runs[0].last == target + mib2 + page - 1));
}

// ---- From end to end ----

TEST_CASE("a back end that asks on demand sees what the engine sees, whatever is remapped", "[vhost][feeder][VMM-3]") {
  const std::uint64_t seed = GENERATE(1U, 2U, 3U);
  CAPTURE(seed);
  World world;
  world.back_end.options.ahead = seed == 2 ? 4 : 0;
  world.back_end.options.form = static_cast<std::uint32_t>(seed - 1);
  world.start();
  Random random{seed};
  auto& iotlb = world.back_end.iotlb;
  // The back end's message, as bytes.
  iotlb.on_miss = [&](const Asked& asked) {
    const viommu_vhost_message message{asked.first,       asked.last, 0, 0, static_cast<std::uint8_t>(asked.access),
                                       VIOMMU_VHOST_MISS, 0};
    std::array<std::byte, VIOMMU_VHOST_MESSAGE_BYTES> bytes;
    std::size_t length = 0;
    REQUIRE(viommu_vhost_message_write(world.back_end.options.form, &message, bytes.data(), bytes.size(), &length) ==
            VIOMMU_OK);
    const viommu_result fed = viommu_vhost_feeder_message(world.back_end.feeder, bytes.data(), length);
    REQUIRE((fed == VIOMMU_OK || fed == VIOMMU_E_FAULT));
  };
  constexpr std::uint64_t pages = 96;
  for (int step = 0; step < 1500; ++step) {
    const std::uint64_t first = random.below(pages);
    const std::uint64_t count = std::min(1 + random.below(12), pages - first);
    if (random.chance(1, 4)) {
      const std::uint64_t shift = random.below(3) * mib2;
      const std::uint64_t rights = 1 + random.below(3);
      const bool goes = random.chance(1, 3);
      for (std::uint64_t i = first; i < first + count; ++i) {
        if (goes)
          world.tables.unmap(world.tree, base + i * page);
        else
          world.map(base + i * page, target + shift + i * page, rights);
        world.driver.add_page(domain, base + i * page);
      }
      if (random.chance(1, 10)) world.driver.add_domain(domain);
      world.driver.submit_and_wait();
    }
    const std::uint64_t iova = base + first * page + random.below(page);
    const std::uint64_t length = 1 + random.below(count * page);
    const auto access = static_cast<std::uint32_t>(1 + random.below(3));
    // Twice at most: what is missing is fed in between.
    for (int tries = 0; tries < 8; ++tries)
      if (iotlb.parts(iova, length, access, 64); iotlb.end.stopped == VIOMMU_IOTLB_COMPLETE) break;
    std::vector<viommu_piece> pieces(64);
    viommu_request asked = request(device, iova, static_cast<std::uint8_t>(access), length, VIOMMU_NO_REPORT);
    const viommu_range_end end = world.reader.translate_range(asked, pieces);
    std::uint64_t at = iova;
    CAPTURE(step, iova, length, access);
    for (std::uint32_t i = 0; i < end.pieces; ++i)
      for (std::uint64_t done = 0; done < pieces[i].length;) {
        const std::vector<Part> one = iotlb.parts(at, pieces[i].length - done, access, 1);
        REQUIRE(one.size() == 1);
        REQUIRE(one[0].target == user + pieces[i].gpa + done);
        REQUIRE(one[0].rights == pieces[i].rights);
        at += one[0].length;
        done += one[0].length;
      }
    REQUIRE(at - iova == end.translated);
    if (end.complete == 0) REQUIRE(iotlb.target(at, access) == top_address);
  }
  CHECK(world.back_end.figures().updates > 100);
  CHECK(world.back_end.figures().invalidations > 100);
}

// ---- Nonsense ----

TEST_CASE("a feeder that makes no sense is refused, and messages that are no miss", "[vhost][feeder]") {
  World world;
  viommu_vhost_feeder* feeder = nullptr;
  const auto create = [&](auto change) {
    viommu_vhost_options options = world.back_end.options;
    change(options);
    return viommu_vhost_feeder_create(world.engine.get(), &options, nullptr, &feeder);
  };
  CHECK(create([](auto& o) { o.size = 8; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.send = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.window = 0x800; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.window = 0x3000; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.window = std::uint64_t{1} << 41; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.ahead = 61; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.flags = 8; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.flags = VIOMMU_VHOST_BATCH; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.asid = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.form = 3; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.readers = 65; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(create([](auto& o) { o.flags = VIOMMU_VHOST_DEVICE_TLB; }) == VIOMMU_E_REFUSED);  // no ECAP.DT
  CHECK(feeder == nullptr);
  CHECK(viommu_vhost_feeder_destroy(nullptr) == VIOMMU_OK);
  world.start();
  CHECK(world.back_end.miss(1, 0) == VIOMMU_E_ARGUMENT);
  CHECK(world.back_end.miss(0, 1, 0) == VIOMMU_E_ARGUMENT);
  CHECK(world.back_end.miss(0, 1, 4) == VIOMMU_E_ARGUMENT);
  std::array<std::byte, 32> bytes{};
  CHECK(viommu_vhost_feeder_message(world.back_end.feeder, bytes.data(), 32) == VIOMMU_E_UNSUPPORTED);
  const viommu_vhost_message update{0, 0xFFF, 0, 0, 3, VIOMMU_VHOST_UPDATE, 0};
  std::size_t length = 0;
  REQUIRE(viommu_vhost_message_write(0, &update, bytes.data(), bytes.size(), &length) == VIOMMU_OK);
  CHECK(viommu_vhost_feeder_message(world.back_end.feeder, bytes.data(), length) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_vhost_feeder_message(world.back_end.feeder, bytes.data(), 31) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_vhost_feeder_message(nullptr, bytes.data(), 32) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_vhost_feeder_miss(nullptr, 0, 1, reads) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_vhost_feeder_withdraw(nullptr, 0, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_vhost_figures_get(nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  // The binary interface: these only ever grow.
  CHECK((sizeof(viommu_vhost_options) == 64 && sizeof(viommu_vhost_message) == 32));
  CHECK(sizeof(viommu_vhost_figures) == 56);
  CHECK(world.back_end.sent.empty());
  // A device that is gone takes its subscription along, and its feeder can still be ended.
  CHECK(viommu_device_remove(world.engine.get(), device) == VIOMMU_OK);
}

}  // namespace viommu::test
