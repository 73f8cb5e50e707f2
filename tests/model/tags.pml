/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 * The life of a tag (caches/address_spaces.hpp) with tags of 2 bits, so that they run out at once.
 *
 * Two address spaces share one place of the table. The guest changes an address space's page and has it forgotten: a
 * new tag, or, when none can be had, a sweep of its entries. Readers look up, walk and fill inside guards and may stand
 * still at any point. Guards are the fenced ones; the other kinds are drain.pml's.
 * Claims: an entry of one address space never answers for the other; no answer is older than the last invalidation that
 * was complete when the guard began; nor than one that completes while the answer is used.
 *
 *
 * holds   GUARDS_1=2
 * holds   GUARDS_1=2 LOOKS_IN=0
 * broken  NO_GRACE ; a retired tag is used again at once
 * broken  REUSE_OLDEST ; or when there is no other
 * broken  NO_SWEEP
 * broken  SWEEP_AT_ONCE ; swept before the grace period, not after it
 * broken  KEEP_UNSWEPT LOOKS_IN=0 ; no tag can be had: the entries stay
 * broken  STAMP_EARLY ; the ticket is taken before the tag is changed
 * broken  NO_ENTRY_FENCE
 */
#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef GUARDS_0
#define GUARDS_0 1
#endif
#ifndef GUARDS_1
#define GUARDS_1 1
#endif
#ifndef LOOKS_IN
#define LOOKS_IN 1 /* the address space of the reader that looks up; the one that fills uses 0 */
#endif
#define READERS 2
#define PROCESSES 2 /* buffers: the readers' words wait there; what else may is the subject of fill.pml and drain.pml */
#define DEPTH 1
#define TURN(reader) (reader)
#define TAG(space) (2 + space)
#define LEAF(space) (4 + space)
#define VERSION 6
#define ENTRY 7 /* tag * 16 + what a leaf holds */
#define CELLS 8
#include "memory.pml"

#define page(space, change) (8 * space + change)
#define tag_of(entry) (entry / 16)
#define page_of(entry) (entry % 16)

mtype = { free_, live, retired }
mtype state[4];
byte stamp[4];        /* of a retired tag */
byte changes[2];      /* of each address space */
byte done[2];         /* those whose invalidation is complete */
byte issued, passed;  /* tickets */
byte covered[2 * CHANGES + 2];
byte using[READERS];  /* page + 1 that a DMA of this reader is using, 0 for none */

/* One that fills does not look first, one that does not fill answers from its own walk: the other two are the same. */
proctype reader(byte p; byte space; byte guards; bool fills) {
  byte turn, tag, entry, version, leaf, known;
  bool taken;
  do
  :: guards > 0 ->
     known = done[space];
     turn++;
     store(p, TURN(p), turn);
#ifndef NO_ENTRY_FENCE
     fence(p);
#endif
     load(p, TAG(space), tag);
     if
     :: !fills -> load(p, ENTRY, entry)
     :: else
     fi;
     if
     :: tag_of(entry) == tag && entry != 0 -> leaf = page_of(entry)
     :: else ->
        if
        :: fills -> load(p, VERSION, version)
        :: else
        fi;
        load(p, LEAF(space), leaf);
        if
        :: fills && version % 2 == 0 ->
           atomic {
             fenced(p);
             taken = (memory[VERSION] == version);
             if
             :: taken -> memory[VERSION] = version + 1
             :: else
             fi
           }
           if
           :: taken -> memory[ENTRY] = tag * 16 + leaf; memory[VERSION] = version + 2
           :: else
           fi
        :: else
        fi
     fi;
     atomic {
       assert(leaf / 8 == space && leaf % 8 >= known);
       using[p] = leaf + 1
     }
     using[p] = 0;
     turn++;
     store_release(p, TURN(p), turn);
     d_step { tag = 0; entry = 0; version = 0; leaf = 0; taken = false; known = 0; guards-- }
  :: else -> break
  od
}

inline sweep(t) {
  atomic { memory[VERSION] % 2 == 0 -> version = memory[VERSION]; memory[VERSION] = version + 1 }
  atomic {
    if
    :: tag_of(memory[ENTRY]) == t -> memory[ENTRY] = 0
    :: else
    fi
  }
  d_step { memory[VERSION] = version + 2; version = 0 }
}

