/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 * Guards, tickets, scans and waking (caches/epoch.hpp): who may still use what was valid a moment ago.
 *
 * The dropper unpublishes two things, each with a ticket. Readers use what they find published, inside guards, of which
 * some make a full fence. The scanner lets tickets pass, with the kind of scan that the modes of this run allow:
 *   MODES  1 fenced: each entry makes a fence     2 barrier: none does     4 amortised: each second one does
 *          and sums of them: the scanner changes from one to the other at any time between two scans
 * WAKE: after a scan that did not succeed the scanner raises a flag, looks again and sleeps until a leaver wakes it.
 * LEAVERS_FENCE: no process barrier is to be had; only with MODES=1.
 * Claims: what has passed is used by no guard; the scanner never sleeps for good.
 *
 *
 * holds   MODES=1
 * holds   MODES=2
 * holds   MODES=4
 * holds   MODES=7 TICKETS=1
 * holds   MODES=1 READERS=3 GUARDS=1
 * holds   MODES=4 READERS=3 GUARDS=1 TICKETS=1
 * holds   MODES=1 WEAK
 * holds   MODES=4 WEAK TICKETS=1
 * holds   MODES=2 WAKE TICKETS=1
 * holds   MODES=4 WAKE TICKETS=1
 * holds   MODES=1 WAKE LEAVERS_FENCE TICKETS=1
 * broken  MODES=1 NO_E4
 * broken  MODES=4 NO_E4
 * broken  MODES=2 NO_S1
 * broken  MODES=1 S2_EARLY ; loads of S2 before S0: no S1, where loads overtake each other
 * broken  MODES=4 S2_EARLY
 * broken  MODES=4 NO_S3
 * broken  MODES=1 NO_S5 ; who was seen inside is not waited for
 * broken  MODES=1 STAMP_FIRST ; D2 before D1
 * broken  MODES=1 WEAK NO_D2_ORDER
 * broken  MODES=1 L1_EARLY ; the leave overtakes the uses: L1 without release
 * broken  MODES=4 L1_EARLY
 * broken  MODES=4 COUNT_LATE ; E3 after E4
 * broken  MODES=4 TURN_ONLY ; an amortised scan goes by the turns
 * broken  MODES=5 TICKETS=1 SWITCH_UNFENCED ; fenced scans without a process barrier before
 * broken  MODES=5 TICKETS=1 BACK_LATE ; and after entries have ceased to make fences
 * broken  MODES=5 TICKETS=1 MASK_FIRST ; the mask is loaded before E2: a compiler may, unless kept from it
 * broken  MODES=2 WAKE TICKETS=1 NO_W2
 * broken  MODES=2 WAKE TICKETS=1 FLAG_LATE ; W1 after W3
 * broken  MODES=2 WAKE TICKETS=1 L2_FIRST ; the flag is loaded before L1: a compiler may, unless kept from it
 * broken  MODES=1 WAKE LEAVERS_FENCE TICKETS=1 NO_L2_FENCE
 */
#ifndef READERS
#define READERS 2
#endif
#ifndef GUARDS
#define GUARDS 2
#endif
#ifndef TICKETS
#define TICKETS 2
#endif
#ifndef MODES
#define MODES 7
#endif
#define PROCESSES (READERS + 2) /* buffers: of the readers, the dropper and the scanner */
#define DROPPER READERS
#define SCANNER (READERS + 1)
#define TURN(reader) (reader)
#define FENCES(reader) (READERS + reader)
#define THING(ticket) (2 * READERS + ticket - 1) /* 0 while published */
#define ISSUED (2 * READERS + TICKETS)
#define MASK (2 * READERS + TICKETS + 1)
#define FLAG (2 * READERS + TICKETS + 2)
#define CELLS (2 * READERS + TICKETS + 3)
#include "memory.pml"

#define EVERY 1 /* masks: turn & mask == 1 at entries that make a fence */
#define SECOND 3
#define NONE 0
#define FIRST_TURN 2 /* so that with SECOND a reader's first guard makes no fence, and its second does */

