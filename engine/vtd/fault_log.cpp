// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/fault_log.hpp"

#include <algorithm>
#include <span>

#include "engine/base/bits.hpp"

namespace viommu::vtd {
namespace {
constexpr std::size_t dwords_a_record = 4;
constexpr std::size_t fault_flag_dword = 3;  // F is bit 127 of a record
}  // namespace

FaultLog::FaultLog(const Capabilities& capabilities) noexcept
    : records_in_use_(std::min(capabilities.fault_records, static_cast<unsigned>(records_.size()))),
      address_bits_(capabilities.largest_address_bits()),
      has_address_type_(capabilities.device_tlb),
      has_pasid_(capabilities.pasid) {}

FaultLog::Record FaultLog::encode(const FaultEntry& entry) const noexcept {
  Record record;
  if (entry.interrupt_index) {
    record.low.raw = with(InterruptFaultLow{}, frcd_interrupt::index, *entry.interrupt_index).raw;
  } else {
    record.low = with(record.low, frcd_low::address, {entry.address.value & low_bits(address_bits_)});
  }
  const bool is_read_or_atomic = entry.request == FaultedRequest::read || entry.request == FaultedRequest::atomic;
  const bool is_page_or_atomic =
      entry.request == FaultedRequest::page_request || entry.request == FaultedRequest::atomic;
  FaultRecordHigh high = with(FaultRecordHigh{}, frcd_high::source, entry.source);
  high = with(high, frcd_high::reason, entry.reason);
  high = with(high, frcd_high::type_1, is_read_or_atomic);
  high = with(high, frcd_high::type_2, is_page_or_atomic);
  if (has_address_type_) high = with(high, frcd_high::address_type, entry.address_type);
  if (has_pasid_ && entry.pasid) {
    high = with(high, frcd_high::pasid_present, true);
    high = with(high, frcd_high::pasid, *entry.pasid);
    high = with(high, frcd_high::privileged, entry.privileged);
    high = with(high, frcd_high::execute, entry.execute);
  }
  record.high = with(high, frcd_high::fault, true);
  return record;
}

FaultStatus FaultLog::record(const FaultEntry& entry, bool compress) noexcept {
  if (compress && pending()) {
    const auto same_source = [&](const Record& record) {
      return get(record.high, frcd_high::fault) && get(record.high, frcd_high::source) == entry.source;
    };
    const std::span in_use{records_.data(), records_in_use_};
    if (std::any_of(in_use.begin(), in_use.end(), same_source)) return FaultStatus::compressed;
  }
  if (get(records_[next_].high, frcd_high::fault)) return FaultStatus::overflow_set;
  if (!pending()) first_ = next_;
  records_[next_] = encode(entry);
  ++pending_records_;
  next_ = next_ + 1 == records_in_use_ ? 0 : next_ + 1;
  return FaultStatus::recorded;
}

std::uint32_t FaultLog::read(std::size_t index) const noexcept {
  const Record& record = records_[index / dwords_a_record];
  const std::uint64_t word = index % dwords_a_record < 2 ? record.low.raw : record.high.raw;
  return index % 2 == 0 ? low_half(word) : high_half(word);
}

bool FaultLog::write(std::size_t index, std::uint32_t value, std::uint32_t mask) noexcept {
  constexpr std::uint32_t flag = high_half(mask_of(frcd_high::fault));
  if (index % dwords_a_record != fault_flag_dword || (value & mask & flag) == 0) return false;
  Record& record = records_[index / dwords_a_record];
  if (!get(record.high, frcd_high::fault)) return false;
  record.high = with(record.high, frcd_high::fault, false);
  --pending_records_;
  return true;
}

void FaultLog::reset() noexcept {
  records_.fill({});
  next_ = 0;
  first_ = 0;
  pending_records_ = 0;
}

}  // namespace viommu::vtd
