// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a description must keep to, in the order of the table; the first breach is told.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>

#include "engine/machine/topology.hpp"

namespace viommu::machine {
namespace {

constexpr unsigned least_address_width = 32;  // as a unit's own (CAP): the interrupt address range lies below 4 GiB
constexpr unsigned most_address_width = 52;
constexpr unsigned most_register_shift = page_shift + 15;  // four bits of the table, in pages
constexpr unsigned devices_of_bus = 32;
constexpr unsigned functions_of_device = 8;

using Error = TopologyError;

[[nodiscard]] constexpr bool is_page_aligned(std::uint64_t address) noexcept { return address % page_size_bytes == 0; }

[[nodiscard]] bool is_printable(char character) noexcept { return character >= ' ' && character <= '~'; }

/// Characters as ACPI pads them: printable ones, then spaces or zeros.
[[nodiscard]] bool is_identifier(std::span<const char> characters) noexcept {
  const auto end = std::ranges::find_if_not(characters, is_printable);
  return std::all_of(end, characters.end(), [](char character) { return character == '\0'; });
}

[[nodiscard]] bool begins_name(char character) noexcept {
  return (character >= 'A' && character <= 'Z') || character == '_';
}
[[nodiscard]] bool continues_name(char character) noexcept {
  return begins_name(character) || (character >= '0' && character <= '9');
}

/// A path from the root of the ACPI name space: names of one to four characters between dots.
[[nodiscard]] bool is_object_path(std::string_view path) noexcept {
  constexpr std::size_t name_bytes = 4;
  if (!path.starts_with('\\')) return false;
  for (path.remove_prefix(1);;) {  // ends: each step takes a name off
    const std::string_view name = path.substr(0, path.find('.'));
    if (name.empty() || name.size() > name_bytes || !begins_name(name.front())) return false;
    if (!std::ranges::all_of(name, continues_name)) return false;
    if (name.size() == path.size()) return true;
    path.remove_prefix(name.size() + 1);
  }
}

[[nodiscard]] TopologyCounts counts_of(const Topology& t) noexcept {
  TopologyCounts counts{t.units.size(),         t.reserved_memory.size(), t.root_ports.size(), t.affinities.size(),
                        t.named_devices.size(), t.integrated_atcs.size(), t.bypassed.size(),   0};
  for (const RemappingUnit& unit : t.units) counts.scopes += unit.scopes.size();
  for (const ReservedMemory& region : t.reserved_memory) counts.scopes += region.scopes.size();
  for (const RootPortAts& ports : t.root_ports) counts.scopes += ports.scopes.size();
  for (const IntegratedAtc& atc : t.integrated_atcs) counts.scopes += atc.scopes.size();
  return counts;
}

[[nodiscard]] Error check_header(const Topology& t) noexcept {
  if (t.host_address_width < least_address_width || t.host_address_width > most_address_width)
    return {.words = "not a width that a unit can have",
            .field = "host_address_width",
            .expected = t.host_address_width < least_address_width ? least_address_width : most_address_width,
            .found = t.host_address_width};
  if (t.x2apic_opt_out && !t.interrupt_remapping)
    return {.words = "needs interrupt remapping", .field = "X2APIC_OPT_OUT", .expected = 1};
  if (const Error error = check_identity(t)) return error;
  if (t.units.empty()) return {.words = "a table has at least one", .field = "units", .expected = 1};
  return {};
}

[[nodiscard]] Error check_ranges(std::span<const SourceRange> ranges) noexcept {
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const SourceRange& range = ranges[i];
    const Error here{.field = "bypassed", .element = i, .source = range.first};
    const auto failed = [&here](const char* words, std::uint64_t expected, std::uint64_t found) {
      Error error = here;
      error.words = words;
      error.expected = expected;
      error.found = found;
      return error;
    };
    if (range.last < range.first) return failed("ends before it begins", range.first.value, range.last.value);
    if (i == 0) continue;
    const SourceRange& before = ranges[i - 1];
    if (std::tuple{range.segment, range.first} <= std::tuple{before.segment, before.last})
      return failed("not behind the range before it", before.last.value, range.first.value);
  }
  return {};
}

/// The checks of one scope; `here` says which.
class ScopeCheck {
 public:
  constexpr ScopeCheck(const Scope& scope, const Error& here) noexcept : scope_{scope}, here_{here} {}

