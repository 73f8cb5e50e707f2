// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where the register file keeps the registers that a capability places: behind those of fixed places.
// Included by the register file's own sources only.
#pragma once

#include <cstdint>

namespace viommu::vtd::place {

inline constexpr std::uint32_t invalidate_address = 0x100;  ///< IVA_REG
inline constexpr std::uint32_t iotlb_command = 0x108;       ///< IOTLB_REG
inline constexpr std::uint32_t iotlb_bytes = 16;            ///< both

}  // namespace viommu::vtd::place
