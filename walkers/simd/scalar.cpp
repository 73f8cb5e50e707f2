// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The kernel that every build has, of plain atomic loads: all walks of a group down to their leaf tables, then their
// leaves, which were on their way to the cache meanwhile. The lanes' kernel over one lane takes three times as long: what
// masks save in a vector they cost in a word.
#include "walkers/format/second_stage.hpp"
#include "walkers/simd/kernels.hpp"
#include "walkers/walk_one.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {
namespace {

void walk_single(const MemoryView& memory, const SecondStageMasks& masks, Fill fill, const WalkRequest& request,
                 WalkAnswer& answer) noexcept {
  const SecondStage format{masks};
  walk_one(format, memory, fill, request, answer, LeafLineByWords{format});
}

void walk(const MemoryView& memory, const SecondStageMasks& masks, Fill fill, const WalkRequest* requests,
          WalkAnswer* answers, std::size_t count) noexcept {
  if (count == 1) return walk_single(memory, masks, fill, *requests, *answers);
  constexpr std::size_t group = 64;  // as many misses as a core keeps open, and some to follow
  const SecondStage format{masks};
  const WalkOne one{format, memory};
  const LeafLineByWords read_line{format};
  std::array<Path, group> paths;
  while (count != 0) {
    const std::size_t here = std::min(count, group);
    std::uint64_t going_on = 0;
    for (std::size_t i = 0; i < here; ++i) {
      if (!one.descend(requests[i], paths[i], answers[i])) continue;
      going_on |= std::uint64_t{1} << i;
      __builtin_prefetch(one.leaf_of(requests[i], paths[i]));
    }
    for (; going_on != 0; going_on &= going_on - 1) {
      const auto i = static_cast<std::size_t>(std::countr_zero(going_on));
      one.finish(requests[i], paths[i], fill, read_line, answers[i]);
    }
    requests += here;
    answers += here;
    count -= here;
  }
  std::atomic_thread_fence(std::memory_order_acquire);  // as in walk_one()
}

}  // namespace

constinit const Kernels scalar_kernels{"scalar", walk, walk_single};

}  // namespace viommu::walkers
