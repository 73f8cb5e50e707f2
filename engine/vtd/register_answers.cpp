// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the unit reports back to the register file, and the events that follow from it.
#include "engine/base/bits.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/page_request_layouts.hpp"
#include "engine/vtd/register_file.hpp"
#include "engine/vtd/register_places.hpp"

namespace viommu::vtd {
namespace {

// The registers of an event stand in this order behind its control register.
constexpr std::uint32_t data_behind_control = 4;
constexpr std::uint32_t address_behind_control = 8;
constexpr std::uint32_t upper_address_behind_control = 12;

}  // namespace

std::uint32_t& RegisterFile::at(std::uint32_t offset) noexcept { return slots_[offset / 4].value; }
std::uint32_t RegisterFile::at(std::uint32_t offset) const noexcept { return slots_[offset / 4].value; }
std::uint64_t RegisterFile::wide_at(std::uint32_t offset) const noexcept { return joined(at(offset), at(offset + 4)); }
void RegisterFile::set_wide(std::uint32_t offset, std::uint64_t value) noexcept {
  at(offset) = low_half(value);
  at(offset + 4) = high_half(value);
}

GlobalStatus RegisterFile::status() const noexcept { return {at(offset::global_status)}; }

void RegisterFile::set_status(const Field<GlobalStatus, bool>& field, bool on) noexcept {
  at(offset::global_status) = with(status(), field, on).raw;
}

void RegisterFile::complete_write_buffer_flush() noexcept { set_status(gsts::wbfs, false); }
void RegisterFile::complete_root_pointer() noexcept { set_status(gsts::rtps, true); }
void RegisterFile::complete_interrupt_table() noexcept { set_status(gsts::irtps, true); }
void RegisterFile::complete_compatibility_format(bool on) noexcept { set_status(gsts::cfis, on); }

void RegisterFile::complete_queue(bool on) noexcept {
  set_status(gsts::qies, on);
  if (!on) set_queue_head(0);
}

void RegisterFile::complete_interrupt_remapping(bool on) noexcept {
  set_status(gsts::ires, on);
  restart_fault_log_when_off();
}

void RegisterFile::complete_translation(bool on) noexcept {
  set_status(gsts::tes, on);
  restart_fault_log_when_off();
}

/// "Primary Fault Logging": with both kinds of remapping off, the next fault goes to the first record again.
void RegisterFile::restart_fault_log_when_off() noexcept {
  if (!translation_enabled() && !interrupt_remapping_enabled()) faults_.restart();
}

void RegisterFile::complete_protected_memory(bool on) noexcept {
  std::uint32_t& word = at(offset::protected_memory_enable);
  word = with(ProtectedMemoryEnable{word}, pmen::status, on).raw;
}

void RegisterFile::complete_context_invalidation(ContextGranularity done) noexcept {
  const ContextCommand command{wide_at(offset::context_command)};
  set_wide(offset::context_command, with(with(command, ccmd::done, done), ccmd::invalidate, false).raw);
}

void RegisterFile::complete_iotlb_invalidation(IotlbGranularity done) noexcept {
  const IotlbCommand command{wide_at(place::iotlb_command)};
  set_wide(place::iotlb_command, with(with(command, iotlb_command::done, done), iotlb_command::invalidate, false).raw);
}

void RegisterFile::set_queue_head(std::uint32_t head) noexcept {
  constexpr std::uint64_t index = mask_of(queue_pointer::index);
  set_wide(offset::queue_head, head & index);
}

std::uint32_t RegisterFile::queue_head() const noexcept { return at(offset::queue_head); }
std::uint32_t RegisterFile::queue_tail() const noexcept { return at(offset::queue_tail); }

bool RegisterFile::queue_may_run() const noexcept {
  const bool stopped = get(fault_status(), fsts::queue_error) || get(fault_status(), fsts::timeout);
  return queue_enabled() && !stopped && queue_head() != queue_tail();
}

RootPointer RegisterFile::root_pointer() const noexcept {
  return {get(latched_root_, rtaddr::root), get(latched_root_, rtaddr::mode)};
}

InterruptTable RegisterFile::interrupt_table() const noexcept {
  const unsigned size = get(latched_interrupt_table_, irta::size);
  return {get(latched_interrupt_table_, irta::table), size, low_half(low_bits(size + 1) + 1),
          get(latched_interrupt_table_, irta::extended)};
}

bool RegisterFile::protection_enabled() const noexcept {
  return get(ProtectedMemoryEnable{at(offset::protected_memory_enable)}, pmen::status);
}

std::optional<Range<Iova>> RegisterFile::protected_low_region() const noexcept {
  if (!capabilities_.protected_low) return std::nullopt;
  const std::uint64_t base = at(offset::protected_low_base);
  const std::uint64_t last = at(offset::protected_low_limit) | reserved_mask(protected_low::rows);
  return last < base ? std::nullopt : std::optional{Range<Iova>{{base}, {last}}};
}

std::optional<Range<Iova>> RegisterFile::protected_high_region() const noexcept {
  if (!capabilities_.protected_high) return std::nullopt;
  const std::uint64_t base = wide_at(offset::protected_high_base);
  const std::uint64_t last = wide_at(offset::protected_high_limit) | reserved_mask(protected_high::rows);
  return last < base ? std::nullopt : std::optional{Range<Iova>{{base}, {last}}};
}

FaultStatusRegister RegisterFile::fault_status() const noexcept { return {at(offset::fault_status)}; }

/// PPF and FRI follow the records. A status register that says nothing any more takes a pending event back.
void RegisterFile::refresh_fault_status() noexcept {
  FaultStatusRegister status = with(fault_status(), fsts::pending, faults_.pending());
  status = with(status, fsts::first, faults_.first());
  at(offset::fault_status) = status.raw;
  if (with(status, fsts::first, 0).raw == 0) withdraw_event(offset::fault_event_control);
}

/// Sets a status bit. "Fault Events": the event is raised by the first bit, while no other was set.
std::optional<EventMessage> RegisterFile::raise_status(const Field<FaultStatusRegister, bool>& field) noexcept {
  const bool quiet = with(fault_status(), fsts::first, 0).raw == 0;
  at(offset::fault_status) = with(fault_status(), field, true).raw;
  return quiet ? raise_event(offset::fault_event_control) : std::nullopt;
}

std::optional<EventMessage> RegisterFile::raise_queue_error(QueueErrorCode code) noexcept {
  if (get(fault_status(), fsts::queue_error)) return std::nullopt;
  const QueueErrorRecord record{wide_at(offset::queue_error_record)};
  set_wide(offset::queue_error_record, with(record, iqercd::code, code).raw);
  return raise_status(fsts::queue_error);
}

std::optional<EventMessage> RegisterFile::raise_timeout(SourceId source) noexcept {
  if (get(fault_status(), fsts::timeout)) return std::nullopt;
  const QueueErrorRecord record{wide_at(offset::queue_error_record)};
  set_wide(offset::queue_error_record, with(record, iqercd::timed_out, source).raw);
  return raise_status(fsts::timeout);
}

std::optional<EventMessage> RegisterFile::raise_completion_error(SourceId source) noexcept {
  if (get(fault_status(), fsts::completion_error)) return std::nullopt;
  const QueueErrorRecord record{wide_at(offset::queue_error_record)};
  set_wide(offset::queue_error_record, with(record, iqercd::incomplete, source).raw);
  return raise_status(fsts::completion_error);
}

std::optional<EventMessage> RegisterFile::complete_wait_interrupt() noexcept {
  const CompletionStatus status{at(offset::completion_status)};
  if (get(status, ics::complete)) return std::nullopt;
  at(offset::completion_status) = with(status, ics::complete, true).raw;
  return raise_event(offset::completion_event_control);
}

bool RegisterFile::page_overflow() const noexcept {
  return get(PageRequestStatus{at(offset::page_request_status)}, prs::overflow);
}

std::uint32_t RegisterFile::free_page_requests() const noexcept {
  const std::uint32_t entries = page_queue_entries();
  const PageQueuePointer head{wide_at(offset::page_queue_head)};
  const PageQueuePointer tail{wide_at(offset::page_queue_tail)};
  const std::uint32_t used = get(tail, page_queue_pointer::entry) - get(head, page_queue_pointer::entry);
  return entries - 1 - used % entries;  // a power of two, so the difference may wrap
}

Gpa RegisterFile::next_page_request() const noexcept {
  const std::uint32_t tail = get(PageQueuePointer{wide_at(offset::page_queue_tail)}, page_queue_pointer::entry);
  const Gpa base = get(PageQueueAddress{wide_at(offset::page_queue_address)}, pqa::base);
  return base + tail % page_queue_entries() * std::uint64_t{page_request_bytes};
}

std::uint32_t RegisterFile::page_queue_entries() const noexcept {
  constexpr std::uint32_t least = 128;
  return least << get(PageQueueAddress{wide_at(offset::page_queue_address)}, pqa::size);
}

std::optional<EventMessage> RegisterFile::publish_page_request() noexcept {
  const PageQueuePointer tail{wide_at(offset::page_queue_tail)};
  const std::uint32_t next = (get(tail, page_queue_pointer::entry) + 1) % page_queue_entries();
  set_wide(offset::page_queue_tail, with(tail, page_queue_pointer::entry, next).raw);
  return raise_page_status(mask_of(prs::pending));
}

std::optional<EventMessage> RegisterFile::raise_page_overflow() noexcept {
  return raise_page_status(mask_of(prs::overflow));
}

/// The event is raised by the first bit, while the other is clear.
std::optional<EventMessage> RegisterFile::raise_page_status(std::uint32_t bit) noexcept {
  const bool quiet = at(offset::page_request_status) == 0;
  at(offset::page_request_status) |= bit;
  return quiet ? raise_event(offset::page_event_control) : std::nullopt;
}

RecordedFault RegisterFile::record_fault(const FaultEntry& entry) noexcept {
  if (get(fault_status(), fsts::overflow)) return {FaultStatus::overflowed, std::nullopt};
  const FaultStatus outcome = faults_.record(entry, options_.compress_faults);
  if (outcome == FaultStatus::overflow_set) {
    // Overflow alone is no interrupt condition.
    at(offset::fault_status) = with(fault_status(), fsts::overflow, true).raw;
  }
  if (outcome != FaultStatus::recorded) return {outcome, std::nullopt};
  const std::optional<EventMessage> event = raise_status(fsts::pending);
  refresh_fault_status();
  return {outcome, event};
}

EventMessage RegisterFile::message(std::uint32_t control_offset) const noexcept {
  return {joined(at(control_offset + address_behind_control), at(control_offset + upper_address_behind_control)),
          at(control_offset + data_behind_control)};
}

/// The event is pending, or sent at once where it is not masked.
std::optional<EventMessage> RegisterFile::raise_event(std::uint32_t control_offset) noexcept {
  at(control_offset) = with(EventControl{at(control_offset)}, event_control::pending, true).raw;
  return release_event(control_offset);
}

std::optional<EventMessage> RegisterFile::release_event(std::uint32_t control_offset) noexcept {
  const EventControl control{at(control_offset)};
  if (!get(control, event_control::pending) || get(control, event_control::mask)) return std::nullopt;
  withdraw_event(control_offset);
  return message(control_offset);
}

void RegisterFile::withdraw_event(std::uint32_t control_offset) noexcept {
  at(control_offset) = with(EventControl{at(control_offset)}, event_control::pending, false).raw;
}

}  // namespace viommu::vtd
