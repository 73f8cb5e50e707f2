// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the host's IOMMU can do, held against what the unit says; narrowing before the guest runs, and nothing after.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/fault.hpp"
#include "engine/vtd/machine_side.hpp"
#include "tests/behaviour/devices.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t bit_40 = std::uint64_t{1} << 40;

[[nodiscard]] viommu_vtd_options syncing(std::uint64_t cap, unsigned haw, std::uint32_t flags = 0) {
  return unit_options(cap, haw, VIOMMU_POLICY_SYNC, flags);
}
[[nodiscard]] viommu_vtd_options first_stage_options(std::uint64_t cap = cap_48_announced) {
  viommu_vtd_options options = unit_options(cap, 0, 0, VIOMMU_FIRST_STAGE_CHECKS);
  options.extended_capability = ecap_first_stage;
  return options;
}
[[nodiscard]] std::string field_of(const viommu_refusal& refusal) { return refusal.field; }

}  // namespace

TEST_CASE("a device is registered once, follows its bus, and can be given facts again",
          "[behaviour][machine][S2.1][A20]") {
  Machine machine{unit_options(cap_48_announced)};
  viommu_engine* const engine = machine.engine.get();
  HostIommu host;
  CHECK(plug_real(machine.engine, device_a, host).code == VIOMMU_REFUSED_NOTHING);
  host.asked.clear();
  const viommu_refusal again = plug_real(machine.engine, device_a, host);
  CHECK(again.code == VIOMMU_REFUSED_ALREADY_EXISTS);
  CHECK(again.source == device_a);
  CHECK(says(again, "01:00.0"));
  CHECK(host.asked.empty());
  CHECK(plug_emulated(machine.engine, device_a) == VIOMMU_E_REFUSED);

  CHECK(viommu_bus_renumber(engine, 1, 4) == VIOMMU_OK);
  CHECK(plug_real(machine.engine, 0x0400, host).code == VIOMMU_REFUSED_ALREADY_EXISTS);
  CHECK(plug_real(machine.engine, device_a, host).code == VIOMMU_REFUSED_NOTHING);
  CHECK(viommu_bus_renumber(engine, 1, 4) == VIOMMU_E_EXISTS);

  CHECK(viommu_host_facts_unset(engine, 0x0400) == VIOMMU_OK);
  CHECK(viommu_host_facts_unset(engine, 0x0400) == VIOMMU_OK);
  CHECK(plug_real(machine.engine, 0x0400, host).code == VIOMMU_REFUSED_NOTHING);
  CHECK(plug_real(machine.engine, 0x0400, host).code == VIOMMU_REFUSED_ALREADY_EXISTS);
  CHECK(viommu_device_remove(engine, 0x0400) == VIOMMU_OK);
  CHECK(viommu_device_remove(engine, 0x0400) == VIOMMU_OK);
  CHECK(plug_real(machine.engine, 0x0400, host).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("a fact that cannot be had is never taken for a zero", "[behaviour][machine][S2.2]") {
  const bool sync = GENERATE(false, true);
  const auto refused = [&](const HostIommu& iommu) {
    HostIommu host = iommu;
    Machine machine{unit_options(cap_48_announced, 39, sync ? VIOMMU_POLICY_SYNC : VIOMMU_POLICY_CHECK)};
    const viommu_refusal refusal = plug_real(machine.engine, device_a, host);
    if (refusal.code != VIOMMU_REFUSED_NOTHING) {
      CHECK(refusal.code == VIOMMU_REFUSED_FIELD_MISMATCH);
      CHECK(capabilities_of(machine.engine) == InForce{cap_48_announced, ecap_usual, 39});
      // Nothing is registered.
      CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
    }
    return std::pair{field_of(refusal), refusal.found};
  };
  const std::pair<std::string, std::uint64_t> taken;
  for (const char* const question : {"kind", "width", "capabilities", "iova_ranges", "page_sizes"}) {
    CAPTURE(question, sync);
    HostIommu host;
    host.broken = question;
    host.error = -38;
    CHECK(refused(host) == std::pair{std::string{question}, std::uint64_t{38}});
  }
  // A function that is not there is refused where its fact is needed.
  const auto without = [](const char* question) {
    HostIommu host;
    host.missing = question;
    return host;
  };
  CHECK(refused(without("width")) == std::pair{std::string{"width"}, std::uint64_t{0}});
  const auto needed_to_sync = [&](const char* question) {
    return sync ? std::pair{std::string{question}, std::uint64_t{0}} : taken;
  };
  CHECK(refused(without("kind")) == needed_to_sync("kind"));
  CHECK(refused(without("capabilities")) == needed_to_sync("capabilities"));
  CHECK(refused(without("iova_ranges")) == taken);
  CHECK(refused(without("page_sizes")) == taken);
  // Legacy VFIO has neither kind nor registers, and its width is that of the highest address it maps.
  CHECK(refused(HostIommu::legacy({{0, 0xFFFF'FFFF'FFFF}})) == taken);
}

TEST_CASE("checking: a host that is narrower than the unit is refused, cold and hot, and nothing changes",
          "[behaviour][machine][S2.3][A21]") {
  const bool hot = GENERATE(false, true);
  Machine machine{unit_options(cap_48_announced, 39)};
  if (hot) REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  const std::vector<std::uint64_t> before = snapshot(machine.engine);
  const viommu_refusal refusal = plug_real(machine.engine, device_a, HostIommu{39});
  CHECK(refusal.code == VIOMMU_REFUSED_WIDTH_TOO_SMALL);
  CHECK(refusal.expected == 48);
  CHECK(refusal.found == 39);
  CHECK(says(refusal, "48"));
  CHECK(says(refusal, "39"));
  CHECK(field_of(refusal) == "MGAW");
  CHECK(snapshot(machine.engine) == before);
  CHECK(capabilities_of(machine.engine).cap == cap_48_announced);
  CHECK(plug_real(machine.engine, device_a, HostIommu{48}).code == VIOMMU_REFUSED_NOTHING);
  CHECK(plug_real(machine.engine, device_b, HostIommu{57}).code == VIOMMU_REFUSED_NOTHING);
  // The register counts too, when it says less than the width.
  HostIommu two_minds{48};
  two_minds.cap = host_cap(46);
  const viommu_refusal field = plug_real(machine.engine, 0x0300, two_minds);
  CHECK(field.code == VIOMMU_REFUSED_FIELD_MISMATCH);
  CHECK(field_of(field) == "MGAW");
  CHECK(field.expected == 47);
  CHECK(field.found == 45);
  CHECK(blockers_of(machine.engine).empty());
}

TEST_CASE("syncing: a cold host narrows MGAW, and SAGAW to the tables that still are of use",
          "[behaviour][machine][S2.4][A22]") {
  Machine machine{syncing(cap_48_announced, 39)};
  SECTION("39 bits") {
    CHECK(plug_real(machine.engine, device_a, HostIommu{39}).code == VIOMMU_REFUSED_NOTHING);
    CHECK(capabilities_of(machine.engine) == InForce{cap_39_announced, ecap_usual, 39});
    CHECK(plug_real(machine.engine, device_b, HostIommu{48}).code == VIOMMU_REFUSED_NOTHING);
    CHECK(capabilities_of(machine.engine).cap == cap_39_announced);
  }
  SECTION("46 bits keep the tables of 48, and stop at 2^46") {
    CHECK(plug_real(machine.engine, device_a, HostIommu{46}).code == VIOMMU_REFUSED_NOTHING);
    CHECK(capabilities_of(machine.engine).cap == 0x80D2'008C'222D'0686);
    const Tree tree = machine.attach(device_a, 7, 4);
    machine.tables.map(tree, 0x3FFF'FFFF'F000, 0x200000);
    machine.boot();
    CHECK(machine.lands(device_a, 0x3FFF'FFFF'F000) == 0x200000);
    CHECK(machine.blocked(device_a, 0x4000'0000'0000) == static_cast<unsigned>(FaultReason::address_beyond_width));
  }
  SECTION("legacy VFIO: the highest address it maps, and nothing else") {
    CHECK(plug_real(machine.engine, device_a, HostIommu::legacy({{0, 0xFEDF'FFFF}, {0xFEF0'0000, 0x7F'FFFF'FFFF}}))
              .code == VIOMMU_REFUSED_NOTHING);
    CHECK(capabilities_of(machine.engine).cap == cap_39_announced);
  }
  SECTION("legacy VFIO that does not say what it maps: all of it") {
    HostIommu host = HostIommu::legacy({});
    host.missing = "iova_ranges";
    CHECK(plug_real(machine.engine, device_a, host).code == VIOMMU_REFUSED_NOTHING);
    CHECK(capabilities_of(machine.engine).cap == cap_48_announced);
    CHECK(blockers_of(machine.engine).empty());
  }
  SECTION("a host that leaves no table at all is refused") {
    viommu_vtd_options options = syncing(cap_48_announced, 32, VIOMMU_NARROW_HAW);
    Machine other{options};
    const viommu_refusal refusal = plug_real(other.engine, device_a, HostIommu{30});
    CHECK(refusal.code == VIOMMU_REFUSED_FIELD_MISMATCH);
    CHECK(field_of(refusal) == "SAGAW");
    CHECK(capabilities_of(other.engine) == InForce{cap_48_announced, ecap_usual, 32});
    // 31 bits would take a table, but guest-physical addresses have at least 32.
    CHECK(field_of(plug_real(other.engine, device_a, HostIommu{31})) == "HAW");
    CHECK(plug_real(other.engine, device_a, HostIommu{32}).code == VIOMMU_REFUSED_NOTHING);
  }
}

TEST_CASE("syncing: once the machine is ready its capabilities are frozen, and a lesser host is refused",
          "[behaviour][machine][S2.5]") {
  Machine machine{syncing(cap_48_announced, 39)};
  REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  const Tree tree = machine.attach(device_b, 7, 4);
  machine.tables.map(tree, 0x1000, 0x200000);
  machine.boot();
  CHECK(machine.lands(device_b, 0x1000) == 0x200000);
  const std::vector<std::uint64_t> before = snapshot(machine.engine);
  const viommu_refusal refusal = plug_real(machine.engine, device_a, HostIommu{39});
  CHECK(refusal.code == VIOMMU_REFUSED_WIDTH_TOO_SMALL);
  CHECK(snapshot(machine.engine) == before);
  CHECK(blockers_of(machine.engine).empty());
  CHECK(plug_real(machine.engine, device_a, HostIommu{48}).code == VIOMMU_REFUSED_NOTHING);
  CHECK(snapshot(machine.engine) == before);
}

TEST_CASE("syncing: the order of hosts does not count, and one narrowing is as good as many",
          "[behaviour][machine][S2.6]") {
  std::array<unsigned, 3> widths{48, 52, 57};
  do {
    CAPTURE(widths[0], widths[1], widths[2]);
    viommu_vtd_options options = syncing(0x80D2'008C'2238'0E86, 48);  // 57 bits
    Machine machine{options};
    std::uint16_t source = device_a;
    for (const unsigned width : widths) {
      CHECK(plug_real(machine.engine, source, HostIommu{width}).code == VIOMMU_REFUSED_NOTHING);
      source = static_cast<std::uint16_t>(source + 0x0100);
    }
    CHECK(capabilities_of(machine.engine).cap == cap_48_announced);
    CHECK(blockers_of(machine.engine).size() == 1);
    CHECK(plug_real(machine.engine, source, HostIommu{48}).code == VIOMMU_REFUSED_NOTHING);
    CHECK(blockers_of(machine.engine).size() == 1);
  } while (std::ranges::next_permutation(widths).found);
}

TEST_CASE("narrowed capabilities survive resets and the device they came from",
          "[behaviour][machine][S2.7][S2.8][S2.9][A24]") {
  Machine machine{syncing(cap_48_announced, 48, VIOMMU_NARROW_HAW)};
  const InForce narrowed{cap_39_announced, ecap_usual, 39};
  CHECK(plug_real(machine.engine, device_a, HostIommu{39}).code == VIOMMU_REFUSED_NOTHING);
  CHECK(capabilities_of(machine.engine) == narrowed);
  const bool reset_while_building = GENERATE(false, true);
  if (reset_while_building) CHECK(machine.engine.reset() == VIOMMU_OK);
  REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  const std::vector<std::string> blockers = blockers_of(machine.engine);
  REQUIRE(blockers.size() == 1);
  CHECK(blockers[0].find("host IOMMU") != std::string::npos);
  for (int i = 0; i < 3; ++i) {
    CHECK(machine.engine.reset() == VIOMMU_OK);
    CHECK(capabilities_of(machine.engine) == narrowed);
  }
  machine.write(offset::root_table, ~std::uint64_t{0}, 8);
  CHECK(machine.read(offset::root_table, 8) == 0x7F'FFFF'FC00);

  CHECK(viommu_device_remove(machine.engine.get(), device_a) == VIOMMU_OK);
  CHECK(capabilities_of(machine.engine) == narrowed);
  CHECK(blockers_of(machine.engine) == blockers);
  CHECK(plug_real(machine.engine, device_a, HostIommu{39}).code == VIOMMU_REFUSED_NOTHING);
  const std::vector<std::uint64_t> before = snapshot(machine.engine);
  const viommu_refusal refusal = plug_real(machine.engine, device_b, HostIommu{36});
  CHECK(refusal.code == VIOMMU_REFUSED_WIDTH_TOO_SMALL);
  CHECK(field_of(refusal) == "MGAW");
  CHECK(snapshot(machine.engine) == before);
}

TEST_CASE("what would block migration is refused where migration has to stay possible", "[behaviour][machine][S2.9]") {
  Machine machine{syncing(cap_48_announced, 39, VIOMMU_MIGRATABLE_ONLY)};
  CHECK(plug_real(machine.engine, device_a, HostIommu{39}).code == VIOMMU_REFUSED_MIGRATION_NOT_ALLOWED);
  CHECK(capabilities_of(machine.engine).cap == cap_48_announced);
  CHECK(blockers_of(machine.engine).empty());
  // A host that changes nothing is welcome, and blocks nothing.
  CHECK(plug_real(machine.engine, device_a, HostIommu{48}).code == VIOMMU_REFUSED_NOTHING);
  CHECK(blockers_of(machine.engine).empty());
  char text[4] = "???";
  CHECK(viommu_migration_blocker(machine.engine.get(), 0, text, sizeof text) == VIOMMU_E_NOT_FOUND);
  CHECK(std::string{text}.empty());
}

TEST_CASE("after narrowing every address is judged by the widths that are left", "[behaviour][machine][S2.10]") {
  constexpr std::uint16_t source = device_a;
  const auto reason = [](Machine& machine, std::uint64_t iova = 0x1000) { return machine.blocked(source, iova); };
  const auto code = [](FaultReason why) { return static_cast<unsigned>(why); };
  SECTION("both widths 39") {
    Machine machine{syncing(cap_48_announced, 48, VIOMMU_NARROW_HAW)};
    REQUIRE(plug_real(machine.engine, device_a, HostIommu{39}).code == VIOMMU_REFUSED_NOTHING);
    REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
    // Not an address bit of the machine's any more, so registers do not have it.
    for (const std::uint32_t where : {offset::root_table, offset::queue_address, offset::interrupt_table}) {
      machine.write(where, ~std::uint64_t{0}, 8);
      CHECK((machine.read(where, 8) & ~low_bits(39)) == 0);
      CHECK((machine.read(where, 8) & std::uint64_t{1} << 38) != 0);
      machine.write(where, 0, 8);
    }
    const Tree tree = machine.attach(source, 7, 3);
    machine.tables.map(tree, 0x1000, 0x200000);
    machine.tables.map(tree, 0x2000, 0x200000 | bit_40);
    machine.boot();
    CHECK(machine.lands(source, 0x1000) == 0x200000);
    CHECK(reason(machine, 0x2000) == code(FaultReason::entry_reserved));
    CHECK(reason(machine, std::uint64_t{1} << 39) == code(FaultReason::address_beyond_width));
    machine.attach_pass_through(source, 5, 1);
    machine.engine.drop_caches();
    CHECK(machine.lands(source, low_bits(39)) == low_bits(39));
    CHECK(reason(machine, std::uint64_t{1} << 39) == code(FaultReason::address_beyond_width));
    // A table of 48 bits is no longer one of the unit's.
    static_cast<void>(machine.attach(source, 8, 4));
    machine.engine.drop_caches();
    CHECK(reason(machine) == code(FaultReason::context_invalid));
    machine.tables.set_context(source, tree.root | bit_40 | 1, 0x701);
    machine.engine.drop_caches();
    CHECK(reason(machine) == code(FaultReason::context_reserved));
    const std::uint64_t root_entry = machine.tables.root_table() + 16 * std::uint64_t{source >> 8};
    const std::optional<std::uint64_t> word = words_of(machine.memory).load(root_entry);
    words_of(machine.memory).store(root_entry, *word | bit_40);
    machine.engine.drop_caches();
    CHECK(reason(machine) == code(FaultReason::root_reserved));
  }
  SECTION("HAW 40 beside input addresses that were narrowed to 46") {
    Machine machine{syncing(cap_48_announced, 40)};
    REQUIRE(plug_real(machine.engine, device_a, HostIommu{46}).code == VIOMMU_REFUSED_NOTHING);
    const Tree tree = machine.attach(source, 7, 4);
    machine.tables.map(tree, 0x1000, 0x200000 | std::uint64_t{1} << 39);
    machine.tables.map(tree, 0x2000, 0x200000 | bit_40);
    machine.tables.map(tree, bit_40, 0x300000);
    machine.boot();
    CHECK(machine.lands(source, 0x1000) == (0x200000 | std::uint64_t{1} << 39));
    CHECK(reason(machine, 0x2000) == code(FaultReason::entry_reserved));
    CHECK(machine.lands(source, bit_40) == 0x300000);
    machine.attach_pass_through(source, 5);
    machine.engine.drop_caches();
    CHECK(reason(machine, bit_40) == code(FaultReason::address_beyond_width));
  }
}

TEST_CASE("another vendor's host is refused where its registers are needed, and only there",
          "[behaviour][machine][S2.12]") {
  HostIommu host;
  host.kind = VIOMMU_HOST_KIND_SMMUV3;
  host.cap = 0;  // means nothing
  for (const auto& [options, accepted] :
       std::vector<std::pair<viommu_vtd_options, bool>>{{unit_options(cap_48_announced), true},
                                                        {syncing(cap_48_announced, 48), false},
                                                        {first_stage_options(), false}}) {
    Machine machine{options};
    const viommu_refusal refusal = plug_real(machine.engine, device_a, host);
    CHECK(refusal.code == (accepted ? VIOMMU_REFUSED_NOTHING : VIOMMU_REFUSED_HOST_TYPE));
    if (accepted) continue;
    CHECK(refusal.found == 2);
    CHECK(says(refusal, "incompatible host IOMMU type"));
    CHECK(says(refusal, "found 2"));
  }
  host.width = 39;
  Machine machine{unit_options(cap_48_announced, 39)};
  CHECK(plug_real(machine.engine, device_a, host).code == VIOMMU_REFUSED_WIDTH_TOO_SMALL);
}

TEST_CASE("a host that walks the guest's first stage needs what that takes", "[behaviour][machine][S2.13][A25]") {
  constexpr std::uint64_t fs1gp = std::uint64_t{1} << 56;
  constexpr std::uint64_t nest = std::uint64_t{1} << 26;
  Machine machine{first_stage_options(cap_48_announced | fs1gp)};
  viommu_device device = described(device_a, VIOMMU_DEVICE_HOST);
  HostIommu host;
  host.cap |= fs1gp;
  std::uint32_t code = VIOMMU_REFUSED_NOTHING;
  std::string field;
  SECTION("iommufd") {
    host.backend = VIOMMU_BACKEND_VFIO;
    code = VIOMMU_REFUSED_NEED_IOMMUFD;
    field = "backend";
  }
  SECTION("its own kind") {
    host.kind = VIOMMU_HOST_KIND_SMMUV3;
    code = VIOMMU_REFUSED_HOST_TYPE;
    field = "kind";
  }
  SECTION("nesting") {
    host.ecap &= ~nest;
    code = VIOMMU_REFUSED_NESTING_UNSUPPORTED;
    field = "NEST";
  }
  SECTION("1 GiB pages, where they are offered") {
    host.cap &= ~fs1gp;
    code = VIOMMU_REFUSED_FIELD_MISMATCH;
    field = "FS1GP";
  }
  SECTION("no alias") {
    device.flags |= VIOMMU_DEVICE_HAS_ALIAS;
    device.alias = 0x0500;
    code = VIOMMU_REFUSED_ALIAS_CONFLICT;
    field = "alias";
  }
  viommu_refusal refusal{};
  CHECK(plug(machine.engine, device, &host, refusal) == VIOMMU_E_REFUSED);
  CHECK(refusal.code == code);
  CHECK(field_of(refusal) == field);
  // Nothing was registered, and with all of it the device is taken.
  HostIommu complete;
  complete.cap |= fs1gp;
  CHECK(plug_real(machine.engine, device_a, complete).code == VIOMMU_REFUSED_NOTHING);
  // 1 GiB pages that are not offered are not asked for.
  Machine modest{first_stage_options()};
  CHECK(plug_real(modest.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("each bit of the host's registers that a rule names counts, and no other", "[behaviour][machine][S2.14]") {
  const bool first_stage = GENERATE(false, true);
  const auto mode = first_stage ? machine::CheckMode::first_stage : machine::CheckMode::second_stage;
  const std::uint64_t cap = cap_48_announced | std::uint64_t{1} << 56;
  // All of scalable mode that is offered at all: PSS 15, PASID, SRS, EAFS, SC and those of the fixture.
  const std::uint64_t ecap = ecap_first_stage | 0x80 | std::uint64_t{1} << 31 | std::uint64_t{1} << 34 |
                             std::uint64_t{15} << 35 | std::uint64_t{1} << 40;
  viommu_vtd_options options = unit_options(cap, 0, 0, first_stage ? VIOMMU_FIRST_STAGE_CHECKS : 0);
  options.extended_capability = ecap;
  unsigned refusals = 0;
  for (const machine::CapabilityField& field : vtd::capability_fields())
    for (unsigned bit = field.bits.low; bit <= field.bits.high; ++bit) {
      Machine machine{options};
      HostIommu host;
      host.cap = cap;
      host.ecap = ecap;
      std::uint64_t& word = field.word == 0 ? host.cap : host.ecap;
      const std::uint64_t own = field.value({cap, ecap});
      word ^= std::uint64_t{1} << bit;
      const std::uint64_t there = field.value({host.cap, host.ecap});
      bool fits = true;
      switch (field.rule(mode)) {
        case machine::FieldRule::ignore:        break;
        case machine::FieldRule::less_or_equal: fits = own <= there; break;
        case machine::FieldRule::subset:        fits = (own & ~there) == 0; break;
        case machine::FieldRule::exact:         fits = own == there; break;
      }
      const bool nesting = first_stage && field.name == "NEST";
      if (nesting) fits = there != 0;
      CAPTURE(std::string{field.name}, bit, first_stage);
      const viommu_refusal refusal = plug_real(machine.engine, device_a, host);
      CHECK((refusal.code == VIOMMU_REFUSED_NOTHING) == fits);
      if (fits) continue;
      ++refusals;
      CHECK(refusal.code == (nesting ? VIOMMU_REFUSED_NESTING_UNSUPPORTED : VIOMMU_REFUSED_FIELD_MISMATCH));
      CHECK(field_of(refusal) == field.name);
    }
  // MGAW 47 is five bits that can be missing; first stage adds FS1GP, SC, NEST, SRS, EAFS, PSS (4), PASID, SMTS, FSTS
  // and SMPWCS.
  CHECK(refusals == (first_stage ? 5U + 13U : 5U));
}

TEST_CASE("devices behind one requester id are one device to the host", "[behaviour][machine][S2.17]") {
  Machine machine{unit_options(cap_48_announced)};
  const auto behind = [&](std::uint16_t source, HostIommu host) {
    viommu_device device = described(source, VIOMMU_DEVICE_HOST, VIOMMU_DEVICE_HAS_ALIAS);
    device.alias = 0x0500;
    viommu_refusal refusal{};
    static_cast<void>(plug(machine.engine, device, &host, refusal));
    return refusal;
  };
  CHECK(behind(0x0508, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
  CHECK(behind(0x0510, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
  const auto conflict = [&](const HostIommu& host, const char* fact) {
    const viommu_refusal refusal = behind(0x0518, host);
    CHECK(refusal.code == VIOMMU_REFUSED_ALIAS_CONFLICT);
    CHECK(field_of(refusal) == fact);
    CHECK(refusal.found == 0x0500);
    CHECK(says(refusal, "05:03.0"));
  };
  HostIommu other;
  other.ranges.back().last = 0x7FFF'FFFF'FFFF;
  conflict(other, "iova_ranges");
  HostIommu unknown;
  unknown.missing = "iova_ranges";
  conflict(unknown, "iova_ranges");
  HostIommu pages;
  pages.page_sizes = 0x1000;
  conflict(pages, "page_sizes");
  conflict(HostIommu{57}, "width");
  // The bridge's own id is that of the others.
  other.ranges = {{0, 1}};
  CHECK(plug_real(machine.engine, 0x0500, other).code == VIOMMU_REFUSED_ALIAS_CONFLICT);
  // What one was taken for stays when the other goes, and follows its bus.
  CHECK(viommu_device_remove(machine.engine.get(), 0x0508) == VIOMMU_OK);
  conflict(pages, "page_sizes");
  CHECK(viommu_bus_renumber(machine.engine.get(), 5, 6) == VIOMMU_OK);
  CHECK(behind(0x0518, pages).code == VIOMMU_REFUSED_NOTHING);
  CHECK(plug_real(machine.engine, 0x0600, pages).code == VIOMMU_REFUSED_ALIAS_CONFLICT);
  CHECK(viommu_device_remove(machine.engine.get(), 0x0610) == VIOMMU_OK);
  CHECK(plug_real(machine.engine, 0x0600, pages).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("checks come in one order, and the first that fails is told", "[behaviour][machine][S2.18]") {
  // A host with everything wrong; each step sets right what the one before was told.
  viommu_vtd_options options = first_stage_options(cap_48 | std::uint64_t{1} << 56);
  options.policy = VIOMMU_POLICY_SYNC;
  Machine machine{options};
  HostIommu first;
  first.cap = cap_48 | std::uint64_t{1} << 56;
  CHECK(plug_real(machine.engine, device_b, first).code == VIOMMU_REFUSED_NOTHING);
  CHECK(viommu_device_remove(machine.engine.get(), device_b) == VIOMMU_OK);
  CHECK(plug_emulated(machine.engine, device_b) == VIOMMU_OK);

  HostIommu host{39};
  host.backend = VIOMMU_BACKEND_VFIO;
  host.kind = VIOMMU_HOST_KIND_SMMUV3;
  host.ecap = 0;
  host.broken = "page_sizes";
  host.error = -1;
  host.ranges = {{1, 0}};
  std::uint16_t source = device_b;
  const auto told = [&] {
    viommu_device device = described(source, VIOMMU_DEVICE_HOST, VIOMMU_DEVICE_HAS_ALIAS);
    device.alias = 0x0500;
    viommu_refusal refusal{};
    host.asked.clear();
    const viommu_result result = plug(machine.engine, device, &host, refusal);
    CHECK(result == (refusal.code == VIOMMU_REFUSED_NOTHING ? VIOMMU_OK : VIOMMU_E_REFUSED));
    return std::pair{std::string{viommu_refusal_name(refusal.code)}, field_of(refusal)};
  };
  using Told = std::pair<std::string, std::string>;
  using Questions = std::vector<std::string>;
  CHECK(told() == Told{"AlreadyExists", ""});
  source = device_a;
  SECTION("hot: announcing comes next, and the host is not asked") {
    REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
    CHECK(told() == Told{"CachingModeRequired", "caching-mode"});
    CHECK(host.asked.empty());
  }
  SECTION("cold: announcing is told at the start") {
    CHECK(told() == Told{"NeedIommufd", "backend"});
    CHECK(host.asked.empty());
    host.backend = VIOMMU_BACKEND_IOMMUFD;
    CHECK(told() == Told{"IncompatibleHostType", "kind"});
    CHECK(host.asked == Questions{"kind"});
    host.kind = VIOMMU_HOST_KIND_VTD;
    CHECK(told() == Told{"NarrowsHaw", "HAW"});
    CHECK(host.asked == Questions{"kind", "width", "capabilities"});
    host.width = 48;
    host.cap = host_cap(48);
    CHECK(told() == Told{"FieldMismatch", "FS1GP"});
    host.cap |= std::uint64_t{1} << 56;
    CHECK(told() == Told{"NestingUnsupported", "NEST"});
    host.ecap = ecap_first_stage;
    CHECK(told() == Told{"FieldMismatch", "page_sizes"});
    host.broken = "";
    CHECK(told() == Told{"FieldMismatch", "iova_ranges"});
    host.ranges = {{0, 1}};
    CHECK(told() == Told{"AliasConflict", "alias"});
    CHECK(host.asked == Questions{"kind", "width", "capabilities", "page_sizes", "iova_ranges", "iova_ranges"});
    CHECK(capabilities_of(machine.engine).cap == options.capability);
  }
}

TEST_CASE("guest-physical addresses are narrowed only where the embedder says so, and not below its memory",
          "[behaviour][machine][S2.19][A22]") {
  SECTION("without it the device is refused") {
    Machine machine{syncing(cap_48_announced, 46)};
    const viommu_refusal refusal = plug_real(machine.engine, device_a, HostIommu{39});
    CHECK(refusal.code == VIOMMU_REFUSED_NARROWS_HAW);
    CHECK(refusal.expected == 46);
    CHECK(refusal.found == 39);
    CHECK(says(refusal, "46"));
    CHECK(says(refusal, "39"));
    CHECK(capabilities_of(machine.engine) == InForce{cap_48_announced, ecap_usual, 46});
    CHECK(blockers_of(machine.engine).empty());
    CHECK(plug_real(machine.engine, device_a, HostIommu{46}).code == VIOMMU_REFUSED_NOTHING);
  }
  Machine machine{syncing(cap_48_announced, 48, VIOMMU_NARROW_HAW)};
  alignas(0x1000) static std::array<std::byte, 0x1000> page;
  const std::span memory{page};
  SECTION("with it both are") {
    REQUIRE(machine.engine.add_region((std::uint64_t{1} << 39) - 0x1000, memory) == VIOMMU_OK);
    CHECK(plug_real(machine.engine, device_a, HostIommu{39}).code == VIOMMU_REFUSED_NOTHING);
    CHECK(capabilities_of(machine.engine) == InForce{cap_39_announced, ecap_usual, 39});
    // Memory that comes later has to lie below.
    CHECK(machine.engine.add_region(std::uint64_t{1} << 39, memory) == VIOMMU_E_RANGE);
    CHECK(machine.engine.add_region(0x8000'0000, memory) == VIOMMU_OK);
    CHECK(plug_real(machine.engine, device_b, HostIommu{36}).code == VIOMMU_REFUSED_NARROWS_HAW);
  }
  SECTION("not while memory ends above") {
    REQUIRE(machine.engine.add_region(bit_40 - 0x1000, memory) == VIOMMU_OK);
    const viommu_refusal refusal = plug_real(machine.engine, device_a, HostIommu{39});
    CHECK(refusal.code == VIOMMU_REFUSED_NARROWS_HAW);
    CHECK(field_of(refusal) == "RAM");
    CHECK(refusal.expected == bit_40);
    CHECK(says(refusal, "0x10000000000"));
    CHECK(capabilities_of(machine.engine) == InForce{cap_48_announced, ecap_usual, 48});
    CHECK(plug_real(machine.engine, device_a, HostIommu{40}).code == VIOMMU_REFUSED_NOTHING);
    CHECK(capabilities_of(machine.engine).haw == 40);
  }
}

TEST_CASE(
    "from the host's answers other calls of the engine are busy, and another thread at the unit's work is in the way",
    "[behaviour][machine][P7]") {
  Machine machine{unit_options(cap_48_announced)};
  viommu_engine* const engine = machine.engine.get();
  HostIommu host;
  unsigned questions = 0;
  host.during = [&] {
    ++questions;
    std::uint64_t word = 0;
    CHECK(viommu_mmio_read(engine, offset::capability, 8, &word) == VIOMMU_E_BUSY);
    CHECK(viommu_device_remove(engine, device_a) == VIOMMU_E_BUSY);
    std::thread{[&] {
      // Not from a callback, but somebody is at it.
      CHECK(viommu_device_remove(engine, device_a) == VIOMMU_E_BUSY);
      viommu_progress progress{};
      CHECK(viommu_process(engine, 0, &progress) == VIOMMU_OK);
    }}.join();
  };
  CHECK(plug_real(machine.engine, device_a, host).code == VIOMMU_REFUSED_NOTHING);
  CHECK(questions == host.asked.size());
  CHECK(questions > 4);
}

}  // namespace viommu::test
