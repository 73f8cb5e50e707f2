// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What each device sees, and how long what was replaced stays for who looks at it.
#include "engine/virtio_iommu/views.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/support/counting_allocator.hpp"

namespace viommu::virtio_iommu {
namespace {

using Kind = EndpointView::Kind;

constexpr SourceId pf{0x300};
constexpr SourceId vf{0x380};
constexpr std::array doorbell{ReservedRegion{{{0xFEE0'0000}, {0xFEEF'FFFF}}, ReservedMemoryKind::msi}};
constexpr std::array hole{ReservedRegion{{{0x8000'0000}, {0x8FFF'FFFF}}, ReservedMemoryKind::reserved}};

void name(Views& views, SourceId source, std::span<const ReservedRegion> reserved) {
  REQUIRE(views.prepare(source, reserved));
  views.name(source, {source.value});
}

}  // namespace

TEST_CASE("reserved memory that was replaced stays until a ticket from after that has passed",
          "[virtio-iommu][views][P2][P6]") {
  test::CountingAllocator memory;
  {
    Views views{memory.functions()};
    name(views, pf, doorbell);
    name(views, vf, doorbell);
    CHECK_FALSE(views.waiting());
    const std::size_t blocks = memory.open_blocks();
    const Views::Seen seen = views.of(pf);
    name(views, pf, hole);
    const std::size_t with_old = memory.open_blocks();
    CHECK(with_old > blocks);
    CHECK(views.waiting());
    // Who began before still looks at it, and no ticket says that nobody does.
    views.reclaim(1000);
    REQUIRE(memory.open_blocks() == with_old);
    views.seal(7);
    name(views, vf, hole);  // which that ticket knows nothing of
    const std::size_t with_both = memory.open_blocks();
    views.reclaim(6);
    REQUIRE(memory.open_blocks() == with_both);
    REQUIRE(seen.reserved.size() == 1);
    CHECK(seen.reserved[0] == doorbell[0]);
    views.reclaim(7);
    REQUIRE(memory.open_blocks() == with_old);
    CHECK(views.waiting());
    views.seal(8);
    views.reclaim(8);
    CHECK(memory.open_blocks() == blocks);
    CHECK_FALSE(views.waiting());
    CHECK(views.of(pf).reserved[0] == hole[0]);
    CHECK(views.of(vf).reserved[0] == hole[0]);
    name(views, pf, {});  // and what waits at the end goes with the rest
  }
  CHECK(memory.open_blocks() == 0);
  CHECK(memory.mistakes() == 0);
}

TEST_CASE("without memory for a device or its reserved memory nobody sees anything else", "[virtio-iommu][views]") {
  unsigned refused = 0;
  for (std::uint64_t k = 1;; ++k) {
    CAPTURE(k);
    test::CountingAllocator memory;
    Views views{memory.functions()};
    name(views, pf, doorbell);
    constexpr SourceId on_new_bus{0x580};
    memory.fail_at(k);
    const bool done = views.prepare(on_new_bus, hole);
    memory.fail_at(0);
    CHECK(views.of(on_new_bus).kind == Kind::unknown);
    CHECK(views.of(on_new_bus).reserved.empty());
    if (!done) {
      ++refused;
      REQUIRE(views.prepare(on_new_bus, hole));
    }
    views.name(on_new_bus, {on_new_bus.value});
    views.put(on_new_bus, {Kind::bypass, nullptr});
    CHECK(views.of(on_new_bus).kind == Kind::bypass);
    REQUIRE(views.of(on_new_bus).reserved.size() == 1);
    CHECK(views.of(on_new_bus).reserved[0] == hole[0]);
    CHECK(views.of(pf).reserved[0] == doorbell[0]);
    if (done) break;
  }
  CHECK(refused == 3);  // for the bus, for the list, for its regions
}

}  // namespace viommu::virtio_iommu
