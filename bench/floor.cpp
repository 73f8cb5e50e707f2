// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does this machine itself need for a memory access, by footprint?
//
//   chase<Floor>/KIB     each load waits for the one before
//   loads<Floor>/KIB     independent random loads
//   stream<Floor>/KIB    reading in order; items are 8-byte words
#include <benchmark/benchmark.h>

#include <array>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "bench/support/question.hpp"

namespace viommu::bench {
namespace {

constexpr std::size_t line_words = 8;

struct Floor {
  static constexpr const char* name = "Floor";
};

/// One ring through all cache lines in random order: the first word of each says which line is next.
[[nodiscard]] const std::vector<std::uint64_t>& ring_of(std::int64_t kib) {
  static std::map<std::int64_t, std::vector<std::uint64_t>> rings;
  std::vector<std::uint64_t>& words = rings[kib];
  if (!words.empty()) return words;
  words.resize(static_cast<std::size_t>(kib) * 128);
  std::vector<std::uint64_t> order(words.size() / line_words);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  for (std::size_t index = order.size() - 1; index > 0; --index) {
    std::swap(order[index], order[mixed(index) % (index + 1)]);
  }
  for (std::size_t index = 0; index < order.size(); ++index) {
    words[order[index] * line_words] = order[(index + 1) % order.size()];
  }
  return words;
}

void chase(benchmark::State& state, Together& together) {
  const std::vector<std::uint64_t>& words = ring_of(state.range(0));
  std::uint64_t line = 0;
  measure(state, together, 256, [&](std::uint64_t count) {
    for (; count != 0; --count) line = words[line * line_words];
    benchmark::DoNotOptimize(line);
  });
}

void loads(benchmark::State& state, Together& together) {
  const std::vector<std::uint64_t>& words = ring_of(state.range(0));
  const std::uint64_t mask = words.size() - 1;
  std::uint64_t asked = 0;
  measure(state, together, 256, [&](std::uint64_t count) {
    std::uint64_t sum = 0;
    for (const std::uint64_t end = asked + count; asked != end; ++asked) sum += words[mixed(asked) & mask];
    benchmark::DoNotOptimize(sum);
  });
}

void stream(benchmark::State& state, Together& together) {
  const std::vector<std::uint64_t>& words = ring_of(state.range(0));
  const std::size_t mask = words.size() - 1;
  std::size_t at = 0;
  constexpr std::uint64_t block = 4096;
  measure(state, together, block, [&](std::uint64_t count) {
    std::array<std::uint64_t, 16> sums{};  // as many as it takes not to wait for an addition
    for (std::uint64_t done = 0; done < count; done += block) {
      const std::uint64_t* const from = &words[at];
      for (std::size_t index = 0; index < block; index += sums.size()) {
        for (std::size_t lane = 0; lane < sums.size(); ++lane) sums[lane] += from[index + lane];
      }
      at = (at + block) & mask;
    }
    benchmark::DoNotOptimize(sums);
  });
}

void add_all() {
  const std::vector<Arguments> footprints{{32}, {512}, {8192}, {262144}};
  add<Floor>("chase", footprints, &chase);
  add<Floor>("loads", footprints, &loads);
  add<Floor>("stream", footprints, &stream);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
