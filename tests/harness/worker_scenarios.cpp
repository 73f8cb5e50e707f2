// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A whole VT-d unit: register commands and the invalidation queue from several threads, with one at a time at work.
#include <array>
#include <cstring>

#include "engine/base/process_barrier.hpp"
#include "engine/vtd/unit.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

// Registers, by their offsets, and descriptors.
constexpr std::uint64_t global_command = 0x18;
constexpr std::uint64_t global_status = 0x1C;
constexpr std::uint64_t queue_tail = 0x88;
constexpr std::uint64_t queue_address = 0x90;
constexpr std::uint64_t completion_control = 0xA0;
constexpr std::uint64_t queue_enable = 0x0400'0000;
constexpr std::uint64_t root_pointer = 0x4000'0000;     ///< in both: asked for, done
constexpr std::uint64_t interrupt_table = 0x0100'0000;  ///< in both
constexpr std::uint64_t wait_with_status_and_interrupt = 0x35;
constexpr std::uint64_t global_iotlb_invalidation = 0x12;
constexpr std::uint64_t descriptor_bytes = 16;

constexpr std::uint64_t queue_page = 0x1000;
constexpr std::uint64_t status_page = 0x2000;
constexpr std::size_t waits = 2;

constexpr core::WaistOptions small{.rules = {},
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
                                   .drain = caches::Drain::fence};

struct World {
  World() {
    pairs_are_whole = true;
    has_process_barrier = true;
    require(waist.reset(), "the harness has memory");
    reader = waist.take_reader();          // NOLINT(cppcoreguidelines-prefer-member-initializer): none before reset()
    unit.write(completion_control, 4, 0);  // not masked
    unit.write(queue_address, 8, queue_page);
    unit.write(global_command, 4, queue_enable);
  }
  [[nodiscard]] core::HostFunctions functions() {
    core::HostFunctions functions;
    functions.opaque = this;
    functions.allocator = arena();
    functions.memory.opaque = this;
    functions.memory.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      of(self).role.write("what only the role looks at");
      const std::uint64_t index = (gpa - queue_page) / sizeof(std::uint64_t);
      for (std::uint64_t i = 0; i < size / sizeof(std::uint64_t); ++i) {
        const std::uint64_t word =
            index + i < 2 * waits ? of(self).queue[index + i].load(std::memory_order_acquire) : 0;
        std::memcpy(static_cast<std::byte*>(data) + i * sizeof word, &word, sizeof word);
      }
      return 0;
    };
    functions.memory.write = [](void* self, std::uint64_t gpa, const void* /*data*/, std::uint64_t) -> std::int32_t {
      simulator().point();
      of(self).role.write("what only the role looks at");
      require(!of(self).inside_guard, "a completion waits for the guards that were open");
      ++of(self).stored[(gpa - status_page) / sizeof(std::uint64_t)];
      return 0;
    };
    functions.msi = [](void* self, std::uint64_t, std::uint32_t) {
      require(!of(self).sending, "messages are sent one at a time");
      require(of(self).stored[0] == 1, "a message follows the stores it announces");
      of(self).sending = true;
      simulator().point();
      of(self).sending = false;
      ++of(self).messages;
    };
    functions.wake = [](void* self) { ++of(self).wakes; };
    return functions;
  }
  static World& of(void* self) { return *static_cast<World*>(self); }

  /// What a host does that was woken.
  void answer() {
    if (answered == wakes) return;
    answered = wakes;
    if (unit.process(0) == vtd::WorkState::more) ++wakes;
  }
  void wait(std::uint64_t number) {
    queue[2 * number + 1].store(status_page + number * sizeof(std::uint64_t), std::memory_order_relaxed);
    queue[2 * number].store(wait_with_status_and_interrupt | (number + 1) << 32, std::memory_order_relaxed);
    unit.write(queue_tail, 8, (number + 1) * descriptor_bytes);
  }
  void invalidate_and_wait() {
    queue[0].store(global_iotlb_invalidation, std::memory_order_relaxed);
    queue[3].store(status_page, std::memory_order_relaxed);
    queue[2].store(wait_with_status_and_interrupt | std::uint64_t{1} << 32, std::memory_order_relaxed);
    unit.write(queue_tail, 8, 2 * descriptor_bytes);
  }
  void command(std::uint64_t bit) {
    commanded |= bit;
    unit.write(global_command, 4, queue_enable | bit);
  }
  /// Everything that was asked for is done once the last wake has been answered.
  void settle() {
    for (int i = 0; i < 8; ++i) answer();
    require((unit.read(global_status, 4).value & commanded) == commanded, "each command is carried out");
  }

  std::array<Atomic<std::uint64_t>, 2 * waits> queue{};
  std::array<int, waits> stored{};
  Plain role;
  std::uint64_t commanded = 0;
  int messages = 0;
  int wakes = 0;
  int answered = 0;
  bool sending = false;
  bool inside_guard = false;  ///< of a reader, since before anything was asked for
  core::HostFunctions host_functions = functions();
  core::Host host{host_functions};
  core::Waist waist{small, host};
  vtd::Unit unit{vtd::Capabilities::decode(0x10, 0x80D2'078C'222F'0606, 0xF0'0F4B, 48), {}, waist, host, {}};
  core::Reader* reader = nullptr;
};