#ifdef NO_GRACE
#define reusable(t) (state[t] == retired)
#else
#define reusable(t) (state[t] == retired && stamp[t] <= passed)
#endif
#define none_is(condition) !(condition(1) || condition(2) || condition(3))
#define is_free(t) (state[t] == free_)
#define is_retired(t) (state[t] == retired)

/* 0 when none can be had. */
inline take_tag() {
    if
    :: is_free(1) -> fresh = 1
    :: is_free(2) -> fresh = 2
    :: is_free(3) -> fresh = 3
    :: none_is(is_free) && reusable(1) -> fresh = 1
    :: none_is(is_free) && reusable(2) -> fresh = 2
    :: none_is(is_free) && reusable(3) -> fresh = 3
    :: none_is(is_free) && none_is(reusable) -> fresh = 0
#ifdef REUSE_OLDEST
       if
       :: is_retired(1) -> fresh = 1
       :: is_retired(2) -> fresh = 2
       :: is_retired(3) -> fresh = 3
       fi
#endif
    fi;
    recycled = fresh != 0 && state[fresh] == retired;
    state[fresh] = live
}

inline sweep_taken() {
#if !defined(NO_SWEEP) && !defined(SWEEP_AT_ONCE)
  if
  :: recycled -> sweep(fresh)
  :: else
  fi;
#endif
  recycled = false
}

/* What the guest may call complete once the latest ticket has passed. */
inline note_changes() { covered[2 * issued] = changes[0]; covered[2 * issued + 1] = changes[1] }

proctype worker() {
  byte space, old, fresh, version;
  bool recycled;
  do
  :: issued < CHANGES -> /* a change, and its invalidation */
     atomic {
       if :: space = 0 :: space = 1 fi;
       changes[space]++;
       memory[LEAF(space)] = page(space, changes[space]);
       old = memory[TAG(space)];
       take_tag()
     }
     sweep_taken();
     if
     :: fresh != 0 ->
#ifdef STAMP_EARLY
        atomic { issued++; note_changes(); stamp[old] = issued }
        memory[TAG(space)] = fresh;
#else
        memory[TAG(space)] = fresh; /* D1 */
        atomic { issued++; note_changes(); stamp[old] = issued } /* D2 */
#endif
#ifdef SWEEP_AT_ONCE
        sweep(old);
#endif
        state[old] = retired
     :: else -> /* no tag can be had: the address space keeps its own */
#ifndef KEEP_UNSWEPT
        sweep(old);
#endif
        atomic { issued++; note_changes() }
     fi;
     d_step { old = 0; fresh = 0; space = 0 }
  :: else -> break
  od
}

/* S2 and S5 for one reader: it has no guard, or another one than S2 saw. */
#define gone(reader) (seen[reader] % 2 == 0 || memory[TURN(reader)] != seen[reader])
#define not_older(reader) (using[reader] == 0 || (using[reader] - 1) % 8 >= done[(using[reader] - 1) / 8])

proctype scanner() {
  byte target;
  byte seen[READERS];
  do
  :: passed < issued ->
     d_step { target = issued; seen[0] = memory[TURN(0)]; seen[1] = memory[TURN(1)] }
     atomic {
       gone(0) && gone(1);
       passed = target;
       done[0] = covered[2 * target];
       done[1] = covered[2 * target + 1];
       assert(not_older(0) && not_older(1));
       seen[0] = 0;
       seen[1] = 0;
       target = 0
     }
  :: passed == CHANGES -> break
  od
}

init {
  atomic {
    memory[TAG(0)] = 1;
    memory[TAG(1)] = 2;
    memory[LEAF(0)] = page(0, 0);
    memory[LEAF(1)] = page(1, 0);
    state[1] = live;
    state[2] = live;
    state[3] = retired; /* long ago, by address space 1, with an entry left */
    memory[ENTRY] = 3 * 16 + page(1, 0);
    run reader(0, 0, GUARDS_0, true);
    run reader(1, LOOKS_IN, GUARDS_1, false);
    run worker();
    run scanner()
  }
}
