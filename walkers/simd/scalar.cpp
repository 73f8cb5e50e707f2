// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The kernel that every build has, of plain atomic loads. The lanes' kernel over a single lane takes three times as
// long: what masks save in a vector they cost in a word.
#include "engine/base/streaming.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/nested_walk.hpp"
#include "walkers/second_stage_walk.hpp"
#include "walkers/simd/kernels.hpp"
#include "walkers/table_scan.hpp"
#include "walkers/walk_one.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {
namespace {

[[gnu::flatten]] void walk_single(const MemoryView& memory, const SecondStageMasks& masks, Fill fill,
                                  const WalkRequest& request, WalkAnswer& answer) noexcept {
  const SecondStage format{masks};
  walk_one(format, memory, fill, request, answer, LeafLineByWords{format});
}

[[gnu::flatten]] void walk(const MemoryView& memory, const SecondStageMasks& masks, Fill fill,
                           const WalkRequest* requests, WalkAnswer* answers, std::size_t count) noexcept {
  const SecondStage format{masks};
  while (count != 0) {
    const std::size_t some = std::min(count, walk_group_size);
    walk_group(format, memory, fill, requests, answers, some, LeafLineByWords{format});
    requests += some;
    answers += some;
    count -= some;
  }
}

[[gnu::flatten]] void walk_first(const FirstStage& format, const MemoryView& memory, const FirstStageRequest* requests,
                                 FirstStageAnswer* answers, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) answers[i] = walk_first_stage(format, memory, requests[i]);
}

[[gnu::flatten]] void walk_second(const SecondStage& format, const SecondStageControls& controls,
                                  const MemoryView& memory, const SecondStageRequest* requests,
                                  SecondStageAnswer* answers, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) answers[i] = walk_second_stage(format, controls, memory, requests[i]);
}

[[gnu::flatten]] void walk_both(const NestedStages& stages, const MemoryView& memory, const FirstStageRequest* requests,
                                NestedAnswer* answers, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) answers[i] = walk_nested(stages, memory, requests[i]);
}

[[gnu::flatten]] ScanResult scan(const std::byte* table, unsigned first, unsigned last, const ScanRules& rules,
                                 bool merge, MappedRun* runs) noexcept {
  return scan_table(table, first, last, rules, merge, runs);
}

[[gnu::flatten]] std::size_t spread(const MappedRun* runs, std::size_t count, const SpreadRules& rules,
                                    std::uint64_t* words) noexcept {
  return spread_runs(runs, count, rules, words);
}

[[gnu::flatten]] void stream(std::uint64_t* to, const std::uint64_t* from, std::size_t count) noexcept {
  viommu::stream_words(to, from, count);
}

}  // namespace

constinit const Kernels scalar_kernels{"scalar",  walk, walk_single, walk_first, walk_second,
                                       walk_both, scan, spread,      stream};

}  // namespace viommu::walkers
