// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Setting up a container, and what it says about itself.
#include <algorithm>
#include <cerrno>

#include "tests/host/backends.hpp"

namespace viommu::test {
namespace {

viommu_result create(FakeKernel& kernel, std::vector<std::int32_t> groups, viommu_vfio_container*& container) {
  const viommu_host_kernel table = kernel.table();
  return viommu_vfio_container_create(&table, FakeKernel::container_fd, groups.data(),
                                      static_cast<std::uint32_t>(groups.size()), &container);
}

}  // namespace

TEST_CASE("a container is given its groups and its type, or they are taken out again", "[host][vfio]") {
  constexpr std::int32_t group = FakeKernel::first_group;
  FakeKernel kernel;
  viommu_vfio_container* container = nullptr;
  SECTION("all is well") {
    REQUIRE(create(kernel, {group, group + 1}, container) == VIOMMU_OK);
    CHECK(kernel.group_in(group));
    CHECK(kernel.group_in(group + 1));
    viommu_vfio_container_destroy(container);
  }
  SECTION("a kernel without type1v2") {
    kernel.type1v2 = false;
    CHECK(create(kernel, {group}, container) == VIOMMU_E_UNSUPPORTED);
    CHECK(std::ranges::count(kernel.calls, 0x3B68U) == 0);
  }
  SECTION("whichever call fails") {
    for (unsigned fails = 1; fails <= 6; ++fails) {
      FakeKernel one;
      unsigned call = 0;
      one.fails = [&](std::uint32_t) { return ++call == fails ? -EPERM : 0; };
      CAPTURE(fails);
      CHECK(create(one, {group, group + 1}, container) == VIOMMU_E_REFUSED);
      CHECK(container == nullptr);
      CHECK_FALSE(one.group_in(group));
      CHECK_FALSE(one.group_in(group + 1));
    }
  }
  SECTION("nonsense") {
    const viommu_host_kernel table = kernel.table();
    CHECK(viommu_vfio_container_create(&table, FakeKernel::container_fd, nullptr, 1, &container) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_vfio_container_create(&table, FakeKernel::container_fd, nullptr, 0, nullptr) == VIOMMU_E_ARGUMENT);
    viommu_host_kernel empty{sizeof(viommu_host_kernel), nullptr, nullptr};
    CHECK(viommu_vfio_container_create(&empty, 3, nullptr, 0, &container) == VIOMMU_E_ARGUMENT);
    empty.size = 4;
    CHECK(viommu_vfio_container_create(&empty, 3, nullptr, 0, &container) == VIOMMU_E_ARGUMENT);
    viommu_vfio_container_destroy(nullptr);
  }
}

TEST_CASE("a container that goes takes along what it mapped, and nothing else", "[host][vfio]") {
  FakeKernel kernel;
  viommu_vfio_container* container = nullptr;
  REQUIRE(create(kernel, {FakeKernel::first_group}, container) == VIOMMU_OK);
  viommu_event one = map(0x1000, 0x1000, 0);
  viommu_vfio_container_events(container, &one, 1);
  kernel.foreign(0x9000, 0x9FFF);
  REQUIRE(kernel.container().size() == 2);
  viommu_vfio_container_destroy(container);
  CHECK(kernel.container().size() == 1);
}

TEST_CASE("what a container says is read however long it is", "[host][vfio][IFD-6]") {
  FakeKernel wide;
  wide.ranges.clear();
  for (std::uint64_t i = 0; i < 300; ++i) wide.ranges.push_back({i << 32, (i << 32) + 0xFFFFFFF});
  wide.entry_limit = 1234;
  Vfio vfio{wide};
  viommu_vfio_information information{};
  information.size = sizeof information;
  std::vector<viommu_range> ranges(302, viommu_range{1, 2});
  REQUIRE(viommu_vfio_container_information(vfio.container, &information, ranges.data(), 301) == VIOMMU_OK);
  CHECK(information.page_sizes == 0x40201000);
  CHECK(information.dirty_page_sizes == 0x1000);
  CHECK(information.dirty_bitmap_bytes == 0x10000000);
  CHECK(information.mappings_left == 1234);
  CHECK(information.range_count == 300);
  CHECK(ranges[299].first == std::uint64_t{299} << 32);
  CHECK(ranges[300].first == 1);  // and nothing past them is written
  REQUIRE(viommu_vfio_container_information(vfio.container, &information, ranges.data(), 0) == VIOMMU_OK);
  CHECK(information.range_count == 300);
}

TEST_CASE("an answer that grows with each question is given up", "[host][vfio]") {
  Vfio vfio;
  vfio.kernel->grows = true;
  viommu_vfio_information information{};
  information.size = sizeof information;
  CHECK(viommu_vfio_container_information(vfio.container, &information, nullptr, 0) == VIOMMU_E_RANGE);
  CHECK(vfio.kernel->calls.size() < 20);
}

TEST_CASE("a chain of capabilities that leads anywhere is followed no further than the answer", "[host][vfio]") {
  // Answers whose offsets are hostile: each value of the two that lead on, around and past the end.
  struct Hostile {
    std::uint32_t cap_offset;
    std::uint32_t next;
  };
  for (const std::uint32_t offset : {0U, 1U, 16U, 23U, 24U, 40U, 55U, 56U, 57U, 0xFFFFFFF0U})
    for (const std::uint32_t next : {0U, 8U, 24U, 25U, 40U, 56U, 0xFFFFFFFFU}) {
      Hostile hostile{offset, next};
      const viommu_host_kernel table{
          sizeof(viommu_host_kernel), &hostile,
          [](void* opaque, std::int32_t, std::uint32_t request, std::uintptr_t argument) -> std::int32_t {
            const Hostile& values = *static_cast<const Hostile*>(opaque);
            if (request != 0x3B70) return request == 0x3B65 ? 1 : 0;
            auto* const words = reinterpret_cast<std::uint32_t*>(argument);  // NOLINT(performance-no-int-to-ptr)
            const std::uint32_t room = words[0];
            words[0] = 56;
            words[1] = 3;
            if (room < 56) return 0;
            words[4] = values.cap_offset;
            words[6] = 1;  // a list of ranges that claims to be endless
            words[7] = values.next;
            words[8] = 0xFFFFFFFF;
            return 0;
          }};
      viommu_vfio_container* container = nullptr;
      REQUIRE(viommu_vfio_container_create(&table, 3, nullptr, 0, &container) == VIOMMU_OK);
      viommu_vfio_information information{};
      information.size = sizeof information;
      CHECK(viommu_vfio_container_information(container, &information, nullptr, 0) == VIOMMU_OK);
      CHECK(information.range_count <= 7);
      viommu_vfio_container_destroy(container);
    }
}

TEST_CASE("facts of a container: width from its ranges, no kind and no capabilities", "[host][vfio][facts]") {
  Vfio vfio;
  viommu_host_facts facts{};
  facts.size = sizeof facts;
  REQUIRE(viommu_vfio_container_facts(vfio.container, &facts) == VIOMMU_OK);
  CHECK(facts.backend == VIOMMU_BACKEND_VFIO);
  CHECK(facts.kind == nullptr);
  CHECK(facts.capabilities == nullptr);
  std::uint32_t bits = 0;
  CHECK(facts.width(facts.opaque, &bits) == 0);
  CHECK(bits == 39);
  std::uint64_t sizes = 0;
  CHECK(facts.page_sizes(facts.opaque, &sizes) == 0);
  CHECK(sizes == 0x40201000);
  viommu_range range{};
  std::uint32_t count = 0;
  CHECK(facts.iova_ranges(facts.opaque, &range, 1, &count) == 0);
  CHECK(count == 2);
  CHECK(range.last == 0xFEDFFFFF);

  vfio.kernel->fails = [](std::uint32_t) { return -EIO; };
  CHECK(facts.width(facts.opaque, &bits) < 0);
  CHECK(facts.page_sizes(facts.opaque, &sizes) < 0);
  CHECK(facts.iova_ranges(facts.opaque, &range, 1, &count) < 0);
  CHECK(viommu_vfio_container_facts(vfio.container, &facts) == VIOMMU_E_REFUSED);

  FakeKernel old;
  old.capabilities = false;
  Vfio silent{old};
  REQUIRE(viommu_vfio_container_facts(silent.container, &facts) == VIOMMU_OK);
  CHECK(facts.width(facts.opaque, &bits) == 0);
  CHECK(bits == 64);
  CHECK(facts.iova_ranges == nullptr);
}

}  // namespace viommu::test
