// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The waist as front ends use it: translations by walks through guest memory, drops, tickets, holds, regions, waking.
#include <array>
#include <cstring>

#include "engine/base/process_barrier.hpp"
#include "engine/core/waist.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

constexpr unsigned frame_shift = 24;  // frames of things are that far apart
constexpr DomainId domain{1};
constexpr SourceId source{3};

// The guest's tables: a page each, of which the first entries may be used.
constexpr std::uint64_t root = 1;
constexpr std::uint64_t middle = 2;
constexpr std::uint64_t leaves = 3;
constexpr std::uint64_t other_leaves = 4;
constexpr std::uint64_t other_middle = 5;
constexpr std::size_t tables = 6;
constexpr std::size_t entries = 24;

[[nodiscard]] constexpr std::uint64_t table_entry(std::uint64_t table) { return table << page_shift | 3; }
[[nodiscard]] constexpr std::uint64_t leaf_entry(std::uint64_t frame, std::uint64_t page = 0) {
  return frame << frame_shift | page << page_shift | 3;
}
constexpr std::uint64_t large = 1U << 7;  ///< in a leaf of the middle table
constexpr unsigned large_shift = 21;
[[nodiscard]] constexpr Iova page(std::uint64_t number) { return {number << page_shift}; }

/// Guest memory behind the host's functions: each word an atomic, so that walks may read old ones.
struct WordMemory {
  std::array<std::array<Atomic<std::uint64_t>, entries>, tables> words{};

  [[nodiscard]] MemoryCallbacks functions() {
    MemoryCallbacks functions;
    functions.opaque = this;
    functions.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      const std::uint64_t table = gpa >> page_shift;
      const std::uint64_t index = (gpa & low_bits(page_shift)) / sizeof(std::uint64_t);
      std::uint64_t word = 0;
      if (table < tables && index < entries)
        word = static_cast<WordMemory*>(self)->words[table][index].load(std::memory_order_acquire);
      std::memcpy(data, &word, size);
      return 0;
    };
    return functions;
  }
  void set(std::uint64_t table, std::uint64_t index, std::uint64_t entry) {
    words[table][index].store(entry, std::memory_order_release);
  }
};

/// Guest memory mapped: plain words, and a point for other fibers after each load.
struct MappedMemory {
  alignas(4096) std::array<std::uint64_t, tables * 512> words{};

  [[nodiscard]] static MemoryTap tap() {
    MemoryTap tap;
    tap.loaded = [](void* /*opaque*/, std::uint64_t /*gpa*/, const std::uint64_t* /*words*/, std::size_t /*count*/) {
      simulator().point();
    };
    return tap;
  }
  void set(std::uint64_t table, std::uint64_t index, std::uint64_t entry) {
    simulator().point();
    words[table * 512 + index] = entry;
  }
};

constexpr core::WaistOptions small{.rules = {},
                                   .hash_seed = 5,
                                   .hold_report_ns = 0,
                                   .iotlb_pages = 256,
                                   .structures = 16,
                                   .context_entries = 2,
                                   .address_spaces = 2,
                                   .tag_bits = 4,
                                   .readers = 2,
                                   .holds = 4,
                                   .regions = 4,
                                   .fill = core::FillMode::line};

[[nodiscard]] constexpr core::WaistOptions with(caches::Drain drain) {
  core::WaistOptions options = small;
  options.drain = drain;
  return options;
}

/// Memory that the library asks for while the fibers run: written when it is made, gone when it is freed.
class Pieces {
 public:
  void made(const void* memory) {
    if (!simulator().running() || count_ == pieces_.size()) return;
    pieces_[count_].memory = memory;
    pieces_[count_].accesses.write("memory that was made");
    ++count_;
  }
  void freed(const void* memory) {
    if (Piece* const piece = find(memory)) {
      piece->accesses.write("memory that was freed");
      piece->gone = true;
    } else if (memory != nullptr && simulator().running() && count_ < pieces_.size()) {
      pieces_[count_].memory = memory;  // made before the fibers began
      pieces_[count_++].gone = true;
    }
  }
  void use(const void* memory) {
    if (Piece* const piece = find(memory)) {
      require(!piece->gone, "memory is used while it is there");
      piece->accesses.read("memory in use");
    }
  }

