// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices, what each sees, and who mirrors it.
//
//   invalidation of contexts   each device they name: content as the tables say now; withdraw the old view from each
//                              consumer -> publish the new one -> deliver it
//   invalidation of pages      each device whose context in force names the domain: its consumers' difference there
//   mappings come and go       (those that the front end keeps) the same, of all or of nobody
//   regions                    every consumer
//
// Which domain a device is in is what its context said at the last invalidation of contexts, not what memory says.
// Threads: one at a time, whoever has the unit's work; pages_dropped() of different domains side by side; view() from
// any thread. No lock is held while a consumer is called.
#pragma once

#include "caches/scope.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/consumer/mirror.hpp"
#include "engine/consumer/spaces.hpp"
#include "engine/core/host.hpp"
#include "engine/core/mapping_store.hpp"
#include "engine/core/waist.hpp"

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

namespace viommu::consumer {

/// What the unit says of a device.
struct FrontEnd {
  void* opaque = nullptr;
  Content (*content_of)(void* opaque, SourceId source) noexcept = nullptr;
  Iova last_address{~std::uint64_t{0}};  ///< that any device can use
  bool announces = false;                ///< contexts that were absent are invalidated when they come (caching mode)
  bool moves_in_place = true;            ///< from tables to tables only the difference goes and comes; else all of it
  core::MappingStore store{};            ///< of caches::Interpretation::mappings
};

struct Subscription {
  Sink sink;
  Declared declared;
  IovaRange range = all_iovas;
  std::uint64_t quota = 0;
  std::uint64_t group = 0;  ///< of consumers that share: ShareKey
  std::uint64_t facts = 0;
};

/// Of a device, now.
struct Bytes {
  std::uint64_t mapped = 0;
  std::uint64_t pinned = 0;  ///< a host address space is counted for one of those that share it
};

enum class Result : std::uint8_t { ok, limit, no_memory, not_found, exists };

class Consumers {
 public:
  Consumers(core::Waist& waist, const core::Host& host, const FrontEnd& front_end) noexcept
      : waist_{waist}, host_{host}, front_end_{front_end} {}

  [[nodiscard]] Result reset(std::size_t subscriptions) noexcept;

  /// The unit is another one, before the guest runs.
  void follow(const FrontEnd& front_end) noexcept;

  // ---- Devices ----
  /// Room for one device more: then add_device() does not fail. @return false when the host has no memory
  [[nodiscard]] bool make_room() noexcept;
  /// Known from now on. @param bypasses  never passes the unit
  [[nodiscard]] Result add_device(SourceId source, bool bypasses) noexcept;
  /// All that its consumers hold is withdrawn, and they are told nothing more.
  void remove_device(SourceId source) noexcept;
  [[nodiscard]] bool bypasses(SourceId source) const noexcept;
  [[nodiscard]] Result renumber(std::uint8_t from, std::uint8_t to) noexcept;
  /// Nothing for a device that is not known.
  [[nodiscard]] std::optional<View> view(SourceId source) const noexcept;
  /// What all consumers of a device hold together. Threads: any.
  [[nodiscard]] Bytes bytes_of(SourceId source) const noexcept;

  // ---- Subscriptions ----
  [[nodiscard]] Result subscribe(SourceId source, const Subscription& wanted, std::uint64_t& id) noexcept;
  [[nodiscard]] Result replay(std::uint64_t id) noexcept;
  [[nodiscard]] Result unsubscribe(std::uint64_t id) noexcept;
  /// Of what the consumer holds, perhaps with others.
  [[nodiscard]] Mirror* find(std::uint64_t id) noexcept;
  /// Whether a consumer of the device shares: a device uses one host address space.
  [[nodiscard]] bool has_sharer(SourceId source) const noexcept;
  [[nodiscard]] std::uint64_t pinned_bytes() const noexcept;

  // ---- What happens ----
  /// The unit is another one: translation on or off, a new root table, a reset, a state that was loaded.
  void mode_changed() noexcept;
  void dropped(const caches::Scope& scope) noexcept;
  void pages_dropped(std::span<const caches::PageScope> scopes) noexcept;
  /// Mappings of FrontEnd::store have come or gone in the range, and nothing is busy: whoever mirrors the domain holds
  /// what it should when this returns, or nobody keeps what it was told. To the end, whatever it takes: no more is told
  /// than the quotas allow, or was held before.
  /// @param gone  consumers without MAP are told
  /// @return false when a consumer failed or has no room. The front end puts its mappings back as they were and calls
  ///         this next, with the same range: then everybody holds what was held before, unless that fails too (false)
  [[nodiscard]] bool mappings_changed(DomainId domain, IovaRange range, bool gone) noexcept;
  /// Whether writes are logged: then consumers that cannot log hold nothing, and who asks on each miss asks again.
  void track_writes(bool on) noexcept;
  void device_tlb_dropped(SourceId source, IovaRange range) noexcept;
  /// A context was read that nobody had announced. Threads: any.
  void context_seen() noexcept;
  /// @return up to which version of the regions everybody knows of them
  [[nodiscard]] std::uint64_t regions_told() noexcept;

  /// Whether something goes on that no completion may overtake.
  [[nodiscard]] bool busy() const noexcept { return busy_.load(std::memory_order_relaxed); }
  /// A slice of it. @return whether all is done
  bool advance() noexcept;
  void finish() noexcept {
    while (!advance()) {  // ends: what is mapped is bounded by the quotas
    }
  }

