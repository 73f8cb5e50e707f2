// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Tags of address spaces: taken, retired, swept and used again while readers stand still; and the context table.
#include <array>
#include <mutex>

#include "caches/address_spaces.hpp"
#include "caches/context_cache.hpp"
#include "engine/base/process_barrier.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

constexpr std::size_t spaces = 2;
constexpr unsigned frame_shift = 20;
constexpr Iova at{0x5000};

/// Two address spaces, a table of one group, and so few tags that each change needs one that was in use before.
struct World {
  static constexpr std::size_t readers = 2;

  explicit World(unsigned tag_bits, std::size_t objects = spaces) {
    pairs_are_whole = true;
    has_process_barrier = true;
    require(epochs.reset(arena(), {{words.data(), words.size()}, {}}, caches::Drain::fence) &&
                iotlb.reset(arena(), 64, 1, 7) && structures.reset(arena(), 16, 1, 9) &&
                address_spaces.reset(arena(), objects, tag_bits, epochs, {&iotlb, &structures}),
            "the harness has memory");
    for (caches::GuardWord& word : words) epochs.use(word);
  }
  [[nodiscard]] static caches::AddressSpaceKey key(std::uint16_t number) {
    caches::AddressSpaceKey key;
    key.domain = {number};
    key.top_level = 2;
    key.root = {std::uint64_t{number} << 12};
    key.last = {low_bits(39)};
    return key;
  }
  /// What a lookup, or else a walk and a fill, says: the content of the leaf.
  [[nodiscard]] std::uint64_t translate(caches::AddressSpace& space, const Atomic<std::uint64_t>& leaf) {
    const caches::Place place = space.place();
    if (const auto found = iotlb.lookup(place, at, space.sizes.load(std::memory_order_relaxed)))
      return found->gpa.value >> frame_shift;
    const caches::Sizes fillable = space.fillable.load(std::memory_order_acquire);
    caches::FillGuard guard;
    iotlb.sample(place, at, fillable, guard);
    const std::uint64_t page = leaf.load(std::memory_order_acquire);
    if (space.tag() == place.tag() && caches::announce(space.sizes, space.fillable, fillable, caches::PageSize::kib4))
      iotlb.fill(guard, place, at, {{page << frame_shift}, caches::PageSize::kib4, read_write}, nullptr);
    return page;
  }
  void wait() {
    const std::uint64_t ticket = epochs.advance();
    while (!epochs.scan(ticket)) simulator().pause();
  }

  std::array<caches::GuardWord, readers> words{};
  caches::Epochs epochs;
  caches::Iotlb iotlb;
  caches::Iotlb structures;
  caches::AddressSpaces address_spaces;
  Mutex lock;
};

/// The guest changes a page of one address space after the other, and has the address space forgotten each time. It
/// waits for the completion only in the end, or each time.
template <bool waits, bool sweeps>
struct Rename {
  static constexpr std::size_t fibers = 3;
  static constexpr std::uint64_t changes = 4;
  World world{2};  // three tags
  std::array<caches::AddressSpace*, spaces> space{world.address_spaces.acquire(World::key(1)),
                                                  world.address_spaces.acquire(World::key(2))};
  std::array<Atomic<std::uint64_t>, spaces> leaf{page(0, 0), page(1, 0)};
  std::array<std::array<Thing, changes + 1>, spaces> pages;