 private:
  struct Piece {
    const void* memory = nullptr;
    Plain accesses;
    bool gone = false;
  };
  [[nodiscard]] Piece* find(const void* memory) {
    for (std::size_t i = 0; i < count_; ++i)
      if (pieces_[i].memory == memory) return &pieces_[i];
    return nullptr;
  }
  std::array<Piece, 16> pieces_;
  std::size_t count_ = 0;
};

template <class Memory>
struct World {
  explicit World(const core::WaistOptions& options, bool barrier = true) : waist{options, host} {
    pairs_are_whole = true;
    has_process_barrier = barrier;
    require(waist.reset(), "the harness has memory");
    for (core::Reader*& reader : readers) reader = waist.take_reader();
    memory.set(root, 0, table_entry(middle));
    memory.set(middle, 0, table_entry(leaves));
    for (std::uint64_t i = 0; i < entries; ++i) {
      memory.set(leaves, i, leaf_entry(1, i));
      memory.set(other_leaves, i, leaf_entry(2, i));
    }
    memory.set(other_middle, 0, table_entry(other_leaves));
    if constexpr (requires { Memory::tap(); }) {
      const GpaRange range{{0}, {sizeof(memory.words) - 1}};
      require(
          waist.add_region({range, reinterpret_cast<std::byte*>(memory.words.data()), false}) == core::RegionResult::ok,
          "the region is new");
      require(waist.reclaim_regions(), "no guard is open");
    }
    require(static_cast<bool>(waist.insert_context(waist.context_version(), source, key(), false)), "there is room");
  }
  [[nodiscard]] static caches::AddressSpaceKey key() {
    caches::AddressSpaceKey key;
    key.domain = domain;
    key.top_level = 2;
    key.root = {root << page_shift};
    key.last = {low_bits(39)};
    return key;
  }
  [[nodiscard]] core::HostFunctions functions() {
    core::HostFunctions functions;
    functions.opaque = this;
    functions.allocator = arena();
    functions.allocator.opaque = this;
    functions.allocator.allocate = [](void* self, std::size_t size, std::size_t alignment) {
      void* const piece = take_from_arena(size, alignment);
      static_cast<World*>(self)->pieces.made(piece);
      return piece;
    };
    functions.allocator.deallocate = [](void* self, void* piece, std::size_t, std::size_t) {
      static_cast<World*>(self)->pieces.freed(piece);
    };
    if constexpr (requires { Memory::tap(); }) {
      functions.memory_tap = Memory::tap();
    } else {
      functions.memory = memory.functions();
    }
    functions.wake = [](void* self) { static_cast<World*>(self)->wakes += 1; };
    functions.region_gone = [](void* self, std::uint64_t) {
      static_cast<World*>(self)->frames[1].end("the memory of a region that was removed");
    };
    return functions;
  }

  [[nodiscard]] caches::AddressSpace& space() const { return waist.find_context(source).space(); }
  /// The thing that a page is translated to.
  std::uint64_t translate(core::Reader& reader, Iova iova) {
    const std::uint64_t version = waist.context_version();
    caches::ContextEntry context = waist.find_context(source);
    if (!context) context = waist.insert_context(version, source, key(), false);
    const core::Translation found = context ? waist.translate(reader, context.space(), iova, read_only)
                                            : waist.translate_uncached(reader, key(), iova, read_only);
    if (found.outcome != core::Outcome::translated) return 0;
    const std::uint64_t number = (iova.value >> page_shift) % entries;
    require((found.gpa.value >> page_shift & low_bits(frame_shift - page_shift)) == number, "the right page of it");
    return found.gpa.value >> frame_shift;
  }
  void use(std::uint64_t frame) {
    if (frame != 0) frames[frame].use("a frame");
  }
  void translate_in_guard(core::Reader& reader, Iova iova) {
    waist.enter(reader);
    use(translate(reader, iova));
    waist.leave(reader);
  }
  [[nodiscard]] caches::Scope pages(Iova first, Iova last) const {
    return {.kind = caches::Scope::Kind::pages, .domain = domain, .range = {first, last + low_bits(page_shift)}};
  }
  [[nodiscard]] core::Ticket ticket(const caches::Scope& scope) {
    caches::ScopeSet scopes;
    scopes.add(scope);
    return waist.ticket(scopes);
  }
  void wait(const caches::Scope& scope) {
    const core::Ticket made = ticket(scope);
    while (!waist.drained(made)) simulator().pause();
  }
  /// What a reader does with the map that it has loaded.
  void use_map() { pieces.use(waist.memory().map()); }

