// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who can be handed to a nested guest, and what it may be told of it.
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/behaviour/devices.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t nic = 0x0300;

struct World : Machine {
  World() : Machine{unit_options(cap_39_announced)} {}

  viommu_result add(std::uint16_t source, std::uint8_t ability = 0, std::uint8_t wish = 0, std::uint32_t flags = 0) {
    viommu_device device = described(source, VIOMMU_DEVICE_EMULATED, flags);
    device.ability = ability;
    device.wish = wish;
    return viommu_device_add(engine.get(), &device, nullptr);
  }
  [[nodiscard]] bool isolatable(std::uint16_t source) {
    std::uint32_t answer = 2;
    REQUIRE(viommu_isolatable(engine.get(), source, &answer) == VIOMMU_OK);
    REQUIRE(answer <= 1);
    return answer == 1;
  }
  [[nodiscard]] bool in_scope(std::uint16_t source) {
    std::uint32_t answer = 2;
    REQUIRE(viommu_in_scope(engine.get(), source, &answer) == VIOMMU_OK);
    REQUIRE(answer <= 1);
    return answer == 1;
  }
  [[nodiscard]] viommu_description truth(std::uint16_t source) {
    viommu_description description{};
    description.size = sizeof description;
    description.source = source;
    REQUIRE(viommu_describe(engine.get(), &description) == VIOMMU_OK);
    CHECK(description.source == source);
    CHECK(description.size == sizeof description);
    return description;
  }
  viommu_result may_tell(const viommu_description& description) {
    refusal = empty_refusal();
    return viommu_may_describe(engine.get(), &description, &refusal);
  }

  viommu_refusal refusal{};
};

}  // namespace

TEST_CASE("a device that bypasses is in no scope and cannot be isolated, whatever makes it bypass",
          "[behaviour][machine][S4.5][S4.6][A32]") {
  World world;
  REQUIRE(world.add(0x0100) == VIOMMU_OK);
  REQUIRE(world.add(0x0200, VIOMMU_ABILITY_NOT_ABLE) == VIOMMU_OK);
  REQUIRE(world.add(0x0400, VIOMMU_ABILITY_ABLE, VIOMMU_WISH_BYPASS) == VIOMMU_OK);
  REQUIRE(world.add(0x1000, 0, 0, VIOMMU_DEVICE_BYPASSED) == VIOMMU_OK);
  REQUIRE(world.add(0x0500, VIOMMU_ABILITY_UNKNOWN) == VIOMMU_E_REFUSED);
  REQUIRE(world.add(nic, 0, 0, VIOMMU_DEVICE_VIRTIO) == VIOMMU_OK);
  REQUIRE(world.add(nic | 8, 0, 0, VIOMMU_DEVICE_VIRTIO | VIOMMU_DEVICE_OFFERS_PLATFORM) == VIOMMU_OK);
  for (const std::uint16_t source : std::vector<std::uint16_t>{0x0200, 0x0400, 0x1000, 0x0500, nic}) {
    CAPTURE(source);
    CHECK_FALSE(world.in_scope(source));
    CHECK_FALSE(world.isolatable(source));
  }
  for (const std::uint16_t source : std::vector<std::uint16_t>{0x0100, nic | 8, 0x0900}) {  // the last is nobody's
    CAPTURE(source);
    CHECK(world.in_scope(source));
    CHECK(world.isolatable(source));
  }
  REQUIRE(viommu_driver_features(world.engine.get(), nic | 8, 1, nullptr) == VIOMMU_OK);
  CHECK(world.in_scope(nic | 8));
  CHECK(world.isolatable(nic | 8));
  SECTION("and follows its bus") {
    REQUIRE(viommu_bus_renumber(world.engine.get(), 2, 0x22) == VIOMMU_OK);
    CHECK_FALSE(world.in_scope(0x2200));
    CHECK_FALSE(world.isolatable(0x2200));
    CHECK(world.in_scope(0x0200));
  }
}

