// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/config_space.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "engine/base/bits.hpp"

namespace viommu::virtio_iommu {
namespace {

constexpr bool is_access(unsigned size) noexcept { return size == 1 || size == 2 || size == 4 || size == 8; }

}  // namespace

std::uint64_t ConfigSpace::read(std::uint64_t offset, unsigned size) const noexcept {
  if (!is_access(size) || offset >= sizeof(ConfigLayout)) return 0;
  const ConfigLayout layout{values_.page_size_mask,
                            values_.input.first.value,
                            values_.input.last.value,
                            values_.domains.first.value,
                            values_.domains.last.value,
                            values_.probe_size,
                            static_cast<std::uint8_t>(bypass_ ? 1 : 0),
                            {}};
  std::array<std::byte, sizeof layout> bytes{};
  std::memcpy(bytes.data(), &layout, sizeof layout);
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + offset, std::min<std::size_t>(size, sizeof layout - offset));
  return value;
}

ConfigWrite ConfigSpace::write(std::uint64_t offset, unsigned size, std::uint64_t value, Features negotiated) noexcept {
  constexpr std::uint64_t bypass_offset = offsetof(ConfigLayout, bypass);
  // Read-only fields that a wider write names beside it stay as they are.
  if (!is_access(size) || offset > bypass_offset || bypass_offset - offset >= size) return ConfigWrite::nothing;
  const auto lane = static_cast<unsigned>(bypass_offset - offset);
  const std::uint64_t wanted = from_byte_lane(value & byte_lanes(lane, 1), lane);
  if (wanted > 1 || !get(negotiated, features::bypass_config)) return ConfigWrite::driver_error;
  if ((wanted == 1) == bypass_) return ConfigWrite::nothing;
  bypass_ = !bypass_;
  return ConfigWrite::bypass;
}

}  // namespace viommu::virtio_iommu