  Memory memory;
  Pieces pieces;
  core::HostFunctions host_functions = functions();
  core::Host host{host_functions};
  core::Waist waist;
  std::array<core::Reader*, 2> readers{};
  std::array<Thing, 4> frames;
  int wakes = 0;
};

constexpr const char* window =
    "once an invalidation is complete, nothing older is used, and no walk begun before fills";

/// One reader alone: what it has walked for is a hit.
struct Alone {
  static constexpr std::size_t fibers = 1;
  World<WordMemory> world{small};

  void fiber(std::size_t /*number*/) {
    for (int i = 0; i < 3; ++i) world.translate_in_guard(*world.readers[0], page(0));
    require(world.waist.count(core::Count::walks) == 1, "what nobody disturbs is walked for once");
    for (std::uint64_t i = 1; i < 4; ++i) world.translate_in_guard(*world.readers[0], page(8 * i % entries + i));
    require(world.waist.count(core::Count::walk_loads) < std::uint64_t{3} * 4, "and its table is found again");
  }
  void check() {}
};

/// Two readers translate a page whose leaf the guest changes.
template <caches::Drain drain, bool whole_domain>
struct Leaf {
  static constexpr std::size_t fibers = 3;
  World<WordMemory> world{with(drain)};

  void fiber(std::size_t number) {
    if (number < 2) {
      for (int i = 0; i < 2; ++i) world.translate_in_guard(*world.readers[number], page(0));
      return;
    }
    world.memory.set(leaves, 0, leaf_entry(2));
    caches::Scope scope = world.pages(page(0), page(0));
    if (whole_domain) scope.kind = caches::Scope::Kind::domain;
    world.waist.drop(scope);
    world.wait(scope);
    world.frames[1].end("a frame that the guest has taken back");
  }
  void check() {
    core::Reader& reader = *world.readers[0];
    world.waist.enter(reader);
    require(world.translate(reader, page(0)) == 2, "what is found afterwards is what the tables say");
  }
};

/// The guest puts another table above a page. Walks may begin at the cached one.
enum class Above : std::uint8_t { leaf_table, middle_table };
template <Above above, std::size_t readers, bool swept, bool cold = false>
struct Table {
  static constexpr std::size_t fibers = readers + 1;
  World<WordMemory> world{options()};

  [[nodiscard]] static constexpr core::WaistOptions options() {
    core::WaistOptions options = with(caches::Drain::fence);
    options.tag_bits = swept ? 1 : 4;  // one tag: to forget is to sweep
    return options;
  }
  Table() {  // the tables are announced, and then cached
    if (cold) return;
    core::Reader& reader = *world.readers[0];
    if (above == Above::middle_table) {  // the middle table by large pages in it; of the leaf table it is only said
      for (std::uint64_t i = 1; i < 4; ++i) {
        world.memory.set(middle, i, leaf_entry(3) | large);
        world.waist.enter(reader);
        static_cast<void>(world.waist.translate(reader, world.space(), {i << large_shift}, read_only));
        world.waist.leave(reader);
      }
      world.translate_in_guard(reader, page(1));
      return;
    }
    for (std::uint64_t i = 1; i < 5; ++i) world.translate_in_guard(reader, page(i));
  }
  void fiber(std::size_t number) {
    if (number < readers) {
      for (std::uint64_t i = 0; i < 3; ++i) world.translate_in_guard(*world.readers[number], page(i % 2 * 8));
      return;
    }
    if (cold) world.waist.drop(world.pages(page(0), page(0)));  // there is no table yet, as this one sees it
    if (above == Above::leaf_table) {
      world.memory.set(middle, 0, table_entry(other_leaves));
    } else {
      world.memory.set(root, 0, table_entry(other_middle));
    }
    caches::Scope scope = world.pages(page(0), page(entries - 1));
    if (swept) scope.kind = caches::Scope::Kind::domain;
    world.waist.drop(scope);
    world.wait(scope);
    world.frames[1].end("a frame that the guest has taken back");
  }
  void check() {
    core::Reader& reader = *world.readers[0];
    world.waist.enter(reader);
    for (const std::uint64_t i : {0U, 8U, 16U})
      require(world.translate(reader, page(i)) == 2, "what is found afterwards is what the tables say");
  }
};

