// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest maps one page for its device 00:02.0; the VMM translates that device's DMA.
#include <inttypes.h>
#include <stdio.h>
#include <viommu/viommu.h>

static _Alignas(4096) uint64_t ram[8][512];  // 32 KiB of guest memory, at guest-physical address 0

static void show(viommu_reader* reader, uint64_t iova) {
  const struct viommu_request request = {.iova = iova, .source = 0x0010, .access = VIOMMU_READ};
  struct viommu_translation found;
  viommu_enter(reader);  // from here to viommu_leave the answer may be used: the guest waits with its next move
  if (viommu_translate(reader, &request, &found) == VIOMMU_OK)
    printf("0x%" PRIx64 " -> 0x%" PRIx64 "\n", iova, found.gpa);
  else
    printf("0x%" PRIx64 " is blocked, reason %u\n", iova, found.reason);
  viommu_leave(reader);
}

int main(void) {
  // The VMM's side: one VT-d unit, and where its guest's memory is.
  const struct viommu_vtd_options options = {.size = sizeof options};
  const struct viommu_host host = {.size = sizeof host};
  const struct viommu_region region = {.gpa = 0, .length = sizeof ram, .hva = ram};
  viommu_engine* engine;
  viommu_reader* reader;
  char error[256];
  if (viommu_create_vtd(&options, &host, error, sizeof error, &engine) != VIOMMU_OK) return puts(error), 1;
  if (viommu_region_add(engine, &region) != VIOMMU_OK) return 1;
  if (viommu_reader_create(engine, &reader) != VIOMMU_OK) return 1;

  // The guest's side: tables, then the registers RTADDR and GCMD (set root table, translation on).
  ram[1][0] = 0x2000 | 1;             // root entry of bus 0
  ram[2][2 * 0x10] = 0x3000 | 1;      // context entry of 02.0: second-stage table,
  ram[2][2 * 0x10 + 1] = 5 << 8 | 1;  //   domain 5, three levels
  ram[3][0] = 0x4000 | 3;             // three levels of tables, readable and writable
  ram[4][0] = 0x5000 | 3;
  ram[5][7] = 0x6000 | 3;  // 0x7000 is the page at 0x6000
  viommu_mmio_write(engine, 0x20, 8, 0x1000);
  viommu_mmio_write(engine, 0x18, 4, 1u << 30);
  viommu_mmio_write(engine, 0x18, 4, 1u << 31);

  show(reader, 0x7123);  // 0x7123 -> 0x6123
  show(reader, 0x8000);  // 0x8000 is blocked, reason 6

  viommu_reader_destroy(reader);
  return viommu_destroy(engine) == VIOMMU_OK ? 0 : 1;
}