 private:
  struct Device {
    SourceId source;
    bool bypassed = false;
    bool withdrawing = false;  ///< `target` comes when what is held has gone
    bool in_place = false;     ///< and needs not wait for that: one set of tables instead of another
    bool known = false;
    Content content{View::system, {}};
    Content target{View::system, {}};
    Atomic<View> seen{View::system};
    Atomic<std::uint64_t> mapped{0};  ///< bytes
    Atomic<std::uint64_t> pinned{0};

    Device() = default;
  };
  struct Slot {
    std::uint64_t id = 0;  ///< 0: free
    std::uint32_t device = 0;
    bool replayed = false;
    Mirror* mirror = nullptr;  ///< null in a free one
    std::optional<Mirror> room;
    // Of a consumer that shares, whose mirror then holds nothing:
    bool shares = false;
    ShareKey key;
    Sink sink;
    Space* space = nullptr;  ///< that its device uses
    Space* next = nullptr;   ///< that it is to use, when that is filled

    /// What is to hold the device's content.
    [[nodiscard]] Mirror& current() const noexcept { return next != nullptr ? next->mirror() : held(); }
    /// What holds what the device sees.
    [[nodiscard]] Mirror& held() const noexcept { return space != nullptr ? space->mirror() : *mirror; }
    [[nodiscard]] bool busy() const noexcept { return next != nullptr || held().busy(); }
    void clear() noexcept {
      mirror = nullptr;
      space = next = nullptr;
      shares = false;
      room.reset();
      id = 0;
    }
  };

  static constexpr std::uint32_t slice_tables = 4096;
  /// Of each in turn, where several look through the same tables: what one has read is in the cache for the others.
  static constexpr std::uint32_t turn_tables = 64;
  static constexpr std::size_t most_tasks = 64;     ///< side by side
  static constexpr std::size_t first_devices = 16;  ///< there is room for; more are made room for

  [[nodiscard]] Tables tables() const noexcept {
    return {waist_.memory(), waist_.second_stage(), waist_.kernels(), &front_end_.store};
  }
  [[nodiscard]] std::uint32_t index_of(SourceId source) const noexcept;
  /// Null for an id that is not in use.
  [[nodiscard]] Slot* slot_of(std::uint64_t id) noexcept;
  [[nodiscard]] std::uint32_t number_of(const Slot& slot) const noexcept {
    return static_cast<std::uint32_t>(&slot - slots_.begin());
  }
  [[nodiscard]] Content content_of(const Device& device) const noexcept;
  void aim(Slot& slot, const Content& content) noexcept;
  void reconsider(std::uint32_t device, bool whole_range) noexcept;
  /// Publishes and delivers what was withdrawn for.
  void settle(std::uint32_t device) noexcept;
  /// What others are told of a device, after something has happened to its consumers.
  void refresh_view(std::uint32_t device) noexcept;
  [[nodiscard]] bool busy_device(std::uint32_t device) const noexcept;
  /// Whether something of it is still there that has to go.
  [[nodiscard]] bool withdrawing(std::uint32_t device) const noexcept;
  template <class Use>
  void for_each_of(std::uint32_t device, const Use& use) noexcept {
    for (Slot& slot : slots_)
      if (slot.id != 0 && slot.device == device) use(slot);
  }
  void advance(Slot& slot, Slice& slice) noexcept;
  /// A slice for each that named(slot) says, a few tables at a time.
  template <class Named>
  void advance_in_turns(const Named& named) noexcept;
  /// A slice for everybody who has something to do, on the host's threads where it has some.
  void advance_side_by_side() noexcept;
  /// Who does not meet whom: consumers with different numbers have no mirror, and no function, in common. Those that
  /// look through the same tables have one number.
  [[nodiscard]] std::uint32_t apart(const Slot& slot) const noexcept;

  // ---- Host address spaces (sharing.cpp) ----
  void share(Slot& slot, const Content& content) noexcept;
  [[nodiscard]] bool change_alone(Slot& slot, const Content& content) noexcept;
  [[nodiscard]] Space& make_space(Slot& slot, const Content& content) noexcept;
  /// Goes over to the space that is filled by now.
  void go_over(Slot& slot) noexcept;
  void leave(Space& space, Slot& slot) noexcept;
  void empty(Space& space, Slice& slice) noexcept;
  void give_up(Space& space) noexcept;
  /// The slot's consumer is told nothing more. @param withdraw  what nobody else uses
  void end_sharing(Slot& slot, bool withdraw) noexcept;
  [[nodiscard]] Content logged(const Content& content, const Declared& declared) const noexcept;

  static constexpr std::uint32_t nobody = ~std::uint32_t{0};
  core::Waist& waist_;
  const core::Host& host_;
  FrontEnd front_end_;
  HostArray<Device> devices_;
  std::uint32_t device_count_ = 0;
  HostArray<Slot> slots_;
  Spaces spaces_;
  std::uint32_t slot_count_ = 0;  ///< in use
  std::uint64_t ids_ = 0;
  std::uint64_t regions_seen_ = 0;
  std::uint64_t regions_told_ = 0;
  bool tracking_ = false;
  std::optional<DomainId> undo_;  ///< its mappings were refused, and are to be as they were
  /// Of the role and of tasks that it waits for, which orders everything.
  Atomic<bool> busy_{false};
  Atomic<bool> context_seen_{false};
  Atomic<bool> any_{false};     ///< a device is known
  mutable Mutex devices_lock_;  ///< guards who is known, for view()
};

}  // namespace viommu::consumer
