// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/callback.hpp"

namespace viommu::core {
namespace {
thread_local const CallbackScope* innermost = nullptr;
}

CallbackScope::CallbackScope(const void* engine) noexcept : engine_{engine}, outer_{innermost} { innermost = this; }

CallbackScope::~CallbackScope() { innermost = outer_; }

bool CallbackScope::inside(const void* engine) noexcept {
  for (const CallbackScope* scope = innermost; scope != nullptr; scope = scope->outer_)
    if (scope->engine_ == engine) return true;
  return false;
}

}  // namespace viommu::core
