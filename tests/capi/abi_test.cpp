// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The binary interface: what was there stays where it is, and C sees the same as C++.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <map>
#include <string>

#include "tests/capi/abi_c99.h"

namespace viommu::capi {

TEST_CASE("the interface is plain C99 and can be used from it", "[capi][abi]") { CHECK(abi_use() == 0); }

TEST_CASE("sizes and places of the structs stay as they are", "[capi][abi]") {
  if (sizeof(void*) != 8) return;
  // New fields go behind the last one of a sized struct; then its size here grows, and nothing else changes.
  const std::map<std::string, std::size_t> pinned{
      {"viommu_host", 152},
      {"viommu_host.size", 0},
      {"viommu_host.opaque", 8},
      {"viommu_host.memory_read", 16},
      {"viommu_host.memory_write", 24},
      {"viommu_host.memory_compare_exchange", 32},
      {"viommu_host.msi", 40},
      {"viommu_host.wake", 48},
      {"viommu_host.now_ns", 56},
      {"viommu_host.log", 64},
      {"viommu_host.execute", 72},
      {"viommu_host.allocate", 80},
      {"viommu_host.deallocate", 88},
      {"viommu_host.region_gone", 96},
      {"viommu_host.routes_changed", 104},
      {"viommu_host.hold_overdue", 112},
      {"viommu_host.record", 120},
      {"viommu_vtd_options", 144},
      {"viommu_vtd_options.capability", 8},
      {"viommu_vtd_options.extended_capability", 16},
      {"viommu_vtd_options.version", 24},
      {"viommu_vtd_options.host_address_width", 28},
      {"viommu_vtd_options.flags", 32},
      {"viommu_vtd_options.drain", 36},
      {"viommu_vtd_options.fill", 40},
      {"viommu_vtd_options.iotlb_pages", 44},
      {"viommu_vtd_options.context_entries", 48},
      {"viommu_vtd_options.address_spaces", 52},
      {"viommu_vtd_options.tag_bits", 56},
      {"viommu_vtd_options.readers", 60},
      {"viommu_vtd_options.holds", 64},
      {"viommu_vtd_options.regions", 68},
      {"viommu_vtd_options.hold_report_ns", 72},
      {"viommu_vtd_options.hash_seed", 80},
      {"viommu_vtd_options.kernel", 88},
      {"viommu_vtd_options.structures", 96},
      {"viommu_vtd_options.shards", 100},
      {"viommu_vtd_options.pasid_entries", 104},
      {"viommu_vtd_options.fault_limit", 108},
      {"viommu_region", 32},
      {"viommu_region.length", 8},
      {"viommu_region.hva", 16},
      {"viommu_region.flags", 24},
      {"viommu_progress", 16},
      {"viommu_progress.reserved", 4},
      {"viommu_progress.wait_until_ns", 8},
      {"viommu_request", 24},
      {"viommu_request.length", 8},
      {"viommu_request.pasid", 16},
      {"viommu_request.source", 20},
      {"viommu_request.access", 22},
      {"viommu_request.flags", 23},
      {"viommu_translation", 24},
      {"viommu_translation.mask", 8},
      {"viommu_translation.kind", 16},
      {"viommu_translation.rights", 17},
      {"viommu_translation.reason", 18},
      {"viommu_translation.status", 19},
      {"viommu_translation.reserved", 20},
      {"viommu_piece", 32},
      {"viommu_piece.gpa", 8},
      {"viommu_piece.length", 16},
      {"viommu_piece.kind", 24},
      {"viommu_piece.rights", 25},
      {"viommu_piece.reserved", 26},
      {"viommu_range_end", 16},
      {"viommu_range_end.pieces", 8},
      {"viommu_range_end.reason", 12},
      {"viommu_range_end.status", 13},
      {"viommu_range_end.complete", 14},
      {"viommu_range_end.reserved", 15},
      {"viommu_range", 16},
      {"viommu_range.last", 8},
      {"viommu_part_statistics", 88},
      {"viommu_part_statistics.iotlb_hits", 8},
      {"viommu_part_statistics.device_tlb_invalidations", 64},
      {"viommu_part_statistics.mapped_bytes", 72},
      {"viommu_part_statistics.pinned_bytes", 80},
      {"viommu_statistics", 296},
      {"viommu_statistics.translations", 8},
      {"viommu_statistics.faults_recorded", 88},
      {"viommu_statistics.holds_open", 184},
      {"viommu_statistics.cache_bytes", 224},
      {"viommu_statistics.process_barriers", 232},
      {"viommu_statistics.interrupts_blocked", 256},
      {"viommu_message", 16},
      {"viommu_message.data", 8},
      {"viommu_message.source", 12},
      {"viommu_message.flags", 14},
      {"viommu_routed", 32},
      {"viommu_routed.descriptor", 8},
      {"viommu_routed.data", 16},
      {"viommu_routed.index", 20},
      {"viommu_routed.kind", 24},
      {"viommu_routed.reason", 25},
      {"viommu_routed.status", 26},
      {"viommu_routed.vector", 27},
      {"viommu_routed.notify", 28},
      {"viommu_routed.urgent", 29},
      {"viommu_refusal", 216},
      {"viommu_refusal.code", 8},
      {"viommu_refusal.source", 12},
      {"viommu_refusal.expected", 16},
      {"viommu_refusal.found", 24},
      {"viommu_refusal.field", 32},
      {"viommu_refusal.text", 56},
      {"viommu_host_facts", 64},
      {"viommu_host_facts.opaque", 8},
      {"viommu_host_facts.backend", 16},
      {"viommu_host_facts.kind", 24},
      {"viommu_host_facts.width", 32},
      {"viommu_host_facts.capabilities", 40},
      {"viommu_host_facts.iova_ranges", 48},
      {"viommu_host_facts.page_sizes", 56},
      {"viommu_device", 48},
      {"viommu_device.source", 8},
      {"viommu_device.alias", 10},
      {"viommu_device.kind", 12},
      {"viommu_device.flags", 16},
      {"viommu_device.reserved_count", 20},
      {"viommu_device.reserved_memory", 24},
      {"viommu_device.facts", 32},
      {"viommu_device.ability", 40},
      {"viommu_device.wish", 41},
      {"viommu_device.physical", 42},
      {"viommu_device.endpoint", 44},
      {"viommu_bridge", 8},
      {"viommu_bridge.secondary", 2},
      {"viommu_bridge.subordinate", 3},
      {"viommu_bridge.flags", 4},
      {"viommu_description", 24},
      {"viommu_description.source", 8},
      {"viommu_description.reserved", 10},
      {"viommu_description.ability", 12},
      {"viommu_description.translated", 16},
      {"viommu_description.isolatable", 20},
      {"viommu_veto", 16},
      {"viommu_veto.refuses", 8},
      {"viommu_dump_options", 56},
      {"viommu_dump_options.opaque", 8},
      {"viommu_dump_options.write", 16},
      {"viommu_dump_options.sections", 24},
      {"viommu_dump_options.most", 28},
      {"viommu_dump_options.request", 32},
      {"viommu_dmar_hop", 2},
      {"viommu_dmar_hop.function", 1},
      {"viommu_dmar_scope", 40},
      {"viommu_dmar_scope.id", 1},
      {"viommu_dmar_scope.start_bus", 2},
      {"viommu_dmar_scope.hops", 3},
      {"viommu_dmar_scope.bus", 4},
      {"viommu_dmar_scope.secondary", 5},
      {"viommu_dmar_scope.subordinate", 6},
      {"viommu_dmar_scope.reserved", 7},
      {"viommu_dmar_scope.path", 8},
      {"viommu_dmar_unit", 40},
      {"viommu_dmar_unit.base", 8},
      {"viommu_dmar_unit.register_bytes", 16},
      {"viommu_dmar_unit.segment", 24},
      {"viommu_dmar_unit.flags", 26},
      {"viommu_dmar_unit.scope_count", 28},
      {"viommu_dmar_unit.scopes", 32},
      {"viommu_dmar_rmrr", 32},
      {"viommu_dmar_rmrr.limit", 8},
      {"viommu_dmar_rmrr.segment", 16},
      {"viommu_dmar_rmrr.reserved", 18},
      {"viommu_dmar_rmrr.scope_count", 20},
      {"viommu_dmar_rmrr.scopes", 24},
      {"viommu_dmar_atsr", 16},
      {"viommu_dmar_atsr.flags", 2},
      {"viommu_dmar_atsr.scope_count", 4},
      {"viommu_dmar_atsr.scopes", 8},
      {"viommu_dmar_satc", 16},
      {"viommu_dmar_satc.flags", 2},
      {"viommu_dmar_satc.scope_count", 4},
      {"viommu_dmar_satc.scopes", 8},
      {"viommu_dmar_rhsa", 16},
      {"viommu_dmar_rhsa.proximity_domain", 8},
      {"viommu_dmar_rhsa.reserved", 12},
      {"viommu_dmar_andd", 16},
      {"viommu_dmar_andd.number", 8},
      {"viommu_dmar_andd.reserved", 9},
      {"viommu_dmar_bypass", 8},
      {"viommu_dmar_bypass.first", 2},
      {"viommu_dmar_bypass.last", 4},
      {"viommu_dmar_bypass.reserved", 6},
      {"viommu_dmar", 128},
      {"viommu_dmar.flags", 8},
      {"viommu_dmar.host_address_width", 12},
      {"viommu_dmar.oem_id", 16},
      {"viommu_dmar.oem_table_id", 22},
      {"viommu_dmar.creator_id", 30},
      {"viommu_dmar.reserved", 34},
      {"viommu_dmar.oem_revision", 36},
      {"viommu_dmar.creator_revision", 40},
      {"viommu_dmar.unit_count", 44},
      {"viommu_dmar.rmrr_count", 48},
      {"viommu_dmar.atsr_count", 52},
      {"viommu_dmar.rhsa_count", 56},
      {"viommu_dmar.andd_count", 60},
      {"viommu_dmar.satc_count", 64},
      {"viommu_dmar.bypass_count", 68},
      {"viommu_dmar.units", 72},
      {"viommu_dmar.rmrrs", 80},
      {"viommu_dmar.atsrs", 88},
      {"viommu_dmar.rhsas", 96},
      {"viommu_dmar.andds", 104},
      {"viommu_dmar.satcs", 112},
      {"viommu_dmar.bypassed", 120},
  };
  std::size_t count = 0;
  const abi_number* const numbers = abi_numbers(&count);
  std::map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < count; ++i) seen.emplace(numbers[i].name, numbers[i].value);
  for (const auto& [name, value] : pinned) {
    CAPTURE(name);
    CHECK(seen[name] == value);
  }
  CHECK(seen.size() == pinned.size());
}

