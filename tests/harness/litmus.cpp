// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Small programs whose possible outcomes are known from the literature. All executions are searched; what came out must
// be exactly what may.
#include <cstdio>
#include <set>
#include <string>

#include "engine/base/atomic.hpp"
#include "engine/base/process_barrier.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto seq_cst = std::memory_order_seq_cst;

struct Variables {
  Atomic<int> x{0};
  Atomic<int> y{0};
  Atomic<int> z{0};
  std::array<int, 4> read{};
};
using Program = void (*)(Variables&, std::size_t fiber);

struct Run {
  Variables variables;
  Program program = nullptr;
};

[[nodiscard]] std::set<std::string> outcomes(std::size_t fibers, std::size_t reads, Program program, Model model,
                                             int x) {
  std::set<std::string> found;
  Schedule schedule;
  schedule.begin_search({9, 9});
  do {
    take_back_arena();
    Run& run = *new (take_from_arena(sizeof(Run), 64)) Run;
    run.program = program;
    run.variables.x.store(x, relaxed);
    simulator().run({&run, fibers,
                     [](void* self, std::size_t fiber) {
                       Run& that = *static_cast<Run*>(self);
                       that.program(that.variables, fiber);
                     }},
                    model, schedule);
    std::string outcome;
    for (std::size_t i = 0; i < reads; ++i) outcome += std::to_string(run.variables.read[i]);
    if (simulator().failed()) outcome = simulator().failure();
    simulator().clear_failure();
    found.insert(outcome);
  } while (schedule.next());
  return found;
}

struct Litmus {
  const char* name;
  std::size_t fibers;
  std::size_t reads;
  Program program;
  std::set<std::string> cxx;
  std::set<std::string> x86;
  int x = 0;  ///< to begin with
};

const std::set<std::string> all_of_two{"00", "01", "10", "11"};
const std::set<std::string> not_both_old{"01", "10", "11"};
const std::set<std::string> no_stale_data{"00", "01", "11"};

template <std::memory_order write, std::memory_order read, bool fence_one, bool fence_two>
void store_buffering(Variables& v, std::size_t fiber) {
  if (fiber == 0) {
    v.x.store(1, write);
    if (fence_one) full_fence();
    v.read[0] = v.y.load(read);
  } else {
    v.y.store(1, write);
    if (fence_two) full_fence();
    v.read[1] = v.x.load(read);
  }
}

/// The second fiber makes no fence of its own; the first has one made in it.
template <bool ordered>
void store_buffering_barrier(Variables& v, std::size_t fiber) {
  if (fiber == 0) {
    v.x.store(1, relaxed);
    process_barrier();
    v.read[0] = v.y.load(relaxed);
  } else {
    v.y.store(1, relaxed);
    if (ordered) compiler_fence();
    v.read[1] = v.x.load(relaxed);
  }
}

/// read[0] is the flag, read[1] the data.
template <std::memory_order write, std::memory_order read, bool fences>
void message_passing(Variables& v, std::size_t fiber) {
  if (fiber == 0) {
    v.x.store(1, relaxed);
    if (fences) full_fence();
    v.y.store(1, write);
  } else {
    v.read[0] = v.y.load(read);
    if (fences) full_fence();
    v.read[1] = v.x.load(relaxed);
  }
}

/// The flag goes through a read-modify-write of another fiber.
template <std::memory_order middle>
void release_sequence(Variables& v, std::size_t fiber) {
  if (fiber == 0) {
    v.x.store(1, relaxed);
    v.y.store(1, release);
  } else if (fiber == 1) {
    v.y.fetch_add(2, middle);
  } else {
    v.read[0] = v.y.load(acquire) == 3 ? 1 : 0;
    v.read[1] = v.x.load(relaxed);
  }
}

/// Two writers, two readers that look in opposite order.
template <std::memory_order write, std::memory_order read>
void independent_reads(Variables& v, std::size_t fiber) {
  switch (fiber) {
    case 0: return v.x.store(1, write);
    case 1: return v.y.store(1, write);
    case 2:
      v.read[0] = v.x.load(read);
      v.read[1] = v.y.load(read);
      return;
    default: v.read[2] = v.y.load(read); v.read[3] = v.x.load(read);
  }
}

/// A flag taken by an exchange, against one given back: the first fiber looks again, the second one has spoken before.
template <std::memory_order give, std::memory_order say>
void give_back(Variables& v, std::size_t fiber) {
  if (fiber == 0) {
    v.x.store(0, give);  // it was 1
    v.read[0] = v.y.load(seq_cst);
  } else {
    v.y.store(1, say);
    v.read[1] = 1 - v.x.exchange(1, seq_cst);
  }
}

/// Two loads of one location.
void coherence(Variables& v, std::size_t fiber) {
  if (fiber == 0) return v.x.store(1, relaxed);
  v.read[0] = v.x.load(relaxed);
  v.read[1] = v.x.load(relaxed);
}

