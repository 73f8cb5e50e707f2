// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Fault Status Register", "Fault Recording Registers", and the registers of an event (control, data, address),
// which fault events and invalidation completions share.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/address_type.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/ids.hpp"

namespace viommu::vtd {

/// FSTS_REG.
struct FaultStatusRegister {
  std::uint32_t raw = 0;
};
namespace fsts {
// clang-format off
inline constexpr Field<FaultStatusRegister, bool>     overflow         {"PFO",  { 0,  0}};
inline constexpr Field<FaultStatusRegister, bool>     pending          {"PPF",  { 1,  1}};
inline constexpr Field<FaultStatusRegister, unsigned> reserved_2       {"Rsvd", { 3,  2}, Rule::reserved};
inline constexpr Field<FaultStatusRegister, bool>     queue_error      {"IQE",  { 4,  4}};
inline constexpr Field<FaultStatusRegister, bool>     completion_error {"ICE",  { 5,  5}};
inline constexpr Field<FaultStatusRegister, bool>     timeout          {"ITE",  { 6,  6}};
inline constexpr Field<FaultStatusRegister, bool>     reserved_7       {"Rsvd", { 7,  7}, Rule::reserved};
inline constexpr Field<FaultStatusRegister, unsigned> first            {"FRI",  {15,  8}};
inline constexpr Field<FaultStatusRegister, unsigned> reserved_16      {"Rsvd", {31, 16}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(overflow, pending, reserved_2, queue_error, completion_error, timeout, reserved_7, first, reserved_16);
}  // namespace fsts

/// FECTL_REG and IECTL_REG.
struct EventControl {
  std::uint32_t raw = 0;
};
namespace event_control {
// clang-format off
inline constexpr Field<EventControl, unsigned> reserved {"Rsvd", {29,  0}, Rule::reserved};
inline constexpr Field<EventControl, bool>     pending  {"IP",   {30, 30}};
inline constexpr Field<EventControl, bool>     mask     {"IM",   {31, 31}};
// clang-format on
inline constexpr auto rows = layout(reserved, pending, mask);
}  // namespace event_control

/// FEDATA_REG and IEDATA_REG.
struct EventData {
  std::uint32_t raw = 0;
};
namespace event_data {
inline constexpr Field<EventData, unsigned> data{"IMD", {15, 0}};
inline constexpr Field<EventData, unsigned> reserved{"Rsvd", {31, 16}, Rule::reserved};
inline constexpr auto rows = layout(data, reserved);
}  // namespace event_data

/// FEADDR_REG and IEADDR_REG; the upper half (FEUADDR_REG, IEUADDR_REG) is an address bit for bit.
struct EventAddress {
  std::uint32_t raw = 0;
};
namespace event_address {
inline constexpr Field<EventAddress, unsigned> reserved{"Rsvd", {1, 0}, Rule::reserved};
inline constexpr Field<EventAddress, Gpa> address{"MA", {31, 2}};
inline constexpr auto rows = layout(reserved, address);
}  // namespace event_address

/// FRCD_REG, bits 63:0. An interrupt fault has the interrupt index in bits 63:48 instead of an address.
struct FaultRecordLow {
  std::uint64_t raw = 0;
};
namespace frcd_low {
// clang-format off
inline constexpr Field<FaultRecordLow, unsigned> reserved {"Rsvd", {11,  0}, Rule::reserved};
inline constexpr Field<FaultRecordLow, Iova>     address  {"FI",   {63, 12}};
// clang-format on
inline constexpr auto rows = layout(reserved, address);
}  // namespace frcd_low

/// FRCD_REG, bits 63:0, of an interrupt fault.
struct InterruptFaultLow {
  std::uint64_t raw = 0;
};
namespace frcd_interrupt {
// clang-format off
inline constexpr Field<InterruptFaultLow, std::uint64_t> reserved {"Rsvd",  {47,  0}, Rule::reserved};
inline constexpr Field<InterruptFaultLow, std::uint16_t> index    {"Index", {63, 48}};
// clang-format on
inline constexpr auto rows = layout(reserved, index);
}  // namespace frcd_interrupt

/// FRCD_REG, bits 127:64.
struct FaultRecordHigh {
  std::uint64_t raw = 0;
};
namespace frcd_high {
// clang-format off
inline constexpr Field<FaultRecordHigh, SourceId>    source        {"SID",  {15,  0}};
inline constexpr Field<FaultRecordHigh, unsigned>    reserved      {"Rsvd", {27, 16}, Rule::reserved};
inline constexpr Field<FaultRecordHigh, bool>        type_2        {"T2",   {28, 28}};
inline constexpr Field<FaultRecordHigh, bool>        privileged    {"PRIV", {29, 29}};
inline constexpr Field<FaultRecordHigh, bool>        execute       {"EXE",  {30, 30}};
inline constexpr Field<FaultRecordHigh, bool>        pasid_present {"PP",   {31, 31}};
inline constexpr Field<FaultRecordHigh, FaultReason> reason        {"FR",   {39, 32}};
inline constexpr Field<FaultRecordHigh, Pasid>       pasid         {"PV",   {59, 40}};
inline constexpr Field<FaultRecordHigh, AddressType> address_type  {"AT",   {61, 60}};
inline constexpr Field<FaultRecordHigh, bool>        type_1        {"T1",   {62, 62}};
inline constexpr Field<FaultRecordHigh, bool>        fault         {"F",    {63, 63}};
// clang-format on
inline constexpr auto rows =
    layout(source, reserved, type_2, privileged, execute, pasid_present, reason, pasid, address_type, type_1, fault);
}  // namespace frcd_high

}  // namespace viommu::vtd
