// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How a request meets its buffer: the bytes out of the chain, the status into it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/virtio_iommu/request.hpp"
#include "engine/virtqueue/chain.hpp"
#include "engine/virtqueue/memory.hpp"

namespace viommu::virtio_iommu {

/// The request in a chain; its bytes are read once. Nothing: memory has gone.
/// @param bytes  receives those that mean anything, zeros behind them
[[nodiscard]] std::optional<Decoded> read_request(const virtqueue::Memory& memory, const virtqueue::Chain& chain,
                                                  Features negotiated, std::uint32_t probe_size,
                                                  RequestBytes& bytes) noexcept;

/// Writes a status, and before it `properties`, or zeros where there are none: what is reported as used is written.
/// Drivers look at a status only if the used length is all that they gave room for.
/// @param properties  empty, or tail_offset bytes
/// @return the used length; nothing: memory has gone
[[nodiscard]] std::optional<std::uint32_t> write_reply(const virtqueue::Memory& memory, const virtqueue::Chain& chain,
                                                       std::uint32_t tail_offset, Status status,
                                                       std::span<const std::byte> properties = {}) noexcept;

}  // namespace viommu::virtio_iommu
