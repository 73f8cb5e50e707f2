// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A request from its bytes to its answer, and what the rest of the engine does for it.
#include <algorithm>
#include <cstring>
#include <variant>

#include "engine/virtio_iommu/device.hpp"

namespace viommu::virtio_iommu {
namespace {

using core::WorkState;

constexpr std::size_t unmap_slice = 4096;  ///< mappings that go at a time

[[nodiscard]] caches::Scope pages_of(viommu::DomainId domain, IovaRange range) noexcept {
  caches::Scope scope;
  scope.kind = range == all_iovas ? caches::Scope::Kind::domain : caches::Scope::Kind::pages;
  scope.domain = domain;
  scope.range = range;
  return scope;
}

}  // namespace

Device::Answered Device::request(std::span<const std::byte> readable, std::span<std::byte> writable,
                                 std::uint32_t& used_bytes) noexcept {
  used_bytes = 0;
  if (!role_.try_enter()) return Answered::busy;
  Answered answered = Answered::busy;
  RequestBytes bytes{};
  std::ranges::copy(readable.first(std::min(readable.size(), bytes.size())), bytes.begin());
  const BufferSize size{readable.size(), writable.size()};
  const Decoded decoded = decode(bytes, size, negotiated(), config_.values().probe_size);
  // The room too: where the status stands follows from it.
  const bool same = open_ && !open_->from_queue && open_->bytes == bytes && open_->size == size;
  if (std::holds_alternative<Unanswered>(decoded.request)) {
    count(decoded.request);
    tell_answered({bytes, size});
    answered = Answered::yes;
  } else if (!open_ || same) {
    if (!open_) {
      count(decoded.request);
      open_.emplace(Open{.decoded = decoded, .bytes = bytes, .size = size});
    }
    follow_bypass();
    // Bounded: each turn is a slice of work, and what does not end in so many goes on in process().
    constexpr unsigned most_turns = 1U << 12;
    WorkState state = WorkState::more;
    for (unsigned turn = 0; turn < most_turns && state == WorkState::more; ++turn) {
      static_cast<void>(consumers_.advance());
      state = advance(*open_);
    }
    answered = state == WorkState::idle ? Answered::yes : Answered::waits;
    if (state == WorkState::idle) {
      const std::uint32_t tail = open_->decoded.tail_offset;
      const std::span<const std::byte> properties = properties_of(*open_);
      std::ranges::fill(writable.first(tail), std::byte{0});
      std::ranges::copy(properties, writable.begin());
      const RequestTail reply{open_->status, {}};
      std::memcpy(writable.data() + tail, &reply, sizeof reply);
      used_bytes = tail + static_cast<std::uint32_t>(sizeof reply);
      forget_open();
    }
    take_back();
  }
  if (role_.leave()) work_again();
  return answered;
}

WorkState Device::advance(Open& open) noexcept {
  if (!open.executed) {
    if (consumers_.busy()) return WorkState::more;  // what was asked before is done first
    const Domains::Outcome outcome = execute(open.decoded.request);
    if (outcome.later) {
      if (std::holds_alternative<Unmap>(open.decoded.request)) return WorkState::more;
      take_back();
      return reclaim_ticket_ ? WorkState::wait : WorkState::more;
    }
    open.status = outcome.status;
    open.executed = true;
    tell_answered({open.bytes, open.size, true, open.decoded.tail_offset, open.status, properties_of(open)});
    withdrawn_.reset();
    if (!dropped_.empty()) {
      open.ticket = waist_.ticket(dropped_);
      domains_.seal(open.ticket->epoch);
      views_.seal(open.ticket->epoch);
      dropped_.clear();
    }
  }
  if (consumers_.busy()) return WorkState::more;
  if (open.ticket && !completions_.drained(*open.ticket, open.withheld, "a request of virtio-iommu"))
    return WorkState::wait;
  return WorkState::idle;
}

Domains::Outcome Device::execute(const Request& request) noexcept {
  if (const auto* const refused = std::get_if<Refused>(&request)) return {refused->status};
  if (const auto* const asked = std::get_if<Probe>(&request)) return {probe(*asked)};
  if (const auto* const asked = std::get_if<Attach>(&request)) return domains_.attach(*asked);
  if (const auto* const asked = std::get_if<Detach>(&request)) return domains_.detach(*asked);
  if (const auto* const asked = std::get_if<Map>(&request)) {
    const Domains::Outcome outcome = domains_.map(*asked);
    if (outcome == Domains::Outcome{Status::device_error, false}) {
      // It is gone again: whoever has taken it gives it back.
      static_cast<void>(consumers_.mappings_changed(domains_.find(asked->domain)->index(),
                                                    {asked->virt_start, asked->virt_end}, false));
    }
    return outcome;
  }
  if (const auto* const asked = std::get_if<Unmap>(&request)) {
    // A trace has no word for one that is half done.
    const std::size_t slice = tap_.answered == nullptr ? unmap_slice : ~std::size_t{0};
    const Domains::Outcome outcome = domains_.unmap(*asked, slice);
    if (outcome == Domains::Outcome{Status::ok, false}) {
      const IovaRange range{asked->virt_start, asked->virt_end};
      const caches::Scope scope = pages_of(domains_.find(asked->domain)->index(), range);
      waist_.drop(scope);
      dropped_.add(scope);
    }
    return outcome;
  }
  return {};
}

Status Device::probe(const Probe& request) noexcept {
  const std::optional reserved = domains_.reserved_of(request.endpoint);
  if (!reserved) return Status::no_entry;
  return encode_properties(*reserved, {properties_.begin(), properties_.size()}) ? Status::ok : Status::invalid;
}

std::span<const std::byte> Device::properties_of(const Open& open) const noexcept {
  const bool has = std::holds_alternative<Probe>(open.decoded.request) && open.status == Status::ok;
  return {properties_.begin(), has ? properties_.size() : 0};
}

void Device::count(const Request& request) noexcept {
  struct Which {
    RequestCount operator()(const Attach&) const noexcept { return RequestCount::attach; }
    RequestCount operator()(const Detach&) const noexcept { return RequestCount::detach; }
    RequestCount operator()(const Map&) const noexcept { return RequestCount::map; }
    RequestCount operator()(const Unmap&) const noexcept { return RequestCount::unmap; }
    RequestCount operator()(const Probe&) const noexcept { return RequestCount::probe; }
    RequestCount operator()(const Refused&) const noexcept { return RequestCount::refused; }
    RequestCount operator()(const Unanswered&) const noexcept { return RequestCount::unanswered; }
  };
  Atomic<std::uint64_t>& counter = counts_[static_cast<std::size_t>(std::visit(Which{}, request))];
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // the role's alone
}

// ---- What follows a change ----

DomainListener Device::listener() noexcept {
  DomainListener listening;
  listening.opaque = this;
  listening.moved = [](void* device, EndpointName endpoint, const EndpointView& before, const EndpointView& now) {
    static_cast<Device*>(device)->moved(endpoint, before, now);
  };
  listening.mapped = [](void* device, const Domain& domain, const Mapping& mapping) {
    return static_cast<Device*>(device)->consumers_.mappings_changed(domain.index(), mapping.range, false);
  };
  listening.unmapping = [](void* device, const Domain& domain, IovaRange range) {
    return static_cast<Device*>(device)->unmapping(domain, range);
  };
  return listening;
}

consumer::FrontEnd Device::front_end() noexcept {
  consumer::FrontEnd table;
  table.opaque = this;
  table.content_of = [](void* device, SourceId source) noexcept {
    return static_cast<const Device*>(device)->content_of(source);
  };
  table.last_address = config_.values().input.last;
  table.announces = true;
  table.moves_in_place = false;
  table.store.opaque = this;
  table.store.find = [](void* device, viommu::DomainId domain, Iova iova, core::StoredMapping& found) noexcept {
    return static_cast<const Device*>(device)->find_mapping(domain, iova, found);
  };
  table.store.first_from = [](void* device, viommu::DomainId domain, Iova iova, core::StoredMapping& found) noexcept {
    return static_cast<const Device*>(device)->first_mapping(domain, iova, found);
  };
  return table;
}

void Device::moved(EndpointName endpoint, const EndpointView& before, const EndpointView& now) noexcept {
  if (now.domain != nullptr && now.domain->members() == 1) waist_.begin_counting(now.domain->index());  // it is new
  views_.put(endpoint.source, now);
  const caches::Scope scope = drop_context(endpoint.source);
  if (before.domain != nullptr && before.domain->members() == 0)
    waist_.drop(pages_of(before.domain->index(), all_iovas));
  consumers_.dropped(scope);
}

/// Requests of that id are looked at anew.
caches::Scope Device::drop_context(SourceId source) noexcept {
  caches::Scope scope;
  scope.kind = caches::Scope::Kind::source_contexts;
  scope.source = source;
  waist_.drop(scope);
  dropped_.add(scope);
  return scope;
}

/// Consumers give it up before it goes. What one keeps, all get back.
bool Device::unmapping(const Domain& domain, IovaRange range) noexcept {
  withdrawn_ = Withdrawn{domain.index(), range};
  if (consumers_.mappings_changed(domain.index(), range, true)) return true;
  withdrawn_.reset();
  static_cast<void>(consumers_.mappings_changed(domain.index(), range, false));
  return false;
}

bool Device::find_mapping(viommu::DomainId domain, Iova iova, core::StoredMapping& found) const noexcept {
  const std::optional mapping = domains_.at(domain).mappings.find(iova);
  if (!mapping) return false;
  found = {mapping->range, mapping->gpa, mapping->rights, mapping->mmio};
  return true;
}

bool Device::first_mapping(viommu::DomainId domain, Iova iova, core::StoredMapping& found) const noexcept {
  const Mappings& mappings = domains_.at(domain).mappings;
  std::optional mapping = mappings.first_from(iova);
  if (mapping && withdrawn_ && withdrawn_->domain == domain && mapping->range.overlaps(withdrawn_->range)) {
    // All that overlaps lies in the range whole, or it would not go.
    if (withdrawn_->range.last == all_iovas.last) return false;
    mapping = mappings.first_from(withdrawn_->range.last + 1);
  }
  if (!mapping) return false;
  found = {mapping->range, mapping->gpa, mapping->rights, mapping->mmio};
  return true;
}

consumer::Content Device::content_of(SourceId source) const noexcept {
  if (const machine::Way way = way_of(source); way != machine::Way::unit)
    return {way == machine::Way::system ? consumer::View::system : consumer::View::blocked, {}};
  const Views::Seen seen = views_.of(source);
  switch (seen.kind) {
    case EndpointView::Kind::unknown:
    case EndpointView::Kind::detached:   break;
    case EndpointView::Kind::bypass:     return {consumer::View::system, {}};
    case EndpointView::Kind::translated: return {consumer::View::translated, key_of(seen.domain)};
  }
  return {consumer::View::blocked, {}};
}

}  // namespace viommu::virtio_iommu
