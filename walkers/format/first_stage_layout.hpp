// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "First-Stage Paging Entries": where the bits are, and which must be zero at which level.
// Level 0 holds 4 KiB leaves (PTE), 1 is PDE, 2 PDPE, 3 PML4E, 4 PML5E; 2 MiB and 1 GiB leaves stand at 1 and 2.
// Memory types (PWT, PCD, PAT) count only with ECAP.MTS, which is not offered; G, and XD of a format that knew execute
// rights, count for nothing any more.
#pragma once

#include <array>
#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"

namespace viommu::walkers {

inline constexpr unsigned first_stage_levels = 5;
inline constexpr unsigned first_stage_leaf_levels = 3;

/// An entry that points to another table: PML5E, PML4E, and PDPE or PDE with PS clear.
struct FirstStageTable {
  std::uint64_t raw = 0;
};
namespace first_stage_table {
// clang-format off
inline constexpr Field<FirstStageTable, bool>     present           {"P",        { 0,  0}};
inline constexpr Field<FirstStageTable, bool>     write             {"R/W",      { 1,  1}};
inline constexpr Field<FirstStageTable, bool>     user              {"U/S",      { 2,  2}};
inline constexpr Field<FirstStageTable, unsigned> caching           {"PWT, PCD", { 4,  3}, Rule::ignored};
inline constexpr Field<FirstStageTable, bool>     accessed          {"A",        { 5,  5}};
inline constexpr Field<FirstStageTable, bool>     ignored_6         {"Ign",      { 6,  6}, Rule::ignored};
inline constexpr Field<FirstStageTable, bool>     page_size         {"PS",       { 7,  7}};
inline constexpr Field<FirstStageTable, unsigned> ignored_8         {"Ign",      { 9,  8}, Rule::ignored};
inline constexpr Field<FirstStageTable, bool>     extended_accessed {"EA",       {10, 10}};
inline constexpr Field<FirstStageTable, bool>     ignored_11        {"Ign",      {11, 11}, Rule::ignored};
inline constexpr Field<FirstStageTable, Gpa>      address           {"ADDR",     {51, 12}, Rule::address};
inline constexpr Field<FirstStageTable, unsigned> ignored_52        {"Ign",      {62, 52}, Rule::ignored};
inline constexpr Field<FirstStageTable, bool>     execute_disable   {"XD",       {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows = layout(present, write, user, caching, accessed, ignored_6, page_size, ignored_8,
                                    extended_accessed, ignored_11, address, ignored_52, execute_disable);
}  // namespace first_stage_table

/// PTE: a page of 4 KiB. Where larger pages have PS there is PAT.
struct FirstStageLeaf {
  std::uint64_t raw = 0;
};
namespace first_stage_leaf {
// clang-format off
inline constexpr Field<FirstStageLeaf, bool>     present           {"P",        { 0,  0}};
inline constexpr Field<FirstStageLeaf, bool>     write             {"R/W",      { 1,  1}};
inline constexpr Field<FirstStageLeaf, bool>     user              {"U/S",      { 2,  2}};
inline constexpr Field<FirstStageLeaf, unsigned> caching           {"PWT, PCD", { 4,  3}, Rule::ignored};
inline constexpr Field<FirstStageLeaf, bool>     accessed          {"A",        { 5,  5}};
inline constexpr Field<FirstStageLeaf, bool>     dirty             {"D",        { 6,  6}};
inline constexpr Field<FirstStageLeaf, bool>     attribute         {"PAT",      { 7,  7}, Rule::ignored};
inline constexpr Field<FirstStageLeaf, unsigned> global            {"G, Ign",   { 9,  8}, Rule::ignored};
inline constexpr Field<FirstStageLeaf, bool>     extended_accessed {"EA",       {10, 10}};
inline constexpr Field<FirstStageLeaf, bool>     ignored_11        {"Ign",      {11, 11}, Rule::ignored};
inline constexpr Field<FirstStageLeaf, Gpa>      address           {"ADDR",     {51, 12}, Rule::address};
inline constexpr Field<FirstStageLeaf, unsigned> ignored_52        {"Ign",      {62, 52}, Rule::ignored};
inline constexpr Field<FirstStageLeaf, bool>     execute_disable   {"XD",       {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows = layout(present, write, user, caching, accessed, dirty, attribute, global,
                                    extended_accessed, ignored_11, address, ignored_52, execute_disable);
}  // namespace first_stage_leaf

/// PDE with PS set: a page of 2 MiB.
struct FirstStageLeaf2M {
  std::uint64_t raw = 0;
};
namespace first_stage_leaf_2m {
// clang-format off
inline constexpr Field<FirstStageLeaf2M, bool>     present           {"P",        { 0,  0}};
inline constexpr Field<FirstStageLeaf2M, bool>     write             {"R/W",      { 1,  1}};
inline constexpr Field<FirstStageLeaf2M, bool>     user              {"U/S",      { 2,  2}};
inline constexpr Field<FirstStageLeaf2M, unsigned> caching           {"PWT, PCD", { 4,  3}, Rule::ignored};
inline constexpr Field<FirstStageLeaf2M, bool>     accessed          {"A",        { 5,  5}};
inline constexpr Field<FirstStageLeaf2M, bool>     dirty             {"D",        { 6,  6}};
inline constexpr Field<FirstStageLeaf2M, bool>     page_size         {"PS",       { 7,  7}};
inline constexpr Field<FirstStageLeaf2M, unsigned> global            {"G, Ign",   { 9,  8}, Rule::ignored};
inline constexpr Field<FirstStageLeaf2M, bool>     extended_accessed {"EA",       {10, 10}};
inline constexpr Field<FirstStageLeaf2M, bool>     ignored_11        {"Ign",      {11, 11}, Rule::ignored};
inline constexpr Field<FirstStageLeaf2M, bool>     attribute         {"PAT",      {12, 12}, Rule::ignored};
inline constexpr Field<FirstStageLeaf2M, unsigned> alignment         {"Rsvd",     {20, 13}, Rule::reserved};
inline constexpr Field<FirstStageLeaf2M, Gpa>      address           {"ADDR",     {51, 21}, Rule::address};
inline constexpr Field<FirstStageLeaf2M, unsigned> ignored_52        {"Ign",      {62, 52}, Rule::ignored};
inline constexpr Field<FirstStageLeaf2M, bool>     execute_disable   {"XD",       {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows =
    layout(present, write, user, caching, accessed, dirty, page_size, global, extended_accessed, ignored_11, attribute,
           alignment, address, ignored_52, execute_disable);
}  // namespace first_stage_leaf_2m

/// PDPE with PS set: a page of 1 GiB.
struct FirstStageLeaf1G {
  std::uint64_t raw = 0;
};
namespace first_stage_leaf_1g {
// clang-format off
inline constexpr Field<FirstStageLeaf1G, bool>     present           {"P",        { 0,  0}};
inline constexpr Field<FirstStageLeaf1G, bool>     write             {"R/W",      { 1,  1}};
inline constexpr Field<FirstStageLeaf1G, bool>     user              {"U/S",      { 2,  2}};
inline constexpr Field<FirstStageLeaf1G, unsigned> caching           {"PWT, PCD", { 4,  3}, Rule::ignored};
inline constexpr Field<FirstStageLeaf1G, bool>     accessed          {"A",        { 5,  5}};
inline constexpr Field<FirstStageLeaf1G, bool>     dirty             {"D",        { 6,  6}};
inline constexpr Field<FirstStageLeaf1G, bool>     page_size         {"PS",       { 7,  7}};
inline constexpr Field<FirstStageLeaf1G, unsigned> global            {"G, Ign",   { 9,  8}, Rule::ignored};
inline constexpr Field<FirstStageLeaf1G, bool>     extended_accessed {"EA",       {10, 10}};
inline constexpr Field<FirstStageLeaf1G, bool>     ignored_11        {"Ign",      {11, 11}, Rule::ignored};
inline constexpr Field<FirstStageLeaf1G, bool>     attribute         {"PAT",      {12, 12}, Rule::ignored};
inline constexpr Field<FirstStageLeaf1G, unsigned> alignment         {"Rsvd",     {29, 13}, Rule::reserved};
inline constexpr Field<FirstStageLeaf1G, Gpa>      address           {"ADDR",     {51, 30}, Rule::address};
inline constexpr Field<FirstStageLeaf1G, unsigned> ignored_52        {"Ign",      {62, 52}, Rule::ignored};
inline constexpr Field<FirstStageLeaf1G, bool>     execute_disable   {"XD",       {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows =
    layout(present, write, user, caching, accessed, dirty, page_size, global, extended_accessed, ignored_11, attribute,
           alignment, address, ignored_52, execute_disable);
}  // namespace first_stage_leaf_1g

/// What the unit supports, as far as it decides which bits are reserved. Pages of 4 KiB and 2 MiB always are.
struct FirstStageRules {
  unsigned host_address_width = 52;  ///< at most 52
  bool pages_1g = true;              ///< CAP.FS1GP: else PS of a PDPE is reserved
};

/// The bits that must be zero, by level. They count only in an entry with P set.
struct FirstStageMasks {
  std::array<std::uint64_t, first_stage_levels> table{};      ///< [0] is unused: no table entry stands there
  std::array<std::uint64_t, first_stage_leaf_levels> leaf{};  ///< 4 KiB, 2 MiB, 1 GiB
};

[[nodiscard]] constexpr FirstStageMasks first_stage_masks(const FirstStageRules& rules) noexcept {
  const unsigned width = rules.host_address_width;
  const std::uint64_t table = reserved_mask(first_stage_table::rows, width);
  // PML4E and PML5E map no page, so their PS is reserved.
  const std::uint64_t top_table = table | mask_of(first_stage_table::page_size);
  FirstStageMasks masks{{0, table, table, top_table, top_table},
                        {reserved_mask(first_stage_leaf::rows, width), reserved_mask(first_stage_leaf_2m::rows, width),
                         reserved_mask(first_stage_leaf_1g::rows, width)}};
  if (!rules.pages_1g) masks.leaf[2] |= mask_of(first_stage_leaf_1g::page_size);
  return masks;
}

/// The fields that all entries share lie at the same place in each of them.
static_assert(mask_of(first_stage_table::present, first_stage_table::write, first_stage_table::user,
                      first_stage_table::accessed, first_stage_table::extended_accessed) ==
                  mask_of(first_stage_leaf::present, first_stage_leaf::write, first_stage_leaf::user,
                          first_stage_leaf::accessed, first_stage_leaf::extended_accessed) &&
              mask_of(first_stage_leaf::dirty) == mask_of(first_stage_leaf_2m::dirty) &&
              mask_of(first_stage_leaf::dirty) == mask_of(first_stage_leaf_1g::dirty));

}  // namespace viommu::walkers
