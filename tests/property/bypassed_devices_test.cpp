// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: a device is in a scope of the table that the VMM writes if and only if its view is ever a translated one,
// however many of them bypass, without the VMM naming a single one.
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/behaviour/machine.hpp"
#include "tests/support/dmar_reader.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

constexpr unsigned bridge = 0x1C << 3;  // 00:1c.0
constexpr unsigned behind = 5;          // the bus behind it

struct Plugged {
  std::size_t unit = 0;
  bool bypassed = false;
  bool has_driver = false;  ///< that may agree
};

[[nodiscard]] viommu_dmar_scope scope_of(unsigned source) {
  viommu_dmar_scope scope{};
  scope.kind = VIOMMU_SCOPE_ENDPOINT;
  scope.hops = 1;
  if (source >> 8 == behind) {
    scope.path[0] = {bridge >> 3, 0};
    scope.hops = 2;
    scope.bus = behind;
  }
  scope.path[scope.hops - 1] = {static_cast<std::uint8_t>(source >> 3 & 31), static_cast<std::uint8_t>(source & 7)};
  return scope;
}

/// Two units of one segment: the first lists its devices, the second has the rest, and says so where it can.
class World {
 public:
  explicit World(std::uint64_t seed) : random_{seed} {
    for (Machine& machine : machines_) tree_ = machine.tables.create_tree(4);
    for (unsigned i = 0, count = 1 + static_cast<unsigned>(random_.below(24)); i < count; ++i)
      plug(static_cast<unsigned>(random_.below(0x1B << 3) | (random_.chance(1, 3) ? behind << 8 : 0)));
  }

  void act() {
    const unsigned source = devices_.begin()->first;
    switch (random_.below(3)) {
      case 0:
        REQUIRE(viommu_device_remove(engine(devices_.at(source).unit), static_cast<std::uint16_t>(source)) ==
                VIOMMU_OK);
        devices_.erase(source);
        if (devices_.empty()) plug(source ^ 8);
        break;
      case 1: plug(static_cast<unsigned>(random_.below(0x1B << 3))); break;
      default:
        for (Machine& machine : machines_) machine.boot();
        booted_ = true;
    }
  }
  /// @return what is wrong with the table, as it is written now
  [[nodiscard]] std::string check() {
    if (!booted_) {
      for (Machine& machine : machines_) machine.boot();
      booted_ = true;
    }
    std::array<std::vector<viommu_dmar_scope>, 2> scopes;
    for (const auto& [source, device] : devices_) scopes[device.unit].push_back(scope_of(source));
    std::array<viommu_dmar_unit, 2> units{};
    for (std::size_t i = 0; i < units.size(); ++i) {
      units[i] = {engine(i), 0xFED90000 + i * 0x4000, 0, 0, 0, static_cast<std::uint32_t>(scopes[i].size()), nullptr};
      units[i].scopes = scopes[i].data();
    }
    if (!scopes[1].empty()) units[1].flags = VIOMMU_DMAR_INCLUDE_ALL;
    viommu_dmar dmar{};
    dmar.size = sizeof dmar;
    dmar.unit_count = units.size();
    dmar.units = units.data();
    std::vector<std::byte> bytes(0x4000);
    std::size_t length = 0;
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    if (viommu_dmar_write(&dmar, bytes.data(), bytes.size(), &length, &refusal) != VIOMMU_OK)
      return std::string{"refused: "} + refusal.text;
    const DmarRead read = read_dmar(std::span{bytes}.first(length));
    if (!read.problem.empty()) return read.problem;
    const DmarRouting routing{read.table, {{0, PciBridges{{bridge, {behind, behind}}}}}};
    std::ostringstream wrong;
    if (routing.lost() != 0) wrong << "a way that leads nowhere\n";
    for (const auto& [source, device] : devices_) {
      const auto in_table = routing.unit_of(0, source, VIOMMU_SCOPE_ENDPOINT).unit;
      const auto id = static_cast<std::uint16_t>(source);
      if (device.has_driver) REQUIRE(viommu_driver_features(engine(device.unit), id, 1, nullptr) == VIOMMU_OK);
      std::uint32_t view = 0;
      REQUIRE(viommu_view(engine(device.unit), static_cast<std::uint16_t>(source), &view) == VIOMMU_OK);
      const bool translated = view == VIOMMU_VIEW_TRANSLATED;
      if (translated == device.bypassed) wrong << std::hex << source << " has view " << view << '\n';
      if (in_table.has_value() != translated || (translated && *in_table != device.unit))
        wrong << std::hex << source << (in_table ? " is" : " is not") << " in a scope\n";
      std::uint32_t listed = 0;
      REQUIRE(viommu_in_scope(engine(device.unit), id, &listed) == VIOMMU_OK);
      if ((listed == 1) != in_table.has_value()) wrong << std::hex << source << " is said to be otherwise\n";
      if (device.has_driver && random_.chance(1, 2))
        REQUIRE(viommu_driver_reset(engine(device.unit), id) == VIOMMU_OK);  // the next table is the same
      std::uint32_t unit = 0;
      const viommu_result found =
          viommu_dmar_unit_of(&dmar, 0, static_cast<std::uint16_t>(source), VIOMMU_SCOPE_ENDPOINT, &unit, nullptr);
      if ((found == VIOMMU_OK) != in_table.has_value() || (in_table && unit != *in_table))
        wrong << std::hex << source << " is routed otherwise\n";
    }
    return wrong.str();
  }

