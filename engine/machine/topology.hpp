// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which remapping unit a device's requests go to. One description answers that for the VMM's routing and becomes the
// ACPI table that tells the guest (VT-d, "BIOS Considerations"): the two cannot disagree.
//
//   description ──check()──> unit_of()      the unit of one source id
//                       └──> write_table()  the bytes of the DMAR table
//
// What bypasses is told as ranges of source ids, and is in no scope of the table. INCLUDE_ALL would claim it, so where
// something bypasses, the unit that has the flag lists its devices one by one instead: it is told them beforehand.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"

namespace viommu::machine {

/// "Device Scope Structure": what an entry stands for, with the numbers of the table.
enum class ScopeKind : std::uint8_t {
  endpoint = 1,  ///< one PCI function
  bridge = 2,    ///< a bridge and all that is behind it
  ioapic = 3,
  hpet = 4,
  named = 5,  ///< a device of the ACPI name space (ANDD)
};

struct Hop {
  std::uint8_t device = 0;
  std::uint8_t function = 0;
};

inline constexpr std::size_t most_hops = 16;  // two switches on the way take six

/// One device, by its way from `start_bus`, and by the numbers that its buses have now.
struct Scope {
  ScopeKind kind = ScopeKind::endpoint;
  std::uint8_t id = 0;         ///< I/O APIC id, HPET number, ACPI device number; else 0
  std::uint8_t start_bus = 0;  ///< where the way begins
  std::uint8_t hops = 0;
  std::array<Hop, most_hops> path{};
  std::uint8_t bus = 0;          ///< where it ends: `start_bus` after one hop
  std::uint8_t secondary = 0;    ///< of a bridge: the first bus behind it, 0 while it has none
  std::uint8_t subordinate = 0;  ///< and the last
};

struct RemappingUnit {  // DRHD
  std::uint16_t segment = 0;
  Gpa registers;
  std::uint64_t register_bytes = 0;  ///< a power of two, at least a page
  bool include_all = false;          ///< all of the segment that no other unit lists
  std::span<const Scope> scopes;     ///< with include_all PCI ones count only where something bypasses
};

struct ReservedMemory {  // RMRR
  std::uint16_t segment = 0;
  GpaRange memory;
  std::span<const Scope> scopes;
};

struct RootPortAts {  // ATSR
  std::uint16_t segment = 0;
  bool all_ports = false;
  std::span<const Scope> scopes;
};

struct UnitAffinity {  // RHSA
  Gpa registers;
  std::uint32_t proximity_domain = 0;
};

struct NamedDevice {  // ANDD
  std::uint8_t number = 0;
  std::string_view name;  ///< a full path of the name space
};

struct IntegratedAtc {  // SATC
  std::uint16_t segment = 0;
  bool required = false;
  std::span<const Scope> scopes;
};

/// Source ids of one segment, what sends under them does not pass any unit.
struct SourceRange {
  std::uint16_t segment = 0;
  SourceId first;
  SourceId last;
};

/// Who made a table, as its header says.
struct TableIdentity {
  std::array<char, 6> oem_id{};
  std::array<char, 8> oem_table_id{};
  std::uint32_t oem_revision = 0;
  std::array<char, 4> creator_id{};
  std::uint32_t creator_revision = 0;
};

struct Topology : TableIdentity {
  unsigned host_address_width = 0;
  bool interrupt_remapping = false;
  bool x2apic_opt_out = false;
  bool dma_control_opt_in = false;
  std::span<const RemappingUnit> units;
  std::span<const ReservedMemory> reserved_memory;
  std::span<const RootPortAts> root_ports;
  std::span<const UnitAffinity> affinities;
  std::span<const NamedDevice> named_devices;
  std::span<const IntegratedAtc> integrated_atcs;
  std::span<const SourceRange> bypassed;  ///< ascending, and apart from each other
};

inline constexpr std::size_t most_structures = 1024;       // of one kind
inline constexpr std::size_t most_bypassed_ranges = 4096;  // of the description; the table has none
inline constexpr std::size_t most_table_bytes = 0x1'0000;  // some 8,000 devices
inline constexpr std::size_t least_scope_bytes = 8;        // with one hop
inline constexpr std::size_t most_scopes = most_table_bytes / least_scope_bytes;
inline constexpr std::size_t most_name_bytes = 255;

/// The first thing that is wrong with a description.
struct TopologyError {
  const char* words = "";  ///< empty: nothing is
  const char* table = "";  ///< drhd, rmrr ...; empty for the description as a whole
  std::size_t entry = 0;   ///< of that table
  const char* field = "";
  std::optional<std::size_t> element = std::nullopt;  ///< where `field` is a list
  std::optional<SourceId> source = std::nullopt;      ///< of the device it is about
  std::uint64_t expected = 0;
  std::uint64_t found = 0;