  [[nodiscard]] Error run() const noexcept {
    if (const auto kind = static_cast<unsigned>(scope_.kind); kind < 1 || kind > 5)
      return failed("no kind of scope", 5, kind);
    if (scope_.hops == 0 || scope_.hops > most_hops)
      return failed("a way of no hop, or of too many", most_hops, scope_.hops);
    for (const Hop hop : std::span{scope_.path}.first(scope_.hops)) {
      if (hop.device >= devices_of_bus) return failed("no such device on a bus", devices_of_bus - 1, hop.device);
      if (hop.function >= functions_of_device)
        return failed("no such function of a device", functions_of_device - 1, hop.function);
    }
    if (scope_.hops == 1 && scope_.bus != scope_.start_bus)
      return failed("one hop leads to its own bus", scope_.start_bus, scope_.bus);
    if (scope_.hops > 1 && scope_.bus <= scope_.start_bus)
      return failed("a way through bridges ends on a higher bus", scope_.start_bus + 1U, scope_.bus);
    return is_pci(scope_.kind) && scope_.id != 0 ? failed("a PCI device has no enumeration id", 0, scope_.id) : buses();
  }
  [[nodiscard]] Error failed(const char* words, std::uint64_t expected, std::uint64_t found) const noexcept {
    Error error = here_;
    error.words = words;
    error.expected = expected;
    error.found = found;
    if (scope_.hops <= most_hops) error.source = source_of(scope_);
    return error;
  }

 private:
  [[nodiscard]] Error buses() const noexcept {
    if (scope_.kind != ScopeKind::bridge) {
      if (scope_.secondary != 0) return failed("only a bridge has buses behind it", 0, scope_.secondary);
      if (scope_.subordinate != 0) return failed("only a bridge has buses behind it", 0, scope_.subordinate);
      return {};
    }
    if (scope_.secondary == 0 && scope_.subordinate == 0) return {};
    if (scope_.secondary <= scope_.bus)
      return failed("what is behind a bridge has a higher bus", scope_.bus + 1U, scope_.secondary);
    if (scope_.subordinate < scope_.secondary)
      return failed("the last bus is before the first", scope_.secondary, scope_.subordinate);
    return {};
  }

  const Scope& scope_;
  const Error& here_;
};

/// A place in the table, for `words` to be added.
[[nodiscard]] Error in(const char* table, std::size_t entry, const char* field,
                       std::optional<std::size_t> element = {}) noexcept {
  return {.table = table, .entry = entry, .field = field, .element = element};
}
[[nodiscard]] Error at(Error place, const char* words, std::uint64_t expected, std::uint64_t found) noexcept {
  place.words = words;
  place.expected = expected;
  place.found = found;
  return place;
}

/// Scopes of a structure that may list only one kind.
[[nodiscard]] Error check_scopes(const char* table, std::size_t entry, std::span<const Scope> scopes,
                                 ScopeKind only) noexcept {
  if (scopes.empty()) return at(in(table, entry, "scopes"), "lists no device", 1, 0);
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    const Error here = in(table, entry, "scopes", i);
    const ScopeCheck check{scopes[i], here};
    if (const Error error = check.run()) return error;
    if (scopes[i].kind != only)
      return check.failed("not a kind for this structure", static_cast<unsigned>(only),
                          static_cast<unsigned>(scopes[i].kind));
  }
  return {};
}

[[nodiscard]] bool something_bypasses(const Topology& t, std::uint16_t segment) noexcept {
  return std::ranges::any_of(t.bypassed, [segment](const SourceRange& range) { return range.segment == segment; });
}

[[nodiscard]] Error check_unit(const Topology& t, std::size_t entry) noexcept {
  const RemappingUnit& unit = t.units[entry];
  if (!std::has_single_bit(unit.register_bytes) || unit.register_bytes < page_size_bytes ||
      unit.register_bytes > std::uint64_t{1} << most_register_shift)
    return at(in("drhd", entry, "size"), "no power of two of pages", page_size_bytes, unit.register_bytes);
  const std::uint64_t base = unit.registers.value;
  if (base == 0 || !is_page_aligned(base)) return at(in("drhd", entry, "base"), "not aligned", page_size_bytes, base);
  if (base > low_bits(t.host_address_width) - (unit.register_bytes - 1))
    return at(in("drhd", entry, "base"), "ends beyond the host address width", low_bits(t.host_address_width), base);
  for (std::size_t i = 0; i < unit.scopes.size(); ++i) {
    const Error here = in("drhd", entry, "scopes", i);
    const ScopeCheck check{unit.scopes[i], here};
    if (const Error error = check.run()) return error;
    if (bypass_of(t, unit.segment, unit.scopes[i]) == Bypass::part)
      return check.failed("part of it bypasses: list what is behind it", 0, unit.scopes[i].secondary);
  }
  const auto names_pci = [](const Scope& scope) { return is_pci(scope.kind); };
  if (unit.include_all && something_bypasses(t, unit.segment) && !std::ranges::any_of(unit.scopes, names_pci))
    return at(in("drhd", entry, "scopes"), "something bypasses: list what does not", 1, 0);
  return {};
}

