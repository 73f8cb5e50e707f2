// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which batch kernel runs here.
#pragma once

#include "walkers/batch.hpp"

#include <span>
#include <string_view>

namespace viommu::walkers {

/// The kernels by name: "scalar" everywhere, "avx2", "avx512" and the same with "-gather" on x86-64, "neon" on aarch64.
/// An empty name is the best that this CPU and its operating system have, never a gather: vector checks over scalar
/// loads are as fast, faster from DRAM, and gathers are slow where their microcode was mended (CVE-2022-40982).
/// @return null for a name that this build does not have or this CPU cannot run
[[nodiscard]] const Kernels* select_kernels(std::string_view name = {}) noexcept;

/// All that this machine can run, the scalar ones first. For tests.
[[nodiscard]] std::span<const Kernels* const> runnable_kernels() noexcept;

}  // namespace viommu::walkers
