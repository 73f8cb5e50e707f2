// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices, what each sees, and who mirrors it.
//
//   invalidation of contexts   each device they name: content as the tables say now; withdraw the old view from each
//                              consumer -> publish the new one -> deliver it
//   invalidation of pages      each device whose context in force names the domain: its consumers' difference there
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
#include "engine/core/host.hpp"
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
};

struct Subscription {
  Sink sink;
  Declared declared;
  IovaRange range = all_iovas;
  std::uint64_t quota = 0;
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
  [[nodiscard]] std::uint64_t mapped_bytes(SourceId source) const noexcept;

  // ---- Subscriptions ----
  [[nodiscard]] Result subscribe(SourceId source, const Subscription& wanted, std::uint64_t& id) noexcept;
  [[nodiscard]] Result replay(std::uint64_t id) noexcept;
  [[nodiscard]] Result unsubscribe(std::uint64_t id) noexcept;
  [[nodiscard]] Mirror* find(std::uint64_t id) noexcept;
  [[nodiscard]] std::uint64_t pinned_bytes() const noexcept;

  // ---- What happens ----
  /// The unit is another one: translation on or off, a new root table, a reset, a state that was loaded.
  void mode_changed() noexcept;
  void dropped(const caches::Scope& scope) noexcept;
  void pages_dropped(std::span<const caches::PageScope> scopes) noexcept;
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

    Device() = default;
  };
  struct Slot {
    std::uint64_t id = 0;  ///< 0: free
    std::uint32_t device = 0;
    bool replayed = false;
    Mirror* mirror = nullptr;  ///< null in a free one
    std::optional<Mirror> room;

    void clear() noexcept {
      mirror = nullptr;
      room.reset();
      id = 0;
    }
  };

  static constexpr std::uint32_t slice_tables = 4096;
  static constexpr std::size_t first_devices = 16;  ///< there is room for; more are made room for

  [[nodiscard]] Tables tables() const noexcept { return {waist_.memory(), waist_.second_stage(), waist_.kernels()}; }
  [[nodiscard]] std::uint32_t index_of(SourceId source) const noexcept;
  /// Null for an id that is not in use.
  [[nodiscard]] Slot* slot_of(std::uint64_t id) noexcept;
  [[nodiscard]] Content content_of(const Device& device) const noexcept;
  void aim(Slot& slot, const Content& content) const noexcept;
  void reconsider(std::uint32_t device, bool whole_range) noexcept;
  /// Publishes and delivers what was withdrawn for.
  void settle(std::uint32_t device) noexcept;
  /// What others are told of a device, after something has happened to its consumers.
  void refresh_view(std::uint32_t device) noexcept;
  [[nodiscard]] bool busy_device(std::uint32_t device) const noexcept;
  template <class Use>
  void for_each_of(std::uint32_t device, const Use& use) noexcept {
    for (Slot& slot : slots_)
      if (slot.id != 0 && slot.device == device) use(slot);
  }
  void advance(Slot& slot, Slice& slice) noexcept;

  static constexpr std::uint32_t nobody = ~std::uint32_t{0};
  core::Waist& waist_;
  const core::Host& host_;
  FrontEnd front_end_;
  HostArray<Device> devices_;
  std::uint32_t device_count_ = 0;
  HostArray<Slot> slots_;
  std::uint32_t slot_count_ = 0;  ///< in use
  std::uint64_t ids_ = 0;
  std::uint64_t regions_seen_ = 0;
  std::uint64_t regions_told_ = 0;
  bool tracking_ = false;
  /// Of the role and of tasks that it waits for, which orders everything.
  Atomic<bool> busy_{false};
  Atomic<bool> context_seen_{false};
  Atomic<bool> any_{false};     ///< a device is known
  mutable Mutex devices_lock_;  ///< guards who is known, for view()
};

}  // namespace viommu::consumer
