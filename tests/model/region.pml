/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 * Removing a region of guest memory (engine/core/waist.hpp): a new map, everything dropped, a ticket, then the old map
 * and the memory behind it are freed.
 *
 * A reader inside a guard loads the map, walks through it, and fills and uses what it finds; or it hits what an earlier
 * walk has filled. It may keep what it found as a hold beyond its guard. Guards are the fenced ones.
 * Claim: nobody touches the old map or uses the memory of the region after they are freed.
 *
 *
 * holds
 * broken  NO_WAIT
 * broken  TICKET_FIRST ; the ticket is taken before the new map is published
 * broken  DROP_FIRST ; a walk through the old map fills after the drop
 * broken  NO_DROP
 * broken  IGNORE_HOLDS
 * broken  HOLD_LATE ; the hold is made after its guard
 * broken  HOLDS_FIRST ; holds are looked at before the guards have passed
 * broken  NO_ENTRY_FENCE
 * broken  MAP_LOADED_OUTSIDE ; the map is loaded before the guard
 */
#ifndef GUARDS
#define GUARDS 2
#endif
#define READERS 2
#define PROCESSES 3 /* buffers: of the readers and of the one who removes */
#define REMOVER 2
#define TURN(reader) (reader)
#define MAP 2 /* 0 the map with the region, 1 the one without */
#define VERSION 3
#define ENTRY 4 /* 1 while a page of the region is cached */
#define HOLDS 5
#define CELLS 6
#include "memory.pml"

bit freed;
bit touching[READERS]; /* the reader walks through the old map */
bit using[READERS];    /* a DMA of the reader uses the region's memory */

proctype reader(byte p; byte guards) {
  byte turn, map, version, entry;
  bool taken, holds;
  do
  :: guards > 0 ->
#ifdef MAP_LOADED_OUTSIDE
     load(p, MAP, map);
#endif
     turn++;
     store(p, TURN(p), turn);
#ifndef NO_ENTRY_FENCE
     fence(p);
#endif
     atomic { load(p, ENTRY, entry); using[p] = entry }
     if
     :: !entry -> /* a miss */
        load(p, VERSION, version);
#ifdef MAP_LOADED_OUTSIDE
        touching[p] = (map == 0);
#else
        atomic { load(p, MAP, map); touching[p] = (map == 0) }
#endif
        assert(!(touching[p] && freed));
        atomic { using[p] = (map == 0); touching[p] = 0 }
        if
        :: map == 0 && version % 2 == 0 ->
           atomic {
             fenced(p);
             taken = (memory[VERSION] == version);
             if
             :: taken -> memory[VERSION] = version + 1
             :: else
             fi
           }
           if
           :: taken -> store_release(p, ENTRY, 1); store_release(p, VERSION, version + 2)
           :: else
           fi
        :: else
        fi
     :: else
     fi;
     assert(!(using[p] && freed));
     if
     :: using[p] -> holds = true
     :: true -> using[p] = 0
     fi;
#ifndef HOLD_LATE
     if
     :: holds -> atomic { fenced(p) -> memory[HOLDS]++ } /* a list under a lock */
     :: else
     fi;
#endif
     turn++;
     store_release(p, TURN(p), turn);
#ifdef HOLD_LATE
     if
     :: holds -> atomic { fenced(p) -> memory[HOLDS]++ }
     :: else
     fi;
#endif
     if
     :: holds ->
        assert(!freed);
        using[p] = 0;
        atomic { fenced(p) -> memory[HOLDS]--; holds = false }
     :: else
     fi;
     d_step { map = 0; version = 0; entry = 0; taken = false; guards-- }
  :: else -> break
  od
}

inline publish() {
  atomic { fenced(REMOVER) -> memory[MAP] = 1 } /* R1, an exchange */
}

inline drop() {
  atomic { fenced(REMOVER) && memory[VERSION] % 2 == 0 -> version = memory[VERSION]; memory[VERSION] = version + 1 }
  store_release(REMOVER, ENTRY, 0);
  store_release(REMOVER, VERSION, version + 2)
}

#define gone(reader) (seen[reader] % 2 == 0 || memory[TURN(reader)] != seen[reader])

inline ticket() {
  fence(REMOVER);
  atomic { seen[0] = memory[TURN(0)]; seen[1] = memory[TURN(1)] }
}

proctype remover() {
  byte version;
  byte seen[READERS];
#ifdef TICKET_FIRST
  ticket();
#endif
#ifdef DROP_FIRST
  drop();
#endif
  publish();
#if !defined(DROP_FIRST) && !defined(NO_DROP)
  drop();
#endif
#ifndef TICKET_FIRST
  ticket();
#endif
#ifdef HOLDS_FIRST
  memory[HOLDS] == 0;
#endif
#ifndef NO_WAIT
  gone(0) && gone(1);
#endif
#if !defined(IGNORE_HOLDS) && !defined(HOLDS_FIRST)
  memory[HOLDS] == 0;
#endif
  atomic {
    freed = 1;
    assert(!using[0] && !using[1] && !touching[0] && !touching[1])
  }
}

init {
  atomic {
    run reader(0, GUARDS);
    run reader(1, GUARDS - 1);
    run remover()
  }
}
