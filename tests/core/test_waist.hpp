// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A waist with a host that remembers what it was told.
#pragma once

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <vector>

#include "engine/core/waist.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"

namespace viommu::test {

/// Time is the test's. Only `wakes` may be counted from several threads.
class CoreHost {
 public:
  struct Overdue {
    std::uint64_t hold;
    std::uint64_t cookie;
    std::uint64_t age_ns;
    friend bool operator==(const Overdue&, const Overdue&) = default;
  };
  [[nodiscard]] core::HostFunctions functions(bool with_clock = true) {
    core::HostFunctions functions;
    functions.opaque = this;
    functions.allocator = allocator.functions();
    functions.wake = [](void* self) { of(self).wakes.fetch_add(1); };
    if (with_clock) functions.now_ns = [](void* self) { return of(self).now_ns; };
    functions.region_gone = [](void* self, std::uint64_t cookie) { of(self).gone.push_back(cookie); };
    functions.hold_overdue = [](void* self, std::uint64_t hold, std::uint64_t cookie, std::uint64_t age_ns) {
      of(self).overdue.push_back({hold, cookie, age_ns});
    };
    functions.view_changed = [](void* self, std::uint16_t source, std::uint32_t view) {
      if (of(self).on_view) of(self).on_view(source, view);
    };
    return functions;
  }
  std::atomic<std::uint64_t> wakes{0};
  std::uint64_t now_ns = 0;
  std::vector<std::uint64_t> gone;
  std::vector<Overdue> overdue;
  std::function<void(std::uint16_t source, std::uint32_t view)> on_view;
  CountingAllocator allocator;

 private:
  static CoreHost& of(void* self) { return *static_cast<CoreHost*>(self); }
};

inline constexpr core::WaistOptions small_waist{.rules = {},
                                                .hash_seed = 1,
                                                .hold_report_ns = 1'000,
                                                .iotlb_pages = 64,
                                                .structures = 16,
                                                .context_entries = 16,
                                                .pasid_entries = 16,
                                                .address_spaces = 16,
                                                .tag_bits = 4,
                                                .readers = 4,
                                                .holds = 40,
                                                .regions = 8};

/// The host, the waist and some readers.
class TestWaist {
 public:
  explicit TestWaist(const core::WaistOptions& options = small_waist, bool with_clock = true)
      : functions{host.functions(with_clock)}, marked{functions}, waist{options, marked} {
    REQUIRE(waist.reset());
  }
  core::Waist* operator->() { return &waist; }
  core::Reader& reader() {
    core::Reader* const taken = waist.take_reader();
    REQUIRE(taken != nullptr);
    return *taken;
  }
  [[nodiscard]] core::Ticket ticket(const caches::Scope& scope) {
    caches::ScopeSet scopes;
    scopes.add(scope);
    return waist.ticket(scopes);
  }
  [[nodiscard]] core::RegionResult add(GuardedRegion& ram) { return add(ram.gpa(), ram.length(), ram.data()); }
  [[nodiscard]] core::RegionResult add(std::uint64_t gpa, std::uint64_t length, std::byte* data = nullptr) {
    return waist.add_region({{{gpa}, {gpa + (length - 1)}}, data, false});
  }
  CoreHost host;
  core::HostFunctions functions;
  core::Host marked;
  core::Waist waist;
};

/// Opens a reader's guard for a scope of the test.
class WaistGuard {
 public:
  WaistGuard(core::Waist& waist, core::Reader& reader) : waist_{waist}, reader_{reader} { waist_.enter(reader_); }
  WaistGuard(const WaistGuard&) = delete;
  WaistGuard& operator=(const WaistGuard&) = delete;
  ~WaistGuard() { waist_.leave(reader_); }

 private:
  core::Waist& waist_;
  core::Reader& reader_;
};

}  // namespace viommu::test
