// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The reviewed list of what QEMU 7.2 does otherwise than the specification says.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "tests/qemu/observation.hpp"

namespace viommu::qemu {

/// One of them. Exactly one of the three predicates is there; it is as narrow as the reason allows.
struct Difference {
  const char* id;
  const char* qemu;           ///< what QEMU 7.2 does
  const char* specification;  ///< what is right, and where it is written
  bool (*dma)(const DmaObservation&) = nullptr;
  bool (*registers)(const RegisterObservation&) = nullptr;
  bool (*descriptor)(const DescriptorObservation&) = nullptr;
};

[[nodiscard]] std::span<const Difference> differences();

/// Index of the first that explains it; nothing when none does.
[[nodiscard]] std::optional<std::size_t> explain(const DmaObservation& seen);
[[nodiscard]] std::optional<std::size_t> explain(const RegisterObservation& seen);
[[nodiscard]] std::optional<std::size_t> explain(const DescriptorObservation& seen);

}  // namespace viommu::qemu