TEST_CASE("a group is what its devices and bridges make it, and can be isolated whole or not at all",
          "[behaviour][machine][S4.6][S4.18]") {
  World world;
  SECTION("functions of one device") {
    const bool apart = GENERATE(false, true);
    const std::uint32_t flags = apart ? std::uint32_t{VIOMMU_DEVICE_ACS} : 0;
    REQUIRE(world.add(0x0100, 0, 0, flags) == VIOMMU_OK);
    REQUIRE(world.add(0x0101, VIOMMU_ABILITY_NOT_ABLE, 0, flags) == VIOMMU_OK);
    CHECK(world.isolatable(0x0100) == apart);
    CHECK_FALSE(world.isolatable(0x0101));
    REQUIRE(viommu_device_remove(world.engine.get(), 0x0101) == VIOMMU_OK);
    REQUIRE(world.add(0x0101, 0, 0, flags) == VIOMMU_OK);
    CHECK(world.isolatable(0x0100));
    CHECK(world.isolatable(0x0101));
  }
  SECTION("devices of one alias") {
    for (const std::uint16_t source : std::vector<std::uint16_t>{0x0508, 0x0510}) {
      viommu_device device = described(source, VIOMMU_DEVICE_EMULATED, VIOMMU_DEVICE_HAS_ALIAS);
      device.alias = 0x0500;
      device.ability = source == 0x0510 ? VIOMMU_ABILITY_NOT_ABLE : VIOMMU_ABILITY_ABLE;
      REQUIRE(viommu_device_add(world.engine.get(), &device, nullptr) == VIOMMU_OK);
    }
    CHECK_FALSE(world.isolatable(0x0508));
  }
  SECTION("a virtual function of a device that is able") {
    REQUIRE(world.add(nic, VIOMMU_ABILITY_ABLE) == VIOMMU_OK);
    viommu_device device = described(0x0380, VIOMMU_DEVICE_EMULATED, VIOMMU_DEVICE_VIRTUAL_FUNCTION);
    device.physical = nic;
    REQUIRE(viommu_device_add(world.engine.get(), &device, nullptr) == VIOMMU_OK);
    CHECK(world.isolatable(0x0380));
  }
  SECTION("devices behind a bridge to a conventional bus, as long as it is told") {
    REQUIRE(world.add(0x0208) == VIOMMU_OK);
    REQUIRE(world.add(0x0310, VIOMMU_ABILITY_NOT_ABLE) == VIOMMU_OK);
    CHECK(world.isolatable(0x0208));
    const viommu_bridge bridges[] = {{0x00F0, 2, 3, VIOMMU_BRIDGE_CONVENTIONAL}, {0x00E0, 4, 4, VIOMMU_BRIDGE_ACS}};
    REQUIRE(viommu_bridges_put(world.engine.get(), bridges, 2) == VIOMMU_OK);
    CHECK_FALSE(world.isolatable(0x0208));
    REQUIRE(viommu_bridges_put(world.engine.get(), nullptr, 0) == VIOMMU_OK);
    CHECK(world.isolatable(0x0208));
  }
}

