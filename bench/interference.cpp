// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How much slower does a device's translation get while the guest drops pages beside it?
//
//   interference<T>/RATE/ENTRIES/STRICT        RATE page-selective invalidations a second, 0: none, 1e9: as fast as it
//                                              goes
//
// Items are translations of the reading thread, whose own misses bring back what was dropped. STRICT 0: one wait for
// each 64 descriptors; 1: a wait for each. Counters: `reached`, invalidations a second; `reader_ns`, time of a
// translation.
#include <benchmark/benchmark.h>

#include "bench/support/bed.hpp"
#include "bench/support/companion.hpp"
#include "bench/support/question.hpp"

namespace viommu::bench {
namespace {

constexpr std::int64_t unthrottled = 1'000'000'000;

/// The guest's driver: `rate` page-selective invalidations a second, evenly spread, in runs that end with a wait.
template <class Translator>
class Dropping {
 public:
  Dropping(Bed<Translator>& bed, std::int64_t rate, std::uint32_t run) : bed_{bed}, run_{run} {
    if (rate != unthrottled) pause_ns_ = 1'000'000'000ull * run / static_cast<std::uint64_t>(rate);
  }

  void operator()(Pulse& pulse) {
    std::uint64_t due = monotonic_ns();
    while (pulse.goes_on()) {
      due += pause_ns_;
      while (pulse.goes_on() && monotonic_ns() < due) {
      }
      due = std::max(due, monotonic_ns());  // what could not be done in time is not made up for in a burst
      drop_run();
      done_.fetch_add(run_, std::memory_order_relaxed);
    }
  }
  [[nodiscard]] std::uint64_t done() const noexcept { return done_.load(std::memory_order_relaxed); }

 private:
  void drop_run() {
    const SyntheticGuest& guest = bed_.guest();
    GuestQueue<Translator>& queue = bed_.queue();
    for (std::uint32_t index = 0; index < run_; ++index) {
      const viommu_request request = guest.ask(mixed(++dropped_));
      queue.drop_page(guest.domain(guest.device(request.source)), request.iova);
    }
    queue.wait();
    queue.ring();
    queue.finish();
  }

  Bed<Translator>& bed_;
  std::uint32_t run_;
  std::uint64_t pause_ns_ = 0;
  std::uint64_t dropped_ = std::uint64_t{1} << 40;
  std::atomic<std::uint64_t> done_{0};
};

struct Chunk {
  double seconds = 0;
  std::uint64_t translated = 0;
  std::uint64_t dropped = 0;
};

template <class Translator>
void interference(benchmark::State& state) {
  const std::int64_t rate = state.range(0);
  const Layout layout{.pages = static_cast<std::uint32_t>(state.range(1))};
  Bed<Translator>& bed = bed_of<Translator>(layout, holding(layout));
  bed.check_drop();
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  pin_this_thread();

  typename Translator::Port port{bed.translator()};
  const SyntheticGuest& guest = bed.guest();
  std::uint64_t asked = 0;
  std::uint64_t translated = 0;
  const auto read_for = [&](std::uint64_t wall_ns) {
    constexpr std::uint64_t block = 64;
    std::uint64_t sum = 0;
    translated = 0;
    for (const std::uint64_t end = monotonic_ns() + wall_ns; monotonic_ns() < end; translated += block) {
      for (std::uint64_t index = 0; index < block; ++index) sum += port.translate(guest.ask(mixed(asked++))).gpa;
    }
    benchmark::DoNotOptimize(sum);
  };
  constexpr std::uint64_t chunk_ns = 5'000'000;  // several runs of the slowest rate

  const std::uint32_t run = state.range(2) != 0 ? 1 : 64;
  Dropping<Translator> dropping{bed, std::max<std::int64_t>(rate, 1), run};
  std::unique_ptr<Companion> writer;
  if (rate != 0) writer = std::make_unique<Companion>(std::ref(dropping));
  read_for(chunk_ns);
  Chunk all;
  Disturbance disturbance;
  for (auto _ : state) {
    Chunk best;
    double best_waited = 2;  // more than any
    const auto measure_chunk = [&] {
      const std::uint64_t dropped_before = dropping.done();
      Elapsed elapsed;
      if (writer) {
        elapsed = writer->time([&] { read_for(chunk_ns); });
      } else {
        const Stopwatch stopwatch;
        read_for(chunk_ns);
        elapsed = stopwatch.stop();
      }
      if (elapsed.waited_part < best_waited) {
        best_waited = elapsed.waited_part;
        best = {elapsed.ns * 1e-9, translated, dropping.done() - dropped_before};
      }
      return elapsed;
    };
    static_cast<void>(quietest(measure_chunk, quiet_tries_of_two));
    state.SetIterationTime(best.seconds);
    disturbance.add(best_waited);
    all.seconds += best.seconds;
    all.translated += best.translated;
    all.dropped += best.dropped;
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(all.translated));
  disturbance.tell(state);
  state.counters["reached"] = static_cast<double>(all.dropped) / all.seconds;
  state.counters["reader_ns"] = all.seconds * 1e9 / static_cast<double>(std::max(all.translated, std::uint64_t{1}));
}

template <class Translator>
void add_rates() {
  std::vector<Arguments> arguments;
  for (const std::int64_t entries : {1024, 16384}) {
    arguments.push_back({0, entries, 0});
    for (const std::int64_t rate : {std::int64_t{100'000}, std::int64_t{1'000'000}, unthrottled}) {
      for (const std::int64_t strict : {0, 1}) arguments.push_back({rate, entries, strict});
    }
  }
  add_chunks<Translator>("interference", arguments, &interference<Translator>);
}

void add_all() {
  add_rates<Library>();
  add_rates<QemuTranslator>();
  add_rates<LookupTranslator<TbbMap>>();
  add_rates<LookupTranslator<SharedMutexMap>>();
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
