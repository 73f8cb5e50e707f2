// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// MAP and UNMAP events as calls, the same rules for both backends.
#include <cerrno>
#include <string>

#include "tests/host/backends.hpp"

namespace viommu::test {

using Changes = std::vector<std::string>;

TEMPLATE_TEST_CASE("a mapping is what was asked for, with its rights, and goes as a whole", "[host][S1.20]", Vfio,
                   Iommufd) {
  TestType backend;
  CHECK(backend.apply({map(0x1000, 0x2000, 0x40000000), map(0x200000, 0x200000, 0x80000000, VIOMMU_READ),
                       map(0x3000, 0x1000, 0x50000000, VIOMMU_WRITE)}) == Statuses{0, 0, 0});
  const auto hva = [](std::uint64_t gpa) { return 0x7F0000000000 + gpa; };
  CHECK(backend.holds() == HeldMap{{0x1000, {0x1000, 0x2FFF, hva(0x40000000), 3}},
                                   {0x3000, {0x3000, 0x3FFF, hva(0x50000000), 2}},
                                   {0x200000, {0x200000, 0x3FFFFF, hva(0x80000000), 1}}});
  CHECK(backend.believes() == backend.holds());
  CHECK(backend.figures().mappings == 3);
  CHECK(backend.figures().mapped_bytes == 0x203000);
  CHECK(backend.figures().mapped_bytes == backend.kernel->pinned());
  CHECK(backend.apply({unmap(0x1000, 0x2FFF)}) == Statuses{0});
  CHECK(backend.holds().size() == 2);
  CHECK(backend.believes() == backend.holds());
}

TEMPLATE_TEST_CASE("what a MAP cannot be is told by its status, and the others are done", "[host][S1.20]", Vfio,
                   Iommufd) {
  TestType backend;
  viommu_event no_hva = map(0x1000, 0x1000, 0);
  no_hva.hva = nullptr;
  viommu_event backwards = map(0x5000, 0x1000, 0);
  backwards.last = 0x4000;
  viommu_event all = map(0, 0x1000, 0);
  all.last = top;
  viommu_event odd = map(0x9000, 0x1000, 0);
  odd.kind = 3;
  viommu_event device = map(0x9000, 0x1000, 0);
  device.kind = VIOMMU_EVENT_DEVICE_UNMAP;
  CHECK(backend.apply({no_hva, map(0x10000, 0x1000, 0x1000), map(0x2000, 0x1000, 0, VIOMMU_MMIO), backwards, all, odd,
                       device, map(0x20800, 0x1000, 0), map(0xFEE00000, 0x1000, 0), map(0x11000, 0x1000, 0x2000)}) ==
        Statuses{VIOMMU_E_ARGUMENT, 0, VIOMMU_E_ARGUMENT, VIOMMU_E_ARGUMENT, VIOMMU_E_RANGE, VIOMMU_E_ARGUMENT, 0,
                 VIOMMU_E_ARGUMENT, VIOMMU_E_ARGUMENT, 0});
  CHECK(backend.holds().size() == 2);
  CHECK(backend.believes() == backend.holds());
}

TEMPLATE_TEST_CASE("a MAP over anything that is mapped is refused, in each of its shapes", "[host][IFD-3]", Vfio,
                   Iommufd) {
  TestType backend;
  const bool ours = GENERATE(true, false);
  if (ours)
    REQUIRE(backend.apply({map(0x2000, 0x2000, 0x40000000)}) == Statuses{0});
  else
    backend.foreign(0x2000, 0x3FFF);
  const HeldMap before = backend.holds();
  CHECK(backend.apply({map(0x2000, 0x2000, 0x40000000), map(0x1000, 0x2000, 0), map(0x3000, 0x2000, 0),
                       map(0x1000, 0x4000, 0), map(0x3000, 0x1000, 0)}) == Statuses(5, VIOMMU_E_EXISTS));
  CHECK(backend.holds() == before);
  CHECK(backend.believes() == (ours ? before : HeldMap{}));
}

TEMPLATE_TEST_CASE("an UNMAP that cuts a mapping fails and takes nothing", "[host][IFD-3][IFD-4][IFD-12]", Vfio,
                   Iommufd) {
  TestType backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x4000, 0x4000, 0x10000)}) == Statuses{0, 0});
  const HeldMap before = backend.holds();
  CHECK(backend.apply({unmap(0x4000, 0x5FFF)}) == Statuses{VIOMMU_E_ARGUMENT});
  CHECK(backend.apply({unmap(0x6000, 0x9FFF)}) == Statuses{VIOMMU_E_ARGUMENT});
  CHECK(backend.apply({unmap(0x5000, 0x6FFF)}) == Statuses{VIOMMU_E_ARGUMENT});
  CHECK(backend.apply({unmap(0x0, 0x4FFF)}) == Statuses{VIOMMU_E_ARGUMENT});
  CHECK(backend.apply({unmap(0x9000, 0x8000)}) == Statuses{VIOMMU_E_ARGUMENT});
  CHECK(backend.holds() == before);
  CHECK(backend.believes() == before);
  CHECK(backend.kernel->changes.size() == 2);  // none of them went to the kernel
}

