// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Host address spaces beside consumers that have their own.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/consumer/kept_world.hpp"
#include "tests/consumer/model_sink.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

using Events = std::vector<Seen>;
using Extents = std::vector<Extent>;
constexpr std::uint16_t device = 0x0300;
constexpr std::uint16_t other = 0x0308;
constexpr std::uint16_t third = 0x0310;
constexpr std::uint64_t iova = 2 * gib_1;

/// Two of one space, in domain 1.
struct Sharers : KeptWorld {
  explicit Sharers(std::size_t subscriptions = 16, bool in_place = false) : KeptWorld{subscriptions, in_place} {
    for (const std::uint16_t source : {device, other}) attach(source, 1);
    for (MirrorModel* const model : {&a, &b}) model->share(host);
    join(device, a);
    join(other, b);
    REQUIRE(a.attached == b.attached);
  }
  SpaceHost host;
  MirrorModel a;
  MirrorModel b;
};

/// Devices that see guest memory as it is, and a host that has memory for what is small only, when `dry`.
struct DryWorld {
  explicit DryWorld(std::size_t subscriptions) {
    REQUIRE(waist.add(ram_base, gib_1) == core::RegionResult::ok);
    REQUIRE(consumers.reset(subscriptions) == consumer::Result::ok);
    // There is nobody who would have to be told of the region.
    static_cast<void>(consumers.regions_told());
  }
  DryWorld(const DryWorld&) = delete;
  DryWorld& operator=(const DryWorld&) = delete;

  void come(MirrorModel& model) {
    REQUIRE(consumers.add_device({device}, false) == consumer::Result::ok);
    consumer::Subscription wanted;
    wanted.sink = consumer::sink_of(model);
    wanted.declared = consumer::declared_by(model.consumer.declares);
    wanted.quota = 1000;
    REQUIRE(consumers.subscribe({device}, wanted, model.id) == consumer::Result::ok);
    REQUIRE(consumers.replay(model.id) == consumer::Result::ok);
  }

  bool dry = false;
  TestWaist waist;
  core::HostFunctions functions = host_functions();
  core::Host host{functions};
  consumer::Consumers consumers{waist.waist, host, front_end()};

 private:
  [[nodiscard]] core::HostFunctions host_functions() {
    core::HostFunctions all;
    all.allocator.opaque = this;
    all.allocator.allocate = [](void* self, std::size_t size, std::size_t alignment) -> void* {
      constexpr std::size_t small = 0x2000;
      if (static_cast<DryWorld*>(self)->dry && size > small) return nullptr;
      return HostAllocator{}.get(size, alignment);
    };
    all.allocator.deallocate = [](void*, void* memory, std::size_t size, std::size_t alignment) {
      HostAllocator{}.put(memory, size, alignment);
    };
    return all;
  }
  [[nodiscard]] static consumer::FrontEnd front_end() {
    consumer::FrontEnd front_end;
    front_end.content_of = [](void*, SourceId) noexcept { return consumer::Content{consumer::View::system, {}}; };
    return front_end;
  }
};

}  // namespace

TEST_CASE("a device shares only where its own consumer does, whoever else shares", "[consumer][S3.7]") {
  KeptWorld world;
  SpaceHost host;
  MirrorModel alone;
  MirrorModel sharing;
  sharing.share(host);
  world.attach(device, 1);
  world.attach(other, 1);
  world.join(device, alone);
  world.join(other, sharing);
  CHECK_FALSE(world.consumers.has_sharer({device}));
  CHECK(world.consumers.has_sharer({other}));
  CHECK_FALSE(world.consumers.has_sharer({third}));
  REQUIRE(world.consumers.unsubscribe(sharing.id) == consumer::Result::ok);
  CHECK_FALSE(world.consumers.has_sharer({other}));
}