/// One thread rings for waits, another one gives commands through registers, a third one answers wakes.
struct Notes {
  static constexpr std::size_t fibers = 3;
  World world;

  void fiber(std::size_t number) {
    if (number == 0) {
      for (std::uint64_t i = 0; i < waits; ++i) world.wait(i);
    } else if (number == 1) {
      world.command(root_pointer);
      world.command(interrupt_table);
    } else {
      for (int i = 0; i < 3; ++i) {
        world.answer();
        simulator().pause();
      }
    }
  }
  void check() {
    world.settle();
    for (const int stores : world.stored) require(stores == 1, "each wait stores its status once");
    require(world.messages == 1, "the event is told once, while the guest leaves its status set");
  }
};

/// The same while a guard is open: nothing completes before it ends, and its end wakes.
struct Guarded {
  static constexpr std::size_t fibers = 3;
  World world;

  Guarded() {
    world.waist.enter(*world.reader);
    world.inside_guard = true;
  }
  void fiber(std::size_t number) {
    if (number == 0) {
      world.invalidate_and_wait();
    } else if (number == 1) {
      world.command(root_pointer);
    } else {
      simulator().point();
      world.inside_guard = false;
      world.waist.leave(*world.reader);
      world.answer();
    }
  }
  void check() {
    world.settle();
    require(world.stored[0] == 1, "the wait stores its status");
    require(world.messages == 1, "and its event is told");
  }
};

/// Two commands from two threads, and nothing else.
struct Commands {
  static constexpr std::size_t fibers = 2;
  World world;

  void fiber(std::size_t number) { world.command(number == 0 ? root_pointer : interrupt_table); }
  void check() { world.settle(); }
};

/// One wait each from two threads, the second one behind the first in the queue.
struct Tails {
  static constexpr std::size_t fibers = 2;
  World world;

  Tails() {
    for (std::uint64_t number = 0; number < waits; ++number) {
      world.queue[2 * number + 1].store(status_page + number * sizeof(std::uint64_t), std::memory_order_relaxed);
      world.queue[2 * number].store(wait_with_status_and_interrupt | (number + 1) << 32, std::memory_order_relaxed);
    }
  }
  void fiber(std::size_t number) {
    if (number == 1) world.command(interrupt_table);
    world.unit.write(queue_tail, 8, waits * descriptor_bytes);
  }
  void check() {
    world.settle();
    for (const int stores : world.stored) require(stores == 1, "each wait stores its status once");
  }
};

/// Messages from two threads: all are sent, each once, one at a time.
struct Messages {
  static constexpr std::size_t fibers = 2;
  static constexpr std::uint32_t each = 2;
  core::HostFunctions functions = host_functions();
  core::Host host{functions};
  vtd::Capabilities capabilities = vtd::Capabilities::decode(0x10, 0x80D2'078C'222F'0606, 0xF0'0F4B, 48);
  vtd::Registers registers{capabilities, {}, host};
  std::array<int, fibers * each> sent{};
  bool sending = false;
  Plain line;

  [[nodiscard]] core::HostFunctions host_functions() {
    core::HostFunctions made;
    made.opaque = this;
    made.msi = [](void* self, std::uint64_t, std::uint32_t data) {
      Messages& that = *static_cast<Messages*>(self);
      require(!that.sending, "messages are sent one at a time");
      that.line.write("what the host keeps for messages");
      that.sending = true;
      simulator().point();
      that.sending = false;
      ++that.sent[data];
    };
    return made;
  }
  void fiber(std::size_t number) {
    for (std::uint32_t i = 0; i < each; ++i) {
      const auto data = static_cast<std::uint32_t>(number) * each + i;
      registers.with([&](const vtd::RegisterFile&) { registers.queue(vtd::EventMessage{0xFEE0'0000, data}); });
      registers.deliver();
    }
  }
  void check() {
    for (const int times : sent) require(times == 1, "each message is sent once");
  }
};

constexpr const char* noted = "each request is followed by a round of work that began after it";

constexpr std::array scenarios{
    scenario<Notes>("worker", noted, 2'500),
    scenario<Guarded>("worker-guarded", noted, 2'500),
    scenario<Commands>("worker-commands", noted, 2'500),
    scenario<Tails>("worker-tails", noted, 2'500),
    scenario<Messages>("messages", "messages are sent one at a time, and none is left"),
};

}  // namespace

std::span<const Scenario> worker_scenarios() { return scenarios; }

}  // namespace viommu::harness
