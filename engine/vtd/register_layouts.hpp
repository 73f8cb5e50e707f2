// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Register Descriptions": the registers software writes, and those that answer it.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"

namespace viommu::vtd {

/// RTADDR_REG, TTM: how the root pointer is to be read.
enum class TableMode : std::uint8_t { legacy = 0, scalable = 1, reserved = 2, abort_dma = 3 };

/// CCMD_REG and the context-cache descriptor: what to drop. In CAIG, `none` says that nothing was done.
enum class ContextGranularity : std::uint8_t { none = 0, global = 1, domain = 2, device = 3 };

/// IOTLB_REG and the IOTLB descriptor: what to drop. In IAIG, `none` says that nothing was done.
enum class IotlbGranularity : std::uint8_t { none = 0, global = 1, domain = 2, page = 3 };

/// IQERCD_REG, IQEI: why the invalidation queue stopped.
enum class QueueErrorCode : std::uint8_t {
  no_information = 0,
  invalid_tail = 1,
  fetch_failed = 2,
  invalid_type = 3,
  reserved_field = 4,
  invalid_width = 5,
  misaligned_tail = 6,
  invalid_table_mode = 7,
};

/// GCMD_REG. TE, QIE, IRE, CFI are levels; SRTP, WBF, SIRTP are commands.
struct GlobalCommand {
  std::uint32_t raw = 0;
};
namespace gcmd {
// clang-format off
inline constexpr Field<GlobalCommand, unsigned> reserved_0  {"Rsvd",  {22,  0}, Rule::reserved};
inline constexpr Field<GlobalCommand, bool>     cfi         {"CFI",   {23, 23}};
inline constexpr Field<GlobalCommand, bool>     sirtp       {"SIRTP", {24, 24}};
inline constexpr Field<GlobalCommand, bool>     ire         {"IRE",   {25, 25}};
inline constexpr Field<GlobalCommand, bool>     qie         {"QIE",   {26, 26}};
inline constexpr Field<GlobalCommand, bool>     wbf         {"WBF",   {27, 27}};
inline constexpr Field<GlobalCommand, unsigned> reserved_28 {"Rsvd",  {29, 28}, Rule::reserved};
inline constexpr Field<GlobalCommand, bool>     srtp        {"SRTP",  {30, 30}};
inline constexpr Field<GlobalCommand, bool>     te          {"TE",    {31, 31}};
// clang-format on
inline constexpr auto rows = layout(reserved_0, cfi, sirtp, ire, qie, wbf, reserved_28, srtp, te);
}  // namespace gcmd

/// GSTS_REG, bit for bit the answer to GCMD_REG.
struct GlobalStatus {
  std::uint32_t raw = 0;
};
namespace gsts {
// clang-format off
inline constexpr Field<GlobalStatus, unsigned> reserved_0  {"Rsvd",  {22,  0}, Rule::reserved};
inline constexpr Field<GlobalStatus, bool>     cfis        {"CFIS",  {23, 23}};
inline constexpr Field<GlobalStatus, bool>     irtps       {"IRTPS", {24, 24}};
inline constexpr Field<GlobalStatus, bool>     ires        {"IRES",  {25, 25}};
inline constexpr Field<GlobalStatus, bool>     qies        {"QIES",  {26, 26}};
inline constexpr Field<GlobalStatus, bool>     wbfs        {"WBFS",  {27, 27}};
inline constexpr Field<GlobalStatus, unsigned> reserved_28 {"Rsvd",  {29, 28}, Rule::reserved};
inline constexpr Field<GlobalStatus, bool>     rtps        {"RTPS",  {30, 30}};
inline constexpr Field<GlobalStatus, bool>     tes         {"TES",   {31, 31}};
// clang-format on
inline constexpr auto rows = layout(reserved_0, cfis, irtps, ires, qies, wbfs, reserved_28, rtps, tes);
}  // namespace gsts

/// RTADDR_REG. Address bits above the host address width are not implemented.
struct RootTableAddress {
  std::uint64_t raw = 0;
};
namespace rtaddr {
// clang-format off
inline constexpr Field<RootTableAddress, unsigned>  reserved_0 {"Rsvd",   { 6,  0}, Rule::reserved};
inline constexpr Field<RootTableAddress, bool>      ssirwe     {"SSIRWE", { 7,  7}, Rule::reserved};
inline constexpr Field<RootTableAddress, unsigned>  reserved_8 {"Rsvd",   { 9,  8}, Rule::reserved};
inline constexpr Field<RootTableAddress, TableMode> mode       {"TTM",    {11, 10}};
inline constexpr Field<RootTableAddress, Gpa>       root       {"RTA",    {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(reserved_0, ssirwe, reserved_8, mode, root);
}  // namespace rtaddr

/// CCMD_REG.
struct ContextCommand {
  std::uint64_t raw = 0;
};
namespace ccmd {
// clang-format off
inline constexpr Field<ContextCommand, DomainId>           domain        {"DID",  {15,  0}};
inline constexpr Field<ContextCommand, SourceId>           source        {"SID",  {31, 16}};
inline constexpr Field<ContextCommand, unsigned>           function_mask {"FM",   {33, 32}};
inline constexpr Field<ContextCommand, unsigned>           reserved      {"Rsvd", {58, 34}, Rule::reserved};
inline constexpr Field<ContextCommand, ContextGranularity> done          {"CAIG", {60, 59}};
inline constexpr Field<ContextCommand, ContextGranularity> granularity   {"CIRG", {62, 61}};
inline constexpr Field<ContextCommand, bool>               invalidate    {"ICC",  {63, 63}};
// clang-format on
inline constexpr auto rows = layout(domain, source, function_mask, reserved, done, granularity, invalidate);
}  // namespace ccmd

/// IVA_REG. Address bits from MGAW on are ignored.
struct InvalidateAddress {
  std::uint64_t raw = 0;
};
namespace iva {
// clang-format off
inline constexpr Field<InvalidateAddress, unsigned> address_mask {"AM",   { 5,  0}};
inline constexpr Field<InvalidateAddress, bool>     hint         {"IH",   { 6,  6}};
inline constexpr Field<InvalidateAddress, unsigned> reserved     {"Rsvd", {11,  7}, Rule::reserved};
inline constexpr Field<InvalidateAddress, Iova>     address      {"ADDR", {63, 12}};
// clang-format on
inline constexpr auto rows = layout(address_mask, hint, reserved, address);
}  // namespace iva

/// IOTLB_REG.
struct IotlbCommand {
  std::uint64_t raw = 0;
};
namespace iotlb_command {
// clang-format off
inline constexpr Field<IotlbCommand, std::uint32_t>    reserved_0   {"Rsvd", {31,  0}, Rule::reserved};
inline constexpr Field<IotlbCommand, DomainId>         domain       {"DID",  {47, 32}};
inline constexpr Field<IotlbCommand, bool>             drain_writes {"DW",   {48, 48}};
inline constexpr Field<IotlbCommand, bool>             drain_reads  {"DR",   {49, 49}};
inline constexpr Field<IotlbCommand, unsigned>         reserved_50  {"Rsvd", {56, 50}, Rule::reserved};
inline constexpr Field<IotlbCommand, IotlbGranularity> done         {"IAIG", {58, 57}};
inline constexpr Field<IotlbCommand, bool>             reserved_59  {"Rsvd", {59, 59}, Rule::reserved};
inline constexpr Field<IotlbCommand, IotlbGranularity> granularity  {"IIRG", {61, 60}};
inline constexpr Field<IotlbCommand, bool>             reserved_62  {"Rsvd", {62, 62}, Rule::reserved};
inline constexpr Field<IotlbCommand, bool>             invalidate   {"IVT",  {63, 63}};
// clang-format on
inline constexpr auto rows = layout(reserved_0, domain, drain_writes, drain_reads, reserved_50, done, reserved_59,
                                    granularity, reserved_62, invalidate);
}  // namespace iotlb_command

/// PMEN_REG.
struct ProtectedMemoryEnable {
  std::uint32_t raw = 0;
};
namespace pmen {
// clang-format off
inline constexpr Field<ProtectedMemoryEnable, bool>     status   {"PRS",  { 0,  0}};
inline constexpr Field<ProtectedMemoryEnable, unsigned> reserved {"Rsvd", {30,  1}, Rule::reserved};
inline constexpr Field<ProtectedMemoryEnable, bool>     enable   {"EPM",  {31, 31}};
// clang-format on
inline constexpr auto rows = layout(status, reserved, enable);
}  // namespace pmen

/// PLMBASE_REG and PLMLIMIT_REG. The low region is aligned to 2 MiB.
struct ProtectedLow {
  std::uint32_t raw = 0;
};
namespace protected_low {
inline constexpr Field<ProtectedLow, unsigned> reserved{"Rsvd", {20, 0}, Rule::reserved};
inline constexpr Field<ProtectedLow, Gpa> address{"Address", {31, 21}};
inline constexpr auto rows = layout(reserved, address);
}  // namespace protected_low

/// PHMBASE_REG and PHMLIMIT_REG. The high region is aligned to 2 MiB.
struct ProtectedHigh {
  std::uint64_t raw = 0;
};
namespace protected_high {
inline constexpr Field<ProtectedHigh, unsigned> reserved{"Rsvd", {20, 0}, Rule::reserved};
inline constexpr Field<ProtectedHigh, Gpa> address{"Address", {63, 21}, Rule::address};
inline constexpr auto rows = layout(reserved, address);
}  // namespace protected_high

/// IQH_REG and IQT_REG: byte offsets into the queue. Bit 4 of the tail must be zero when descriptors have 256 bits.
struct QueuePointer {
  std::uint64_t raw = 0;
};
namespace queue_pointer {
// clang-format off
inline constexpr Field<QueuePointer, unsigned>      reserved_0  {"Rsvd", { 3,  0}, Rule::reserved};
inline constexpr Field<QueuePointer, unsigned>      index       {"Q",    {18,  4}};
inline constexpr Field<QueuePointer, std::uint64_t> reserved_19 {"Rsvd", {63, 19}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(reserved_0, index, reserved_19);
}  // namespace queue_pointer

/// IQA_REG.
struct QueueAddress {
  std::uint64_t raw = 0;
};
namespace iqa {
// clang-format off
inline constexpr Field<QueueAddress, unsigned> size     {"QS",   { 2,  0}};
inline constexpr Field<QueueAddress, unsigned> reserved {"Rsvd", {10,  3}, Rule::reserved};
inline constexpr Field<QueueAddress, bool>     wide     {"DW",   {11, 11}};
inline constexpr Field<QueueAddress, Gpa>      base     {"IQA",  {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(size, reserved, wide, base);
}  // namespace iqa

/// ICS_REG.
struct CompletionStatus {
  std::uint32_t raw = 0;
};
namespace ics {
inline constexpr Field<CompletionStatus, bool> complete{"IWC", {0, 0}};
inline constexpr Field<CompletionStatus, unsigned> reserved{"Rsvd", {31, 1}, Rule::reserved};
inline constexpr auto rows = layout(complete, reserved);
}  // namespace ics

/// IQERCD_REG.
struct QueueErrorRecord {
  std::uint64_t raw = 0;
};
namespace iqercd {
// clang-format off
inline constexpr Field<QueueErrorRecord, QueueErrorCode> code       {"IQEI",   { 3,  0}};
inline constexpr Field<QueueErrorRecord, unsigned>       reserved   {"Rsvd",   {31,  4}, Rule::reserved};
inline constexpr Field<QueueErrorRecord, SourceId>       timed_out  {"ITESID", {47, 32}};
inline constexpr Field<QueueErrorRecord, SourceId>       incomplete {"ICESID", {63, 48}};
// clang-format on
inline constexpr auto rows = layout(code, reserved, timed_out, incomplete);
}  // namespace iqercd

/// IRTA_REG.
struct InterruptTableAddress {
  std::uint64_t raw = 0;
};
namespace irta {
// clang-format off
inline constexpr Field<InterruptTableAddress, unsigned> size     {"S",    { 3,  0}};
inline constexpr Field<InterruptTableAddress, unsigned> reserved {"Rsvd", {10,  4}, Rule::reserved};
inline constexpr Field<InterruptTableAddress, bool>     extended {"EIME", {11, 11}};
inline constexpr Field<InterruptTableAddress, Gpa>      table    {"IRTA", {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(size, reserved, extended, table);
}  // namespace irta

}  // namespace viommu::vtd
