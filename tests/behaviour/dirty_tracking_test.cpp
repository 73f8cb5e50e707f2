// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which pages of guest memory were written: by devices, by holds, by the unit itself.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/vtd/register_map.hpp"
#include "tests/behaviour/scalable_machine.hpp"
#include "tests/capi/machine.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/guarded_region.hpp"

namespace viommu::test {
namespace {

using capi::device;
using capi::page_bytes;

constexpr std::uint64_t dma = 0x40000000;  // 4 MiB for devices to write to
constexpr std::uint64_t dma_bytes = 0x400000;
constexpr std::uint64_t large = 0x40200000;  // the guest's 2 MiB page, both as gpa and as iova
constexpr std::uint64_t small = 0x1000;      // its 4 KiB pages begin here
constexpr std::uint16_t passed = 0x0330;

struct Run {
  std::uint64_t first;
  std::uint64_t length;
  friend bool operator==(const Run&, const Run&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Run& run) {
    return out << std::hex << run.first << '+' << run.length << std::dec;
  }
};
using Runs = std::vector<Run>;

std::vector<Run> fetch_from(viommu_engine* engine, std::uint32_t capacity = 16) {
  std::vector<viommu_range> runs(capacity);
  std::uint32_t count = 0;
  REQUIRE(viommu_dirty_fetch(engine, runs.data(), capacity, &count) == VIOMMU_OK);
  std::vector<Run> found;
  found.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) found.push_back({runs[i].first, runs[i].last - runs[i].first + 1});
  return found;
}
bool is_on(viommu_engine* engine) {
  std::uint32_t on = 7;
  REQUIRE(viommu_dirty_tracking_is(engine, &on) == VIOMMU_OK);
  REQUIRE(on <= VIOMMU_DIRTY_ON);
  return on == VIOMMU_DIRTY_ON;
}

/// 2 MiB at `large`, and four pages at `small`; a second device passes through.
struct World : capi::Machine {
  explicit World(const viommu_host& host = capi::empty_host()) : Machine{options(), host} {
    REQUIRE(engine.add_region(memory.gpa(), {memory.data(), memory.length()}) == VIOMMU_OK);
    map(large, large, entry_read_write, 2);
    for (std::uint64_t page = 0; page < 4; ++page) map(small + page * page_bytes, dma + page * 2 * page_bytes);
    tables.set_context(passed, 0x9, 0x203);  // pass-through, AW of 57 bits
  }
  static viommu_vtd_options options() { return capi::default_options(); }

  viommu_result track(std::uint32_t on = VIOMMU_DIRTY_ON) { return viommu_dirty_tracking(engine.get(), on); }
  void begin() {
    REQUIRE(track() == VIOMMU_OK);
    REQUIRE(is_on(engine.get()));
    CHECK(fetch().empty());
  }
  Runs fetch(std::uint32_t capacity = 16) { return fetch_from(engine.get(), capacity); }
  viommu_translation write(std::uint64_t iova, std::uint64_t length = 0, std::uint16_t source = device) {
    return reader.translate(request(source, iova, VIOMMU_WRITE, length));
  }

  GuardedRegion memory{dma, dma_bytes};
};

}  // namespace

