// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Commands of the register window, as the worker takes them over: what is to become of a level is told where one was
// asked for. Source: VT-d, "Global Command Register" and its neighbours.
#pragma once

#include <optional>

#include "engine/vtd/invalidation.hpp"

namespace viommu::vtd {

struct Commands {
  bool write_buffer = false;
  bool root_pointer = false;
  bool interrupt_table = false;
  std::optional<bool> compatibility_format;
  std::optional<bool> queue;
  std::optional<bool> interrupt_remapping;
  std::optional<bool> translation;
  std::optional<bool> protected_memory;
  std::optional<ContextInvalidation> context;
  std::optional<IotlbInvalidation> iotlb;

  [[nodiscard]] bool of_translation() const noexcept { return root_pointer || translation || protected_memory; }
  [[nodiscard]] bool of_interrupts() const noexcept {
    return interrupt_table || compatibility_format || interrupt_remapping;
  }
};

}  // namespace viommu::vtd
