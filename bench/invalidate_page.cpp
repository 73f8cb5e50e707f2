// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does dropping one page cost, by how many translations are cached?
//
//   invalidate_page<T>/ENTRIES        items are descriptors
//
// The guest has put page-selective descriptors for random cached pages and one wait into its queue; timed is from the
// write of the tail register until the wait's status is in memory. A run is 256 descriptors, fewer where a descriptor
// of the peer takes long enough to be timed. Afterwards the pages are asked for again, outside the clock.
#include <benchmark/benchmark.h>

#include "bench/support/bed.hpp"
#include "bench/support/question.hpp"
#include "bench/support/sections.hpp"

namespace viommu::bench {
namespace {

/// QEMU's shape visits every entry for each descriptor.
template <class Translator>
[[nodiscard]] std::uint32_t run_length(std::uint32_t entries) noexcept {
  constexpr std::uint32_t usual = 256;
  if (Translator::name != QemuTranslator::name || entries <= 1024) return usual;
  return entries <= 16384 ? 16 : 2;
}

template <class Translator>
void invalidate_page(benchmark::State& state) {
  const Layout layout{.pages = static_cast<std::uint32_t>(state.range(0))};
  Bed<Translator>& bed = bed_of<Translator>(layout, holding(layout));
  bed.check_drop();
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  typename Translator::Port port{bed.translator()};
  const SyntheticGuest& guest = bed.guest();
  GuestQueue<Translator>& queue = bed.queue();
  const std::uint32_t length = run_length<Translator>(layout.pages);
  std::vector<viommu_request> dropped(length);
  std::uint32_t page = 0;
  measure_sections(state, length, [&](Sections& sections) {
    for (viommu_request& request : dropped) request = guest.ask_each(page++);
    const auto put = [&] {
      for (const viommu_request& request : dropped) {
        queue.drop_page(guest.domain(guest.device(request.source)), request.iova);
      }
      queue.wait();
    };
    if constexpr (HasRegisters<Translator>) put();
    sections.time([&] {
      if constexpr (!HasRegisters<Translator>) put();
      queue.ring();
      queue.finish();
    });
    for (const viommu_request& request : dropped) static_cast<void>(port.translate(request));
  });
}

template <class Translator>
void add_drops(const std::vector<Arguments>& entries) {
  add_chunks<Translator>("invalidate_page", entries, &invalidate_page<Translator>);
}

void add_all() {
  const std::vector<Arguments> all{{1024}, {16384}, {262144}};
  add_drops<Library>(all);
  add_drops<LibraryThroughC>(all);
  add_drops<QemuTranslator>(all);
  add_drops<LookupTranslator<TbbMap>>(all);
  add_drops<LookupTranslator<SharedMutexMap>>(all);
  add_drops<LookupTranslator<RwlockList>>({{1024}, {16384}});
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
