// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A unit whose host has an executor, against the same unit without one: the same guest, the same descriptors, the same
// requests. After each step all that a guest or a host could see must be equal: answers, and whether they were cached;
// head and error of the queue; stores, messages and routes in their order; counts; what a listener was told.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/unit.hpp"
#include "tests/core/test_waist.hpp"
#include "tests/support/executors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint64_t cap_all = 0x80D2'008C'222F'0606;
constexpr std::uint64_t ecap_all =
    0xF0'0F4A | mask_of(ecap::dt, ecap::smts, ecap::adms, ecap::pasid, ecap::prs, ecap::hpts, ecap::pds);

constexpr std::uint64_t memory_begin = 0x100000;
constexpr std::uint64_t queue_page = memory_begin;
constexpr std::uint64_t first_table = memory_begin + 0x1000;
constexpr std::uint64_t status_page = 0x80000;  // no region: stores come to the host's function
constexpr std::uint64_t ring_bytes = 0x1000;

constexpr std::size_t spaces = 12;
constexpr std::uint16_t domains = 8;  // so that some have two address spaces
constexpr std::array<std::uint64_t, 12> pages{0x4000'0000, 0x4000'1000, 0x4000'2000, 0x4000'7000,
                                              0x4000'8000, 0x401F'F000, 0x4020'0000, 0x4020'1000,
                                              0x4080'0000, 0x4100'0000, 0x7FFF'F000, 0x8000'0000};
constexpr std::uint64_t large_page = 0x4100'0000;  // 2 MiB

[[nodiscard]] std::uint16_t domain_of(std::size_t space) { return static_cast<std::uint16_t>(1 + space % domains); }

/// Of these, any page-selective invalidation of the domain means all.
[[nodiscard]] bool is_first_stage(std::size_t space) { return space % 5 == 4 || space % 4 == 1; }
/// Where one has it.
[[nodiscard]] std::optional<Pasid> pasid_of(std::size_t space) {
  return space % 3 == 0 ? std::nullopt : std::optional{Pasid{static_cast<std::uint32_t>(5 + space % 2)}};
}

struct Shape {
  bool wide = false;
  TableMode mode = TableMode::legacy;
  std::size_t budget = 0;  ///< of each slice; 0: whole rings
};

enum class Effect : std::uint8_t { store, message, routes };

/// What the listener was told of one domain: which of `pages`, and whether tables may stay in the end.
using Told = std::map<std::pair<std::uint64_t, std::uint64_t>, bool>;  // by PASID, 0 for none; 100 more for all of it

/// Under which of them a scope is told: what is covered need not be told again.
[[nodiscard]] std::vector<std::uint64_t> told_as(const caches::PageScope& scope) {
  if (scope.names_domain()) return {0, 5, 6, 105, 106};
  if (scope.whole_pasid) return {scope.pasid.value, scope.pasid.value + 100ULL};
  return {scope.by_pasid ? scope.pasid.value : 0ULL};
}

/// One unit and its guest. `execute` empty: all on one thread.
class Machine {
 public:
  using Execute = std::function<void(std::uint32_t, test::Task, void*)>;

