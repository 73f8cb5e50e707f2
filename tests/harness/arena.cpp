// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include <array>
#include <cstdlib>

#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

constexpr std::size_t arena_bytes = std::size_t{4} * 1024 * 1024;
alignas(4096) std::array<std::byte, arena_bytes> memory;
std::size_t taken = 0;

}  // namespace

void* take_from_arena(std::size_t bytes, std::size_t alignment) noexcept {
  taken = (taken + alignment - 1) / alignment * alignment;
  if (bytes > arena_bytes - taken) std::abort();
  void* const start = &memory[taken];
  taken += bytes;
  return start;
}

void take_back_arena() noexcept { taken = 0; }

HostAllocator arena() noexcept {
  return {nullptr,
          [](void* /*opaque*/, std::size_t size, std::size_t alignment) { return take_from_arena(size, alignment); },
          [](void* /*opaque*/, void* /*memory*/, std::size_t /*size*/, std::size_t /*alignment*/) {}};
}

}  // namespace viommu::harness
