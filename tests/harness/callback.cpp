// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// In place of engine/core/callback.cpp: what is inside a host function is a fiber here, not a thread.
#include "engine/core/callback.hpp"

#include <array>

#include "tests/harness/simulator.hpp"

namespace viommu::core {
namespace {

std::array<const CallbackScope*, harness::most_fibers> innermost{};

[[nodiscard]] const CallbackScope*& here() noexcept { return innermost[harness::simulator().fiber()]; }

}  // namespace

CallbackScope::CallbackScope(const void* engine) noexcept : engine_{engine}, outer_{here()} { here() = this; }
CallbackScope::~CallbackScope() { here() = outer_; }
bool CallbackScope::inside(const void* engine) noexcept {
  const CallbackScope* scope = here();
  while (scope != nullptr && scope->engine_ != engine) scope = scope->outer_;
  return scope != nullptr;
}

}  // namespace viommu::core
