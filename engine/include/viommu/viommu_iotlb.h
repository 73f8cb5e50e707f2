/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * viommu_iotlb: the translations that a back end has been told by messages (vhost-user, vDPA, a device in another
 * process). Part of libviommu, but it needs no engine: whoever feeds it knows where the translations come from. The
 * rules at the top of viommu.h hold here too.
 *
 *   feeding      viommu_iotlb_update(), viommu_iotlb_invalidate(), viommu_iotlb_failed()
 *   translating  viommu_iotlb_translate_range(), inside viommu_iotlb_enter() .. viommu_iotlb_leave()
 *   a miss       options.miss, once for each range that is missing, until something has been said about it
 *   writes       viommu_iotlb_log_set(), viommu_iotlb_written(): which guest pages a device has written
 *
 * - Ranges are inclusive (`first`, `last`): [0, 2^64 - 1] is one range. A length is only ever that of a request.
 * - It is a cache. What is not there is asked for again; what the quota has no room for pushes out something else.
 * - Threads that translate take no lock and wait for nobody, however fast messages come. Threads that feed take turns.
 * - An answer is used inside its guard. viommu_iotlb_invalidate() gives a ticket, and viommu_iotlb_drained() says when
 *   no guard is left that could have had an older answer: only then may the invalidation be acknowledged.
 */
#ifndef VIOMMU_VIOMMU_IOTLB_H
#define VIOMMU_VIOMMU_IOTLB_H

#include <viommu/viommu.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct viommu_iotlb viommu_iotlb;
typedef struct viommu_iotlb_reader viommu_iotlb_reader;

/** A zero in any field but `size` means the default. */
struct viommu_iotlb_options {
  size_t size;
  void* opaque; /* first argument of each function */
  /** [first, last] is not there for `access` (VIOMMU_READ | VIOMMU_WRITE): told once, and again only when an update, an
   *  invalidation or a failure has touched the range, or when it has been asked for `repeat` more times. Called by the
   *  thread that translates, without a lock held, and when its guard has ended: it may block, and may call anything
   *  here but viommu_iotlb_destroy(). May be NULL. */
  void (*miss)(void* opaque, uint64_t first, uint64_t last, uint32_t access);
  /** Memory, at creation and for updates, which wait for each other meanwhile: nothing of the same object may be called
   *  from here. Both or neither. `alignment` is a power of two. */
  void* (*allocate)(void* opaque, size_t size, size_t alignment);
  void (*deallocate)(void* opaque, void* memory, size_t size, size_t alignment);
  uint64_t ranges;   /* that can be there at a time, 8 to 2^24; default 65,536. 9 to 40 bytes each as a rule, and never
                        more than 256 each and 64 KiB together */
  uint32_t readers;  /* that can exist at a time; default 64, at most 4,096 */
  uint32_t misses;   /* that are remembered as told; default 64, at most 4,096. The oldest is forgotten */
  uint32_t repeat;   /* default 1,024 */
  uint32_t reserved; /* 0 */
};

/** VIOMMU_OK, _E_ARGUMENT, _E_MEMORY. Threads: any. */
VIOMMU_API viommu_result viommu_iotlb_create(const struct viommu_iotlb_options* options, viommu_iotlb** iotlb);
/** No other call may be running. VIOMMU_E_BUSY while readers exist. NULL is allowed. */
VIOMMU_API viommu_result viommu_iotlb_destroy(viommu_iotlb* iotlb);

/* ---- Feeding ---------------------------------------------------------------------------------------------------- */

/**
 * From now on [first, last] leads to [target, target + (last - first)] with the rights in `access`. What was there
 * before goes, and what is left of it at either end stays. Neighbours that go on alike become one range. A reader finds
 * the old answer or the new one, and parts that do not change are found throughout; only when the feeding thread is
 * stopped in the middle of the change, for longer than some microseconds, a reader may take a part for missing.
 * @param target  address in the back end, or guest-physical: whatever the feeder says. Not all ones, which is what a
 *                failed mmap() gives
 * @return VIOMMU_OK; VIOMMU_E_ARGUMENT: last < first, no rights or unknown ones; VIOMMU_E_RANGE: the target goes past
 *         2^64 or is all ones; VIOMMU_E_MEMORY, and VIOMMU_E_BUSY when memory waits for a guard: the range is not there
 *         then. Threads: any.
 */
