// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Virtio, "Split Virtqueues", as a device uses them. Each function fails once and for all: `ring.problem` says why.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/virtqueue/chain.hpp"
#include "engine/virtqueue/memory.hpp"
#include "engine/virtqueue/ring.hpp"

namespace viommu::virtqueue::split {

/// The next chain that the driver made available. Reads at most `Chain::most_segments` descriptors of the ring, and as
/// many of a table, each once.
[[nodiscard]] Taken take(Ring& ring, const Memory& memory, Chain& chain) noexcept;
/// Gives a chain back, and shows it to the driver.
[[nodiscard]] bool put(Ring& ring, const Memory& memory, Token token, std::uint32_t used_bytes) noexcept;
/// Whether the driver wants to be notified of what was put since it was last asked. Nothing: broken.
[[nodiscard]] std::optional<bool> wants_notification(Ring& ring, const Memory& memory) noexcept;
/// Asks the driver to notify of chains from the next one on. Afterwards a fence, and a look at the ring.
[[nodiscard]] bool listen(Ring& ring, const Memory& memory) noexcept;
/// Asks it not to. Without an event index: with one, the event that was asked for lies behind when a chain is taken.
[[nodiscard]] bool hush(Ring& ring, const Memory& memory) noexcept;

}  // namespace viommu::virtqueue::split
