/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * viommu_tbb: threads for viommu_host.execute, by oneTBB. A library of its own, so that libviommu needs no oneTBB.
 *
 *   struct vmm { viommu_tbb* executor; ... };
 *   static void execute(void* opaque, uint32_t count, void (*task)(void*, uint32_t), void* context) {
 *     viommu_tbb_execute(((struct vmm*)opaque)->executor, count, task, context);
 *   }
 *   ...
 *   viommu_tbb_create(4, &vmm.executor);
 *   host.opaque = &vmm;
 *   host.execute = execute;
 *   options.shards = 16;   (some more than threads: domains spread over them, and whoever is done takes the next)
 */
#ifndef VIOMMU_VIOMMU_TBB_H
#define VIOMMU_VIOMMU_TBB_H

#include <viommu/viommu.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct viommu_tbb viommu_tbb;

/**
 * An arena of its own: its threads run nothing but what is given to it, and what is given to it waits for nothing else.
 * oneTBB makes the threads when they are first needed and lets them sleep when there is nothing to do.
 * @param threads  that may run tasks at a time, the calling one among them, 1..256; no more than the process has CPUs
 * @return VIOMMU_OK, _E_ARGUMENT, _E_MEMORY. Threads: any.
 */
VIOMMU_API viommu_result viommu_tbb_create(uint32_t threads, viommu_tbb** executor);

/** No engine may use it any more. NULL is allowed. */
VIOMMU_API void viommu_tbb_destroy(viommu_tbb* executor);

/** As viommu_host.execute is to do: runs task(context, i) for every i in [0, count) and returns when all have ended.
 * Several engines may share an executor. Threads: any. */
VIOMMU_API void viommu_tbb_execute(viommu_tbb* executor, uint32_t count, void (*task)(void* context, uint32_t index),
                                   void* context);

#ifdef __cplusplus
}
#endif

#endif
