// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which endpoint is in which domain, and what requests do to that: answers, and that a refused one changes nothing.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/virtio_iommu/domains.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"

namespace viommu::virtio_iommu {
namespace {

using Kind = EndpointView::Kind;
using Outcome = Domains::Outcome;

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t mib2 = 0x20'0000;
constexpr std::uint64_t top = ~std::uint64_t{0};
constexpr std::uint32_t pf = 0x300;
constexpr std::uint32_t vf = 0x380;

constexpr ConfigValues usual_values{.page_size_mask = ~(page - 1),
                                    .input = {{0}, {low_bits(48)}},
                                    .domains = {{0}, {100}},
                                    .probe_size = 512,
                                    .bypass = false};

/// A device without queues: requests go in as they are decoded.
class World {
 public:
  explicit World(const ConfigValues& values = usual_values, Domains::Limits limits = {8, 4, {1 << 16, 1 << 24}})
      : config{values}, domains{memory.functions(), config, limits, listener()} {
    REQUIRE(domains.reset(77));
  }
  Status attach(std::uint32_t domain, std::uint32_t endpoint, bool bypass = false) {
    const Attach request{{domain}, {endpoint}, bypass};
    Outcome outcome = domains.attach(request);
    if (outcome.later) {
      drain();
      outcome = domains.attach(request);
    }
    CHECK_FALSE(outcome.later);
    return outcome.status;
  }
  Status detach(std::uint32_t domain, std::uint32_t endpoint) { return domains.detach({{domain}, {endpoint}}).status; }
  Status map(std::uint32_t domain, std::uint64_t first, std::uint64_t last, std::uint64_t to) {
    return domains.map({{domain}, {first}, {last}, {to}, read_write}).status;
  }
  Status unmap(std::uint32_t domain, std::uint64_t first, std::uint64_t last) {
    Outcome outcome = domains.unmap({{domain}, {first}, {last}}, 2);
    for (unsigned slices = 0; outcome.later && slices < 1000; ++slices)
      outcome = domains.unmap({{domain}, {first}, {last}}, 2);
    CHECK_FALSE(outcome.later);
    return outcome.status;
  }
  void add(std::uint32_t endpoint, std::vector<ReservedRegion> reserved = {}) {
    REQUIRE(domains.add_endpoint({{endpoint}, {}}, reserved) == Domains::Added::ok);
  }
  /// Guards of all readers have ended.
  void drain() {
    domains.seal(++ticket_);
    while (domains.reclaim(ticket_, 100)) {
    }
  }
  [[nodiscard]] std::optional<std::uint64_t> translate(std::uint32_t endpoint, std::uint64_t iova) const {
    const EndpointView view = domains.view({endpoint});
    if (view.kind == Kind::bypass) return iova;
    if (view.kind != Kind::translated) return std::nullopt;
    const auto found = view.domain->mappings.find({iova});
    if (!found) return std::nullopt;
    return found->gpa.value + (iova - found->range.first.value);
  }
  [[nodiscard]] Kind kind(std::uint32_t endpoint) const { return domains.view({endpoint}).kind; }

  test::CountingAllocator memory;
  ConfigSpace config;
  std::vector<std::string> told;
  bool takes = true;  // the listener
  bool gives = true;
  Domains domains;

