// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Virtio, "Packed Virtqueues", as a device uses them. The functions are those of split_ring.hpp.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/virtqueue/chain.hpp"
#include "engine/virtqueue/memory.hpp"
#include "engine/virtqueue/ring.hpp"

namespace viommu::virtqueue::packed {

[[nodiscard]] Taken take(Ring& ring, const Memory& memory, Chain& chain) noexcept;
[[nodiscard]] bool put(Ring& ring, const Memory& memory, Token token, std::uint32_t used_bytes) noexcept;
[[nodiscard]] std::optional<bool> wants_notification(Ring& ring, const Memory& memory) noexcept;
[[nodiscard]] bool listen(Ring& ring, const Memory& memory) noexcept;
[[nodiscard]] bool hush(Ring& ring, const Memory& memory) noexcept;

}  // namespace viommu::virtqueue::packed
