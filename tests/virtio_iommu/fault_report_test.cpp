// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/fault_report.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>

namespace viommu::virtio_iommu {
namespace {

using Printed = std::array<std::uint8_t, 24>;

Printed printed(const FaultReport& report) {
  Printed bytes{};
  const FaultBytes encoded = encode(report);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::to_integer<std::uint8_t>(encoded[i]);
  return bytes;
}

TEST_CASE("a fault report is 24 bytes as printed", "[virtio-iommu][fault][S4.8]") {
  // An endpoint 0x0300 without a domain reads at 0x5000, then writes.
  CHECK(printed({FaultReason::domain, read_only, {0x0300}, {0x5000}}) ==
        Printed{1, 0, 0, 0, 1, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0});
  CHECK(printed({FaultReason::domain, write_only, {0x0300}, {0x5000}}) ==
        Printed{1, 0, 0, 0, 2, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0});
  CHECK(printed({FaultReason::mapping, read_write, {0x87654321}, {0x1122334455667788}}) ==
        Printed{2, 0, 0, 0, 3,    1,    0,    0,    0x21, 0x43, 0x65, 0x87,
                0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11});
  CHECK(printed({FaultReason::unknown, {}, {}, {}}) ==
        Printed{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
}

}  // namespace
}  // namespace viommu::virtio_iommu