VIOMMU_API viommu_result viommu_iotlb_update(viommu_iotlb* iotlb, uint64_t first, uint64_t last, uint64_t target,
                                             uint32_t access);
/**
 * Nothing of [first, last] is there any more; [0, 2^64 - 1] empties all in constant time. A range that is cut leaves
 * both of its ends as they were, or misses of them where there is no memory for that.
 * @param ticket  for viommu_iotlb_drained(); may be NULL
 * @return VIOMMU_OK, VIOMMU_E_ARGUMENT. Needs no memory to be done. Threads: any.
 */
VIOMMU_API viommu_result viommu_iotlb_invalidate(viommu_iotlb* iotlb, uint64_t first, uint64_t last, uint64_t* ticket);
/** The feeder has no translation for [first, last] (ACCESS_FAIL): a miss of it is told again when it is asked for
 *  again. VIOMMU_OK, VIOMMU_E_ARGUMENT. Threads: any. */
VIOMMU_API viommu_result viommu_iotlb_failed(viommu_iotlb* iotlb, uint64_t first, uint64_t last);
/** Whether all guards have ended that were open when `ticket` was given out (1 or 0). It looks for some microseconds at
 *  most, and does not wait: guards are short. VIOMMU_OK, VIOMMU_E_ARGUMENT. Threads: any, outside its own guard. */
VIOMMU_API viommu_result viommu_iotlb_drained(viommu_iotlb* iotlb, uint64_t ticket, uint32_t* drained);

/* ---- Translating ------------------------------------------------------------------------------------------------ */

/** One reader is used by one thread at a time. VIOMMU_E_LIMIT, _E_ARGUMENT. Threads: any. */
VIOMMU_API viommu_result viommu_iotlb_reader_create(viommu_iotlb* iotlb, viommu_iotlb_reader** reader);
/** VIOMMU_E_BUSY inside its guard. NULL is allowed. */
VIOMMU_API viommu_result viommu_iotlb_reader_destroy(viommu_iotlb_reader* reader);
/** Opens the reader's guard; may be nested. Wait-free. */
VIOMMU_API void viommu_iotlb_enter(viommu_iotlb_reader* reader);
/** Closes it, and tells the misses of it. Without an open guard it does nothing. */
VIOMMU_API void viommu_iotlb_leave(viommu_iotlb_reader* reader);

/** One piece of a buffer, as long as target and rights go on alike. */
struct viommu_iotlb_piece {
  uint64_t iova;
  uint64_t target;
  uint64_t length;     /* bytes, not 0 */
  uint8_t rights;      /* VIOMMU_READ | VIOMMU_WRITE that there are */
  uint8_t reserved[7]; /* 0 */
};

/** viommu_iotlb_end.stopped. */
enum {
  VIOMMU_IOTLB_COMPLETE = 0,
  VIOMMU_IOTLB_MISSING = 1, /* nothing is there */
  VIOMMU_IOTLB_DENIED = 2,  /* something is there, without the right that was asked for: told as a miss, too */
  VIOMMU_IOTLB_FULL = 3,    /* no room for another piece */
  VIOMMU_IOTLB_MORE = 4     /* 65,536 ranges were looked at: ask again for the rest */
};
/** Where viommu_iotlb_translate_range() stopped. */
struct viommu_iotlb_end {
  uint64_t translated; /* bytes covered by the pieces */
  uint32_t pieces;     /* pieces written */
  uint32_t stopped;    /* VIOMMU_IOTLB_*, at iova + translated */
};

