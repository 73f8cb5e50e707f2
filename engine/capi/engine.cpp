// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Life, memory, registers, statistics of an engine. Translating is in translate.cpp.
#include "engine/capi/engine.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <new>
#include <utility>

#include "engine/capi/create.hpp"
#include "engine/capi/sized.hpp"

using viommu::capi::RecordedCall;
using viommu::capi::Recorder;
using viommu::capi::result_of;
using viommu::capi::Settings;
using viommu::core::Count;
using viommu::core::WorkState;
using viommu::vtd::AccessStatus;
using viommu::vtd::WorkCount;

namespace {

constexpr const char* library_version = "0.1.0";

[[nodiscard]] bool page_aligned(std::uint64_t value) noexcept { return value % viommu::page_size_bytes == 0; }

void put_figures(const viommu::vtd::Unit& unit, viommu_statistics& s) noexcept {
  const auto faults = unit.fault_figures();
  s.faults_recorded = faults.recorded;
  s.faults_overflowed = faults.overflowed;
  s.faults_limited = faults.suppressed;
  s.page_responses_dropped = unit.count(WorkCount::page_responses_dropped);
  s.descriptors = unit.count(WorkCount::descriptors);
  s.context_invalidations = unit.count(WorkCount::context_invalidations);
  s.iotlb_global = unit.count(WorkCount::iotlb_global);
  s.iotlb_domain = unit.count(WorkCount::iotlb_domain);
  s.iotlb_page = unit.count(WorkCount::iotlb_page);
  s.device_tlb_invalidations = unit.count(WorkCount::device_tlb);
  s.device_invalidations_open = unit.device_tlbs().open_count();
  s.device_timeouts = unit.device_tlbs().timeouts();
  s.interrupt_entry_invalidations = unit.count(WorkCount::interrupt_entries);
  s.waits = unit.count(WorkCount::waits);
  s.status_writes_dropped = unit.count(WorkCount::status_writes_dropped);
  s.messages = unit.messages();
}
void put_figures(const viommu::virtio_iommu::Device& device, viommu_statistics& s) noexcept {
  const auto events = device.event_figures();
  s.faults_recorded = events.recorded;
  s.faults_overflowed = events.dropped;
  s.faults_limited = events.limited;
}

[[nodiscard]] viommu_statistics figures(viommu_engine& engine) noexcept {
  const viommu::core::Waist& waist = engine.waist;
  viommu_statistics s{};
  s.iotlb_hits = waist.count(Count::iotlb_hits);
  s.walks = waist.count(Count::walks);
  s.walk_loads = waist.count(Count::walk_loads);
  const std::uint64_t pass_throughs = waist.count(Count::pass_throughs);
  s.identities = waist.count(Count::identities) + pass_throughs - waist.count(Count::protected_identities);
  s.faults = waist.count(Count::faults);
  s.context_walks = waist.count(Count::context_walks);
  // Each request that found its address space ends in exactly one of these; those that walked for it are no hits.
  const std::uint64_t with_context = s.iotlb_hits + s.walks + pass_throughs + waist.count(Count::beyond_width);
  const std::uint64_t walked_for_it = s.context_walks - waist.count(Count::context_faults);
  s.context_hits = with_context > walked_for_it ? with_context - walked_for_it : 0;
  s.translations = waist.count(Count::answers_with_walk) + s.iotlb_hits + s.identities +
                   waist.count(Count::interrupts) + s.faults - waist.count(Count::protected_pages);
  s.iotlb_fills = waist.count(Count::fills);
  s.fills_refused = waist.count(Count::fills_refused);
  engine.front.with([&](auto& front) { put_figures(front, s); });
  s.holds_open = waist.holds().open_count();
  s.holds_overdue = waist.holds().overdue_count();
  s.holds_revoked = waist.holds().revoked_count();
  const auto caches = engine.waist.cache_figures();
  s.address_spaces = caches.address_spaces;
  s.tag_sweeps = caches.tag_sweeps;
  s.cache_bytes = caches.bytes;
  s.process_barriers = caches.barriers;
  s.interrupts = waist.count(Count::messages);
  s.interrupts_posted = waist.count(Count::messages_posted);
  s.interrupts_blocked = waist.count(Count::messages_blocked);
  return s;
}

}  // namespace