/// A stream that goes on from block to block is walked ahead of, while the guest puts another leaf table in place.
struct Ahead {
  static constexpr std::size_t fibers = 2;
  World<MappedMemory> world{options()};

  [[nodiscard]] static constexpr core::WaistOptions options() {
    core::WaistOptions options = with(caches::Drain::fence);
    options.fill = core::FillMode::all;
    return options;
  }
  Ahead() {
    for (const std::uint64_t i : {16U, 8U, 0U}) world.translate_in_guard(*world.readers[1], page(i));
    world.waist.drop(world.pages(page(0), page(entries - 1)));  // pages and tables; sizes stay known
    for (const std::uint64_t i : {16U, 0U}) world.translate_in_guard(*world.readers[1], page(i));
    world.memory.set(other_leaves, 15, leaf_entry(1, 15));
    caches::Scope some = world.pages(page(0), page(entries - 1));
    some.keep_structures = true;
    world.waist.drop(some);
  }
  void fiber(std::size_t number) {
    if (number == 0) {
      for (const std::uint64_t i : {0U, 8U, 16U}) world.translate_in_guard(*world.readers[0], page(i));
      return;
    }
    world.memory.set(middle, 0, table_entry(other_leaves));
    const caches::Scope scope = world.pages(page(0), page(entries - 1));
    world.waist.drop(scope);
    world.wait(scope);
    world.frames[1].end("a frame that the guest has taken back");
  }
  void check() {
    core::Reader& reader = *world.readers[0];
    world.waist.enter(reader);
    for (const std::uint64_t i : {0U, 8U, 16U})
      require(world.translate(reader, page(i)) == 2, "what is found afterwards is what the tables say");
  }
};

/// DMA that goes on after its guard, under a hold.
struct Hold {
  static constexpr std::size_t fibers = 3;
  World<WordMemory> world{with(caches::Drain::fence)};
  bool sleeps = false;

  void fiber(std::size_t number) {
    if (number == 2) return change();
    core::Reader& reader = *world.readers[number];
    world.waist.enter(reader);
    const std::uint64_t since = world.waist.hold_since();
    const std::uint64_t frame = world.translate(reader, page(0));
    const std::uint64_t hold = world.waist.hold(since, {source, domain, {page(0), page(0) + low_bits(page_shift)}}, 0);
    world.waist.leave(reader);
    require(hold != 0, "there is room for a hold");
    simulator().point();
    world.use(frame);
    require(world.waist.release(hold, false), "the hold is open");
  }
  void change() {
    for (std::uint64_t next = 2; next <= 3; ++next) {
      world.memory.set(leaves, 0, leaf_entry(next));
      const caches::Scope scope = world.pages(page(0), page(0));
      world.waist.drop(scope);
      const core::Ticket ticket = world.ticket(scope);
      if (!world.waist.drained(ticket)) {
        sleeps = true;
        return;
      }
      world.frames[next - 1].end("a frame that the guest has taken back");
    }
  }
  void check() const { require(!sleeps || world.wakes > 0, "the end of what was waited for wakes"); }
};

/// The number that a hold counts from, for a page that is in the IOTLB.
struct HoldSince {
  static constexpr std::size_t fibers = 2;
  World<WordMemory> world{with(caches::Drain::fence)};