  Machine(const Shape& shape, Execute execute) : shape_{shape}, execute_{std::move(execute)} {
    const GpaRange range{{ram_.gpa()}, {ram_.gpa() + ram_.length() - 1}};
    REQUIRE(waist_.add_region({range, ram_.data(), false}) == core::RegionResult::ok);
    for (std::size_t space = 0; space < spaces; ++space) {
      trees_[space] = tables_.create_tree(4);
      for (const std::uint64_t page : pages) write_page(space, page, 0);
    }
    write(offset::root_table, with(RootTableAddress{first_table}, rtaddr::mode, shape.mode).raw);
    write(offset::global_command, 0x4000'0000, 4);
    write(offset::fault_event_control, 0, 4);
    write(offset::completion_event_control, 0, 4);
    write(offset::completion_event_data, 0x55, 4);
    write(offset::queue_address, queue_page | (shape.wide ? 0x800U : 0U));
    write(offset::global_command, 0x0400'0000, 4);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() = default;

  void write(std::uint64_t where, std::uint64_t value, unsigned size = 8) {
    REQUIRE(unit_.write(where, size, value) == AccessStatus::done);
  }
  [[nodiscard]] std::uint64_t read(std::uint64_t where, unsigned size = 8) { return unit_.read(where, size).value; }

  void write_page(std::size_t space, std::uint64_t page, std::uint64_t change) {
    const std::uint64_t gpa = (space + 1) << 36 | change << 21 | (page & 0x1F'F000);
    if (page == large_page) return tables_.map(trees_[space], page, gpa, test::entry_read_write, 2);
    tables_.map(trees_[space], page, gpa);
  }
  void put(const RawDescriptor& raw) {
    place(tail_, raw);
    tail_ = (tail_ + entry_bytes()) % ring_bytes;
  }
  void place(std::uint64_t at, const RawDescriptor& raw) {
    for (std::uint64_t i = 0; i < entry_bytes() / 8; ++i)
      REQUIRE(ram_.store_u64(queue_page + at + i * 8, raw.words[i]));
  }
  [[nodiscard]] std::uint64_t entry_bytes() const { return shape_.wide ? 32 : 16; }
  [[nodiscard]] std::uint64_t entries_waiting() {
    return (tail_ + ring_bytes - read(offset::queue_head)) % ring_bytes / entry_bytes();
  }
  void ring() { write(offset::queue_tail, tail_); }
  WorkState process(std::uint32_t budget) { return unit_.process(budget); }
  [[nodiscard]] bool stopped() { return (read(offset::fault_status, 4) & 0x10) != 0; }
  void repair(const RawDescriptor& raw) {
    place(read(offset::queue_head), raw);
    write(offset::fault_status, 0x10, 4);
  }
  void clear_completion() { write(offset::completion_status, 1, 4); }
  void enter() { waist_.enter(reader_); }
  void leave() { waist_.leave(reader_); }

  /// The answer, and how the caches came to it.
  [[nodiscard]] std::vector<std::uint64_t> ask(std::size_t space, std::uint64_t page) {
    const test::WaistGuard guard{waist_, reader_};
    const SourceId source{static_cast<std::uint16_t>(space << 8)};
    const std::uint64_t version = waist_.context_version();
    caches::ContextEntry context = waist_.find_context(source);
    const bool known = static_cast<bool>(context);
    if (!known) context = waist_.insert_context(version, source, key(space), {});
    REQUIRE(context);
    const core::Translation found = waist_.translate(reader_, context.space(), {page + 0x10}, read_only);
    return {static_cast<std::uint64_t>(found.outcome),
            found.gpa.value,
            known,
            count(core::Count::iotlb_hits),
            count(core::Count::walks),
            count(core::Count::walk_loads)};
  }
  /// All that is to be seen from outside.
  [[nodiscard]] std::vector<std::uint64_t> state() {
    std::vector<std::uint64_t> all{read(offset::queue_head), read(offset::fault_status, 4),
                                   read(offset::queue_error_record), read(offset::completion_status, 4),
                                   unit_.messages()};
    for (std::size_t i = 0; i < work_counts; ++i) all.push_back(unit_.count(static_cast<WorkCount>(i)));
    return all;
  }
  [[nodiscard]] std::vector<std::tuple<Effect, std::uint64_t, std::uint64_t>> take_effects() {
    return std::exchange(effects_, {});
  }
  [[nodiscard]] std::vector<Told> take_told() {
    std::vector<Told> all(told_.begin(), told_.end());
    for (Told& told : told_) told = {};
    return all;
  }
  [[nodiscard]] std::uint64_t others_told() const { return others_told_; }
  [[nodiscard]] bool listeners_met() const { return met_; }

 private:
  [[nodiscard]] static Machine& of(void* self) { return *static_cast<Machine*>(self); }
  [[nodiscard]] std::uint64_t count(core::Count which) const { return waist_.count(which); }
  [[nodiscard]] caches::AddressSpaceKey key(std::size_t space) const {
    caches::AddressSpaceKey made;
    made.domain = {domain_of(space)};
    made.root = {trees_[space].root};
    made.top_level = 3;
    made.last = {low_bits(48)};
    made.pasid = pasid_of(space);
    if (!is_first_stage(space)) return made;
    made.interpretation = caches::Interpretation::first_stage;
    made.last = {low_bits(47)};
    made.flags.privileged = true;
    return made;
  }
  [[nodiscard]] core::HostFunctions functions() {
    core::HostFunctions made;
    made.opaque = this;
    made.memory.opaque = this;
    made.memory.read = [](void*, std::uint64_t, void*, std::uint64_t) -> std::int32_t { return -1; };
    made.memory.write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) -> std::int32_t {
      std::uint64_t value = 0;
      std::memcpy(&value, data, size);
      of(self).effects_.emplace_back(Effect::store, gpa, value);
      return gpa < status_page + 0x800 ? 0 : -1;  // the upper half of that page is no RAM
    };
    made.msi = [](void* self, std::uint64_t address, std::uint32_t data) {
      of(self).effects_.emplace_back(Effect::message, address, data);
    };
    made.routes_changed = [](void* self, std::uint32_t first, std::uint32_t number) {
      of(self).effects_.emplace_back(Effect::routes, first, number);
    };
    if (execute_) {
      made.execute = [](void* self, std::uint32_t number, test::Task task, void* context) {
        of(self).execute_(number, task, context);
      };
    }
    return made;
  }
  [[nodiscard]] core::Reader& take_reader() {
    REQUIRE(waist_.reset());
    core::Reader* const reader = waist_.take_reader();
    REQUIRE(reader != nullptr);
    return *reader;
  }
  [[nodiscard]] core::WaistOptions options() {
    core::WaistOptions made = test::small_waist;
    made.iotlb_pages = 4096;  // nothing is ever evicted
    made.structures = 256;
    made.shards = 4;
    made.context_entries = 32;
    made.address_spaces = 32;
    made.tag_bits = 12;
    made.hand_out_ns = 0;
    made.listener.opaque = this;
    made.listener.pages = [](void* self, std::span<const caches::PageScope> scopes) { of(self).hear(scopes); };
    made.listener.other = [](void* self, const caches::Scope&) { ++of(self).others_told_; };
    return made;
  }
  /// Of each domain one call at a time, and no lock is held: figures can be asked for.
  void hear(std::span<const caches::PageScope> scopes) {
    static_cast<void>(waist_.cache_figures());
    const std::size_t domain = scopes.front().domain.value % 16;
    if (listening_[domain].exchange(true)) met_ = true;
    for (const caches::PageScope& scope : scopes) {
      if (scope.domain != scopes.front().domain) met_ = true;
      for (const std::uint64_t by : told_as(scope))
        for (const std::uint64_t page : pages)
          if (scope.range.contains({page}))
            told_[domain].emplace(std::pair{by, page}, true).first->second &= scope.keep_structures;
    }
    listening_[domain] = false;
  }

  Shape shape_;
  Execute execute_;
  std::vector<std::tuple<Effect, std::uint64_t, std::uint64_t>> effects_;
  std::array<Told, 16> told_;
  std::array<std::atomic<bool>, 16> listening_{};
  std::uint64_t others_told_ = 0;
  std::atomic<bool> met_{false};
  std::uint64_t tail_ = 0;
  core::HostFunctions functions_ = functions();
  core::Host host_{functions_};
  core::Waist waist_{options(), host_};
  test::GuardedRegion ram_{memory_begin, 0x100000};
  test::GuestTables tables_{test::words_of(ram_), first_table};
  std::array<test::Tree, spaces> trees_{};
  core::Reader& reader_ = take_reader();
  Unit unit_{Capabilities::decode(0x30, cap_all, ecap_all, 48), {}, waist_, host_, {}};
};

/// Descriptors of every kind, page-selective ones most of the time, now and then one that stops the queue.
class Guest {
 public:
  Guest(std::uint64_t seed, const Shape& shape) : random_{seed}, shape_{shape} {}

  [[nodiscard]] test::Random& random() { return random_; }
  [[nodiscard]] RawDescriptor descriptor(std::uint64_t bad_in) {
    if (random_.chance(1, bad_in)) return bad();
    const std::uint64_t domain = random_.below(domains + 2) << 16;
    const std::uint64_t dice = random_.below(100);
    const std::uint64_t pasid = (5 + random_.below(2)) << 32;
    if (dice < 50 && shape_.mode == TableMode::scalable && random_.chance(2, 3)) {
      if (random_.chance(1, 8)) return {{0x26 | domain | pasid}};
      const std::uint64_t mask = random_.chance(4, 5) ? 0 : random_.below(40);  // beyond 35: all of it
      return {{0x36 | domain | pasid, some_page() | random_.below(2) << 6 | mask}};
    }
    if (dice < 70) return page(domain);
    if (dice < 80) return {{0x22 | domain}};
    if (dice < 82) return {{0x12}};                                                     // IOTLB, global
    if (dice < 84) return {{0x21 | domain}};                                            // contexts of a domain
    if (dice < 86) return {{0x31 | random_.below(spaces) << 40}};                       // of a device
    if (dice < 88) return {{0x14 | random_.below(4) << 27 | random_.below(64) << 32}};  // interrupt entries
    if (dice < 89) return {{0x03, 0}};
    if (dice < 94 && shape_.mode == TableMode::scalable) return {{0x07 | domain}};
    return wait();
  }
  [[nodiscard]] RawDescriptor wait() {
    const std::uint64_t flags = random_.below(8) << 4;  // IF, SW, FN
    return {{0x5 | flags | ++status_ << 32, status_page + (random_.below(1024) << 2)}};
  }

 private:
  [[nodiscard]] std::uint64_t some_page() {
    // Often the page behind the last one, or the one before it.
    if (random_.chance(1, 3))
      last_ += 0x1000;
    else if (random_.chance(1, 4))
      last_ -= 0x1000;
    else
      last_ = random_.pick(pages);
    return last_;
  }
  [[nodiscard]] RawDescriptor page(std::uint64_t domain) {
    const std::uint64_t mask = random_.chance(2, 3) ? 0 : random_.below(12);  // beyond 9: a domain is forgotten
    const std::uint64_t hint = random_.below(2) << 6;
    return {{0x32 | domain, some_page() | hint | mask}};
  }
  [[nodiscard]] RawDescriptor bad() {
    switch (random_.below(4)) {
      case 0:  return {{0x0F}};                  // no such type
      case 1:  return {{0x32 | 1ULL << 50, 0}};  // a reserved bit
      case 2:  return {{0x02}};                  // no granularity
      default: return {{0x32, 40}};              // AM beyond MAMV
    }
  }

  test::Random random_;
  Shape shape_;
  std::uint64_t status_ = 0;
  std::uint64_t last_ = pages[0];
};

void compare(Machine& serial, Machine& parallel) {
  REQUIRE(parallel.state() == serial.state());
  REQUIRE(parallel.take_effects() == serial.take_effects());
  REQUIRE(parallel.others_told() == serial.others_told());
}

struct Seen {
  std::uint64_t stops = 0;
  std::uint64_t slices = 0;  ///< that left something for the next
};

/// One turn of the guest: requests, changed pages, a stream of descriptors, and the unit's work in slices.
void turn(Machine& serial, Machine& parallel, Guest& guest, const Shape& shape, std::uint64_t number, Seen& seen) {
  test::Random& random = guest.random();
  const auto both = [&](const auto& action) {
    action(serial);
    action(parallel);
  };
  for (std::size_t space = 0; space < spaces; ++space) {
    for (const std::uint64_t page : pages) {
      if (random.chance(1, 6)) both([&](Machine& machine) { machine.write_page(space, page, number % 0x400); });
      REQUIRE(parallel.ask(space, page) == serial.ask(space, page));
    }
  }
  // With a guard open, a wait keeps the rest of the queue back, which then goes in slices.
  const bool held = random.chance(1, 2);
  if (held) both([](Machine& machine) { machine.enter(); });
  const std::uint64_t room = ring_bytes / serial.entry_bytes() - 1 - serial.entries_waiting();
  const std::uint64_t count = std::min(room, random.chance(1, 4) ? room : random.below(60));
  const std::uint64_t bad_in = random.chance(1, 2) ? 60 : 100'000;
  if (held) {
    const RawDescriptor raw = guest.wait();
    if (count != 0) both([&](Machine& machine) { machine.put(raw); });
  }
  for (std::uint64_t i = held ? 1 : 0; i < count; ++i) {
    const RawDescriptor raw = guest.descriptor(bad_in);
    both([&](Machine& machine) { machine.put(raw); });
  }
  both([](Machine& machine) { machine.ring(); });
  compare(serial, parallel);
  if (held) both([](Machine& machine) { machine.leave(); });
  for (unsigned slice = 0; slice < 2000; ++slice) {
    const auto budget = static_cast<std::uint32_t>(shape.budget);
    const WorkState state = serial.process(budget);
    REQUIRE(parallel.process(budget) == state);
    compare(serial, parallel);
    if (state == WorkState::more) ++seen.slices;
    if (serial.stopped()) {
      ++seen.stops;
      REQUIRE(parallel.stopped());
      const RawDescriptor raw{{0x32, pages[0]}};
      both([&](Machine& machine) { machine.repair(raw); });
      compare(serial, parallel);
    } else if (state == WorkState::idle) {
      break;
    }
  }
  REQUIRE(serial.entries_waiting() == 0);
  both([](Machine& machine) { machine.clear_completion(); });
  compare(serial, parallel);
  REQUIRE(parallel.take_told() == serial.take_told());
  REQUIRE_FALSE(parallel.listeners_met());
}

Seen run(const Shape& shape, std::uint64_t seed, const Machine::Execute& execute) {
  Machine serial{shape, {}};
  Machine parallel{shape, execute};
  Guest guest{seed, shape};
  Seen seen;
  const std::uint64_t turns = test::run_whole() ? 10'000 : 300;
  for (std::uint64_t number = 1; number <= turns; ++number) turn(serial, parallel, guest, shape, number, seen);
  return seen;
}

const std::array<Shape, 6> shapes{{{false, TableMode::legacy, 0},
                                   {false, TableMode::legacy, 7},
                                   {true, TableMode::legacy, 0},
                                   {true, TableMode::legacy, 40},
                                   {true, TableMode::scalable, 0},
                                   {true, TableMode::scalable, 5}}};

}  // namespace

TEST_CASE("a queue whose domains are dropped in any order does what a serial one does",
          "[property][Invalidation Queue][queue][RVM-6]") {
  std::uint64_t seed = 900;
  for (const Shape& shape : shapes) {
    CAPTURE(shape.wide, shape.mode, shape.budget);
    test::ShufflingExecutor executor{++seed};
    const Seen seen = run(shape, seed, [&](std::uint32_t count, test::Task task, void* context) {
      executor.execute(count, task, context);
    });
    CHECK(executor.rounds > 100);  // else nothing was shown
    CHECK(seen.stops > 5);
    CHECK((shape.budget == 0 || seen.slices > 50));
  }
}

TEST_CASE("a queue whose domains are dropped by several threads does what a serial one does",
          "[property][Invalidation Queue][queue][threads][P7]") {
  std::uint64_t seed = 950;
  for (const Shape& shape : shapes) {
    CAPTURE(shape.wide, shape.mode, shape.budget);
    test::ThreadPool pool{2};
    static_cast<void>(run(shape, ++seed, [&](std::uint32_t count, test::Task task, void* context) {
      pool.execute(count, task, context);
    }));
    CHECK(pool.rounds > 100);
  }
}

}  // namespace viommu::vtd
