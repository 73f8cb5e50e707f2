// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Mappings of a virtio-iommu domain that are looked up while they come and go, in every form they are kept in.
#include <array>
#include <new>
#include <optional>

#include "caches/epoch.hpp"
#include "engine/base/process_barrier.hpp"
#include "engine/virtio_iommu/mappings.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

using virtio_iommu::Inserted;
using virtio_iommu::Mapping;
using virtio_iommu::MappingNodes;
using virtio_iommu::Mappings;
using virtio_iommu::Removed;

/// How far apart the mappings are: in leaves of pages, or in lists.
enum class Lie : std::uint8_t { densely, sparsely };

/// Where a mapping leads says which it is, and for the how manieth time it is there.
[[nodiscard]] Mapping page(Lie lie, std::uint64_t number, std::uint64_t life = 0) {
  const bool dense = lie == Lie::densely;
  const std::uint64_t first = number * (dense ? page_size_bytes : page_size_bytes << 12);
  return {{{first}, {first + (page_size_bytes - 1)}},
          {(number << 8 | life << 4) << page_shift | (dense ? 0 : 7)},
          life % 2 == 0 ? read_write : read_only,
          false};
}
[[nodiscard]] Mapping two_pages(Lie lie, std::uint64_t number, std::uint64_t life) {
  Mapping mapping = page(lie, number, life);
  mapping.range.last.value += page_size_bytes;
  return mapping;
}

/// Memory in which nothing is left of a node that was given back.
[[nodiscard]] HostAllocator wiping() {
  HostAllocator allocator = arena();
  allocator.deallocate = [](void* /*opaque*/, void* memory, std::size_t size, std::size_t /*alignment*/) {
    using Word = Atomic<std::uint64_t>;
    for (std::size_t at = 0; at < size; at += sizeof(Word)) ::new (static_cast<std::byte*>(memory) + at) Word{0};
  };
  return allocator;
}

/// A domain with readers, and a writer that drains after each request.
template <std::size_t readers>
struct World {
  World() {
    has_process_barrier = true;
    require(epochs.reset(arena(), {{words.data(), words.size()}, {}}, caches::Drain::fence), "the harness has memory");
    for (caches::GuardWord& word : words) epochs.use(word);
  }
  void insert(const Mapping& mapping) {
    require(mappings.insert(mapping) == Inserted::ok, "there is room for a mapping");
    always(mapping);
  }
  void remove(const Mapping& mapping) {
    const Removed removed = mappings.remove(mapping.range, 1, [](const Mapping&) {});
    require(removed == Removed::all, "a mapping is there to be removed");
    require(!mappings.find(mapping.range.first), "a mapping that was removed is gone");
  }
  void drain() {
    const std::uint64_t ticket = epochs.advance();
    nodes.seal(ticket);
    while (!epochs.scan(ticket)) simulator().pause();
    require(!nodes.reclaim(epochs.completed(), 100), "all that waited is taken back");
  }
  /// One that is there is found, with what it says.
  void always(const Mapping& mapping) const {
    require(mappings.find(mapping.range.last) == mapping, "a mapping that stays is found");
  }
  void always_next(const Mapping& mapping) const {
    require(mappings.first_from(mapping.range.first) == mapping, "a mapping that stays is found as the next");
  }
  /// Every node comes back, once.
  void end() {
    mappings.clear();
    nodes.seal(epochs.issued() + 1);
    require(!nodes.reclaim(epochs.issued() + 1, 1000), "all that waits is taken back");
    require(nodes.bytes() == 0 && nodes.mappings() == 0, "nothing is left of a domain");
  }

  std::array<caches::GuardWord, readers> words{};
  caches::Epochs epochs;
  MappingNodes nodes{wiping(), {1000, 1 << 20, 0}};
  Mappings mappings{nodes};
};

/// `stay` mappings that stay; one behind them comes, goes, comes back to lead elsewhere, and goes. Whatever leaves that
/// takes: none, a copy, a division, pages, a way that becomes shorter. One reader looks for it, one for the next one.
template <Lie lie, std::uint64_t stay, bool drains = true>
struct ComesAndGoes {
  static constexpr std::size_t fibers = 3;
  World<2> world;
  Atomic<std::uint64_t> begun{0};
  Atomic<std::uint64_t> completed{0};

