// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The machine's description as the C interface takes it: the DMAR table, and whose requests go where.
#include "engine/machine/topology.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <tuple>
#include <vector>

#include "engine/capi/engine.hpp"
#include "engine/capi/refusals.hpp"
#include "engine/capi/tables.hpp"

namespace {

namespace capi = viommu::capi;
namespace machine = viommu::machine;
using capi::List;
using capi::refuse;
using machine::Scope;
using machine::Topology;

constexpr std::size_t first_version = offsetof(viommu_dmar, bypassed) + sizeof(viommu_dmar::bypassed);
static_assert(sizeof(viommu_dmar_scope::path) / sizeof(viommu_dmar_hop) == machine::most_hops);

[[nodiscard]] List<viommu_dmar_unit> units_of(const viommu_dmar& from) noexcept {
  return {from.units, from.unit_count};
}
[[nodiscard]] List<viommu_dmar_rmrr> rmrrs_of(const viommu_dmar& from) noexcept {
  return {from.rmrrs, from.rmrr_count};
}
[[nodiscard]] List<viommu_dmar_atsr> atsrs_of(const viommu_dmar& from) noexcept {
  return {from.atsrs, from.atsr_count};
}
[[nodiscard]] List<viommu_dmar_rhsa> rhsas_of(const viommu_dmar& from) noexcept {
  return {from.rhsas, from.rhsa_count};
}
[[nodiscard]] List<viommu_dmar_andd> andds_of(const viommu_dmar& from) noexcept {
  return {from.andds, from.andd_count};
}
[[nodiscard]] List<viommu_dmar_satc> satcs_of(const viommu_dmar& from) noexcept {
  return {from.satcs, from.satc_count};
}
[[nodiscard]] List<viommu_dmar_bypass> bypassed_of(const viommu_dmar& from) noexcept {
  return {from.bypassed, from.bypass_count};
}
template <class Structure>
[[nodiscard]] List<viommu_dmar_scope> scopes_of(const Structure& from) noexcept {
  return {from.scopes, from.scope_count};
}

[[nodiscard]] viommu_result refuse_mismatch(viommu_refusal* refusal, const char* field, const char* words,
                                            std::uint64_t expected, std::uint64_t found) noexcept {
  capi::Refusal told{};
  told.code = VIOMMU_REFUSED_FIELD_MISMATCH;
  told.of_device = false;
  told.expected = expected;
  told.found = found;
  told.field = field;
  told.words = words;
  return capi::refuse(refusal, told);
}

template <class Element>
[[nodiscard]] std::size_t scopes_in(List<Element> list) noexcept {
  std::size_t count = 0;
  for (const Element& element : list) count += element.scope_count;
  return count;
}
/// @param with_scopes  the lists have been found to be no longer than is taken
[[nodiscard]] machine::TopologyCounts counts_of(const viommu_dmar& from, bool with_scopes) noexcept {
  machine::TopologyCounts counts{from.unit_count, from.rmrr_count, from.atsr_count,   from.rhsa_count,
                                 from.andd_count, from.satc_count, from.bypass_count, 0};
  if (with_scopes)
    counts.scopes =
        scopes_in(units_of(from)) + scopes_in(rmrrs_of(from)) + scopes_in(atsrs_of(from)) + scopes_in(satcs_of(from));
  return counts;
}

[[nodiscard]] bool lists_are_there(const viommu_dmar& from) noexcept {
  return units_of(from).is_there() && rmrrs_of(from).is_there() && atsrs_of(from).is_there() &&
         rhsas_of(from).is_there() && andds_of(from).is_there() && satcs_of(from).is_there() &&
         bypassed_of(from).is_there();
}

// Flags and reserved fields that mean nothing, and scopes that are not there.
[[nodiscard]] bool makes_sense(List<viommu_dmar_scope> scopes) noexcept {
  return scopes.is_there() &&
         std::ranges::all_of(scopes, [](const viommu_dmar_scope& scope) { return scope.reserved == 0; });
}
[[nodiscard]] bool makes_sense(const viommu_dmar_unit& unit) noexcept {
  return (unit.flags & ~VIOMMU_DMAR_INCLUDE_ALL) == 0 && makes_sense(scopes_of(unit));
}
[[nodiscard]] bool makes_sense(const viommu_dmar_rmrr& rmrr) noexcept {
  return rmrr.reserved == 0 && makes_sense(scopes_of(rmrr));
}
[[nodiscard]] bool makes_sense(const viommu_dmar_atsr& atsr) noexcept {
  return (atsr.flags & ~VIOMMU_DMAR_ALL_PORTS) == 0 && makes_sense(scopes_of(atsr));
}
[[nodiscard]] bool makes_sense(const viommu_dmar_rhsa& rhsa) noexcept { return rhsa.reserved == 0; }
[[nodiscard]] bool makes_sense(const viommu_dmar_andd& andd) noexcept {
  return andd.name != nullptr && std::ranges::all_of(andd.reserved, [](std::uint8_t byte) { return byte == 0; });
}
[[nodiscard]] bool makes_sense(const viommu_dmar_satc& satc) noexcept {
  return (satc.flags & ~VIOMMU_DMAR_ATC_REQUIRED) == 0 && makes_sense(scopes_of(satc));
}
[[nodiscard]] bool makes_sense(const viommu_dmar_bypass& bypass) noexcept { return bypass.reserved == 0; }
template <class Element>
[[nodiscard]] bool each_makes_sense(List<Element> list) noexcept {
  return std::ranges::all_of(list, [](const Element& element) { return makes_sense(element); });
}
[[nodiscard]] bool makes_sense(const viommu_dmar& from) noexcept {
  constexpr unsigned flags =
      VIOMMU_DMAR_INTERRUPT_REMAPPING | VIOMMU_DMAR_X2APIC_OPT_OUT | VIOMMU_DMAR_DMA_CONTROL_OPT_IN;
  return (from.flags & ~flags) == 0 && from.reserved == 0 && each_makes_sense(units_of(from)) &&
         each_makes_sense(rmrrs_of(from)) && each_makes_sense(atsrs_of(from)) && each_makes_sense(rhsas_of(from)) &&
         each_makes_sense(andds_of(from)) && each_makes_sense(satcs_of(from)) && each_makes_sense(bypassed_of(from));
}

[[nodiscard]] Scope scope_of(const viommu_dmar_scope& from) noexcept {
  Scope scope;
  scope.kind = static_cast<machine::ScopeKind>(from.kind);
  scope.id = from.id;
  scope.start_bus = from.start_bus;
  scope.hops = from.hops;
  for (std::size_t i = 0; i < machine::most_hops; ++i) scope.path[i] = {from.path[i].device, from.path[i].function};
  scope.bus = from.hops > 1 ? from.bus : from.start_bus;
  scope.secondary = from.secondary;
  scope.subordinate = from.subordinate;
  return scope;
}

[[nodiscard]] std::uint64_t register_bytes(const viommu_dmar_unit& unit) noexcept {
  if (unit.register_bytes != 0) return unit.register_bytes;
  return unit.engine != nullptr ? std::bit_ceil(viommu_mmio_size(unit.engine)) : viommu::page_size_bytes;
}

/// A description in the engine's own words. Its lists are kept here.
class Description {
 public:
  /// @throws std::bad_alloc
  [[nodiscard]] viommu_result read(const viommu_dmar& from, viommu_refusal* refusal) {
    if (!lists_are_there(from)) return VIOMMU_E_ARGUMENT;
    for (const bool with_scopes : {false, true})
      if (const machine::TopologyError error = check(counts_of(from, with_scopes))) return refuse(refusal, error);
    if (!makes_sense(from)) return VIOMMU_E_ARGUMENT;
    if (const viommu_result result = ask_engines(from, refusal); result != VIOMMU_OK) return result;
    topology_.x2apic_opt_out = (from.flags & VIOMMU_DMAR_X2APIC_OPT_OUT) != 0;
    topology_.dma_control_opt_in = (from.flags & VIOMMU_DMAR_DMA_CONTROL_OPT_IN) != 0;
    capi::put_identity(from, topology_);
    read_lists(from);
    if (const machine::TopologyError error = check(topology_)) return refuse(refusal, error);
    return VIOMMU_OK;
  }
  [[nodiscard]] const Topology& topology() const noexcept { return topology_; }

