// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/callback.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>

#include "engine/core/host.hpp"

namespace viommu::core {

TEST_CASE("a thread is inside the callbacks of all engines on its stack", "[core][callback][P7]") {
  const int first = 1;
  const int second = 2;
  CHECK_FALSE(CallbackScope::inside(&first));
  {
    const CallbackScope outer{&first};
    CHECK(CallbackScope::inside(&first));
    CHECK_FALSE(CallbackScope::inside(&second));
    {
      const CallbackScope middle{&second};
      CHECK(CallbackScope::inside(&first));
      CHECK(CallbackScope::inside(&second));
      {
        const CallbackScope inner{&first};
        CHECK(CallbackScope::inside(&second));
      }
      CHECK(CallbackScope::inside(&first));
    }
    CHECK(CallbackScope::inside(&first));
    CHECK_FALSE(CallbackScope::inside(&second));
  }
  CHECK_FALSE(CallbackScope::inside(&first));
}

TEST_CASE("another thread is not inside", "[core][callback][P7]") {
  const int engine = 1;
  const CallbackScope scope{&engine};
  bool inside = true;
  std::thread{[&] { inside = CallbackScope::inside(&engine); }}.join();
  CHECK_FALSE(inside);
  CHECK(CallbackScope::inside(&engine));
}

namespace {
/// Counts the calls, and those of them that were marked.
struct Observer {
  const Host* host = nullptr;
  unsigned calls = 0;
  unsigned marked = 0;
  void saw() {
    ++calls;
    marked += host->calling() ? 1U : 0U;
  }
  static Observer& of(void* self) { return *static_cast<Observer*>(self); }
};
}  // namespace

TEST_CASE("every function of the host is called marked", "[core][callback][host][P7]") {
  Observer observer;
  HostFunctions functions;
  functions.opaque = &observer;
  functions.memory.opaque = &observer;
  functions.memory.read = [](void* self, std::uint64_t, void*, std::uint64_t) -> std::int32_t {
    Observer::of(self).saw();
    return 0;
  };
  functions.memory.write = [](void* self, std::uint64_t, const void*, std::uint64_t) -> std::int32_t {
    Observer::of(self).saw();
    return 0;
  };
  functions.memory.compare_exchange = [](void* self, std::uint64_t, std::uint64_t*, std::uint64_t) -> std::int32_t {
    Observer::of(self).saw();
    return 0;
  };
  functions.msi = [](void* self, std::uint64_t, std::uint32_t) { Observer::of(self).saw(); };
  functions.wake = [](void* self) { Observer::of(self).saw(); };
  functions.now_ns = [](void* self) -> std::uint64_t {
    Observer::of(self).saw();
    return 5;
  };
  functions.log = [](void* self, std::int32_t, const char*) { Observer::of(self).saw(); };
  functions.region_gone = [](void* self, std::uint64_t) { Observer::of(self).saw(); };
  functions.routes_changed = [](void* self, std::uint32_t, std::uint32_t) { Observer::of(self).saw(); };
  functions.hold_overdue = [](void* self, std::uint64_t, std::uint64_t, std::uint64_t) { Observer::of(self).saw(); };
  functions.allocator.opaque = &observer;
  functions.allocator.allocate = [](void* self, std::size_t size, std::size_t alignment) -> void* {
    Observer::of(self).saw();
    return HostAllocator{}.get(size, alignment);
  };
  functions.allocator.deallocate = [](void* self, void* memory, std::size_t size, std::size_t alignment) {
    Observer::of(self).saw();
    HostAllocator{}.put(memory, size, alignment);
  };
  const Host host{functions};
  observer.host = &host;

  const MemoryCallbacks memory = host.memory();
  std::uint64_t word = 0;
  CHECK(memory.read(memory.opaque, 0, &word, 8) == 0);
  CHECK(memory.write(memory.opaque, 0, &word, 8) == 0);
  CHECK(memory.compare_exchange(memory.opaque, 0, &word, 1) == 0);
  host.msi(1, 2);
  host.wake();
  CHECK(host.now_ns() == 5);
  host.log(LogLevel::info, "text");
  host.region_gone(1);
  host.routes_changed(1, 2);
  host.hold_overdue(1, 2, 3);  // and a line for the log
  void* const block = host.allocator().get(64, 64);
  host.allocator().put(block, 64, 64);
  CHECK(observer.calls == 13);
  CHECK(observer.marked == 13);
  CHECK_FALSE(host.calling());
}

TEST_CASE("what the host does not offer does nothing", "[core][host]") {
  const Host host{HostFunctions{}};
  host.msi(1, 2);
  host.wake();
  host.log(LogLevel::error, "text");
  host.region_gone(1);
  host.routes_changed(1, 2);
  host.hold_overdue(1, 2, 3);
  CHECK_FALSE(host.has_clock());
  CHECK(host.now_ns() == 0);
  CHECK(host.memory().read == nullptr);
  CHECK(host.memory().write == nullptr);
  CHECK(host.memory().compare_exchange == nullptr);
}

}  // namespace viommu::core