extern "C" {

const char* viommu_result_text(viommu_result result) {
  switch (result) {
    case VIOMMU_OK:            return "ok";
    case VIOMMU_E_REFUSED:     return "refused";
    case VIOMMU_E_NOT_FOUND:   return "no such region or hold";
    case VIOMMU_E_MEMORY:      return "out of memory";
    case VIOMMU_E_FAULT:       return "the request is blocked";
    case VIOMMU_E_BUSY:        return "busy: called from a callback, or something is still open";
    case VIOMMU_E_EXISTS:      return "overlaps what is there";
    case VIOMMU_E_ARGUMENT:    return "invalid argument";
    case VIOMMU_E_LIMIT:       return "a quota given at creation is used up";
    case VIOMMU_E_RANGE:       return "beyond the register window";
    case VIOMMU_E_UNSUPPORTED: return "not supported";
    default:                   return "unknown result";
  }
}

const char* viommu_version(void) { return library_version; }

viommu_result viommu_create_vtd(const viommu_vtd_options* options, const viommu_host* host, char* error,
                                size_t error_size, viommu_engine** engine) {
  const auto read = [&](const viommu_host&, const viommu::HostAllocator&, Settings& settings) {
    return viommu::capi::read_settings(*options, settings, error, error_size);
  };
  const auto options_of = [](const Settings& settings) -> const auto& { return settings.vtd; };
  if (options == nullptr) host = nullptr;  // refused below, with an empty text
  return viommu::capi::create(
      {error, error_size}, host, engine, read, options_of, [](viommu_engine& created, const Settings& settings) {
        viommu::vtd::Unit& unit = *created.front.vtd();
        const bool fits = unit.limit_faults(settings.fault_limit) && unit.count_faults_apart(settings.waist.accounts) &&
                          unit.consumers().reset(settings.machine.subscriptions) == viommu::consumer::Result::ok;
        if (fits && created.recorder != nullptr)
          created.recorder->started(settings.vtd.capabilities, settings.vtd.registers.compress_faults);
        return fits;
      });
}

const char* viommu_kernel(const viommu_engine* engine) { return engine == nullptr ? "" : engine->waist.kernel(); }

viommu_result viommu_destroy(viommu_engine* engine) {
  if (engine == nullptr) return VIOMMU_OK;
  if (engine->host.calling() || engine->waist.readers_in_use() != 0 || engine->waist.holds().open_count() != 0)
    return VIOMMU_E_BUSY;
  const viommu::HostAllocator allocator = engine->host.unmarked_allocator();
  engine->~viommu_engine();
  allocator.put(engine, sizeof(viommu_engine), alignof(viommu_engine));
  return VIOMMU_OK;
}

viommu_result viommu_region_add(viommu_engine* engine, const viommu_region* region) {
  if (engine == nullptr || region == nullptr || region->length == 0) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  constexpr std::uint64_t all_flags = VIOMMU_REGION_READ_ONLY | VIOMMU_REGION_UNMAPPED | VIOMMU_REGION_MMIO;
  const bool unmapped = (region->flags & VIOMMU_REGION_UNMAPPED) != 0;
  const bool mmio = (region->flags & VIOMMU_REGION_MMIO) != 0;
  if ((region->flags & ~all_flags) != 0 || (unmapped && region->hva != nullptr)) return VIOMMU_E_ARGUMENT;
  if (region->hva == nullptr && !unmapped && !mmio) return VIOMMU_E_ARGUMENT;
  const RecordedCall call{engine->recorder.get()};
  const std::uint64_t last = region->gpa + (region->length - 1);
  if (!page_aligned(region->gpa) || !page_aligned(region->length) || last < region->gpa ||
      !page_aligned(reinterpret_cast<std::uintptr_t>(region->hva)))
    return VIOMMU_E_ARGUMENT;
  // A host that was taken for it can reach no more than this.
  if (engine->machine.narrowed() && last > viommu::low_bits(engine->front.vtd()->capabilities().host_address_width))
    return VIOMMU_E_RANGE;
  viommu::Region added;
  added.range = {{region->gpa}, {last}};
  added.host = static_cast<std::byte*>(region->hva);
  added.read_only = (region->flags & VIOMMU_REGION_READ_ONLY) != 0;
  added.mmio = mmio;
  const viommu_result result = result_of(engine->waist.add_region(added));
  if (engine->front.process(0) != WorkState::idle) engine->host.wake();
  return result;
}

viommu_result viommu_region_remove(viommu_engine* engine, uint64_t gpa, uint64_t cookie) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  const viommu_result result = result_of(engine->waist.remove_region({gpa}, cookie));
  if (engine->front.process(0) != WorkState::idle) engine->host.wake();
  return result;
}

