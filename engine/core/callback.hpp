// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which engines this thread is calling back from. A call that a callback must not make asks here and answers BUSY.
#pragma once

namespace viommu::core {

/// Lives on the stack around each call of a host function.
class CallbackScope {
 public:
  explicit CallbackScope(const void* engine) noexcept;
  CallbackScope(const CallbackScope&) = delete;
  CallbackScope& operator=(const CallbackScope&) = delete;
  ~CallbackScope();

  /// Whether this thread is inside a callback of `engine`, at any depth (one engine's callback may call another
  /// engine).
  [[nodiscard]] static bool inside(const void* engine) noexcept;

 private:
  const void* engine_;
  const CallbackScope* outer_;
};

}  // namespace viommu::core