  [[nodiscard]] static constexpr std::uint64_t page(std::uint64_t number, std::uint64_t change) {
    return number * 8 + change + 1;
  }
  void use(std::size_t number, std::uint64_t answer) {
    require((answer - 1) / 8 == number, "an address space is answered from its own pages");
    pages[number][(answer - 1) % 8].use("a page");
  }
  void fiber(std::size_t number) {
    if (number == World::readers) return change();
    for (int i = 0; i < 2; ++i) {
      world.epochs.enter(world.words[number]);
      use(number, world.translate(*space[number], leaf[number]));
      world.epochs.leave(world.words[number]);
    }
  }
  void change() {
    std::array<std::uint64_t, spaces> now{};
    std::array<std::uint64_t, spaces> ended{};
    const auto end_all = [&] {
      world.wait();
      for (std::size_t i = 0; i < spaces; ++i)
        for (; ended[i] < now[i]; ++ended[i]) pages[i][ended[i]].end("a page that the guest has taken back");
    };
    for (std::uint64_t i = 0; i < changes; ++i) {
      const std::size_t number = i % spaces;
      leaf[number].store(page(number, ++now[number]), std::memory_order_release);
      full_fence();
      {
        const std::lock_guard guard{world.lock};
        world.address_spaces.forget(*space[number]);
      }
      if (waits) end_all();
      if (sweeps) sweep();
    }
    end_all();
  }
  /// As Waist::reclaim().
  void sweep() {
    static_cast<void>(world.epochs.scan(world.epochs.issued()));
    world.lock.lock();
    const bool any = world.address_spaces.begin_sweep();
    world.lock.unlock();
    if (!any) return;
    world.address_spaces.sweep_slice(0, world.address_spaces.sweep_groups());
    const std::lock_guard guard{world.lock};
    world.address_spaces.end_sweep();
  }
  void check() {
    for (std::size_t i = 0; i < spaces; ++i) {
      const auto found = world.iotlb.lookup(space[i]->place(), at, space[i]->sizes.load(std::memory_order_relaxed));
      if (!found) continue;
      const std::uint64_t answer = found->gpa.value >> frame_shift;
      require((answer - 1) / 8 == i && !pages[i][(answer - 1) % 8].gone(), "what is cached is an address space's own");
    }
  }
};

/// Two fibers have the same address space forgotten, a third one reads.
struct Forget {
  static constexpr std::size_t fibers = 3;
  World world{3};
  std::array<caches::AddressSpace*, spaces> space{world.address_spaces.acquire(World::key(1)),
                                                  world.address_spaces.acquire(World::key(2))};
  std::array<Atomic<std::uint64_t>, spaces> leaf{1, 2};

  void fiber(std::size_t number) {
    for (int i = 0; i < 3; ++i) {
      if (number < World::readers) {
        world.epochs.enter(world.words[number]);
        const std::size_t which = (number + static_cast<std::size_t>(i)) % spaces;
        require(world.translate(*space[which], leaf[which]) == which + 1, "an address space answers for itself");
        world.epochs.leave(world.words[number]);
      }
      if (number == 0) continue;
      {
        const std::lock_guard guard{world.lock};
        world.address_spaces.forget(*space[0]);
      }
      if (number == World::readers) static_cast<void>(world.epochs.scan(world.epochs.issued()));
    }
  }
  void check() {
    for (int i = 0; i < 24; ++i) {  // tags come round
      world.address_spaces.forget(*space[static_cast<std::size_t>(i) % spaces]);
      static_cast<void>(world.epochs.scan(world.epochs.issued()));
      require(space[0]->tag() != space[1]->tag(), "no two address spaces have one tag");
    }
  }
};

/// The only tag to be had is one that another address space had, with an entry left; a reader meets it at once.
struct Recycled {
  static constexpr std::size_t fibers = 2;
  World world{2};
  std::array<caches::AddressSpace*, spaces> space{world.address_spaces.acquire(World::key(1)),
                                                  world.address_spaces.acquire(World::key(2))};
  std::array<Atomic<std::uint64_t>, spaces> leaf{1, 2};

  Recycled() {
    static_cast<void>(world.translate(*space[0], leaf[0]));
    static_cast<void>(world.translate(*space[1], leaf[1]));
    world.address_spaces.forget(*space[1]);
    world.wait();
  }
  void fiber(std::size_t number) {
    if (number == 1) {
      const std::lock_guard guard{world.lock};
      return world.address_spaces.forget(*space[0]);
    }
    world.epochs.enter(world.words[0]);
    require(world.translate(*space[0], leaf[0]) == 1, "an address space is answered from its own pages");
    world.epochs.leave(world.words[0]);
  }
  void check() {}
};

