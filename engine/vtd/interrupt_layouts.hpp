// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Interrupt Requests": the two formats of a message, and "Interrupt Remapping Table Entry" in its two forms.
#pragma once

#include <cstdint>

#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"

namespace viommu::vtd {

inline constexpr unsigned interrupt_entry_bytes = 16;

/// What the processors get, and what IRTE.DLM says. 3 and 6 are reserved.
enum class DeliveryMode : std::uint8_t { fixed = 0, lowest = 1, smi = 2, nmi = 4, init = 5, external = 7 };

/// Address of an interrupt request in remappable format. The index is HANDLE, and SUBHANDLE added where SHV is set.
struct RemappableAddress {
  std::uint64_t raw = 0;
};
namespace remappable_address {
using A = RemappableAddress;
// clang-format off
inline constexpr Field<A, unsigned>      ignored          {"Ign",         { 1,  0}, Rule::ignored};
inline constexpr Field<A, bool>          handle_high      {"HANDLE[15]",  { 2,  2}};
inline constexpr Field<A, bool>          subhandle_valid  {"SHV",         { 3,  3}};
inline constexpr Field<A, bool>          remappable       {"Format",      { 4,  4}};  // 0 in compatibility format
inline constexpr Field<A, unsigned>      handle_low       {"HANDLE[14:0]",{19,  5}};
inline constexpr Field<A, std::uint64_t> window           {"FEEh",        {63, 20}};
// clang-format on
inline constexpr auto rows = layout(ignored, handle_high, subhandle_valid, remappable, handle_low, window);
}  // namespace remappable_address

/// Its data, where SHV is set; ignored where it is not.
struct RemappableData {
  std::uint32_t raw = 0;
};
namespace remappable_data {
inline constexpr Field<RemappableData, std::uint16_t> subhandle{"SUBHANDLE", {15, 0}};
inline constexpr Field<RemappableData, unsigned> reserved{"Rsvd", {31, 16}, Rule::reserved};
inline constexpr auto rows = layout(subhandle, reserved);
}  // namespace remappable_data

/// Address of a message in compatibility format, which is also what comes out of remapping. The upper bits of a 32-bit
/// destination stand where hosts that know such destinations look for them.
struct MessageAddress {
  std::uint64_t raw = 0;
};
namespace message_address {
using A = MessageAddress;
// clang-format off
inline constexpr Field<A, unsigned> ignored          {"Ign",        { 1,  0}, Rule::ignored};
inline constexpr Field<A, bool>     logical          {"DM",         { 2,  2}};
inline constexpr Field<A, bool>     redirection      {"RH",         { 3,  3}};
inline constexpr Field<A, unsigned> reserved_4       {"Rsvd",       {11,  4}, Rule::reserved};
inline constexpr Field<A, unsigned> destination      {"DEST[7:0]",  {19, 12}};
inline constexpr Field<A, unsigned> window           {"FEEh",       {31, 20}};
inline constexpr Field<A, unsigned> reserved_32      {"Rsvd",       {39, 32}, Rule::reserved};
inline constexpr Field<A, unsigned> destination_high {"DEST[31:8]", {63, 40}};
// clang-format on
inline constexpr auto rows =
    layout(ignored, logical, redirection, reserved_4, destination, window, reserved_32, destination_high);
}  // namespace message_address

/// Its data.
struct MessageData {
  std::uint32_t raw = 0;
};
namespace message_data {
using D = MessageData;
// clang-format off
inline constexpr Field<D, std::uint8_t> vector      {"V",    { 7,  0}};
inline constexpr Field<D, DeliveryMode> delivery    {"DLM",  {10,  8}};
inline constexpr Field<D, unsigned>     reserved_11 {"Rsvd", {13, 11}, Rule::reserved};
inline constexpr Field<D, bool>         asserted    {"L",    {14, 14}};
inline constexpr Field<D, bool>         level       {"TM",   {15, 15}};
inline constexpr Field<D, unsigned>     reserved_16 {"Rsvd", {31, 16}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(vector, delivery, reserved_11, asserted, level, reserved_16);
}  // namespace message_data

/// IRTE.SVT: how the source of a request is verified.
enum class SourceCheck : std::uint8_t { none = 0, source = 1, bus_range = 2, reserved = 3 };

/// IRTE, bits 63:0. The rows of a form say which of the fields it has.
struct InterruptEntryLow {
  std::uint64_t raw = 0;
};
namespace interrupt_entry_low {
using E = InterruptEntryLow;
// clang-format off
inline constexpr Field<E, bool>          present         {"P",     { 0,  0}};
inline constexpr Field<E, bool>          fault_disable   {"FPD",   { 1,  1}};
inline constexpr Field<E, bool>          logical         {"DM",    { 2,  2}};
inline constexpr Field<E, bool>          redirection     {"RH",    { 3,  3}};
inline constexpr Field<E, bool>          level           {"TM",    { 4,  4}};
inline constexpr Field<E, DeliveryMode>  delivery        {"DLM",   { 7,  5}};
inline constexpr Field<E, unsigned>      available       {"AVL",   {11,  8}, Rule::ignored};
inline constexpr Field<E, unsigned>      reserved_12     {"Rsvd",  {13, 12}, Rule::reserved};
inline constexpr Field<E, bool>          reserved_14     {"Rsvd",  {14, 14}, Rule::reserved};
inline constexpr Field<E, bool>          posted          {"IM",    {15, 15}};
inline constexpr Field<E, std::uint8_t>  vector          {"V",     {23, 16}};
inline constexpr Field<E, unsigned>      reserved_24     {"Rsvd",  {31, 24}, Rule::reserved};
inline constexpr Field<E, std::uint32_t> destination     {"DST",   {63, 32}};  // EIME set
inline constexpr Field<E, unsigned>      reserved_32     {"Rsvd",  {39, 32}, Rule::reserved};  // and EIME clear:
inline constexpr Field<E, std::uint8_t>  xapic           {"DST",   {47, 40}};
inline constexpr Field<E, unsigned>      reserved_48     {"Rsvd",  {63, 48}, Rule::reserved};
// IM set:
inline constexpr Field<E, unsigned>      reserved_2      {"Rsvd",  { 7,  2}, Rule::reserved};
inline constexpr Field<E, bool>          urgent          {"URG",   {14, 14}};
inline constexpr Field<E, unsigned>      reserved_24_up  {"Rsvd",  {37, 24}, Rule::reserved};
inline constexpr Field<E, std::uint32_t> descriptor      {"PDAL",  {63, 38}};  // address bits 31:6
// clang-format on
inline constexpr auto remapped_rows = layout(present, fault_disable, logical, redirection, level, delivery, available,
                                             reserved_12, reserved_14, posted, vector, reserved_24, destination);
inline constexpr auto xapic_rows =
    layout(present, fault_disable, logical, redirection, level, delivery, available, reserved_12, reserved_14, posted,
           vector, reserved_24, reserved_32, xapic, reserved_48);
inline constexpr auto posted_rows = layout(present, fault_disable, reserved_2, available, reserved_12, urgent, posted,
                                           vector, reserved_24_up, descriptor);
}  // namespace interrupt_entry_low

/// IRTE, bits 127:64.
struct InterruptEntryHigh {
  std::uint64_t raw = 0;
};
namespace interrupt_entry_high {
using E = InterruptEntryHigh;
// clang-format off
inline constexpr Field<E, SourceId>      source      {"SID",  {15,  0}};
inline constexpr Field<E, unsigned>      qualifier   {"SQ",   {17, 16}};
inline constexpr Field<E, SourceCheck>   check       {"SVT",  {19, 18}};
inline constexpr Field<E, unsigned>      reserved_20 {"Rsvd", {31, 20}, Rule::reserved};
inline constexpr Field<E, unsigned>      reserved_32 {"Rsvd", {63, 32}, Rule::reserved};
inline constexpr Field<E, std::uint32_t> descriptor  {"PDAH", {63, 32}};  // IM set: address bits 63:32
// clang-format on
inline constexpr auto remapped_rows = layout(source, qualifier, check, reserved_20, reserved_32);
inline constexpr auto posted_rows = layout(source, qualifier, check, reserved_20, descriptor);
}  // namespace interrupt_entry_high

}  // namespace viommu::vtd
