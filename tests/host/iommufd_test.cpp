// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Address spaces of an iommufd, and the devices that go from one to the other.
#include <cerrno>

#include "tests/host/backends.hpp"

namespace viommu::test {

TEST_CASE("a device goes from one space to the other in one step, and the empty one can be given back",
          "[host][iommufd]") {
  Iommufd backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0x40000000)}) == Statuses{0});
  const HeldMap first = backend.holds();
  backend.kernel->calls.clear();
  REQUIRE(viommu_iommufd_device_attach(backend.device, 8) == VIOMMU_OK);
  for (const std::uint32_t call : backend.kernel->calls) CHECK(call != 0x3B78);  // never detached on the way
  CHECK(backend.holds().empty());
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0x50000000)}) == Statuses{0});
  CHECK(viommu_iommufd_space_destroy(backend.iommufd, 8) == VIOMMU_E_BUSY);
  CHECK(backend.holds().size() == 1);  // and what is in it stays
  REQUIRE(viommu_iommufd_device_attach(backend.device, Iommufd::space) == VIOMMU_OK);
  CHECK(backend.holds() == first);
  CHECK(viommu_iommufd_space_destroy(backend.iommufd, 8) == VIOMMU_OK);
  CHECK(viommu_iommufd_space_destroy(backend.iommufd, 8) == VIOMMU_E_NOT_FOUND);
  CHECK(backend.kernel->objects() == 2);  // the space and its page table
  CHECK(backend.kernel->pinned() == 0x1000);
}

TEST_CASE("devices of one space see the same, and share one page table", "[host][iommufd]") {
  Iommufd backend;
  viommu_iommufd_device* other = nullptr;
  REQUIRE(viommu_iommufd_device_create(backend.iommufd, FakeKernel::first_device + 1, &other) == VIOMMU_OK);
  viommu_event event = map(0x1000, 0x1000, 0);
  viommu_iommufd_device_events(other, &event, 1);
  CHECK(event.status == VIOMMU_E_NOT_FOUND);  // of no space yet
  REQUIRE(viommu_iommufd_device_attach(other, Iommufd::space) == VIOMMU_OK);
  CHECK(backend.kernel->tables() == 1);
  viommu_iommufd_device_events(other, &event, 1);
  CHECK(event.status == VIOMMU_OK);
  CHECK(backend.holds().size() == 1);
  CHECK(backend.kernel->reach(FakeKernel::first_device + 1) == backend.holds());
  viommu_iommufd_device_destroy(other);
  CHECK(backend.holds().size() == 1);
}

TEST_CASE("an attach that fails leaves all as it was, whichever call of it fails", "[host][iommufd][SEC-15]") {
  for (unsigned fails = 1; fails <= 4; ++fails) {
    Iommufd backend;
    REQUIRE(backend.apply({map(0x1000, 0x1000, 0)}) == Statuses{0});
    const HeldMap before = backend.holds();
    const std::size_t objects = backend.kernel->objects();
    unsigned call = 0;
    backend.kernel->fails = [&](std::uint32_t) { return ++call == fails ? -ENOMEM : 0; };
    const viommu_result attached = viommu_iommufd_device_attach(backend.device, 8);
    backend.kernel->fails = nullptr;
    CAPTURE(fails, call);
    if (fails <= 3) {  // the space, its page table, the attach
      CHECK(attached == VIOMMU_E_MEMORY);
      CHECK(backend.holds() == before);
      CHECK(backend.kernel->objects() == objects);
      CHECK(backend.apply({unmap(0x1000, 0x1FFF)}) == Statuses{0});
    } else {  // giving back the page table that nobody uses any more: kept, and taken when it is wanted again
      CHECK(attached == VIOMMU_OK);
      CHECK(backend.holds().empty());
      CHECK(viommu_iommufd_device_attach(backend.device, Iommufd::space) == VIOMMU_OK);
      CHECK(backend.holds() == before);
      CHECK(viommu_iommufd_space_destroy(backend.iommufd, 8) == VIOMMU_OK);
      CHECK(backend.kernel->objects() == 2);
    }
  }
}

