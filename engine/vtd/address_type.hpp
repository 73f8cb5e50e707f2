// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the address of a request is: AT of its header, and of the record of its fault.
#pragma once

#include <cstdint>

namespace viommu::vtd {

/// "Fault Recording Registers", AT.
enum class AddressType : std::uint8_t { untranslated = 0, translation_request = 1, translated = 2 };

}  // namespace viommu::vtd