  HoldSince() { world.translate_in_guard(*world.readers[0], page(0)); }
  void fiber(std::size_t number) {
    if (number == 0) {
      core::Reader& reader = *world.readers[0];
      world.waist.enter(reader);
      const std::uint64_t since = world.waist.hold_since();
      const std::uint64_t frame = world.translate(reader, page(0));
      static_cast<void>(world.waist.hold(since, {source, domain, {page(0), page(0) + low_bits(page_shift)}}, 0));
      world.waist.leave(reader);
      simulator().point();
      world.use(frame);  // and it stays held
      return;
    }
    world.memory.set(leaves, 0, leaf_entry(2));
    const caches::Scope scope = world.pages(page(0), page(0));
    world.waist.drop(scope);
    if (world.waist.drained(world.ticket(scope))) world.frames[1].end("a frame that the guest has taken back");
  }
  void check() {}
};

/// A waiter that sees an open guard is woken, whichever of a reader's guards it was.
template <caches::Drain drain, bool barrier>
struct Wake {
  static constexpr std::size_t fibers = 2;
  World<WordMemory> world{with(drain), barrier};
  bool sleeps = false;

  void fiber(std::size_t number) {
    core::Reader& reader = *world.readers[0];
    if (number == 0) {
      for (int i = 0; i < 3; ++i) {
        world.waist.enter(reader);
        simulator().point();
        world.waist.leave(reader);
      }
      return;
    }
    sleeps = !world.waist.drained(world.ticket(world.pages(page(0), page(0))));
  }
  void check() const { require(!sleeps || world.wakes > 0, "the end of what was waited for wakes"); }
};

/// A large page changes, that nobody has cached before. Another one of that size is walked beside it.
template <std::size_t readers, int times, bool waits = true>
struct Large {
  static constexpr std::size_t fibers = readers + 1;
  static constexpr std::uint64_t slot = 1;
  World<WordMemory> world{with(caches::Drain::fence)};

  Large() {
    world.memory.set(middle, slot, leaf_entry(1) | large);
    world.memory.set(middle, slot + 1, leaf_entry(3) | large);
    if (!waits) world.waist.enter(*world.readers[0]);  // its fence is long past
  }
  std::uint64_t translate(core::Reader& reader, std::uint64_t which) {
    return world.waist.translate(reader, world.space(), {which << large_shift}, read_only).gpa.value >> frame_shift;
  }
  void fiber(std::size_t number) {
    if (number < readers) {
      core::Reader& reader = *world.readers[number];
      for (int i = 0; i < times; ++i) {
        if (waits || number != 0) world.waist.enter(reader);
        world.use(translate(reader, number == 1 ? slot + 1 : slot));
        world.waist.leave(reader);
      }
      return;
    }
    world.memory.set(middle, slot, leaf_entry(2) | large);
    const Iova at{slot << large_shift};
    const caches::Scope scope = world.pages(at, at);
    world.waist.drop(scope);
    if (!waits) return;  // what is found in the end says enough
    world.wait(scope);
    world.frames[1].end("a frame that the guest has taken back");
  }
  void check() {
    core::Reader& reader = *world.readers[0];
    world.waist.enter(reader);
    require(translate(reader, slot) == 2, "what is found afterwards is what the tables say");
  }
};

/// A region goes while readers walk through it, and others come. The old maps are freed, and the host is told, when
/// nobody can reach them.
template <caches::Drain drain>
struct RegionRemoved {
  static constexpr std::size_t fibers = 3;
  World<MappedMemory> world{with(drain)};

  void fiber(std::size_t number) {
    if (number < 2) {
      for (int i = 0; i < 2; ++i) {
        core::Reader& reader = *world.readers[number];
        world.waist.enter(reader);
        world.use_map();
        world.use(world.translate(reader, page(0)));
        world.use_map();
        world.waist.leave(reader);
      }
      return;
    }
    require(world.waist.remove_region({0}, 0) == core::RegionResult::ok, "the region is there");
    for (const std::uint64_t first : {std::uint64_t{1} << 40, std::uint64_t{1} << 41, std::uint64_t{1} << 42})
      require(
          world.waist.add_region({{{first}, {first + low_bits(page_shift)}}, nullptr, true}) == core::RegionResult::ok,
          "there is room for a region");
    while (!world.waist.reclaim_regions()) simulator().pause();
    require(world.frames[1].gone(), "the host is told");
  }
  void check() {
    core::Reader& reader = *world.readers[0];
    world.waist.enter(reader);
    require(world.translate(reader, page(0)) == 0, "nothing is left of what was translated through it");
  }
};