TEST_CASE("C and C++ agree on the structs", "[capi][abi]") {
  std::size_t count = 0;
  const abi_number* const numbers = abi_numbers(&count);
  const std::map<std::string, std::size_t> here{
      {"viommu_host", sizeof(viommu_host)},
      {"viommu_vtd_options", sizeof(viommu_vtd_options)},
      {"viommu_region", sizeof(viommu_region)},
      {"viommu_progress", sizeof(viommu_progress)},
      {"viommu_request", sizeof(viommu_request)},
      {"viommu_translation", sizeof(viommu_translation)},
      {"viommu_piece", sizeof(viommu_piece)},
      {"viommu_range_end", sizeof(viommu_range_end)},
      {"viommu_range", sizeof(viommu_range)},
      {"viommu_statistics", sizeof(viommu_statistics)},
      {"viommu_message", sizeof(viommu_message)},
      {"viommu_routed", sizeof(viommu_routed)},
      {"viommu_refusal", sizeof(viommu_refusal)},
      {"viommu_host_facts", sizeof(viommu_host_facts)},
      {"viommu_device", sizeof(viommu_device)},
      {"viommu_bridge", sizeof(viommu_bridge)},
      {"viommu_description", sizeof(viommu_description)},
      {"viommu_veto", sizeof(viommu_veto)},
      {"viommu_dump_options", sizeof(viommu_dump_options)},
      {"viommu_dmar_hop", sizeof(viommu_dmar_hop)},
      {"viommu_dmar_scope", sizeof(viommu_dmar_scope)},
      {"viommu_dmar_unit", sizeof(viommu_dmar_unit)},
      {"viommu_dmar_rmrr", sizeof(viommu_dmar_rmrr)},
      {"viommu_dmar_atsr", sizeof(viommu_dmar_atsr)},
      {"viommu_dmar_satc", sizeof(viommu_dmar_satc)},
      {"viommu_dmar_rhsa", sizeof(viommu_dmar_rhsa)},
      {"viommu_dmar_andd", sizeof(viommu_dmar_andd)},
      {"viommu_dmar_bypass", sizeof(viommu_dmar_bypass)},
      {"viommu_dmar", sizeof(viommu_dmar)},
  };
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto same = here.find(numbers[i].name);
    if (same == here.end()) continue;
    ++found;
    CAPTURE(numbers[i].name);
    CHECK(numbers[i].value == same->second);
  }
  CHECK(found == here.size());
}

