// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a hit cost when a device's pages are of different sizes: 80 % of 4 KiB, 15 % of 2 MiB, 5 % of 1 GiB?
//
//   mixed_hit<T>/PAGES/WIDTH        width 1: one translation at a time
#include "bench/support/hits.hpp"

namespace viommu::bench {
namespace {

template <class Translator>
void add_mixed() {
  std::vector<Arguments> arguments;
  for (const std::int64_t pages : {1024, 16384, 262144}) {
    for (const std::int64_t width : {1, 64}) arguments.push_back({pages, width});
  }
  add<Translator>("mixed_hit", arguments, [](benchmark::State& state, Together& together) {
    const Layout layout{.pages = static_cast<std::uint32_t>(state.range(0)), .sizes = Sizes::mixed};
    const auto width = static_cast<std::uint64_t>(state.range(1));
    if (width == 1) return measure_single<Translator>(state, together, layout, holding(layout));
    measure_batches<Translator>(state, together, layout, holding(layout), width);
  });
}

void add_all() {
  add_mixed<Library>();
  add_mixed<LibraryThroughC>();
  add_mixed<QemuTranslator>();
  add_mixed<LookupTranslator<TbbMap>>();
  add_mixed<LookupTranslator<SharedMutexMap>>();
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