/// Calls without a reader of their own share the places for such, one after the other.
template <caches::Drain drain>
struct Transient {
  static constexpr std::size_t fibers = 3;
  World<WordMemory> world{with(drain)};
  std::array<Plain, 4> places;  ///< what is in a reader and nobody else's

  void fiber(std::size_t number) {
    if (number < 2) {
      for (int i = 0; i < 2; ++i) {
        core::Reader* const reader = world.waist.take_transient_reader();
        require(reader != nullptr, "there is a place");
        Plain& place = places[static_cast<std::size_t>(reader - world.readers[0]) - small.readers];
        place.write("a reader's own");
        world.translate_in_guard(*reader, page(0));
        place.write("a reader's own");
        world.waist.put_reader(*reader);
      }
      return;
    }
    world.memory.set(leaves, 0, leaf_entry(2));
    const caches::Scope scope = world.pages(page(0), page(0));
    world.waist.drop(scope);
    world.wait(scope);
    world.frames[1].end("a frame that the guest has taken back");
  }
  void check() { require(world.waist.readers_in_use() == small.readers, "who is done gives the place back"); }
};

constexpr std::array scenarios{
    scenario<Alone>("waist-alone", "what nobody disturbs is filled and found", 50),
    scenario<Leaf<caches::Drain::fence, false>>("waist-leaf", window, 2'500),
    scenario<Leaf<caches::Drain::automatic, false>>("waist-leaf-automatic", window, 2'500),
    scenario<Leaf<caches::Drain::fence, true>>("waist-leaf-domain", window, 2'500),
    scenario<Table<Above::leaf_table, 1, false>>("waist-table", window, 2'500),
    scenario<Table<Above::leaf_table, 2, false>>("waist-table-2", window, 2'500),
    scenario<Table<Above::middle_table, 1, false>>("waist-table-middle", window, 2'500),
    scenario<Table<Above::middle_table, 2, false>>("waist-table-middle-2", window, 2'500),
    scenario<Table<Above::leaf_table, 2, false, true>>("waist-table-cold", window, 2'500),
    scenario<Table<Above::leaf_table, 1, true>>("waist-table-swept", window, 2'500),
    scenario<Table<Above::middle_table, 2, true>>("waist-table-middle-swept", window, 2'500),
    scenario<Ahead>("waist-ahead", window, 2'500),
    scenario<Large<1, 2>>("waist-large", window, 2'500),
    scenario<Large<2, 2>>("waist-large-2", window, 2'500),
    scenario<Large<2, 1>>("waist-large-once", window, 2'500),
    scenario<Large<2, 1, false>>("waist-large-fill", window, 2'500),
    scenario<Wake<caches::Drain::fence, true>>("waist-wake", "the end of what was waited for wakes", 2'500),
    scenario<Wake<caches::Drain::barrier, true>>("waist-wake-barrier", "the end of what was waited for wakes", 2'500),
    scenario<Wake<caches::Drain::fence, false>>("waist-wake-no-barrier", "the end of what was waited for wakes", 2'500),
    scenario<Hold>("waist-hold", "a completion waits for the holds in its scope, and their end wakes", 2'500),
    scenario<HoldSince>("waist-hold-since", "a completion waits for the holds in its scope", 2'500),
    scenario<RegionRemoved<caches::Drain::fence>>("waist-region", "a region is gone when nobody can reach it", 2'500),
    scenario<RegionRemoved<caches::Drain::barrier>>("waist-region-barrier", "a region is gone when nobody can reach it",
                                                    2'500),
    scenario<Transient<caches::Drain::fence>>("waist-transient", window, 2'500),
    scenario<Transient<caches::Drain::barrier>>("waist-transient-barrier", window, 2'500),
};

}  // namespace

std::span<const Scenario> waist_scenarios() { return scenarios; }

}  // namespace viommu::harness