TEMPLATE_TEST_CASE("an UNMAP takes all whole mappings of its range in one call, and no more than those",
                   "[host][IFD-4]", Vfio, Iommufd) {
  TestType backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x4000, 0x2000, 0x10000), map(0x9000, 0x1000, 0),
                         map(0x20000, 0x1000, 0)}) == Statuses(4, 0));
  backend.kernel->changes.clear();
  CHECK(backend.apply({unmap(0, 0xFFFF)}) == Statuses{0});
  CHECK(backend.kernel->changes == Changes{"unmap 1000 9000"});
  CHECK(backend.holds().size() == 1);
  CHECK(backend.believes() == backend.holds());
}

TEMPLATE_TEST_CASE("an UNMAP of nothing succeeds", "[host][IFD-3]", Vfio, Iommufd) {
  TestType backend;
  CHECK(backend.apply({unmap(0x1000, 0x1FFF), unmap(top - 0xFFF, top)}) == Statuses{0, 0});
  CHECK(backend.apply({unmap(0, top)}) == Statuses{0});
  // What somebody else took away is gone as well.
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x5000, 0x1000, 0)}) == Statuses{0, 0});
  backend.kernel->fails = [](std::uint32_t) { return -ENOENT; };
  CHECK(backend.apply({unmap(0x1000, 0x1FFF)}) == Statuses{0});
  CHECK(backend.believes().size() == 1);
  backend.kernel->fails = nullptr;
}

TEMPLATE_TEST_CASE("UNMAPs that touch are one call, also where only both together cover a mapping", "[host]", Vfio,
                   Iommufd) {
  TestType backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x2000, 0x2000, 0x10000), map(0x4000, 0x1000, 0x20000),
                         map(0x6000, 0x1000, 0x20000)}) == Statuses(4, 0));
  backend.kernel->changes.clear();
  SECTION("touching") {
    CHECK(backend.apply({unmap(0x1000, 0x1FFF), unmap(0x2000, 0x2FFF), unmap(0x3000, 0x4FFF), unmap(0x6000, 0x6FFF)}) ==
          Statuses(4, 0));
    CHECK(backend.kernel->changes == Changes{"unmap 1000 4000", "unmap 6000 1000"});
    CHECK(backend.holds().empty());
  }
  SECTION("a MAP between them is done between them") {
    CHECK(backend.apply({unmap(0x1000, 0x1FFF), map(0x1000, 0x1000, 0x30000), unmap(0x2000, 0x3FFF)}) ==
          Statuses(3, 0));
    CHECK(backend.kernel->changes == Changes{"unmap 1000 1000", "map 1000 1000", "unmap 2000 2000"});
  }
  SECTION("the ones that cut a mapping fail, and take nothing of what they cover") {
    CHECK(backend.apply({unmap(0x1000, 0x1FFF), unmap(0x2000, 0x2FFF)}) == Statuses{0, VIOMMU_E_ARGUMENT});
    CHECK(backend.apply({unmap(0x3000, 0x4FFF), unmap(0x5000, 0x6FFF)}) == Statuses{VIOMMU_E_ARGUMENT, 0});
    CHECK(backend.kernel->changes == Changes{"unmap 1000 1000", "unmap 6000 1000"});
    CHECK(backend.holds().size() == 2);
  }
  CHECK(backend.believes() == backend.holds());
}

TEMPLATE_TEST_CASE("where a call for many fails each is asked for alone, and each has its own status",
                   "[host][S1.20][SEC-15]", Vfio, Iommufd) {
  TestType backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x2000, 0x1000, 0), map(0x3000, 0x1000, 0)}) == Statuses(3, 0));
  int call = 0;
  backend.kernel->fails = [&call](std::uint32_t) {
    ++call;
    return call == 1 || call == 3 ? -EIO : 0;  // all of them, and the second of the three
  };
  CHECK(backend.apply({unmap(0x1000, 0x1FFF), unmap(0x2000, 0x2FFF), unmap(0x3000, 0x3FFF)}) ==
        Statuses{0, VIOMMU_E_REFUSED, 0});
  CHECK(backend.holds().size() == 1);
  CHECK(backend.believes() == backend.holds());
  CHECK(backend.figures().last_error == EIO);
  CHECK(backend.figures().failures == 2);
  backend.kernel->fails = nullptr;
  CHECK(backend.apply({unmap(0x2000, 0x2FFF)}) == Statuses{0});
  CHECK(backend.holds().empty());
}

