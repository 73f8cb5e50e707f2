/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 * A fill against an invalidation of its page (caches/iotlb.hpp): versions, and which sizes are looked for.
 *
 * The guest changes a large page's leaf from 1 to 2 and orders an invalidation of it. Walkers read the leaf and fill
 * the entry. Nobody has cached a page of this size yet, so the first walker announces it and fills at its second walk.
 * Claim: once the invalidation is complete, a lookup does not find 1 (the guards that are still open are drain.pml's).
 *
 *
 * holds
 * holds   WEAK
 * broken  SAMPLE_LATE ; F0 after the walk
 * broken  TAKE_ANY_VERSION ; F2 locks whatever version it finds
 * broken  BUMP_IF_FOUND ; nothing cached: the invalidation leaves the version alone
 * broken  NO_CLEAR ; no I2
 * broken  CLEAR_UNLOCKED ; I2 before I1
 * broken  NO_B1
 * broken  WEAK NO_A2 ; (where A1 is a locked instruction, it is the fence)
 * broken  FILL_AT_ONCE ; the walk that announces the size fills, too
 * broken  FILLABLE_FIRST ; A3 before A1
 * broken  FILLABLE_LATE ; `fillable` sampled after the walk
 */
#ifndef WALKERS
#define WALKERS 2
#endif
#define PROCESSES (WALKERS + 1) /* buffers: of the walkers, and of the guest with the engine's worker */
#define LEAF 0
#define VERSION 1
#define ENTRY 2
#define SIZES 3
#define FILLABLE 4
#define DONE 5
#define CELLS 6
#include "memory.pml"

/* TSO: a locked instruction, hence a fence. WEAK: relaxed, so that its store may wait. Two that set the same bit do not
   need to exclude each other here. */
inline set_bit(p, where) {
#ifdef WEAK
  store(p, where, 1)
#else
  atomic { fenced(p) -> memory[where] = 1 }
#endif
}

inline set_bit_release(p, where) {
#ifdef WEAK
  store_release(p, where, 1)
#else
  set_bit(p, where)
#endif
}

inline announce(p) {
#ifdef FILLABLE_FIRST
  set_bit(p, FILLABLE);
  fence(p);
  set_bit_release(p, SIZES)
#else
  set_bit(p, SIZES); /* A1 */
#ifndef NO_A2
  fence(p); /* A2 */
#endif
  set_bit_release(p, FILLABLE) /* A3 */
#endif
}

proctype walker(byte p; byte walks) {
  byte fillable, version, leaf;
  bool taken;
  do
  :: walks > 0 ->
#if !defined(SAMPLE_LATE)
#if !defined(FILLABLE_LATE)
     load(p, FILLABLE, fillable); /* F0 */
#endif
     load(p, VERSION, version);
#endif
     load(p, LEAF, leaf); /* the walk */
#ifdef SAMPLE_LATE
     load(p, FILLABLE, fillable);
     load(p, VERSION, version);
#endif
#ifdef FILLABLE_LATE
     load(p, FILLABLE, fillable);
#endif
     if
     :: !fillable -> announce(p)
#ifdef FILL_AT_ONCE
        ; fillable = 1
#endif
     :: else
     fi;
     if
     :: fillable && version % 2 == 0 ->
        atomic {
          fenced(p); /* F2 */
#ifdef TAKE_ANY_VERSION
          taken = (memory[VERSION] % 2 == 0);
          version = memory[VERSION];
#else
          taken = (memory[VERSION] == version);
#endif
          if
          :: taken -> memory[VERSION] = version + 1
          :: else
          fi
        }
        if
        :: taken ->
           store_release(p, ENTRY, leaf);         /* F3 */
           store_release(p, VERSION, version + 2) /* F4 */
        :: else
        fi
     :: else
     fi;
     fillable = 0;
     version = 0;
     leaf = 0;
     taken = false;
     walks--
  :: else -> break
  od
}

proctype invalidator(byte p) {
  byte sizes, version, entry;
  store_release(p, LEAF, 2); /* the guest's store, and then its command */
#ifndef NO_B1
  fence(p); /* B1 */
#endif
  load(p, SIZES, sizes); /* B2 */
  if
  :: sizes ->
#ifdef CLEAR_UNLOCKED
     load(p, ENTRY, entry);
     if
     :: entry != 0 -> store_release(p, ENTRY, 0)
     :: else
     fi;
#endif
#ifdef BUMP_IF_FOUND
     load(p, ENTRY, entry);
     if
     :: entry == 0 -> goto complete
     :: else
     fi;
#endif
     atomic { /* I1 */
       fenced(p) && memory[VERSION] % 2 == 0 -> version = memory[VERSION];
       memory[VERSION] = version + 1
     }
#if !defined(NO_CLEAR) && !defined(CLEAR_UNLOCKED)
     load(p, ENTRY, entry);
     if
     :: entry != 0 -> store_release(p, ENTRY, 0) /* I2 */
     :: else
     fi;
#endif
     store_release(p, VERSION, version + 2) /* I3 */
  :: else
  fi;
complete:
  store_release(p, DONE, 1)
}

/* The guest lets a device go that has waited for the completion. */
proctype device() {
  byte entry;
  memory[DONE] == 1;
  entry = memory[ENTRY];
  assert(entry != 1)
}

init {
  atomic {
    memory[LEAF] = 1;
    run walker(0, 2);
#if WALKERS > 1
    run walker(1, 2);
#endif
    run invalidator(WALKERS);
    run device()
  }
}
