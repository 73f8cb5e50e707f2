/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * libviommu: which virtio-iommu a device is an endpoint of, and the ACPI table that says so (VIOT).
 *
 * One description answers for the VMM's routing and becomes the table, as viommu_dmar does for VT-d. Whatever bypasses
 * is in no range of the table: ranges that the VMM names, and what a unit's engine knows to bypass. Nor are the units
 * themselves, whose rings are in guest memory as it is.
 */
#ifndef VIOMMU_VIOMMU_VIOT_H
#define VIOMMU_VIOMMU_VIOT_H

#include <viommu/viommu.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Source ids [first, last] of a segment that are endpoints of a unit. Usual ids are segment << 16 | source id. */
struct viommu_viot_range {
  uint16_t segment;
  uint16_t first;
  uint16_t last;
  uint16_t reserved; /* 0 */
  uint32_t endpoint; /* id of `first`; each next source id has the next */
};

/** An endpoint that is no PCI device, by its registers. */
struct viommu_viot_mmio {
  uint64_t base;
  uint32_t endpoint;
  uint32_t reserved; /* 0 */
};

/** viommu_viot_unit.kind, with the table's numbers. */
enum {
  VIOMMU_VIOT_PCI = 3, /* virtio-pci, at `segment` and `source` */
  VIOMMU_VIOT_MMIO = 4 /* virtio-mmio, at `base` */
};
struct viommu_viot_unit {
  const viommu_engine* engine; /* may be NULL; else it says which source ids bypass */
  uint64_t base;
  uint32_t kind; /* VIOMMU_VIOT_* */
  uint16_t segment;
  uint16_t source;
  uint32_t range_count; /* of all units at most 1,024 */
  uint32_t mmio_count;  /* the same */
  const struct viommu_viot_range* ranges;
  const struct viommu_viot_mmio* mmio;
};

struct viommu_viot {
  size_t size;
  char oem_id[6]; /* as in viommu_dmar, with its defaults */
  char oem_table_id[8];
  char creator_id[4];
  uint16_t reserved; /* 0 */
  uint32_t oem_revision;
  uint32_t creator_revision;
  uint32_t unit_count;   /* 1 to 256 */
  uint32_t bypass_count; /* at most 4,096 */
  const struct viommu_viot_unit* units;
  const struct viommu_dmar_bypass* bypassed; /* ascending, and apart from each other */
};

/**
 * Writes the ACPI table. `*length` receives its bytes, at most 64 KiB; with `capacity` too small nothing is written.
 * @param bytes  may be NULL when `capacity` is 0
 * @return VIOMMU_OK; VIOMMU_E_RANGE (too small); VIOMMU_E_REFUSED: the table would be illegal or ambiguous, which
 *         `refusal` explains (may be NULL), Invalid with `field` such as "viot[1].ranges[0]"; _E_ARGUMENT,
 *         _E_UNSUPPORTED, _E_MEMORY. Threads: any; the engines stay; allowed in callbacks. Source: ACPI, "Virtual I/O
 *         Translation (VIOT) Table".
 */
VIOMMU_API viommu_result viommu_viot_write(const struct viommu_viot* viot, void* bytes, size_t capacity, size_t* length,
                                           struct viommu_refusal* refusal);

/**
 * The unit that a PCI device is an endpoint of, and its id there, as an operating system finds them in the table.
 * @return VIOMMU_OK; VIOMMU_E_NOT_FOUND: it bypasses, or is an endpoint of none; else as viommu_viot_write(). Threads:
 *         any; allowed in callbacks.
 */
VIOMMU_API viommu_result viommu_viot_endpoint_of(const struct viommu_viot* viot, uint16_t segment, uint16_t source,
                                                 uint32_t* unit, uint32_t* endpoint, struct viommu_refusal* refusal);

#ifdef __cplusplus
}
#endif

#endif
