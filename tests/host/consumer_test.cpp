// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The ready-made consumer: what it declares, and what its functions do.
#include <cerrno>
#include <utility>

#include "tests/host/backends.hpp"

namespace viommu::test {
namespace {

/// The VMM's part of a consumer.
struct Settings {
  Settings() {
    settings.size = sizeof settings;
    settings.opaque = this;
    settings.report = [](void* self, const viommu_consumer_report* report) {
      static_cast<Settings*>(self)->reports.push_back(report->what);
    };
    settings.attach_failed = [](void* self, std::uint64_t space, viommu_result result, std::uint32_t blocked) {
      static_cast<Settings*>(self)->failures.push_back({space, result, blocked});
    };
  }
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  viommu_consumer init() {
    viommu_consumer consumer{};
    consumer.size = sizeof consumer;
    REQUIRE(viommu_host_consumer_init(&settings, &consumer) == VIOMMU_OK);
    return consumer;
  }
  viommu_result refuse() {
    viommu_consumer consumer{};
    consumer.size = sizeof consumer;
    return viommu_host_consumer_init(&settings, &consumer);
  }

  struct Failure {
    std::uint64_t space;
    viommu_result result;
    std::uint32_t blocked;
    friend bool operator==(const Failure&, const Failure&) = default;
  };
  viommu_host_consumer settings{};
  std::vector<std::uint32_t> reports;
  std::vector<Failure> failures;
};

}  // namespace

TEST_CASE("a consumer of a container declares what the host can do, and has its entries as quota",
          "[host][consumer][vfio][B59]") {
  FakeKernel kernel;
  kernel.entry_limit = 100;
  kernel.coherent = GENERATE(true, false);
  kernel.migration = GENERATE(true, false);
  Vfio vfio{kernel};
  Settings own;
  own.settings.container = vfio.container;
  own.settings.declares = VIOMMU_CONSUMER_NO_BLINK;
  const viommu_consumer consumer = own.init();
  CHECK(consumer.notify == (VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP));
  std::uint32_t expected = VIOMMU_CONSUMER_NO_BLINK | VIOMMU_CONSUMER_UNMAP_ALL;
  if (kernel.coherent) expected |= VIOMMU_CONSUMER_SNOOPS;
  if (kernel.migration) expected |= VIOMMU_CONSUMER_LOGS;
  CHECK(consumer.declares == expected);
  CHECK(consumer.quota == 100);
  CHECK(consumer.first == 0);
  CHECK(consumer.last == top);
  CHECK(consumer.attach == nullptr);
  viommu_event event = map(0x1000, 0x1000, 0);
  consumer.events(consumer.opaque, &event, 1);
  CHECK(event.status == 0);
  CHECK(vfio.holds().size() == 1);
  viommu_consumer_report report{};
  report.what = VIOMMU_REPORT_QUOTA;
  consumer.report(consumer.opaque, &report);
  CHECK(own.reports == std::vector<std::uint32_t>{VIOMMU_REPORT_QUOTA});
}

TEST_CASE("a consumer of a part of the addresses does not let one event stand for all", "[host][consumer]") {
  Vfio vfio;
  Settings own;
  own.settings.container = vfio.container;
  own.settings.first = 0xFEF00000;
  own.settings.last = top;
  const viommu_consumer consumer = own.init();
  CHECK(consumer.first == 0xFEF00000);
  CHECK((consumer.declares & VIOMMU_CONSUMER_UNMAP_ALL) == 0);
}

TEST_CASE("settings that make no sense are refused", "[host][consumer]") {
  Vfio vfio;
  Iommufd iommufd;
  Settings own;
  CHECK(own.refuse() == VIOMMU_E_ARGUMENT);  // neither
  own.settings.container = vfio.container;
  own.settings.device = iommufd.device;
  CHECK(own.refuse() == VIOMMU_E_ARGUMENT);  // both
  own.settings.device = nullptr;
  for (const std::uint32_t declares : {VIOMMU_CONSUMER_SPLIT, VIOMMU_CONSUMER_SHARES, VIOMMU_CONSUMER_LOGS}) {
    own.settings.declares = declares;
    CHECK(own.refuse() == VIOMMU_E_ARGUMENT);
  }
  own.settings.declares = 0;
  own.settings.first = 5;
  CHECK(own.refuse() == VIOMMU_E_ARGUMENT);
  own.settings.first = 0;
  own.settings.size = 8;
  CHECK(own.refuse() == VIOMMU_E_ARGUMENT);
  own.settings.size = sizeof own.settings;
  vfio.kernel->fails = [](std::uint32_t) { return -EIO; };
  CHECK(own.refuse() == VIOMMU_E_REFUSED);
}

TEST_CASE("devices that share a space are told to use it, and one of them fills it", "[host][consumer][iommufd]") {
  Iommufd backend;
  viommu_iommufd_device* other = nullptr;
  REQUIRE(viommu_iommufd_device_create(backend.iommufd, FakeKernel::first_device + 1, &other) == VIOMMU_OK);
  Settings a;
  a.settings.device = backend.device;
  a.settings.declares = VIOMMU_CONSUMER_SHARES;
  Settings b;
  b.settings.device = other;
  b.settings.declares = VIOMMU_CONSUMER_SHARES;
  const viommu_consumer first = a.init();
  const viommu_consumer second = b.init();
  CHECK(first.declares == (VIOMMU_CONSUMER_SHARES | VIOMMU_CONSUMER_LOGS | VIOMMU_CONSUMER_UNMAP_ALL));
  CHECK(first.share_group == second.share_group);
  CHECK(first.share_group != 0);
  // It is filled before anybody uses it.
  viommu_event event = map(0x1000, 0x1000, 0);
  first.space_events(first.opaque, 100, &event, 1);
  CHECK(event.status == 0);
  CHECK(backend.holds().empty());
  first.attach(first.opaque, 100);
  second.attach(second.opaque, 100);
  CHECK(backend.kernel->reach(FakeKernel::first_device + 1).size() == 1);
  first.attach(first.opaque, 101);
  CHECK(backend.holds().empty());
  // The other one goes on for the space, though it was the first that filled it.
  event = unmap(0x1000, 0x1FFF);
  second.space_events(second.opaque, 100, &event, 1);
  CHECK(event.status == 0);
  CHECK(backend.kernel->pinned() == 0);
  second.attach(second.opaque, 101);
  second.space_gone(second.opaque, 100);
  second.space_gone(second.opaque, Iommufd::space);
  CHECK(backend.kernel->objects() == 2);
  CHECK(a.failures.empty());
  viommu_iommufd_device_destroy(other);
}

TEST_CASE("a space that is given up while a device uses it goes with the device", "[host][consumer][iommufd]") {
  Iommufd backend;
  viommu_iommufd_device* other = nullptr;
  REQUIRE(viommu_iommufd_device_create(backend.iommufd, FakeKernel::first_device + 1, &other) == VIOMMU_OK);
  Settings own;
  own.settings.device = other;
  own.settings.declares = VIOMMU_CONSUMER_SHARES;
  const viommu_consumer consumer = own.init();
  const std::size_t objects = backend.kernel->objects();
  viommu_event event = map(0x1000, 0x1000, 0);
  consumer.space_events(consumer.opaque, 100, &event, 1);
  consumer.attach(consumer.opaque, 100);
  CHECK(backend.kernel->pinned() == 0x1000);
  consumer.space_gone(consumer.opaque, 100);
  CHECK(backend.kernel->pinned() == 0x1000);
  SECTION("that goes") { viommu_iommufd_device_destroy(std::exchange(other, nullptr)); }
  SECTION("that goes over to another") {
    consumer.attach(consumer.opaque, Iommufd::space);
    CHECK(backend.kernel->pinned() == 0);
  }
  viommu_iommufd_device_destroy(other);
  CHECK(backend.kernel->pinned() == 0);
  CHECK(backend.kernel->objects() == objects);
}

TEST_CASE("a device that cannot be attached is blocked and reported, and the space is filled for the others",
          "[host][consumer][iommufd][SEC-15]") {
  Iommufd backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0)}) == Statuses{0});
  Settings own;
  own.settings.device = backend.device;
  own.settings.declares = VIOMMU_CONSUMER_SHARES;
  const viommu_consumer consumer = own.init();
  using Failures = std::vector<Settings::Failure>;
  SECTION("the attach fails") {
    backend.kernel->fails = [](std::uint32_t request) { return request == 0x3B77 ? -ENOMEM : 0; };
    consumer.attach(consumer.opaque, 100);
    CHECK(own.failures == Failures{{100, VIOMMU_E_MEMORY, 1}});
    CHECK_FALSE(backend.kernel->attached(FakeKernel::first_device));
    viommu_event event = map(0x2000, 0x1000, 0);
    consumer.events(consumer.opaque, &event, 1);
    CHECK(event.status == 0);
    backend.kernel->fails = nullptr;
    REQUIRE(viommu_iommufd_device_attach(backend.device, 100) == VIOMMU_OK);
    CHECK(backend.holds().size() == 1);
    CHECK(backend.holds().contains(0x2000));
  }
  SECTION("there is no space to be had") {
    backend.kernel->fails = [](std::uint32_t request) { return request == 0x3B81 ? -ENOMEM : 0; };
    consumer.attach(consumer.opaque, 100);
    CHECK(own.failures == Failures{{100, VIOMMU_E_MEMORY, 1}});
    viommu_event event = map(0x2000, 0x1000, 0);
    consumer.events(consumer.opaque, &event, 1);
    CHECK(event.status == VIOMMU_E_NOT_FOUND);
  }
  SECTION("nor can it be detached") {
    backend.kernel->fails = [](std::uint32_t request) { return request == 0x3B77 || request == 0x3B78 ? -EIO : 0; };
    consumer.attach(consumer.opaque, 100);
    CHECK(own.failures == Failures{{100, VIOMMU_E_REFUSED, 0}});
    CHECK(backend.kernel->attached(FakeKernel::first_device));
  }
}

TEST_CASE("a probe tells whether there is a backend, and leaves nothing", "[host][probe]") {
  FakeKernel kernel;
  const viommu_host_kernel table = kernel.table();
  CHECK(viommu_host_probe(&table, VIOMMU_BACKEND_VFIO, FakeKernel::container_fd) == VIOMMU_OK);
  CHECK(viommu_host_probe(&table, VIOMMU_BACKEND_IOMMUFD, FakeKernel::iommufd_fd) == VIOMMU_OK);
  CHECK(kernel.objects() == 0);
  CHECK(viommu_host_probe(&table, 3, FakeKernel::iommufd_fd) == VIOMMU_E_ARGUMENT);
  kernel.type1v2 = false;
  CHECK(viommu_host_probe(&table, VIOMMU_BACKEND_VFIO, FakeKernel::container_fd) == VIOMMU_E_UNSUPPORTED);
  CHECK(viommu_host_probe(&table, VIOMMU_BACKEND_VFIO, 99) == VIOMMU_E_REFUSED);
  CHECK(viommu_host_probe(nullptr, VIOMMU_BACKEND_IOMMUFD, -1) == VIOMMU_E_REFUSED);
}

}  // namespace viommu::test
