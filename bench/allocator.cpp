// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does the allocator change? Built twice: `allocator` with mimalloc, `allocator_libc` with the C library's.
//
//   fill<T>/ENTRIES        everything is dropped, then asked for anew; items are translations
#include <benchmark/benchmark.h>

#include "bench/support/bed.hpp"
#include "bench/support/question.hpp"
#include "bench/support/sections.hpp"

namespace viommu::bench {
namespace {

template <class Translator>
void fill(benchmark::State& state) {
  const Layout layout{.pages = static_cast<std::uint32_t>(state.range(0))};
  Bed<Translator>& bed = bed_of<Translator>(layout, holding(layout));
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  typename Translator::Port port{bed.translator()};
  measure_sections(state, layout.pages, [&](Sections& sections) {
    sections.time([&] {
      bed.translator().drop_caches();  // what was allocated goes back, which is the allocator's work as well
      bed.fill(port);
    });
  });
}

template <class Translator>
void add_fills() {
  add_chunks<Translator>("fill", {{1024}, {16384}}, &fill<Translator>);
}

void add_all() {
  add_fills<Library>();
  add_fills<QemuTranslator>();
  add_fills<LookupTranslator<TbbMap>>();
  add_fills<LookupTranslator<SharedMutexMap>>();
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
