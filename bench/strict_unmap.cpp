// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a strict guest pay for each unmap, one page-selective descriptor and one wait, while a device keeps
// reading?
//
//   strict_unmap<T>/ENTRIES        items are unmaps; ENTRIES cached translations
//
// The guest puts both descriptors into its queue, writes the tail, and polls the status word. Another thread translates
// random pages all the time, and its own misses bring back what was dropped. Counter `reader_ns`: its time for each.
#include <benchmark/benchmark.h>

#include "bench/support/bed.hpp"
#include "bench/support/companion.hpp"
#include "bench/support/question.hpp"

namespace viommu::bench {
namespace {

template <class Translator>
void strict_unmap(benchmark::State& state) {
  const Layout layout{.pages = static_cast<std::uint32_t>(state.range(0))};
  Bed<Translator>& bed = bed_of<Translator>(layout, holding(layout));
  bed.check_drop();
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  const SyntheticGuest& guest = bed.guest();
  GuestQueue<Translator>& queue = bed.queue();
  pin_this_thread();

  std::atomic<std::uint64_t> translated{0};
  const Companion reader{[&](Pulse& pulse) {
    typename Translator::Port port{bed.translator()};
    std::uint64_t sum = 0;
    for (std::uint64_t asked = 0; pulse.goes_on(); ++asked) {
      sum += port.translate(guest.ask(mixed(asked))).gpa;
      translated.store(asked, std::memory_order_relaxed);
    }
    benchmark::DoNotOptimize(sum);
  }};
  std::uint64_t unmapped = std::uint64_t{1} << 40;
  auto work = [&](std::uint64_t count) {
    for (const std::uint64_t end = unmapped + count; unmapped != end; ++unmapped) {
      const viommu_request request = guest.ask(mixed(unmapped));
      queue.drop_page(guest.domain(guest.device(request.source)), request.iova);
      queue.wait();
      queue.ring();
      queue.finish();
    }
  };
  const std::uint64_t chunk = chunk_of(work, 1);
  std::int64_t items = 0;
  double seconds = 0;
  std::uint64_t read = 0;
  Disturbance disturbance;
  for (auto _ : state) {
    double best_waited = 2;  // more than any
    std::uint64_t best_read = 0;
    const auto measure_chunk = [&] {
      const std::uint64_t before = translated.load(std::memory_order_relaxed);
      std::uint64_t after = before;
      const Elapsed elapsed = reader.time([&] {
        work(chunk);
        after = translated.load(std::memory_order_relaxed);
      });
      if (elapsed.waited_part < best_waited) {
        best_waited = elapsed.waited_part;
        best_read = after - before;
      }
      return elapsed;
    };
    const Elapsed elapsed = quietest(measure_chunk, quiet_tries_of_two);
    state.SetIterationTime(elapsed.ns * 1e-9);
    disturbance.add(elapsed.waited_part);
    seconds += elapsed.ns * 1e-9;
    read += best_read;
    items += static_cast<std::int64_t>(chunk);
  }
  state.SetItemsProcessed(items);
  disturbance.tell(state);
  state.counters["reader_ns"] = seconds * 1e9 / static_cast<double>(std::max(read, std::uint64_t{1}));
}

template <class Translator>
void add_unmaps(const std::vector<Arguments>& entries) {
  add_chunks<Translator>("strict_unmap", entries, &strict_unmap<Translator>);
}

void add_all() {
  const std::vector<Arguments> all{{1024}, {16384}};
  add_unmaps<Library>(all);
  add_unmaps<LibraryThroughC>(all);
  add_unmaps<QemuTranslator>(all);
  add_unmaps<LookupTranslator<TbbMap>>(all);
  add_unmaps<LookupTranslator<SharedMutexMap>>(all);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
