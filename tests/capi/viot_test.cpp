// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The VIOT table through the C interface.
#include <viommu/viommu_viot.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/behaviour/devices.hpp"
#include "tests/support/viot_reader.hpp"

namespace viommu::test {
namespace {

static_assert(sizeof(viommu_viot_range) == 12 && sizeof(viommu_viot_mmio) == 16 && sizeof(viommu_viot_unit) == 48 &&
              sizeof(viommu_viot) == 64);
static_assert(offsetof(viommu_viot_range, endpoint) == 8 && offsetof(viommu_viot_unit, base) == 8 &&
              offsetof(viommu_viot_unit, ranges) == 32 && offsetof(viommu_viot, oem_revision) == 28 &&
              offsetof(viommu_viot, units) == 48);

/// One unit of segment 0, for all that is there.
struct Described {
  viommu_viot_range range{0, 0, 0xFFFF, 0, 0};
  viommu_viot_mmio mmio{0x5000, 0x10000, 0};
  viommu_viot_unit unit{nullptr, 0, VIOMMU_VIOT_PCI, 0, 0x0008, 1, 1, nullptr, nullptr};
  viommu_dmar_bypass bypass{0, 0x1000, 0x10FF, 0};
  viommu_viot viot{};
  viommu_refusal refusal{};

  Described() {
    unit.ranges = &range;
    unit.mmio = &mmio;
    viot.size = sizeof viot;
    viot.unit_count = 1;
    viot.units = &unit;
    viot.bypass_count = 1;
    viot.bypassed = &bypass;
    refusal.size = sizeof refusal;
  }
  Described(const Described&) = delete;
  Described& operator=(const Described&) = delete;

  [[nodiscard]] std::vector<std::byte> table() {
    std::size_t length = 0;
    CHECK(viommu_viot_write(&viot, nullptr, 0, &length, &refusal) == VIOMMU_E_RANGE);
    std::vector<std::byte> bytes(length);
    CHECK(viommu_viot_write(&viot, bytes.data(), bytes.size(), &length, nullptr) == VIOMMU_OK);
    CHECK(length == bytes.size());
    return bytes;
  }
  /// The endpoint id of a source id; -1 when it is none.
  [[nodiscard]] std::int64_t id(std::uint16_t source) {
    std::uint32_t unit_index = 9;
    std::uint32_t endpoint = 9;
    const viommu_result result = viommu_viot_endpoint_of(&viot, 0, source, &unit_index, &endpoint, nullptr);
    if (result != VIOMMU_OK) {
      CHECK(result == VIOMMU_E_NOT_FOUND);
      return -1;
    }
    CHECK(unit_index == 0);
    return endpoint;
  }
};

}  // namespace

TEST_CASE("the VIOT table leaves out what a unit's engine knows to bypass", "[capi][topology][S4.5][A32][VIOT]") {
  Machine machine{unit_options(cap_39_announced)};
  const auto add = [&](std::uint16_t source, std::uint8_t ability, std::uint32_t flags = 0) {
    viommu_device device = described(source, VIOMMU_DEVICE_EMULATED, flags);
    device.ability = ability;
    return viommu_device_add(machine.engine.get(), &device, nullptr);
  };
  REQUIRE(add(0x2000, VIOMMU_ABILITY_ABLE) == VIOMMU_OK);
  REQUIRE(add(0x2008, VIOMMU_ABILITY_NOT_ABLE) == VIOMMU_OK);
  REQUIRE(add(0x2010, VIOMMU_ABILITY_ABLE, VIOMMU_DEVICE_BYPASSED) == VIOMMU_OK);
  REQUIRE(add(0x2018, 0, VIOMMU_DEVICE_VIRTIO | VIOMMU_DEVICE_OFFERS_PLATFORM) == VIOMMU_OK);
  Described described;
  CHECK(described.id(0x2008) == 0x2008);  // nobody has said otherwise
  described.unit.engine = machine.engine.get();
  CHECK(described.id(0x2000) == 0x2000);
  CHECK(described.id(0x2008) == -1);
  CHECK(described.id(0x2010) == -1);
  CHECK(described.id(0x2018) == 0x2018);
  CHECK(described.id(0x1008) == -1);
  CHECK(described.id(0x0008) == -1);
  const ViotRead read = read_viot(described.table());
  CHECK(read.problem.empty());
  CHECK(read.oem_id == "VIOMMU");
  for (unsigned source = 0; source < 0x3000; ++source) {
    const auto found = read.find(0, source);
    const std::int64_t id = found.empty() ? -1 : std::int64_t{found[0].endpoint};
    if (id != described.id(static_cast<std::uint16_t>(source))) FAIL("source id " << source);
  }
}

TEST_CASE("a VIOT description that makes no sense writes nothing", "[capi][topology][VIOT]") {
  std::size_t length = 7;
  const auto after = [&](auto change) {
    Described described;
    change(described);
    std::vector<std::byte> bytes(0x1000, std::byte{0x55});
    const viommu_result result =
        viommu_viot_write(&described.viot, bytes.data(), bytes.size(), &length, &described.refusal);
    if (result != VIOMMU_OK) CHECK(bytes == std::vector<std::byte>(0x1000, std::byte{0x55}));
    return result;
  };
  CHECK(after([](Described&) {}) == VIOMMU_OK);
  CHECK(after([](Described& d) { d.viot.size = 8; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.viot.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.viot.units = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.viot.bypassed = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.unit.ranges = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.unit.mmio = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.unit.kind = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.unit.base = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.unit.kind = VIOMMU_VIOT_MMIO; }) == VIOMMU_E_ARGUMENT);  // and a source id
  CHECK(after([](Described& d) { d.range.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.mmio.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.bypass.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.viot.oem_id[2] = '\t'; }) == VIOMMU_E_REFUSED);
  CHECK(after([](Described& d) { d.viot.unit_count = 0; }) == VIOMMU_E_REFUSED);
  CHECK(after([](Described& d) { d.viot.unit_count = 257; }) == VIOMMU_E_REFUSED);
  CHECK(after([](Described& d) { d.unit.range_count = 1025; }) == VIOMMU_E_REFUSED);
  CHECK(after([](Described& d) { d.unit.mmio_count = 1025; }) == VIOMMU_E_REFUSED);
  CHECK(after([](Described& d) { d.viot.bypass_count = 4097; }) == VIOMMU_E_REFUSED);
  CHECK(after([](Described& d) {
          d.unit.mmio_count = 1;
          d.mmio.endpoint = 5;  // that of a PCI function
        }) == VIOMMU_E_REFUSED);
  Described described;
  described.mmio.endpoint = 5;
  CHECK(viommu_viot_write(&described.viot, nullptr, 0, &length, &described.refusal) == VIOMMU_E_REFUSED);
  CHECK(std::string{described.refusal.field} == "viot[0].mmio[0]");
  CHECK(described.refusal.code == VIOMMU_REFUSED_INVALID);
  CHECK(viommu_viot_write(nullptr, nullptr, 0, &length, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_viot_write(&described.viot, nullptr, 0, nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  std::uint32_t found = 0;
  CHECK(viommu_viot_endpoint_of(&described.viot, 0, 0, nullptr, &found, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_viot_endpoint_of(&described.viot, 0, 0, &found, nullptr, nullptr) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::test