 private:
  /// What only engines know: their width and interrupt remapping, which the table says once for all units.
  [[nodiscard]] viommu_result ask_engines(const viommu_dmar& from, viommu_refusal* refusal) noexcept {
    for (std::uint32_t i = 0; i < from.unit_count; ++i)
      if (from.units[i].engine != nullptr && from.units[i].engine->front.vtd() == nullptr)
        return refuse(refusal, {.words = "its engine is no VT-d unit", .table = "drhd", .entry = i, .field = "engine"});
    unsigned width = from.host_address_width;
    for (const viommu_dmar_unit& unit : units_of(from))
      if (unit.engine != nullptr && from.host_address_width == 0)
        width = std::max(width, unit.engine->front.vtd()->capabilities().host_address_width);
    const bool is_wanted = (from.flags & VIOMMU_DMAR_INTERRUPT_REMAPPING) != 0;
    bool all_remap = from.unit_count != 0;
    for (std::uint32_t i = 0; i < from.unit_count; ++i) {
      const viommu_engine* const engine = from.units[i].engine;
      all_remap = all_remap && engine != nullptr && engine->front.vtd()->capabilities().interrupt_remapping;
      if (engine == nullptr) continue;
      const viommu::vtd::Capabilities& capabilities = engine->front.vtd()->capabilities();
      if (capabilities.host_address_width != width)
        return refuse_mismatch(refusal, "host_address_width", "an engine has another", width,
                               capabilities.host_address_width);
      if (is_wanted && !capabilities.interrupt_remapping)
        return refuse_mismatch(refusal, "IR", "an engine does not remap interrupts", 1, 0);
      if (register_bytes(from.units[i]) < viommu_mmio_size(engine))
        return refuse_mismatch(refusal, "register_bytes", "an engine's window is longer", viommu_mmio_size(engine),
                               register_bytes(from.units[i]));
      for (std::uint32_t earlier = 0; earlier < i; ++earlier)
        if (from.units[earlier].engine == engine)
          return refuse(refusal, {.words = "its engine is another unit's",
                                  .table = "drhd",
                                  .entry = i,
                                  .field = "engine",
                                  .expected = earlier,
                                  .found = i});
    }
    topology_.host_address_width = width;
    topology_.interrupt_remapping = is_wanted || all_remap;
    return VIOMMU_OK;
  }

