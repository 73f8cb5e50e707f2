// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How much memory does a cached translation take?
//
//   memory<T>/ENTRIES        counter `bytes_per_entry`; items are translations asked for and filled
//
// The library's is what it says of its caches, all of it for entries it is laid out for; a peer's is what its
// allocations have grown by, in blocks as the allocator rounds them.
#include <benchmark/benchmark.h>
#include <mimalloc.h>

#include "bench/support/bed.hpp"
#include "bench/support/question.hpp"

namespace viommu::bench {
namespace {

/// Bytes in blocks that this thread has allocated and not given back.
[[nodiscard]] std::uint64_t allocated_bytes() {
  std::uint64_t bytes = 0;
  mi_heap_visit_blocks(
      mi_heap_get_default(), false,
      [](const mi_heap_t*, const mi_heap_area_t* area, void*, size_t, void* sum) {
        *static_cast<std::uint64_t*>(sum) += area->used * area->block_size;
        return true;
      },
      &bytes);
  return bytes;
}

template <class Translator>
void memory(benchmark::State& state) {
  const auto entries = static_cast<std::uint32_t>(state.range(0));
  const auto guest = guest_of({.pages = entries});
  std::uint64_t bytes = 0;
  for (auto _ : state) {
    Translator translator{*guest, {.iotlb_pages = entries}};
    const GuestQueue<Translator> queue{*guest, translator};
    typename Translator::Port port{translator};
    const std::uint64_t before = allocated_bytes();
    bool all_right = true;
    const Stopwatch stopwatch;
    for (std::uint32_t count = 0; count < entries; ++count) {
      const viommu_request request = guest->ask_each(count);
      all_right = right(*guest, request, port.translate(request)) && all_right;
    }
    state.SetIterationTime(stopwatch.stop().ns * 1e-9);
    bytes = allocated_bytes() - before;
    if constexpr (requires { translator.statistics(); }) bytes = translator.statistics().cache_bytes;
    if (!all_right) state.SkipWithError("wrong answers");
  }
  state.SetItemsProcessed(state.iterations() * entries);
  state.counters["bytes_per_entry"] = static_cast<double>(bytes) / entries;
}

template <class Translator>
void add_memory(const std::vector<Arguments>& entries) {
  constexpr int chunks = 3;
  add<Translator>(
      "memory", entries, [](benchmark::State& state, Together&) { memory<Translator>(state); }, {1}, chunks);
}

void add_all() {
  const std::vector<Arguments> all{{1024}, {16384}, {65536}};
  add_memory<Library>(all);
  add_memory<QemuTranslator>(all);
  add_memory<LookupTranslator<TbbMap>>(all);
  add_memory<LookupTranslator<SharedMutexMap>>(all);
  add_memory<LookupTranslator<RwlockList>>({{1024}, {16384}});
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