  ComesAndGoes() {
    for (std::uint64_t number = 0; number < stay; ++number) world.insert(page(lie, number));
    world.drain();
  }
  void fiber(std::size_t number) {
    if (number == 2) return change();
    for (int i = 0; i < 3; ++i) {
      std::uint64_t before = completed.load(std::memory_order_acquire);
      // The last look is at the end, if that comes soon: a search may have the readers wait for each other.
      for (int wait = 0; i == 2 && before < 4 && wait < 50; ++wait) {
        simulator().pause();
        before = completed.load(std::memory_order_acquire);
      }
      world.epochs.enter(world.words[number]);
      const IovaRange range = two_pages(lie, stay, 0).range;
      const Iova iova = i == 1 ? range.first : range.last;
      const std::optional<Mapping> found = number == 0 ? world.mappings.find(iova) : world.mappings.first_from(iova);
      if (stay != 0) {
        for (const std::uint64_t stays : {std::uint64_t{0}, stay - 1})
          number == 0 ? world.always(page(lie, stays)) : world.always_next(page(lie, stays));
      }
      world.epochs.leave(world.words[number]);
      judge(before, begun.load(std::memory_order_acquire), found);
    }
  }
  /// An odd request maps.
  static void judge(std::uint64_t before, std::uint64_t after, const std::optional<Mapping>& found) {
    if (before == after) require(found.has_value() == (before % 2 == 1), "what nobody touches is as it was");
    if (!found) return;
    const std::uint64_t life = found->gpa.value >> (page_shift + 4) & 1;
    const Mapping whole = two_pages(lie, stay, life);
    require(found->rights == whole.rights, "rights and target belong together");
    // In pages a part of it, while the rest comes or goes.
    require(found->range == whole.range || before != after, "its range is whole");
    const std::uint64_t from = found->range.first.value - whole.range.first.value;
    require(from <= page_size_bytes && found->range.last <= whole.range.last, "its range is its own");
    require(found->gpa == whole.gpa + from, "an address leads where it is mapped to");
    require(before <= 2 * life + 1 && 2 * life + 1 <= after, "it is there at that time");
  }
  void change() {
    for (std::uint64_t request = 1; request <= 4; ++request) {
      begun.store(request, std::memory_order_release);
      const Mapping mapping = two_pages(lie, stay, (request - 1) / 2);
      if (request % 2 == 1) {
        world.insert(mapping);
      } else {
        world.remove(mapping);
      }
      if (drains || request == 4) world.drain();
      completed.store(request, std::memory_order_release);
    }
  }
  void check() { world.end(); }
};

/// Mappings of which so many go that what stays is kept in another form: one list for two, or a list for pages.
template <Lie lie, std::uint64_t there, std::uint64_t go>
struct Shrinks {
  static constexpr std::size_t fibers = 2;
  static constexpr std::uint64_t before = 3;  ///< mappings that stay; from there on they go
  World<1> world;

  Shrinks() {
    for (std::uint64_t number = 0; number < there; ++number) world.insert(page(lie, number));
    for (std::uint64_t number = 0; number + 2 < go; ++number) world.remove(page(lie, before + number));
    world.drain();
  }
  void fiber(std::size_t number) {
    if (number == 1) {
      for (std::uint64_t last = go - 2; last < go; ++last) {
        world.remove(page(lie, before + last));
        world.drain();
      }
      return;
    }
    for (int i = 0; i < 2; ++i) {
      world.epochs.enter(world.words[0]);
      world.always(page(lie, 0));
      world.always(page(lie, before - 1));
      world.always(page(lie, before + go));
      world.always(page(lie, there - 1));
      // From where nothing is any more, and so on the way down.
      const std::optional<Mapping> next = world.mappings.first_from(page(lie, before).range.first);
      require(next && next->range.first <= page(lie, before + go).range.first, "what stays is the next at the latest");
      world.epochs.leave(world.words[0]);
    }
  }
  void check() {
    require(world.mappings.size() == there - go, "what stays stays");
    world.end();
  }
};

/// A mapping over the border between two leaves.
struct OverABorder {
  static constexpr std::size_t fibers = 2;
  static constexpr std::uint64_t count = 32;  ///< the last one has a leaf of its own
  World<1> world;
  Mapping wide{};

  OverABorder() {
    for (std::uint64_t number = 0; number < count; ++number) world.insert(page(Lie::sparsely, number));
    world.remove(page(Lie::sparsely, count - 2));
    world.drain();
    wide = page(Lie::sparsely, count - 2, 1);
    wide.range.last.value = page(Lie::sparsely, count - 1).range.first.value - 1;
  }
  void fiber(std::size_t number) {
    if (number == 1) {
      world.insert(wide);
      world.drain();
      return;
    }
    for (int i = 0; i < 2; ++i) {
      world.epochs.enter(world.words[0]);
      world.always(page(Lie::sparsely, 0));
      world.always(page(Lie::sparsely, count - 1));
      for (const Iova iova : {wide.range.first, wide.range.last}) {
        const std::optional<Mapping> found = world.mappings.find(iova);
        if (found) require(*found == wide, "a mapping is found whole");
      }
      world.epochs.leave(world.words[0]);
    }
  }
  void check() {
    world.always(wide);
    world.end();
  }
};

