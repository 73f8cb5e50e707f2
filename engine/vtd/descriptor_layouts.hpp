// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Invalidation Descriptors": the 128-bit kinds 1 to 5, each two words. The type stands in two pieces, bits
// 11:9 over bits 3:0, in every descriptor.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::vtd {

/// The first word of any descriptor, as far as all agree.
struct DescriptorHead {
  std::uint64_t raw = 0;
};
namespace descriptor_head {
// clang-format off
inline constexpr Field<DescriptorHead, unsigned>      type_low  {"Type",   { 3,  0}};
inline constexpr Field<DescriptorHead, unsigned>      other_4   {"",       { 8,  4}, Rule::ignored};
inline constexpr Field<DescriptorHead, unsigned>      type_high {"Type",   {11,  9}};
inline constexpr Field<DescriptorHead, std::uint64_t> other_12  {"",       {63, 12}, Rule::ignored};
// clang-format on
inline constexpr auto rows = layout(type_low, other_4, type_high, other_12);
}  // namespace descriptor_head

/// A second (or third, fourth) word that holds nothing.
struct DescriptorBlank {
  std::uint64_t raw = 0;
};
namespace descriptor_blank {
inline constexpr Field<DescriptorBlank, std::uint64_t> reserved{"Rsvd", {63, 0}, Rule::reserved};
inline constexpr auto rows = layout(reserved);
}  // namespace descriptor_blank