/// An address space is forgotten by one fiber, and a page of it invalidated by another that has seen its older tag.
struct Invalidated {
  static constexpr std::size_t fibers = 3;
  World world{4};
  caches::AddressSpace* space = world.address_spaces.acquire(World::key(1));
  Atomic<std::uint64_t> leaf{1};
  std::array<Thing, 4> pages;

  void fiber(std::size_t number) {
    if (number == 0) {
      for (int i = 0; i < 2; ++i) {
        world.epochs.enter(world.words[0]);
        pages[world.translate(*space, leaf)].use("a page");
        world.epochs.leave(world.words[0]);
      }
    } else if (number == 1) {
      const std::lock_guard guard{world.lock};
      world.address_spaces.forget(*space);
    } else {
      for (std::uint64_t next = 2; next <= 3; ++next) {
        leaf.store(next, std::memory_order_release);
        full_fence();
        {
          const std::lock_guard guard{world.lock};
          world.address_spaces.drop_pages(*space, {at, at + low_bits(page_shift)}, false);
        }
        world.wait();
        pages[next - 1].end("a page that the guest has taken back");
      }
    }
  }
  void check() {
    const auto found = world.iotlb.lookup(space->place(), at, space->sizes.load(std::memory_order_relaxed));
    require(!found || !pages[found->gpa.value >> frame_shift].gone(), "nothing is left of what was invalidated");
  }
};

/// An object that is used again: large pages of its last life count for nothing.
struct Reused {
  static constexpr std::size_t fibers = 2;
  World world{4, 1};
  std::array<Atomic<caches::AddressSpace*>, 1> published{nullptr};
  caches::AddressSpace* before = world.address_spaces.acquire(World::key(1));
  Atomic<std::uint64_t> leaf{1};
  Iova large{0};

  Reused() {
    for (bool apart = false; !apart;) {  // from the group that the small page's invalidation changes
      large = large + (std::uint64_t{1} << 21);
      caches::FillGuard guard;
      caches::FillGuard after;
      world.iotlb.sample(before->place(), large, caches::all_sizes, guard);
      world.iotlb.drop_pages(before->place(), {large, large}, before->sizes);
      world.iotlb.sample(before->place(), large, caches::all_sizes, after);
      apart = after.mib2 == guard.mib2;
    }
    world.address_spaces.release(*before);
    world.wait();
    caches::AddressSpace* other = nullptr;
    for (std::uint16_t domain = 2; other != before; ++domain) {  // until it comes round, and then is the next once more
      other = world.address_spaces.acquire(World::key(domain));
      for (int i = 0; i < 2; ++i) fill(*other);
      world.address_spaces.release(*other);
      world.wait();
    }
  }
  void fill(caches::AddressSpace& of) {
    const caches::Place place = of.place();
    const caches::Sizes fillable = of.fillable.load(std::memory_order_acquire);
    caches::FillGuard guard;
    world.iotlb.sample(place, large, fillable, guard);
    const std::uint64_t frame = leaf.load(std::memory_order_relaxed);
    if (caches::announce(of.sizes, of.fillable, fillable, caches::PageSize::mib2))
      world.iotlb.fill(guard, place, large, {{frame << 30}, caches::PageSize::mib2, read_write}, nullptr);
  }
  void fiber(std::size_t number) {
    if (number == 0) {
      {
        const std::lock_guard guard{world.lock};
        published[0].store(world.address_spaces.acquire(World::key(99)), std::memory_order_release);
      }
      for (int i = 0; i < 2; ++i) fill(*published[0].load(std::memory_order_relaxed));
      return;
    }
    leaf.store(2, std::memory_order_relaxed);
    full_fence();
    const std::lock_guard guard{world.lock};
    if (caches::AddressSpace* const space = published[0].load(std::memory_order_acquire); space != nullptr)
      world.address_spaces.drop_pages(*space, {large, large + low_bits(page_shift)}, false);
  }
  void check() const {
    const caches::AddressSpace& space = *published[0].load(std::memory_order_relaxed);
    const auto found = world.iotlb.lookup(space.place(), large, space.sizes.load(std::memory_order_relaxed));
    require(!found || found->gpa.value >> 30 != 1, "nothing is left in the table of what was invalidated");
  }
};