/// Dense pages in one block more than there are shortcuts for. As the last block fills up come more of them; then a
/// block becomes a list, a page of it goes, comes back to lead elsewhere, and goes with all the others. Nothing is
/// drained in between: what has been taken out still says what it said.
struct MoreShortcuts {
  static constexpr std::size_t fibers = 2;
  static constexpr std::uint64_t blocks = virtio_iommu::Shortcuts::first_slots + 1;
  static constexpr std::uint64_t in_a_block = 16;
  static constexpr std::uint64_t in_the_last = 31;
  static constexpr std::uint64_t in_a_list = 6;
  static constexpr std::uint64_t requests = 5;
  World<1> world;
  Atomic<std::uint64_t> begun{0};
  Atomic<std::uint64_t> completed{0};
  Atomic<std::uint64_t> looks{0};

  [[nodiscard]] static Mapping in(std::uint64_t block, std::uint64_t number, std::uint64_t life = 0) {
    return page(Lie::densely, block * virtio_iommu::Pages::count + number, life);
  }
  MoreShortcuts() {
    for (std::uint64_t block = 0; block < blocks; ++block) {
      const std::uint64_t count = block + 1 == blocks ? in_the_last : in_a_block;
      for (std::uint64_t number = 0; number < count; ++number) world.insert(in(block, number));
      world.drain();
    }
    require(world.mappings.shortcut_slots() == virtio_iommu::Shortcuts::first_slots, "the shortcuts are all in use");
  }
  void fiber(std::size_t number) {
    if (number == 1) return change();
    for (int i = 0; i < 3; ++i) {
      // The last look but one is before all goes, and the last one behind that, if it comes soon.
      const std::uint64_t wanted = i == 0 ? 0 : i == 1 ? requests - 1 : requests;
      std::uint64_t before = completed.load(std::memory_order_acquire);
      for (int wait = 0; before < wanted && wait < 50; ++wait) {
        simulator().pause();
        before = completed.load(std::memory_order_acquire);
      }
      world.epochs.enter(world.words[0]);
      const std::optional<Mapping> found = world.mappings.find(in(1, 0).range.first);
      // From where nothing is, and so on the way down.
      const bool empty = i != 1 && !world.mappings.first_from(in(0, in_a_block).range.first);
      require(!empty || !world.mappings.find(in(2, 0).range.first), "who has seen an empty domain finds nothing in it");
      world.epochs.leave(world.words[0]);
      judge(before, begun.load(std::memory_order_acquire), found);
      looks.store(static_cast<std::uint64_t>(i) + 1, std::memory_order_relaxed);
    }
  }
  static void judge(std::uint64_t before, std::uint64_t after, const std::optional<Mapping>& found) {
    constexpr std::array<int, requests + 1> lives{0, 0, 0, -1, 1, -1};
    bool right = false;
    for (std::uint64_t request = before; request <= after; ++request)
      right = right || (lives[request] < 0 ? !found : found == in(1, 0, static_cast<std::uint64_t>(lives[request])));
    require(right, "what is found is what was there");
  }
  void change() {
    for (std::uint64_t request = 1; request <= requests; ++request) {
      for (int wait = 0; request == requests && looks.load(std::memory_order_relaxed) < 2 && wait < 50; ++wait)
        simulator().pause();
      begun.store(request, std::memory_order_release);
      switch (request) {
        case 1: world.insert(in(blocks - 1, in_the_last)); break;
        case 2:
          for (std::uint64_t number = in_a_list; number < in_a_block; ++number) world.remove(in(1, number));
          break;
        case 3:  world.remove(in(1, 0)); break;
        case 4:  world.insert(in(1, 0, 1)); break;
        default: world.mappings.clear(); break;
      }
      if (request == 1)
        require(world.mappings.shortcut_slots() > virtio_iommu::Shortcuts::first_slots, "there are more shortcuts");
      completed.store(request, std::memory_order_release);
    }
    world.drain();
  }
  void check() { world.end(); }
};

constexpr const char* rule = "what is looked up while mappings come and go was true at that time";
constexpr std::uint64_t few = 2'000;  // an execution is long

constexpr std::array scenarios{
    scenario<ComesAndGoes<Lie::sparsely, 0>>("mapping-alone", rule),
    scenario<ComesAndGoes<Lie::sparsely, 1>>("mapping-copy", rule),
    scenario<ComesAndGoes<Lie::sparsely, 33>>("mapping-copy-below", rule, few),
    scenario<ComesAndGoes<Lie::sparsely, 31>>("mapping-division", rule, few),
    scenario<ComesAndGoes<Lie::sparsely, 31, false>>("mapping-division-at-once", rule, few),
    scenario<ComesAndGoes<Lie::densely, 31>>("mapping-becomes-pages", rule, few),
    scenario<ComesAndGoes<Lie::densely, 40>>("mapping-in-pages", rule),
    scenario<Shrinks<Lie::densely, 32, 26>>("mapping-pages-end", rule, few),
    scenario<Shrinks<Lie::sparsely, 32, 24>>("mapping-merge", rule, few),
    scenario<OverABorder>("mapping-border", rule, few),
    scenario<MoreShortcuts>("mapping-shortcuts", rule, few),
};

}  // namespace

std::span<const Scenario> mapping_scenarios() { return scenarios; }

}  // namespace viommu::harness