TEST_CASE("dirty tracking is on when the guards that were open have ended", "[behaviour][dirty][S1.25]") {
  World world;
  CHECK(world.write(large).mask == 0x1FFFFF);  // cached, writable, all of it
  CHECK(world.fetch().empty());
  CHECK_FALSE(is_on(world.engine.get()));
  {
    const Guard guard = world.reader.guard();
    CHECK(world.write(large).mask == 0x1FFFFF);
    CHECK(world.track() == VIOMMU_OK);
    CHECK_FALSE(is_on(world.engine.get()));
    CHECK(world.engine.process().state == VIOMMU_PROCESS_WAIT);
    CHECK_FALSE(is_on(world.engine.get()));
  }
  CHECK(world.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(is_on(world.engine.get()));
  CHECK(world.fetch().empty());

  // A write of 0x40 bytes across two pages.
  std::array<viommu_piece, 4> pieces{};
  const viommu_range_end end = world.reader.translate_range(request(device, large + 0xFE0, VIOMMU_WRITE, 0x40), pieces);
  CHECK(end.complete == 1);
  CHECK(end.pieces == 1);
  CHECK(pieces[0].gpa == large + 0xFE0);
  CHECK(pieces[0].length == 0x40);
  CHECK(world.fetch() == Runs{{large, 2 * page_bytes}});
  CHECK(world.fetch().empty());
}

TEST_CASE("while tracking is on a write's answer covers what was asked for, and all it covers is dirty",
          "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  for (const std::uint64_t offset : {0x0u, 0x10u, 0xFE0u, 0x1003u, 0x7FFFu, 0x8000u})
    for (const std::uint64_t length : {0x1u, 0x8u, 0x40u, 0x1000u, 0x2345u, 0x20000u}) {
      CAPTURE(offset, length);
      const viommu_translation answer = world.write(large + offset, length);
      CHECK(answer.kind == VIOMMU_TRANSLATED);
      CHECK(answer.gpa == large + offset);
      CHECK(answer.mask < length);
      CHECK((answer.gpa | answer.mask) < large + offset + length);
      const std::uint64_t first = (answer.gpa & ~answer.mask) & ~(page_bytes - 1);
      const std::uint64_t last = (answer.gpa | answer.mask) | (page_bytes - 1);
      CHECK(first >= ((large + offset) & ~(page_bytes - 1)));
      CHECK(world.fetch() == Runs{{first, last - first + 1}});
    }
  // Not told how long: the page.
  CHECK(world.write(large + 0x5010).mask == 0xFFF);
  CHECK(world.fetch() == Runs{{large + 0x5000, page_bytes}});
  // A large buffer in one answer, where it begins at a boundary.
  CHECK(world.write(large, 0x100000).mask == 0xFFFFF);
  CHECK(world.fetch() == Runs{{large, 0x100000}});
}

TEST_CASE("reads are not dirty, and their answers let nobody write", "[behaviour][dirty][S1.25]") {
  World world;
  CHECK(world.ask(large).rights == (VIOMMU_READ | VIOMMU_WRITE));
  world.begin();
  const viommu_translation answer = world.ask(large);
  CHECK(answer.rights == VIOMMU_READ);
  CHECK(answer.mask == 0x1FFFFF);
  CHECK(world.fetch().empty());
  CHECK(world.ask(large, VIOMMU_READ | VIOMMU_WRITE).rights == (VIOMMU_READ | VIOMMU_WRITE));  // counts as a write
  CHECK(world.fetch() == Runs{{large, page_bytes}});
  CHECK(world.write(large + 0x400000).kind == VIOMMU_FAULT);
  CHECK(world.write(0xFEE00000, 4).kind == VIOMMU_INTERRUPT);
  CHECK(world.fetch().empty());
}

TEST_CASE("batches, requests without a reader and identity answers are tracked too", "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  std::array<viommu_request, 70> requests{};
  std::array<viommu_translation, 70> answers{};
  for (std::size_t i = 0; i < requests.size(); ++i)
    requests[i] = request(device, small + i % 4 * page_bytes + 8 * i, i % 4 == 3 ? VIOMMU_READ : VIOMMU_WRITE, 8);
  for (unsigned round = 0; round < 2; ++round) {
    REQUIRE(world.reader.translate_batch(requests, answers) == VIOMMU_OK);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      CHECK(answers[i].kind == VIOMMU_TRANSLATED);
      if (i % 4 != 3) CHECK(answers[i].mask == 7);
    }
    CHECK(world.fetch() == Runs{{dma, page_bytes}, {dma + 0x2000, page_bytes}, {dma + 0x4000, page_bytes}});
  }
  CHECK(world.engine.translate_once(request(device, small, VIOMMU_WRITE, 4)).mask == 3);
  CHECK(world.fetch() == Runs{{dma, page_bytes}});
  const viommu_translation pass_through = world.write(dma + 0x9000, 0x2000, passed);
  CHECK(pass_through.kind == VIOMMU_IDENTITY);
  CHECK(pass_through.mask == 0xFFF);  // the block of both pages would begin before it
  CHECK(world.fetch() == Runs{{dma + 0x9000, page_bytes}});
  world.driver.enable_translation(false);
  CHECK(world.write(dma + 0xA000, 0x2000).kind == VIOMMU_IDENTITY);
  CHECK(world.fetch() == Runs{{dma + 0xA000, 2 * page_bytes}});
}

