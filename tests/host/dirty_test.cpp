// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which pages a device wrote: told by iova and gpa, once, and none of them lost.
#include <algorithm>
#include <cerrno>
#include <set>

#include "tests/host/backends.hpp"

namespace viommu::test {

TEMPLATE_TEST_CASE("exactly the pages that were written are told, and then cleared", "[host][dirty][IFD-11]", Vfio,
                   Iommufd) {
  TestType backend;
  Dirt dirt;
  // Two mappings that follow each other in iova, and in gpa only the first two; one read-only; one without a gpa.
  viommu_event nameless = map(0x9000, 0x1000, 0x70000000);
  nameless.gpa = VIOMMU_NO_GPA;
  REQUIRE(backend.apply({map(0x1000, 0x2000, 0x40000000), map(0x3000, 0x1000, 0x40002000),
                         map(0x4000, 0x1000, 0x50000000), map(0x6000, 0x1000, 0x60000000, VIOMMU_READ), nameless}) ==
          Statuses(5, 0));
  backend.write(0x1000);  // before it is on
  REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
  REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
  CHECK(backend.fetch() == VIOMMU_OK);
  CHECK(dirt.take() == Runs{});
  for (const std::uint64_t iova : {0x2008U, 0x3FFFU, 0x4000U, 0x6000U, 0x7000U, 0x9010U}) backend.write(iova);
  CHECK(backend.fetch() == VIOMMU_OK);
  CHECK(dirt.take() ==
        Runs{{0x2000, 0x3FFF, 0x40001000}, {0x4000, 0x4FFF, 0x50000000}, {0x9000, 0x9FFF, VIOMMU_NO_GPA}});
  CHECK(backend.fetch() == VIOMMU_OK);
  CHECK(dirt.take() == Runs{});
  backend.write(0x1000);
  REQUIRE(backend.log(nullptr) == VIOMMU_OK);
  CHECK(backend.fetch() == VIOMMU_E_ARGUMENT);
  CHECK(dirt.take() == Runs{});
}

TEMPLATE_TEST_CASE("every size of mapping has its own bits, from 128 KiB to 256 MiB", "[host][dirty][IFD-11]", Vfio,
                   Iommufd) {
  for (std::uint64_t size = 128 << 10; size <= 256 << 20; size <<= 1) {
    TestType backend;
    Dirt dirt;
    REQUIRE(backend.apply({map(0x3000, size, 0x40005000)}) == Statuses{0});
    REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
    std::set<std::uint64_t> written{0, 63, 64, size / 0x1000 - 1};
    std::uint64_t random = size;
    for (unsigned i = 0; i < 40; ++i) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      written.insert((random >> 33) % (size / 0x1000));
    }
    written.erase(31);
    for (const std::uint64_t page : written)
      if (page < size / 0x1000) backend.write(0x3000 + page * 0x1000);
    REQUIRE(backend.fetch() == VIOMMU_OK);
    std::set<std::uint64_t> told;
    for (const viommu_dirty_run& run : dirt.runs)
      for (std::uint64_t at = run.iova; at < run.last; at += 0x1000) {
        told.insert((at - 0x3000) / 0x1000);
        REQUIRE(run.gpa + (at - run.iova) == 0x40005000 + (at - 0x3000));
      }
    std::erase_if(written, [size](std::uint64_t page) { return page >= size / 0x1000; });
    CHECK(told == written);
  }
}

