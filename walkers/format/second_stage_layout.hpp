// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Second-Stage Paging Entries": where the bits are, and which must be zero at which level.
// Level 0 holds 4 KiB leaves (PTE), 1 is PDE, 2 PDPE, 3 PML4E, 4 PML5E; 2 MiB and 1 GiB leaves stand at 1 and 2.
#pragma once

#include <array>
#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"

namespace viommu::walkers {

inline constexpr unsigned second_stage_levels = 5;
inline constexpr unsigned second_stage_leaf_levels = 3;

/// An entry that points to another table: PML5E, PML4E, and PDPE or PDE with PS clear.
struct SecondStageTable {
  std::uint64_t raw = 0;
};
namespace second_stage_table {
// clang-format off
inline constexpr Field<SecondStageTable, bool>     read       {"R",    { 0,  0}};
inline constexpr Field<SecondStageTable, bool>     write      {"W",    { 1,  1}};
inline constexpr Field<SecondStageTable, unsigned> ignored_2  {"Ign",  { 6,  2}, Rule::ignored};
inline constexpr Field<SecondStageTable, bool>     page_size  {"PS",   { 7,  7}};
inline constexpr Field<SecondStageTable, bool>     accessed   {"A",    { 8,  8}};
inline constexpr Field<SecondStageTable, unsigned> ignored_9  {"Ign",  {10,  9}, Rule::ignored};
inline constexpr Field<SecondStageTable, bool>     snoop      {"SNP",  {11, 11}, Rule::reserved};
inline constexpr Field<SecondStageTable, Gpa>      address    {"ADDR", {51, 12}, Rule::address};
inline constexpr Field<SecondStageTable, unsigned> ignored_52 {"Ign",  {61, 52}, Rule::ignored};
inline constexpr Field<SecondStageTable, bool>     reserved   {"IW",   {62, 62}, Rule::reserved};
inline constexpr Field<SecondStageTable, bool>     ignored_63 {"Ign",  {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows =
    layout(read, write, ignored_2, page_size, accessed, ignored_9, snoop, address, ignored_52, reserved, ignored_63);
}  // namespace second_stage_table

/// PTE: a page of 4 KiB. What larger pages call PS is ignored here.
struct SecondStageLeaf {
  std::uint64_t raw = 0;
};
namespace second_stage_leaf {
// clang-format off
inline constexpr Field<SecondStageLeaf, bool>     read       {"R",    { 0,  0}};
inline constexpr Field<SecondStageLeaf, bool>     write      {"W",    { 1,  1}};
inline constexpr Field<SecondStageLeaf, bool>     ignored_2  {"Ign",  { 2,  2}, Rule::ignored};
inline constexpr Field<SecondStageLeaf, unsigned> memory     {"EMT",  { 5,  3}, Rule::ignored};
inline constexpr Field<SecondStageLeaf, bool>     ignore_pat {"IPAT", { 6,  6}, Rule::ignored};
inline constexpr Field<SecondStageLeaf, bool>     ignored_7  {"Ign",  { 7,  7}, Rule::ignored};
inline constexpr Field<SecondStageLeaf, bool>     accessed   {"A",    { 8,  8}};
inline constexpr Field<SecondStageLeaf, bool>     dirty      {"D",    { 9,  9}};
inline constexpr Field<SecondStageLeaf, bool>     ignored_10 {"Ign",  {10, 10}, Rule::ignored};
inline constexpr Field<SecondStageLeaf, bool>     snoop      {"SNP",  {11, 11}};
inline constexpr Field<SecondStageLeaf, Gpa>      address    {"ADDR", {51, 12}, Rule::address};
inline constexpr Field<SecondStageLeaf, unsigned> ignored_52 {"Ign",  {61, 52}, Rule::ignored};
inline constexpr Field<SecondStageLeaf, bool>     reserved   {"IW",   {62, 62}, Rule::reserved};
inline constexpr Field<SecondStageLeaf, bool>     ignored_63 {"Ign",  {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows = layout(read, write, ignored_2, memory, ignore_pat, ignored_7, accessed, dirty, ignored_10,
                                    snoop, address, ignored_52, reserved, ignored_63);
}  // namespace second_stage_leaf

/// PDE with PS set: a page of 2 MiB.
struct SecondStageLeaf2M {
  std::uint64_t raw = 0;
};
namespace second_stage_leaf_2m {
// clang-format off
inline constexpr Field<SecondStageLeaf2M, bool>     read       {"R",    { 0,  0}};
inline constexpr Field<SecondStageLeaf2M, bool>     write      {"W",    { 1,  1}};
inline constexpr Field<SecondStageLeaf2M, bool>     ignored_2  {"Ign",  { 2,  2}, Rule::ignored};
inline constexpr Field<SecondStageLeaf2M, unsigned> memory     {"EMT",  { 5,  3}, Rule::ignored};
inline constexpr Field<SecondStageLeaf2M, bool>     ignore_pat {"IPAT", { 6,  6}, Rule::ignored};
inline constexpr Field<SecondStageLeaf2M, bool>     page_size  {"PS",   { 7,  7}};
inline constexpr Field<SecondStageLeaf2M, bool>     accessed   {"A",    { 8,  8}};
inline constexpr Field<SecondStageLeaf2M, bool>     dirty      {"D",    { 9,  9}};
inline constexpr Field<SecondStageLeaf2M, bool>     ignored_10 {"Ign",  {10, 10}, Rule::ignored};
inline constexpr Field<SecondStageLeaf2M, bool>     snoop      {"SNP",  {11, 11}};
inline constexpr Field<SecondStageLeaf2M, unsigned> alignment  {"Rsvd", {20, 12}, Rule::reserved};
inline constexpr Field<SecondStageLeaf2M, Gpa>      address    {"ADDR", {51, 21}, Rule::address};
inline constexpr Field<SecondStageLeaf2M, unsigned> ignored_52 {"Ign",  {61, 52}, Rule::ignored};
inline constexpr Field<SecondStageLeaf2M, bool>     reserved   {"IW",   {62, 62}, Rule::reserved};
inline constexpr Field<SecondStageLeaf2M, bool>     ignored_63 {"Ign",  {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows = layout(read, write, ignored_2, memory, ignore_pat, page_size, accessed, dirty, ignored_10,
                                    snoop, alignment, address, ignored_52, reserved, ignored_63);
}  // namespace second_stage_leaf_2m

/// PDPE with PS set: a page of 1 GiB.
struct SecondStageLeaf1G {
  std::uint64_t raw = 0;
};
namespace second_stage_leaf_1g {
// clang-format off
inline constexpr Field<SecondStageLeaf1G, bool>     read       {"R",    { 0,  0}};
inline constexpr Field<SecondStageLeaf1G, bool>     write      {"W",    { 1,  1}};
inline constexpr Field<SecondStageLeaf1G, bool>     ignored_2  {"Ign",  { 2,  2}, Rule::ignored};
inline constexpr Field<SecondStageLeaf1G, unsigned> memory     {"EMT",  { 5,  3}, Rule::ignored};
inline constexpr Field<SecondStageLeaf1G, bool>     ignore_pat {"IPAT", { 6,  6}, Rule::ignored};
inline constexpr Field<SecondStageLeaf1G, bool>     page_size  {"PS",   { 7,  7}};
inline constexpr Field<SecondStageLeaf1G, bool>     accessed   {"A",    { 8,  8}};
inline constexpr Field<SecondStageLeaf1G, bool>     dirty      {"D",    { 9,  9}};
inline constexpr Field<SecondStageLeaf1G, bool>     ignored_10 {"Ign",  {10, 10}, Rule::ignored};
inline constexpr Field<SecondStageLeaf1G, bool>     snoop      {"SNP",  {11, 11}};
inline constexpr Field<SecondStageLeaf1G, unsigned> alignment  {"Rsvd", {29, 12}, Rule::reserved};
inline constexpr Field<SecondStageLeaf1G, Gpa>      address    {"ADDR", {51, 30}, Rule::address};
inline constexpr Field<SecondStageLeaf1G, unsigned> ignored_52 {"Ign",  {61, 52}, Rule::ignored};
inline constexpr Field<SecondStageLeaf1G, bool>     reserved   {"IW",   {62, 62}, Rule::reserved};
inline constexpr Field<SecondStageLeaf1G, bool>     ignored_63 {"Ign",  {63, 63}, Rule::ignored};
// clang-format on
inline constexpr auto rows = layout(read, write, ignored_2, memory, ignore_pat, page_size, accessed, dirty, ignored_10,
                                    snoop, alignment, address, ignored_52, reserved, ignored_63);
}  // namespace second_stage_leaf_1g

/// What the unit supports, as far as it decides which bits are reserved.
struct SecondStageRules {
  unsigned host_address_width = 52;  ///< at most 52
  bool snoop_control = false;        ///< ECAP.SC: SNP of a leaf is a value, else reserved
  bool pages_2m = true;              ///< CAP.SSLPS bit 0: else PS of a PDE is reserved
  bool pages_1g = true;              ///< CAP.SSLPS bit 1: else PS of a PDPE is reserved
};

/// The bits that must be zero, by level. They count only in an entry with R or W set.
struct SecondStageMasks {
  std::array<std::uint64_t, second_stage_levels> table{};      ///< [0] is unused: no table entry stands there
  std::array<std::uint64_t, second_stage_leaf_levels> leaf{};  ///< 4 KiB, 2 MiB, 1 GiB
};

[[nodiscard]] constexpr SecondStageMasks second_stage_masks(const SecondStageRules& rules) noexcept {
  const unsigned width = rules.host_address_width;
  const std::uint64_t table = reserved_mask(second_stage_table::rows, width);
  // PML4E and PML5E map no page, so their PS is reserved.
  const std::uint64_t top_table = table | mask_of(second_stage_table::page_size);
  SecondStageMasks masks{
      {0, table, table, top_table, top_table},
      {reserved_mask(second_stage_leaf::rows, width), reserved_mask(second_stage_leaf_2m::rows, width),
       reserved_mask(second_stage_leaf_1g::rows, width)}};
  if (!rules.snoop_control) {
    for (std::uint64_t& leaf : masks.leaf) leaf |= mask_of(second_stage_leaf::snoop);
  }
  if (!rules.pages_2m) masks.leaf[1] |= mask_of(second_stage_leaf_2m::page_size);
  if (!rules.pages_1g) masks.leaf[2] |= mask_of(second_stage_leaf_1g::page_size);
  return masks;
}

/// The flags lie at the same place in all entries that have them.
static_assert(mask_of(second_stage_table::accessed) == mask_of(second_stage_leaf::accessed) &&
              mask_of(second_stage_table::accessed) == mask_of(second_stage_leaf_2m::accessed) &&
              mask_of(second_stage_table::accessed) == mask_of(second_stage_leaf_1g::accessed) &&
              mask_of(second_stage_leaf::dirty) == mask_of(second_stage_leaf_2m::dirty) &&
              mask_of(second_stage_leaf::dirty) == mask_of(second_stage_leaf_1g::dirty));

}  // namespace viommu::walkers