TEST_CASE("numbers of the interface stay as they are", "[capi][abi]") {
  STATIC_REQUIRE(VIOMMU_OK == 0);
  STATIC_REQUIRE(VIOMMU_E_NOT_FOUND == -2);
  STATIC_REQUIRE(VIOMMU_E_MEMORY == -12);
  STATIC_REQUIRE(VIOMMU_E_FAULT == -14);
  STATIC_REQUIRE(VIOMMU_E_BUSY == -16);
  STATIC_REQUIRE(VIOMMU_E_EXISTS == -17);
  STATIC_REQUIRE(VIOMMU_E_ARGUMENT == -22);
  STATIC_REQUIRE(VIOMMU_E_LIMIT == -28);
  STATIC_REQUIRE(VIOMMU_E_RANGE == -34);
  STATIC_REQUIRE(VIOMMU_E_UNSUPPORTED == -95);
  STATIC_REQUIRE(VIOMMU_READ == 1);
  STATIC_REQUIRE(VIOMMU_WRITE == 2);
  STATIC_REQUIRE(VIOMMU_NO_REPORT == 1);
  STATIC_REQUIRE(VIOMMU_HAS_PASID == 2);
  STATIC_REQUIRE(VIOMMU_ZERO_LENGTH == 4);
  STATIC_REQUIRE(VIOMMU_FAULT == 0);
  STATIC_REQUIRE(VIOMMU_TRANSLATED == 1);
  STATIC_REQUIRE(VIOMMU_IDENTITY == 2);
  STATIC_REQUIRE(VIOMMU_INTERRUPT == 3);
  STATIC_REQUIRE(VIOMMU_FAULT_DISABLED == 5);
  STATIC_REQUIRE(VIOMMU_PROCESS_WAIT == 2);
  STATIC_REQUIRE(VIOMMU_REGION_READ_ONLY == 1);
  STATIC_REQUIRE(VIOMMU_FAULT_COMPRESSION == 1);
  STATIC_REQUIRE(VIOMMU_REFUSED_FIELD_MISMATCH == 8);
  STATIC_REQUIRE(VIOMMU_REFUSED_BUSY == 19);
  STATIC_REQUIRE(VIOMMU_REFUSED_BAD_STATE == 20);
  STATIC_REQUIRE(VIOMMU_DIRTY_OFF == 0);
  STATIC_REQUIRE(VIOMMU_DIRTY_ON == 1);
  STATIC_REQUIRE(VIOMMU_SCOPE_ENDPOINT == 1);
  STATIC_REQUIRE(VIOMMU_SCOPE_BRIDGE == 2);
  STATIC_REQUIRE(VIOMMU_SCOPE_IOAPIC == 3);
  STATIC_REQUIRE(VIOMMU_SCOPE_HPET == 4);
  STATIC_REQUIRE(VIOMMU_SCOPE_NAMED == 5);
  STATIC_REQUIRE(VIOMMU_DMAR_INCLUDE_ALL == 1);
  STATIC_REQUIRE(VIOMMU_DMAR_ALL_PORTS == 1);
  STATIC_REQUIRE(VIOMMU_DMAR_ATC_REQUIRED == 1);
  STATIC_REQUIRE(VIOMMU_DMAR_X2APIC_OPT_OUT == 2);
}

}  // namespace viommu::capi
