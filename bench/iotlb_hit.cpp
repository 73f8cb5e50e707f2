// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a translation cost that the IOTLB holds, by working set, alone and beside other threads?
//
//   iotlb_hit<T>/PAGES[/threads:N]              16 devices, every page its own frame
//   iotlb_hit_contiguous<T>/PAGES               the pages of a device are one run
//
// One translation at a time, as a VMM makes it: guard, request, answer, guard closed. QemuShapeCapped has QEMU's own
// limit of 1,024 entries and walks for what is beyond.
#include "bench/support/hits.hpp"

namespace viommu::bench {
namespace {

const std::vector<Arguments> working_sets{{64}, {1024}, {16384}, {262144}};

template <class Translator>
void add_hits(const std::vector<Arguments>& pages) {
  const auto run = [](Frames frames) {
    return [frames](benchmark::State& state, Together& together) {
      const Layout layout{.pages = static_cast<std::uint32_t>(state.range(0)), .frames = frames};
      measure_single<Translator>(state, together, layout, holding(layout));
    };
  };
  add<Translator>("iotlb_hit", pages, run(Frames::scattered), thread_counts());
  add<Translator>("iotlb_hit_contiguous", pages, run(Frames::contiguous));
}

void add_all() {
  add_hits<Library>(working_sets);
  add_hits<LibraryThroughC>(working_sets);
  add_hits<CountingLibrary>({{1024}, {16384}});
  add_hits<QemuTranslator>(working_sets);
  add_hits<CappedQemuTranslator>({{2048}, {16384}});
  add_hits<LookupTranslator<TbbMap>>(working_sets);
  add_hits<LookupTranslator<SharedMutexMap>>(working_sets);
  add_hits<LookupTranslator<RwlockList>>({{64}, {1024}, {16384}});  // 2,048 entries a device are its limit
  add_hits<FloorTranslator>(working_sets);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
