// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A host whose memory is counted, and fails when it is told to.
#pragma once

#include <catch2/catch.hpp>
#include <cstddef>

#include "engine/include/viommu/viommu.h"
#include "tests/support/counting_allocator.hpp"

namespace viommu::test {

/// One at a time: a machine of tests has its own use for what a host is called with. To be made before the machine;
/// when it ends, all has to be back.
class CountedHost {
 public:
  CountedHost() { in_force = &allocator; }
  CountedHost(const CountedHost&) = delete;
  CountedHost& operator=(const CountedHost&) = delete;
  ~CountedHost() {
    CHECK(allocator.open_blocks() == 0);
    CHECK(allocator.mistakes() == 0);
    in_force = nullptr;
  }

  [[nodiscard]] static viommu_host functions() {
    viommu_host host{};
    host.size = sizeof host;
    host.allocate = [](void*, std::size_t size, std::size_t alignment) { return in_force->allocate(size, alignment); };
    host.deallocate = [](void*, void* memory, std::size_t size, std::size_t alignment) {
      in_force->deallocate(memory, size, alignment);
    };
    return host;
  }

  CountingAllocator allocator;

 private:
  inline static CountingAllocator* in_force = nullptr;
};

}  // namespace viommu::test
