// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a translation cost in a batch of which the IOTLB holds every page, by working set and width?
//
//   batch_hit<T>/PAGES/WIDTH[/threads:N]
//
// A batch is what a queue of one device asks for; the next one is of another. The writing of the requests is in the
// time of all. Peers, which have no such call, are asked one by one; the floor is one load for each request.
#include "bench/support/hits.hpp"

namespace viommu::bench {
namespace {

template <class Translator>
void add_batches(const std::vector<Arguments>& arguments, const std::vector<int>& threads = {1}) {
  const auto run = [](benchmark::State& state, Together& together) {
    const Layout layout{.pages = static_cast<std::uint32_t>(state.range(0))};
    measure_batches<Translator>(state, together, layout, holding(layout), static_cast<std::uint64_t>(state.range(1)));
  };
  add<Translator>("batch_hit", arguments, run, threads);
}

[[nodiscard]] std::vector<Arguments> each_with(const std::vector<std::int64_t>& widths) {
  std::vector<Arguments> arguments;
  for (const std::int64_t pages : {64, 1024, 16384, 262144}) {
    for (const std::int64_t width : widths) arguments.push_back({pages, width});
  }
  return arguments;
}

[[nodiscard]] std::vector<int> several_threads() {
  const std::vector<int> counts = thread_counts();
  return {counts.begin() + 1, counts.end()};
}

void add_all() {
  const std::vector<Arguments> all = each_with({8, 32, 64, 256, 4096});
  const std::vector<Arguments> peers = each_with({64});
  add_batches<Library>(all);
  add_batches<Library>(each_with({64}), several_threads());
  add_batches<LibraryThroughC>(peers);
  add_batches<QemuTranslator>(peers);
  add_batches<CappedQemuTranslator>({{16384, 64}});
  add_batches<LookupTranslator<TbbMap>>(peers);
  add_batches<LookupTranslator<SharedMutexMap>>(peers);
  add_batches<FloorTranslator>(peers);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
