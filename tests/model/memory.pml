/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
 * Shared memory behind store buffers, for the models beside this file.
 *
 * Each process has a buffer of DEPTH stores that only it sees; cpu() writes them to memory at any time. Loads and
 * stores are made in program order, so this is TSO. With WEAK a store may overtake an older one to another cell, unless
 * it is a release store; what a load may overtake is said by the models themselves, by loading in the other order.
 * A model defines CELLS, PROCESSES, and its cells by #define, before it includes this file.
 */
#ifndef DEPTH
#define DEPTH 2
#endif

typedef Buffer {
  byte cell[DEPTH];
  byte value[DEPTH];
#ifdef WEAK
  bit release[DEPTH];
#endif
  byte count
}
byte memory[CELLS];
Buffer buffer[PROCESSES];
hidden byte at;

/* The newest own store to the cell, else memory. */
inline load(p, where, into) {
  d_step {
    into = memory[where];
    at = 0;
    do
    :: at < buffer[p].count ->
       if
       :: buffer[p].cell[at] == where -> into = buffer[p].value[at]
       :: else
       fi;
       at++
    :: else -> break
    od;
    at = 0
  }
}

inline append(p, where, what, ordered) {
  atomic {
    buffer[p].count < DEPTH ->
    d_step {
      buffer[p].cell[buffer[p].count] = where;
      buffer[p].value[buffer[p].count] = what;
#ifdef WEAK
      buffer[p].release[buffer[p].count] = ordered;
#endif
      buffer[p].count++
    }
  }
}
#define store(p, where, what) append(p, where, what, 0)
#define store_release(p, where, what) append(p, where, what, 1)

/* Store number `at` of the buffer goes to memory, and those behind it move up. */
inline write_back(p) {
  memory[buffer[p].cell[at]] = buffer[p].value[at];
  do
  :: at + 1 < buffer[p].count ->
     buffer[p].cell[at] = buffer[p].cell[at + 1];
     buffer[p].value[at] = buffer[p].value[at + 1];
#ifdef WEAK
     buffer[p].release[at] = buffer[p].release[at + 1];
     buffer[p].release[at + 1] = 0;
#endif
     buffer[p].cell[at + 1] = 0;
     buffer[p].value[at + 1] = 0;
     at++
  :: else -> break
  od;
  buffer[p].count--;
  buffer[p].cell[buffer[p].count] = 0;
  buffer[p].value[buffer[p].count] = 0;
#ifdef WEAK
  buffer[p].release[buffer[p].count] = 0;
#endif
  at = 0
}

/* Full fence. A locked read-modify-write begins with one too: wait for fenced(p), then work on memory. */
#define fenced(p) (buffer[p].count == 0)
#define fence(p) fenced(p)

/* Somebody else makes p execute a full fence: what it has stored becomes visible. */
inline drain(p) {
  d_step {
    do
    :: buffer[p].count > 0 -> at = 0; write_back(p)
    :: else -> break
    od
  }
}

/* Memory itself, once for each process: writes a store back, the oldest (WEAK: or one that may overtake the older). */
active [PROCESSES] proctype cpu() {
end:
  do
  :: d_step { buffer[_pid].count > 0 -> at = 0; write_back(_pid) }
#ifdef WEAK
  :: d_step {
       buffer[_pid].count > 1 && !buffer[_pid].release[1] && buffer[_pid].cell[1] != buffer[_pid].cell[0] ->
       at = 1;
       write_back(_pid)
     }
#endif
  od
}
