// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Root Entry" and "Context Entry" (legacy mode), each two words.
// The page-table entries a context points to are in walkers/format/second_stage_layout.hpp.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"

namespace viommu::vtd {

inline constexpr unsigned root_entry_bytes = 16;     ///< 256 of them, indexed by bus
inline constexpr unsigned context_entry_bytes = 16;  ///< 256 of them, indexed by device and function

/// "Context Entry", TT: what the entry does with a request.
enum class TranslationType : std::uint8_t {
  untranslated_only = 0,  ///< second-stage translation; ATS requests are blocked
  with_device_tlb = 1,    ///< second-stage translation; ATS requests are allowed. Reserved without ECAP.DT
  pass_through = 2,       ///< no translation; ATS requests are blocked. Reserved without ECAP.PT
  reserved = 3,
};

/// "Root Entry", bits 63:0.
struct RootLow {
  std::uint64_t raw = 0;
};
namespace root_low {
// clang-format off
inline constexpr Field<RootLow, bool>     present       {"P",    { 0,  0}};
inline constexpr Field<RootLow, unsigned> reserved      {"Rsvd", {11,  1}, Rule::reserved};
inline constexpr Field<RootLow, Gpa>      context_table {"CTP",  {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(present, reserved, context_table);
}  // namespace root_low

/// "Root Entry", bits 127:64.
struct RootHigh {
  std::uint64_t raw = 0;
};
namespace root_high {
inline constexpr Field<RootHigh, std::uint64_t> reserved{"Rsvd", {63, 0}, Rule::reserved};
inline constexpr auto rows = layout(reserved);
}  // namespace root_high

/// "Context Entry" (legacy mode), bits 63:0.
struct ContextLow {
  std::uint64_t raw = 0;
};
namespace context_low {
// clang-format off
inline constexpr Field<ContextLow, bool>            present       {"P",       { 0,  0}};
inline constexpr Field<ContextLow, bool>            fault_disable {"FPD",     { 1,  1}};
inline constexpr Field<ContextLow, TranslationType> type          {"TT",      { 3,  2}};
inline constexpr Field<ContextLow, unsigned>        reserved      {"Rsvd",    {11,  4}, Rule::reserved};
inline constexpr Field<ContextLow, Gpa>             root          {"SSPTPTR", {63, 12}, Rule::address};
// clang-format on
inline constexpr auto rows = layout(present, fault_disable, type, reserved, root);
}  // namespace context_low

/// "Context Entry" (legacy mode), bits 127:64. Domain id bits above the width of CAP.ND are reserved too.
struct ContextHigh {
  std::uint64_t raw = 0;
};
namespace context_high {
// clang-format off
inline constexpr Field<ContextHigh, unsigned>      width      {"AW",   { 2,  0}};
inline constexpr Field<ContextHigh, unsigned>      available  {"AVL",  { 6,  3}, Rule::ignored};
inline constexpr Field<ContextHigh, unsigned>      reserved_7 {"Rsvd", { 7,  7}, Rule::reserved};
inline constexpr Field<ContextHigh, DomainId>      domain     {"DID",  {23,  8}};
inline constexpr Field<ContextHigh, std::uint64_t> reserved   {"Rsvd", {63, 24}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(width, available, reserved_7, domain, reserved);
}  // namespace context_high

/// Bits of a root entry that must be zero when it is present.
[[nodiscard]] constexpr RootLow root_low_reserved(unsigned host_address_width) noexcept {
  return {reserved_mask(root_low::rows, host_address_width)};
}

/// Bits of a context entry's low word that must be zero when it is present. A pass-through entry ignores its table
/// pointer, so the pointer's high bits count only for the other types.
[[nodiscard]] constexpr ContextLow context_low_reserved(unsigned host_address_width, TranslationType type) noexcept {
  return {reserved_mask(context_low::rows, type == TranslationType::pass_through ? 64 : host_address_width)};
}

/// Bits of a context entry's high word that must be zero when it is present.
[[nodiscard]] constexpr ContextHigh context_high_reserved(unsigned domain_id_bits) noexcept {
  const std::uint64_t unused_ids = ~low_bits(domain_id_bits + context_high::domain.bits.low);
  return {reserved_mask(context_high::rows) | (mask_of(context_high::domain) & unused_ids)};
}

/// "Context Entry", AW: 1, 2, 3 stand for tables of 3, 4, 5 levels; every other value is reserved.
[[nodiscard]] constexpr unsigned levels_of(unsigned width) noexcept { return width + 2; }
[[nodiscard]] constexpr unsigned address_bits_of(unsigned width) noexcept { return 30 + 9 * width; }

}  // namespace viommu::vtd
