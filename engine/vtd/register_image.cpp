// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A register file as numbers, and back. Nothing is taken that the unit's own writes and answers could not have led to
// while no command is under way: the rest of the unit relies on what it has stored.
#include "engine/vtd/register_image.hpp"

#include <algorithm>

#include "engine/base/bits.hpp"
#include "engine/base/fault.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/page_request_layouts.hpp"
#include "engine/vtd/register_file.hpp"
#include "engine/vtd/register_layouts.hpp"
#include "engine/vtd/register_places.hpp"

namespace viommu::vtd {
namespace {

/// Bits of a register that the unit itself sets, and that may be set between commands.
[[nodiscard]] std::uint64_t set_by_unit(const Capabilities& c, std::uint32_t where) noexcept {
  const std::uint64_t interrupts = c.interrupt_remapping ? mask_of(gsts::cfis, gsts::irtps, gsts::ires) : 0;
  const std::uint64_t queue_errors = c.queue ? mask_of(iqercd::code) : 0;
  const std::uint64_t device_errors = c.device_tlb ? mask_of(iqercd::timed_out, iqercd::incomplete) : 0;
  if (where == c.iotlb_offset + 8) return mask_of(iotlb_command::done);
  switch (where) {
    case offset::global_status:
      return interrupts | mask_of(gsts::rtps) | (c.queue ? mask_of(gsts::qies) : 0) |
             (c.translates() ? mask_of(gsts::tes) : 0);
    case offset::context_command:          return mask_of(ccmd::done);
    case offset::fault_status:             return mask_of(fsts::pending, fsts::first);
    case offset::fault_event_control:      return mask_of(event_control::pending);
    case offset::protected_memory_enable:  return c.protected_low || c.protected_high ? mask_of(pmen::status) : 0;
    case offset::queue_head:               return c.queue ? mask_of(queue_pointer::index) : 0;
    case offset::completion_event_control: return c.queue ? mask_of(event_control::pending) : 0;
    case offset::queue_error_record:       return queue_errors | device_errors;
    case offset::page_event_control:       return c.page_requests ? mask_of(event_control::pending) : 0;
    default:                               return 0;
  }
}

}  // namespace

FaultLogImage FaultLog::image() const noexcept {
  FaultLogImage image;
  image.count = records_in_use_;
  image.next = next_;
  image.first = first_;
  for (std::size_t i = 0; i < image.count; ++i) image.records[i] = {records_[i].low.raw, records_[i].high.raw};
  return image;
}

bool FaultLog::could_be(const FaultLogImage::Record& record) const noexcept {
  const FaultRecordHigh high{record.high};
  const auto reason = static_cast<std::uint8_t>(get(high, frcd_high::reason));
  const bool of_interrupt = is_of_interrupt(static_cast<FaultReason>(reason));
  const std::uint64_t low_zeros =
      of_interrupt ? reserved_mask(frcd_interrupt::rows) : reserved_mask(frcd_low::rows) | ~low_bits(address_bits_);
  std::uint64_t high_zeros = reserved_mask(frcd_high::rows);
  if (!has_address_type_) high_zeros |= mask_of(frcd_high::address_type);
  if (!has_pasid_)
    high_zeros |= mask_of(frcd_high::pasid_present, frcd_high::pasid, frcd_high::privileged, frcd_high::execute);
  const bool says_why = reason != 0 || (record.low == 0 && record.high == 0);  // or has never been written
  return (record.low & low_zeros) == 0 && (record.high & high_zeros) == 0 && says_why;
}

bool FaultLog::adopt(const FaultLogImage& image) noexcept {
  if (image.count != records_in_use_ || image.next >= image.count || image.first >= image.count) return false;
  unsigned pending = 0;
  for (std::size_t i = 0; i < image.count; ++i) {
    if (!could_be(image.records[i])) return false;
    records_[i] = {{image.records[i].low}, {image.records[i].high}};
    if (get(records_[i].high, frcd_high::fault)) ++pending;
  }
  next_ = image.next;
  first_ = image.first;
  pending_records_ = pending;
  return true;
}

RegisterImage RegisterFile::image() const noexcept {
  RegisterImage image;
  const std::array rows = register_rows(capabilities_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t slot = locate(rows[i].offset).index;
    image.values[i] = joined(slots_[slot].value, rows[i].is_64_bit ? slots_[slot + 1].value : 0);
  }
  image.commanded = commanded_.raw;
  image.latched_root = latched_root_.raw;
  image.latched_interrupt_table = latched_interrupt_table_.raw;
  image.latched_queue = latched_queue_.raw;
  image.faults = faults_.image();
  return image;
}

Misfit RegisterFile::adopt(const RegisterImage& image) noexcept {
  const std::array rows = register_rows(capabilities_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const RegisterRow& row = rows[i];
    const std::uint64_t free = row.writable | row.write_one_clears | set_by_unit(capabilities_, row.offset);
    if (((image.values[i] ^ row.reset) & ~free) != 0)
      return {Misfit::Part::registers, "has a register with a bit that it cannot have"};
    const std::size_t slot = locate(row.offset).index;
    slots_[slot].value = low_half(image.values[i]);
    if (row.is_64_bit) slots_[slot + 1].value = high_half(image.values[i]);
  }
  commanded_ = {image.commanded};
  protection_commanded_ = get(ProtectedMemoryEnable{at(offset::protected_memory_enable)}, pmen::enable);
  latched_root_ = {image.latched_root};
  latched_interrupt_table_ = {image.latched_interrupt_table};
  latched_queue_ = {image.latched_queue};
  if (const Misfit wrong = what_is_wrong(rows); wrong.words != nullptr) return wrong;
  if (!faults_.adopt(image.faults)) return {Misfit::Part::fault_records, "has records that cannot be"};
  return {Misfit::Part::registers, wrong_about_events()};
}

/// Levels and pointers, of which the registers and what was latched have to agree.
Misfit RegisterFile::what_is_wrong(std::span<const RegisterRow> rows) const noexcept {
  const GlobalStatus now = status();
  GlobalCommand levels = with(GlobalCommand{}, gcmd::te, get(now, gsts::tes));
  levels = with(levels, gcmd::qie, get(now, gsts::qies));
  levels = with(levels, gcmd::ire, get(now, gsts::ires));
  levels = with(levels, gcmd::cfi, get(now, gsts::cfis));
  if (levels.raw != commanded_.raw || protection_enabled() != protection_commanded_)
    return {Misfit::Part::latched, "has a command under way"};
  const auto writable = [rows](std::uint32_t where) {
    return std::ranges::find(rows, where, &RegisterRow::offset)->writable;
  };
  const auto is_of = [&](std::uint64_t latched, std::uint32_t where) { return (latched & ~writable(where)) == 0; };
  if (!is_of(latched_root_.raw, offset::root_table) || !is_of(latched_interrupt_table_.raw, offset::interrupt_table) ||
      !is_of(latched_queue_.raw, offset::queue_address))
    return {Misfit::Part::latched, "has a pointer that its register could not have had"};
  if ((!get(now, gsts::rtps) && latched_root_.raw != 0) ||
      (!get(now, gsts::irtps) && latched_interrupt_table_.raw != 0))
    return {Misfit::Part::latched, "has a pointer that was not set"};
  const QueueGeometry queue = queue_geometry();
  const bool in_ring = queue_head() % queue.entry_bytes == 0 && queue_head() < queue.size_bytes;
  if (queue_enabled() ? !in_ring : queue_head() != 0)
    return {Misfit::Part::registers, "has a queue head beyond its ring"};
  return {};
}

/// What FSTS says follows from the records, and an event waits only while it is masked and its status says why.
const char* RegisterFile::wrong_about_events() const noexcept {
  const FaultStatusRegister faults = fault_status();
  if (get(faults, fsts::pending) != faults_.pending() || get(faults, fsts::first) != faults_.first())
    return "has a fault status that its records do not agree with";
  const QueueErrorRecord record{wide_at(offset::queue_error_record)};
  const QueueErrorCode code = get(record, iqercd::code);
  if (code > QueueErrorCode::invalid_table_mode ||
      (get(faults, fsts::queue_error) && code == QueueErrorCode::no_information))
    return "has a queue error that does not exist";
  const auto waits_for_nothing = [this](std::uint32_t control_offset, bool has_cause) {
    const EventControl control{at(control_offset)};
    return get(control, event_control::pending) && !(get(control, event_control::mask) && has_cause);
  };
  if (waits_for_nothing(offset::fault_event_control, with(faults, fsts::first, 0).raw != 0) ||
      waits_for_nothing(offset::completion_event_control, at(offset::completion_status) != 0) ||
      waits_for_nothing(offset::page_event_control, at(offset::page_request_status) != 0))
    return "has a pending event without a cause";
  return nullptr;
}

}  // namespace viommu::vtd