/// "Context-Cache Invalidate Descriptor".
struct ContextDescriptor {
  std::uint64_t raw = 0;
};
namespace context_descriptor {
// clang-format off
inline constexpr Field<ContextDescriptor, unsigned>           type_low      {"Type", { 3,  0}};
inline constexpr Field<ContextDescriptor, ContextGranularity> granularity   {"G",    { 5,  4}};
inline constexpr Field<ContextDescriptor, unsigned>           reserved_6    {"Rsvd", { 8,  6}, Rule::reserved};
inline constexpr Field<ContextDescriptor, unsigned>           type_high     {"Type", {11,  9}};
inline constexpr Field<ContextDescriptor, unsigned>           reserved_12   {"Rsvd", {15, 12}, Rule::reserved};
inline constexpr Field<ContextDescriptor, DomainId>           domain        {"DID",  {31, 16}};
inline constexpr Field<ContextDescriptor, SourceId>           source        {"SID",  {47, 32}};
inline constexpr Field<ContextDescriptor, unsigned>           function_mask {"FM",   {49, 48}};
inline constexpr Field<ContextDescriptor, unsigned>           reserved_50   {"Rsvd", {63, 50}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(type_low, granularity, reserved_6, type_high, reserved_12, domain, source, function_mask, reserved_50);
}  // namespace context_descriptor

/// "IOTLB Invalidate Descriptor", first word.
struct IotlbDescriptorLow {
  std::uint64_t raw = 0;
};
namespace iotlb_descriptor_low {
using Low = IotlbDescriptorLow;
// clang-format off
inline constexpr Field<Low, unsigned>         type_low     {"Type", { 3,  0}};
inline constexpr Field<Low, IotlbGranularity> granularity  {"G",    { 5,  4}};
inline constexpr Field<Low, bool>             drain_writes {"DW",   { 6,  6}};
inline constexpr Field<Low, bool>             drain_reads  {"DR",   { 7,  7}};
inline constexpr Field<Low, bool>             reserved_8   {"Rsvd", { 8,  8}, Rule::reserved};
inline constexpr Field<Low, unsigned>         type_high    {"Type", {11,  9}};
inline constexpr Field<Low, unsigned>         reserved_12  {"Rsvd", {15, 12}, Rule::reserved};
inline constexpr Field<Low, DomainId>         domain       {"DID",  {31, 16}};
inline constexpr Field<Low, std::uint32_t>    reserved_32  {"Rsvd", {63, 32}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(type_low, granularity, drain_writes, drain_reads, reserved_8, type_high, reserved_12, domain, reserved_32);
}  // namespace iotlb_descriptor_low

/// "IOTLB Invalidate Descriptor", second word. Address bits from MGAW on are ignored.
struct IotlbDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace iotlb_descriptor_high {
using High = IotlbDescriptorHigh;
// clang-format off
inline constexpr Field<High, unsigned> address_mask {"AM",   { 5,  0}};
inline constexpr Field<High, bool>     hint         {"IH",   { 6,  6}};
inline constexpr Field<High, unsigned> reserved     {"Rsvd", {11,  7}, Rule::reserved};
inline constexpr Field<High, Iova>     address      {"ADDR", {63, 12}};
// clang-format on
inline constexpr auto rows = layout(address_mask, hint, reserved, address);
}  // namespace iotlb_descriptor_high

/// "Device-TLB Invalidate Descriptor", first word. PFSID is reserved without ECAP.DIT.
struct DeviceTlbDescriptorLow {
  std::uint64_t raw = 0;
};
namespace device_tlb_descriptor_low {
using Low = DeviceTlbDescriptorLow;
// clang-format off
inline constexpr Field<Low, unsigned> type_low      {"Type",        { 3,  0}};
inline constexpr Field<Low, unsigned> reserved_4    {"Rsvd",        { 8,  4}, Rule::reserved};
inline constexpr Field<Low, unsigned> type_high     {"Type",        {11,  9}};
inline constexpr Field<Low, unsigned> function_low  {"PFSID[3:0]",  {15, 12}};
inline constexpr Field<Low, unsigned> max_pending   {"MIP",         {20, 16}};
inline constexpr Field<Low, unsigned> reserved_21   {"Rsvd",        {31, 21}, Rule::reserved};
inline constexpr Field<Low, SourceId> source        {"SID",         {47, 32}};
inline constexpr Field<Low, unsigned> reserved_48   {"Rsvd",        {51, 48}, Rule::reserved};
inline constexpr Field<Low, unsigned> function_high {"PFSID[15:4]", {63, 52}};
// clang-format on
inline constexpr auto rows =
    layout(type_low, reserved_4, type_high, function_low, max_pending, reserved_21, source, reserved_48, function_high);
}  // namespace device_tlb_descriptor_low

/// "Device-TLB Invalidate Descriptor", second word.
struct DeviceTlbDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace device_tlb_descriptor_high {
using High = DeviceTlbDescriptorHigh;
// clang-format off
inline constexpr Field<High, bool>     size     {"S",    { 0,  0}};
inline constexpr Field<High, unsigned> reserved {"Rsvd", {11,  1}, Rule::reserved};
inline constexpr Field<High, Iova>     address  {"ADDR", {63, 12}};
// clang-format on
inline constexpr auto rows = layout(size, reserved, address);
}  // namespace device_tlb_descriptor_high

/// "Interrupt Entry Cache Invalidate Descriptor".
struct InterruptEntryDescriptor {
  std::uint64_t raw = 0;
};
namespace interrupt_entry_descriptor {
using Entry = InterruptEntryDescriptor;
// clang-format off
inline constexpr Field<Entry, unsigned>      type_low    {"Type", { 3,  0}};
inline constexpr Field<Entry, bool>          by_index    {"G",    { 4,  4}};
inline constexpr Field<Entry, unsigned>      reserved_5  {"Rsvd", { 8,  5}, Rule::reserved};
inline constexpr Field<Entry, unsigned>      type_high   {"Type", {11,  9}};
inline constexpr Field<Entry, unsigned>      reserved_12 {"Rsvd", {26, 12}, Rule::reserved};
inline constexpr Field<Entry, unsigned>      index_mask  {"IM",   {31, 27}};
inline constexpr Field<Entry, std::uint16_t> index       {"IIDX", {47, 32}};
inline constexpr Field<Entry, unsigned>      reserved_48 {"Rsvd", {63, 48}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(type_low, by_index, reserved_5, type_high, reserved_12, index_mask, index, reserved_48);
}  // namespace interrupt_entry_descriptor

/// "Invalidation Wait Descriptor", first word. PD is reserved without ECAP.PDS.
struct WaitDescriptorLow {
  std::uint64_t raw = 0;
};
namespace wait_descriptor_low {
using Low = WaitDescriptorLow;
// clang-format off
inline constexpr Field<Low, unsigned>      type_low     {"Type", { 3,  0}};
inline constexpr Field<Low, bool>          interrupt    {"IF",   { 4,  4}};
inline constexpr Field<Low, bool>          status_write {"SW",   { 5,  5}};
inline constexpr Field<Low, bool>          fence        {"FN",   { 6,  6}};
inline constexpr Field<Low, bool>          page_drain   {"PD",   { 7,  7}};
inline constexpr Field<Low, bool>          reserved_8   {"Rsvd", { 8,  8}, Rule::reserved};
inline constexpr Field<Low, unsigned>      type_high    {"Type", {11,  9}};
inline constexpr Field<Low, unsigned>      reserved_12  {"Rsvd", {31, 12}, Rule::reserved};
inline constexpr Field<Low, std::uint32_t> status_data  {"Data", {63, 32}};
// clang-format on
inline constexpr auto rows =
    layout(type_low, interrupt, status_write, fence, page_drain, reserved_8, type_high, reserved_12, status_data);
}  // namespace wait_descriptor_low

/// "Invalidation Wait Descriptor", second word. Address bits from the host address width on are ignored.
struct WaitDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace wait_descriptor_high {
inline constexpr Field<WaitDescriptorHigh, unsigned> reserved{"Rsvd", {1, 0}, Rule::reserved};
inline constexpr Field<WaitDescriptorHigh, Gpa> status_address{"Addr", {63, 2}};
inline constexpr auto rows = layout(reserved, status_address);
}  // namespace wait_descriptor_high

}  // namespace viommu::vtd
