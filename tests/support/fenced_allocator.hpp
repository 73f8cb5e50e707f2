// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A host allocator whose blocks end where an inaccessible page begins: no access behind one survives.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <utility>

#include "engine/base/host_memory.hpp"
#include "tests/support/guarded_region.hpp"

namespace viommu::test {

/// Threads: one at a time. A block takes whole pages: for few of them.
class FencedAllocator {
 public:
  FencedAllocator() = default;
  FencedAllocator(const FencedAllocator&) = delete;
  FencedAllocator& operator=(const FencedAllocator&) = delete;

  [[nodiscard]] HostAllocator functions() noexcept {
    return {this,
            [](void* self, std::size_t size, std::size_t alignment) {
              return static_cast<FencedAllocator*>(self)->allocate(size, alignment);
            },
            [](void* self, void* memory, std::size_t, std::size_t) {
              static_cast<FencedAllocator*>(self)->open_.erase(memory);
            }};
  }

 private:
  [[nodiscard]] void* allocate(std::size_t size, std::size_t alignment) {
    constexpr std::size_t page = 4096;
    const std::size_t whole = (size + page - 1) / page * page;
    auto region = std::make_unique<GuardedRegion>(0, whole);
    // Sizes are multiples of the alignment but for small blocks, so that nothing is left between end and fence.
    void* const memory = region->data() + (whole - size) / alignment * alignment;
    open_.emplace(memory, std::move(region));
    return memory;
  }

  std::unordered_map<void*, std::unique_ptr<GuardedRegion>> open_;
};

}  // namespace viommu::test