TEMPLATE_TEST_CASE("what was written is told before its mapping is gone", "[host][dirty][IFD-11]", Vfio, Iommufd) {
  TestType backend;
  Dirt dirt;
  REQUIRE(backend.apply({map(0x1000, 0x2000, 0x40000000), map(0x3000, 0x1000, 0x50000000),
                         map(0x8000, 0x1000, 0x60000000, VIOMMU_READ)}) == Statuses(3, 0));
  REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
  backend.write(0x2000);
  backend.write(0x3000);
  SECTION("of a range") {
    CHECK(backend.apply({unmap(0x1000, 0x2FFF)}) == Statuses{0});
    CHECK(dirt.take() == Runs{{0x2000, 0x2FFF, 0x40001000}});
    CHECK(backend.apply({unmap(0, 0xFFFF)}) == Statuses{0});
    CHECK(dirt.take() == Runs{{0x3000, 0x3FFF, 0x50000000}});
  }
  SECTION("of everything") {
    CHECK(backend.apply({unmap(0, top)}) == Statuses{0});
    CHECK(dirt.take() == Runs{{0x2000, 0x2FFF, 0x40001000}, {0x3000, 0x3FFF, 0x50000000}});
  }
  SECTION("and again where the unmap failed") {
    unsigned calls = 0;
    backend.kernel->fails = [&calls](std::uint32_t request) {
      const bool unmaps = request == 0x3B72 || request == 0x3B86;
      return unmaps && ++calls <= 2 ? -EIO : 0;
    };
    CHECK(backend.apply({unmap(0x1000, 0x2FFF)}) == Statuses{VIOMMU_E_REFUSED});
    CHECK(backend.believes() == backend.holds());
    CHECK(backend.apply({unmap(0x1000, 0x2FFF)}) == Statuses{0});
    CHECK(dirt.take() == Runs{{0x2000, 0x2FFF, 0x40001000}});
  }
  CHECK(backend.believes() == backend.holds());
}

TEMPLATE_TEST_CASE("where the kernel does not tell, all that could be written counts as written", "[host][dirty]", Vfio,
                   Iommufd) {
  TestType backend;
  Dirt dirt;
  REQUIRE(backend.apply({map(0x1000, 0x2000, 0x40000000), map(0x8000, 0x1000, 0x60000000, VIOMMU_READ)}) ==
          Statuses{0, 0});
  REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
  unsigned calls = 0;
  backend.kernel->fails = [&calls](std::uint32_t) { return ++calls == 1 ? -EIO : 0; };
  SECTION("when asked") {
    CHECK(backend.fetch() == VIOMMU_OK);
    CHECK(dirt.take() == Runs{{0x1000, 0x2FFF, 0x40000000}});
  }
  SECTION("when a mapping goes") {
    CHECK(backend.apply({unmap(0x1000, 0x2FFF)}) == Statuses{0});
    CHECK(dirt.take() == Runs{{0x1000, 0x2FFF, 0x40000000}});
    CHECK(backend.believes() == backend.holds());
  }
}

TEST_CASE("a mapping longer than the longest bitmap counts as written", "[host][dirty][vfio]") {
  FakeKernel small;
  small.longest_bitmap = 8;  // 64 pages
  Vfio vfio{small};
  Dirt dirt;
  REQUIRE(vfio.apply({map(0, 0x40000, 0x40000000), map(0x40000, 0x41000, 0x50000000)}) == Statuses{0, 0});
  REQUIRE(vfio.log(&dirt.sink) == VIOMMU_OK);
  vfio.write(0x1000);
  CHECK(vfio.fetch() == VIOMMU_OK);
  CHECK(dirt.take() == Runs{{0x1000, 0x1FFF, 0x40001000}, {0x40000, 0x80FFF, 0x50000000}});
}

TEST_CASE("a container that cannot log says so", "[host][dirty][vfio]") {
  FakeKernel old;
  const bool known = GENERATE(false, true);
  old.capabilities = known;
  old.migration = false;
  Vfio vfio{old};
  Dirt dirt;
  CHECK(vfio.log(&dirt.sink) == VIOMMU_E_UNSUPPORTED);
  CHECK(vfio.fetch() == VIOMMU_E_ARGUMENT);
}

TEMPLATE_TEST_CASE("many runs come in pieces, all of them", "[host][dirty]", Vfio, Iommufd) {
  TestType backend;
  Dirt dirt;
  REQUIRE(backend.apply({map(0, 0x200000, 0x40000000)}) == Statuses{0});
  REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
  for (std::uint64_t page = 0; page < 512; page += 2) backend.write(page * 0x1000);
  CHECK(backend.fetch() == VIOMMU_OK);
  const Runs runs = dirt.take();
  REQUIRE(runs.size() == 256);
  CHECK(runs[255] == std::vector<std::uint64_t>{0x1FE000, 0x1FEFFF, 0x401FE000});
}

