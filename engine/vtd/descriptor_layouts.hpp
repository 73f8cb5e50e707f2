// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Invalidation Descriptors": what stands in the first two words of each. Kinds 1 to 5 have 128 bits, kinds 6 to
// 10 have 256; the third and fourth word of a slot of 256 bits are reserved in all of them. The type stands in two
// pieces, bits 11:9 over bits 3:0, in every descriptor.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::vtd {

/// The PASID-based IOTLB descriptor: what to drop. 0 and 1 are reserved.
enum class PasidIotlbGranularity : std::uint8_t { pasid = 2, page = 3 };

/// The PASID-cache descriptor: what to drop. 2 is reserved.
enum class PasidCacheGranularity : std::uint8_t { domain = 0, pasid = 1, global = 3 };

/// The host permission table descriptor: what to drop. 0 is reserved.
enum class HostPermissionGranularity : std::uint8_t { none = 0, global = 1, domain = 2, page = 3 };

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

/// "PASID-based IOTLB Invalidate Descriptor", first word.
struct PasidIotlbDescriptorLow {
  std::uint64_t raw = 0;
};
namespace pasid_iotlb_descriptor_low {
using Low = PasidIotlbDescriptorLow;
// clang-format off
inline constexpr Field<Low, unsigned>              type_low    {"Type",  { 3,  0}};
inline constexpr Field<Low, PasidIotlbGranularity> granularity {"G",     { 5,  4}};
inline constexpr Field<Low, unsigned>              reserved_6  {"Rsvd",  { 8,  6}, Rule::reserved};
inline constexpr Field<Low, unsigned>              type_high   {"Type",  {11,  9}};
inline constexpr Field<Low, unsigned>              reserved_12 {"Rsvd",  {15, 12}, Rule::reserved};
inline constexpr Field<Low, DomainId>              domain      {"DID",   {31, 16}};
inline constexpr Field<Low, Pasid>                 pasid       {"PASID", {51, 32}};
inline constexpr Field<Low, unsigned>              reserved_52 {"Rsvd",  {63, 52}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(type_low, granularity, reserved_6, type_high, reserved_12, domain, pasid, reserved_52);
}  // namespace pasid_iotlb_descriptor_low

/// "PASID-based IOTLB Invalidate Descriptor", second word. Any AM is legal here.
struct PasidIotlbDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace pasid_iotlb_descriptor_high {
using High = PasidIotlbDescriptorHigh;
// clang-format off
inline constexpr Field<High, unsigned> address_mask {"AM",   { 5,  0}};
inline constexpr Field<High, bool>     hint         {"IH",   { 6,  6}};
inline constexpr Field<High, unsigned> reserved     {"Rsvd", {11,  7}, Rule::reserved};
inline constexpr Field<High, Iova>     address      {"ADDR", {63, 12}};
// clang-format on
inline constexpr auto rows = layout(address_mask, hint, reserved, address);
}  // namespace pasid_iotlb_descriptor_high

/// "PASID-cache Invalidate Descriptor".
struct PasidCacheDescriptor {
  std::uint64_t raw = 0;
};
namespace pasid_cache_descriptor {
using Entry = PasidCacheDescriptor;
// clang-format off
inline constexpr Field<Entry, unsigned>              type_low    {"Type",  { 3,  0}};
inline constexpr Field<Entry, PasidCacheGranularity> granularity {"G",     { 5,  4}};
inline constexpr Field<Entry, unsigned>              reserved_6  {"Rsvd",  { 8,  6}, Rule::reserved};
inline constexpr Field<Entry, unsigned>              type_high   {"Type",  {11,  9}};
inline constexpr Field<Entry, unsigned>              reserved_12 {"Rsvd",  {15, 12}, Rule::reserved};
inline constexpr Field<Entry, DomainId>              domain      {"DID",   {31, 16}};
inline constexpr Field<Entry, Pasid>                 pasid       {"PASID", {51, 32}};
inline constexpr Field<Entry, unsigned>              reserved_52 {"Rsvd",  {63, 52}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(type_low, granularity, reserved_6, type_high, reserved_12, domain, pasid, reserved_52);
}  // namespace pasid_cache_descriptor

/// "PASID-based Device-TLB Invalidate Descriptor", first word. PFSID is reserved without ECAP.DIT.
struct PasidDeviceTlbDescriptorLow {
  std::uint64_t raw = 0;
};
namespace pasid_device_tlb_descriptor_low {
using Low = PasidDeviceTlbDescriptorLow;
// clang-format off
inline constexpr Field<Low, unsigned> type_low      {"Type",        { 3,  0}};
inline constexpr Field<Low, unsigned> max_pending   {"MIP",         { 8,  4}};
inline constexpr Field<Low, unsigned> type_high     {"Type",        {11,  9}};
inline constexpr Field<Low, unsigned> function_low  {"PFSID[3:0]",  {15, 12}};
inline constexpr Field<Low, SourceId> source        {"SID",         {31, 16}};
inline constexpr Field<Low, Pasid>    pasid         {"PASID",       {51, 32}};
inline constexpr Field<Low, unsigned> function_high {"PFSID[15:4]", {63, 52}};
// clang-format on
inline constexpr auto rows = layout(type_low, max_pending, type_high, function_low, source, pasid, function_high);
}  // namespace pasid_device_tlb_descriptor_low

/// "PASID-based Device-TLB Invalidate Descriptor", second word.
struct PasidDeviceTlbDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace pasid_device_tlb_descriptor_high {
using High = PasidDeviceTlbDescriptorHigh;
// clang-format off
inline constexpr Field<High, bool>     global   {"G",    { 0,  0}};
inline constexpr Field<High, unsigned> reserved {"Rsvd", {10,  1}, Rule::reserved};
inline constexpr Field<High, bool>     size     {"S",    {11, 11}};
inline constexpr Field<High, Iova>     address  {"ADDR", {63, 12}};
// clang-format on
inline constexpr auto rows = layout(global, reserved, size, address);
}  // namespace pasid_device_tlb_descriptor_high

/// "Page Group Response Descriptor", first word.
struct PageGroupDescriptorLow {
  std::uint64_t raw = 0;
};
namespace page_group_descriptor_low {
using Low = PageGroupDescriptorLow;
// clang-format off
inline constexpr Field<Low, unsigned> type_low      {"Type",  { 3,  0}};
inline constexpr Field<Low, bool>     pasid_present {"PP",    { 4,  4}};
inline constexpr Field<Low, unsigned> reserved_5    {"Rsvd",  { 8,  5}, Rule::reserved};
inline constexpr Field<Low, unsigned> type_high     {"Type",  {11,  9}};
inline constexpr Field<Low, unsigned> response      {"RC",    {15, 12}};
inline constexpr Field<Low, SourceId> source        {"RID",   {31, 16}};
inline constexpr Field<Low, Pasid>    pasid         {"PASID", {51, 32}};
inline constexpr Field<Low, unsigned> reserved_52   {"Rsvd",  {63, 52}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(type_low, pasid_present, reserved_5, type_high, response, source, pasid, reserved_52);
}  // namespace page_group_descriptor_low

/// "Page Group Response Descriptor", second word. Bit 2 said "last in group" once and says nothing now.
struct PageGroupDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace page_group_descriptor_high {
using High = PageGroupDescriptorHigh;
// clang-format off
inline constexpr Field<High, unsigned>      reserved_0  {"Rsvd", { 1,  0}, Rule::reserved};
inline constexpr Field<High, bool>          ignored     {"",     { 2,  2}, Rule::ignored};
inline constexpr Field<High, unsigned>      group       {"PRGI", {11,  3}};
inline constexpr Field<High, std::uint64_t> reserved_12 {"Rsvd", {63, 12}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(reserved_0, ignored, group, reserved_12);
}  // namespace page_group_descriptor_high

/// "Host Permission Table Cache Invalidate Descriptor", first word.
struct HostPermissionDescriptorLow {
  std::uint64_t raw = 0;
};
namespace host_permission_descriptor_low {
using Low = HostPermissionDescriptorLow;
// clang-format off
inline constexpr Field<Low, unsigned>                  type_low    {"Type",   { 3,  0}};
inline constexpr Field<Low, HostPermissionGranularity> granularity {"G",      { 5,  4}};
inline constexpr Field<Low, unsigned>                  reserved_6  {"Rsvd",   { 8,  6}, Rule::reserved};
inline constexpr Field<Low, unsigned>                  type_high   {"Type",   {11,  9}};
inline constexpr Field<Low, unsigned>                  reserved_12 {"Rsvd",   {15, 12}, Rule::reserved};
inline constexpr Field<Low, DomainId>                  domain      {"HPTDID", {31, 16}};
inline constexpr Field<Low, std::uint32_t>             reserved_32 {"Rsvd",   {63, 32}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(type_low, granularity, reserved_6, type_high, reserved_12, domain, reserved_32);
}  // namespace host_permission_descriptor_low

/// "Host Permission Table Cache Invalidate Descriptor", second word.
struct HostPermissionDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace host_permission_descriptor_high {
using High = HostPermissionDescriptorHigh;
// clang-format off
inline constexpr Field<High, unsigned> address_mask {"AM",   { 5,  0}};
inline constexpr Field<High, unsigned> hint         {"IH",   { 7,  6}};
inline constexpr Field<High, unsigned> reserved     {"Rsvd", {11,  8}, Rule::reserved};
inline constexpr Field<High, Gpa>      address      {"ADDR", {63, 12}};
// clang-format on
inline constexpr auto rows = layout(address_mask, hint, reserved, address);
}  // namespace host_permission_descriptor_high

}  // namespace viommu::vtd
