// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The host's functions as the engine calls them: absent ones do nothing, and each call is marked (callback.hpp).
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/core/log_limit.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace viommu::core {

/// What a device is to drop from its TLB.
struct DeviceInvalidation {
  SourceId source;
  IovaRange range = all_iovas;                ///< aligned, of a power of two
  std::optional<Pasid> pasid = std::nullopt;  ///< nothing: of requests without one
  bool every_pasid = false;
};

/// Same contracts as the functions of `viommu_host` in viommu.h.
struct HostFunctions {
  void* opaque = nullptr;
  MemoryCallbacks memory;
  HostAllocator allocator;
  void (*msi)(void* opaque, std::uint64_t address, std::uint32_t data) = nullptr;
  void (*wake)(void* opaque) = nullptr;
  std::uint64_t (*now_ns)(void* opaque) = nullptr;
  void (*log)(void* opaque, std::int32_t level, const char* text) = nullptr;
  void (*region_gone)(void* opaque, std::uint64_t cookie) = nullptr;
  void (*execute)(void* opaque, std::uint32_t count, void (*task)(void* context, std::uint32_t index),
                  void* context) = nullptr;
  void (*routes_changed)(void* opaque, std::uint32_t first, std::uint32_t count) = nullptr;
  void (*hold_overdue)(void* opaque, std::uint64_t hold, std::uint64_t cookie, std::uint64_t age_ns) = nullptr;
  void (*page_response)(void* opaque, std::uint16_t source, std::uint32_t pasid, std::uint32_t group,
                        std::uint32_t code) = nullptr;
  std::int32_t (*device_invalidate)(void* opaque, std::uint64_t ticket, std::uint16_t source, std::uint32_t pasid,
                                    std::uint64_t iova, std::uint64_t mask) = nullptr;
  void (*view_changed)(void* opaque, std::uint16_t source, std::uint32_t view) = nullptr;
  void (*virtio_notify)(void* opaque, std::uint32_t queue) = nullptr;
  void (*virtio_needs_reset)(void* opaque) = nullptr;
  std::int32_t (*virtio_event)(void* opaque, const void* event, std::uint32_t size) = nullptr;
  /// For a recorder: told about every guest access, and about each message just before it is sent.
  MemoryTap memory_tap;
  void (*message_tap)(void* opaque, std::uint64_t address, std::uint32_t data) = nullptr;
};

enum class LogLevel : std::int32_t { error = 0, warning = 1, info = 2 };

/// Threads: any; never called with a lock held.
class Host {
 public:
  explicit Host(const HostFunctions& functions) noexcept : functions_{functions} {}
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  void msi(std::uint64_t address, std::uint32_t data) const noexcept;
  void wake() const noexcept;
  /// What a guest can bring about goes through a LogLimit first.
  void log(LogLevel level, const char* text) const noexcept;
  [[nodiscard]] bool has_log() const noexcept { return functions_.log != nullptr; }
  void region_gone(std::uint64_t cookie) const noexcept;
  /// Runs task(i) for every i in [0, count); returns when all have ended. On this thread where there is no executor.
  template <class Task>
  void execute(std::uint32_t count, const Task& task) const noexcept {
    run(count, [](void* context, std::uint32_t index) { (*static_cast<const Task*>(context))(index); }, &task);
  }
  [[nodiscard]] bool has_executor() const noexcept { return functions_.execute != nullptr; }
  void routes_changed(std::uint32_t first, std::uint32_t count) const noexcept;
  /// Also logged.
  void hold_overdue(std::uint64_t hold, std::uint64_t cookie, std::uint64_t age_ns) const noexcept;
  void page_response(SourceId source, std::optional<Pasid> pasid, unsigned group, unsigned code) const noexcept;
  /// @return 0: it is done; more: the answer comes later, by this handle; less: it cannot be done
  [[nodiscard]] std::int32_t device_invalidate(std::uint64_t handle, const DeviceInvalidation& what) const noexcept;
  [[nodiscard]] bool has_device_tlbs() const noexcept { return functions_.device_invalidate != nullptr; }
  void view_changed(SourceId source, std::uint32_t view) const noexcept;
  void virtio_notify(std::uint32_t queue) const noexcept;
  void virtio_needs_reset() const noexcept;
  /// @return whether there is a buffer for it
  [[nodiscard]] bool virtio_event(std::span<const std::byte> event) const noexcept;
  /// 0 without a clock.
  [[nodiscard]] std::uint64_t now_ns() const noexcept;
  [[nodiscard]] bool has_clock() const noexcept { return functions_.now_ns != nullptr; }

  /// The host's allocator and memory functions, each call marked; valid as long as this object.
  [[nodiscard]] HostAllocator allocator() const noexcept;
  [[nodiscard]] MemoryCallbacks memory() const noexcept;
  /// Not marked: for the memory that this object itself lies in.
  [[nodiscard]] const HostAllocator& unmarked_allocator() const noexcept { return functions_.allocator; }
  [[nodiscard]] const MemoryTap& memory_tap() const noexcept { return functions_.memory_tap; }
  /// Whether this thread is inside one of these calls.
  [[nodiscard]] bool calling() const noexcept;

 private:
  void run(std::uint32_t count, void (*task)(void* context, std::uint32_t index), const void* context) const noexcept;

  HostFunctions functions_;
  /// Where the marked functions find this object: their `opaque` is not a pointer to const.
  mutable const Host* self_ = this;
  mutable LogLimit overdue_holds_;  ///< says nothing about what this object does, so const calls count
};

}  // namespace viommu::core