byte using[READERS]; /* bit of each thing that the reader's guard found published */
byte passed;
bit asleep;

proctype reader(byte p) {
  byte turn = FIRST_TURN;
  byte guards, mask, thing, fences, flag;
  do
  :: guards < GUARDS ->
     turn++; /* E1 */
#ifdef MASK_FIRST
     load(p, MASK, mask);
#endif
     store(p, TURN(p), turn); /* E2 */
#ifndef MASK_FIRST
     load(p, MASK, mask);
#endif
     if
     :: (turn & mask) == 1 ->
        fences++;
#ifndef COUNT_LATE
        store_release(p, FENCES(p), fences); /* E3 */
#endif
#ifndef NO_E4
        fence(p); /* E4 */
#endif
#ifdef COUNT_LATE
        store_release(p, FENCES(p), fences)
#endif
     :: else
     fi;
     mask = 0;
     atomic { load(p, THING(1), thing); using[p] = using[p] | (1 - thing); thing = 0 }
#if TICKETS > 1
     atomic { load(p, THING(2), thing); using[p] = using[p] | 2 * (1 - thing); thing = 0 }
#endif
#if !defined(L1_EARLY)
     using[p] = 0;
#endif
     turn++;
#ifdef L2_FIRST
     load(p, FLAG, flag);
#endif
     store_release(p, TURN(p), turn); /* L1 */
#if defined(L1_EARLY)
     using[p] = 0;
#endif
#ifdef WAKE
#ifdef LEAVERS_FENCE
#ifndef NO_L2_FENCE
     fence(p);
#endif
#endif
     atomic { /* L2 */
#ifndef L2_FIRST
       load(p, FLAG, flag);
#endif
       if
       :: flag -> asleep = 0
       :: else
       fi;
       flag = 0
     }
#endif
     guards++
  :: else -> break
  od
}

proctype dropper() {
  byte ticket;
  do
  :: ticket < TICKETS ->
     ticket++;
#ifdef STAMP_FIRST
     atomic { fenced(DROPPER) -> memory[ISSUED] = ticket }
     store_release(DROPPER, THING(ticket), 1)
#else
#if defined(WEAK) && defined(NO_D2_ORDER)
     store(DROPPER, THING(ticket), 1);
     store(DROPPER, ISSUED, ticket)
#else
     store_release(DROPPER, THING(ticket), 1); /* D1 */
#ifdef WEAK
     store_release(DROPPER, ISSUED, ticket) /* D2 */
#else
     atomic { fenced(DROPPER) -> memory[ISSUED] = ticket } /* D2 */
#endif
#endif
#endif
  :: else -> break
  od
}

inline process_barrier() {
  fence(SCANNER);
  drain(0);
#if READERS > 1
  drain(1);
#endif
#if READERS > 2
  drain(2);
#endif
  drain(DROPPER)
}

/* S2 and S4. `all`: whoever may not have made its fence yet counts as pending. */
inline snapshot(all) {
  atomic {
    r = 0;
    do
    :: r < READERS ->
       seen[r] = memory[TURN(r)];
       seen_fences[r] = memory[FENCES(r)];
       pending[r] = all || seen[r] % 2 == 1;
       r++
    :: else -> break
    od;
    r = 0
  }
}

/* S5 */
#ifdef NO_S5
#define moved(reader) true
#else
#define moved(reader) (memory[TURN(reader)] != seen[reader])
#endif

inline look() {
  atomic {
    r = 0;
    done = true;
    do
    :: r < READERS ->
       if
       :: pending[r] && amortised ->
#ifdef TURN_ONLY
          pending[r] = (memory[TURN(r)] == seen[r])
#else
          pending[r] = (memory[FENCES(r)] == seen_fences[r])
#endif
       :: pending[r] && !amortised -> pending[r] = !moved(r)
       :: else
       fi;
       done = done && !pending[r];
       r++
    :: else -> break
    od;
    r = 0
  }
}