TEST_CASE("a hold for write is dirty again when it ends", "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  const bool revoked = GENERATE(false, true);
  viommu_translation answer{};
  std::uint64_t writing = 0;
  const viommu_request asked = request(device, large + 0x3000, VIOMMU_WRITE, 0x1000);
  REQUIRE(viommu_hold(world.reader.get(), &asked, 1, &answer, &writing) == VIOMMU_OK);
  Hold reading = world.reader.hold(request(device, large + 0x8000, VIOMMU_READ, 0x1000), 2, answer);
  REQUIRE(reading);
  CHECK(world.fetch() == Runs{{large + 0x3000, page_bytes}});
  CHECK(world.fetch().empty());
  reading.release();
  CHECK(world.fetch().empty());
  CHECK((revoked ? viommu_hold_revoke : viommu_release)(world.engine.get(), writing) == VIOMMU_OK);
  CHECK(world.fetch() == Runs{{large + 0x3000, page_bytes}});
}

TEST_CASE("what was written under a guard is told when the guard has ended, for the page may be written until then",
          "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  std::array<viommu_range, 4> runs{};
  std::uint32_t count = 7;
  {
    const Guard guard = world.reader.guard();
    CHECK(world.write(large, 0x1000).mask == 0xFFF);
    CHECK(viommu_dirty_fetch(world.engine.get(), runs.data(), 4, &count) == VIOMMU_E_BUSY);
    CHECK(count == 0);
    Reader other = *world.engine.reader();
    CHECK(other.translate(request(device, large + 0x6000, VIOMMU_WRITE, 8)).mask == 7);
    CHECK(viommu_dirty_fetch(world.engine.get(), runs.data(), 4, &count) == VIOMMU_E_BUSY);
  }
  CHECK(world.fetch() == Runs{{large, page_bytes}});  // what was there at the first fetch
  CHECK(world.fetch() == Runs{{large + 0x6000, page_bytes}});
}

TEST_CASE("what the unit itself writes is dirty", "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  world.driver.add_global();
  world.driver.submit_and_wait();  // a status write
  CHECK(world.fetch() == Runs{{0x101000, page_bytes}});
}

TEST_CASE("flags that a walk sets are dirty pages of tables", "[behaviour][dirty][S1.25]") {
  ScalableMachine machine;
  machine.attach(ScalableMachine::device);
  PasidEntry fields;
  fields.type = scalable::first_stage;
  fields.tree = machine.tables.create_tree(4);
  fields.high = scalable::bit(23);
  machine.set_pasid(0, fields);
  machine.map(fields.tree, ScalableMachine::iova, 0x170000);
  viommu_engine* const engine = machine.engine.get();
  REQUIRE(viommu_dirty_tracking(engine, VIOMMU_DIRTY_ON) == VIOMMU_OK);
  REQUIRE(is_on(engine));
  CHECK(fetch_from(engine).empty());
  CHECK(machine.ask(ScalableMachine::iova, VIOMMU_READ).gpa == 0x170000);
  const Runs tables = fetch_from(engine);  // accessed flags, in a table each or in neighbours
  std::uint64_t pages = 0;
  for (const Run& run : tables) pages += run.length / page_bytes;
  CHECK(pages == 4);
  CHECK(machine.ask(ScalableMachine::iova, VIOMMU_WRITE).gpa == 0x170000);
  const Runs written = fetch_from(engine);
  CHECK(written.size() == 2);  // the leaf's table, and the page
  CHECK(written.back() == Run{0x170000, page_bytes});
}

