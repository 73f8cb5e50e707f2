// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/host.hpp"

#include <array>
#include <cinttypes>
#include <cstdio>

#include "engine/base/tracepoint.hpp"
#include "engine/core/callback.hpp"

namespace viommu::core {
namespace {

/// Calls `function`, if there is one, marked as a callback of `host`.
template <class Function, class... Arguments>
void call(const Host* host, Function function, Arguments... arguments) noexcept {
  if (function == nullptr) return;
  const CallbackScope scope{host};
  function(arguments...);
}

/// What the marked functions of memory() and allocator() are told.
[[nodiscard]] const Host& host_of(void* opaque) noexcept { return **static_cast<const Host**>(opaque); }

}  // namespace

void Host::msi(std::uint64_t address, std::uint32_t data) const noexcept {
  if (functions_.message_tap != nullptr) functions_.message_tap(functions_.memory_tap.opaque, address, data);
  tracepoint::message_sent(address, data);
  call(this, functions_.msi, functions_.opaque, address, data);
}
void Host::wake() const noexcept { call(this, functions_.wake, functions_.opaque); }
void Host::log(LogLevel level, const char* text) const noexcept {
  call(this, functions_.log, functions_.opaque, static_cast<std::int32_t>(level), text);
}
void Host::region_gone(std::uint64_t cookie) const noexcept {
  tracepoint::region_gone(cookie);
  call(this, functions_.region_gone, functions_.opaque, cookie);
}
void Host::run(std::uint32_t count, void (*task)(void* context, std::uint32_t index),
               const void* context) const noexcept {
  // Only ever used as the const object it is. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
  void* const same = const_cast<void*>(context);
  if (functions_.execute != nullptr) return call(this, functions_.execute, functions_.opaque, count, task, same);
  for (std::uint32_t i = 0; i < count; ++i) task(same, i);
}
void Host::routes_changed(std::uint32_t first, std::uint32_t count) const noexcept {
  call(this, functions_.routes_changed, functions_.opaque, first, count);
}
void Host::view_changed(SourceId source, std::uint32_t view) const noexcept {
  call(this, functions_.view_changed, functions_.opaque, source.value, view);
}
void Host::virtio_notify(std::uint32_t queue) const noexcept {
  call(this, functions_.virtio_notify, functions_.opaque, queue);
}
void Host::virtio_needs_reset() const noexcept { call(this, functions_.virtio_needs_reset, functions_.opaque); }
bool Host::virtio_event(std::span<const std::byte> event) const noexcept {
  if (functions_.virtio_event == nullptr) return false;
  const CallbackScope scope{this};
  return functions_.virtio_event(functions_.opaque, event.data(), static_cast<std::uint32_t>(event.size())) >= 0;
}
void Host::page_response(SourceId source, std::optional<Pasid> pasid, unsigned group, unsigned code) const noexcept {
  constexpr std::uint32_t none = ~std::uint32_t{0};
  call(this, functions_.page_response, functions_.opaque, source.value, pasid ? pasid->value : none,
       std::uint32_t{group}, std::uint32_t{code});
}
std::int32_t Host::device_invalidate(std::uint64_t handle, const DeviceInvalidation& what) const noexcept {
  constexpr std::uint32_t none = ~std::uint32_t{0};
  constexpr std::uint32_t every = none - 1;
  const std::uint32_t pasid = what.every_pasid ? every : what.pasid ? what.pasid->value : none;
  const CallbackScope scope{this};
  return functions_.device_invalidate(functions_.opaque, handle, what.source.value, pasid, what.range.first.value,
                                      what.range.last.value - what.range.first.value);
}
void Host::hold_overdue(std::uint64_t hold, std::uint64_t cookie, std::uint64_t age_ns) const noexcept {
  tracepoint::hold_overdue(hold, cookie, age_ns);
  call(this, functions_.hold_overdue, functions_.opaque, hold, cookie, age_ns);
  const std::uint64_t times = overdue_holds_.happened();
  if (times == 0 || !has_log()) return;
  constexpr std::uint64_t ns_per_ms = 1'000'000;
  std::array<char, 192> text;
  std::snprintf(text.data(), text.size(),
                "hold 0x%" PRIx64 " (cookie 0x%" PRIx64 ") has kept a completion back for %" PRIu64
                " ms; overdue holds so far: %" PRIu64,
                hold, cookie, age_ns / ns_per_ms, times);
  log(LogLevel::warning, text.data());
}

std::uint64_t Host::now_ns() const noexcept {
  if (functions_.now_ns == nullptr) return 0;
  const CallbackScope scope{this};
  return functions_.now_ns(functions_.opaque);
}

bool Host::calling() const noexcept { return CallbackScope::inside(this); }

HostAllocator Host::allocator() const noexcept {
  if (functions_.allocator.allocate == nullptr) return functions_.allocator;
  return {&self_,
          [](void* opaque, std::size_t size, std::size_t alignment) {
            const auto& host = host_of(opaque);
            const CallbackScope scope{&host};
            return host.functions_.allocator.get(size, alignment);
          },
          [](void* opaque, void* memory, std::size_t size, std::size_t alignment) {
            const auto& host = host_of(opaque);
            const CallbackScope scope{&host};
            host.functions_.allocator.put(memory, size, alignment);
          }};
}

MemoryCallbacks Host::memory() const noexcept {
  MemoryCallbacks marked;
  marked.opaque = &self_;
  if (functions_.memory.read != nullptr)
    marked.read = [](void* opaque, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      const auto& host = host_of(opaque);
      const CallbackScope scope{&host};
      return host.functions_.memory.read(host.functions_.memory.opaque, gpa, data, size);
    };
  if (functions_.memory.write != nullptr)
    marked.write = [](void* opaque, std::uint64_t gpa, const void* data, std::uint64_t size) -> std::int32_t {
      const auto& host = host_of(opaque);
      const CallbackScope scope{&host};
      return host.functions_.memory.write(host.functions_.memory.opaque, gpa, data, size);
    };
  if (functions_.memory.compare_exchange != nullptr)
    marked.compare_exchange = [](void* opaque, std::uint64_t gpa, std::uint64_t* expected,
                                 std::uint64_t desired) -> std::int32_t {
      const auto& host = host_of(opaque);
      const CallbackScope scope{&host};
      return host.functions_.memory.compare_exchange(host.functions_.memory.opaque, gpa, expected, desired);
    };
  return marked;
}

}  // namespace viommu::core