 private:
  [[nodiscard]] viommu_engine* engine(std::size_t unit) { return machines_[unit].engine.get(); }
  void plug(unsigned source) {
    if (devices_.contains(source)) return;
    Plugged& plugged = devices_[source];
    viommu_device device{};
    device.size = sizeof device;
    device.source = static_cast<std::uint16_t>(source);
    plugged = {random_.below(2)};
    switch (random_.below(8)) {  // half of them bypass
      case 0: device.flags = VIOMMU_DEVICE_BYPASSED; break;
      case 1: device.ability = VIOMMU_ABILITY_NOT_ABLE; break;
      case 2: device.wish = VIOMMU_WISH_BYPASS; break;
      case 3: device.flags = VIOMMU_DEVICE_VIRTIO; break;
      case 4:
        device.flags = VIOMMU_DEVICE_VIRTIO | VIOMMU_DEVICE_OFFERS_PLATFORM;
        plugged.has_driver = true;
        break;
      default: device.wish = random_.chance(1, 2) ? VIOMMU_WISH_TRANSLATE : VIOMMU_WISH_UNSET;
    }
    plugged.bypassed = device.flags == VIOMMU_DEVICE_BYPASSED || device.flags == VIOMMU_DEVICE_VIRTIO ||
                       device.ability == VIOMMU_ABILITY_NOT_ABLE || device.wish == VIOMMU_WISH_BYPASS;
    machines_[plugged.unit].tables.attach(device.source, tree_, {.domain_id = 7});
    REQUIRE(viommu_device_add(engine(plugged.unit), &device, nullptr) == VIOMMU_OK);
  }

  Random random_;
  std::array<Machine, 2> machines_;
  Tree tree_{};  // of either: both are built alike
  std::map<unsigned, Plugged> devices_;
  bool booted_ = false;
};

}  // namespace

TEST_CASE("a device is in a scope of the table if and only if its view is ever a translated one",
          "[property][topology][S4.5][S4.15]") {
  const std::uint64_t seeds = run_whole() ? 2'000 : 60;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    World world{seed};
    for (unsigned step = 0; step < 8; ++step) {
      const std::string wrong = world.check();
      INFO("seed " << seed << " step " << step << ": " << wrong);
      REQUIRE(wrong.empty());
      world.act();
    }
  }
}

}  // namespace viommu::test