TEST_CASE("a nested guest may be told less than is true of a device, and never more",
          "[behaviour][machine][S4.16][A32]") {
  World world;
  REQUIRE(world.add(0x0100, VIOMMU_ABILITY_ABLE, VIOMMU_WISH_BYPASS) == VIOMMU_OK);
  REQUIRE(world.add(0x0200, VIOMMU_ABILITY_ABLE) == VIOMMU_OK);
  REQUIRE(world.add(0x0400, VIOMMU_ABILITY_NOT_ABLE) == VIOMMU_OK);
  REQUIRE(world.add(0x0500, VIOMMU_ABILITY_UNKNOWN) == VIOMMU_E_REFUSED);
  struct Row {
    std::uint16_t source;
    std::uint32_t ability;
    std::uint32_t translated;
    std::uint32_t isolatable;
  };
  for (const Row& row : {Row{0x0100, VIOMMU_ABILITY_ABLE, 0, 0}, Row{0x0200, VIOMMU_ABILITY_ABLE, 1, 1},
                         Row{0x0400, VIOMMU_ABILITY_NOT_ABLE, 0, 0}, Row{0x0500, VIOMMU_ABILITY_UNKNOWN, 0, 0}}) {
    CAPTURE(row.source);
    const viommu_description truth = world.truth(row.source);
    CHECK(truth.ability == row.ability);
    CHECK(truth.translated == row.translated);
    CHECK(truth.isolatable == row.isolatable);
    for (const std::uint32_t ability : {VIOMMU_ABILITY_ABLE, VIOMMU_ABILITY_NOT_ABLE, VIOMMU_ABILITY_UNKNOWN})
      for (const std::uint32_t translated : {0U, 1U})
        for (const std::uint32_t isolatable : {0U, 1U}) {
          CAPTURE(ability, translated, isolatable);
          viommu_description told = truth;
          told.ability = ability;
          told.translated = translated;
          told.isolatable = isolatable;
          const char* const field =
              translated > row.translated                                                               ? "translated"
              : isolatable > row.isolatable                                                             ? "isolatable"
              : (ability == VIOMMU_ABILITY_ABLE ? row.ability != VIOMMU_ABILITY_ABLE : translated != 0) ? "ability"
                                                                                                        : "";
          CHECK(world.may_tell(told) == (*field == '\0' ? VIOMMU_OK : VIOMMU_E_REFUSED));
          CHECK(std::string{world.refusal.field} == field);
          if (*field != '\0') CHECK(world.refusal.source == row.source);
        }
  }
  SECTION("what is true now") {
    REQUIRE(world.add(nic, 0, 0, VIOMMU_DEVICE_VIRTIO | VIOMMU_DEVICE_OFFERS_PLATFORM) == VIOMMU_OK);
    viommu_description told = world.truth(nic);
    CHECK(told.translated == 0);
    told.translated = 1;
    CHECK(world.may_tell(told) == VIOMMU_E_REFUSED);
    CHECK(world.refusal.code == VIOMMU_REFUSED_CANNOT_TRANSLATE);
    REQUIRE(viommu_driver_features(world.engine.get(), nic, 1, nullptr) == VIOMMU_OK);
    CHECK(world.may_tell(told) == VIOMMU_OK);
  }
}

TEST_CASE("bridges and descriptions are looked at", "[behaviour][machine][capi][S4.16][S4.18]") {
  World world;
  viommu_engine* const engine = world.engine.get();
  const auto put = [&](viommu_bridge bridge) { return viommu_bridges_put(engine, &bridge, 1); };
  CHECK(put({0x0100, 1, 1, 0}) == VIOMMU_E_ARGUMENT);  // its own bus
  CHECK(put({0x0100, 3, 2, 0}) == VIOMMU_E_ARGUMENT);
  CHECK(put({0x0100, 2, 2, 4}) == VIOMMU_E_ARGUMENT);
  CHECK(put({0x0100, 2, 2, 3}) == VIOMMU_OK);
  CHECK(viommu_bridges_put(engine, nullptr, 1) == VIOMMU_E_ARGUMENT);
  const std::vector<viommu_bridge> many(256, viommu_bridge{0, 1, 1, 0});
  CHECK(viommu_bridges_put(engine, many.data(), 256) == VIOMMU_E_LIMIT);
  CHECK(viommu_bridges_put(engine, many.data(), 255) == VIOMMU_OK);
  CHECK(viommu_isolatable(engine, 0, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_in_scope(engine, 0, nullptr) == VIOMMU_E_ARGUMENT);
  viommu_description description = world.truth(0x0100);
  const auto told = [&](auto change) {
    viommu_description changed = description;
    change(changed);
    return world.may_tell(changed);
  };
  CHECK(told([](viommu_description&) {}) == VIOMMU_OK);
  CHECK(told([](viommu_description& d) { d.ability = 0; }) == VIOMMU_E_ARGUMENT);
  CHECK(told([](viommu_description& d) { d.ability = 4; }) == VIOMMU_E_ARGUMENT);
  CHECK(told([](viommu_description& d) { d.translated = 2; }) == VIOMMU_E_ARGUMENT);
  CHECK(told([](viommu_description& d) { d.isolatable = 2; }) == VIOMMU_E_ARGUMENT);
  CHECK(told([](viommu_description& d) { d.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(told([](viommu_description& d) { d.size = 8; }) == VIOMMU_E_ARGUMENT);
  description.size = 8;
  CHECK(viommu_describe(engine, &description) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::test
