// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A queue of 256-bit descriptors from the doorbell to the status write, on a unit that offers all that they go by.
// Such a unit cannot be created through the C ABI before DMA has scalable mode, so it is built directly.
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/unit.hpp"
#include "tests/core/test_waist.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606;
constexpr std::uint64_t ecap_all =
    0xF0'0F4A | mask_of(ecap::dt, ecap::smts, ecap::adms, ecap::pasid, ecap::prs, ecap::hpts, ecap::pds);

constexpr std::uint64_t memory_begin = 0x100000;
constexpr std::uint64_t queue_page = memory_begin;
constexpr std::uint64_t status_word = memory_begin + 0x1000;
constexpr std::uint64_t first_table = memory_begin + 0x2000;
constexpr std::uint64_t entry = 32;

constexpr std::uint32_t translation_root = 0x4000'0000;
constexpr std::uint32_t queue_enable = 0x0400'0000;
constexpr std::uint32_t queue_error = 0x10;
constexpr std::uint64_t wide = 0x800;

constexpr Iova iova{0x4000'0000};
constexpr SourceId device{0x0110};
constexpr DomainId domain{7};
constexpr Pasid pasid{0x54321};
constexpr std::uint64_t of_pasid = (std::uint64_t{pasid.value} << 32) | (std::uint64_t{domain.value} << 16);

constexpr std::uint64_t iotlb_global = 0x12;
constexpr std::uint64_t wait_with_status = 0x0000'0001'0000'0025;

/// One unit, its memory, and a device whose PASID entry is cached.
class World {
 public:
  explicit World(TableMode mode = TableMode::scalable) {
    REQUIRE(waist.add(ram) == core::RegionResult::ok);
    set_mode(mode);
    write(offset::fault_event_control, 0, 4);
    ram.store_u64(status_word, 0);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() = default;

  void write(std::uint64_t where, std::uint64_t value, unsigned size = 8) {
    REQUIRE(unit.write(where, size, value) == AccessStatus::done);
  }
  [[nodiscard]] std::uint64_t read(std::uint64_t where, unsigned size = 8) { return unit.read(where, size).value; }

  /// TTM in force. Drops all caches.
  void set_mode(TableMode mode) {
    write(offset::root_table, with(RootTableAddress{first_table}, rtaddr::mode, mode).raw);
    write(offset::global_command, enabled | translation_root, 4);
  }
  void enable(std::uint64_t flags = wide, std::uint64_t at = queue_page) {
    write(offset::queue_address, at | flags);
    enabled = queue_enable;
    write(offset::global_command, enabled, 4);
  }
  void put(std::uint64_t low, std::uint64_t high = 0, std::uint64_t third = 0, std::uint64_t fourth = 0) {
    place(tail, {{low, high, third, fourth}});
    tail = (tail + entry) % 0x1000;
  }
  void place(std::uint64_t at, const RawDescriptor& raw) {
    for (std::uint64_t i = 0; i < raw.words.size(); ++i) REQUIRE(ram.store_u64(queue_page + at + i * 8, raw.words[i]));
  }
  void go() { write(offset::queue_tail, tail); }
  [[nodiscard]] std::uint64_t head() { return read(offset::queue_head); }
  [[nodiscard]] std::uint64_t status() const { return ram.load_u64(status_word).value_or(~std::uint64_t{0}); }
  /// IQEI while IQE is set, else 0.
  [[nodiscard]] std::uint64_t error() {
    return (read(offset::fault_status, 4) & queue_error) == 0 ? 0 : read(offset::queue_error_record) % 16;
  }
  void clear_error() { write(offset::fault_status, queue_error, 4); }

  /// Of supervisors, whose rights need no bit that a second stage's entries do not have at the same place.
  [[nodiscard]] caches::AddressSpaceKey key() const {
    caches::StageFlags flags;
    flags.privileged = true;
    return {domain, caches::Interpretation::first_stage, 3, {tree.root}, {low_bits(47)}, pasid, flags};
  }
  void insert_pasid() {
    REQUIRE(waist->insert_context(waist->context_version(), caches::PasidKey{device, pasid}, key(), false));
  }
  [[nodiscard]] bool has_pasid() { return static_cast<bool>(waist->find_context(caches::PasidKey{device, pasid})); }
  /// Whether a request by that PASID finds its translation cached.
  [[nodiscard]] bool hits(Iova at) {
    const std::uint64_t walks = waist->count(core::Count::walks);
    const test::WaistGuard guard{waist.waist, reader};
    const caches::ContextEntry found = waist->find_context(caches::PasidKey{device, pasid});
    REQUIRE(found);
    static_cast<void>(waist->translate(reader, found.space(), at, read_only));
    return waist->count(core::Count::walks) == walks;
  }

  std::vector<std::string> log;
  std::uint64_t messages = 0;
  std::uint32_t enabled = 0;
  std::uint64_t tail = 0;
  test::TestWaist waist;
  core::HostFunctions functions = make_functions();
  core::Host host{functions};
  test::GuardedRegion ram{memory_begin, 0x40000};
  test::GuestTables tables{test::words_of(ram), first_table};
  test::Tree tree = tables.create_tree(4);
  core::Reader& reader = waist.reader();
  Unit unit{Capabilities::decode(0x30, cap_48, ecap_all, 48), {}, waist.waist, host, {}};

 private:
  [[nodiscard]] core::HostFunctions make_functions() {
    core::HostFunctions made;
    made.opaque = this;
    made.msi = [](void* self, std::uint64_t, std::uint32_t) { ++static_cast<World*>(self)->messages; };
    made.log = [](void* self, std::int32_t, const char* text) { static_cast<World*>(self)->log.emplace_back(text); };
    return made;
  }
};

}  // namespace

TEST_CASE("a queue of 256-bit descriptors runs in legacy mode too, and its head moves by 32",
          "[vtd][Invalidation Queue][normative][B71]") {
  World world{TableMode::legacy};
  world.enable();
  world.put(0x11);
  world.put(iotlb_global);
  world.put(wait_with_status, status_word);
  world.go();
  CHECK(world.error() == 0);
  CHECK(world.head() == 3 * entry);
  CHECK(world.status() == 1);
  CHECK(world.unit.count(WorkCount::descriptors) == 3);
}

TEST_CASE("a full pass over 256-bit descriptors is processed and the head reads 0 again",
          "[vtd][Invalidation Queue][B71][B80][QAM-1]") {
  World world;
  world.enable();
  for (std::uint64_t i = 0; i < 127; ++i) world.put(0x36 | of_pasid, i * 0x1000);
  world.go();
  CHECK(world.head() == 127 * entry);
  world.put(wait_with_status, status_word);
  CHECK(world.tail == 0);
  world.go();
  CHECK(world.head() == 0);
  CHECK(world.status() == 1);
  CHECK(world.unit.count(WorkCount::descriptors) == 128);
}

TEST_CASE("every type is processed in a queue of 256-bit descriptors", "[vtd][Invalidation Descriptors][normative]") {
  World world{GENERATE(TableMode::scalable, TableMode::abort_dma)};
  world.enable();
  for (const std::uint64_t low : {0x11U, 0x12U, 0x03U, 0x04U, 0x45U, 0x26U, 0x37U, 0x08U, 0x09U, 0x1AU}) world.put(low);
  world.put(wait_with_status | 0x80, status_word);  // PD: there is no page request to drain
  world.go();
  CHECK(world.error() == 0);
  CHECK(world.head() == 11 * entry);
  CHECK(world.status() == 1);
  CHECK(world.unit.count(WorkCount::descriptors) == 11);
  CHECK(world.unit.count(WorkCount::context_invalidations) == 2);
  CHECK(world.unit.count(WorkCount::iotlb_global) == 1);
  CHECK(world.unit.count(WorkCount::iotlb_domain) == 1);
  CHECK(world.unit.count(WorkCount::device_tlb) == 2);
  CHECK(world.unit.count(WorkCount::waits) == 2);
}

TEST_CASE("a PASID-cache invalidation drops the PASID entries it names and leaves translations",
          "[vtd][Invalidation Granularity][normative]") {
  struct Row {
    std::uint64_t low;
    bool drops;
  };
  const Row row =
      GENERATE(Row{0x37, true}, Row{0x0007'0007, true}, Row{0x0006'0007, false}, Row{0x17 | of_pasid, true},
               Row{0x17 | (of_pasid ^ 0x0001'0000), false}, Row{0x17 | (of_pasid ^ std::uint64_t{1} << 51), false});
  World world;
  world.insert_pasid();
  world.tables.map(world.tree, iova.value, 0x5000);
  static_cast<void>(world.hits(iova));
  world.enable();
  world.put(row.low);
  world.put(wait_with_status, status_word);
  world.go();
  CHECK(world.status() == 1);
  CHECK(world.has_pasid() != row.drops);
  if (!row.drops) CHECK(world.hits(iova));
}

TEST_CASE("a PASID-based IOTLB invalidation drops the translations it names and leaves PASID entries",
          "[vtd][Invalidation Granularity][normative]") {
  struct Row {
    std::uint64_t low;
    std::uint64_t high;
    bool first_stays;
    bool second_stays;
  };
  const Row row = GENERATE(Row{0x26 | of_pasid, 0, false, false},                         //
                           Row{0x26 | (of_pasid ^ 0x0001'0000), 0, true, true},           // another domain
                           Row{0x36 | of_pasid, iova.value, false, true},                 //
                           Row{0x36 | of_pasid, iova.value | 0x40, false, true},          // IH never keeps translations
                           Row{0x36 | of_pasid, iova.value | 1, false, false},            // AM
                           Row{0x36 | of_pasid, 63, false, false},                        // all of the PASID
                           Row{0x36 | (of_pasid ^ 0x0001'0000), iova.value, true, true},  // another domain
                           Row{0x36 | of_pasid, iova.value + 0x2000, true, true});        // another page
  World world;
  world.insert_pasid();
  world.tables.map(world.tree, iova.value, 0x5000);
  world.tables.map(world.tree, iova.value + 0x1000, 0x9000);  // a translation of its own
  static_cast<void>(world.hits(iova));
  static_cast<void>(world.hits(iova + 0x1000));
  REQUIRE(world.hits(iova));
  REQUIRE(world.hits(iova + 0x1000));
  world.enable();
  world.put(row.low, row.high);
  world.put(wait_with_status, status_word);
  world.go();
  CHECK(world.status() == 1);
  CHECK(world.has_pasid());
  CHECK(world.hits(iova) == row.first_stays);
  CHECK(world.hits(iova + 0x1000) == row.second_stays);
}

TEST_CASE("a wait behind invalidations of a PASID is withheld by the holds that go by it and by no others",
          "[vtd][Draining of Requests to Memory][P2]") {
  struct Row {
    std::uint64_t low;
    std::uint64_t high;
    bool waits;
  };
  constexpr std::uint64_t other_pasid = of_pasid ^ (std::uint64_t{1} << 32);
  const Row row = GENERATE(Row{0x26 | of_pasid, 0, true}, Row{0x36 | of_pasid, iova.value, true},
                           Row{0x17 | of_pasid, 0, true}, Row{0x37, 0, true}, Row{0x0007'0007, 0, true},
                           Row{0x26 | other_pasid, 0, false}, Row{0x36 | other_pasid, iova.value, false},
                           Row{0x36 | of_pasid, iova.value + 0x1000, false}, Row{0x17 | other_pasid, 0, false},
                           Row{0x0006'0007, 0, false}, Row{0x09, 0, false}, Row{0x1A, 0, false}, Row{0x08, 0, false});
  World world;
  std::uint64_t hold = 0;
  {
    const test::WaistGuard guard{world.waist.waist, world.reader};
    hold = world.waist->hold(world.waist->hold_since(), {device, domain, {iova, iova + 0xFFF}, pasid}, 0);
  }
  world.enable();
  world.put(row.low, row.high);
  world.put(wait_with_status, status_word);
  world.go();
  CHECK(world.status() == (row.waits ? 0 : 1));
  CHECK(world.head() == (row.waits ? entry : 2 * entry));
  CHECK(world.waist->release(hold, false));
  static_cast<void>(world.unit.process(0));
  CHECK(world.status() == 1);
  CHECK(world.head() == 2 * entry);
}

TEST_CASE("each cause stops a queue of 256-bit descriptors with its code, and repaired and cleared it goes on",
          "[vtd][Invalidation Queue][normative][B71][B73][B79][RVM-6]") {
  struct Row {
    TableMode mode;
    std::uint64_t flags;
    std::uint64_t tail;  ///< 0: behind the last descriptor
    RawDescriptor second;
    std::uint64_t code;
  };
  using enum TableMode;
  constexpr RawDescriptor good{{iotlb_global, 0, 0, 0}};
  const Row row = GENERATE_COPY(Row{scalable, wide, 0x1000, good, 1},                 // behind the ring
                                Row{scalable, wide, 0, {{0x0B, 0, 0, 0}}, 3},         // a type that does not exist
                                Row{scalable, wide, 0, {{0x206, 0, 0, 0}}, 3},        // type 16h
                                Row{legacy, wide, 0, {{0x26, 0, 0, 0}}, 3},           // not in this table mode
                                Row{legacy, wide, 0, {{0x37, 0, 0, 0}}, 3},           //
                                Row{scalable, wide, 0, {{0x16, 0, 0, 0}}, 4},         // granularity
                                Row{scalable, wide, 0, {{0x27, 0, 0, 0}}, 4},         //
                                Row{scalable, wide, 0, {{0x26, 0x80, 0, 0}}, 4},      // reserved bits of each word
                                Row{scalable, wide, 0, {{0x37 | 0x40, 0, 0, 0}}, 4},  //
                                Row{scalable, wide, 0, {{0x12, 0, 1, 0}}, 4},         //
                                Row{scalable, wide, 0, {{0x36, 0, 0, ~0ULL}}, 4},     //
                                Row{scalable, 0, 0, good, 5},                         // 128-bit descriptors
                                Row{abort_dma, 0, 0, good, 5},                        //
                                Row{scalable, wide, 3 * entry + 16, good, 6},         // between two descriptors
                                Row{scalable, wide, 0x1010, good, 6},                 // behind the ring as well
                                Row{reserved, wide, 0, good, 7},                      //
                                Row{reserved, 0, 16, good, 7});
  World world{row.mode};
  world.enable(row.flags);
  world.put(wait_with_status, status_word);
  const std::uint64_t second = world.tail;
  world.put(row.second.words[0], row.second.words[1], row.second.words[2], row.second.words[3]);
  world.put(wait_with_status + (std::uint64_t{1} << 32), status_word);
  world.write(offset::queue_tail, row.tail != 0 ? row.tail : world.tail);

  const bool fetched = row.code == 3 || row.code == 4;  // else not one descriptor was
  const std::uint64_t stopped_at = fetched ? second : 0;
  CHECK(world.error() == row.code);
  CHECK(world.head() == stopped_at);
  CHECK(world.status() == (fetched ? 1 : 0));
  CHECK(world.messages == 1);
  world.go();  // a tail write does not restart it
  CHECK(world.error() == row.code);
  CHECK(world.head() == stopped_at);
  CHECK(world.messages == 1);

  SECTION("cleared and not repaired it stops again, with an event of its own") {
    world.write(offset::queue_tail, row.tail != 0 ? row.tail : world.tail);
    world.clear_error();
    CHECK(world.error() == row.code);
    CHECK(world.head() == stopped_at);
    CHECK(world.messages == 2);
  }
  SECTION("repaired and cleared it goes on from there") {
    if (row.code == 7) world.set_mode(legacy);
    if (row.flags != wide) {  // the width is the one that the queue was enabled with
      world.enabled = 0;
      world.write(offset::global_command, 0, 4);
      world.enable();
    }
    world.place(second, good);
    world.clear_error();
    CHECK(world.error() == 0);
    CHECK(world.head() == world.tail);
    CHECK(world.status() == 2);
    CHECK(world.messages == 1);
  }
}

TEST_CASE("a queue of 256-bit descriptors that cannot be fetched from stops with 2",
          "[vtd][Invalidation Queue][RVM-6]") {
  World world;
  world.enable(wide, 0x4000'0000);
  world.write(offset::queue_tail, entry);
  CHECK(world.error() == 2);
  CHECK(world.head() == 0);
}

TEST_CASE("a queue of 256-bit descriptors that one stopped is logged with all of it", "[vtd][log]") {
  World world;
  world.enable();
  world.put(0x26, 0x1234'5678'9ABC'D080, 0x3, 0x4);
  world.go();
  REQUIRE(world.error() == 4);
  CHECK(world.log ==
        std::vector<std::string>{
            "invalidation queue stopped: IQEI 4 (reserved bits or values in a descriptor), head 0x0, tail "
            "0x20, descriptor 0x0000000000000026 0x123456789abcd080 0x0000000000000003 0x0000000000000004; "
            "stops so far: 1"});
}

}  // namespace viommu::vtd