TEST_CASE("a device that leaves a space leaves what it wrote there", "[host][dirty][iommufd]") {
  Iommufd backend;
  Dirt dirt;
  REQUIRE(backend.apply({map(0x1000, 0x2000, 0x40000000)}) == Statuses{0});
  REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
  backend.write(0x2000);
  const bool away = GENERATE(true, false);
  CHECK((away ? viommu_iommufd_device_attach(backend.device, 8) : viommu_iommufd_device_detach(backend.device)) ==
        VIOMMU_OK);
  CHECK(dirt.take() == Runs{{0x2000, 0x2FFF, 0x40001000}});
  if (!away) return;
  // In the new one writes are logged as well.
  REQUIRE(backend.apply({map(0x5000, 0x1000, 0x50000000)}) == Statuses{0});
  backend.write(0x5000);
  CHECK(viommu_iommufd_dirty_fetch(backend.iommufd, 8) == VIOMMU_OK);
  CHECK(dirt.take() == Runs{{0x5000, 0x5FFF, 0x50000000}});
}

TEST_CASE("a device that cannot log keeps logging from beginning, or counts as writing all", "[host][dirty][iommufd]") {
  FakeKernel mixed;
  mixed.cannot_log = {FakeKernel::first_device + 1};
  Iommufd backend{mixed};
  Dirt dirt;
  viommu_iommufd_device* other = nullptr;
  REQUIRE(viommu_iommufd_device_create(backend.iommufd, FakeKernel::first_device + 1, &other) == VIOMMU_OK);
  REQUIRE(backend.apply({map(0x1000, 0x2000, 0x40000000)}) == Statuses{0});
  SECTION("before") {
    REQUIRE(viommu_iommufd_device_attach(other, 99) == VIOMMU_OK);
    CHECK(backend.log(&dirt.sink) == VIOMMU_E_UNSUPPORTED);
    backend.write(0x1000);
    CHECK(backend.fetch() == VIOMMU_E_ARGUMENT);  // the space that could log was told to stop
  }
  SECTION("after") {
    REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
    REQUIRE(viommu_iommufd_device_attach(other, Iommufd::space) == VIOMMU_OK);
    CHECK(backend.fetch() == VIOMMU_OK);
    CHECK(dirt.take() == Runs{{0x1000, 0x2FFF, 0x40000000}});
    CHECK(backend.apply({unmap(0x1000, 0x2FFF)}) == Statuses{0});
    CHECK(dirt.take() == Runs{{0x1000, 0x2FFF, 0x40000000}});
  }
  viommu_iommufd_device_destroy(other);
}

TEST_CASE("devices behind different IOMMUs have a page table each, and what both wrote is told",
          "[host][dirty][iommufd]") {
  FakeKernel two;
  two.iommu_of = {{FakeKernel::first_device + 1, 1}, {FakeKernel::first_device + 2, 1}};
  Iommufd backend{two};
  Dirt dirt;
  std::vector<viommu_iommufd_device*> others(2);
  for (std::size_t i = 0; i < 2; ++i) {
    const std::int32_t fd = FakeKernel::first_device + 1 + static_cast<std::int32_t>(i);
    REQUIRE(viommu_iommufd_device_create(backend.iommufd, fd, &others[i]) == VIOMMU_OK);
    REQUIRE(viommu_iommufd_device_attach(others[i], Iommufd::space) == VIOMMU_OK);
  }
  CHECK(backend.kernel->tables() == 2);
  REQUIRE(backend.apply({map(0x1000, 0x4000, 0x40000000)}) == Statuses{0});
  REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
  backend.write(0x1000);
  backend.kernel->write(FakeKernel::first_device + 2, 0x3000);
  CHECK(backend.fetch() == VIOMMU_OK);
  CHECK(dirt.take() == Runs{{0x1000, 0x1FFF, 0x40000000}, {0x3000, 0x3FFF, 0x40002000}});
  for (viommu_iommufd_device* other : others) viommu_iommufd_device_destroy(other);
  CHECK(backend.kernel->tables() == 1);
}

}  // namespace viommu::test