TEST_CASE("a detached device reaches nothing, and nothing is left when all is destroyed", "[host][iommufd]") {
  FakeKernel kernel;
  kernel.cannot_log = {FakeKernel::first_device + 1};
  const viommu_host_kernel table = kernel.table();
  viommu_iommufd* iommufd = nullptr;
  REQUIRE(viommu_iommufd_create(&table, FakeKernel::iommufd_fd, &iommufd) == VIOMMU_OK);
  std::vector<viommu_iommufd_device*> devices(2);
  for (std::size_t i = 0; i < 2; ++i) {
    const std::int32_t fd = FakeKernel::first_device + static_cast<std::int32_t>(i);
    REQUIRE(viommu_iommufd_device_create(iommufd, fd, &devices[i]) == VIOMMU_OK);
    REQUIRE(viommu_iommufd_device_attach(devices[i], i) == VIOMMU_OK);
    CHECK(Iommufd::apply(devices[i], {map(0x1000, 0x1000, 0), map(0x4000, 0x1000, 0)}) == Statuses{0, 0});
  }
  CHECK(viommu_iommufd_device_detach(devices[0]) == VIOMMU_OK);
  CHECK(viommu_iommufd_device_detach(devices[0]) == VIOMMU_OK);
  CHECK_FALSE(kernel.attached(FakeKernel::first_device));
  CHECK(kernel.pinned() == 0x4000);  // the space keeps what is in it
  for (viommu_iommufd_device* device : devices) viommu_iommufd_device_destroy(device);
  viommu_iommufd_destroy(iommufd);
  CHECK(kernel.objects() == 0);
  CHECK(kernel.pinned() == 0);
}

TEST_CASE("a space that the kernel will not give back stays, with what is left of it", "[host][iommufd][SEC-15]") {
  Iommufd backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x4000, 0x1000, 0)}) == Statuses{0, 0});
  REQUIRE(viommu_iommufd_device_detach(backend.device) == VIOMMU_OK);
  for (unsigned fails = 1; fails <= 3; ++fails) {
    unsigned call = 0;
    backend.kernel->fails = [&](std::uint32_t request) {
      if (fails == 3) return request == 0x3B80 ? -EBUSY : 0;
      return request == 0x3B86 && ++call != 3 ? -EIO : 0;  // one of the two goes, alone
    };
    CAPTURE(fails);
    CHECK(viommu_iommufd_space_destroy(backend.iommufd, Iommufd::space) != VIOMMU_OK);
    CHECK(backend.figures().mapped_bytes == backend.kernel->pinned());
  }
  backend.kernel->fails = nullptr;
  CHECK(viommu_iommufd_space_destroy(backend.iommufd, Iommufd::space) == VIOMMU_OK);
  CHECK(backend.kernel->objects() == 0);
  viommu_event event = map(0x1000, 0x1000, 0);
  viommu_iommufd_device_events(backend.device, &event, 1);
  CHECK(event.status == VIOMMU_E_NOT_FOUND);
}

TEST_CASE("facts of an iommufd device: kind, capabilities, ranges of any number, page sizes",
          "[host][iommufd][facts][IFD-6]") {
  FakeKernel wide;
  wide.ranges.clear();
  for (std::uint64_t i = 0; i < 50; ++i) wide.ranges.push_back({i << 40, (i << 40) + 0xFFFFFFF});
  Iommufd backend{wide};
  viommu_host_facts facts{};
  facts.size = sizeof facts;
  REQUIRE(viommu_iommufd_device_facts(backend.device, &facts) == VIOMMU_OK);
  CHECK(facts.backend == VIOMMU_BACKEND_IOMMUFD);
  std::uint32_t number = 0;
  CHECK(facts.kind(facts.opaque, &number) == 0);
  CHECK(number == VIOMMU_HOST_KIND_VTD);
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  CHECK(facts.capabilities(facts.opaque, &cap, &ecap) == 0);
  CHECK(cap == 0x1234);
  CHECK(ecap == 0x5678);
  std::vector<viommu_range> ranges(50, viommu_range{1, 2});
  CHECK(facts.iova_ranges(facts.opaque, ranges.data(), 49, &number) == 0);
  CHECK(number == 50);
  CHECK(ranges[48].first == std::uint64_t{48} << 40);
  CHECK(ranges[49].first == 1);
  CHECK(facts.width(facts.opaque, &number) == 0);
  CHECK(number == 46);
  std::uint64_t sizes = 0;
  CHECK(facts.page_sizes(facts.opaque, &sizes) == 0);
  CHECK(sizes == ~std::uint64_t{0xFFF});

  SECTION("ranges that grow with each question are given up") {
    backend.kernel->grows = true;
    CHECK(facts.iova_ranges(facts.opaque, ranges.data(), 49, &number) == -EMSGSIZE);
  }
  SECTION("what the kernel will not say is an error, and no zero") {
    backend.kernel->fails = [](std::uint32_t) { return -EIO; };
    CHECK(facts.iova_ranges(facts.opaque, ranges.data(), 49, &number) < 0);
    CHECK(facts.width(facts.opaque, &number) < 0);
    CHECK(facts.page_sizes(facts.opaque, &sizes) < 0);
  }
  SECTION("a device that is not attached has no ranges") {
    REQUIRE(viommu_iommufd_device_detach(backend.device) == VIOMMU_OK);
    CHECK(facts.width(facts.opaque, &number) < 0);
    CHECK(facts.kind(facts.opaque, &number) == 0);
  }
}