  void read_lists(const viommu_dmar& from) {
    scopes_.reserve(counts_of(from, true).scopes);
    for (const viommu_dmar_unit& unit : units_of(from))
      units_.push_back({.segment = unit.segment,
                        .registers = {unit.base},
                        .register_bytes = register_bytes(unit),
                        .include_all = (unit.flags & VIOMMU_DMAR_INCLUDE_ALL) != 0,
                        .scopes = read_scopes(scopes_of(unit))});
    for (const viommu_dmar_rmrr& rmrr : rmrrs_of(from))
      rmrrs_.push_back({rmrr.segment, {{rmrr.base}, {rmrr.limit}}, read_scopes(scopes_of(rmrr))});
    for (const viommu_dmar_atsr& atsr : atsrs_of(from))
      atsrs_.push_back({atsr.segment, (atsr.flags & VIOMMU_DMAR_ALL_PORTS) != 0, read_scopes(scopes_of(atsr))});
    for (const viommu_dmar_rhsa& rhsa : rhsas_of(from)) rhsas_.push_back({{rhsa.base}, rhsa.proximity_domain});
    for (const viommu_dmar_andd& andd : andds_of(from))
      andds_.push_back({andd.number, {andd.name, strnlen(andd.name, machine::most_name_bytes + 1)}});
    for (const viommu_dmar_satc& satc : satcs_of(from))
      satcs_.push_back({satc.segment, (satc.flags & VIOMMU_DMAR_ATC_REQUIRED) != 0, read_scopes(scopes_of(satc))});
    for (const viommu_dmar_bypass& bypass : bypassed_of(from))
      bypassed_.push_back({bypass.segment, {bypass.first}, {bypass.last}});
    if (!machine::check(std::span<const machine::SourceRange>{bypassed_}))
      add_known_bypassed(from);  // else they are refused
    topology_.units = units_;
    topology_.reserved_memory = rmrrs_;
    topology_.root_ports = atsrs_;
    topology_.affinities = rhsas_;
    topology_.named_devices = andds_;
    topology_.integrated_atcs = satcs_;
    topology_.bypassed = bypassed_;
  }
  /// What engines know to bypass, beside what the VMM names: ascending, and apart from each other.
  void add_known_bypassed(const viommu_dmar& from) {
    for (const viommu_dmar_unit& unit : units_of(from))
      if (unit.engine != nullptr)
        unit.engine->bypassing.for_each(
            [&](viommu::SourceId first, viommu::SourceId last) { bypassed_.push_back({unit.segment, first, last}); });
    std::ranges::sort(bypassed_, {}, [](const machine::SourceRange& range) {
      return std::tuple{range.segment, range.first, range.last};
    });
    std::size_t kept = 0;
    for (const machine::SourceRange& range : bypassed_) {
      machine::SourceRange* const before = kept == 0 ? nullptr : &bypassed_[kept - 1];
      if (before != nullptr && before->segment == range.segment && range.first.value <= before->last.value + 1U)
        before->last = std::max(before->last, range.last);
      else
        bypassed_[kept++] = range;
    }
    bypassed_.resize(kept);
  }
  /// There is room for all of them: what was read before stays where it is.
  [[nodiscard]] std::span<const Scope> read_scopes(List<viommu_dmar_scope> list) {
    const std::size_t begin = scopes_.size();
    std::ranges::transform(list, std::back_inserter(scopes_), scope_of);
    return std::span{scopes_}.subspan(begin);
  }

