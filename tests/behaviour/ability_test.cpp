// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices that do not pass the unit, or pass it only when a driver has agreed to: what becomes of their requests, and
// who is told.
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/behaviour/devices.hpp"
#include "tests/behaviour/mirrored.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t target = 0x20'0000;
constexpr std::uint16_t nic = 0x0300;

/// Translation is on, and every device that the tests use has a page mapped at 0x1000.
struct World : Machine {
  explicit World(std::uint32_t flags = 0) : Machine{unit_options(cap_39_announced, 0, 0, flags)} {
    const Tree tree = tables.create_tree(3);
    tables.map(tree, page, target);
    for (const std::uint16_t source : {device_a, device_b, nic}) tables.attach(source, tree, {.domain_id = 7});
    const viommu_region region{0, 0x8000'0000, nullptr, VIOMMU_REGION_UNMAPPED};
    REQUIRE(viommu_region_add(engine.get(), &region) == VIOMMU_OK);
    REQUIRE(make_ready(engine) == VIOMMU_OK);
    boot();
  }
  viommu_result add(std::uint16_t source, std::uint8_t ability, std::uint8_t wish, std::uint32_t flags = 0) {
    viommu_device device = described(source, VIOMMU_DEVICE_EMULATED, flags);
    device.ability = ability;
    device.wish = wish;
    return plug(engine, device, nullptr, refusal);
  }
  viommu_result add_virtio(std::uint16_t source, bool offers) {
    return add(source, 0, 0, VIOMMU_DEVICE_VIRTIO | (offers ? std::uint32_t{VIOMMU_DEVICE_OFFERS_PLATFORM} : 0));
  }
  viommu_result driver_says(std::uint16_t source, bool accepted) {
    refusal = empty_refusal();
    return viommu_driver_features(engine.get(), source, accepted ? 1 : 0, &refusal);
  }
  [[nodiscard]] std::uint32_t view(std::uint16_t source) {
    std::uint32_t view = ~0U;
    REQUIRE(viommu_view(engine.get(), source, &view) == VIOMMU_OK);
    return view;
  }
  [[nodiscard]] std::uint32_t way(std::uint16_t source) {
    std::uint32_t way = ~0U;
    REQUIRE(viommu_device_way(engine.get(), source, &way) == VIOMMU_OK);
    return way;
  }
  /// Whether the table that says who is under the unit has this device.
  [[nodiscard]] bool is_listed(std::uint16_t source) {
    viommu_dmar_scope scope{};
    scope.kind = VIOMMU_SCOPE_ENDPOINT;
    scope.hops = 1;
    scope.start_bus = static_cast<std::uint8_t>(source >> 8);
    scope.path[0] = {static_cast<std::uint8_t>(source >> 3 & 31), static_cast<std::uint8_t>(source & 7)};
    const viommu_dmar_unit unit{engine.get(), 0xFED9'0000, 0, 0, 0, 1, &scope};
    viommu_dmar dmar{};
    dmar.size = sizeof dmar;
    dmar.unit_count = 1;
    dmar.units = &unit;
    std::uint32_t found = 0;
    return viommu_dmar_unit_of(&dmar, 0, source, VIOMMU_SCOPE_ENDPOINT, &found, nullptr) == VIOMMU_OK;
  }
  /// What its requests meet: translated, at their own addresses, or nothing; and all that says so agrees.
  [[nodiscard]] std::string meets(std::uint16_t source) {
    const std::optional<std::uint64_t> at = lands(source, page + 0x10);
    const std::uint32_t seen = view(source);
    CHECK(way(source) == (!at ? VIOMMU_WAY_BLOCKED : *at == page + 0x10 ? VIOMMU_WAY_SYSTEM : VIOMMU_WAY_UNIT));
    if (!at) {
      CHECK(seen == VIOMMU_VIEW_BLOCKED);
      return "blocked";
    }
    CHECK(seen == (*at == page + 0x10 ? VIOMMU_VIEW_SYSTEM : VIOMMU_VIEW_TRANSLATED));
    return *at == page + 0x10 ? "system" : *at == target + 0x10 ? "translated" : "elsewhere";
  }
  [[nodiscard]] bool nothing_recorded() { return read(offset::fault_status) == 0; }

  viommu_refusal refusal{};
};

}  // namespace

TEST_CASE("a device goes where its ability and its wish say", "[behaviour][machine][S4.1][A32]") {
  struct Row {
    std::uint8_t ability;
    std::uint8_t wish;
    bool legacy;
    std::uint32_t refused;
    const char* meets;
  };
  const Row rows[] = {
      {VIOMMU_ABILITY_ABLE, VIOMMU_WISH_UNSET, false, VIOMMU_REFUSED_NOTHING, "translated"},
      {VIOMMU_ABILITY_ABLE, VIOMMU_WISH_TRANSLATE, false, VIOMMU_REFUSED_NOTHING, "translated"},
      {VIOMMU_ABILITY_ABLE, VIOMMU_WISH_BYPASS, false, VIOMMU_REFUSED_NOTHING, "system"},
      {VIOMMU_ABILITY_NOT_ABLE, VIOMMU_WISH_UNSET, false, VIOMMU_REFUSED_NOTHING, "system"},
      {VIOMMU_ABILITY_NOT_ABLE, VIOMMU_WISH_TRANSLATE, false, VIOMMU_REFUSED_CANNOT_TRANSLATE, "translated"},
      {VIOMMU_ABILITY_NOT_ABLE, VIOMMU_WISH_BYPASS, false, VIOMMU_REFUSED_NOTHING, "system"},
      {VIOMMU_ABILITY_UNKNOWN, VIOMMU_WISH_UNSET, false, VIOMMU_REFUSED_UNKNOWN_ABILITY, "blocked"},
      {VIOMMU_ABILITY_UNKNOWN, VIOMMU_WISH_TRANSLATE, false, VIOMMU_REFUSED_UNKNOWN_ABILITY, "blocked"},
      {VIOMMU_ABILITY_UNKNOWN, VIOMMU_WISH_BYPASS, false, VIOMMU_REFUSED_UNKNOWN_ABILITY, "blocked"},
      {VIOMMU_ABILITY_UNKNOWN, VIOMMU_WISH_UNSET, true, VIOMMU_REFUSED_NOTHING, "system"},
      {VIOMMU_ABILITY_UNKNOWN, VIOMMU_WISH_TRANSLATE, true, VIOMMU_REFUSED_NOTHING, "system"},
      {VIOMMU_ABILITY_UNKNOWN, VIOMMU_WISH_BYPASS, true, VIOMMU_REFUSED_NOTHING, "system"},
  };
  for (const Row& row : rows) {
    CAPTURE(+row.ability, +row.wish, row.legacy);
    World world{row.legacy ? std::uint32_t{VIOMMU_UNKNOWN_BYPASSES} : 0};
    CHECK(world.meets(device_a) == "translated");  // by contexts and pages that are cached from now on
    const viommu_result expected = row.refused == VIOMMU_REFUSED_NOTHING ? VIOMMU_OK : VIOMMU_E_REFUSED;
    CHECK(world.add(device_a, row.ability, row.wish) == expected);
    CHECK(world.refusal.code == row.refused);
    CHECK(world.meets(device_a) == row.meets);
    CHECK(world.meets(device_b) == "translated");
    CHECK(world.is_listed(device_a) == (std::string{row.meets} == "translated"));
    CHECK(std::string{world.refusal.field} == (row.refused == VIOMMU_REFUSED_CANNOT_TRANSLATE  ? "wish"
                                               : row.refused == VIOMMU_REFUSED_UNKNOWN_ABILITY ? "ability"
                                               : std::string{row.meets} == "system"            ? "Bypassed"
                                                                                               : ""));
    CHECK(world.nothing_recorded());
    // Translation off lets nobody through who is blocked.
    world.driver.enable_translation(false);
    CHECK(world.lands(device_a, page).has_value() == (std::string{row.meets} != "blocked"));
  }
}

TEST_CASE("a wish that cannot be kept is an error, and nothing is registered", "[behaviour][machine][S4.4]") {
  World world;
  CHECK(world.add(device_a, VIOMMU_ABILITY_NOT_ABLE, VIOMMU_WISH_TRANSLATE) == VIOMMU_E_REFUSED);
  CHECK(says(world.refusal, "01:00.0"));
  CHECK(world.add(device_a, VIOMMU_ABILITY_ABLE, VIOMMU_WISH_TRANSLATE, VIOMMU_DEVICE_BYPASSED) == VIOMMU_E_REFUSED);
  CHECK(world.refusal.code == VIOMMU_REFUSED_CANNOT_TRANSLATE);
  CHECK(world.add(nic, 0, VIOMMU_WISH_TRANSLATE, VIOMMU_DEVICE_VIRTIO) == VIOMMU_E_REFUSED);
  CHECK(world.refusal.code == VIOMMU_REFUSED_CANNOT_TRANSLATE);
  for (const std::uint16_t source : {device_a, nic}) {
    CHECK(world.add(source, VIOMMU_ABILITY_ABLE, VIOMMU_WISH_TRANSLATE) == VIOMMU_OK);  // so it was not there
    CHECK(world.meets(source) == "translated");
  }
}

TEST_CASE("a device of unknown ability reaches nothing until more is known of it", "[behaviour][machine][S4.1]") {
  World world;
  MirrorModel mirror;
  mirror.join(world.engine, device_a);
  CHECK(mirror.extents() == std::vector{Extent{page, page, target, 3}});
  REQUIRE(world.add(device_a, VIOMMU_ABILITY_UNKNOWN, VIOMMU_WISH_UNSET) == VIOMMU_E_REFUSED);
  CHECK(world.meets(device_a) == "blocked");
  CHECK(mirror.extents().empty());
  viommu_translation answer = world.ask(device_a, page, VIOMMU_WRITE);
  CHECK(answer.kind == VIOMMU_FAULT);
  CHECK(answer.reason == 0);
  CHECK(answer.status == VIOMMU_FAULT_NOT_REPORTED);
  CHECK(world.ask(device_a, 0xFEE0'0000, VIOMMU_WRITE).kind == VIOMMU_FAULT);
  SECTION("it is added with its ability") {
    CHECK(world.add(device_a, VIOMMU_ABILITY_ABLE, VIOMMU_WISH_UNSET) == VIOMMU_OK);
    CHECK(mirror.extents() == std::vector{Extent{page, page, target, 3}});
  }
  SECTION("it is said to be gone") { CHECK(viommu_device_remove(world.engine.get(), device_a) == VIOMMU_OK); }
  CHECK(world.meets(device_a) == "translated");
  CHECK(world.is_listed(device_a));
  CHECK(mirror.wrong.empty());
}

TEST_CASE("ability is that of a device, whatever others of its kind are able to", "[behaviour][machine][S4.7][A32]") {
  // Two functions that carry one vendor's id; the unit is never told it.
  World world;
  CHECK(world.add(device_a, VIOMMU_ABILITY_NOT_ABLE, VIOMMU_WISH_UNSET) == VIOMMU_OK);
  CHECK(world.add(device_b, VIOMMU_ABILITY_ABLE, VIOMMU_WISH_UNSET) == VIOMMU_OK);
  CHECK(world.meets(device_a) == "system");
  CHECK(world.meets(device_b) == "translated");
}

TEST_CASE("a virtio device uses the unit when its driver has accepted ACCESS_PLATFORM, and until it is reset",
          "[behaviour][machine][S4.2][A32]") {
  World world;
  SECTION("the bit is not offered") {
    REQUIRE(world.add_virtio(nic, false) == VIOMMU_OK);
    CHECK(world.meets(nic) == "system");
    CHECK(world.driver_says(nic, false) == VIOMMU_OK);
    CHECK(world.meets(nic) == "system");
    CHECK_FALSE(world.is_listed(nic));
    CHECK(world.driver_says(nic, true) == VIOMMU_E_REFUSED);
    CHECK(world.refusal.code == VIOMMU_REFUSED_INVALID);
    CHECK(world.meets(nic) == "system");
  }
  SECTION("the bit is offered") {
    REQUIRE(world.add_virtio(nic, true) == VIOMMU_OK);
    CHECK(world.is_listed(nic));  // it may come to it
    MirrorModel mirror;
    mirror.join(world.engine, nic);
    CHECK(world.meets(nic) == "system");
    CHECK(mirror.take_seen() == std::vector{mapped(0, 0x8000'0000, 0)});
    CHECK(world.driver_says(nic, true) == VIOMMU_OK);
    CHECK(world.meets(nic) == "translated");
    CHECK(mirror.take_seen() == std::vector{unmapped(0, 0x8000'0000), mapped(page, page, target)});
    CHECK(world.driver_says(nic, true) == VIOMMU_OK);
    CHECK(mirror.take_seen().empty());
    REQUIRE(viommu_driver_reset(world.engine.get(), nic) == VIOMMU_OK);
    CHECK(world.meets(nic) == "system");
    CHECK(mirror.take_seen() == std::vector{unmapped(page, page), mapped(0, 0x8000'0000, 0)});
    CHECK(world.is_listed(nic));
    CHECK(mirror.wrong.empty());
  }
  SECTION("others have no such driver") {
    REQUIRE(world.add(device_a, 0, 0) == VIOMMU_OK);
    CHECK(world.driver_says(device_a, false) == VIOMMU_E_REFUSED);
    CHECK(world.driver_says(device_b, true) == VIOMMU_E_REFUSED);
    CHECK(world.refusal.code == VIOMMU_REFUSED_INVALID);
    CHECK(viommu_driver_reset(world.engine.get(), device_a) == VIOMMU_OK);
    CHECK(viommu_driver_reset(world.engine.get(), device_b) == VIOMMU_OK);
    CHECK(world.meets(device_a) == "translated");
    CHECK(world.meets(device_b) == "translated");
  }
  CHECK(world.nothing_recorded());
}

TEST_CASE("a virtio device whose driver left out ACCESS_PLATFORM reaches nothing", "[behaviour][machine][S4.3][A32]") {
  World world;
  REQUIRE(world.add_virtio(nic, true) == VIOMMU_OK);
  MirrorModel mirror;
  mirror.join(world.engine, nic);
  const bool agreed_before = GENERATE(false, true);
  if (agreed_before) REQUIRE(world.driver_says(nic, true) == VIOMMU_OK);
  CHECK(world.meets(nic) == (agreed_before ? "translated" : "system"));
  CHECK(world.driver_says(nic, false) == VIOMMU_E_REFUSED);
  CHECK(world.refusal.code == VIOMMU_REFUSED_NOT_SUPPORTED);
  CHECK(std::string{world.refusal.field} == "ACCESS_PLATFORM");
  CHECK(world.meets(nic) == "blocked");
  CHECK(mirror.extents().empty());
  // In every way of asking.
  const viommu_request one = request(nic, page, VIOMMU_READ, 8);
  viommu_translation answers[2]{};
  const viommu_request two[] = {one, one};
  CHECK(viommu_translate_batch(world.reader.get(), two, answers, 2) == VIOMMU_OK);
  CHECK(answers[0].kind == VIOMMU_FAULT);
  CHECK(answers[1].kind == VIOMMU_FAULT);
  viommu_piece piece{};
  viommu_range_end end{};
  CHECK(viommu_translate_range(world.reader.get(), &one, &piece, 1, &end) == VIOMMU_E_FAULT);
  CHECK(viommu_translate_once(world.engine.get(), &one, answers) == VIOMMU_E_FAULT);
  std::uint64_t hold = 0;
  CHECK(viommu_hold(world.reader.get(), &one, 1, answers, &hold) == VIOMMU_E_FAULT);
  viommu_ats_completion completion{};
  CHECK(viommu_ats_translate(world.reader.get(), &one, &completion) == VIOMMU_OK);
  CHECK(completion.status == VIOMMU_ATS_UNSUPPORTED_REQUEST);
  CHECK(viommu_ats_check(world.reader.get(), &one, answers) == VIOMMU_E_FAULT);
  CHECK(world.nothing_recorded());
  SECTION("until the device is reset") {
    REQUIRE(viommu_driver_reset(world.engine.get(), nic) == VIOMMU_OK);
    CHECK(world.meets(nic) == "system");
  }
  SECTION("or the driver accepts it") {
    REQUIRE(world.driver_says(nic, true) == VIOMMU_OK);
    CHECK(world.meets(nic) == "translated");
  }
  SECTION("and wherever its bus is") {
    REQUIRE(viommu_bus_renumber(world.engine.get(), nic >> 8, 0x77) == VIOMMU_OK);
    CHECK(world.way(0x7700) == VIOMMU_WAY_BLOCKED);
    CHECK(world.way(nic) == VIOMMU_WAY_UNIT);
    REQUIRE(viommu_driver_reset(world.engine.get(), 0x7700) == VIOMMU_OK);
    CHECK(world.way(0x7700) == VIOMMU_WAY_SYSTEM);
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("a walk under way when a device stops to pass the unit leaves nothing behind", "[behaviour][machine][S4.3]") {
  World world;
  REQUIRE(world.add_virtio(nic, true) == VIOMMU_OK);
  REQUIRE(world.driver_says(nic, true) == VIOMMU_OK);
  unsigned reads = 0;
  const unsigned during = GENERATE(1U, 2U, 3U, 4U, 5U);  // root and context entry, three levels
  world.on_read = [&](std::uint64_t) {
    if (++reads == during) elsewhere([&] { CHECK(world.driver_says(nic, false) == VIOMMU_E_REFUSED); });
  };
  static_cast<void>(world.ask(nic, page, VIOMMU_READ));  // true at some instant
  world.on_read = nullptr;
  REQUIRE(reads >= during);
  CHECK(world.meets(nic) == "blocked");
}

TEST_CASE("a real device on a bus that bypasses is taken without checks, and the answer says so",
          "[behaviour][machine][S4.15][A32]") {
  Machine machine{unit_options(cap_39)};
  const bool cold = GENERATE(true, false);
  if (!cold) REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  viommu_refusal refusal{};
  HostIommu host{10};  // not looked at
  CHECK(plug(machine.engine, described(device_a, VIOMMU_DEVICE_HOST, VIOMMU_DEVICE_BYPASSED), &host, refusal) ==
        VIOMMU_OK);
  CHECK(refusal.code == VIOMMU_REFUSED_NOTHING);
  CHECK(std::string{refusal.field} == "Bypassed");
  CHECK(says(refusal, "01:00.0"));
  viommu_device wished = described(device_b, VIOMMU_DEVICE_HOST);
  wished.wish = VIOMMU_WISH_BYPASS;
  CHECK(plug(machine.engine, wished, nullptr, refusal) == VIOMMU_OK);  // it needs no facts
  CHECK(std::string{refusal.field} == "Bypassed");
  CHECK(host.asked.empty());
  CHECK(make_ready(machine.engine) == VIOMMU_OK);
  // The same device on another bus is one that has to be told of new mappings.
  CHECK(viommu_device_remove(machine.engine.get(), device_a) == VIOMMU_OK);
  CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_CACHING_MODE);
}

TEST_CASE("what is said of a device is looked at", "[behaviour][machine][capi][S4.1]") {
  World world;
  const auto taken = [&](auto change) {
    viommu_device device = described(device_a, VIOMMU_DEVICE_EMULATED);
    change(device);
    return viommu_device_add(world.engine.get(), &device, nullptr);
  };
  CHECK(taken([](viommu_device& d) { d.ability = VIOMMU_ABILITY_UNKNOWN + 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(taken([](viommu_device& d) { d.wish = VIOMMU_WISH_BYPASS + 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(taken([](viommu_device& d) { d.endpoint = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(taken([](viommu_device& d) { d.physical = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(taken([](viommu_device& d) { d.flags = VIOMMU_DEVICE_OFFERS_PLATFORM; }) == VIOMMU_E_ARGUMENT);
  CHECK(taken([](viommu_device& d) { d.flags = VIOMMU_DEVICE_VIRTUAL_FUNCTION * 2; }) == VIOMMU_E_ARGUMENT);
  CHECK(taken([](viommu_device& d) {
          d.flags = VIOMMU_DEVICE_VIRTUAL_FUNCTION;
          d.physical = d.source;
        }) == VIOMMU_E_ARGUMENT);
  // A description of the first version of the struct says nothing of all this.
  CHECK(taken([](viommu_device& d) {
          d.size = offsetof(viommu_device, ability);
          d.ability = VIOMMU_ABILITY_NOT_ABLE;
        }) == VIOMMU_OK);
  CHECK(world.meets(device_a) == "translated");
  CHECK(viommu_device_way(world.engine.get(), device_a, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_driver_features(world.engine.get(), nic, 2, nullptr) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::test
