// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Accesses, and what writes lead to. Answers and events are in register_answers.cpp.
#include "engine/vtd/register_file.hpp"

#include "engine/base/bits.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/register_places.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint32_t dword_bytes = 4;

/// The last byte of a command register holds the bit that starts it; only a write of that byte does.
constexpr bool covers_last_byte(std::uint32_t mask) noexcept { return (mask & byte_lanes(3, 1)) != 0; }

}  // namespace

RegisterFile::RegisterFile(const Capabilities& capabilities, Options options) noexcept
    : capabilities_(capabilities), options_(options), faults_(capabilities) {
  for (const RegisterRow& row : register_rows(capabilities)) {
    const bool is_iotlb = row.offset - capabilities.iotlb_offset < place::iotlb_bytes;
    const std::uint32_t where =
        is_iotlb ? place::invalidate_address + (row.offset - capabilities.iotlb_offset) : row.offset;
    const std::uint64_t readable = ~row.write_only;
    Slot& low = slots_[where / dword_bytes];
    low.reset = low_half(row.reset);
    low.writable = low_half(row.writable);
    low.write_one_clears = low_half(row.write_one_clears);
    low.readable = low_half(readable);
    low.starts_64_bit = row.is_64_bit;
    if (!row.is_64_bit) continue;
    Slot& high = slots_[where / dword_bytes + 1];
    high.reset = high_half(row.reset);
    high.writable = high_half(row.writable);
    high.write_one_clears = high_half(row.write_one_clears);
    high.readable = high_half(readable);
  }
  reset();
}

void RegisterFile::reset() noexcept {
  for (Slot& slot : slots_) slot.value = slot.reset;
  faults_.reset();
  commanded_ = {};
  protection_commanded_ = false;
  latched_root_ = {};
  latched_interrupt_table_ = {};
  latched_queue_ = {};
}

AccessStatus RegisterFile::judge(std::uint64_t offset, unsigned size) const noexcept {
  if (size != 1 && size != 2 && size != 4 && size != 8) return AccessStatus::ignored;
  if (offset >= capabilities_.window_bytes || size > capabilities_.window_bytes - offset) return AccessStatus::outside;
  // An access of 8 bytes may start in the middle of a 64-bit register: its lower half is then taken.
  const unsigned alignment = size == 8 ? dword_bytes : size;
  return offset % alignment == 0 ? AccessStatus::done : AccessStatus::ignored;
}

RegisterFile::Place RegisterFile::locate(std::uint32_t offset) const noexcept {
  // A difference below zero wraps to a large number, so one comparison each is enough.
  const std::uint32_t in_iotlb = offset - capabilities_.iotlb_offset;
  if (in_iotlb < place::iotlb_bytes) return {Place::Kind::slot, iotlb_slots + in_iotlb / dword_bytes};
  const std::uint32_t in_records = offset - capabilities_.fault_record_offset;
  if (in_records / dword_bytes < faults_.dwords()) return {Place::Kind::fault_record, in_records / dword_bytes};
  if (offset < offset::fixed_end) return {Place::Kind::slot, offset / dword_bytes};
  return {};
}

bool RegisterFile::starts_64_bit(Place place) const noexcept {
  switch (place.kind) {
    case Place::Kind::slot:         return slots_[place.index].starts_64_bit;
    case Place::Kind::fault_record: return place.index % 2 == 0;
    case Place::Kind::nothing:      break;
  }
  return false;
}

std::uint32_t RegisterFile::read_dword(Place place) const noexcept {
  switch (place.kind) {
    case Place::Kind::slot:         return slots_[place.index].value & slots_[place.index].readable;
    case Place::Kind::fault_record: return faults_.read(place.index);
    case Place::Kind::nothing:      break;
  }
  return 0;
}

ReadResult RegisterFile::read(std::uint64_t offset, unsigned size) const noexcept {
  const AccessStatus access = judge(offset, size);
  if (access != AccessStatus::done) return {access, 0};
  const auto first_byte = static_cast<unsigned>(offset % dword_bytes);
  const auto dword = static_cast<std::uint32_t>(offset - first_byte);
  const Place place = locate(dword);
  const std::uint32_t low = read_dword(place);
  if (size < 8) return {access, from_byte_lane(low & byte_lanes(first_byte, size), first_byte)};
  return {access, joined(low, starts_64_bit(place) ? read_dword(locate(dword + dword_bytes)) : 0)};
}