/// Two increments are never one.
void atomicity(Variables& v, std::size_t fiber) { v.read[fiber] = v.x.fetch_add(1, relaxed); }

/// One writer of a pair of words, one reader; 1 in read[0] for a pair that was taken, and 1 in read[1] if it was torn.
template <std::memory_order write, std::memory_order read>
void seqlock(Variables& v, std::size_t fiber) {
  if (fiber == 0) {
    v.z.store(1, relaxed);
    v.x.store(1, write);
    v.y.store(1, write);
    v.z.store(2, release);
    return;
  }
  const int before = v.z.load(acquire);
  const int x = v.x.load(read);
  const int y = v.y.load(read);
  const int after = v.z.load(relaxed);
  v.read[0] = before == after && before % 2 == 0 ? 1 : 0;
  v.read[1] = v.read[0] == 1 && x != y ? 1 : 0;
}

}  // namespace

bool run_litmus_tests() {
  std::set<std::string> all_of_four;
  for (int i = 0; i < 16; ++i) {
    std::string outcome;
    for (int bit = 0; bit < 4; ++bit) outcome += (i >> bit & 1) != 0 ? '1' : '0';
    all_of_four.insert(outcome);
  }
  std::set<std::string> multi_copy = all_of_four;
  multi_copy.erase("1010");
  const std::set<std::string> ok{"00", "10"};
  const std::set<std::string> torn{"00", "10", "11"};
  const Litmus tests[] = {
      {"SB relaxed", 2, 2, store_buffering<relaxed, relaxed, false, false>, all_of_two, all_of_two},
      {"SB release, acquire", 2, 2, store_buffering<release, acquire, false, false>, all_of_two, all_of_two},
      {"SB with one fence", 2, 2, store_buffering<relaxed, relaxed, true, false>, all_of_two, all_of_two},
      {"SB with fences", 2, 2, store_buffering<relaxed, relaxed, true, true>, not_both_old, not_both_old},
      {"SB seq_cst", 2, 2, store_buffering<seq_cst, seq_cst, false, false>, not_both_old, not_both_old},
      {"SB with a process barrier", 2, 2, store_buffering_barrier<true>, not_both_old, not_both_old},
      {"SB with a process barrier, the compiler free", 2, 2, store_buffering_barrier<false>, all_of_two, all_of_two},
      {"MP relaxed", 2, 2, message_passing<relaxed, relaxed, false>, all_of_two, no_stale_data},
      {"MP release, relaxed", 2, 2, message_passing<release, relaxed, false>, all_of_two, no_stale_data},
      {"MP relaxed, acquire", 2, 2, message_passing<relaxed, acquire, false>, all_of_two, no_stale_data},
      {"MP release, acquire", 2, 2, message_passing<release, acquire, false>, no_stale_data, no_stale_data},
      {"MP with fences", 2, 2, message_passing<relaxed, relaxed, true>, no_stale_data, no_stale_data},
      {"MP through a read-modify-write", 3, 2, release_sequence<relaxed>, no_stale_data, no_stale_data},
      {"IRIW release, acquire", 4, 4, independent_reads<release, acquire>, all_of_four, all_of_four},
      {"IRIW seq_cst", 4, 4, independent_reads<seq_cst, seq_cst>, multi_copy, multi_copy},
      {"a flag given back, seq_cst", 2, 2, give_back<seq_cst, seq_cst>, not_both_old, not_both_old, 1},
      {"a flag given back, release", 2, 2, give_back<release, seq_cst>, all_of_two, all_of_two, 1},
      {"coherence", 2, 2, coherence, no_stale_data, no_stale_data},
      {"atomicity", 2, 2, atomicity, {"01", "10"}, {"01", "10"}},
      {"seqlock", 2, 2, seqlock<release, acquire>, ok, ok},
      {"seqlock, words relaxed", 2, 2, seqlock<relaxed, acquire>, torn, ok},
      {"seqlock, loads relaxed", 2, 2, seqlock<release, relaxed>, torn, ok},
  };
  bool right = true;
  for (const Litmus& test : tests) {
    for (const Model model : {Model::cxx, Model::x86}) {
      const std::set<std::string> found = outcomes(test.fibers, test.reads, test.program, model, test.x);
      const std::set<std::string>& wanted = model == Model::cxx ? test.cxx : test.x86;
      const bool same = found == wanted;
      right = right && same;
      std::printf("%-50s %s %s", test.name, model == Model::cxx ? "C++" : "x86", same ? "ok" : "WRONG, found:");
      if (!same)
        for (const std::string& outcome : found) std::printf(" %s", outcome.c_str());
      std::printf("\n");
    }
  }
  return right;
}

}  // namespace viommu::harness
