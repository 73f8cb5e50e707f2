// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices and who mirrors them, without the queue of a unit around: what is said of a device, when, and to whom.
#include "engine/consumer/consumers.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "tests/consumer/kept_world.hpp"
#include "tests/support/fenced_allocator.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

using Extents = std::vector<Extent>;
using Views = std::vector<std::pair<std::uint16_t, std::uint32_t>>;
constexpr std::uint16_t device_a = 0x0300;
constexpr std::uint16_t device_b = 0x0380;
constexpr std::uint16_t device_c = 0x0400;
constexpr std::uint64_t iova = 2 * gib_1;

[[nodiscard]] caches::Scope scope_of_kind(caches::Scope::Kind kind) {
  caches::Scope scope;
  scope.kind = kind;
  return scope;
}

/// All of a domain is invalidated, as a queue says it.
void drop_pages(consumer::Consumers& consumers, std::uint16_t domain) {
  const caches::PageScope pages{all_iovas, {domain}};
  consumers.pages_dropped({&pages, 1});
}

/// Writes down what views the host is told of from now on.
void watch_views(KeptWorld& world, Views& views) {
  world.waist.host.on_view = [&views](std::uint16_t source, std::uint32_t view) { views.emplace_back(source, view); };
}

/// Consumers with a host of the test's own: an executor, or another allocator.
struct OwnHost {
  explicit OwnHost(const HostAllocator& allocator = {}) : host{functions(allocator)} {
    REQUIRE(consumers.reset(4) == consumer::Result::ok);
    REQUIRE(waist.add(ram_base, 4 * gib_1) == core::RegionResult::ok);
    static_cast<void>(consumers.regions_told());
  }
  OwnHost(const OwnHost&) = delete;
  OwnHost& operator=(const OwnHost&) = delete;

  void attach(std::uint16_t source, std::uint16_t domain) {
    contents[source] = KeptWorld::content(domain);
    REQUIRE(consumers.add_device({source}, false) == consumer::Result::ok);
  }
  void join(std::uint16_t source, MirrorModel& model) {
    consumer::Subscription wanted;
    wanted.sink = consumer::sink_of(model);
    wanted.declared = consumer::declared_by(model.consumer.declares);
    wanted.quota = 1 << 20;
    REQUIRE(consumers.subscribe({source}, wanted, model.id) == consumer::Result::ok);
    REQUIRE(consumers.replay(model.id) == consumer::Result::ok);
    consumers.finish();
  }

  std::vector<std::uint32_t> rounds;  ///< tasks that the executor was given, in each call
  FakeStore store;
  TestWaist waist;
  std::map<std::uint16_t, consumer::Content> contents;  ///< by source
  core::Host host;
  consumer::Consumers consumers{waist.waist, host, front_end()};

 private:
  [[nodiscard]] core::HostFunctions functions(const HostAllocator& allocator) {
    core::HostFunctions functions;
    functions.opaque = this;
    functions.allocator = allocator;
    functions.execute = [](void* self, std::uint32_t count, void (*task)(void* context, std::uint32_t index),
                           void* context) {
      static_cast<OwnHost*>(self)->rounds.push_back(count);
      for (std::uint32_t i = count; i > 0; --i) task(context, i - 1);
    };
    return functions;
  }
  [[nodiscard]] consumer::FrontEnd front_end() {
    consumer::FrontEnd front_end;
    front_end.opaque = this;
    front_end.content_of = [](void* self, SourceId source) noexcept {
      return static_cast<OwnHost*>(self)->contents.at(source.value);
    };
    front_end.last_address = {low_bits(48)};
    front_end.store = store.functions();
    return front_end;
  }
};

}  // namespace

TEST_CASE("consumers of one domain are one task, and those of different domains run side by side",
          "[consumer][consumers]") {
  OwnHost world;
  MirrorModel a;
  MirrorModel b;
  MirrorModel c;
  world.attach(device_a, 1);
  world.attach(device_b, 1);
  world.attach(device_c, 2);
  world.join(device_a, a);
  world.join(device_b, b);
  const Extent of_1{iova, page_4k, ram_base, 3};
  world.store.map(1, iova, page_4k, ram_base);
  world.rounds.clear();
  SECTION("one domain: nobody else works on its tables, and no executor is asked") {
    world.consumers.dropped(scope_of_kind(caches::Scope::Kind::translations));
    CHECK(world.rounds.empty());
  }
  SECTION("two domains") {
    world.join(device_c, c);
    world.rounds.clear();
    world.store.map(2, iova, page_4k, ram_base + mib_2);
    world.consumers.dropped(scope_of_kind(caches::Scope::Kind::translations));
    CHECK(world.rounds == std::vector<std::uint32_t>{2});
    CHECK(c.extents() == Extents{{iova, page_4k, ram_base + mib_2, 3}});
  }
  CHECK(a.extents() == Extents{of_1});
  CHECK(b.extents() == Extents{of_1});
  CHECK_FALSE(world.consumers.busy());
}

