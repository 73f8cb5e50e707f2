/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A C program that is a back end and its front end at once: an engine that is off feeds what the back end misses. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <viommu/viommu_vhost.h>

static viommu_iotlb* iotlb;
static viommu_vhost_feeder* feeder;

static void send_message(void* opaque, const void* bytes, size_t length) {
  struct viommu_vhost_message message;
  if (viommu_vhost_message_read(VIOMMU_VHOST_PLAIN, bytes, length, &message) == VIOMMU_OK)
    viommu_vhost_apply(iotlb, &message, NULL);
  ++*(int*)opaque;
}

static void miss(void* opaque, uint64_t first, uint64_t last, uint32_t access) {
  (void)opaque;
  viommu_vhost_feeder_miss(feeder, first, last, access);
}

int main(void) {
  int messages = 0;
  const struct viommu_vtd_options unit = {.size = sizeof unit};
  const struct viommu_host host = {.size = sizeof host};
  viommu_engine* engine = NULL;
  if (viommu_create_vtd(&unit, &host, NULL, 0, &engine) != VIOMMU_OK) return 1;
  const struct viommu_iotlb_options options = {.size = sizeof options, .miss = miss};
  if (viommu_iotlb_create(&options, &iotlb) != VIOMMU_OK) return 1;
  struct viommu_vhost_options feeding;
  memset(&feeding, 0, sizeof feeding);
  feeding.size = sizeof feeding;
  feeding.opaque = &messages;
  feeding.send = send_message;
  feeding.source = 0x10;
  if (viommu_vhost_feeder_create(engine, &feeding, NULL, &feeder) != VIOMMU_OK) return 1;
  viommu_iotlb_reader* reader = NULL;
  if (viommu_iotlb_reader_create(iotlb, &reader) != VIOMMU_OK) return 1;
  struct viommu_iotlb_piece piece;
  struct viommu_iotlb_end end;
  viommu_iotlb_translate_range(reader, 0x7123, 8, VIOMMU_READ, &piece, 1, &end);
  if (viommu_iotlb_translate_range(reader, 0x7123, 8, VIOMMU_READ, &piece, 1, &end) != VIOMMU_OK) return 1;
  printf("%d message, 0x7123 -> 0x%" PRIx64 "\n", messages, piece.target);
  viommu_iotlb_reader_destroy(reader);
  viommu_vhost_feeder_destroy(feeder);
  viommu_iotlb_destroy(iotlb);
  viommu_destroy(engine);
  return 0;
}
