// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Both backends behind one set of names, each over a kernel of its own.
#pragma once

#include <viommu/viommu_host.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/host/container.hpp"
#include "engine/host/iommufd.hpp"
#include "tests/host/fake_kernel.hpp"

namespace viommu::test {

inline constexpr std::uint64_t top = ~std::uint64_t{0};
inline constexpr std::uint8_t rw = VIOMMU_READ | VIOMMU_WRITE;

/// Where guest memory would be mapped here. Nobody reads it.
inline void* hva_of(std::uint64_t gpa) {
  return reinterpret_cast<void*>(std::uintptr_t{0x7F0000000000} + gpa);  // NOLINT(performance-no-int-to-ptr)
}
[[nodiscard]] inline viommu_event map(std::uint64_t iova, std::uint64_t length, std::uint64_t gpa,
                                      std::uint8_t rights = rw) {
  return {iova, iova + length - 1, gpa, hva_of(gpa), VIOMMU_EVENT_MAP, rights, 0, 0};
}
[[nodiscard]] inline viommu_event unmap(std::uint64_t first, std::uint64_t last) {
  return {first, last, VIOMMU_NO_GPA, nullptr, VIOMMU_EVENT_UNMAP, 0, 0, 0};
}

using Statuses = std::vector<std::int32_t>;

/// What the library remembers, in the kernel's terms.
[[nodiscard]] inline HeldMap believed(const host::Mappings& mappings) {
  HeldMap held;
  for (const auto& [first, one] : mappings.all()) held[first] = {first, one.range.last, one.hva, one.rights};
  return held;
}

struct Vfio {
  explicit Vfio(FakeKernel with = {}) : kernel{std::make_unique<FakeKernel>(std::move(with))} {
    const viommu_host_kernel table = kernel->table();
    const std::int32_t group = FakeKernel::first_group;
    REQUIRE(viommu_vfio_container_create(&table, FakeKernel::container_fd, &group, 1, &container) == VIOMMU_OK);
    kernel->calls.clear();
  }
  Vfio(const Vfio&) = delete;
  Vfio& operator=(const Vfio&) = delete;
  ~Vfio() {
    kernel->fails = nullptr;  // it knows what a test has had
    viommu_vfio_container_destroy(container);
  }

  Statuses apply(std::vector<viommu_event> events) const {
    viommu_vfio_container_events(container, events.data(), static_cast<std::uint32_t>(events.size()));
    Statuses statuses;
    for (const viommu_event& event : events) statuses.push_back(event.status);
    return statuses;
  }
  [[nodiscard]] HeldMap holds() const { return kernel->container(); }
  [[nodiscard]] HeldMap believes() const { return believed(container->space.mappings()); }
  [[nodiscard]] viommu_host_figures figures() const {
    viommu_host_figures figures{};
    figures.size = sizeof figures;
    REQUIRE(viommu_vfio_container_figures(container, &figures) == VIOMMU_OK);
    return figures;
  }
  viommu_result log(const viommu_dirty_sink* sink) const { return viommu_vfio_container_dirty(container, sink); }
  viommu_result fetch() const { return viommu_vfio_container_dirty_fetch(container); }
  void write(std::uint64_t iova) const { kernel->write(iova); }
  void foreign(std::uint64_t first, std::uint64_t last) const { kernel->foreign(first, last); }

  static constexpr std::int32_t cut = VIOMMU_E_ARGUMENT;
  std::unique_ptr<FakeKernel> kernel;
  viommu_vfio_container* container = nullptr;
};

struct Iommufd {
  static constexpr std::uint64_t space = 7;

  explicit Iommufd(FakeKernel with = {}) : kernel{std::make_unique<FakeKernel>(std::move(with))} {
    const viommu_host_kernel table = kernel->table();
    REQUIRE(viommu_iommufd_create(&table, FakeKernel::iommufd_fd, &iommufd) == VIOMMU_OK);
    REQUIRE(viommu_iommufd_device_create(iommufd, FakeKernel::first_device, &device) == VIOMMU_OK);
    REQUIRE(viommu_iommufd_device_attach(device, space) == VIOMMU_OK);
    kernel->calls.clear();
  }
  Iommufd(const Iommufd&) = delete;
  Iommufd& operator=(const Iommufd&) = delete;
  ~Iommufd() {
    kernel->fails = nullptr;
    static_cast<void>(log(nullptr));
    viommu_iommufd_device_destroy(device);
    viommu_iommufd_destroy(iommufd);
  }

  Statuses apply(std::vector<viommu_event> events) const { return apply(device, std::move(events)); }
  static Statuses apply(viommu_iommufd_device* to, std::vector<viommu_event> events) {
    viommu_iommufd_device_events(to, events.data(), static_cast<std::uint32_t>(events.size()));
    Statuses statuses;
    for (const viommu_event& event : events) statuses.push_back(event.status);
    return statuses;
  }
  [[nodiscard]] HeldMap holds() const { return kernel->reach(FakeKernel::first_device); }
  [[nodiscard]] HeldMap believes() const { return believed(device->space->mappings()); }
  [[nodiscard]] viommu_host_figures figures() const {
    viommu_host_figures figures{};
    figures.size = sizeof figures;
    REQUIRE(viommu_iommufd_figures(iommufd, space, &figures) == VIOMMU_OK);
    return figures;
  }
  viommu_result log(const viommu_dirty_sink* sink) const { return viommu_iommufd_dirty(iommufd, sink); }
  viommu_result fetch() const { return viommu_iommufd_dirty_fetch(iommufd, space); }
  void write(std::uint64_t iova) const { kernel->write(FakeKernel::first_device, iova); }
  void foreign(std::uint64_t first, std::uint64_t last) const {
    kernel->foreign(FakeKernel::first_device, first, last);
  }

  std::unique_ptr<FakeKernel> kernel;
  viommu_iommufd* iommufd = nullptr;
  viommu_iommufd_device* device = nullptr;
};

/// Collects what a sink is told.
struct Dirt {
  Dirt() {
    sink.size = sizeof sink;
    sink.opaque = this;
    sink.runs = [](void* self, const viommu_dirty_run* told, std::uint32_t count) {
      auto& all = static_cast<Dirt*>(self)->runs;
      all.insert(all.end(), told, told + count);
    };
  }
  Dirt(const Dirt&) = delete;
  Dirt& operator=(const Dirt&) = delete;

  /// What was told since the last call.
  std::vector<std::vector<std::uint64_t>> take() {
    std::vector<std::vector<std::uint64_t>> taken;
    taken.reserve(runs.size());
    for (const viommu_dirty_run& run : runs) taken.push_back({run.iova, run.last, run.gpa});
    runs.clear();
    return taken;
  }

  viommu_dirty_sink sink{};
  std::vector<viommu_dirty_run> runs;
};
using Runs = std::vector<std::vector<std::uint64_t>>;

}  // namespace viommu::test
