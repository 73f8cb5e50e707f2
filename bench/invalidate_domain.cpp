// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does dropping a domain cost, by cached translations and by how many address spaces have its id?
//
//   invalidate_domain<T>/ENTRIES/MEMBERS        items are descriptors
//
// 1 member: 16 domains of one device each hold a sixteenth of the entries; a run of 16 descriptors drops one after the
// other, with one wait. 256 members: one domain id, 256 devices with tables of their own, one descriptor, one wait.
// Timed is from the write of the tail register until the wait's status is in memory.
#include <benchmark/benchmark.h>

#include "bench/support/bed.hpp"
#include "bench/support/question.hpp"
#include "bench/support/sections.hpp"

namespace viommu::bench {
namespace {

template <class Translator>
void invalidate_domain(benchmark::State& state) {
  Layout layout{.pages = static_cast<std::uint32_t>(state.range(0))};
  std::uint32_t descriptors = layout.devices;
  if (state.range(1) > 1) {
    layout.devices = static_cast<std::uint32_t>(state.range(1));
    layout.domains = Domains::one_for_all;
    descriptors = 1;
  }
  Bed<Translator>& bed = bed_of<Translator>(layout, holding(layout));
  bed.check_drop();
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  typename Translator::Port port{bed.translator()};
  const SyntheticGuest& guest = bed.guest();
  GuestQueue<Translator>& queue = bed.queue();
  measure_sections(state, descriptors, [&](Sections& sections) {
    const auto put = [&] {
      for (std::uint32_t device = 0; device < descriptors; ++device) queue.drop_domain(guest.domain(device));
      queue.wait();
    };
    if constexpr (HasRegisters<Translator>) put();
    sections.time([&] {
      if constexpr (!HasRegisters<Translator>) put();
      queue.ring();
      queue.finish();
    });
    bed.fill(port);
  });
}

template <class Translator>
void add_drops(const std::vector<Arguments>& arguments) {
  add_chunks<Translator>("invalidate_domain", arguments, &invalidate_domain<Translator>);
}

void add_all() {
  const std::vector<Arguments> all{{1024, 1}, {16384, 1}, {1024, 256}, {16384, 256}};
  add_drops<Library>(all);
  add_drops<LibraryThroughC>(all);
  add_drops<QemuTranslator>(all);
  add_drops<LookupTranslator<TbbMap>>(all);
  add_drops<LookupTranslator<SharedMutexMap>>({{1024, 1}, {16384, 1}});  // one table a domain
  add_drops<LookupTranslator<RwlockList>>(all);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