/// The context of a source, or the PASID entry of one of its PASIDs, names one domain, then another. Readers find the
/// entry or walk and insert it.
template <bool by_pasid>
struct Context {
  static constexpr std::size_t fibers = 3;
  static constexpr SourceId source{3};
  static constexpr Pasid pasid{0x12345};
  World world{4, 1};  // one address space at a time: objects are used again
  caches::Accounts accounts;
  caches::ContextCache contexts;
  Atomic<std::uint64_t> entry{1};  ///< of the guest's context table: the domain
  std::array<Thing, 5> domains;

  Context() {
    require(accounts.reset(arena(), 0, 1, world.epochs) &&
                contexts.reset(arena(), 2, world.address_spaces, accounts, {8, 1}),
            "the harness has memory");
  }
  [[nodiscard]] caches::ContextEntry find() const {
    return by_pasid ? contexts.find(caches::PasidKey{source, pasid}) : contexts.find(source);
  }
  [[nodiscard]] caches::ContextEntry insert(std::uint64_t version, std::uint64_t domain) {
    const caches::AddressSpaceKey key = World::key(static_cast<std::uint16_t>(domain));
    return by_pasid ? contexts.insert(version, caches::PasidKey{source, pasid}, key, false)
                    : contexts.insert(version, source, key, false);
  }
  void fiber(std::size_t number) {
    if (number == World::readers) return change();
    for (int i = 0; i < 2; ++i) {
      world.epochs.enter(world.words[number]);
      const caches::ContextEntry found = find();
      std::uint64_t domain = 0;
      if (found) {
        domain = found.space().key.domain.value;
        require(found.space().place().tag() != 0, "an address space that is found has a tag");
      } else {
        const std::uint64_t version = contexts.version();
        domain = entry.load(std::memory_order_acquire);
        const std::unique_lock guard{world.lock, std::try_to_lock};
        if (guard.owns_lock()) {
          const caches::ContextEntry made = insert(version, domain);
          if (made) domain = made.space().key.domain.value;
        }
      }
      domains[domain].use("a domain");
      if (found) require(found.space().key.domain.value == domain, "an address space in use is not used again");
      world.epochs.leave(world.words[number]);
    }
  }
  void change() {
    for (std::uint64_t next = 2; next <= 4; ++next) {
      entry.store(next, std::memory_order_release);
      {
        const std::lock_guard guard{world.lock};
        contexts.drop({.kind = by_pasid ? caches::Scope::Kind::pasid : caches::Scope::Kind::source_contexts,
                       .domain = {static_cast<std::uint16_t>(next - 1)},
                       .source = source,
                       .pasid = pasid});
      }
      world.wait();
      domains[next - 1].end("a domain that the source no longer belongs to");
    }
  }
  void check() {
    const caches::ContextEntry found = find();
    require(!found || found.space().key.domain.value == 4, "no entry is left of what was invalidated");
    require(static_cast<bool>(insert(contexts.version(), 4)), "what nobody disturbs is inserted");
  }
};

constexpr const char* own =
    "an entry of one address space never answers for another; nothing older than a completed "
    "invalidation is used";

constexpr const char* fresh = "no context entry is found or inserted that is older than a completed invalidation";

constexpr std::array scenarios{
    scenario<Rename<true, false>>("rename", own),
    scenario<Rename<false, false>>("rename-unwaited", own),
    scenario<Rename<false, true>>("rename-swept", own),
    scenario<Rename<true, true>>("rename-waited-swept", own),
    scenario<Forget>("forget", own),
    scenario<Recycled>("recycled", own),
    scenario<Invalidated>("invalidated", own),
    scenario<Reused>("reused", own),
    scenario<Context<false>>("context", fresh),
    scenario<Context<true>>("context-pasid", fresh),
};

}  // namespace

std::span<const Scenario> tag_scenarios() { return scenarios; }

}  // namespace viommu::harness
