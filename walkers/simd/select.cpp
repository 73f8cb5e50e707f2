// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The only code that looks at the CPU.
#include "walkers/simd/select.hpp"

#include <array>
#include <cstddef>

#include "walkers/simd/kernels.hpp"

namespace viommu::walkers {
namespace {

/// In the order of preference, the best last but for the gather forms, which only a name chooses.
class Runnable {
 public:
  Runnable() noexcept { add(scalar_kernels); }

  [[nodiscard]] std::span<const Kernels* const> all() const noexcept { return {kernels_.data(), count_}; }
  [[nodiscard]] const Kernels* best() const noexcept { return best_; }

 private:
  void add(const Kernels& kernels) noexcept {
    best_ = &kernels;
    add_named_only(kernels);
  }
  void add_named_only(const Kernels& kernels) noexcept { kernels_[count_++] = &kernels; }

  std::array<const Kernels*, 5> kernels_{};
  std::size_t count_ = 0;
  const Kernels* best_ = nullptr;
};

[[nodiscard]] const Runnable& runnable() noexcept {
  static const Runnable here;
  return here;
}

}  // namespace

std::span<const Kernels* const> runnable_kernels() noexcept { return runnable().all(); }

const Kernels* select_kernels(std::string_view name) noexcept {
  if (name.empty()) return runnable().best();
  for (const Kernels* const kernels : runnable_kernels())
    if (kernels->name == name) return kernels;
  return nullptr;
}

}  // namespace viommu::walkers
