// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One access at a time: what reaches a region, what the host's callbacks, what nothing.
#include "engine/base/guest_memory.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "tests/support/guarded_region.hpp"

namespace viommu {
namespace {

using test::GuardedRegion;

constexpr std::uint64_t last_address = ~std::uint64_t{0};

/// The host's side: tells what it was asked and answers what it is told to.
struct Callbacks {
  struct Call {
    char kind;  // r, w or x
    std::uint64_t gpa;
    std::uint64_t size;
    friend bool operator==(const Call&, const Call&) = default;
  };
  std::vector<Call> calls;
  std::int32_t result = 0;
  std::array<std::uint64_t, 2> words{0x1111111111111111, 0x2222222222222222};
  std::uint32_t written = 0;
  std::uint64_t found = 0;
  bool lose_exchanges = false;

  [[nodiscard]] MemoryCallbacks functions() {
    MemoryCallbacks callbacks;
    callbacks.opaque = this;
    callbacks.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      auto& host = *static_cast<Callbacks*>(self);
      host.calls.push_back({'r', gpa, size});
      if (host.result == 0) std::memcpy(data, host.words.data(), size);
      return host.result;
    };
    callbacks.write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) {
      auto& host = *static_cast<Callbacks*>(self);
      host.calls.push_back({'w', gpa, size});
      if (size == sizeof host.written) std::memcpy(&host.written, data, size);
      return host.result;
    };
    callbacks.compare_exchange = [](void* self, std::uint64_t gpa, std::uint64_t* expected, std::uint64_t) {
      auto& host = *static_cast<Callbacks*>(self);
      host.calls.push_back({'x', gpa, 8});
      if (host.result == 1 || host.lose_exchanges) *expected = host.found;
      return host.lose_exchanges ? 1 : host.result;
    };
    return callbacks;
  }
};

/// Guest memory with its map, freed at the end.
class Memory {
 public:
  explicit Memory(const MemoryCallbacks& callbacks = {}, const MemoryTap& tap = {}) : memory_{callbacks, tap} {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { RegionMap::destroy({}, memory_.publish(nullptr)); }

  void add(GuardedRegion& ram, bool read_only = false, std::optional<std::uint64_t> gpa = {}) {
    const RegionMap* const old = memory_.map();
    RegionMap* const next = RegionMap::create({}, (old == nullptr ? 0 : old->regions().size()) + 1);
    const std::uint64_t first = gpa.value_or(ram.gpa());
    next->assign_with(old, {{{first}, {first + (ram.length() - 1)}}, ram.data(), read_only});
    RegionMap::destroy({}, memory_.publish(next));
  }
  const GuestMemory* operator->() const { return &memory_; }

 private:
  GuestMemory memory_;
};

using Calls = std::vector<Callbacks::Call>;

}  // namespace

TEST_CASE("words at both ends of a region are read, and no byte beside it", "[base][guest-memory][SEC-1]") {
  // The pages before and behind are inaccessible: a byte outside ends the test.
  GuardedRegion ram{0x10000, 0x2000};
  Memory memory;
  memory.add(ram);
  for (const std::uint64_t gpa : {0x10000U, 0x10008U, 0x10FF8U, 0x11000U, 0x11FF0U, 0x11FF8U})
    ram.store_u64(gpa, gpa * 3);
  CHECK(memory->load_u64({0x10000}) == 0x30000U);
  CHECK(memory->load_u64({0x11FF8}) == 0x35FE8U);
  CHECK(memory->load_u128({0x10000}) == Word128{0x30000U, 0x30018U});
  CHECK(memory->load_u128({0x11FF0}) == Word128{0x35FD0U, 0x35FE8U});
  CHECK_FALSE(memory->load_u64({0xFFF8}));
  CHECK_FALSE(memory->load_u64({0x12000}));
  CHECK_FALSE(memory->load_u128({0xFFF0}));
  CHECK_FALSE(memory->load_u128({0x12000}));
}

