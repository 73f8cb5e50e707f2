// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// IOTLB messages as the kernel's binary interface has them; vhost-user sends the inner struct alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::vhost {

struct IotlbMessage {
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
  std::uint64_t uaddr = 0;
  std::uint8_t perm = 0;  // 1 read, 2 write
  std::uint8_t type = 0;
  std::array<std::uint8_t, 6> unused{};
};
static_assert(sizeof(IotlbMessage) == 32 && offsetof(IotlbMessage, type) == 25);

/// The second word belongs to the second form.
struct Envelope {
  std::uint32_t form = 0;
  std::uint32_t asid = 0;
  IotlbMessage iotlb;
  std::array<std::uint8_t, 32> padding{};
};
static_assert(sizeof(Envelope) == 72 && offsetof(Envelope, iotlb) == 8);

}  // namespace viommu::vhost