  [[nodiscard]] explicit operator bool() const noexcept { return words[0] != '\0'; }
};

/// How long the lists of a description are; `scopes` those of all structures together.
struct TopologyCounts {
  std::size_t units = 0;
  std::size_t reserved_memory = 0;
  std::size_t root_ports = 0;
  std::size_t affinities = 0;
  std::size_t named_devices = 0;
  std::size_t integrated_atcs = 0;
  std::size_t bypassed = 0;
  std::size_t scopes = 0;
};
[[nodiscard]] TopologyError check(const TopologyCounts& counts) noexcept;
/// Whether a list of that name is no longer than is taken.
[[nodiscard]] constexpr TopologyError bound(const char* list, std::size_t count, std::size_t most) noexcept {
  if (count <= most) return {};
  return {.words = "more than are taken", .field = list, .expected = most, .found = count};
}
/// Whether they ascend, apart from each other.
[[nodiscard]] TopologyError check(std::span<const SourceRange> bypassed) noexcept;
/// Whether its identifiers are printable characters, with nothing but zeros behind them.
[[nodiscard]] TopologyError check_identity(const TableIdentity& identity) noexcept;

/// Everything that would make the table illegal, or ambiguous: two units that claim one source id, whichever of them an
/// operating system would find first. The other functions are for descriptions that pass.
/// Cost: each scope is compared with each of another unit; at most most_scopes of them pass.
[[nodiscard]] TopologyError check(const Topology& topology) noexcept;

/// Whether the unit's structure has the INCLUDE_ALL flag: not where something of its segment bypasses.
[[nodiscard]] bool includes_all(const Topology& topology, const RemappingUnit& unit) noexcept;
/// Whether the scope stands in the unit's structure: not what bypasses, nor a PCI device beside INCLUDE_ALL.
[[nodiscard]] bool lists(const Topology& topology, const RemappingUnit& unit, const Scope& scope) noexcept;

/// The unit that the requests of `source` go to, by index: the one that lists it, or a bridge that it is behind, or
/// INCLUDE_ALL. Nothing for what bypasses, or is under no unit. Of a virtual function ask for its physical function.
/// @param kind  who asks: endpoint and bridge are both a PCI device; the others are found only where they are listed
[[nodiscard]] std::optional<std::size_t> unit_of(const Topology& topology, std::uint16_t segment, SourceId source,
                                                 ScopeKind kind) noexcept;

/// Writes the table, or as much of it as fits; its checksum only if all of it does. @return the bytes of all of it
std::size_t write_table(const Topology& topology, std::span<std::byte> into) noexcept;

// What the three share.

/// The source id at the end of the way.
[[nodiscard]] SourceId source_of(const Scope& scope) noexcept;
/// Whether `source` is the scope's device, or behind it.
[[nodiscard]] bool covers(const Scope& scope, SourceId source) noexcept;
enum class Bypass : std::uint8_t { none, part, all };
/// How much of what the scope covers bypasses.
[[nodiscard]] Bypass bypass_of(const Topology& topology, std::uint16_t segment, const Scope& scope) noexcept;
/// Whether the structure beside the units (RMRR, ATSR, SATC) has this scope: not what bypasses.
[[nodiscard]] bool lists(const Topology& topology, std::uint16_t segment, const Scope& scope) noexcept;
/// Whether a unit lists a device of this ACPI device number.
[[nodiscard]] bool lists_named(const Topology& topology, std::uint8_t number) noexcept;

[[nodiscard]] constexpr bool is_pci(ScopeKind kind) noexcept {
  return kind == ScopeKind::endpoint || kind == ScopeKind::bridge;
}

}  // namespace viommu::machine