/// How two units of one segment go together.
[[nodiscard]] Error check_order(const Topology& t, std::size_t entry) noexcept {
  for (std::size_t earlier = 0; earlier < entry; ++earlier) {
    const RemappingUnit& before = t.units[earlier];
    const RemappingUnit& unit = t.units[entry];
    const std::uint64_t last = unit.registers.value + unit.register_bytes - 1;
    if (before.registers.value <= last && unit.registers.value <= before.registers.value + before.register_bytes - 1)
      return at(in("drhd", entry, "base"), "its registers overlap those of another unit", before.registers.value,
                unit.registers.value);
    if (before.segment == unit.segment && before.include_all)
      return at(in("drhd", entry, "flags"),
                unit.include_all ? "a second one with INCLUDE_ALL in its segment"
                                 : "comes after the one with INCLUDE_ALL of its segment",
                earlier, entry);
  }
  return {};
}

/// Whether two scopes claim a source id both.
[[nodiscard]] bool overlap(const Scope& one, const Scope& other) noexcept {
  if (covers(one, source_of(other)) || covers(other, source_of(one))) return true;
  return one.kind == ScopeKind::bridge && other.kind == ScopeKind::bridge && one.secondary != 0 &&
         other.secondary != 0 && one.secondary <= other.subordinate && other.secondary <= one.subordinate;
}

[[nodiscard]] Error check_claims(const Topology& t, std::size_t entry, std::size_t element) noexcept {
  const RemappingUnit& unit = t.units[entry];
  const Scope& scope = unit.scopes[element];
  const Error here = in("drhd", entry, "scopes", element);
  const ScopeCheck claim{scope, here};
  for (std::size_t earlier = 0; earlier <= entry; ++earlier) {
    const RemappingUnit& before = t.units[earlier];
    for (const Scope& other : before.scopes.first(earlier == entry ? element : before.scopes.size())) {
      const bool same_id = scope.kind == other.kind && scope.id == other.id && !is_pci(scope.kind);
      // A device of the name space may send under several source ids, all of one unit.
      if (same_id && (scope.kind != ScopeKind::named || earlier != entry))
        return claim.failed("its enumeration id is listed twice", earlier, entry);
      if (earlier != entry && before.segment == unit.segment && overlap(scope, other))
        return claim.failed("a unit before claims it too", earlier, entry);
    }
  }
  if (scope.kind == ScopeKind::named &&
      std::ranges::find(t.named_devices, scope.id, &NamedDevice::number) == t.named_devices.end())
    return claim.failed("no ANDD has its number", scope.id, t.named_devices.size());
  return {};
}

[[nodiscard]] Error check_units(const Topology& t) noexcept {
  for (std::size_t entry = 0; entry < t.units.size(); ++entry) {
    if (const Error error = check_unit(t, entry)) return error;
    if (const Error error = check_order(t, entry)) return error;
    for (std::size_t element = 0; element < t.units[entry].scopes.size(); ++element)
      if (const Error error = check_claims(t, entry, element)) return error;
  }
  return {};
}

/// A device that is under a unit, or bypasses them all.
[[nodiscard]] Error check_reached(const Topology& t, const char* table, std::size_t entry, std::uint16_t segment,
                                  std::span<const Scope> scopes) noexcept {
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    const Error here = in(table, entry, "scopes", i);
    if (lists(t, segment, scopes[i]) && !unit_of(t, segment, source_of(scopes[i]), scopes[i].kind))
      return ScopeCheck{scopes[i], here}.failed("its device is under no unit", 1, 0);
  }
  return {};
}

[[nodiscard]] Error check_reserved_memory(const Topology& t, std::size_t entry) noexcept {
  const ReservedMemory& region = t.reserved_memory[entry];
  const std::uint64_t base = region.memory.first.value;
  const std::uint64_t limit = region.memory.last.value;
  if (!is_page_aligned(base)) return at(in("rmrr", entry, "base"), "not aligned", page_size_bytes, base);
  if (!is_page_aligned(limit + 1))
    return at(in("rmrr", entry, "limit"), "not the end of a page", page_size_bytes, limit);
  if (limit < base) return at(in("rmrr", entry, "limit"), "ends before it begins", base, limit);
  if (limit > low_bits(t.host_address_width))
    return at(in("rmrr", entry, "limit"), "ends beyond the host address width", low_bits(t.host_address_width), limit);
  if (const Error error = check_scopes("rmrr", entry, region.scopes, ScopeKind::endpoint)) return error;
  return check_reached(t, "rmrr", entry, region.segment, region.scopes);
}

