// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From an event to its line.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "engine/trace/event.hpp"

namespace viommu::trace {

/// A line without a text of free length (cfg, X, C, Q, E, ready, plug, the name of a consumer or a hold) never takes
/// more, its line feed included.
inline constexpr std::size_t longest_line = 128;

/// Writes the event's line into `out`, ended by a line feed. An empty view when it does not fit, or when the event is
/// no line of the format (Nothing, Unknown).
[[nodiscard]] std::string_view format(const Event& event, std::span<char> out) noexcept;

}  // namespace viommu::trace
