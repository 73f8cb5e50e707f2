// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who keeps something of its own equal to what is translated (a consumer's shadow), and is told what has been dropped.
#pragma once

#include <cstdint>
#include <span>

#include "caches/scope.hpp"
#include "engine/base/atomic.hpp"

namespace viommu::core {

/// Called when the caches no longer serve what is named and before the guest can see the completion. No lock is held.
/// Memory that is taken away (Waist::remove_region) is not told of here.
/// Threads: pages() of different domains may run at the same time, on any thread of the host's executor; of one domain
/// never. other() runs on whatever thread drops.
struct DropListener {
  void* opaque = nullptr;
  /// Ranges of one domain, in the order of the guest's commands but for what was merged or covered; `all_iovas` is the
  /// whole domain, or all of a PASID where one is named. An empty function: nobody listens.
  void (*pages)(void* opaque, std::span<const caches::PageScope> scopes) = nullptr;
  /// Anything that is not a set of ranges of one domain.
  void (*other)(void* opaque, const caches::Scope& scope) = nullptr;
  /// What one range costs the listener by now, about: decides when other threads are worth their call. Null: nothing.
  const Atomic<std::uint32_t>* range_ns = nullptr;
};

}  // namespace viommu::core
