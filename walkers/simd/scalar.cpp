// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The kernel that every build has: one walk after another.
#include "walkers/format/second_stage.hpp"
#include "walkers/simd/kernels.hpp"
#include "walkers/walk_one.hpp"

#include <cstddef>

namespace viommu::walkers {
namespace {

void walk(const MemoryView& memory, const SecondStageMasks& masks, Fill fill, const WalkRequest* requests,
          WalkAnswer* answers, std::size_t count) noexcept {
  const SecondStage format{masks};
  for (std::size_t i = 0; i < count; ++i) answers[i] = walk_one(format, memory, fill, requests[i]);
}

}  // namespace

constinit const Kernels scalar_kernels{"scalar", walk};

}  // namespace viommu::walkers
