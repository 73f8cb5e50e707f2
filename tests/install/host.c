/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A C program that keeps a container equal to two events, over a kernel that says yes to everything. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <viommu/viommu_host.h>

static int32_t yes(void* opaque, int32_t fd, uint32_t request, uintptr_t argument) {
  (void)fd;
  if (request == 0x3B71) ++*(int*)opaque;    /* VFIO_IOMMU_MAP_DMA */
  return request == 0x3B65 && argument == 3; /* type1v2 is there, and no other extension */
}

int main(void) {
  static char memory[4096];
  int maps = 0;
  const struct viommu_host_kernel kernel = {sizeof kernel, &maps, yes};
  viommu_vfio_container* container = NULL;
  if (viommu_vfio_container_create(&kernel, 0, NULL, 0, &container) != VIOMMU_OK) return 1;
  struct viommu_host_consumer settings;
  struct viommu_consumer consumer;
  memset(&settings, 0, sizeof settings);
  settings.size = sizeof settings;
  settings.container = container;
  memset(&consumer, 0, sizeof consumer);
  consumer.size = sizeof consumer;
  if (viommu_host_consumer_init(&settings, &consumer) != VIOMMU_OK) return 1;
  struct viommu_event event;
  memset(&event, 0, sizeof event);
  event.iova = 0x1000;
  event.last = 0x1FFF;
  event.hva = memory;
  event.kind = VIOMMU_EVENT_MAP;
  event.rights = VIOMMU_READ | VIOMMU_WRITE;
  consumer.events(consumer.opaque, &event, 1);
  struct viommu_host_figures figures = {.size = sizeof figures};
  viommu_vfio_container_figures(container, &figures);
  printf("%d call, %" PRIu64 " mapping\n", maps, figures.mappings);
  viommu_vfio_container_destroy(container);
  return 0;
}