Actions RegisterFile::write(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept {
  Actions actions;
  actions.access = judge(offset, size);
  if (actions.access != AccessStatus::done) return actions;
  const auto first_byte = static_cast<unsigned>(offset % dword_bytes);
  const auto dword = static_cast<std::uint32_t>(offset - first_byte);
  const Place place = locate(dword);
  // "Access to 64-bit registers": a unit that splits an access writes the lower half first.
  const std::uint32_t mask = low_half(byte_lanes(first_byte, size < 8 ? size : dword_bytes));
  write_dword(place, low_half(to_byte_lane(value, first_byte)), mask, actions);
  if (size == 8 && starts_64_bit(place)) {
    write_dword(locate(dword + dword_bytes), high_half(value), low_half(byte_lanes(0, dword_bytes)), actions);
  }
  return actions;
}

void RegisterFile::write_dword(Place place, std::uint32_t value, std::uint32_t mask, Actions& actions) noexcept {
  if (place.kind == Place::Kind::fault_record) {
    if (faults_.write(place.index, value, mask)) refresh_fault_status();
    return;
  }
  if (place.kind != Place::Kind::slot || is_busy(place.index)) return;
  Slot& slot = slots_[place.index];
  const std::uint32_t before = slot.value;
  const std::uint32_t stored = slot.writable & mask;
  slot.value = ((before & ~stored) | (value & stored)) & ~(value & mask & slot.write_one_clears);
  react(place.index, before, value, mask, actions);
}

/// A command register does not change while its command is being carried out.
bool RegisterFile::is_busy(std::size_t slot) const noexcept {
  switch (slot * dword_bytes) {
    case offset::context_command:
    case offset::context_command + dword_bytes:
      return get(ContextCommand{wide_at(offset::context_command)}, ccmd::invalidate);
    case place::invalidate_address:
    case place::invalidate_address + dword_bytes:
    case place::iotlb_command:
    case place::iotlb_command + dword_bytes:
      return get(IotlbCommand{wide_at(place::iotlb_command)}, iotlb_command::invalidate);
    default: return false;
  }
}

void RegisterFile::react(std::size_t slot, std::uint32_t before, std::uint32_t value, std::uint32_t mask,
                         Actions& actions) noexcept {
  switch (slot * dword_bytes) {
    case offset::global_command: on_global_command(value, mask, actions); break;
    case offset::context_command + dword_bytes:
      if (covers_last_byte(mask) && get(ContextCommand{joined(0, value)}, ccmd::invalidate)) {
        on_context_command(actions);
      }
      break;
    case place::iotlb_command + dword_bytes:
      if (covers_last_byte(mask) && get(IotlbCommand{joined(0, value)}, iotlb_command::invalidate)) {
        on_iotlb_command(actions);
      }
      break;
    case offset::fault_status: {
      constexpr std::uint32_t stops = mask_of(fsts::queue_error, fsts::timeout);
      actions.queue_restarted = (before & stops) != 0 && (fault_status().raw & stops) == 0;
      refresh_fault_status();
      break;
    }
    case offset::fault_event_control: actions.fault_event = release_event(offset::fault_event_control); break;
    case offset::completion_event_control:
      actions.completion_event = release_event(offset::completion_event_control);
      break;
    case offset::page_event_control: actions.page_event = release_event(offset::page_event_control); break;
    case offset::page_request_status:
      if (at(offset::page_request_status) == 0) withdraw_event(offset::page_event_control);
      break;
    case offset::completion_status:
      if (at(offset::completion_status) == 0) withdraw_event(offset::completion_event_control);
      break;
    case offset::queue_tail:              actions.tail_written = capabilities_.queue; break;
    case offset::protected_memory_enable: {
      const bool enable = get(ProtectedMemoryEnable{at(offset::protected_memory_enable)}, pmen::enable);
      if (enable != protection_commanded_) actions.protected_memory = enable;
      protection_commanded_ = enable;
      break;
    }
    default: break;
  }
}

void RegisterFile::on_global_command(std::uint32_t value, std::uint32_t mask, Actions& actions) noexcept {
  // The register is a full image of the levels. Bytes that were not written keep what was last commanded.
  const GlobalCommand image{(commanded_.raw & ~mask) | (value & mask)};
  const GlobalCommand written{value & mask};

  if (get(written, gcmd::wbf) && capabilities_.write_buffer_flush) {
    set_status(gsts::wbfs, true);
    actions.flush_write_buffer = true;
  }
  if (get(written, gcmd::srtp)) {
    set_status(gsts::rtps, false);
    latched_root_ = {wide_at(offset::root_table)};
    actions.set_root_pointer = true;
  }
  if (get(written, gcmd::sirtp) && capabilities_.interrupt_remapping) {
    set_status(gsts::irtps, false);
    latched_interrupt_table_ = {wide_at(offset::interrupt_table)};
    actions.set_interrupt_table = true;
  }

  const auto follow_level = [&](const Field<GlobalCommand, bool>& level, bool exists, std::optional<bool>& action) {
    const bool wanted = get(image, level) && exists;
    if (wanted != get(commanded_, level)) action = wanted;
    commanded_ = with(commanded_, level, wanted);
  };
  follow_level(gcmd::cfi, capabilities_.interrupt_remapping, actions.compatibility_format);
  follow_level(gcmd::qie, capabilities_.queue, actions.queue);
  follow_level(gcmd::ire, capabilities_.interrupt_remapping, actions.interrupt_remapping);
  // Translation is only refused by a unit that has no table width to translate with.
  follow_level(gcmd::te, capabilities_.translates(), actions.translation);
  // The ring is taken over here, so that later writes of IQA_REG cannot move it under a running queue.
  if (actions.queue == true) latched_queue_ = {wide_at(offset::queue_address)};
}

/// "Register-based Invalidation Interface": not from version 6 on, not outside legacy mode, not beside the queue.
bool RegisterFile::register_invalidation_refused() const noexcept {
  return !capabilities_.register_invalidation() || root_pointer().mode != TableMode::legacy ||
         get(commanded_, gcmd::qie) || queue_enabled();
}

void RegisterFile::on_context_command(Actions& actions) noexcept {
  const ContextCommand command{wide_at(offset::context_command)};
  const ContextCommand answer = with(command, ccmd::done, ContextGranularity::none);
  const ContextGranularity granularity = get(command, ccmd::granularity);
  const bool refused = granularity == ContextGranularity::none || register_invalidation_refused();
  set_wide(offset::context_command, with(answer, ccmd::invalidate, !refused).raw);
  if (refused) return;
  const std::uint64_t domain = get(command, ccmd::domain).value & low_bits(capabilities_.domain_id_bits);
  actions.context_invalidation = ContextInvalidation{
      granularity, {static_cast<std::uint16_t>(domain)}, get(command, ccmd::source), get(command, ccmd::function_mask)};
}

void RegisterFile::on_iotlb_command(Actions& actions) noexcept {
  const IotlbCommand command{wide_at(place::iotlb_command)};
  const InvalidateAddress address{wide_at(place::invalidate_address)};
  const unsigned address_mask = get(address, iva::address_mask);
  const IotlbCommand answer = with(command, iotlb_command::done, IotlbGranularity::none);
  IotlbGranularity granularity = get(command, iotlb_command::granularity);
  bool refused = granularity == IotlbGranularity::none || register_invalidation_refused();
  if (granularity == IotlbGranularity::page) {
    // Without page-selective invalidation the unit does a coarser one, and says so in IAIG.
    if (!capabilities_.page_selective)
      granularity = IotlbGranularity::domain;
    else
      refused = refused || address_mask > capabilities_.max_address_mask;
  }
  set_wide(place::iotlb_command, with(answer, iotlb_command::invalidate, !refused).raw);
  if (refused) return;
  const std::uint64_t domain = get(command, iotlb_command::domain).value & low_bits(capabilities_.domain_id_bits);
  IotlbInvalidation invalidation;
  invalidation.granularity = granularity;
  invalidation.domain = {static_cast<std::uint16_t>(domain)};
  invalidation.drain_reads = get(command, iotlb_command::drain_reads);
  invalidation.drain_writes = get(command, iotlb_command::drain_writes);
  if (granularity == IotlbGranularity::page) {
    invalidation.pages = page_block(get(address, iva::address), address_mask, capabilities_.input_address_bits);
    invalidation.keep_structures = get(address, iva::hint);
  }
  actions.iotlb_invalidation = invalidation;
}

}  // namespace viommu::vtd