 private:
  DomainListener listener() {
    return {this,
            [](void* self, EndpointName endpoint, const EndpointView&, const EndpointView& now) {
              static_cast<World*>(self)->told.push_back("moved " + std::to_string(endpoint.id.value) + " " +
                                                        std::to_string(static_cast<int>(now.kind)));
            },
            [](void* self, const Domain& domain, const Mapping& mapping) {
              static_cast<World*>(self)->told.push_back("mapped " + std::to_string(domain.id().value) + " " +
                                                        std::to_string(mapping.range.first.value));
              return static_cast<World*>(self)->takes;
            },
            [](void* self, const Domain&, IovaRange range) {
              static_cast<World*>(self)->told.push_back("unmapping " + std::to_string(range.first.value));
              return static_cast<World*>(self)->gives;
            }};
  }
  std::uint64_t ticket_ = 0;
};

}  // namespace

TEST_CASE("a domain is there while an endpoint is in it, and begins blank", "[virtio-iommu][S3.1][S3.3]") {
  World world;
  world.add(pf);
  CHECK(world.map(1, 0, mib2 - 1, 0x4000'0000) == Status::no_entry);
  CHECK(world.attach(1, pf) == Status::ok);
  CHECK(world.map(1, 0, mib2 - 1, 0x4000'0000) == Status::ok);
  CHECK(world.translate(pf, 0x1234) == 0x4000'1234);
  CHECK(world.detach(3, pf) == Status::invalid);
  CHECK(world.detach(101, pf) == Status::range);
  CHECK(world.translate(pf, 0x1234) == 0x4000'1234);
  CHECK(world.detach(1, pf) == Status::ok);
  CHECK(world.kind(pf) == Kind::detached);
  CHECK(world.domains.domains() == 0);
  CHECK(world.detach(1, pf) == Status::invalid);
  CHECK(world.detach(1, vf) == Status::no_entry);
  CHECK(world.attach(1, pf) == Status::ok);
  CHECK_FALSE(world.translate(pf, 0x1234));
  CHECK(world.map(1, 0, mib2 - 1, 0x4000'0000) == Status::ok);
}

TEST_CASE("an endpoint that the VMM removes is detached, whatever the guest does", "[virtio-iommu][S3.2][S3.4][S3.6]") {
  World world;
  world.add(pf);
  world.add(vf);
  CHECK(world.attach(2, vf) == Status::ok);
  CHECK(world.map(2, 0, page - 1, 0x4000'0000) == Status::ok);
  world.told.clear();
  SECTION("alone in its domain") {
    CHECK(world.domains.remove_endpoint({vf}));
    CHECK_FALSE(world.domains.remove_endpoint({vf}));
    CHECK(world.told == std::vector<std::string>{"moved 896 0"});
    CHECK(world.map(2, page, 2 * page - 1, 0) == Status::no_entry);
    CHECK(world.kind(vf) == Kind::unknown);
    CHECK(world.attach(2, vf) == Status::no_entry);
    SECTION("a DETACH that comes late is answered once") {
      CHECK(world.detach(3, vf) == Status::no_entry);
      CHECK(world.detach(2, vf) == Status::ok);
      CHECK(world.detach(2, vf) == Status::no_entry);
    }
    SECTION("a device in its place begins in no domain") {
      world.add(vf);
      CHECK(world.kind(vf) == Kind::detached);
      CHECK(world.detach(2, vf) == Status::invalid);
    }
  }
  SECTION("the others of its domain notice nothing") {
    CHECK(world.attach(2, pf) == Status::ok);
    world.told.clear();
    CHECK(world.domains.remove_endpoint({vf}));
    CHECK(world.told.size() == 1);
    CHECK(world.translate(pf, 5) == 0x4000'0005);
  }
}

TEST_CASE("where the specification is taken by its word, a late DETACH finds no endpoint", "[virtio-iommu][S3.4]") {
  World world{usual_values, {8, 4, {1 << 16, 1 << 24}, true}};
  world.add(vf);
  CHECK(world.attach(2, vf) == Status::ok);
  CHECK(world.domains.remove_endpoint({vf}));
  CHECK(world.detach(2, vf) == Status::no_entry);
}

TEST_CASE("the nine steps of a virtual function that comes and goes run for ever", "[virtio-iommu][S3.5][A17]") {
  World world;
  world.add(pf);
  CHECK(world.attach(1, pf) == Status::ok);
  std::uint64_t bytes = 0;
  for (unsigned round = 0; round < 10'000; ++round) {
    world.add(vf);
    REQUIRE(world.attach(2, vf) == Status::ok);
    REQUIRE(world.domains.remove_endpoint({vf}));
    REQUIRE(world.attach(2, pf) == Status::ok);
    REQUIRE(world.map(2, 0, mib2 - 1, 0x4000'0000) == Status::ok);
    REQUIRE(world.attach(1, pf) == Status::ok);
    REQUIRE(world.map(2, mib2, 2 * mib2 - 1, 0) == Status::no_entry);
    REQUIRE(world.attach(2, pf) == Status::ok);
    REQUIRE(world.map(2, 0, mib2 - 1, 0x4000'0000) == Status::ok);
    REQUIRE(world.attach(1, pf) == Status::ok);
    world.drain();
    if (round == 10) bytes = world.memory.open_bytes();
  }
  CHECK(world.memory.open_bytes() == bytes);
}

TEST_CASE("ATTACH where it is already changes nothing, and elsewhere moves it", "[virtio-iommu][S3.7][S3.8]") {
  World world;
  world.add(pf);
  world.add(vf);
  REQUIRE(world.attach(1, pf) == Status::ok);
  REQUIRE(world.map(1, 0, page - 1, 0x4000'0000) == Status::ok);
  world.told.clear();
  CHECK(world.attach(1, pf) == Status::ok);
  CHECK(world.told.empty());
  CHECK(world.translate(pf, 0) == 0x4000'0000);
  REQUIRE(world.attach(2, vf) == Status::ok);
  REQUIRE(world.map(2, 0, page - 1, 0x5000'0000) == Status::ok);
  CHECK(world.attach(2, pf) == Status::ok);
  CHECK(world.translate(pf, 0) == 0x5000'0000);
  CHECK(world.domains.find({1}) == nullptr);
}

TEST_CASE("an UNMAP that was left half done is a new one when it comes again", "[virtio-iommu][S3.11][SEC-15]") {
  World world;
  world.add(pf);
  const auto map_all = [&] {
    CHECK(world.attach(1, pf) == Status::ok);
    for (std::uint64_t at = 0; at < 5 * page; at += page)
      if (!world.translate(pf, at)) REQUIRE(world.map(1, at, at + page - 1, at) == Status::ok);
  };
  map_all();
  REQUIRE(world.domains.unmap({{1}, {0}, {5 * page - 1}}, 2).later);
  SECTION("because its domain went") {
    world.domains.remove_endpoint({pf});
    world.add(pf);
  }
  SECTION("because nobody waits for it any more") { world.domains.forget_unmap(); }
  map_all();
  world.told.clear();
  CHECK(world.unmap(1, 0, 5 * page - 1) == Status::ok);
  CHECK(world.told == std::vector<std::string>{"unmapping 0"});
  CHECK_FALSE(world.translate(pf, 0));
}

TEST_CASE("a refused ATTACH leaves the endpoint where it was", "[virtio-iommu][S3.9]") {
  World world;
  world.add(pf, {{{{0x8000}, {0x8FFF}}, ReservedMemoryKind::reserved}});
  world.add(vf);
  REQUIRE(world.attach(1, pf) == Status::ok);
  REQUIRE(world.map(1, 0, page - 1, 0x4000'0000) == Status::ok);
  SECTION("a bypass domain") {
    REQUIRE(world.attach(2, vf, true) == Status::ok);
    CHECK(world.attach(2, pf) == Status::invalid);
  }
  SECTION("one that maps what it must not reach") {
    REQUIRE(world.attach(2, vf) == Status::ok);
    REQUIRE(world.map(2, 0x7000, 0x9FFF, 0) == Status::ok);
    CHECK(world.attach(2, pf) == Status::unsupported);
  }
  SECTION("a number outside the range") { CHECK(world.attach(101, pf) == Status::range); }
  CHECK(world.translate(pf, 0) == 0x4000'0000);
  CHECK(world.attach(1, 0x999) == Status::no_entry);
}

TEST_CASE("UNMAP takes whole mappings or nothing", "[virtio-iommu][S3.10][S3.11][A28]") {
  World world;
  world.add(pf);
  CHECK(world.unmap(1, 0, page - 1) == Status::no_entry);
  REQUIRE(world.attach(1, pf) == Status::ok);
  REQUIRE(world.map(1, 0, page - 1, 0x1000'0000) == Status::ok);
  REQUIRE(world.map(1, 2 * page, 6 * page - 1, 0x2000'0000) == Status::ok);
  world.told.clear();
  CHECK(world.unmap(1, 0, 4 * page - 1) == Status::range);
  CHECK(world.told.empty());
  CHECK(world.translate(pf, 0) == 0x1000'0000);
  CHECK(world.unmap(1, page, 0) == Status::invalid);
  SECTION("a consumer that does not give it up keeps all") {
    world.gives = false;
    CHECK(world.unmap(1, 0, top) == Status::device_error);
    CHECK(world.translate(pf, 0) == 0x1000'0000);
    CHECK(world.translate(pf, 2 * page) == 0x2000'0000);
    world.gives = true;
  }
  CHECK(world.unmap(1, 0, top) == Status::ok);
  CHECK_FALSE(world.translate(pf, 0));
  CHECK(world.unmap(1, 0, top) == Status::ok);
  REQUIRE(world.map(1, 0, page - 1, 0x3000'0000) == Status::ok);
}

TEST_CASE("an UNMAP of many goes on in slices, and asks consumers once", "[virtio-iommu][S3.11]") {
  World world;
  world.add(pf);
  REQUIRE(world.attach(1, pf) == Status::ok);
  for (std::uint64_t i = 0; i < 50; ++i)
    REQUIRE(world.map(1, i * page, (i + 1) * page - 1, i * 2 * page) == Status::ok);
  world.told.clear();
  CHECK(world.unmap(1, 0, top) == Status::ok);
  CHECK(world.told == std::vector<std::string>{"unmapping 0"});
  CHECK(world.domains.find({1})->mappings.size() == 0);
}

TEST_CASE("MAP is checked in one order, and the first failure is the answer", "[virtio-iommu][S3.12][A29]") {
  World world{{.page_size_mask = ~(page - 1), .input = {{page}, {low_bits(48)}}, .domains = {{0}, {100}}}};
  world.add(pf, {{{{0x10000}, {0x10FFF}}, ReservedMemoryKind::reserved}});
  world.add(vf);
  REQUIRE(world.attach(1, pf) == Status::ok);
  REQUIRE(world.attach(9, vf, true) == Status::ok);
  REQUIRE(world.map(1, 0x20000, 0x20FFF, 0) == Status::ok);
  world.told.clear();
  struct Row {
    const char* what;
    std::uint32_t domain;
    std::uint64_t first;
    std::uint64_t last;
    std::uint64_t to;
    Status status;
  };
  // Each violates what the row below it does, too, as far as both can be.
  const std::array rows{
      Row{"the domain's number, and no such domain", 101, 0x1FFF, 0x1000, 1, Status::range},
      Row{"no such domain, and upside down", 2, 0x1FFF, 0x1000, 1, Status::no_entry},
      Row{"a bypass domain, and upside down", 9, 0x2000, 0x1000, 1, Status::invalid},
      Row{"upside down, and not aligned", 1, 0x2001, 0x1000, 1, Status::invalid},
      Row{"not aligned at its start, and outside", 1, 0x1, 0xFFF, 0, Status::range},
      Row{"nor at its end", 1, 0x1000, 0x1FFE, 0, Status::range},
      Row{"nor where it leads", 1, 0x1000, 0x1FFF, 0x10, Status::range},
      Row{"below the input range, over another", 1, 0, 0x20FFF, 0, Status::range},
      Row{"above it", 1, 0xFFFF'FFFF'F000, 0x1'0000'0000'0FFF, 0, Status::range},
      Row{"leads over the end, over another", 1, 0x20000, 0x21FFF, top - page + 1, Status::range},
      Row{"over another, and reserved", 1, 0x10000, 0x20FFF, 0, Status::invalid},
      Row{"reserved", 1, 0xF000, 0x10FFF, 0, Status::invalid},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(world.map(row.domain, row.first, row.last, row.to) == row.status);
    CHECK(world.domains.find({1})->mappings.size() == 1);
  }
  CHECK(world.told.empty());
  CHECK(world.unmap(101, 0, 0) == Status::range);
  CHECK(world.unmap(9, 0, 0) == Status::invalid);
}

TEST_CASE("what a consumer cannot take is mapped for nobody", "[virtio-iommu][S3.12][A29]") {
  World world;
  world.add(pf);
  REQUIRE(world.attach(1, pf) == Status::ok);
  world.takes = false;
  CHECK(world.map(1, 0, page - 1, 0) == Status::device_error);
  CHECK_FALSE(world.translate(pf, 0));
  world.takes = true;
  CHECK(world.map(1, 0, page - 1, 0) == Status::ok);
}

TEST_CASE("a granule of one byte, and all of 2^64", "[virtio-iommu][S3.12]") {
  World world{{.page_size_mask = top, .input = all_iovas, .domains = {}}};
  world.add(pf);
  REQUIRE(world.attach(~std::uint32_t{0}, pf) == Status::ok);
  CHECK(world.map(~std::uint32_t{0}, 7, 7, 9) == Status::ok);
  CHECK(world.translate(pf, 7) == 9);
  CHECK(world.unmap(~std::uint32_t{0}, 0, top) == Status::ok);
  CHECK(world.map(~std::uint32_t{0}, 0, top, 0) == Status::ok);
  CHECK(world.translate(pf, top) == top);
}

TEST_CASE("more than there may be is NOMEM, and all right again when there is less", "[virtio-iommu][S3.13][A29]") {
  World world{usual_values, {2, 3, {4, 1 << 24}}};
  world.add(pf);
  world.add(vf);
  world.add(7);
  CHECK(world.domains.add_endpoint({{8}, {}}, {}) == Domains::Added::limit);
  CHECK(world.domains.add_endpoint({{7}, {}}, {}) == Domains::Added::exists);
  REQUIRE(world.attach(1, pf) == Status::ok);
  REQUIRE(world.attach(2, vf) == Status::ok);
  CHECK(world.attach(3, 7) == Status::no_memory);
  CHECK(world.attach(3, vf) == Status::ok);  // its own domain makes room
  for (std::uint64_t i = 0; i < 4; ++i) REQUIRE(world.map(1, i * page, (i + 1) * page - 1, i * 2 * page) == Status::ok);
  CHECK(world.map(1, 4 * page, 5 * page - 1, 0) == Status::no_memory);
  CHECK(world.unmap(1, 0, page - 1) == Status::ok);
  CHECK(world.map(1, 4 * page, 5 * page - 1, 0) == Status::ok);
  // One that has gone makes room too, and its late DETACH is then unknown.
  CHECK(world.domains.remove_endpoint({vf}));
  CHECK(world.domains.add_endpoint({{8}, {}}, {}) == Domains::Added::ok);
  CHECK(world.detach(3, vf) == Status::no_entry);
}

TEST_CASE("bypass decides what endpoints in no domain see", "[virtio-iommu][S4.8][S4.9][S4.10][A30]") {
  ConfigValues values = usual_values;
  values.bypass = true;
  World world{values};
  const Features negotiated{mask_of(features::bypass_config)};
  for (const std::uint32_t endpoint : {pf, vf, 7U}) world.add(endpoint);
  REQUIRE(world.attach(4, 7) == Status::ok);
  CHECK(world.translate(pf, 0x5000) == 0x5000);
  world.told.clear();
  REQUIRE(world.config.write(0x24, 1, 0, negotiated) == ConfigWrite::bypass);
  world.domains.bypass_changed();
  CHECK(world.told.size() == 2);
  CHECK(world.kind(pf) == Kind::detached);
  CHECK(world.kind(7) == Kind::translated);
  CHECK(world.kind(0x999) == Kind::unknown);
  SECTION("a bypass domain") {
    CHECK(world.attach(9, pf, true) == Status::ok);
    CHECK(world.translate(pf, 0x5000) == 0x5000);
    CHECK(world.attach(9, vf) == Status::invalid);
    CHECK(world.attach(9, vf, true) == Status::ok);
  }
  SECTION("a reset of the device detaches all and leaves the byte") {
    world.domains.detach_all();
    CHECK(world.kind(7) == Kind::detached);
    CHECK(world.domains.domains() == 0);
  }
}

TEST_CASE("a domain that is made while readers may be in those that went waits for them", "[virtio-iommu][P2][P6]") {
  World world{usual_values, {1, 1, {16, 1 << 24}}};
  world.add(pf);
  REQUIRE(world.domains.attach({{1}, {pf}, false}) == Outcome{});
  REQUIRE(world.domains.attach({{2}, {pf}, false}) == Outcome{});
  CHECK(world.domains.attach({{3}, {pf}, false}).later);
  CHECK(world.domains.find({2}) != nullptr);
  CHECK(world.domains.waiting());
  world.domains.seal(5);
  static_cast<void>(world.domains.reclaim(4, 100));
  CHECK(world.domains.attach({{3}, {pf}, false}).later);
  world.domains.seal(6);
  static_cast<void>(world.domains.reclaim(5, 100));
  CHECK_FALSE(world.domains.waiting());
  CHECK(world.domains.attach({{3}, {pf}, false}) == Outcome{});
}

TEST_CASE("endpoints that have gone are forgotten in the order in which they went", "[virtio-iommu][S3.4][S3.13]") {
  World world{usual_values, {4, 2, {16, 1 << 24}}};
  world.add(pf);
  world.add(vf);
  REQUIRE(world.attach(1, pf) == Status::ok);
  REQUIRE(world.attach(2, vf) == Status::ok);
  REQUIRE(world.domains.remove_endpoint({vf}));
  REQUIRE(world.domains.remove_endpoint({pf}));
  world.add(7);
  CHECK(world.detach(1, pf) == Status::ok);
  CHECK(world.detach(2, vf) == Status::no_entry);
  SECTION("one that was in no domain leaves nothing behind") {
    REQUIRE(world.domains.remove_endpoint({7}));
    world.add(8);
    world.add(9);
    CHECK_FALSE(world.domains.knows({7}));
    CHECK(world.detach(1, 7) == Status::no_entry);
  }
  SECTION("nor does what one before it was in") {
    REQUIRE(world.attach(3, 7) == Status::ok);
    REQUIRE(world.domains.remove_endpoint({7}));
    world.add(7);
    REQUIRE(world.domains.remove_endpoint({7}));
    CHECK(world.detach(3, 7) == Status::no_entry);
  }
  SECTION("nor what was before a reset") {
    REQUIRE(world.attach(3, 7) == Status::ok);
    REQUIRE(world.domains.remove_endpoint({7}));
    world.domains.detach_all();
    CHECK(world.detach(3, 7) == Status::no_entry);
  }
}

TEST_CASE("reserved memory of each endpoint of a domain is kept free, whoever else comes and goes",
          "[virtio-iommu][S3.12]") {
  test::Random random{5};
  for (unsigned round = 0; round < 300; ++round) {
    World world{usual_values, {4, 5, {64, 1 << 24}}};
    std::array<bool, 5> inside{};
    const auto first_of = [](std::uint32_t i) { return std::uint64_t{i} * 0x10000; };
    for (std::uint32_t i = 0; i < 5; ++i)
      world.add(i, {{{{first_of(i)}, {first_of(i) + 0xFFF}}, ReservedMemoryKind::reserved}});
    for (unsigned step = 0; step < 12; ++step) {
      const auto i = static_cast<std::uint32_t>(random.below(5));
      REQUIRE((inside.at(i) ? world.detach(1, i) : world.attach(1, i)) == Status::ok);
      inside.at(i) = !inside.at(i);
      for (std::uint32_t j = 0; j < 5 && world.domains.find({1}) != nullptr; ++j) {
        const Status mapped = world.map(1, first_of(j), first_of(j) + 0xFFF, 0);
        REQUIRE(mapped == (inside.at(j) ? Status::invalid : Status::ok));
        if (mapped == Status::ok) REQUIRE(world.unmap(1, first_of(j), first_of(j) + 0xFFF) == Status::ok);
      }
    }
  }
  World world;
  world.add(pf, {{{{0x8000}, {0x8FFF}}, ReservedMemoryKind::reserved}});
  world.add(vf);
  REQUIRE(world.attach(1, vf) == Status::ok);
  REQUIRE(world.map(1, 0x9000, 0x9FFF, 0) == Status::ok);
  CHECK(world.attach(1, pf) == Status::ok);  // it is beside what is mapped
}

TEST_CASE("a domain that goes takes its mappings along at once, and a view that stays is not told",
          "[virtio-iommu][S3.1][S3.13]") {
  ConfigValues values = usual_values;
  values.bypass = true;
  World world{values, {4, 2, {4, 1 << 24}}};
  world.add(pf);
  REQUIRE(world.attach(9, pf, true) == Status::ok);
  CHECK(world.told.empty());
  REQUIRE(world.attach(1, pf) == Status::ok);
  for (std::uint64_t i = 0; i < 4; ++i) REQUIRE(world.map(1, i * page, (i + 1) * page - 1, 0) == Status::ok);
  REQUIRE(world.attach(2, pf) == Status::ok);
  CHECK(world.map(2, 0, page - 1, 0) == Status::ok);
  // Each UNMAP asks anew.
  REQUIRE(world.unmap(2, 0, page - 1) == Status::ok);
  REQUIRE(world.map(2, 0, page - 1, 0) == Status::ok);
  world.gives = false;
  CHECK(world.unmap(2, 0, page - 1) == Status::device_error);
}

TEST_CASE("numbers come and go in a table of numbers", "[virtio-iommu]") {
  test::CountingAllocator memory;
  test::Random random{9};
  IdTable table;
  constexpr std::uint32_t most = 40;
  REQUIRE(table.reset(memory.functions(), most, random.next()));
  std::vector<std::optional<std::uint32_t>> model(300);
  std::uint32_t there = 0;
  for (std::uint32_t step = 0; step < 20000; ++step) {
    const auto id = static_cast<std::uint32_t>(random.below(model.size()));
    auto& known = model.at(id);
    if (known) {
      table.erase(id * 8);
      known.reset();
      --there;
    } else if (there < most) {
      table.insert(id * 8, step);
      known = step;
      ++there;
    }
    const auto other = static_cast<std::uint32_t>(random.below(model.size()));
    REQUIRE(table.find(other * 8) == model.at(other).value_or(IdTable::nothing));
  }
}

}  // namespace viommu::virtio_iommu