TEST_CASE("a device that keeps translations is to ask for each write, and what it writes by an older one is dirty",
          "[behaviour][dirty][S1.25]") {
  ScalableMachine machine{scalable::capability, scalable::everything | scalable::bit(2)};
  machine.attach(ScalableMachine::device, 4 | 8);
  PasidEntry fields;
  fields.tree = machine.tables.create_tree(4);
  machine.set_pasid(0, fields);
  machine.map(fields.tree, ScalableMachine::iova, 0x170000, entry_read_write);
  viommu_engine* const engine = machine.engine.get();
  const viommu_request asked = request(ScalableMachine::device, ScalableMachine::iova, VIOMMU_READ | VIOMMU_WRITE, 8);
  viommu_ats_completion completion{};
  REQUIRE(viommu_ats_translate(machine.reader.get(), &asked, &completion) == VIOMMU_OK);
  CHECK(completion.rights == (VIOMMU_READ | VIOMMU_WRITE));
  CHECK((completion.flags & VIOMMU_ATS_UNTRANSLATED_ONLY) == 0);
  REQUIRE(viommu_dirty_tracking(engine, VIOMMU_DIRTY_ON) == VIOMMU_OK);
  REQUIRE(is_on(engine));
  REQUIRE(viommu_ats_translate(machine.reader.get(), &asked, &completion) == VIOMMU_OK);
  CHECK(completion.rights == (VIOMMU_READ | VIOMMU_WRITE));
  CHECK((completion.flags & VIOMMU_ATS_UNTRANSLATED_ONLY) != 0);
  CHECK(fetch_from(engine).empty());
  const viommu_request translated = request(ScalableMachine::device, 0x170010, VIOMMU_WRITE, 0x10);
  viommu_translation answer{};
  REQUIRE(viommu_ats_check(machine.reader.get(), &translated, &answer) == VIOMMU_OK);
  CHECK(answer.mask == 0xF);
  CHECK(fetch_from(engine) == Runs{{0x170000, page_bytes}});
}

