/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 * One entry of the IOTLB (caches/iotlb.hpp): two writers replace it, a reader reads it without waiting.
 *
 * An entry is a tag and data; every writer writes data equal to the tag. The reader looks for one tag.
 * Claim: what the reader is given was written as one, under the tag it asked for.
 *
 * WHOLE: a pair moves as one value. Else tag and data are two words, and the version is lock and seqlock.
 *
 * holds
 * holds   WEAK
 * holds   WHOLE
 * broken  NO_LOCK ; writers do not exclude each other
 * broken  NO_ODD ; an odd version is taken for a good one
 * broken  NO_P3 ; the version is not read again
 * broken  P3_EARLY ; it is, but before the words: loads without acquire
 * broken  WEAK NO_RELEASE ; the words overtake the odd version
 * broken  WHOLE TORN ; a pair is not one value
 * broken  WHOLE NO_COMPARE ; the hint decides, not the pair
 */
#define PROCESSES 3 /* the buffers of writers 0 and 1, and of the reader */
#define VERSION 0
#define TAG 1
#define DATA 2
#define CELLS 3
#include "memory.pml"

#ifdef NO_RELEASE
#define store_word store
#else
#define store_word store_release
#endif

#ifdef NO_ODD
#define is_even(version) true
#else
#define is_even(version) (version % 2 == 0)
#endif
#ifdef NO_P3
#define unchanged(before, after) true
#else
#define unchanged(before, after) (before == after)
#endif

bit writing; /* the exclusion that the exchange gives, where its own store may still wait in the buffer */

inline lock(p) {
  atomic {
#ifdef NO_LOCK
    fenced(p) -> version = memory[VERSION] - memory[VERSION] % 2;
#else
    !writing && fenced(p) && memory[VERSION] % 2 == 0 -> version = memory[VERSION];
    writing = 1;
#endif
#ifdef WEAK
    store(p, VERSION, version + 1)
#else
    memory[VERSION] = version + 1
#endif
  }
}

inline unlock(p) {
  store_word(p, VERSION, version + 2);
  atomic { fenced(p) -> writing = 0 } /* who locks next has read the even version, hence all before it */
}

proctype writer(byte p; byte rounds) {
  byte version;
  do
  :: rounds > 0 ->
     lock(p); /* W1 */
#if defined(WHOLE) && !defined(TORN)
     atomic { fenced(p) -> memory[TAG] = p + 1; memory[DATA] = p + 1 } /* F3: both at once, whenever that is */
 #else
     store_word(p, TAG, p + 1); /* W2 */
     store_word(p, DATA, p + 1);
#endif
     unlock(p); /* W3 */
     rounds--
  :: else -> break
  od
}

proctype reader(byte p; byte lookups) {
  byte before, after, hint, tag, data, wanted;
  do
  :: lookups > 0 ->
     if :: wanted = 1 :: wanted = 2 fi;
#ifdef WHOLE
     load(p, TAG, hint); /* R1, of the first word alone */
     if
     :: hint == wanted ->
#ifdef TORN
        load(p, TAG, tag);
        load(p, DATA, data);
#else
        d_step { tag = memory[TAG]; data = memory[DATA] } /* R2 */
#endif
        if
#ifdef NO_COMPARE
        :: true -> assert(data == wanted)
#else
        :: tag == wanted -> assert(data == wanted)
        :: else
#endif
        fi
     :: else
     fi;
#else
     load(p, VERSION, before); /* P1 */
#ifdef P3_EARLY
     load(p, VERSION, after);
#endif
     load(p, TAG, tag); /* P2 */
     load(p, DATA, data);
#ifndef P3_EARLY
     load(p, VERSION, after); /* P3 */
#endif
     if
     :: tag == wanted && is_even(before) && unchanged(before, after) -> assert(data == wanted)
     :: else
     fi;
#endif
     before = 0; after = 0; hint = 0; tag = 0; data = 0;
     lookups--
  :: else -> break
  od
}

init {
  atomic {
    run writer(0, 2);
    run writer(1, 1);
    run reader(2, 2)
  }
}
