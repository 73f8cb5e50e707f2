// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/reply.hpp"

#include <algorithm>
#include <array>

namespace viommu::virtio_iommu {

std::optional<Decoded> read_request(const virtqueue::Memory& memory, const virtqueue::Chain& chain, Features negotiated,
                                    std::uint32_t probe_size, RequestBytes& bytes) noexcept {
  bytes = {};
  const BufferSize size{chain.readable_bytes(), chain.writable_bytes()};
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(size.readable, bytes.size()));
  if (!chain.read(memory, 0, std::span{bytes}.first(count))) return std::nullopt;
  return decode(bytes, size, negotiated, probe_size);
}

std::optional<std::uint32_t> write_reply(const virtqueue::Memory& memory, const virtqueue::Chain& chain,
                                         std::uint32_t tail_offset, Status status,
                                         std::span<const std::byte> properties) noexcept {
  constexpr std::array<std::byte, 64> zeros{};
  if (!chain.write(memory, 0, properties)) return std::nullopt;
  for (std::size_t at = properties.size(); at < tail_offset;) {  // at most probe_size bytes
    const std::size_t count = std::min(zeros.size(), tail_offset - at);
    if (!chain.write(memory, at, std::span{zeros}.first(count))) return std::nullopt;
    at += count;
  }
  const RequestTail tail{status, {}};
  if (!chain.write(memory, tail_offset, std::as_bytes(std::span{&tail, 1}))) return std::nullopt;
  return tail_offset + static_cast<std::uint32_t>(sizeof tail);
}

}  // namespace viommu::virtio_iommu
