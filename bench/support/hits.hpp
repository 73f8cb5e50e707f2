// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Translations of pages that were all asked for before: one by one, or in batches.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "bench/support/bed.hpp"
#include "bench/support/question.hpp"

namespace viommu::bench {

/// Items are translations; a random device asks for a random page each time.
template <class Translator>
void measure_single(benchmark::State& state, Together& together, const Layout& layout, const Setup& setup) {
  Bed<Translator>& bed = bed_of<Translator>(layout, setup);
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  typename Translator::Port port{bed.translator()};
  const SyntheticGuest& guest = bed.guest();
  std::uint64_t asked = static_cast<std::uint64_t>(state.thread_index()) << 40;
  constexpr std::uint64_t block = 256;
  measure(state, together, block, [&](std::uint64_t count) {
    std::uint64_t sum = 0;
    for (const std::uint64_t end = asked + count; asked != end; ++asked) {
      sum += port.translate(guest.ask(mixed(asked))).gpa;
    }
    benchmark::DoNotOptimize(sum);
  });
}

/// Items are translations; a random device asks for `width` random pages of its own at a time. The writing of the
/// requests is in the time.
template <class Translator>
void measure_batches(benchmark::State& state, Together& together, const Layout& layout, const Setup& setup,
                     std::uint64_t width) {
  Bed<Translator>& bed = bed_of<Translator>(layout, setup);
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  typename Translator::Port port{bed.translator()};
  const SyntheticGuest& guest = bed.guest();
  std::vector<viommu_request> requests(width);
  std::vector<viommu_translation> answers(width);
  std::uint64_t asked = static_cast<std::uint64_t>(state.thread_index()) << 40;
  measure(state, together, width, [&](std::uint64_t count) {
    for (std::uint64_t done = 0; done < count; done += width) {
      guest.ask_batch(asked, requests);
      port.translate_batch(requests, answers);
      benchmark::DoNotOptimize(answers.data());
      benchmark::ClobberMemory();
      asked += width;
    }
  });
}

}  // namespace viommu::bench
