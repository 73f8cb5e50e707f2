/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* Plain C99, nothing before the header: it must stand alone. */
#include <viommu/viommu.h>

#include "tests/capi/abi_c99.h"

static const struct abi_number numbers[] = {
    {"viommu_host", sizeof(struct viommu_host)},
    {"viommu_host.size", offsetof(struct viommu_host, size)},
    {"viommu_host.opaque", offsetof(struct viommu_host, opaque)},
    {"viommu_host.memory_read", offsetof(struct viommu_host, memory_read)},
    {"viommu_host.memory_write", offsetof(struct viommu_host, memory_write)},
    {"viommu_host.memory_compare_exchange", offsetof(struct viommu_host, memory_compare_exchange)},
    {"viommu_host.msi", offsetof(struct viommu_host, msi)},
    {"viommu_host.wake", offsetof(struct viommu_host, wake)},
    {"viommu_host.now_ns", offsetof(struct viommu_host, now_ns)},
    {"viommu_host.log", offsetof(struct viommu_host, log)},
    {"viommu_host.execute", offsetof(struct viommu_host, execute)},
    {"viommu_host.allocate", offsetof(struct viommu_host, allocate)},
    {"viommu_host.deallocate", offsetof(struct viommu_host, deallocate)},
    {"viommu_host.region_gone", offsetof(struct viommu_host, region_gone)},
    {"viommu_host.routes_changed", offsetof(struct viommu_host, routes_changed)},
    {"viommu_host.hold_overdue", offsetof(struct viommu_host, hold_overdue)},
    {"viommu_host.record", offsetof(struct viommu_host, record)},
    {"viommu_vtd_options", sizeof(struct viommu_vtd_options)},
    {"viommu_vtd_options.capability", offsetof(struct viommu_vtd_options, capability)},
    {"viommu_vtd_options.extended_capability", offsetof(struct viommu_vtd_options, extended_capability)},
    {"viommu_vtd_options.version", offsetof(struct viommu_vtd_options, version)},
    {"viommu_vtd_options.host_address_width", offsetof(struct viommu_vtd_options, host_address_width)},
    {"viommu_vtd_options.flags", offsetof(struct viommu_vtd_options, flags)},
    {"viommu_vtd_options.drain", offsetof(struct viommu_vtd_options, drain)},
    {"viommu_vtd_options.fill", offsetof(struct viommu_vtd_options, fill)},
    {"viommu_vtd_options.iotlb_pages", offsetof(struct viommu_vtd_options, iotlb_pages)},
    {"viommu_vtd_options.context_entries", offsetof(struct viommu_vtd_options, context_entries)},
    {"viommu_vtd_options.address_spaces", offsetof(struct viommu_vtd_options, address_spaces)},
    {"viommu_vtd_options.tag_bits", offsetof(struct viommu_vtd_options, tag_bits)},
    {"viommu_vtd_options.readers", offsetof(struct viommu_vtd_options, readers)},
    {"viommu_vtd_options.holds", offsetof(struct viommu_vtd_options, holds)},
    {"viommu_vtd_options.regions", offsetof(struct viommu_vtd_options, regions)},
    {"viommu_vtd_options.hold_report_ns", offsetof(struct viommu_vtd_options, hold_report_ns)},
    {"viommu_vtd_options.hash_seed", offsetof(struct viommu_vtd_options, hash_seed)},
    {"viommu_vtd_options.kernel", offsetof(struct viommu_vtd_options, kernel)},
    {"viommu_vtd_options.structures", offsetof(struct viommu_vtd_options, structures)},
    {"viommu_vtd_options.shards", offsetof(struct viommu_vtd_options, shards)},
    {"viommu_vtd_options.pasid_entries", offsetof(struct viommu_vtd_options, pasid_entries)},
    {"viommu_vtd_options.fault_limit", offsetof(struct viommu_vtd_options, fault_limit)},
    {"viommu_region", sizeof(struct viommu_region)},
    {"viommu_region.length", offsetof(struct viommu_region, length)},
    {"viommu_region.hva", offsetof(struct viommu_region, hva)},
    {"viommu_region.flags", offsetof(struct viommu_region, flags)},
    {"viommu_progress", sizeof(struct viommu_progress)},
    {"viommu_progress.reserved", offsetof(struct viommu_progress, reserved)},
    {"viommu_progress.wait_until_ns", offsetof(struct viommu_progress, wait_until_ns)},
    {"viommu_request", sizeof(struct viommu_request)},
    {"viommu_request.length", offsetof(struct viommu_request, length)},
    {"viommu_request.pasid", offsetof(struct viommu_request, pasid)},
    {"viommu_request.source", offsetof(struct viommu_request, source)},
    {"viommu_request.access", offsetof(struct viommu_request, access)},
    {"viommu_request.flags", offsetof(struct viommu_request, flags)},
    {"viommu_translation", sizeof(struct viommu_translation)},
    {"viommu_translation.mask", offsetof(struct viommu_translation, mask)},
    {"viommu_translation.kind", offsetof(struct viommu_translation, kind)},
    {"viommu_translation.rights", offsetof(struct viommu_translation, rights)},
    {"viommu_translation.reason", offsetof(struct viommu_translation, reason)},
    {"viommu_translation.status", offsetof(struct viommu_translation, status)},
    {"viommu_translation.reserved", offsetof(struct viommu_translation, reserved)},
    {"viommu_piece", sizeof(struct viommu_piece)},
    {"viommu_piece.gpa", offsetof(struct viommu_piece, gpa)},
    {"viommu_piece.length", offsetof(struct viommu_piece, length)},
    {"viommu_piece.kind", offsetof(struct viommu_piece, kind)},
    {"viommu_piece.rights", offsetof(struct viommu_piece, rights)},
    {"viommu_piece.reserved", offsetof(struct viommu_piece, reserved)},
    {"viommu_range_end", sizeof(struct viommu_range_end)},
    {"viommu_range_end.pieces", offsetof(struct viommu_range_end, pieces)},
    {"viommu_range_end.reason", offsetof(struct viommu_range_end, reason)},
    {"viommu_range_end.status", offsetof(struct viommu_range_end, status)},
    {"viommu_range_end.complete", offsetof(struct viommu_range_end, complete)},
    {"viommu_range_end.reserved", offsetof(struct viommu_range_end, reserved)},
    {"viommu_range", sizeof(struct viommu_range)},
    {"viommu_range.last", offsetof(struct viommu_range, last)},
    {"viommu_statistics", sizeof(struct viommu_statistics)},
    {"viommu_statistics.translations", offsetof(struct viommu_statistics, translations)},
    {"viommu_statistics.faults_recorded", offsetof(struct viommu_statistics, faults_recorded)},
    {"viommu_statistics.holds_open", offsetof(struct viommu_statistics, holds_open)},
    {"viommu_statistics.cache_bytes", offsetof(struct viommu_statistics, cache_bytes)},
    {"viommu_statistics.process_barriers", offsetof(struct viommu_statistics, process_barriers)},
    {"viommu_statistics.interrupts_blocked", offsetof(struct viommu_statistics, interrupts_blocked)},
    {"viommu_message", sizeof(struct viommu_message)},
    {"viommu_message.data", offsetof(struct viommu_message, data)},
    {"viommu_message.source", offsetof(struct viommu_message, source)},
    {"viommu_message.flags", offsetof(struct viommu_message, flags)},
    {"viommu_routed", sizeof(struct viommu_routed)},
    {"viommu_routed.descriptor", offsetof(struct viommu_routed, descriptor)},
    {"viommu_routed.data", offsetof(struct viommu_routed, data)},
    {"viommu_routed.index", offsetof(struct viommu_routed, index)},
    {"viommu_routed.kind", offsetof(struct viommu_routed, kind)},
    {"viommu_routed.reason", offsetof(struct viommu_routed, reason)},
    {"viommu_routed.status", offsetof(struct viommu_routed, status)},
    {"viommu_routed.vector", offsetof(struct viommu_routed, vector)},
    {"viommu_routed.notify", offsetof(struct viommu_routed, notify)},
    {"viommu_routed.urgent", offsetof(struct viommu_routed, urgent)},
    {"viommu_dump_options", sizeof(struct viommu_dump_options)},
    {"viommu_dump_options.opaque", offsetof(struct viommu_dump_options, opaque)},
    {"viommu_dump_options.write", offsetof(struct viommu_dump_options, write)},
    {"viommu_dump_options.sections", offsetof(struct viommu_dump_options, sections)},
    {"viommu_dump_options.most", offsetof(struct viommu_dump_options, most)},
    {"viommu_dump_options.request", offsetof(struct viommu_dump_options, request)},
};

const struct abi_number* abi_numbers(size_t* count) {
  *count = sizeof numbers / sizeof numbers[0];
  return numbers;
}

int abi_use(void) {
  struct viommu_vtd_options options = {.size = sizeof options};
  struct viommu_host host = {.size = sizeof host};
  struct viommu_request request = {.iova = 0x1234, .access = VIOMMU_READ};
  struct viommu_translation translation;
  viommu_engine* engine;
  if (viommu_create_vtd(&options, &host, NULL, 0, &engine) != VIOMMU_OK) return 1;
  if (viommu_translate_once(engine, &request, &translation) != VIOMMU_OK) return 2;
  if (translation.kind != VIOMMU_IDENTITY || translation.gpa != 0x1234) return 3;
  return viommu_destroy(engine) == VIOMMU_OK ? 0 : 4;
}