TEMPLATE_TEST_CASE("a foreign mapping that an UNMAP would cut is left alone, and keeps none of ours", "[host][IFD-4]",
                   Vfio, Iommufd) {
  TestType backend;
  REQUIRE(backend.apply({map(0x1000, 0x1000, 0), map(0x3000, 0x1000, 0)}) == Statuses{0, 0});
  backend.foreign(0x4000, 0x5FFF);
  CHECK(backend.apply({unmap(0, 0x4FFF)}) == Statuses{0});
  CHECK(backend.holds().size() == 1);
  CHECK(backend.figures().failures == 0);  // nor was it asked for
  CHECK(backend.believes().empty());
}

TEMPLATE_TEST_CASE("a MAP that is busy is tried once more after an unmap", "[host]", Vfio, Iommufd) {
  TestType backend;
  backend.kernel->busy_once = {0x1000};
  CHECK(backend.apply({map(0x1000, 0x1000, 0)}) == Statuses{0});
  CHECK(backend.holds().size() == 1);
  CHECK(backend.believes() == backend.holds());
  unsigned maps = 0;
  backend.kernel->fails = [&maps](std::uint32_t request) {
    const bool is_map = request == 0x3B71 || request == 0x3B85;
    if (is_map) ++maps;
    return is_map ? -EBUSY : 0;
  };
  CHECK(backend.apply({map(0x2000, 0x1000, 0)}) == Statuses{VIOMMU_E_BUSY});
  CHECK(maps == 2);
  CHECK(backend.believes() == backend.holds());
}

TEMPLATE_TEST_CASE("all of 2^64 is unmapped, and a range that ends at the last address", "[host][B53]", Vfio, Iommufd) {
  TestType backend;
  backend.kernel->ranges = {};
  const std::uint64_t half = std::uint64_t{1} << 63;
  REQUIRE(backend.apply({map(0, 0x1000, 0), map(half - 0x1000, 0x1000, 0), map(half, 0x1000, 0),
                         map(top - 0xFFF, 0x1000, 0)}) == Statuses(4, 0));
  backend.foreign(0x5000, 0x5FFF);
  SECTION("in one event") {
    CHECK(backend.apply({unmap(0, top)}) == Statuses{0});
    CHECK(backend.holds().empty());
  }
  SECTION("in two events that touch") {
    CHECK(backend.apply({unmap(0, half - 1), unmap(half, top)}) == Statuses{0, 0});
    CHECK(backend.holds().empty());
  }
  SECTION("up to the last address") {
    CHECK(backend.apply({unmap(half, top)}) == Statuses{0});
    CHECK(backend.holds().size() == 3);
    CHECK(backend.apply({unmap(0x6000, top)}) == Statuses{0});
    CHECK(backend.holds().size() == 2);
  }
  SECTION("where the kernel refuses it, one by one") {
    bool first = true;
    backend.kernel->fails = [&first](std::uint32_t) { return std::exchange(first, false) ? -EINVAL : 0; };
    CHECK(backend.apply({unmap(0, top)}) == Statuses{0});
    CHECK(backend.believes().empty());
  }
  HeldMap held = backend.holds();
  held.erase(0x5000);
  CHECK(backend.believes() == held);
}

TEST_CASE("a container without the extension is emptied in two halves, one of them in one call",
          "[host][B53][IFD-12]") {
  const std::uint64_t half = std::uint64_t{1} << 63;
  FakeKernel old;
  old.ranges = {};
  old.unmap_all = GENERATE(true, false);
  Vfio vfio{old};
  const bool across = GENERATE(false, true);
  REQUIRE(vfio.apply({map(0x1000, 0x1000, 0), map(half + 0x1000, 0x1000, 0)}) == Statuses{0, 0});
  if (across) REQUIRE(vfio.apply({map(half - 0x1000, 0x2000, 0)}) == Statuses{0});
  vfio.kernel->changes.clear();
  CHECK(vfio.apply({unmap(0, top)}) == Statuses{0});
  CHECK(vfio.holds().empty());
  CHECK(vfio.believes().empty());
  if (old.unmap_all)
    CHECK(vfio.kernel->changes == Changes{"all 0 0"});
  else if (!across)
    CHECK(vfio.kernel->changes == Changes{"unmap 0 8000000000000000", "unmap 8000000000000000 8000000000000000"});
}

