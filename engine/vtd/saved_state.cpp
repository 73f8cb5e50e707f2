// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/saved_state.hpp"

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"

namespace viommu::vtd {
namespace {

using machine::SectionReader;
using machine::StateProblem;
using machine::StateWriter;

constexpr std::uint32_t no_pasid = ~std::uint32_t{0};
constexpr std::uint32_t group_numbers = 512;
constexpr std::uint32_t pasids = 1U << 20;
constexpr std::array sections{section::capabilities, section::registers, section::latched, section::fault_records,
                              section::page_groups};
enum : std::size_t { capabilities_at, registers_at, latched_at, fault_records_at, page_groups_at };

/// The first field in which two words differ.
template <class Rows>
[[nodiscard]] std::optional<FieldMismatch> first_difference(const Rows& rows, std::uint64_t ours,
                                                            std::uint64_t theirs) noexcept {
  for (const Row& row : rows)
    if (row.value_in(ours) != row.value_in(theirs))
      return FieldMismatch{row.name, row.value_in(ours), row.value_in(theirs)};
  return std::nullopt;
}

[[nodiscard]] std::optional<FieldMismatch> difference(const UnitIdentity& unit, SectionReader& saved) noexcept {
  const Capabilities& own = unit.capabilities;
  const std::uint32_t version = saved.u32();
  const std::uint64_t cap = saved.u64();
  const std::uint64_t ecap = saved.u64();
  const std::uint32_t haw = saved.u32();
  const std::uint32_t compression = saved.u32();
  if (const auto found = first_difference(version_register::rows, own.version, version)) return found;
  // The width first: it is what the others follow from.
  const auto mgaw = [](std::uint64_t word) { return get(CapabilityRegister{word}, cap::mgaw); };
  if (mgaw(own.cap) != mgaw(cap)) return FieldMismatch{cap::mgaw.name, mgaw(own.cap), mgaw(cap)};
  if (const auto found = first_difference(cap::rows, own.cap, cap)) return found;
  if (const auto found = first_difference(ecap::rows, own.ecap, ecap)) return found;
  if (own.host_address_width != haw) return FieldMismatch{"HAW", own.host_address_width, haw};
  const std::uint32_t compresses = unit.compress_faults ? 1 : 0;
  if (compresses != compression) return FieldMismatch{"fault compression", compresses, compression};
  return std::nullopt;
}

[[nodiscard]] const char* read_registers(SectionReader& saved, const Capabilities& unit,
                                         RegisterImage& image) noexcept {
  constexpr const char* of_another_unit = "does not have the registers of this unit";
  if (saved.u32() != register_count) return of_another_unit;
  const std::array rows = register_rows(unit);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (saved.u32() != rows[i].offset) return of_another_unit;
    image.values[i] = saved.u64();
    if (!rows[i].is_64_bit && high_half(image.values[i]) != 0) return "has a register that is too wide";
  }
  return nullptr;
}

[[nodiscard]] const char* read_fault_records(SectionReader& saved, FaultLogImage& image) noexcept {
  image.count = saved.u32();
  image.next = saved.u32();
  image.first = saved.u32();
  if (image.count > image.records.size()) return "has more records than there can be";
  for (std::size_t i = 0; i < image.count; ++i) {
    image.records[i].low = saved.u64();
    image.records[i].high = saved.u64();
  }
  return nullptr;
}

[[nodiscard]] const char* read_groups(SectionReader& saved, const Capabilities& unit, PageGroups& groups) noexcept {
  groups.count = saved.u32();
  if (groups.count > (unit.page_requests ? PageGroups::most : 0)) return "has more groups than there can be";
  for (std::size_t i = 0; i < groups.count; ++i) {
    PageGroup& group = groups.groups[i];
    group.source = {saved.u16()};
    group.number = saved.u16();
    const std::uint32_t pasid = saved.u32();
    group.pasid = pasid == no_pasid ? std::nullopt : std::optional{Pasid{pasid}};
    if (group.number >= group_numbers || (pasid != no_pasid && pasid >= pasids)) return "has a group that cannot be";
  }
  return nullptr;
}

}  // namespace

std::size_t write_state(const SavedState& state, const UnitIdentity& unit, std::span<std::byte> room) noexcept {
  StateWriter to{room};
  const RegisterImage& image = state.registers;

  to.begin(section::capabilities);
  to.put_u32(unit.capabilities.version);
  to.put_u64(unit.capabilities.cap);
  to.put_u64(unit.capabilities.ecap);
  to.put_u32(unit.capabilities.host_address_width);
  to.put_u32(unit.compress_faults ? 1 : 0);
  to.end();

  to.begin(section::registers);
  to.put_u32(register_count);
  const std::array rows = register_rows(unit.capabilities);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    to.put_u32(rows[i].offset);
    to.put_u64(image.values[i]);
  }
  to.end();

  to.begin(section::latched);
  to.put_u32(image.commanded);
  to.put_u64(image.latched_root);
  to.put_u64(image.latched_interrupt_table);
  to.put_u64(image.latched_queue);
  to.end();

  to.begin(section::fault_records);
  to.put_u32(static_cast<std::uint32_t>(image.faults.count));
  to.put_u32(image.faults.next);
  to.put_u32(image.faults.first);
  for (std::size_t i = 0; i < image.faults.count; ++i) {
    to.put_u64(image.faults.records[i].low);
    to.put_u64(image.faults.records[i].high);
  }
  to.end();

  to.begin(section::page_groups);
  to.put_u32(static_cast<std::uint32_t>(state.groups.count));
  for (std::size_t i = 0; i < state.groups.count; ++i) {
    const PageGroup& group = state.groups.groups[i];
    to.put_u16(group.source.value);
    to.put_u16(static_cast<std::uint16_t>(group.number));
    to.put_u32(group.pasid ? group.pasid->value : no_pasid);
  }
  to.end();
  return to.finish();
}

LoadProblem read_state(std::span<const std::byte> bytes, const UnitIdentity& unit, SavedState& state) noexcept {
  std::array<SectionReader, sections.size()> saved;
  if (const auto problem = machine::take_apart(bytes, sections, saved)) return *problem;
  constexpr std::size_t capability_bytes = 28;
  if (saved[capabilities_at].left() != capability_bytes)
    return StateProblem{section::capabilities, "has another length"};
  if (const auto mismatch = difference(unit, saved[capabilities_at])) return *mismatch;

  if (const char* const wrong = read_registers(saved[registers_at], unit.capabilities, state.registers))
    return StateProblem{section::registers, wrong};
  SectionReader& latched = saved[latched_at];
  state.registers.commanded = latched.u32();
  state.registers.latched_root = latched.u64();
  state.registers.latched_interrupt_table = latched.u64();
  state.registers.latched_queue = latched.u64();
  if (const char* const wrong = read_fault_records(saved[fault_records_at], state.registers.faults))
    return StateProblem{section::fault_records, wrong};
  if (const char* const wrong = read_groups(saved[page_groups_at], unit.capabilities, state.groups))
    return StateProblem{section::page_groups, wrong};
  for (std::size_t i = 0; i < saved.size(); ++i)
    if (!saved[i].complete()) return StateProblem{sections[i], "has another length"};
  return {};
}

}  // namespace viommu::vtd
