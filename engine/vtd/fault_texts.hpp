// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Fault reasons in words, for people.
#pragma once

#include <string_view>

#include "engine/base/fault.hpp"

namespace viommu::vtd {

/// What a code stands for; "unknown reason" for one that is none.
[[nodiscard]] std::string_view text_of(FaultReason reason) noexcept;

}  // namespace viommu::vtd
