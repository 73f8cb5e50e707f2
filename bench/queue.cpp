// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a full queue cost when work hangs on what it drops, and what do two threads make of it?
//
//   queue<T>/DOMAINS/WORK_NS       items are descriptors: 256 page-selective ones over so many domains, and a wait
//   queue_alone<T>/WORK_NS         one descriptor and a wait
//
// WORK_NS is what a consumer does for each range, in the task of its domain; 0: nobody listens. Timed is from the write
// of the tail register until the wait's status is in memory. Translators:
//   Serial        no executor
//   Parallel      oneTBB with two threads, 16 shards
//   Parallel1     the same with one thread: what sorting costs
//   Independent   two serial units beside each other, each with half of the domains on a core of its own: what two
//                 threads can do at best on this machine in this moment
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "bench/support/companion.hpp"
#include "bench/support/listening_unit.hpp"
#include "bench/support/question.hpp"
#include "bench/support/sections.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint32_t descriptors = 256;

struct Serial {
  static constexpr const char* name = "Serial";
  static constexpr std::uint32_t threads = 0;
};
struct Parallel {
  static constexpr const char* name = "Parallel";
  static constexpr std::uint32_t threads = 2;
};
struct Parallel1 {
  static constexpr const char* name = "Parallel1";
  static constexpr std::uint32_t threads = 1;
};
struct Independent {
  static constexpr const char* name = "Independent";
};

/// A unit that has been seen to do what it should, kept to the end; or why it has not.
struct Checked {
  std::unique_ptr<ListeningUnit> unit;
  std::string wrong;
};

[[nodiscard]] Checked& unit_of(const ListenerSetup& setup) {
  static std::mutex mutex;
  static std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>, Checked> units;
  const std::lock_guard lock{mutex};
  Checked& made = units[{setup.domains, setup.first_id, setup.work_ns, setup.threads}];
  if (made.unit != nullptr) return made;
  try {
    made.unit = std::make_unique<ListeningUnit>(setup);
    made.wrong = made.unit->wrong();
  } catch (const std::exception& problem) {
    made.wrong = problem.what();
  }
  return made;
}

/// With the executor's thread: its wait for a core counts too. It sleeps between sections, which is no wait; and a wait
/// is counted when it ends, so the thread has to have run before and afterwards.
class TwoThreads {
 public:
  TwoThreads() : other_{ListeningUnit::other_thread()} {}
  template <class Work>
  [[nodiscard]] Elapsed operator()(Work work) const {
    static_cast<void>(ListeningUnit::other_thread());
    const std::uint64_t before = other_.read_ns();
    const std::uint64_t begin = monotonic_ns();
    Elapsed elapsed = OneThread{}(work);
    static_cast<void>(ListeningUnit::other_thread());
    const auto wall = static_cast<double>(monotonic_ns() - begin);
    elapsed.waited_part = std::max(elapsed.waited_part, static_cast<double>(other_.read_ns() - before) / wall);
    return elapsed;
  }
  static constexpr int tries = quiet_tries_of_two;

 private:
  WaitCount other_;
};

/// The same, with a companion in place of the executor.
struct WithCompanion {
  const Companion& other;
  template <class Work>
  [[nodiscard]] Elapsed operator()(Work work) const {
    return other.time(work);
  }
  static constexpr int tries = quiet_tries_of_two;
};

void run_unit(benchmark::State& state, const ListenerSetup& setup, std::uint32_t count) {
  Checked& checked = unit_of(setup);
  if (!checked.wrong.empty()) return state.SkipWithError(checked.wrong.c_str());
  const auto work = [&](Sections& sections) {
    checked.unit->fill(count);
    checked.unit->put(count);
    sections.time([&] { checked.unit->run(); });
  };
  // One descriptor stays on this thread.
  if (count > 1 && setup.threads > 1 && ListeningUnit::other_thread() != 0)
    return measure_sections(state, count, work, TwoThreads{});
  measure_sections(state, count, work);
}

template <class Kind>
void run_queue(benchmark::State& state) {
  run_unit(state,
           {.domains = static_cast<std::uint32_t>(state.range(0)),
            .work_ns = static_cast<std::uint32_t>(state.range(1)),
            .threads = Kind::threads},
           descriptors);
}

template <class Kind>
void run_alone(benchmark::State& state) {
  run_unit(state, {.work_ns = static_cast<std::uint32_t>(state.range(0)), .threads = Kind::threads}, 1);
}

/// The other one's turn begins with this one's, and the time ends when both have ended.
void run_independent(benchmark::State& state) {
  std::array<Checked*, 2> checked{};
  const auto half = static_cast<std::uint32_t>(state.range(0)) / 2;
  for (std::uint32_t i = 0; i < 2; ++i) {
    checked[i] =
        &unit_of({.domains = half, .first_id = 1 + i * half, .work_ns = static_cast<std::uint32_t>(state.range(1))});
    if (!checked[i]->wrong.empty()) return state.SkipWithError(checked[i]->wrong.c_str());
  }
  std::atomic<std::uint64_t> asked{0};
  std::atomic<std::uint64_t> answered{0};
  pin_this_thread();
  const Companion other{[&](Pulse& pulse) {
    std::uint64_t done = 0;
    while (pulse.goes_on()) {
      if (asked.load(std::memory_order_acquire) == done) continue;
      checked[1]->unit->run();
      answered.store(++done, std::memory_order_release);
    }
  }};
  const auto work = [&](Sections& sections) {
    for (const Checked* one : checked) {
      one->unit->fill(descriptors / 2);
      one->unit->put(descriptors / 2);
    }
    sections.time([&] {
      const std::uint64_t turn = asked.fetch_add(1, std::memory_order_release) + 1;
      checked[0]->unit->run();
      while (answered.load(std::memory_order_acquire) != turn) {  // ends: the companion answers each
      }
    });
  };
  measure_sections(state, descriptors, work, WithCompanion{other});
}

void add_all() {
  std::vector<Arguments> all;
  for (const std::int64_t work_ns : {0, 200, 1000})
    for (const std::int64_t domains : {1, 4, 16, 64, 256}) all.push_back({domains, work_ns});
  add_chunks<Serial>("queue", all, &run_queue<Serial>);
  add_chunks<Parallel>("queue", all, &run_queue<Parallel>);
  add_chunks<Parallel1>("queue", all, &run_queue<Parallel1>);
  std::erase_if(all, [](const Arguments& one) { return one.front() == 1; });
  add_chunks<Independent>("queue", all, &run_independent);
  const std::vector<Arguments> alone{{0}, {1000}};
  add_chunks<Serial>("queue_alone", alone, &run_alone<Serial>);
  add_chunks<Parallel>("queue_alone", alone, &run_alone<Parallel>);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) {
  try {
    viommu::bench::ListeningUnit::start_threads();
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s: %s\n", words[0], problem.what());
    return 2;
  }
  return viommu::bench::run_question(count, words, &viommu::bench::add_all);
}