  Topology topology_;
  std::vector<Scope> scopes_;
  std::vector<machine::RemappingUnit> units_;
  std::vector<machine::ReservedMemory> rmrrs_;
  std::vector<machine::RootPortAts> atsrs_;
  std::vector<machine::UnitAffinity> rhsas_;
  std::vector<machine::NamedDevice> andds_;
  std::vector<machine::IntegratedAtc> satcs_;
  std::vector<machine::SourceRange> bypassed_;
};

}  // namespace

extern "C" viommu_result viommu_dmar_write(const struct viommu_dmar* dmar, void* bytes, size_t capacity, size_t* length,
                                           struct viommu_refusal* refusal) {
  if (length == nullptr || (bytes == nullptr && capacity != 0)) return VIOMMU_E_ARGUMENT;
  return capi::with_topology<Description>(dmar, first_version, refusal, [&](const Topology& topology) {
    return capi::write_into(topology, bytes, capacity, length, machine::write_table);
  });
}

extern "C" viommu_result viommu_dmar_unit_of(const struct viommu_dmar* dmar, uint16_t segment, uint16_t source,
                                             uint32_t kind, uint32_t* unit, struct viommu_refusal* refusal) {
  if (unit == nullptr || kind < VIOMMU_SCOPE_ENDPOINT || kind > VIOMMU_SCOPE_NAMED) return VIOMMU_E_ARGUMENT;
  return capi::with_topology<Description>(dmar, first_version, refusal, [&](const Topology& topology) {
    const auto found = unit_of(topology, segment, {source}, static_cast<machine::ScopeKind>(kind));
    if (!found) return VIOMMU_E_NOT_FOUND;
    *unit = static_cast<std::uint32_t>(*found);
    return VIOMMU_OK;
  });
}