TEST_CASE("a host of another kind has no VT-d registers, and a silent one has no kind", "[host][iommufd][facts]") {
  FakeKernel kernel;
  const viommu_host_kernel table = kernel.table();
  viommu_iommufd* iommufd = nullptr;
  viommu_iommufd_device* device = nullptr;
  REQUIRE(viommu_iommufd_create(&table, FakeKernel::iommufd_fd, &iommufd) == VIOMMU_OK);
  viommu_host_facts facts{};
  facts.size = sizeof facts;
  std::uint32_t number = 0;
  std::uint64_t cap = 0;
  SECTION("SMMUv3") {
    kernel.hardware = 2;
    REQUIRE(viommu_iommufd_device_create(iommufd, FakeKernel::first_device, &device) == VIOMMU_OK);
    REQUIRE(viommu_iommufd_device_facts(device, &facts) == VIOMMU_OK);
    CHECK(facts.kind(facts.opaque, &number) == 0);
    CHECK(number == VIOMMU_HOST_KIND_SMMUV3);
    CHECK(facts.capabilities(facts.opaque, &cap, &cap) < 0);
  }
  SECTION("no answer") {
    kernel.fails = [](std::uint32_t request) { return request == 0x3B8A ? -EOPNOTSUPP : 0; };
    REQUIRE(viommu_iommufd_device_create(iommufd, FakeKernel::first_device, &device) == VIOMMU_OK);
    REQUIRE(viommu_iommufd_device_facts(device, &facts) == VIOMMU_OK);
    CHECK(facts.kind(facts.opaque, &number) < 0);
    CHECK(facts.capabilities(facts.opaque, &cap, &cap) < 0);
    CHECK(viommu_iommufd_device_attach(device, 1) == VIOMMU_OK);  // it works all the same
    CHECK(kernel.attached(FakeKernel::first_device));
  }
  viommu_iommufd_device_destroy(device);
  viommu_iommufd_destroy(iommufd);
}

TEST_CASE("each struct says the size that the kernel knows, no shorter and no longer", "[host][iommufd][vfio][IFD-1]") {
  using Sizes = std::map<std::uint32_t, std::uint32_t>;
  Dirt dirt;
  const auto use = [&dirt](auto& backend) {
    REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
    REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x5000, 0x1000, 0)}) == Statuses{0, 0});
    REQUIRE(backend.fetch() == VIOMMU_OK);
    REQUIRE(backend.apply({unmap(0x1000, 0x1FFF)}) == Statuses{0});
  };
  Vfio vfio;
  use(vfio);
  CHECK(vfio.kernel->sizes == Sizes{{0x3B70, 120}, {0x3B71, 32}, {0x3B72, 48}, {0x3B75, 48}});
  REQUIRE(vfio.log(nullptr) == VIOMMU_OK);
  REQUIRE(vfio.apply({unmap(0, 0xFFFF)}) == Statuses{0});
  CHECK(vfio.kernel->sizes.at(0x3B72) == 24);
  CHECK(vfio.kernel->sizes.at(0x3B75) == 8);

  Iommufd iommufd;
  use(iommufd);
  viommu_host_facts facts{};
  facts.size = sizeof facts;
  std::uint32_t bits = 0;
  REQUIRE(viommu_iommufd_device_facts(iommufd.device, &facts) == VIOMMU_OK);
  REQUIRE(facts.width(facts.opaque, &bits) == 0);
  REQUIRE(viommu_iommufd_device_detach(iommufd.device) == VIOMMU_OK);
  CHECK(iommufd.kernel->sizes == Sizes{{0x3B76, 16},
                                       {0x3B77, 12},
                                       {0x3B78, 8},
                                       {0x3B80, 8},
                                       {0x3B81, 12},
                                       {0x3B84, 32},
                                       {0x3B85, 40},
                                       {0x3B86, 24},
                                       {0x3B89, 48},
                                       {0x3B8A, 40},
                                       {0x3B8B, 16},
                                       {0x3B8C, 48}});
}

TEST_CASE("a device that cannot be bound is none", "[host][iommufd]") {
  FakeKernel kernel;
  const viommu_host_kernel table = kernel.table();
  viommu_iommufd* iommufd = nullptr;
  REQUIRE(viommu_iommufd_create(&table, FakeKernel::iommufd_fd, &iommufd) == VIOMMU_OK);
  viommu_iommufd_device* device = nullptr;
  kernel.fails = [](std::uint32_t) { return -EBUSY; };
  CHECK(viommu_iommufd_device_create(iommufd, FakeKernel::first_device, &device) == VIOMMU_E_BUSY);
  CHECK(device == nullptr);
  CHECK(viommu_iommufd_device_create(nullptr, FakeKernel::first_device, &device) == VIOMMU_E_ARGUMENT);
  viommu_iommufd_destroy(iommufd);
  viommu_iommufd_destroy(nullptr);
  viommu_iommufd_device_destroy(nullptr);
}

}  // namespace viommu::test
