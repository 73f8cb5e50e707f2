// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/interrupt_remapping.hpp"

#include <optional>

#include "engine/base/bits.hpp"
#include "engine/base/tracepoint.hpp"
#include "engine/vtd/interrupt_entry.hpp"
#include "engine/vtd/interrupt_layouts.hpp"
#include "engine/vtd/posted_descriptor.hpp"

namespace viommu::vtd {
namespace {

/// The mode word: IRTA_REG as latched, with IRES and CFIS in bits that it leaves free.
struct Mode {
  std::uint64_t raw = 0;
};
namespace mode {
// clang-format off
inline constexpr Field<Mode, unsigned> size          {"S",    { 3,  0}};
inline constexpr Field<Mode, bool>     remapping     {"IRES", { 4,  4}};
inline constexpr Field<Mode, bool>     compatibility {"CFIS", { 5,  5}};
inline constexpr Field<Mode, unsigned> unused        {"-",    {10,  6}, Rule::ignored};
inline constexpr Field<Mode, bool>     extended      {"EIME", {11, 11}};
inline constexpr Field<Mode, Gpa>      table         {"IRTA", {63, 12}};
// clang-format on
[[maybe_unused]] constexpr auto rows =
    layout(size, remapping, compatibility, unused, extended, table);  // overlaps are errors
}  // namespace mode

constexpr unsigned message_window = 0xFEE;

[[nodiscard]] std::uint32_t index_of(RemappableAddress address, RemappableData data) noexcept {
  constexpr std::uint32_t high_handle = 0x8000;
  const std::uint32_t handle =
      get(address, remappable_address::handle_low) + (get(address, remappable_address::handle_high) ? high_handle : 0);
  // Not cut to 16 bits: a sum beyond them is beyond every table.
  return handle + (get(address, remappable_address::subhandle_valid) ? get(data, remappable_data::subhandle) : 0);
}

/// "Source-id Validation". A reserved SVT is no question of the source: well_formed() refuses it.
[[nodiscard]] bool source_allowed(InterruptEntryHigh entry, SourceId source) noexcept {
  namespace h = interrupt_entry_high;
  const SourceId expected = get(entry, h::source);
  switch (get(entry, h::check)) {
    case SourceCheck::none:
    case SourceCheck::reserved: return true;
    case SourceCheck::source:   {
      // SQ: that many of the function bits, from the highest on, do not count.
      const std::uint64_t any_function = low_bits(3) & ~low_bits(3 - get(entry, h::qualifier));
      return ((expected.value ^ source.value) & ~any_function) == 0;
    }
    case SourceCheck::bus_range:
      // Whom it names is the entry's source id taken apart: first bus, last bus.
      return expected.bus() <= source.bus() && source.bus() <= expected.devfn();
  }
  return false;
}

[[nodiscard]] MessageAddress addressed_to(std::uint32_t destination) noexcept {
  constexpr std::uint32_t low = low_half(low_bits(8));
  namespace a = message_address;
  const MessageAddress address = with(with(MessageAddress{}, a::window, message_window), a::destination, destination);
  // The bits stand at the same place in the upper half as in the destination.
  return {joined(low_half(address.raw), destination & ~low)};
}

void remap(const InterruptEntry& entry, bool extended, InterruptAnswer& answer) noexcept {
  namespace l = interrupt_entry_low;
  const std::uint32_t destination = extended ? get(entry.low, l::destination) : get(entry.low, l::xapic);
  MessageAddress address = addressed_to(destination);
  address = with(address, message_address::logical, get(entry.low, l::logical));
  address = with(address, message_address::redirection, get(entry.low, l::redirection));
  MessageData data = with(MessageData{}, message_data::vector, get(entry.low, l::vector));
  data = with(data, message_data::delivery, get(entry.low, l::delivery));
  data = with(data, message_data::asserted, true);
  data = with(data, message_data::level, get(entry.low, l::level));
  answer.kind = InterruptKind::remapped;
  answer.address = address.raw;
  answer.data = data.raw;
}

[[nodiscard]] InterruptAnswer blocked_by(FaultReason reason, std::uint32_t index) noexcept {
  InterruptAnswer answer;
  answer.reason = reason;
  answer.index = index;
  return answer;
}

void set_notification(const Posted& posted, InterruptAnswer& answer) noexcept {
  answer.notify = posted.notify;
  if (!posted.notify) return;
  answer.address = addressed_to(posted.destination).raw;
  answer.data = with(with(MessageData{}, message_data::vector, posted.vector), message_data::asserted, true).raw;
}

}  // namespace

void InterruptRemapping::set_mode(const InterruptTable& table, bool remap, bool compatibility) noexcept {
  Mode word = with(Mode{}, mode::table, table.table);
  word = with(word, mode::size, table.size);
  word = with(word, mode::extended, table.extended);
  word = with(word, mode::remapping, remap);
  word = with(word, mode::compatibility, compatibility);
  mode_.store(word.raw, std::memory_order_release);
}

void InterruptRemapping::decide(const InterruptRequest& request, InterruptAnswer& answer,
                                Grounds& grounds) const noexcept {
  const Mode now{mode_.load(std::memory_order_acquire)};
  const auto blocked = [&](FaultReason reason) { answer.reason = reason; };
  const auto unchanged = [&] {
    answer.kind = InterruptKind::unchanged;
    answer.address = request.address;
    answer.data = request.data;
  };
  if (!get(now, mode::remapping)) {
    return capabilities_.interrupt_remapping_required ? blocked(FaultReason::interrupt_remapping_required)
                                                      : unchanged();
  }
  grounds.extended = get(now, mode::extended);
  if (capabilities_.extended_interrupts_required && !grounds.extended)
    return blocked(FaultReason::extended_interrupts_required);
  const RemappableAddress address{request.address};
  const RemappableData data{request.data};
  if (!get(address, remappable_address::remappable)) {
    const bool passes = get(now, mode::compatibility) && !grounds.extended;
    return passes ? unchanged() : blocked(FaultReason::compatibility_format_blocked);
  }
  if (get(address, remappable_address::subhandle_valid) && (data.raw & reserved_mask(remappable_data::rows)) != 0)
    return blocked(FaultReason::message_reserved);

  answer.index = index_of(address, data);
  grounds.has_index = true;
  const Gpa at = get(now, mode::table) + std::uint64_t{answer.index} * interrupt_entry_bytes;
  if (answer.index > low_bits(get(now, mode::size) + 1) || at.value > low_bits(capabilities_.host_address_width))
    return blocked(FaultReason::interrupt_index_beyond_table);
  const std::optional word = memory_.load_u128(at);
  if (!word) return blocked(FaultReason::interrupt_table_unreadable);
  // The guest may rewrite the entry at any time: every decision below uses this one copy.
  const InterruptEntry entry{{word->low}, {word->high}};
  grounds.fault_disable = get(entry.low, interrupt_entry_low::fault_disable);
  if (!get(entry.low, interrupt_entry_low::present)) return blocked(FaultReason::interrupt_entry_not_present);
  if (!request.any_source && !source_allowed(entry.high, request.source))
    return blocked(FaultReason::interrupt_source_denied);
  if (!well_formed(entry, capabilities_, grounds.extended)) return blocked(FaultReason::interrupt_entry_invalid);
  if (!get(entry.low, interrupt_entry_low::posted)) return remap(entry, grounds.extended, answer);
  answer.kind = InterruptKind::posted;
  answer.vector = get(entry.low, interrupt_entry_low::vector);
  answer.urgent = get(entry.low, interrupt_entry_low::urgent);
  answer.descriptor = descriptor_of(entry);
}

void InterruptRemapping::route(const InterruptRequest& request, InterruptAnswer& answer) const noexcept {
  Grounds grounds;
  decide(request, answer, grounds);
}

void InterruptRemapping::request(const InterruptRequest& request, InterruptAnswer& answer) noexcept {
  Grounds grounds;
  decide(request, answer, grounds);
  if (answer.kind == InterruptKind::posted) {
    const Posted posted = post(memory_, {answer.descriptor, answer.vector, answer.urgent, grounds.extended});
    if (posted.fault != FaultReason::none) {
      answer = blocked_by(posted.fault, answer.index);
    } else {
      set_notification(posted, answer);
    }
  }
  if (answer.kind == InterruptKind::fault) {
    faults_.count(answer.reason, request.source);
    answer.status = report(request, answer, grounds);
    tracepoint::interrupt_blocked(request.source.value, answer.index, static_cast<std::uint32_t>(answer.reason));
  } else {
    tracepoint::interrupt_remapped(request.source.value, answer.index, answer.address, answer.data);
  }
}

FaultStatus InterruptRemapping::report(const InterruptRequest& request, const InterruptAnswer& answer,
                                       const Grounds& grounds) noexcept {
  if (grounds.fault_disable) return FaultStatus::disabled;
  FaultEntry entry;
  entry.source = request.source;
  entry.reason = answer.reason;
  entry.request = FaultedRequest::write;
  // What is recorded where a request names no entry is undefined; we record 0.
  entry.interrupt_index =
      grounds.has_index ? static_cast<std::uint16_t>(answer.index & low_bits(16)) : std::uint16_t{0};
  return faults_.report(entry);
}

}  // namespace viommu::vtd
