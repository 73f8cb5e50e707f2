/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* A C program that gives an engine the threads of viommu_tbb. */
#include <stdio.h>
#include <viommu/viommu_tbb.h>

static void execute(void* opaque, uint32_t count, void (*task)(void* context, uint32_t index), void* context) {
  viommu_tbb_execute(opaque, count, task, context);
}

static void mark(void* context, uint32_t index) { ((char*)context)[index] = 'x'; }

int main(void) {
  viommu_tbb* executor = NULL;
  if (viommu_tbb_create(2, &executor) != VIOMMU_OK) return 1;
  struct viommu_host host = {.size = sizeof host, .opaque = executor, .execute = execute};
  struct viommu_vtd_options options = {.size = sizeof options, .shards = 8};
  viommu_engine* engine = NULL;
  if (viommu_create_vtd(&options, &host, NULL, 0, &engine) != VIOMMU_OK) return 1;
  char marks[] = "........";
  host.execute(host.opaque, 8, mark, marks);
  printf("%s\n", marks);
  viommu_destroy(engine);
  viommu_tbb_destroy(executor);
  return 0;
}