/**
 * Translates [iova, iova + length). Stops at the first byte that is missing, but looks through the rest for what else
 * is, so that all of it is asked for at once: at most 8 ranges a guard, each exactly what is missing. Outside a guard
 * the call opens one for itself: then the answer is a hint.
 * @param access  VIOMMU_READ | VIOMMU_WRITE, not 0
 * @param pieces  array of `capacity` elements, not 0
 * @return VIOMMU_OK: complete, full or more; VIOMMU_E_FAULT: missing or denied; VIOMMU_E_ARGUMENT (length 0, range past
 *         2^64, unknown rights): nothing is written then.
 */
VIOMMU_API viommu_result viommu_iotlb_translate_range(viommu_iotlb_reader* reader, uint64_t iova, uint64_t length,
                                                      uint32_t access, struct viommu_iotlb_piece* pieces,
                                                      uint32_t capacity, struct viommu_iotlb_end* end);

/* ---- Which pages were written ----------------------------------------------------------------------------------- */

/** Guest memory as the targets of updates name it. */
struct viommu_iotlb_region {
  uint64_t target;
  uint64_t gpa;
  uint64_t length; /* bytes, not 0 */
};
/** Where writes are logged: always by guest-physical address. */
struct viommu_iotlb_log {
  size_t size;
  void* opaque;
  /** A bit for each 4 KiB of guest-physical memory, the lowest of a byte first, as vhost-user has it. Bits are set one
   *  byte at a time, atomically, and never past `bitmap_bytes`. May be NULL. */
  uint8_t* bitmap;
  uint64_t bitmap_bytes;
  /** Told as well, of each piece that was written and lies in guest memory; may be NULL. Inside a guard: it does not
   *  block. */
  void (*dirty)(void* opaque, uint64_t iova, uint64_t gpa, uint64_t length);
  const struct viommu_iotlb_region* regions; /* `region_count` of them, copied; none: a target is the gpa itself */
  uint32_t region_count;                     /* at most 4,096 */
  uint32_t reserved;                         /* 0 */
};
/**
 * Logs from now on, here and no longer where it was; NULL ends it.
 * @param ticket  what was used before is used no longer when it has drained; may be NULL
 * @return VIOMMU_OK, _E_ARGUMENT (regions that overlap in their targets, are empty or go past 2^64), _E_MEMORY,
 *         _E_BUSY: eight older logs wait for a guard. Threads: any.
 */
VIOMMU_API viommu_result viommu_iotlb_log_set(viommu_iotlb* iotlb, const struct viommu_iotlb_log* log,
                                              uint64_t* ticket);
/**
 * The pieces (or parts of them) have been written: to be called after the last write and before the guest is told of
 * it, inside the guard of the answer or behind it. Nothing happens while nothing is logged.
 * @return VIOMMU_OK; VIOMMU_E_RANGE: a part was outside guest memory, or past the bitmap, and was left out; all else is
 *         logged; VIOMMU_E_ARGUMENT
 */
VIOMMU_API viommu_result viommu_iotlb_written(viommu_iotlb_reader* reader, const struct viommu_iotlb_piece* pieces,
                                              uint32_t count);

/* ---- Figures ---------------------------------------------------------------------------------------------------- */

struct viommu_iotlb_figures {
  size_t size;
  uint64_t ranges;        /* now */
  uint64_t bytes;         /* now: memory of these, and of what waits for guards */
  uint64_t updates;       /* since creation */
  uint64_t invalidations; /* the same */
  uint64_t misses;        /* told */
  uint64_t repeated;      /* not told, because they had been */
  uint64_t evicted;       /* ranges that were pushed out */
  uint64_t forgotten;     /* ends of a range that was cut for which there was no memory */
};
/** Fills in as many fields as figures->size says. Threads: any. */
VIOMMU_API viommu_result viommu_iotlb_figures_get(viommu_iotlb* iotlb, struct viommu_iotlb_figures* figures);

#ifdef __cplusplus
}
#endif

#endif