TEST_CASE("a space's memory counts as pinned for the device whose consumer is told of it, and for no other",
          "[consumer][S3.7]") {
  KeptWorld world;
  SpaceHost host;
  MirrorModel alone;
  MirrorModel told;
  MirrorModel beside;
  told.share(host);
  beside.share(host);
  for (const std::uint16_t source : {device, other, third}) world.attach(source, 1);
  world.join(device, alone);
  world.join(other, told);
  world.join(third, beside);
  REQUIRE(world.map(1, iova, page_4k, ram_base));
  for (const std::uint16_t source : {device, other, third}) CHECK(world.consumers.bytes_of({source}).mapped == page_4k);
  CHECK(world.consumers.bytes_of({device}).pinned == page_4k);
  CHECK(world.consumers.bytes_of({other}).pinned == page_4k);
  CHECK(world.consumers.bytes_of({third}).pinned == 0);
  CHECK(world.consumers.pinned_bytes() == 2 * page_4k);
  CHECK(told.attached == beside.attached);
}

TEST_CASE(
    "a consumer that shares is told nothing after it has been unsubscribed, and the last one takes the space along",
    "[consumer][consumers]") {
  Sharers world;
  REQUIRE(world.map(1, iova, page_4k, ram_base));
  unsigned told_a = 0;
  unsigned told_b = 0;
  world.a.on_event = [&] { ++told_a; };
  world.b.on_event = [&] { ++told_b; };
  CHECK(world.consumers.unsubscribe(world.a.id) == consumer::Result::ok);
  CHECK(world.map(1, iova + page_4k, page_4k, ram_base + page_4k));
  CHECK(told_a == 0);
  CHECK(told_b == 1);
  CHECK(world.b.extents() == Extents{{iova, 2 * page_4k, ram_base, 3}});
  CHECK(world.consumers.bytes_of({other}).pinned == 2 * page_4k);
  CHECK(world.consumers.bytes_of({device}).mapped == 0);
  // Nothing is withdrawn: the space goes with all that is in it.
  CHECK(world.consumers.unsubscribe(world.b.id) == consumer::Result::ok);
  CHECK(told_b == 2);
  CHECK(world.host.spaces.empty());
  CHECK(world.consumers.pinned_bytes() == 0);
  CHECK(world.map(1, iova + gib_1, page_4k, ram_base));
  CHECK(told_a + told_b == 2);
  CHECK(world.host.wrong.empty());
}

TEST_CASE("devices that share a host address space are told once, and refuse once",
          "[consumer][mappings][S3.7][S3.11]") {
  Sharers world;
  MirrorModel& space = *world.host.spaces.at(world.a.attached);
  CHECK(world.map(1, iova, page_4k, ram_base));
  CHECK(space.take_seen() == Events{mapped(iova, page_4k, ram_base)});
  world.a.fails = world.b.fails = [](const viommu_event& event) { return event.iova == iova + mib_2; };
  CHECK_FALSE(world.map(1, iova + mib_2 - page_4k, 2 * page_4k, ram_base + page_4k));
  CHECK(world.restored);
  SECTION("fault") {
    world.a.fails = world.b.fails = nullptr;
    CHECK(space.extents() == Extents{{iova, page_4k, ram_base, 3}});
  }
  SECTION("one goes elsewhere: the other notices nothing") {
    world.a.fails = world.b.fails = nullptr;
    space.take_seen();
    world.store.map(2, iova, page_4k, ram_base + mib_2);
    world.attach(other, 2);
    CHECK(space.take_seen().empty());
    CHECK(world.b.attached != world.a.attached);
    CHECK(world.b.extents() == Extents{{iova, page_4k, ram_base + mib_2, 3}});
    CHECK(world.map(2, iova + page_4k, page_4k, ram_base));
    CHECK(space.take_seen().empty());
    CHECK(world.unmap(1, iova, iova + page_4k - 1));
    CHECK(space.take_seen() == Events{unmapped(iova, page_4k)});
  }
  CHECK(world.host.wrong.empty());
  CHECK(space.wrong.empty());
}

