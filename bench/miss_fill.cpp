// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a whole miss cost, by footprint of the tables: lookup, walk, insertion?
//
//   miss_fill<T>/LEAF_TABLES/WIDTH        width 1: one translation at a time
//
// All caches are dropped, outside the clock; then every request is for a page that was not asked for since. One page in
// eight is mapped, so that nobody gains by filling neighbours along. QemuShape has its own limit of 1,024 entries and
// so pays for throwing them away, as the original does.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "bench/support/bed.hpp"
#include "bench/support/question.hpp"
#include "bench/support/sections.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint32_t stride = 8;

template <class Translator>
void miss_fill(benchmark::State& state) {
  constexpr std::uint32_t most = 16384;  // fits every cache
  const Layout layout{.pages = static_cast<std::uint32_t>(state.range(0)) * 512 / stride, .stride = stride};
  const auto width = static_cast<std::size_t>(state.range(1));
  Bed<Translator>& bed = bed_of<Translator>(layout, {.shape_capacity = qemu_capacity});
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  typename Translator::Port port{bed.translator()};
  const SyntheticGuest& guest = bed.guest();
  std::vector<viommu_request> requests(std::min(layout.pages, most));
  std::vector<viommu_translation> answers(width);
  std::uint32_t asked = 0;
  measure_sections(state, static_cast<std::int64_t>(requests.size()), [&](Sections& sections) {
    bed.translator().drop_caches();
    for (viommu_request& request : requests) request = guest.ask_each(asked++);
    sections.time([&] {
      for (std::size_t at = 0; at < requests.size(); at += width) {
        if (width == 1) {
          benchmark::DoNotOptimize(port.translate(requests[at]));
        } else {
          port.translate_batch({&requests[at], width}, answers);
          benchmark::ClobberMemory();
        }
      }
    });
  });
}

template <class Translator>
void add_misses(const std::vector<std::int64_t>& widths) {
  std::vector<Arguments> arguments;
  for (const std::int64_t leaf_tables : {16, 128, 2048, 262144}) {
    for (const std::int64_t width : widths) arguments.push_back({leaf_tables, width});
  }
  add_chunks<Translator>("miss_fill", arguments, &miss_fill<Translator>);
}

void add_all() {
  add_misses<Library>({1, 64});
  add_misses<LibraryThroughC>({1, 64});
  add_misses<QemuTranslator>({1});
  add_misses<LookupTranslator<TbbMap>>({1});
  add_misses<LookupTranslator<SharedMutexMap>>({1});
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
