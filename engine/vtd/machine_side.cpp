// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/machine_side.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "engine/base/bits.hpp"
#include "engine/machine/memory_side.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::vtd {
namespace {

using machine::CapabilityField;
using machine::FieldMeaning;
using machine::FieldRule;

constexpr std::uint32_t vtd_host = 1;  // as iommufd numbers it
constexpr std::size_t field_count = decltype(cap::rows)::size() + decltype(ecap::rows)::size();
using Fields = std::array<CapabilityField, field_count>;

template <class Layout, class Type>
constexpr CapabilityField& row_of(Fields& rows, const Field<Layout, Type>& field) noexcept {
  constexpr std::uint8_t word = std::is_same_v<Layout, CapabilityRegister> ? 0 : 1;
  std::size_t at = 0;
  while (rows[at].word != word || rows[at].bits != field.bits) ++at;  // past the end it does not compile
  return rows[at];
}

constexpr Fields make_fields() noexcept {
  Fields rows{};
  std::size_t at = 0;
  // Walks in software, queues, fault records and interrupts are ours alone: the host's are another unit's.
  for (const Row& row : cap::rows) rows[at++] = {row.name, 0, row.bits};
  for (const Row& row : ecap::rows) rows[at++] = {row.name, 1, row.bits};

  constexpr std::array limited{FieldRule::less_or_equal, FieldRule::less_or_equal};
  CapabilityField& mgaw = row_of(rows, cap::mgaw);
  mgaw.rules = limited;
  mgaw.meaning = FieldMeaning::input_bits;
  // Where the host walks the guest's first stage, the guest must not use there what the host's walk does not know.
  const auto first_stage = [&](FieldRule rule, const auto&... named) {
    ((row_of(rows, named).rules = {FieldRule::ignore, rule}), ...);
  };
  first_stage(FieldRule::subset, cap::fs1gp, cap::fs5lp, ecap::sc, ecap::prs, ecap::srs, ecap::eafs, ecap::pasid,
              ecap::smts, ecap::fsts, ecap::smpwcs);
  first_stage(FieldRule::less_or_equal, ecap::pss);
  row_of(rows, ecap::nest).meaning = FieldMeaning::nesting;
  return rows;
}
constexpr Fields fields = make_fields();

[[nodiscard]] const MachineSide& side(const void* opaque) noexcept { return *static_cast<const MachineSide*>(opaque); }

[[nodiscard]] machine::AnnounceAbility announces(const void* opaque) {
  const Capabilities& capabilities = side(opaque).unit.capabilities();
  // Also beside a host that walks the first stage: contexts and PASID entries that become present are still announced
  // by a guest with caching mode only.
  if (!capabilities.translates()) return machine::AnnounceAbility::cannot_translate;
  return capabilities.caching_mode ? machine::AnnounceAbility::guest_announces : machine::AnnounceAbility::none;
}

[[nodiscard]] std::string_view problem(const void* opaque, machine::Widths widths) {
  const Capabilities& own = side(opaque).unit.capabilities();
  const Capabilities left = narrowed_to(own, widths);
  if (own.address_widths != 0 && left.address_widths == 0) return cap::sagaw.name;
  return left.check().field;
}

}  // namespace

std::span<const CapabilityField> capability_fields() noexcept { return fields; }

Capabilities narrowed_to(const Capabilities& capabilities, machine::Widths widths) noexcept {
  CapabilityRegister word{capabilities.cap};
  // AW w stands for tables of address_bits_of(w): the widest that is of use is the first that reaches all of MGAW.
  unsigned widest = 0;
  while (address_bits_of(widest) < widths.input_bits) ++widest;
  word = with(word, cap::mgaw, widths.input_bits - 1);
  word = with(word, cap::sagaw, get(word, cap::sagaw) & static_cast<unsigned>(low_bits(widest + 1)));
  return Capabilities::decode(capabilities.version, word.raw, capabilities.ecap, widths.host_address_width,
                              capabilities.window_bytes);
}

machine::FrontEnd MachineSide::front_end() noexcept {
  machine::FrontEnd table;
  table.opaque = this;
  table.announcing = "caching-mode";
  table.vendor = vtd_host;
  table.fields = fields;
  table.announces = announces;
  table.words = [](const void* opaque) -> machine::VendorWords {
    const Capabilities& capabilities = side(opaque).unit.capabilities();
    return {capabilities.cap, capabilities.ecap};
  };
  table.host_address_width = [](const void* opaque) { return side(opaque).unit.capabilities().host_address_width; };
  table.memory_end = [](const void* opaque) { return machine::memory_end(side(opaque).memory); };
  table.memory_hole = [](const void* opaque, GpaRange range) {
    return machine::memory_hole(side(opaque).memory, range);
  };
  table.problem = problem;
  table.apply = [](void* opaque, machine::Widths widths) {
    Unit& narrowed = static_cast<MachineSide*>(opaque)->unit;
    narrowed.adopt(narrowed_to(narrowed.capabilities(), widths));
  };
  return table;
}

}  // namespace viommu::vtd