TEST_CASE("a device that comes has a space although the host had no memory when those before were to be emptied",
          "[consumer][S3.7][SEC-15]") {
  constexpr std::size_t subscriptions = 1;
  constexpr std::size_t spaces = 3;  // for each subscription
  SpaceHost host;
  MirrorModel model;
  model.share(host);
  DryWorld world{subscriptions};
  for (std::size_t i = 0; i < spaces; ++i) {
    world.come(model);
    world.dry = true;
    world.consumers.remove_device({device});
    world.dry = false;
  }
  world.come(model);
  CHECK(model.extents() == std::vector{Extent{ram_base, gib_1, ram_base, 3}});
  CHECK(host.spaces.size() == 1);
  CHECK(host.wrong.empty());
  world.consumers.finish();
  CHECK(host.spaces.size() == 1);
  CHECK(world.consumers.pinned_bytes() == gib_1);
}

TEST_CASE("who moves on from spaces that take long to empty has one in the end", "[consumer][S3.7]") {
  constexpr std::uint64_t subscriptions = 2;
  constexpr std::uint64_t tables = 5000;  // more than a slice
  Sharers world{subscriptions, true};
  std::size_t most = 0;
  const auto move_to = [&](std::uint16_t domain) {
    for (const std::uint16_t source : {device, other}) {
      world.contents[source] = KeptWorld::content(domain);
      REQUIRE(world.consumers.add_device({source}, false) == consumer::Result::ok);
      most = std::max(most, world.host.spaces.size());
    }
  };
  std::uint16_t domain = 1;
  for (unsigned turn = 0; turn < 12; ++turn) {
    for (std::uint64_t i = 0; i < tables; ++i) world.store.map(domain, i * mib_2, page_4k, ram_base + i * page_4k);
    REQUIRE(world.consumers.mappings_changed({domain}, all_iovas, false));
    REQUIRE(world.a.extents().size() == tables);
    move_to(++domain);
  }
  CHECK(most == 3 * subscriptions);
  world.settle();
  CHECK(world.host.spaces.size() == 1);
  CHECK(world.host.wrong.empty());
  REQUIRE(world.map(domain, iova, page_4k, ram_base));
  for (const MirrorModel* const model : {&world.a, &world.b})
    CHECK(model->extents() == std::vector{Extent{iova, page_4k, ram_base, 3}});
}

TEST_CASE("memory at its own addresses goes back although the host has none of its own", "[consumer][SEC-15]") {
  SpaceHost host;
  MirrorModel model;
  const bool shares = GENERATE(true, false);
  CAPTURE(shares);
  if (shares) model.share(host);
  DryWorld world{1};
  world.come(model);
  REQUIRE(model.extents().size() == 1);
  world.dry = true;
  world.consumers.remove_device({device});
  CHECK((shares ? host.spaces.empty() : model.extents().empty()));
  CHECK(world.consumers.pinned_bytes() == 0);
  CHECK_FALSE(world.consumers.busy());

  // Nobody is told anything of it later.
  bool told = false;
  model.on_event = [&] { told = true; };
  world.dry = false;
  CHECK(world.consumers.advance());
  CHECK_FALSE(told);
  CHECK(model.reports.empty());
}

TEST_CASE("who cannot have memory at its own addresses for want of the host's gives up once", "[consumer][SEC-15]") {
  SpaceHost host;
  MirrorModel model;
  const bool shares = GENERATE(true, false);
  CAPTURE(shares);
  if (shares) model.share(host);
  DryWorld world{1};
  world.dry = true;
  world.come(model);
  world.consumers.finish();
  CHECK(model.extents().empty());
  CHECK(model.reports.size() == 1);
  world.dry = false;
  world.consumers.mode_changed();
  world.consumers.finish();
  CHECK(model.reports.size() == 1);
}

}  // namespace viommu::test