TEST_CASE("two events of a half each that together hold a mapping across the middle take it", "[host][B53]") {
  const std::uint64_t half = std::uint64_t{1} << 63;
  FakeKernel old;
  old.ranges = {};
  old.unmap_all = false;
  Vfio vfio{old};
  REQUIRE(vfio.apply({map(half - 0x1000, 0x2000, 0)}) == Statuses{0});
  CHECK(vfio.apply({unmap(0, half - 1), unmap(half, top)}) == Statuses{0, 0});
  CHECK(vfio.holds().empty());
}

TEST_CASE("a container that is full says so, and goes on when there is room", "[host][B59][S1.20]") {
  FakeKernel small;
  small.entry_limit = 4;
  Vfio vfio{small};
  std::vector<viommu_event> events;
  events.reserve(6);
  for (std::uint64_t page = 0; page < 6; ++page) events.push_back(map(page * 0x1000, 0x1000, page * 0x10000));
  CHECK(vfio.apply(events) == Statuses{0, 0, 0, 0, VIOMMU_E_LIMIT, VIOMMU_E_LIMIT});
  CHECK(vfio.believes() == vfio.holds());
  CHECK(vfio.figures().last_error == ENOSPC);
  CHECK(vfio.apply({unmap(0, 0xFFF), map(0x4000, 0x1000, 0x40000)}) == Statuses{0, 0});
  CHECK(vfio.believes() == vfio.holds());
}

TEMPLATE_TEST_CASE("memory that cannot be pinned is told, and nothing is remembered of it", "[host][B59][S1.20]", Vfio,
                   Iommufd) {
  FakeKernel poor;
  poor.locked_limit = 0x3000;
  TestType backend{poor};
  CHECK(backend.apply({map(0, 0x2000, 0), map(0x10000, 0x2000, 0), map(0x20000, 0x1000, 0)}) ==
        Statuses{0, VIOMMU_E_MEMORY, 0});
  CHECK(backend.believes() == backend.holds());
  CHECK(backend.figures().mapped_bytes == 0x3000);
}

TEMPLATE_TEST_CASE("whichever call fails, what is remembered is what the kernel holds", "[host][S1.20][SEC-15]", Vfio,
                   Iommufd) {
  const int error = GENERATE(-EINVAL, -ENOMEM, -EBUSY, -EIO);
  const bool logs = GENERATE(false, true);
  for (unsigned every = 1; every <= 7; ++every)
    for (unsigned first = 1; first <= every; ++first) {
      TestType backend;
      Dirt dirt;
      if (logs) REQUIRE(backend.log(&dirt.sink) == VIOMMU_OK);
      unsigned call = 0;
      backend.kernel->fails = [&call, every, first, error](std::uint32_t) {
        return ++call % every == first % every ? error : 0;
      };
      std::uint64_t random = every * 64 + first;
      for (unsigned round = 0; round < 60; ++round) {
        std::vector<viommu_event> events;
        for (unsigned i = 0; i < 4; ++i) {
          random = random * 6364136223846793005U + 1442695040888963407U;
          const std::uint64_t at = (random >> 40) % 24 * 0x1000;
          const std::uint64_t pages = 1 + (random >> 33) % 4;
          if ((random >> 60) % 2 == 0)
            events.push_back(map(at, pages * 0x1000, 0x100000 + at));
          else
            events.push_back(unmap(at, (random >> 50) % 16 == 0 ? top : at + pages * 0x1000 - 1));
          if (round % 20 == 19 && i == 3) events.push_back(unmap(0, top));
        }
        const HeldMap before = backend.holds();
        const Statuses statuses = backend.apply(events);
        CAPTURE(error, logs, every, first, round);
        REQUIRE(backend.believes() == backend.holds());
        REQUIRE(backend.figures().mapped_bytes == backend.kernel->pinned());
        // A status says what became of its event, as far as no later one has changed that.
        if (statuses.back() == 0 && events.back().kind == VIOMMU_EVENT_MAP)
          REQUIRE(backend.holds().contains(events.back().iova));
        if (statuses.back() == 0 && events.back().kind == VIOMMU_EVENT_UNMAP)
          for (const auto& [at, held] : backend.holds())
            REQUIRE((held.last < events.back().iova || held.first > events.back().last));
      }
      backend.kernel->fails = nullptr;
      CHECK(backend.apply({unmap(0, top)}) == Statuses{0});
      CHECK(backend.holds().empty());
      CHECK(backend.believes().empty());
    }
}

}  // namespace viommu::test