/* Ticket `ticket` has passed: nobody may use its thing. */
inline let_pass() {
  atomic {
    passed = target;
    r = 0;
    do
    :: r < READERS ->
       assert((using[r] & ((1 << passed) - 1)) == 0);
       r++
    :: else -> break
    od;
    r = 0;
    target = 0;
    scanning = false
  }
}

proctype scanner() {
  byte target, r, mask;
  byte seen[READERS];
  byte seen_fences[READERS];
  bool pending[READERS];
  bool amortised, done, scanning, all_fence;
  byte switches;
  mask = memory[MASK];
  all_fence = (mask == EVERY);
  do
  :: !scanning && passed < memory[ISSUED] ->
#ifdef S2_EARLY
     snapshot(mask == SECOND);
#endif
     target = memory[ISSUED]; /* S0 */
     if
#if MODES & 1
     :: all_fence ->
#ifndef NO_S1
        fence(SCANNER);
#endif
        amortised = false
#endif
#if MODES & 2
     :: !all_fence && mask == NONE ->
#ifndef NO_S1
        process_barrier();
#endif
        amortised = false
#endif
#if MODES & 4
     :: !all_fence && mask == SECOND ->
#ifndef NO_S1
        fence(SCANNER);
#endif
        amortised = true
#endif
     fi;
#ifndef S2_EARLY
     snapshot(amortised);
#endif
     scanning = true
  :: scanning ->
     look();
     if
     :: done -> let_pass()
     :: !done && amortised ->
        if
        :: true -> skip /* look again */
        :: true ->
#ifndef NO_S3
           process_barrier(); /* S3 */
#endif
           amortised = false;
           atomic { /* S4, of those still pending */
             r = 0;
             do
             :: r < READERS ->
                seen[r] = memory[TURN(r)];
                pending[r] = pending[r] && seen[r] % 2 == 1;
                r++
             :: else -> break
             od;
             r = 0
           }
        fi
     :: !done && !amortised ->
#ifdef WAKE
#ifdef FLAG_LATE
        skip
#else
        atomic { asleep = 1; store(SCANNER, FLAG, 1) } /* W1; the sleep itself is further down */
#endif
#ifndef NO_W2
#ifdef LEAVERS_FENCE
        fence(SCANNER);
#else
        process_barrier(); /* W2 */
#endif
#endif
        look(); /* W3 */
#ifdef FLAG_LATE
        atomic { asleep = 1; store(SCANNER, FLAG, 1) }
#endif
        if
        :: done -> let_pass()
        :: else -> asleep == 0
        fi;
        atomic { fence(SCANNER); memory[FLAG] = 0 }
#else
        skip
#endif
     fi
#if MODES == 3 || MODES == 5 || MODES == 6 || MODES == 7
  :: !scanning && switches < 2 ->
     switches++;
     if
#if MODES & 1
     :: !all_fence ->
        mask = EVERY;
        store(SCANNER, MASK, EVERY);
#ifndef SWITCH_UNFENCED
        process_barrier();
#endif
        all_fence = true
#endif
#if MODES & 2
     :: mask != NONE -> all_fence = false; mask = NONE; store(SCANNER, MASK, NONE)
#endif
#if MODES & 4
     :: mask != SECOND ->
        mask = SECOND;
        store(SCANNER, MASK, SECOND);
#ifndef BACK_LATE
        all_fence = false
#endif
#endif
     fi
#endif
  :: passed == TICKETS -> break
  od
}

init {
  byte r;
  atomic {
    do
    :: r < READERS -> memory[TURN(r)] = FIRST_TURN; r++
    :: else -> break
    od;
#if MODES & 4
    memory[MASK] = SECOND;
#else
#if MODES & 2
    memory[MASK] = NONE;
#else
    memory[MASK] = EVERY;
#endif
#endif
    r = 0;
    do
    :: r < READERS -> run reader(r); r++
    :: else -> break
    od;
    run dropper();
    run scanner()
  }
}
