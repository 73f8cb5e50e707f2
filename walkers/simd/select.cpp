// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The only code that looks at the CPU.
#include "walkers/simd/select.hpp"

#include "walkers/simd/kernels.hpp"

#include <array>
#include <cstddef>

namespace viommu::walkers {
namespace {

// The thread sanitizer sees no vector load and no assembler: a race of theirs would be neither found nor ruled out, so
// that under it only the kernel of plain atomic loads exists.
#if defined(__SANITIZE_THREAD__)
constexpr bool vectors_allowed = false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool vectors_allowed = false;
#else
constexpr bool vectors_allowed = true;
#endif
#else
constexpr bool vectors_allowed = true;
#endif

/// What runs here: this CPU has it and its operating system keeps the registers.
class Runnable {
 public:
  Runnable() noexcept {
    add(scalar_kernels);
#if defined(__x86_64__)
    if (vectors_allowed && has_avx2()) add(avx2_kernels);
    if (vectors_allowed && has_avx512()) add(avx512_kernels);
#elif defined(__aarch64__)
    if (vectors_allowed) add(neon_kernels);
#endif
  }

  [[nodiscard]] std::span<const Kernels* const> all() const noexcept { return {kernels_.data(), count_}; }
  [[nodiscard]] const Kernels* best() const noexcept { return best_; }

 private:
#if defined(__x86_64__)
  static bool has_avx2() noexcept { return __builtin_cpu_supports("avx2") != 0; }
  static bool has_avx512() noexcept {
    return has_avx2() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512cd") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512vl") != 0;
  }
#endif
  void add(const Kernels& kernels) noexcept {
    best_ = &kernels;
    kernels_[count_++] = &kernels;
  }
  void add(const std::array<Kernels, 2>& plain_and_gather) noexcept {
    add(plain_and_gather[0]);
    kernels_[count_++] = &plain_and_gather[1];
  }

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
