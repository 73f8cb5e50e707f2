// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A whole VT-d unit with somebody who mirrors it: memory that goes while others work, contexts that nobody announced.
#include <array>
#include <cstring>

#include "engine/base/process_barrier.hpp"
#include "engine/vtd/unit.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

constexpr std::uint64_t global_command = 0x18;
constexpr std::uint64_t root_table = 0x20;
constexpr std::uint64_t translation = 0x8000'0000;
constexpr std::uint64_t root_pointer = 0x4000'0000;
constexpr std::uint64_t interrupt_table = 0x0100'0000;

constexpr std::size_t devices = 2;
constexpr Gpa root_page{0x3000};
constexpr Gpa context_page{0x4000};
constexpr std::uint64_t pass_through = 0x9;             ///< low word of a context: present, TT 2
constexpr std::uint64_t widest_of_domain = 5 << 8 | 2;  ///< high word: a domain, and the largest width
constexpr GpaRange memory{{0x10'0000}, {0x10'FFFF}};
constexpr GpaRange more_memory{{0x20'0000}, {0x20'FFFF}};

constexpr core::WaistOptions small{
    .rules = {},
    .hash_seed = 5,
    .hold_report_ns = 0,
    .iotlb_pages = 16,
    .structures = 16,
    .context_entries = 2,
    .address_spaces = 2,
    .tag_bits = 4,
    .readers = 2,
    .holds = 4,
    .regions = 4,
    .drain = caches::Drain::barrier};  // without fences of guards, which would order what these leave out

[[nodiscard]] constexpr SourceId device(std::size_t number) { return {static_cast<std::uint16_t>(number)}; }

/// A unit without caching mode, with a device whose consumer has the one region there is.
struct World {
  World() {
    pairs_are_whole = true;
    has_process_barrier = true;
    require(waist.reset() && unit.consumers().reset(devices) == consumer::Result::ok, "the harness has memory");
    require(waist.add_region({memory, nullptr}) == core::RegionResult::ok, "there is room for a region");
    consumer::Subscription subscription;
    subscription.sink.opaque = this;
    subscription.sink.events = [](const consumer::Sink& sink, consumer::Event* events, std::uint32_t count) {
      World& world = of(sink.opaque);
      world.told.write("what a consumer is told");
      for (std::uint32_t i = 0; i < count; ++i) {
        simulator().point();
        world.held = events[i].kind == consumer::EventKind::map;
      }
    };
    subscription.declared.map = subscription.declared.unmap = true;
    subscription.quota = 8;
    std::uint64_t id = 0;
    for (std::size_t i = 0; i < devices; ++i)
      require(unit.consumers().add_device(device(i), false) == consumer::Result::ok, "there is room for a device");
    require(unit.consumers().subscribe(device(0), subscription, id) == consumer::Result::ok &&
                unit.consumers().replay(id) == consumer::Result::ok,
            "a consumer has what is there");
    require(held && holds(memory.last.value - memory.first.value + 1), "it holds the region");
  }
  /// The device's consumer, which does not share: what is mapped is pinned.
  [[nodiscard]] bool holds(std::uint64_t bytes) const {
    const consumer::Bytes now = unit.consumers().bytes_of(device(0));
    return now.mapped == bytes && now.pinned == bytes;
  }
  [[nodiscard]] core::HostFunctions functions() {
    core::HostFunctions functions;
    functions.opaque = this;
    functions.allocator = arena();
    functions.memory.opaque = this;
    functions.memory.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      for (std::uint64_t i = 0; i < size / sizeof(std::uint64_t); ++i) {
        const std::uint64_t word = of(self).word({gpa + i * sizeof(std::uint64_t)});
        std::memcpy(static_cast<std::byte*>(data) + i * sizeof word, &word, sizeof word);
      }
      return 0;
    };
    functions.region_gone = [](void* self, std::uint64_t) {
      require(!of(self).held, "memory is given up when its consumers have withdrawn it");
      ++of(self).gone;
    };
    functions.wake = [](void* self) { ++of(self).wakes; };
    return functions;
  }
  static World& of(void* self) { return *static_cast<World*>(self); }
  [[nodiscard]] std::uint64_t word(Gpa gpa) {
    if (gpa == root_page) return context_page.value | 1;
    if (gpa < context_page || gpa.value >= context_page.value + sizeof contexts) return 0;
    return contexts[(gpa.value - context_page.value) / sizeof(std::uint64_t)].load(std::memory_order_acquire);
  }

  /// What a host does that was woken.
  void answer() {
    if (answered == wakes) return;
    answered = wakes;
    if (unit.process(0) == vtd::WorkState::more) ++wakes;
  }
  void settle() {
    for (int i = 0; i < 8; ++i) answer();
    require(answered == wakes, "work comes to its end");
  }

  std::array<Atomic<std::uint64_t>, 2 * devices> contexts{};
  Plain told;
  bool held = false;
  int gone = 0;
  int wakes = 0;
  int answered = 0;
  core::HostFunctions host_functions = functions();
  core::Host host{host_functions};
  core::Waist waist{small, host};
  vtd::Unit unit{vtd::Capabilities::decode(0x10, 0x80D2'078C'222F'0606, 0xF0'0F4B, 48), {}, waist, host, {}};
};

