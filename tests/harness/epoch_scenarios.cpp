// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guards, tickets, scans, the change from one kind of drain to another, and waking.
#include <array>

#include "caches/epoch.hpp"
#include "engine/base/process_barrier.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

/// How the drain stands when the fibers begin, and what it may become.
enum class Start : std::uint8_t {
  fence,       ///< each entry makes a fence, for good
  barrier,     ///< none does, for good
  no_barrier,  ///< a process barrier is not to be had
  amortised,   ///< each 64th; few guards come, so the first scan changes to a fence an entry
  each_other,  ///< each second
  fenced,      ///< automatic, and the first reader is about to find that it has made enough of them
  fenced_idle  ///< the same, and the other readers have not entered since the entries became fenced
};

/// An engine's epochs with two readers, brought to one of these states.
template <std::size_t readers>
struct Drained {
  explicit Drained(Start start) {
    has_process_barrier = start != Start::no_barrier;
    const caches::Drain drain = start == Start::fence || start == Start::no_barrier ? caches::Drain::fence
                                : start == Start::barrier                           ? caches::Drain::barrier
                                                                                    : caches::Drain::automatic;
    require(epochs.reset(arena(), {{words.data(), words.size()}, {}}, drain), "the harness has memory");
    for (caches::GuardWord& word : words) epochs.use(word);
    // Not the first guards of all: those make a fence in any mode.
    for (caches::GuardWord& word : words) guards(word, 2);
    if (start == Start::each_other) {
      guards(words[0], 2 * 16 * 8);
      scan();
    }
    if (start == Start::fenced || start == Start::fenced_idle) {
      scan();
      if (start == Start::fenced) guards(words[1], 1);
      guards(words[0], 2 * 1024 - 2);  // twice as many as without being of use
    }
  }

  void guards(caches::GuardWord& word, int count) {
    for (int i = 0; i < count; ++i) {
      epochs.enter(word);
      epochs.leave(word);
    }
  }
  void scan() { require(epochs.scan(epochs.advance()), "no guard is open"); }

  std::array<caches::GuardWord, readers> words{};
  caches::Epochs epochs;
};

/// Readers use what they find published. One fiber replaces it twice and ends each old one when its ticket has passed.
template <Start start, std::size_t readers, int guards>
struct Drain {
  static constexpr std::size_t fibers = readers + 1;
  Drained<readers> drained{start};
  Atomic<std::uint64_t> published{0};
  std::array<Thing, 3> things;

  void fiber(std::size_t number) {
    if (number == readers) return drop();
    caches::GuardWord& word = drained.words[number];
    for (int i = 0; i < guards; ++i) {
      if (i == 0) {
        drained.epochs.enter(word);
      } else if (!drained.epochs.enter_cheaply(word)) {
        drained.epochs.finish_entry(word);
      }
      things[published.load(std::memory_order_acquire)].use("what was found in a guard");
      drained.epochs.leave(word);
    }
  }
  void drop() {
    for (std::uint64_t next = 1; next <= 2; ++next) {
      published.store(next, std::memory_order_release);  // D1
      const std::uint64_t ticket = drained.epochs.advance();
      while (!drained.epochs.scan(ticket)) simulator().pause();
      things[next - 1].end("what was replaced");
    }
  }
  void check() {}
};

/// The same with one short guard a reader and one ticket, right after or right before the entries change their kind:
/// less to do, so that what has to coincide does so more often.
template <Start start, std::size_t readers, bool cheap>
struct Change {
  static constexpr std::size_t fibers = readers + 1;
  Drained<readers> drained{start};
  Atomic<std::uint64_t> published{0};
  std::array<Thing, 2> things;

  Change() {
    if (start == Start::fenced_idle) drained.guards(drained.words[0], 2);  // the next one ends the fences
  }
  void fiber(std::size_t number) {
    if (number == readers) return drop();
    caches::GuardWord& word = drained.words[number];
    if (!cheap) {
      drained.epochs.enter(word);
    } else if (!drained.epochs.enter_cheaply(word)) {
      drained.epochs.finish_entry(word);
    }
    things[published.load(std::memory_order_acquire)].use("what was found in a guard");
    drained.epochs.leave(word);
  }
  void drop() {
    if (start == Start::amortised) {  // the scan that changes
      const std::uint64_t ticket = drained.epochs.advance();
      while (!drained.epochs.scan(ticket)) simulator().pause();
    }
    published.store(1, std::memory_order_release);
    const std::uint64_t ticket = drained.epochs.advance();
    while (!drained.epochs.scan(ticket)) simulator().pause();
    things[0].end("what was replaced");
  }
  void check() {}
};

/// As the waist waits: a flag for leavers, another scan, then sleep until a leaver wakes.
template <Start start>
struct Wake {
  static constexpr std::size_t fibers = 2;
  Drained<1> drained{start};
  Atomic<bool> waiter{false};
  bool sleeps = false;
  bool woken = false;

