// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Scalable-Mode Root Entry", "Scalable-Mode Context Entry", "Scalable-Mode PASID Directory Entry" and
// "Scalable-Mode PASID Table Entry", word by word. What is reserved only on some units is added by pasid_walk.cpp.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"

namespace viommu::vtd {

inline constexpr unsigned scalable_context_entry_bytes = 32;  ///< 128 of them a table, by the low 7 bits of devfn
inline constexpr unsigned pasid_directory_entry_bytes = 8;    ///< by PASID bits 19:6
inline constexpr unsigned pasid_entry_bytes = 64;             ///< 64 of them a table, by PASID bits 5:0

/// "Scalable-Mode Root Entry": each half is for 128 of the bus's functions.
struct ScalableRootHalf {
  std::uint64_t raw = 0;
};
namespace scalable_root {
// clang-format off
inline constexpr Field<ScalableRootHalf, bool>     present       {"P",    { 0,  0}};
inline constexpr Field<ScalableRootHalf, unsigned> reserved      {"Rsvd", {11,  1}, Rule::reserved};
inline constexpr Field<ScalableRootHalf, Gpa>      context_table {"CTP",  {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(present, reserved, context_table);
}  // namespace scalable_root

/// "Scalable-Mode Context Entry", bits 63:0.
struct ScalableContextLow {
  std::uint64_t raw = 0;
};
namespace scalable_context_low {
using Low = ScalableContextLow;
// clang-format off
inline constexpr Field<Low, bool>     present        {"P",           { 0,  0}};
inline constexpr Field<Low, bool>     fault_disable  {"FPD",         { 1,  1}};
inline constexpr Field<Low, bool>     device_tlb     {"DTE",         { 2,  2}};
inline constexpr Field<Low, bool>     pasids         {"PASIDE",      { 3,  3}};
inline constexpr Field<Low, bool>     page_requests  {"PRE",         { 4,  4}};
inline constexpr Field<Low, bool>     host_permission{"HPTE",        { 5,  5}};
inline constexpr Field<Low, bool>     translated     {"EPTR",        { 6,  6}};
inline constexpr Field<Low, unsigned> reserved       {"Rsvd",        { 8,  7}, Rule::reserved};
inline constexpr Field<Low, unsigned> directory_size {"PDTS",        {11,  9}};
inline constexpr Field<Low, Gpa>      directory      {"PASIDDIRPTR", {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(present, fault_disable, device_tlb, pasids, page_requests, host_permission,
                                    translated, reserved, directory_size, directory);
}  // namespace scalable_context_low

/// "Scalable-Mode Context Entry", bits 127:64. Bits 255:128 are reserved.
struct ScalableContextHigh {
  std::uint64_t raw = 0;
};
namespace scalable_context_high {
using High = ScalableContextHigh;
// clang-format off
inline constexpr Field<High, Pasid>         rid_pasid      {"RID_PASID", {19,  0}};
inline constexpr Field<High, bool>          rid_privileged {"RID_PRIV",  {20, 20}};
inline constexpr Field<High, std::uint64_t> reserved       {"Rsvd",      {63, 21}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(rid_pasid, rid_privileged, reserved);
}  // namespace scalable_context_high

/// "Scalable-Mode PASID Directory Entry".
struct PasidDirectoryEntry {
  std::uint64_t raw = 0;
};
namespace pasid_directory {
// clang-format off
inline constexpr Field<PasidDirectoryEntry, bool>     present       {"P",         { 0,  0}};
inline constexpr Field<PasidDirectoryEntry, bool>     fault_disable {"FPD",       { 1,  1}};
inline constexpr Field<PasidDirectoryEntry, unsigned> reserved      {"Rsvd",      {11,  2}, Rule::reserved};
inline constexpr Field<PasidDirectoryEntry, Gpa>      table         {"SMPTBLPTR", {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(present, fault_disable, reserved, table);
}  // namespace pasid_directory

/// "Scalable-Mode PASID Table Entry", PGTT.
enum class PasidTranslation : std::uint8_t { first_stage = 1, second_stage = 2, nested = 3, pass_through = 4 };

/// "Scalable-Mode PASID Table Entry", bits 63:0.
struct PasidEntry0 {
  std::uint64_t raw = 0;
};
namespace pasid_entry_0 {
using W = PasidEntry0;
// clang-format off
inline constexpr Field<W, bool>             present       {"P",       { 0,  0}};
inline constexpr Field<W, bool>             fault_disable {"FPD",     { 1,  1}};
inline constexpr Field<W, unsigned>         width         {"AW",      { 4,  2}};
inline constexpr Field<W, unsigned>         reserved_5    {"Rsvd",    { 5,  5}, Rule::reserved};
inline constexpr Field<W, PasidTranslation> translation   {"PGTT",    { 8,  6}};
inline constexpr Field<W, bool>             second_dirty  {"SSADE",   { 9,  9}};
inline constexpr Field<W, unsigned>         reserved_10   {"Rsvd",    {11, 10}, Rule::reserved};
inline constexpr Field<W, Gpa>              second_root   {"SSPTPTR", {63, 12}};  // an address where PGTT uses it
// clang-format on
inline constexpr auto rows =
    layout(present, fault_disable, width, reserved_5, translation, second_dirty, reserved_10, second_root);
}  // namespace pasid_entry_0

/// Bits 127:64.
struct PasidEntry1 {
  std::uint64_t raw = 0;
};
namespace pasid_entry_1 {
using W = PasidEntry1;
// clang-format off
inline constexpr Field<W, DomainId> domain         {"DID",   {15,  0}};
inline constexpr Field<W, unsigned> reserved_16    {"Rsvd",  {22, 16}, Rule::reserved};
inline constexpr Field<W, bool>     walk_snooped   {"PWSNP", {23, 23}};
inline constexpr Field<W, bool>     page_snooped   {"PGSNP", {24, 24}};
inline constexpr Field<W, bool>     cache_disable  {"CD",    {25, 25}};
inline constexpr Field<W, bool>     second_types   {"EMTE",  {26, 26}};
inline constexpr Field<W, unsigned> reserved_27    {"Rsvd",  {31, 27}, Rule::reserved};
inline constexpr Field<W, unsigned> attributes     {"PAT",   {63, 32}};
// clang-format on
inline constexpr auto rows =
    layout(domain, reserved_16, walk_snooped, page_snooped, cache_disable, second_types, reserved_27, attributes);
}  // namespace pasid_entry_1

/// Bits 191:128. Bits 511:192 are reserved without host permission tables, which this engine does not offer.
struct PasidEntry2 {
  std::uint64_t raw = 0;
};
namespace pasid_entry_2 {
using W = PasidEntry2;
// clang-format off
inline constexpr Field<W, bool>     supervisor        {"SRE",     { 0,  0}};
inline constexpr Field<W, unsigned> reserved_1        {"Rsvd",    { 1,  1}, Rule::reserved};
inline constexpr Field<W, unsigned> paging_mode       {"FSPM",    { 3,  2}};
inline constexpr Field<W, bool>     write_protect     {"WPE",     { 4,  4}};
inline constexpr Field<W, unsigned> ignored           {"Ign",     { 6,  5}, Rule::ignored};
inline constexpr Field<W, bool>     extended_accessed {"EAFE",    { 7,  7}};
inline constexpr Field<W, unsigned> reserved_8        {"Rsvd",    {11,  8}, Rule::reserved};
inline constexpr Field<W, Gpa>      first_root        {"FSPTPTR", {63, 12}};  // an address where PGTT uses it
// clang-format on
inline constexpr auto rows =
    layout(supervisor, reserved_1, paging_mode, write_protect, ignored, extended_accessed, reserved_8, first_root);
}  // namespace pasid_entry_2

}  // namespace viommu::vtd