[[nodiscard]] Error check_root_ports(const Topology& t, std::size_t entry) noexcept {
  const RootPortAts& ports = t.root_ports[entry];
  if (!ports.all_ports) return check_scopes("atsr", entry, ports.scopes, ScopeKind::bridge);
  if (!ports.scopes.empty()) return at(in("atsr", entry, "scopes"), "ALL_PORTS lists none", 0, ports.scopes.size());
  return {};
}

[[nodiscard]] Error check_affinity(const Topology& t, std::size_t entry) noexcept {
  const Gpa registers = t.affinities[entry].registers;
  if (std::ranges::find(t.units, registers, &RemappingUnit::registers) == t.units.end())
    return at(in("rhsa", entry, "base"), "no unit has its registers there", 0, registers.value);
  if (std::ranges::count(t.affinities.first(entry), registers, &UnitAffinity::registers) != 0)
    return at(in("rhsa", entry, "base"), "a second one of this unit", 1, registers.value);
  return {};
}

[[nodiscard]] Error check_named_device(const Topology& t, std::size_t entry) noexcept {
  const NamedDevice& device = t.named_devices[entry];
  if (device.name.size() > most_name_bytes)
    return at(in("andd", entry, "name"), "too long", most_name_bytes, device.name.size());
  if (!is_object_path(device.name))
    return at(in("andd", entry, "name"), "no path from the root of the name space", 0, device.name.size());
  if (std::ranges::count(t.named_devices.first(entry), device.number, &NamedDevice::number) != 0)
    return at(in("andd", entry, "number"), "a second one of this number", 1, device.number);
  for (const RemappingUnit& unit : t.units)
    for (const Scope& scope : unit.scopes)
      if (scope.kind == ScopeKind::named && scope.id == device.number) return {};
  return at(in("andd", entry, "number"), "no unit lists it", 1, device.number);
}

[[nodiscard]] Error check_integrated_atc(const Topology& t, std::size_t entry) noexcept {
  const IntegratedAtc& atc = t.integrated_atcs[entry];
  if (const Error error = check_scopes("satc", entry, atc.scopes, ScopeKind::endpoint)) return error;
  return check_reached(t, "satc", entry, atc.segment, atc.scopes);
}

[[nodiscard]] Error check_each(const Topology& t, std::size_t count,
                               Error (*check_one)(const Topology&, std::size_t) noexcept) noexcept {
  for (std::size_t entry = 0; entry < count; ++entry)
    if (const Error error = check_one(t, entry)) return error;
  return {};
}

}  // namespace

TopologyError check(const TopologyCounts& counts) noexcept {
  for (const Error& error :
       {bound("units", counts.units, most_structures), bound("rmrr", counts.reserved_memory, most_structures),
        bound("atsr", counts.root_ports, most_structures), bound("rhsa", counts.affinities, most_structures),
        bound("andd", counts.named_devices, most_structures), bound("satc", counts.integrated_atcs, most_structures),
        bound("bypassed", counts.bypassed, most_bypassed_ranges), bound("scopes", counts.scopes, most_scopes)})
    if (error) return error;
  return {};
}

TopologyError check(std::span<const SourceRange> bypassed) noexcept { return check_ranges(bypassed); }

TopologyError check_identity(const TableIdentity& identity) noexcept {
  if (!is_identifier(identity.oem_id)) return {.words = "not printable", .field = "oem_id"};
  if (!is_identifier(identity.oem_table_id)) return {.words = "not printable", .field = "oem_table_id"};
  if (!is_identifier(identity.creator_id)) return {.words = "not printable", .field = "creator_id"};
  return {};
}

TopologyError check(const Topology& topology) noexcept {
  if (const Error error = check(counts_of(topology))) return error;
  if (const Error error = check_header(topology)) return error;
  if (const Error error = check(topology.bypassed)) return error;
  if (const Error error = check_units(topology)) return error;
  if (const Error error = check_each(topology, topology.reserved_memory.size(), check_reserved_memory)) return error;
  if (const Error error = check_each(topology, topology.root_ports.size(), check_root_ports)) return error;
  if (const Error error = check_each(topology, topology.affinities.size(), check_affinity)) return error;
  if (const Error error = check_each(topology, topology.named_devices.size(), check_named_device)) return error;
  if (const Error error = check_each(topology, topology.integrated_atcs.size(), check_integrated_atc)) return error;
  if (const std::size_t length = write_table(topology, {}); length > most_table_bytes)
    return {.words = "longer than is taken", .field = "table", .expected = most_table_bytes, .found = length};
  return {};
}

}  // namespace viommu::machine
