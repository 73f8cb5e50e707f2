// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Page Request Queue Registers" and "Page Request Descriptor".
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"

namespace viommu::vtd {

inline constexpr std::uint32_t page_request_bytes = 32;  ///< of a descriptor; bits 255:128 are 0

/// PQH_REG and PQT_REG.
struct PageQueuePointer {
  std::uint64_t raw = 0;
};
namespace page_queue_pointer {
// clang-format off
inline constexpr Field<PageQueuePointer, unsigned>      reserved_0  {"Rsvd",  { 4,  0}, Rule::reserved};
inline constexpr Field<PageQueuePointer, std::uint32_t> entry       {"Entry", {18,  5}};
inline constexpr Field<PageQueuePointer, std::uint64_t> reserved_19 {"Rsvd",  {63, 19}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(reserved_0, entry, reserved_19);
}  // namespace page_queue_pointer

/// PQA_REG. The queue has 2^(PQS + 7) entries.
struct PageQueueAddress {
  std::uint64_t raw = 0;
};
namespace pqa {
// clang-format off
inline constexpr Field<PageQueueAddress, unsigned> size       {"PQS",  { 2,  0}};
inline constexpr Field<PageQueueAddress, unsigned> reserved_3 {"Rsvd", {11,  3}, Rule::reserved};
inline constexpr Field<PageQueueAddress, Gpa>      base       {"PQA",  {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(size, reserved_3, base);
}  // namespace pqa

/// PRS_REG.
struct PageRequestStatus {
  std::uint32_t raw = 0;
};
namespace prs {
// clang-format off
inline constexpr Field<PageRequestStatus, bool>     pending  {"PPR",  { 0,  0}};
inline constexpr Field<PageRequestStatus, bool>     overflow {"PRO",  { 1,  1}};
inline constexpr Field<PageRequestStatus, unsigned> reserved {"Rsvd", {31,  2}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(pending, overflow, reserved);
}  // namespace prs

/// "Page Request Descriptor", bits 63:0.
struct PageRequestLow {
  std::uint64_t raw = 0;
};
namespace page_request_low {
// clang-format off
inline constexpr Field<PageRequestLow, unsigned> type        {"Type", { 7,  0}};
inline constexpr Field<PageRequestLow, bool>     has_pasid   {"PP",   { 8,  8}};
inline constexpr Field<PageRequestLow, unsigned> reserved_9  {"Rsvd", {15,  9}, Rule::reserved};
inline constexpr Field<PageRequestLow, SourceId> source      {"RID",  {31, 16}};
inline constexpr Field<PageRequestLow, Pasid>    pasid       {"PASID",{51, 32}};
inline constexpr Field<PageRequestLow, bool>     execute     {"EXR",  {52, 52}};
inline constexpr Field<PageRequestLow, bool>     privileged  {"PMR",  {53, 53}};
inline constexpr Field<PageRequestLow, unsigned> reserved_54 {"Rsvd", {63, 54}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(type, has_pasid, reserved_9, source, pasid, execute, privileged, reserved_54);
inline constexpr unsigned page_request_type = 1;
}  // namespace page_request_low

/// "Page Request Descriptor", bits 127:64.
struct PageRequestHigh {
  std::uint64_t raw = 0;
};
namespace page_request_high {
// clang-format off
inline constexpr Field<PageRequestHigh, bool>     read    {"RDR",  { 0,  0}};
inline constexpr Field<PageRequestHigh, bool>     write   {"WRR",  { 1,  1}};
inline constexpr Field<PageRequestHigh, bool>     last    {"LPIG", { 2,  2}};
inline constexpr Field<PageRequestHigh, unsigned> group   {"PRGI", {11,  3}};
inline constexpr Field<PageRequestHigh, Iova>     address {"ADDR", {63, 12}};
// clang-format on
inline constexpr auto rows = layout(read, write, last, group, address);
}  // namespace page_request_high

}  // namespace viommu::vtd