/// A region goes while commands are carried out.
struct Leaving {
  static constexpr std::size_t fibers = 3;
  World world;

  void fiber(std::size_t number) {
    if (number == 0) {
      require(world.waist.remove_region(memory.first, 1) == core::RegionResult::ok, "the region is there");
      if (world.unit.process(0) != vtd::WorkState::idle) world.host.wake();
    } else if (number == 1) {
      world.unit.write(global_command, 4, interrupt_table);
    } else {
      for (int i = 0; i < 3; ++i) {
        world.answer();
        simulator().pause();
      }
    }
  }
  void check() {
    world.settle();
    require(world.gone == 1, "memory that was removed goes in the end");
    require(!world.held && world.holds(0), "and its consumer holds nothing of it");
  }
};

/// A region comes while commands are carried out.
struct Coming {
  static constexpr std::size_t fibers = 3;
  World world;

  void fiber(std::size_t number) {
    if (number == 0) {
      require(world.waist.add_region({more_memory, nullptr}) == core::RegionResult::ok, "there is room for a region");
      if (world.unit.process(0) != vtd::WorkState::idle) world.host.wake();
    } else if (number == 1) {
      world.unit.write(global_command, 4, interrupt_table);
    } else {
      world.answer();
    }
  }
  void check() {
    world.settle();
    require(world.holds(2 * (memory.last.value - memory.first.value + 1)), "memory that was added is held in the end");
  }
};

/// Devices whose contexts became pass-through without a word, as far as their requests tell.
struct Unannounced {
  static constexpr std::size_t fibers = 3;
  World world;
  std::array<core::Reader*, devices> readers{};

  Unannounced() {
    for (core::Reader*& reader : readers) reader = world.waist.take_reader();
    world.unit.write(root_table, 8, root_page.value);
    world.unit.write(global_command, 4, root_pointer);
    world.unit.write(global_command, 4, translation);
    for (std::size_t i = 0; i < devices; ++i)
      require(world.unit.consumers().view(device(i)) == consumer::View::blocked, "nothing passes yet");
    world.answered = world.wakes;
  }
  void fiber(std::size_t number) {
    if (number < devices) {
      world.contexts[2 * number + 1].store(widest_of_domain, std::memory_order_release);
      world.contexts[2 * number].store(pass_through, std::memory_order_release);
      vtd::DmaRequest request;
      request.source = device(number);
      request.iova = {memory.first.value};
      request.asked = read_only;
      core::Reader& reader = *readers[number];
      world.waist.enter(reader);
      require(world.unit.dma().translate(reader, request).kind == vtd::DmaKind::identity, "the context is in force");
      world.waist.leave(reader);
    } else {
      for (int i = 0; i < 3; ++i) {
        world.answer();
        simulator().pause();
      }
    }
  }
  void check() {
    world.settle();
    for (std::size_t i = 0; i < devices; ++i)
      require(world.unit.consumers().view(device(i)) == consumer::View::system, "each is seen in the end");
    require(world.held, "and its consumer has the memory again");
  }
};

constexpr std::array scenarios{
    scenario<Leaving>("consumer-memory", "memory is given up when its consumers have withdrawn it", 2'500),
    scenario<Coming>("consumer-more-memory", "memory that comes is told to its consumers", 2'500),
    scenario<Unannounced>("consumer-contexts", "a context that a request has met is seen by those who mirror it",
                          2'500),
};

}  // namespace

std::span<const Scenario> consumer_scenarios() { return scenarios; }

}  // namespace viommu::harness