TEST_CASE("the last word of a region is written, and no byte beside it", "[base][guest-memory][SEC-1]") {
  GuardedRegion ram{0x10000, 0x1000};
  Memory memory;
  memory.add(ram);
  ram.store_u64(0x10FF8, 0xAAAAAAAA'BBBBBBBB);
  CHECK(memory->store_u32({0x10FFC}, 0x12345678));
  CHECK(ram.load_u64(0x10FF8) == 0x12345678'BBBBBBBB);
  CHECK(memory->store_u32({0x10FF8}, 0x9ABCDEF0));
  CHECK(ram.load_u64(0x10FF8) == 0x12345678'9ABCDEF0);
  std::uint64_t expected = 0x12345678'9ABCDEF0;
  CHECK(memory->compare_exchange_u64({0x10FF8}, expected, 5) == Exchange::done);
  CHECK(ram.load_u64(0x10FF8) == 5);
  CHECK_FALSE(memory->store_u32({0x11000}, 1));
  CHECK_FALSE(memory->store_u32({0xFFFC}, 1));
  CHECK(memory->compare_exchange_u64({0x11000}, expected, 1) == Exchange::failed);
}

TEST_CASE("a store of each size writes its own bytes, and none outside a region", "[base][guest-memory][SEC-1]") {
  GuardedRegion ram{0x10000, 0x1000};
  Memory memory;
  memory.add(ram);
  CHECK(memory->store_u64({0x10FF8}, 0x1122334455667788));
  CHECK(memory->store_u32({0x10FFC}, 0xAAAAAAAA));
  CHECK(memory->store_u16({0x10FFA}, 0xBBBB));
  CHECK(memory->store_u8({0x10FF9}, 0xCC));
  CHECK(ram.load_u64(0x10FF8) == 0xAAAAAAAABBBBCC88);
  CHECK(memory->store_u8({0x10FFF}, 0xDD));
  CHECK(ram.load_u64(0x10FF8) == 0xDDAAAAAABBBBCC88);
  CHECK_FALSE(memory->store_u8({0x11000}, 1));
  CHECK_FALSE(memory->store_u8({0xFFFF}, 1));
  CHECK_FALSE(memory->store_u16({0x11000}, 1));
  CHECK_FALSE(memory->store_u64({0x11000}, 1));
}

TEST_CASE("a range is backed when each byte of it is, to be read or to be written", "[base][guest-memory][SEC-1]") {
  constexpr bool read = false;
  constexpr bool write = true;
  GuardedRegion low{0x10000, 0x1000};
  GuardedRegion next{0x11000, 0x1000};
  GuardedRegion rom{0x12000, 0x1000};
  GuardedRegion high{0x14000, 0x1000};
  const auto fill = [&](Memory& memory) {
    memory.add(low);
    memory.add(next);
    memory.add(rom, true);
    memory.add(high);
  };
  Memory alone;
  CHECK_FALSE(alone->backed({{0}, {0}}, read));  // no map
  fill(alone);
  for (const bool written : {read, write}) {
    CHECK(alone->backed({{0x10000}, {0x10000}}, written));
    CHECK(alone->backed({{0x10000}, {0x11FFF}}, written));
    CHECK(alone->backed({{0x14000}, {0x14FFF}}, written));
    CHECK_FALSE(alone->backed({{0xFFFF}, {0x10000}}, written));
    CHECK_FALSE(alone->backed({{0x12FFF}, {0x13000}}, written));
    CHECK_FALSE(alone->backed({{0x12000}, {0x14000}}, written));
    CHECK_FALSE(alone->backed({{0x14FFF}, {0x15000}}, written));
    CHECK_FALSE(alone->backed({{0}, {last_address}}, written));
    CHECK_FALSE(alone->backed({{last_address}, {last_address}}, written));
    CHECK(alone->backed({{0x10000}, {0x12000}}, written) == (written == read));
    CHECK(alone->backed({{0x12FFF}, {0x12FFF}}, written) == (written == read));
  }
  // Who can only be asked for one of both has memory for that; a read-only region stays one.
  Callbacks host;
  MemoryCallbacks functions = host.functions();
  for (const bool can_write : {false, true}) {
    if (!can_write) functions.write = nullptr;
    if (can_write) functions = host.functions();
    Memory memory{functions};
    CHECK(memory->backed({{0}, {last_address}}, write) == can_write);
    fill(memory);
    CHECK(memory->backed({{0}, {last_address}}, read));
    CHECK(memory->backed({{0x13000}, {0x14FFF}}, write) == can_write);
    CHECK(memory->backed({{0x14000}, {0x15000}}, write) == can_write);
    CHECK(memory->backed({{0x20000}, {0x20000}}, write) == can_write);
    CHECK_FALSE(memory->backed({{0x11000}, {0x12000}}, write));
  }
  CHECK(host.calls.empty());
}

TEST_CASE("parts without memory, and a device's, are not backed, whatever the host says",
          "[base][guest-memory][SEC-14]") {
  GuardedRegion ram{0x10000, 0x4000};
  Callbacks host;
  GuestMemory memory{host.functions()};
  for (const Part part : {Part::discarded, Part::private_to}) {
    RegionMap* const whole = RegionMap::create({}, 1);
    whole->assign_with(nullptr, {{{0x10000}, {0x13FFF}}, ram.data()});
    RegionMap* const map = RegionMap::create({}, 3);
    map->assign_part(*whole, {{0x11000}, {0x11FFF}}, part);
    RegionMap::destroy({}, whole);
    RegionMap::destroy({}, memory.publish(map));
    CHECK(memory.backed({{0x10000}, {0x10FFF}}, true));
    CHECK(memory.backed({{0x12000}, {0x14000}}, true));
    CHECK_FALSE(memory.backed({{0x10FFF}, {0x11000}}, false));
    CHECK_FALSE(memory.backed({{0x11FFF}, {0x12000}}, true));
  }
  RegionMap* const map = RegionMap::create({}, 1);
  map->assign_with(nullptr, {{{0x10000}, {0x13FFF}}, nullptr, false, true});
  RegionMap::destroy({}, memory.publish(map));
  CHECK_FALSE(memory.backed({{0x10000}, {0x10000}}, false));
  RegionMap::destroy({}, memory.publish(nullptr));
}

TEST_CASE("a region that is not mapped is backed by the host's functions, or not at all",
          "[base][guest-memory][SEC-2]") {
  Callbacks host;
  for (const bool asks : {false, true}) {
    GuestMemory memory{asks ? host.functions() : MemoryCallbacks{}};
    RegionMap* const map = RegionMap::create({}, 1);
    map->assign_with(nullptr, {{{0x10000}, {0x13FFF}}, nullptr});
    RegionMap::destroy({}, memory.publish(map));
    for (const bool written : {false, true}) CHECK(memory.backed({{0x10000}, {0x13FFF}}, written) == asks);
    RegionMap::destroy({}, memory.publish(nullptr));
  }
}

TEST_CASE("a region may end at the last address, begin at 0, or lie at 2^52", "[base][guest-memory][SEC-1]") {
  GuardedRegion ram{0, 0x1000};
  ram.store_u64(0, 11);
  ram.store_u64(0xFF0, 22);
  ram.store_u64(0xFF8, 33);
  const std::uint64_t first =
      GENERATE(std::uint64_t{0}, std::uint64_t{1} << 52, (std::uint64_t{1} << 52) - 0x1000, ~std::uint64_t{0} - 0xFFF);
  Memory memory;
  memory.add(ram, false, first);
  CHECK(memory->load_u64({first}) == 11);
  CHECK(memory->load_u128({first + 0xFF0}) == Word128{22, 33});
  CHECK_FALSE(memory->load_u64({first - 8}));
  CHECK_FALSE(memory->load_u64({first + 0x1000}));
}

TEST_CASE("regions side by side are each their own memory", "[base][guest-memory][SEC-1]") {
  GuardedRegion low{0x10000, 0x1000};
  GuardedRegion high{0x11000, 0x1000};
  Memory memory;
  memory.add(high);
  memory.add(low);
  low.store_u64(0x10FF8, 1);
  high.store_u64(0x11000, 2);
  CHECK(memory->load_u64({0x10FF8}) == 1);
  CHECK(memory->load_u64({0x11000}) == 2);
}

TEST_CASE("what is outside all regions goes to the host, once and as a whole", "[base][guest-memory][SEC-2]") {
  GuardedRegion ram{0x10000, 0x1000};
  Callbacks host;
  Memory memory{host.functions()};
  SECTION("without any region") {}
  SECTION("in a hole beside a region") { memory.add(ram); }
  CHECK(memory->load_u64({0x20008}) == host.words[0]);
  CHECK(memory->load_u128({0x20010}) == Word128{host.words[0], host.words[1]});
  CHECK(memory->store_u32({0x20004}, 77));
  CHECK(host.written == 77);
  std::uint64_t expected = 3;
  CHECK(memory->compare_exchange_u64({0x20018}, expected, 4) == Exchange::done);
  CHECK(host.calls == Calls{{'r', 0x20008, 8}, {'r', 0x20010, 16}, {'w', 0x20004, 4}, {'x', 0x20018, 8}});
}

TEST_CASE("what is in a region does not reach the host", "[base][guest-memory]") {
  GuardedRegion ram{0x10000, 0x1000};
  Callbacks host;
  Memory memory{host.functions()};
  memory.add(ram);
  CHECK(memory->load_u64({0x10000}) == 0);
  CHECK(memory->load_u128({0x10000}) == Word128{});
  CHECK(memory->store_u32({0x10000}, 1));
  std::uint64_t expected = 1;
  CHECK(memory->compare_exchange_u64({0x10000}, expected, 2) == Exchange::done);
  CHECK(host.calls.empty());
}

TEST_CASE("a read-only region is read, never written, and never written past", "[base][guest-memory][SEC-14]") {
  GuardedRegion rom{0x10000, 0x1000};
  rom.store_u64(0x10000, 42);
  Callbacks host;
  Memory memory{host.functions()};
  memory.add(rom, true);
  CHECK(memory->load_u64({0x10000}) == 42);
  CHECK(memory->load_u128({0x10000}) == Word128{42, 0});
  CHECK_FALSE(memory->store_u32({0x10000}, 1));
  std::uint64_t expected = 42;
  CHECK(memory->compare_exchange_u64({0x10000}, expected, 1) == Exchange::failed);
  CHECK(expected == 42);
  CHECK(rom.load_u64(0x10000) == 42);
  CHECK(host.calls.empty());
}

TEST_CASE("memory that the host does not have is unreadable and unwritable", "[base][guest-memory][SEC-12][B35]") {
  Callbacks host;
  host.result = -1;
  Memory memory{host.functions()};
  CHECK_FALSE(memory->load_u64({0x1000}));
  CHECK_FALSE(memory->load_u128({0x1000}));
  CHECK_FALSE(memory->store_u32({0x1000}, 1));
  std::uint64_t expected = 9;
  CHECK(memory->compare_exchange_u64({0x1000}, expected, 1) == Exchange::failed);
  CHECK(expected == 9);
  const Memory nothing;
  CHECK_FALSE(nothing->load_u64({0x1000}));
  CHECK_FALSE(nothing->load_u128({last_address - 15}));
  CHECK_FALSE(nothing->store_u32({0x1000}, 1));
  CHECK(nothing->compare_exchange_u64({0x1000}, expected, 1) == Exchange::failed);
}

TEST_CASE("whatever the host answers but 0 is no memory, and 1 is a lost exchange", "[base][guest-memory][SEC-12]") {
  Callbacks host;
  Memory memory{host.functions()};
  host.result = GENERATE(1, 2, -1, -14);
  CHECK_FALSE(memory->load_u64({0x3000}));
  CHECK_FALSE(memory->load_u128({0x3000}));
  CHECK_FALSE(memory->store_u32({0x3000}, 7));
  std::uint64_t expected = 5;
  host.found = 9;
  const Exchange outcome = memory->compare_exchange_u64({0x3000}, expected, 6);
  CHECK(outcome == (host.result > 0 ? Exchange::lost : Exchange::failed));
  CHECK(expected == (host.result == 1 ? 9 : 5));
}

TEST_CASE("the tap is told of each access after it was made, by what became of it", "[base][guest-memory][recorder]") {
  using Told = std::vector<std::uint64_t>;  // kind, address, then words, value and size, or size
  enum : std::uint64_t { loaded, load_failed, stored, store_failed };
  std::vector<Told> told;
  MemoryTap tap;
  tap.opaque = &told;
  tap.loaded = [](void* to, std::uint64_t at, const std::uint64_t* words, std::size_t count) {
    Told line{loaded, at};
    line.insert(line.end(), words, words + count);
    static_cast<std::vector<Told>*>(to)->push_back(line);
  };
  tap.load_failed = [](void* to, std::uint64_t at, std::uint64_t size) {
    static_cast<std::vector<Told>*>(to)->push_back({load_failed, at, size});
  };
  tap.stored = [](void* to, std::uint64_t at, std::uint64_t value, std::uint64_t size) {
    static_cast<std::vector<Told>*>(to)->push_back({stored, at, value, size});
  };
  tap.store_failed = [](void* to, std::uint64_t at, std::uint64_t size) {
    static_cast<std::vector<Told>*>(to)->push_back({store_failed, at, size});
  };
  GuardedRegion ram{0x1000, 0x1000};
  GuardedRegion rom{0x2000, 0x1000};
  ram.store_u64(0x1000, 0xAB);
  ram.store_u64(0x1008, 0xCD);
  Callbacks host;
  Memory memory{host.functions(), tap};
  memory.add(ram);
  memory.add(rom, true);
  const auto take = [&] { return std::exchange(told, {}); };

  CHECK(memory->load_u64({0x1008}) == 0xCD);
  CHECK(memory->load_u128({0x1000}) == Word128{0xAB, 0xCD});
  CHECK(take() == std::vector<Told>{{loaded, 0x1008, 0xCD}, {loaded, 0x1000, 0xAB, 0xCD}});
  CHECK(memory->store_u32({0x1010}, 0x77));
  std::uint64_t expected = 0xAB;
  CHECK(memory->compare_exchange_u64({0x1000}, expected, 0xAC) == Exchange::done);
  CHECK(memory->compare_exchange_u64({0x1000}, expected, 0xAD) == Exchange::lost);
  CHECK(take() == std::vector<Told>{{stored, 0x1010, 0x77, 4}, {stored, 0x1000, 0xAC, 8}, {loaded, 0x1000, 0xAC}});
  CHECK_FALSE(memory->store_u32({0x2000}, 1));
  CHECK(memory->compare_exchange_u64({0x2008}, expected, 1) == Exchange::failed);
  CHECK(take() == std::vector<Told>{{store_failed, 0x2000, 4}, {store_failed, 0x2008, 8}});
  CHECK(memory->fetch_or_u64({0x1000}, 3) == 0xAC);
  CHECK_FALSE(memory->fetch_or_u64({0x2008}, 3));
  CHECK(take() == std::vector<Told>{{loaded, 0x1000, 0xAC}, {stored, 0x1000, 0xAF, 8}, {store_failed, 0x2008, 8}});
  host.result = -1;
  CHECK_FALSE(memory->load_u64({0x3000}));
  CHECK_FALSE(memory->load_u128({0x3010}));
  CHECK_FALSE(memory->store_u32({0x3004}, 1));
  CHECK(take() == std::vector<Told>{{load_failed, 0x3000, 8}, {load_failed, 0x3010, 16}, {store_failed, 0x3004, 4}});
}

TEST_CASE("a lost compare-exchange writes nothing and says what it found", "[base][guest-memory][P4]") {
  GuardedRegion ram{0x10000, 0x1000};
  Callbacks host;
  host.result = 1;
  host.found = 66;
  Memory memory{host.functions()};
  memory.add(ram);
  ram.store_u64(0x10008, 55);
  std::uint64_t expected = 54;
  CHECK(memory->compare_exchange_u64({0x10008}, expected, 1) == Exchange::lost);
  CHECK(expected == 55);
  CHECK(ram.load_u64(0x10008) == 55);
  CHECK(memory->compare_exchange_u64({0x10008}, expected, 1) == Exchange::done);
  CHECK(ram.load_u64(0x10008) == 1);
  CHECK(memory->compare_exchange_u64({0x20000}, expected, 1) == Exchange::lost);
  CHECK(expected == 66);
}

TEST_CASE("bits are set in one step, in a region at once, behind callbacks within 64 exchanges",
          "[base][guest-memory][P4][P5]") {
  GuardedRegion ram{0x10000, 0x1000};
  GuardedRegion rom{0x20000, 0x1000};
  Callbacks host;
  Memory memory{host.functions()};
  memory.add(ram);
  memory.add(rom, true);
  ram.store_u64(0x10FF8, 0x50);
  CHECK(memory->fetch_or_u64({0x10FF8}, 0x0F) == 0x50);
  CHECK(ram.load_u64(0x10FF8) == 0x5F);
  rom.store_u64(0x20000, 0x50);
  CHECK_FALSE(memory->fetch_or_u64({0x20000}, 0x0F));
  CHECK(rom.load_u64(0x20000) == 0x50);
  CHECK(host.calls.empty());
  CHECK(memory->fetch_or_u64({0x30000}, 0x0F) == host.words[0]);
  CHECK(host.calls == std::vector<Callbacks::Call>{{'r', 0x30000, 8}, {'x', 0x30000, 8}});
  SECTION("no memory") {
    host.result = -1;
    CHECK_FALSE(memory->fetch_or_u64({0x30000}, 0x0F));
  }
  SECTION("an exchange that is lost for ever") {
    host.calls.clear();
    host.lose_exchanges = true;
    CHECK_FALSE(memory->fetch_or_u64({0x30000}, 0x0F));
    CHECK(host.calls.size() == 1 + 64);
  }
}

TEST_CASE("a line is read from regions alone, and the callback is not asked for one", "[base][guest-memory][SEC-1]") {
  GuardedRegion ram{0x10000, 0x1000};
  for (std::uint64_t gpa = 0x10000; gpa < 0x11000; gpa += 8) ram.store_u64(gpa, gpa * 3);
  Callbacks host;
  Memory memory{host.functions()};
  memory.add(ram, true);
  Line line{};
  for (const std::uint64_t first : {0x10000U, 0x10040U, 0x10FC0U}) {
    REQUIRE(memory->load_line({first}, line));
    for (std::uint64_t i = 0; i < words_per_line; ++i) CHECK(line.words[i] == (first + 8 * i) * 3);
  }
  CHECK_FALSE(memory->load_line({0xFFC0}, line));
  CHECK_FALSE(memory->load_line({0x11000}, line));
  CHECK(line.words[0] == std::uint64_t{0x10FC0} * 3);  // as it was
  CHECK(host.calls.empty());
}

TEST_CASE("a view shows the largest regions and reads everything else as the memory does", "[base][guest-memory]") {
  Callbacks host;
  std::deque<GuardedRegion> ram;
  Memory memory{host.functions()};
  CHECK(memory->view().spans.empty());
  constexpr std::array<std::uint64_t, 6> pages{2, 5, 1, 3, 5, 4};
  for (std::size_t i = 0; i < pages.size(); ++i) {
    GuardedRegion& region = ram.emplace_back(0x100000 * (i + 1), 0x1000 * pages.at(i));
    for (std::uint64_t page = 0; page < pages.at(i); ++page)
      region.store_u64(region.gpa() + 0x1000 * page, i * 100 + page);
    memory.add(region);
    CHECK(memory->view().spans.size() == std::min<std::size_t>(i + 1, view_spans));
  }
  const MemoryView view = memory->view();
  std::vector<std::uint64_t> sizes;
  for (const MemorySpan& span : view.spans) sizes.push_back(span.last_offset + 1);
  CHECK(sizes == std::vector<std::uint64_t>{0x5000, 0x5000, 0x4000, 0x3000});
  Line line{};
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const std::uint64_t first = 0x100000 * (i + 1);
    const std::uint64_t last = first + 0x1000 * (pages.at(i) - 1);
    for (const std::uint64_t gpa : {first, last}) {
      CHECK(view.load_u64({gpa}) == memory->load_u64({gpa}));
      REQUIRE(view.load_line({gpa}, line));
      CHECK(line.words[0] == view.load_u64({gpa}));
    }
    CHECK(host.calls.empty());
    CHECK(view.load_u64({last + 0x1000}) == host.words[0]);
    CHECK_FALSE(view.load_line({last + 0x1000}, line));
    CHECK(host.calls == Calls{{'r', last + 0x1000, 8}});
    host.calls.clear();
  }
  host.result = -1;
  CHECK_FALSE(view.load_u64({0x8000}));
}

TEST_CASE("a view exchanges as the memory does, and nothing in a read-only region",
          "[base][guest-memory][P4][SEC-14]") {
  Callbacks host;
  GuardedRegion ram{0x10000, 0x1000};
  GuardedRegion rom{0x20000, 0x1000};
  ram.store_u64(0x10FF8, 5);
  rom.store_u64(0x20000, 5);
  Memory memory{host.functions()};
  memory.add(ram);
  memory.add(rom, true);
  const MemoryView view = memory->view();
  REQUIRE(view.spans.size() == 2);  // the read-only one is among them: it is read there
  std::uint64_t expected = 5;
  CHECK(view.compare_exchange_u64({0x10FF8}, expected, 6) == Exchange::done);
  CHECK(ram.load_u64(0x10FF8) == 6);
  CHECK(view.compare_exchange_u64({0x10FF8}, expected, 7) == Exchange::lost);
  CHECK(expected == 6);
  CHECK(ram.load_u64(0x10FF8) == 6);
  expected = 5;
  CHECK(view.compare_exchange_u64({0x20000}, expected, 6) == Exchange::failed);
  CHECK(rom.load_u64(0x20000) == 5);
  CHECK(host.calls.empty());
  CHECK(view.compare_exchange_u64({0x30000}, expected, 6) == Exchange::done);
  CHECK(host.calls == Calls{{'x', 0x30000, 8}});
  host.result = -1;
  CHECK(view.compare_exchange_u64({0x30000}, expected, 6) == Exchange::failed);
  CHECK(MemoryView{}.compare_exchange_u64({0x10FF8}, expected, 6) == Exchange::failed);
}

TEST_CASE("a tap sees what a view reads", "[base][guest-memory]") {
  struct Seen {
    std::vector<std::uint64_t> words;
    std::vector<std::uint64_t> failed;
  } seen;
  MemoryTap tap;
  tap.opaque = &seen;
  tap.loaded = [](void* self, std::uint64_t gpa, const std::uint64_t* words, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      static_cast<Seen*>(self)->words.insert(static_cast<Seen*>(self)->words.end(), {gpa + 8 * i, words[i]});
  };
  tap.load_failed = [](void* self, std::uint64_t gpa, std::uint64_t) {
    static_cast<Seen*>(self)->failed.push_back(gpa);
  };
  GuardedRegion ram{0x10000, 0x1000};
  for (std::uint64_t gpa = 0x10000; gpa < 0x11000; gpa += 8) ram.store_u64(gpa, gpa * 3);
  Memory memory{{}, tap};
  memory.add(ram);
  const MemoryView view = memory->view();
  CHECK(view.spans.empty());
  CHECK(view.load_u64({0x10008}) == 0x30018U);
  CHECK(seen.words == std::vector<std::uint64_t>{0x10008, 0x30018});
  CHECK_FALSE(view.load_u64({0x20000}));
  CHECK(seen.failed == std::vector<std::uint64_t>{0x20000});
  seen.words.clear();
  Line line{};
  REQUIRE(view.load_line({0x10040}, line));
  CHECK(seen.words.size() == 2 * words_per_line);
  CHECK_FALSE(view.load_line({0x20000}, line));  // nothing was read, and nothing is told
  CHECK(seen.words.size() == 2 * words_per_line);
  CHECK(seen.failed.size() == 1);
}

TEST_CASE("who taps loads or failed loads gets to see each: no page and no span is read past it",
          "[base][guest-memory][recorder]") {
  MemoryTap tap;
  bool tapped = true;
  SECTION("loads") {
    tap.loaded = [](void*, std::uint64_t, const std::uint64_t*, std::size_t) {};
  }
  SECTION("failed loads") {
    tap.load_failed = [](void*, std::uint64_t, std::uint64_t) {};
  }
  SECTION("stores alone need no look at loads") {
    tap.stored = [](void*, std::uint64_t, std::uint64_t, std::uint64_t) {};
    tap.store_failed = [](void*, std::uint64_t, std::uint64_t) {};
    tapped = false;
  }
  GuardedRegion ram{0x10000, 0x2000};
  Memory memory{{}, tap};
  memory.add(ram);
  CHECK(memory->view().spans.empty() == tapped);
  CHECK(memory->page({0x11000}) == (tapped ? nullptr : ram.data() + 0x1000));
  CHECK(memory->page({0x12000}) == nullptr);
  CHECK(memory->load_u64({0x10000}) == 0U);
  CHECK_FALSE(memory->load_u64({0x12000}));
  CHECK(memory->store_u32({0x10000}, 1));
  CHECK_FALSE(memory->store_u32({0x12000}, 1));
}

}  // namespace viommu
