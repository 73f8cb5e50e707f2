// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the address of a request is: AT of its header, and of a VT-d fault record.
#pragma once

#include <cstdint>

namespace viommu {

/// PCI Express, "Address Type" of a memory request; VT-d, "Fault Recording Registers", AT.
enum class AddressType : std::uint8_t { untranslated = 0, translation_request = 1, translated = 2 };

}  // namespace viommu