  void fiber(std::size_t number) {
    if (number == 1) return drop();
    caches::GuardWord& word = drained.words[0];
    for (int i = 0; i < 2; ++i) {
      drained.epochs.enter(word);
      drained.epochs.leave(word);
      if (waiter.load(std::memory_order_relaxed) && waiter.exchange(false, std::memory_order_seq_cst)) woken = true;
    }
  }
  void drop() {
    const std::uint64_t ticket = drained.epochs.advance();
    if (drained.epochs.scan(ticket)) return;
    waiter.store(true, std::memory_order_seq_cst);
    drained.epochs.settle();
    sleeps = !drained.epochs.scan(ticket);
  }
  void check() { require(!sleeps || woken, "a waiter that saw an open guard is woken when it ends"); }
};

/// A reader that comes while a scan is under way, in a place that had none.
template <Start start>
struct NewReader {
  static constexpr std::size_t fibers = 2;
  Drained<1> drained{start};
  std::array<caches::GuardWord, 2> more{};
  caches::Epochs epochs;
  Atomic<std::uint64_t> published{0};
  std::array<Thing, 3> things;

  NewReader() {
    require(epochs.reset(arena(), {{more.data(), more.size()}, {}},
                         start == Start::barrier     ? caches::Drain::barrier
                         : start == Start::amortised ? caches::Drain::automatic
                                                     : caches::Drain::fence),
            "the harness has memory");
    epochs.use(more[0]);
    epochs.enter(more[0]);
    epochs.leave(more[0]);
  }
  void fiber(std::size_t number) {
    if (number == 0) {
      epochs.use(more[1]);
      for (int i = 0; i < 2; ++i) {
        epochs.enter(more[1]);
        things[published.load(std::memory_order_acquire)].use("what a new reader found");
        epochs.leave(more[1]);
      }
      return;
    }
    for (std::uint64_t next = 1; next <= 2; ++next) {
      published.store(next, std::memory_order_release);
      const std::uint64_t ticket = epochs.advance();
      while (!epochs.scan(ticket)) simulator().pause();
      things[next - 1].end("what was replaced");
    }
  }
  void check() {}
};

/// A ticket may be asked about by a thread that has not scanned.
struct Asked {
  static constexpr std::size_t fibers = 3;
  Drained<1> drained{Start::fence};
  Atomic<std::uint64_t> published{0};
  Thing thing;
  Atomic<std::uint64_t> ticket{0};

  void fiber(std::size_t number) {
    caches::GuardWord& word = drained.words[0];
    switch (number) {
      case 0:
        drained.epochs.enter(word);
        if (published.load(std::memory_order_acquire) == 0) thing.use("what was found in a guard");
        drained.epochs.leave(word);
        return;
      case 1: {
        published.store(1, std::memory_order_release);
        const std::uint64_t made = drained.epochs.advance();
        ticket.store(made, std::memory_order_relaxed);
        for (int i = 0; i < 3 && !drained.epochs.passed(made); ++i) simulator().pause();
        if (drained.epochs.passed(made)) thing.end("what was replaced");
        return;
      }
      default:
        for (int i = 0; i < 3; ++i) static_cast<void>(drained.epochs.scan(drained.epochs.issued()));
    }
  }
  void check() {}
};

constexpr const char* passes = "a ticket passes when no older guard is open";

constexpr std::array scenarios{
    scenario<Drain<Start::fence, 2, 2>>("drain-fence", passes),
    scenario<Drain<Start::barrier, 2, 2>>("drain-barrier", passes),
    scenario<Drain<Start::no_barrier, 2, 2>>("drain-no-barrier", passes),
    scenario<Drain<Start::amortised, 1, 3>>("drain-becomes-fenced", passes),
    scenario<Drain<Start::amortised, 2, 3>>("drain-becomes-fenced-2", passes),
    scenario<Drain<Start::each_other, 2, 4>>("drain-amortised", passes),
    scenario<Drain<Start::fenced, 2, 3>>("drain-ends-fenced", passes),
    scenario<Drain<Start::fenced_idle, 2, 3>>("drain-ends-fenced-idle", passes),
    scenario<Change<Start::amortised, 1, true>>("change-to-fenced-cheap", passes),
    scenario<Change<Start::amortised, 1, false>>("change-to-fenced", passes),
    scenario<Change<Start::fenced_idle, 2, false>>("change-from-fenced", passes),
    scenario<Change<Start::fenced_idle, 2, true>>("change-from-fenced-cheap", passes),
    scenario<Wake<Start::fence>>("wake-fence", "the end of a guard that was waited for wakes"),
    scenario<Wake<Start::barrier>>("wake-barrier", "the end of a guard that was waited for wakes"),
    scenario<Wake<Start::no_barrier>>("wake-no-barrier", "the end of a guard that was waited for wakes"),
    scenario<NewReader<Start::fence>>("new-reader-fence", passes),
    scenario<NewReader<Start::barrier>>("new-reader-barrier", passes),
    scenario<NewReader<Start::amortised>>("new-reader-amortised", passes),
    scenario<Asked>("asked", "who asks about a ticket that has passed sees all older guards ended"),
};

}  // namespace

std::span<const Scenario> epoch_scenarios() { return scenarios; }

}  // namespace viommu::harness
