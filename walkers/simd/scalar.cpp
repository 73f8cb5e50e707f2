// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The kernel that every build has: one walk after another.
#include "walkers/format/second_stage.hpp"
#include "walkers/simd/kernels.hpp"
#include "walkers/walk_one.hpp"

#include <cstddef>

namespace viommu::walkers {
namespace {

void walk_single(const MemoryView& memory, const SecondStageMasks& masks, Fill fill, const WalkRequest& request,
                 WalkAnswer& answer) noexcept {
  const SecondStage format{masks};
  walk_one(format, memory, fill, request, answer, LeafLineByWords{format});
}

void walk(const MemoryView& memory, const SecondStageMasks& masks, Fill fill, const WalkRequest* requests,
          WalkAnswer* answers, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) walk_single(memory, masks, fill, requests[i], answers[i]);
}

}  // namespace

constinit const Kernels scalar_kernels{"scalar", walk, walk_single};

}  // namespace viommu::walkers
