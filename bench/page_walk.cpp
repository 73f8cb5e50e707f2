// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a page-table walk cost, by footprint of the tables and walks in flight, when nothing but contexts is
// cached?
//
//   page_walk<T>/LEAF_TABLES/IN_FLIGHT      16 and 128 tables lie in L1 or L2, 2,048 in L3, 262,144 (1 GiB) in memory
//
// Four levels, full leaf tables in shuffled order, random device, random page. The floor is one independent load of a
// random leaf entry; FloorChase makes each load wait for the one before.
#include <cstring>

#include "bench/support/hits.hpp"

namespace viommu::bench {
namespace {

[[nodiscard]] Layout layout_of(std::int64_t leaf_tables) {
  constexpr std::uint32_t entries = 512;
  return {.pages = static_cast<std::uint32_t>(leaf_tables) * entries};
}

template <class Translator>
void add_walks(const std::vector<Arguments>& arguments) {
  add<Translator>("page_walk", arguments, [](benchmark::State& state, Together& together) {
    const Layout layout = layout_of(state.range(0));
    const auto in_flight = static_cast<std::uint64_t>(state.range(1));
    const Setup setup{.caches = false};
    if (in_flight == 1) return measure_single<Translator>(state, together, layout, setup);
    measure_batches<Translator>(state, together, layout, setup, in_flight);
  });
}

struct Loads {
  static constexpr const char* name = "Floor";
  static constexpr bool dependent = false;
};
struct Chase {
  static constexpr const char* name = "FloorChase";
  static constexpr bool dependent = true;
};

template <class Floor>
void add_floor(const std::vector<Arguments>& arguments) {
  add<Floor>("page_walk", arguments, [](benchmark::State& state, Together& together) {
    const auto guest = guest_of(layout_of(state.range(0)));
    const std::byte* const leaves = guest->leaf_memory().data();
    const std::uint64_t mask = (guest->leaf_memory().size() - 1) & ~std::uint64_t{7};
    std::uint64_t asked = 0;
    measure(state, together, 256, [&](std::uint64_t count) {
      std::uint64_t sum = 0;
      for (const std::uint64_t end = asked + count; asked != end; ++asked) {
        std::uint64_t entry = 0;
        std::memcpy(&entry, leaves + (mixed(Floor::dependent ? asked ^ sum : asked) & mask), sizeof entry);
        sum += entry;
      }
      benchmark::DoNotOptimize(sum);
    });
  });
}

void add_all() {
  std::vector<Arguments> all;
  std::vector<Arguments> single;
  std::vector<Arguments> few;
  for (const std::int64_t leaf_tables : {16, 128, 2048, 262144}) {
    single.push_back({leaf_tables, 1});
    for (const std::int64_t in_flight : {1, 8, 32, 64, 256}) all.push_back({leaf_tables, in_flight});
    for (const std::int64_t in_flight : {1, 64}) few.push_back({leaf_tables, in_flight});
  }
  add_walks<Library>(all);
  add_walks<LibraryThroughC>(few);
  add_walks<QemuTranslator>(single);
  add_floor<Loads>(single);
  add_floor<Chase>(single);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