TEST_CASE("with as many devices as there is room for, nothing is looked at behind them", "[consumer][consumers]") {
  FencedAllocator fenced;
  OwnHost world{fenced.functions()};
  MirrorModel model;
  constexpr unsigned many = 32;  // 16 at first, and twice as many when these are taken
  for (unsigned i = 0; i < many; ++i) {
    const auto source = static_cast<std::uint16_t>(device_a + i);
    world.attach(source, 1);
    if (i == 0) world.join(source, model);
    if (i + 1 != many / 2 && i + 1 != many) continue;
    const std::uint64_t at = iova + i * page_4k;
    world.store.map(1, at, page_4k, ram_base);
    using Kind = caches::Scope::Kind;
    for (const Kind kind : {Kind::everything, Kind::translations, Kind::contexts, Kind::source_contexts, Kind::pasid})
      world.consumers.dropped(scope_of_kind(kind));
    drop_pages(world.consumers, 1);
    CHECK(model.holds_any(at, at + page_4k - 1));
    CHECK(world.consumers.mappings_changed({1}, {{at}, {at + page_4k - 1}}, false));
    world.consumers.mode_changed();
    world.consumers.context_seen();
    CHECK(world.consumers.advance());
    // Other memory: then everybody looks at all that is mapped.
    REQUIRE(world.waist.add(8 * gib_1 + i * page_4k, page_4k) == core::RegionResult::ok);
    static_cast<void>(world.consumers.regions_told());
    CHECK_FALSE(world.consumers.busy());
    CHECK(world.consumers.renumber(0x05, 0x06) == consumer::Result::ok);
    CHECK(world.consumers.view({source}) == consumer::View::translated);
    CHECK_FALSE(world.consumers.view({device_c}).has_value());
    CHECK(model.holds_any(at, at + page_4k - 1));
  }
}

TEST_CASE("an invalidation of pages brings the figures and the view of a device up to date", "[consumer][consumers]") {
  KeptWorld world;
  MirrorModel a;
  MirrorModel b;
  world.attach(device_a, 1);
  world.attach(device_b, 1);
  world.join(device_a, a);
  world.join(device_b, b, 0, 2);
  Views views;
  watch_views(world, views);
  for (std::uint64_t i = 0; i < 3; ++i) world.store.map(1, iova + 2 * i * page_4k, page_4k, ram_base);
  drop_pages(world.consumers, 1);
  CHECK(world.consumers.bytes_of({device_a}).mapped == 3 * page_4k);
  CHECK(world.consumers.bytes_of({device_a}).pinned == 3 * page_4k);
  // Its consumer can hold two.
  CHECK(world.consumers.bytes_of({device_b}).mapped == 0);
  CHECK(world.consumers.view({device_b}) == consumer::View::blocked);
  CHECK(views == Views{{device_b, VIOMMU_VIEW_BLOCKED}});
  world.store.unmap(1, iova, iova + page_4k - 1);
  drop_pages(world.consumers, 1);
  CHECK(world.consumers.bytes_of({device_a}).mapped == 2 * page_4k);
}

TEST_CASE("of a device that was removed nothing is said any more", "[consumer][consumers]") {
  KeptWorld world;
  for (std::uint64_t i = 0; i < 8; ++i) world.store.map(1, iova + 2 * i * page_4k, page_4k, ram_base);
  MirrorModel a;
  MirrorModel b;
  world.attach(device_a, 1);
  world.attach(device_b, 1);
  world.join(device_a, a);
  world.join(device_b, b, 0, 4);
  // Its consumer could not hold its domain, so it is in one and blocked.
  REQUIRE(world.consumers.view({device_b}) == consumer::View::blocked);
  Views views;
  watch_views(world, views);
  world.consumers.remove_device({device_b});
  world.store.map(1, iova + mib_2, page_4k, ram_base);
  SECTION("pages are invalidated") { drop_pages(world.consumers, 1); }
  SECTION("all translations are") { world.consumers.dropped(scope_of_kind(caches::Scope::Kind::translations)); }
  SECTION("a mapping comes") {
    CHECK(world.consumers.mappings_changed({1}, {{iova + mib_2}, {iova + mib_2 + page_4k - 1}}, false));
  }
  SECTION("the unit is another one") { world.consumers.mode_changed(); }
  world.consumers.finish();
  CHECK(views.empty());
  CHECK_FALSE(world.consumers.view({device_b}).has_value());
  CHECK(world.consumers.bytes_of({device_a}).mapped == 9 * page_4k);
}

TEST_CASE("a context that nobody had announced wakes the host once until it is looked at, where a device is known",
          "[consumer][consumers]") {
  KeptWorld world;
  world.consumers.context_seen();
  CHECK(world.waist.host.wakes == 0);
  world.attach(device_a, 1);
  world.consumers.context_seen();
  world.consumers.context_seen();
  CHECK(world.waist.host.wakes == 1);
  CHECK(world.consumers.advance());
  world.consumers.context_seen();
  CHECK(world.waist.host.wakes == 2);
}

}  // namespace viommu::test