TEST_CASE("tracking that goes off waits for those who write, and what they wrote can be fetched afterwards",
          "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  viommu_translation answer{};
  Hold writing = world.reader.hold(request(device, large + 0x3000, VIOMMU_WRITE, 0x1000), 1, answer);
  CHECK(world.fetch() == Runs{{large + 0x3000, page_bytes}});
  CHECK(world.write(large, 8).mask == 7);
  CHECK(world.track(VIOMMU_DIRTY_OFF) == VIOMMU_OK);
  CHECK(is_on(world.engine.get()));
  writing.release();
  CHECK(world.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK_FALSE(is_on(world.engine.get()));
  CHECK(world.fetch() == Runs{{large, page_bytes}, {large + 0x3000, page_bytes}});
  CHECK(world.write(large).mask == 0x1FFFFF);
  CHECK(world.fetch().empty());
}

TEST_CASE("switching tracking on twice has no effect, and again it begins anew", "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  CHECK(world.write(large, 8).mask == 7);
  CHECK(world.write(large, 8).mask == 7);
  const std::uint64_t walks = world.engine.statistics().walks;
  CHECK(world.track() == VIOMMU_OK);
  CHECK(is_on(world.engine.get()));
  CHECK(world.write(large, 8).mask == 7);
  CHECK(world.engine.statistics().walks == walks);  // nothing was invalidated
  CHECK(world.fetch() == Runs{{large, page_bytes}});
  CHECK(world.write(large, 8).mask == 7);
  CHECK(world.track(VIOMMU_DIRTY_OFF) == VIOMMU_OK);
  CHECK(world.track(VIOMMU_DIRTY_OFF) == VIOMMU_OK);
  world.begin();  // and that finds nothing
  CHECK(viommu_reset(world.engine.get()) == VIOMMU_OK);
  CHECK(is_on(world.engine.get()));  // it is the VMM's, not the guest's
  CHECK(world.write(dma, 8).kind == VIOMMU_IDENTITY);
  CHECK(world.fetch() == Runs{{dma, page_bytes}});
}

TEST_CASE("regions that are added while tracking is on have bits too, and others have none",
          "[behaviour][dirty][S1.25]") {
  World world;
  world.begin();
  GuardedRegion more{0x8000000000, 2 * page_bytes};
  CHECK(world.write(more.gpa(), 8, passed).kind == VIOMMU_IDENTITY);
  CHECK(world.fetch().empty());
  REQUIRE(world.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_OK);
  CHECK(world.write(more.gpa() + 0x1000, 8, passed).kind == VIOMMU_IDENTITY);
  CHECK(world.fetch() == Runs{{more.gpa() + 0x1000, page_bytes}});
  REQUIRE(world.engine.remove_region(more.gpa(), 1) == VIOMMU_OK);
}

TEST_CASE("without memory for the bits tracking does not go on, and a region is not added",
          "[behaviour][dirty][S1.25][allocator]") {
  CountingAllocator memory;
  viommu_host host = capi::empty_host();
  host.opaque = &memory;
  host.allocate = [](void* self, std::size_t size, std::size_t alignment) {
    return static_cast<CountingAllocator*>(self)->allocate(size, alignment);
  };
  host.deallocate = [](void* self, void* block, std::size_t size, std::size_t alignment) {
    static_cast<CountingAllocator*>(self)->deallocate(block, size, alignment);
  };
  {
    World world{host};
    memory.fail_at(2);
    CHECK(world.track() == VIOMMU_E_MEMORY);
    CHECK_FALSE(is_on(world.engine.get()));
    CHECK(world.write(large).mask == 0x1FFFFF);
    world.begin();
    GuardedRegion more{0x8000000000, 2 * page_bytes};
    memory.fail_at(3);  // after the map and its regions
    CHECK(world.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_E_MEMORY);
    CHECK(world.engine.remove_region(more.gpa(), 1) == VIOMMU_E_NOT_FOUND);
    CHECK(world.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_OK);
  }
  CHECK(memory.open_bytes() == 0);
}

TEST_CASE("a switch of tracking that waits is in the way of being saved", "[behaviour][dirty][S5.5][S1.25]") {
  World world;
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  {
    const Guard guard = world.reader.guard();
    CHECK(world.track() == VIOMMU_OK);
    CHECK(viommu_quiesce(world.engine.get(), &refusal) == VIOMMU_E_REFUSED);
    CHECK(std::string{refusal.field} == "dirty tracking");
  }
  CHECK(viommu_quiesce(world.engine.get(), &refusal) == VIOMMU_OK);
}

TEST_CASE("calls for dirty tracking refuse what makes no sense", "[behaviour][dirty][capi]") {
  World world;
  viommu_engine* const engine = world.engine.get();
  viommu_range run{};
  std::uint32_t number = 0;
  CHECK(viommu_dirty_tracking(nullptr, VIOMMU_DIRTY_ON) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_tracking(engine, 2) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_tracking_is(nullptr, &number) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_tracking_is(engine, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_fetch(nullptr, &run, 1, &number) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_fetch(engine, nullptr, 1, &number) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_fetch(engine, &run, 0, &number) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_fetch(engine, &run, 1, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_fetch(engine, &run, 1, &number) == VIOMMU_OK);
  CHECK(number == 0);
}

}  // namespace viommu::test