uint64_t viommu_mmio_size(const viommu_engine* engine) {
  const viommu::vtd::Unit* const unit = engine == nullptr ? nullptr : engine->front.vtd();
  return unit == nullptr ? 0 : unit->capabilities().window_bytes;
}

viommu_result viommu_mmio_read(viommu_engine* engine, uint64_t offset, uint32_t size, uint64_t* value) {
  if (engine == nullptr || value == nullptr) return VIOMMU_E_ARGUMENT;
  *value = 0;
  if (size != 1 && size != 2 && size != 4 && size != 8) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  viommu::vtd::Unit* const unit = engine->front.vtd();
  if (unit == nullptr) return VIOMMU_E_UNSUPPORTED;
  const RecordedCall call{engine->recorder.get()};
  const viommu::vtd::ReadResult read = unit->read(offset, size);
  *value = read.value;
  if (engine->recorder != nullptr && read.access != AccessStatus::outside)
    engine->recorder->register_read(offset, size, read.value);
  return read.access == AccessStatus::outside ? VIOMMU_E_RANGE : VIOMMU_OK;
}

viommu_result viommu_mmio_write(viommu_engine* engine, uint64_t offset, uint32_t size, uint64_t value) {
  if (engine == nullptr || (size != 1 && size != 2 && size != 4 && size != 8)) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  viommu::vtd::Unit* const unit = engine->front.vtd();
  if (unit == nullptr) return VIOMMU_E_UNSUPPORTED;
  const RecordedCall call{engine->recorder.get()};
  if (engine->recorder != nullptr && offset < unit->capabilities().window_bytes)
    engine->recorder->register_written(offset, size, value);
  return unit->write(offset, size, value) == AccessStatus::outside ? VIOMMU_E_RANGE : VIOMMU_OK;
}

viommu_result viommu_process(viommu_engine* engine, uint32_t budget, viommu_progress* progress) {
  if (engine == nullptr || progress == nullptr) return VIOMMU_E_ARGUMENT;
  *progress = {};
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  switch (engine->front.process(budget)) {
    case WorkState::idle: progress->state = VIOMMU_PROCESS_IDLE; break;
    case WorkState::more: progress->state = VIOMMU_PROCESS_MORE; break;
    case WorkState::wait:
      progress->state = VIOMMU_PROCESS_WAIT;
      progress->wait_until_ns = ~std::uint64_t{0};
      if (engine->host.has_clock())
        progress->wait_until_ns = std::min(engine->host.now_ns() + engine->hold_report_ns, engine->front.deadline_ns());
      break;
  }
  return VIOMMU_OK;
}

viommu_result viommu_reset(viommu_engine* engine) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  if (!engine->front.reset()) return VIOMMU_E_BUSY;
  if (engine->recorder != nullptr) {
    engine->recorder->reset();
    if (engine->recorder->follows_device()) engine->recorder->bypass_became();
  }
  engine->front.process(0);
  return VIOMMU_OK;
}

viommu_result viommu_drop_caches(viommu_engine* engine) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  if (engine->recorder != nullptr) engine->recorder->caches_dropped();
  engine->waist.drop(viommu::caches::Scope{});
  return VIOMMU_OK;
}

viommu_result viommu_faults_limited(viommu_engine* engine, uint16_t source, uint64_t* count) {
  if (engine == nullptr || count == nullptr) return VIOMMU_E_ARGUMENT;
  *count = engine->front.suppressed_faults({source});
  return VIOMMU_OK;
}

viommu_result viommu_statistics_get(viommu_engine* engine, viommu_statistics* statistics) {
  if (engine == nullptr || !viommu::capi::can_take(statistics)) return VIOMMU_E_ARGUMENT;
  viommu::capi::hand_over(figures(*engine), *statistics);
  return VIOMMU_OK;
}

}  // extern "C"
