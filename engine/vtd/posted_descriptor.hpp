// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Posted Interrupt Descriptor": 64 bytes of guest memory in which interrupts wait for a virtual processor.
//
//   bits 255:0  PIR, one for each vector | 256 ON | 257 SN | 279:272 NV | 319:288 NDST | all others reserved
//
// A post sets the vector's bit, then ON; each in one atomic step on its word, so that nothing that the guest or another
// post does to the other bits is lost. Bit before ON: whoever takes ON away and then looks at PIR, as a guest does,
// finds the bit or is notified again.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/guest_memory.hpp"

namespace viommu::vtd {

inline constexpr unsigned posted_descriptor_bytes = 64;

/// Bits 319:256. In extended mode (EIME) NDST is a 32-bit APIC id.
struct PostedControl {
  std::uint64_t raw = 0;
};
namespace posted_control {
using C = PostedControl;
// clang-format off
inline constexpr Field<C, bool>          outstanding {"ON",   { 0,  0}};
inline constexpr Field<C, bool>          suppress    {"SN",   { 1,  1}};
inline constexpr Field<C, unsigned>      reserved_2  {"Rsvd", {15,  2}, Rule::reserved};
inline constexpr Field<C, std::uint8_t>  vector      {"NV",   {23, 16}};
inline constexpr Field<C, unsigned>      reserved_24 {"Rsvd", {31, 24}, Rule::reserved};
inline constexpr Field<C, std::uint32_t> destination {"NDST", {63, 32}};
inline constexpr Field<C, unsigned>      reserved_32 {"Rsvd", {39, 32}, Rule::reserved};  // EIME clear:
inline constexpr Field<C, std::uint8_t>  xapic       {"NDST", {47, 40}};
inline constexpr Field<C, unsigned>      reserved_48 {"Rsvd", {63, 48}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(outstanding, suppress, reserved_2, vector, reserved_24, destination);
inline constexpr auto xapic_rows =
    layout(outstanding, suppress, reserved_2, vector, reserved_24, reserved_32, xapic, reserved_48);
}  // namespace posted_control

/// What an entry in posted form asks for.
struct Posting {
  Gpa descriptor;  ///< aligned to 64 bytes
  std::uint8_t vector = 0;
  bool urgent = false;    ///< URG: notify even where SN is set
  bool extended = false;  ///< EIME
};

struct Posted {
  FaultReason fault = FaultReason::none;  ///< 27h or 28h; nothing is written with 28h
  bool notify = false;
  std::uint8_t vector = 0;        ///< NV
  std::uint32_t destination = 0;  ///< NDST as an APIC id
};

/// Posts one interrupt: 3 loads of up to 16 bytes and, in mapped memory, at most 6 atomic steps, whatever the guest
/// does meanwhile.
[[nodiscard]] Posted post(const GuestMemory& memory, const Posting& posting) noexcept;

}  // namespace viommu::vtd
