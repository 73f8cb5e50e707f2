// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/domains.hpp"

#include <algorithm>
#include <utility>

namespace viommu::virtio_iommu {
namespace {

constexpr Domains::Outcome answered(Status status) noexcept { return {status, false}; }
constexpr Domains::Outcome later{Status::ok, true};

}  // namespace

Domains::~Domains() {
  for (Slot& slot : slots_) slot.room.reset();
  nodes_.seal(1);
  while (nodes_.reclaim(1, ~std::size_t{0})) {  // ends: nobody is left to wait for
  }
}

bool Domains::reset(std::uint64_t seed) noexcept {
  // A domain that has gone and its successor for each.
  return slots_.reset(allocator_, std::size_t{limits_.domains} * 2) &&
         endpoints_.reset(allocator_, limits_.endpoints) && domain_ids_.reset(allocator_, limits_.domains, seed) &&
         endpoint_ids_.reset(allocator_, limits_.endpoints, seed);
}

// ---- Endpoints ----

const Domains::Endpoint* Domains::live(EndpointId id) const noexcept {
  const std::uint32_t index = endpoint_ids_.find(id.value);
  return index == nothing || !endpoints_[index].known ? nullptr : &endpoints_[index];
}
Domains::Endpoint* Domains::live(EndpointId id) noexcept {
  const std::uint32_t index = endpoint_ids_.find(id.value);
  return index == nothing || !endpoints_[index].known ? nullptr : &endpoints_[index];
}

Domains::Endpoint* Domains::free_endpoint() noexcept {
  Endpoint* oldest = nullptr;
  for (Endpoint& endpoint : endpoints_) {
    if (endpoint.free()) return &endpoint;
    if (!endpoint.known && (oldest == nullptr || endpoint.gone_at < oldest->gone_at)) oldest = &endpoint;
  }
  if (oldest == nullptr) return nullptr;
  endpoint_ids_.erase(oldest->id.value);
  oldest->gone_from.reset();
  return oldest;
}

bool Domains::keep_reserved(Endpoint& endpoint, std::span<const ReservedRegion> reserved) const noexcept {
  HostArray<ReservedRegion> regions;
  if (!reserved.empty() && !regions.reset(allocator_, reserved.size())) return false;
  std::ranges::copy(reserved, regions.begin());
  endpoint.reserved = std::move(regions);
  endpoint.reserved_count = reserved.size();
  return true;
}

Domains::Added Domains::add_endpoint(EndpointName name, std::span<const ReservedRegion> reserved) noexcept {
  if (knows(name.id)) return Added::exists;
  const std::uint32_t index = endpoint_ids_.find(name.id.value);
  Endpoint* const endpoint = index != nothing ? &endpoints_[index] : free_endpoint();
  if (endpoint == nullptr) return Added::limit;
  // Of a place that free_endpoint() has made free nothing is known any more.
  if (!keep_reserved(*endpoint, reserved)) return Added::no_memory;
  if (index == nothing) endpoint_ids_.insert(name.id.value, index_of(*endpoint));
  endpoint->id = name.id;
  endpoint->source = name.source;
  endpoint->known = true;
  endpoint->gone_from.reset();  // what the one before was in is nothing to it
  return Added::ok;
}

Domains::Added Domains::set_reserved(EndpointId id, std::span<const ReservedRegion> reserved) noexcept {
  Endpoint* const endpoint = live(id);
  if (endpoint == nullptr) return Added::limit;
  return keep_reserved(*endpoint, reserved) ? Added::ok : Added::no_memory;
}

bool Domains::rename_endpoint(EndpointId id, EndpointName to) noexcept {
  Endpoint* const endpoint = live(id);
  if (endpoint == nullptr) return false;
  if (id != to.id) {
    // One that has gone from there and is still remembered is forgotten.
    if (const std::uint32_t gone = endpoint_ids_.find(to.id.value); gone != nothing) {
      endpoints_[gone].gone_from.reset();
      endpoint_ids_.erase(to.id.value);
    }
    endpoint_ids_.erase(id.value);
    endpoint_ids_.insert(to.id.value, index_of(*endpoint));
  }
  endpoint->id = to.id;
  endpoint->source = to.source;
  return true;
}

bool Domains::remove_endpoint(EndpointId id) noexcept {
  Endpoint* const endpoint = live(id);
  if (endpoint == nullptr) return false;
  const EndpointView before = view(*endpoint);
  const std::uint32_t slot = endpoint->domain;
  if (slot != nothing && !limits_.gone_is_unknown) endpoint->gone_from = slots_[slot].domain->id();
  const std::uint32_t empty = slot == nothing ? nothing : leave(*endpoint);
  endpoint->known = false;
  endpoint->gone_at = ++removals_;
  if (!endpoint->gone_from) endpoint_ids_.erase(id.value);
  if (listener_.moved != nullptr) listener_.moved(listener_.opaque, {id, endpoint->source}, before, {});
  destroy(empty);
  return true;
}

EndpointView Domains::view(EndpointId id) const noexcept {
  const Endpoint* const endpoint = live(id);
  return endpoint == nullptr ? EndpointView{} : view(*endpoint);
}

EndpointView Domains::view(const Endpoint& endpoint) const noexcept {
  using Kind = EndpointView::Kind;
  if (endpoint.domain == nothing) return {config_.bypass() ? Kind::bypass : Kind::detached, nullptr};
  const Domain& domain = *slots_[endpoint.domain].domain;
  return domain.bypass() ? EndpointView{Kind::bypass, nullptr} : EndpointView{Kind::translated, &domain};
}

std::optional<std::span<const ReservedRegion>> Domains::reserved_of(EndpointId id) const noexcept {
  const Endpoint* const endpoint = live(id);
  if (endpoint == nullptr) return std::nullopt;
  return endpoint->regions();
}

bool Domains::covers_reserved(EndpointId id) const noexcept {
  const Endpoint* const endpoint = live(id);
  return endpoint != nullptr && endpoint->domain != nothing &&
         covers_reserved(*slots_[endpoint->domain].domain, *endpoint);
}

bool Domains::covers_reserved(const Domain& domain, const Endpoint& endpoint) noexcept {
  return std::ranges::any_of(endpoint.regions(), [&](const ReservedRegion& region) {
    const auto near = domain.mappings.first_from(region.range.first);
    return near && near->range.first <= region.range.last;
  });
}

// ---- Domains ----

const Domain* Domains::find(DomainId id) const noexcept {
  const std::uint32_t slot = domain_ids_.find(id.value);
  return slot == nothing ? nullptr : slots_[slot].domain;
}

std::optional<viommu::DomainId> Domains::number_of(DomainId id) const noexcept {
  const auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) {
    return s.named.load(std::memory_order_relaxed) == std::uint64_t{id.value} + 1;
  });
  if (slot == slots_.end()) return std::nullopt;
  return viommu::DomainId{static_cast<std::uint16_t>(slot - slots_.begin())};
}

std::uint32_t Domains::free_slot(std::uint32_t from) const noexcept {
  const auto slot =
      std::find_if(slots_.begin() + from, slots_.end(), [](const Slot& s) { return s.domain == nullptr; });
  return slot == slots_.end() ? nothing : static_cast<std::uint32_t>(slot - slots_.begin());
}

Domain& Domains::make(std::uint32_t slot, DomainId id, bool bypass) noexcept {
  Slot& place = slots_[slot];
  place.domain = &place.room.emplace(id, viommu::DomainId{static_cast<std::uint16_t>(slot)}, bypass, nodes_);
  place.named.store(std::uint64_t{id.value} + 1, std::memory_order_relaxed);
  return *place.domain;
}

void Domains::enter(Endpoint& endpoint, std::uint32_t slot) noexcept {
  Domain& domain = *slots_[slot].domain;
  endpoint.domain = slot;
  endpoint.before = nothing;
  endpoint.next = domain.first_member_;
  if (endpoint.next != nothing) endpoints_[endpoint.next].before = index_of(endpoint);
  domain.first_member_ = index_of(endpoint);
  ++domain.members_;
}

std::uint32_t Domains::leave(Endpoint& endpoint) noexcept {
  const std::uint32_t slot = std::exchange(endpoint.domain, nothing);
  Domain& domain = *slots_[slot].domain;
  if (endpoint.next != nothing) endpoints_[endpoint.next].before = endpoint.before;
  if (endpoint.before != nothing)
    endpoints_[endpoint.before].next = endpoint.next;
  else
    domain.first_member_ = endpoint.next;
  return --domain.members_ == 0 ? slot : nothing;
}

/// Readers may still be in it: its room is free when they have gone.
void Domains::destroy(std::uint32_t slot) noexcept {
  if (slot == nothing) return;
  Domain& domain = *slots_[slot].domain;
  if (going_on_ && going_on_->domain == domain.id()) going_on_.reset();
  domain_ids_.erase(domain.id().value);
  domain.mappings.clear();
  slots_[slot].named.store(0, std::memory_order_relaxed);
  slots_[slot].ticket = 0;
  --domain_count_;
  ++retired_;
}

void Domains::tell_moved(const Endpoint& endpoint, const EndpointView& before) noexcept {
  const EndpointView now = view(endpoint);
  if (listener_.moved != nullptr && now != before)
    listener_.moved(listener_.opaque, {endpoint.id, endpoint.source}, before, now);
}

// ---- Requests ----

Domains::Outcome Domains::attach(const Attach& request) noexcept {
  if (!config_.values().domains.contains(request.domain)) return answered(Status::range);
  Endpoint* const endpoint = live(request.endpoint);
  if (endpoint == nullptr) return answered(Status::no_entry);
  std::uint32_t slot = domain_ids_.find(request.domain.value);
  if (slot != nothing) {
    const Domain& domain = *slots_[slot].domain;
    if (domain.bypass() != request.bypass) return answered(Status::invalid);
    if (endpoint->domain == slot) return answered(Status::ok);
    // What is mapped there it must not reach.
    if (covers_reserved(domain, *endpoint)) return answered(Status::unsupported);
  } else {
    const bool makes_room = endpoint->domain != nothing && slots_[endpoint->domain].domain->members() == 1;
    if (domain_count_ == limits_.domains && !makes_room) return answered(Status::no_memory);
    slot = free_slot();
    if (slot == nothing) return later;
    make(slot, request.domain, request.bypass);
  }
  const EndpointView before = view(*endpoint);
  const std::uint32_t empty = endpoint->domain == nothing ? nothing : leave(*endpoint);
  if (slots_[slot].domain->members() == 0) {
    domain_ids_.insert(request.domain.value, slot);  // there is room for one more than there may be
    ++domain_count_;
  }
  enter(*endpoint, slot);
  tell_moved(*endpoint, before);
  destroy(empty);
  return answered(Status::ok);
}

Domains::Outcome Domains::detach(const Detach& request) noexcept {
  if (!config_.values().domains.contains(request.domain)) return answered(Status::range);
  const std::uint32_t index = endpoint_ids_.find(request.endpoint.value);
  if (index == nothing) return answered(Status::no_entry);
  Endpoint& endpoint = endpoints_[index];
  if (!endpoint.known) {
    if (endpoint.gone_from != request.domain) return answered(Status::no_entry);
    endpoint.gone_from.reset();
    endpoint_ids_.erase(request.endpoint.value);
    return answered(Status::ok);
  }
  if (endpoint.domain == nothing || slots_[endpoint.domain].domain->id() != request.domain)
    return answered(Status::invalid);
  const EndpointView before = view(endpoint);
  const std::uint32_t empty = leave(endpoint);
  tell_moved(endpoint, before);
  destroy(empty);
  return answered(Status::ok);
}

Status Domains::domain_for(DomainId id, Domain*& domain) noexcept {
  if (!config_.values().domains.contains(id)) return Status::range;
  const std::uint32_t slot = domain_ids_.find(id.value);
  if (slot == nothing) return Status::no_entry;
  domain = slots_[slot].domain;
  return domain->bypass() ? Status::invalid : Status::ok;
}

bool Domains::any_reserved(const Domain& domain, IovaRange range) const noexcept {
  for (std::uint32_t member = domain.first_member_; member != nothing; member = endpoints_[member].next)
    for (const ReservedRegion& region : endpoints_[member].regions())
      if (region.range.overlaps(range)) return true;
  return false;
}

Domains::Outcome Domains::map(const Map& request) noexcept {
  Domain* domain = nullptr;
  if (const Status status = domain_for(request.domain, domain); status != Status::ok) return answered(status);
  const IovaRange range{request.virt_start, request.virt_end};
  if (range.last < range.first) return answered(Status::invalid);
  // The last address may be the last there is: its successor is then 0, which is aligned.
  const std::uint64_t misaligned = range.first.value | (range.last.value + 1) | request.phys_start.value;
  if ((misaligned & (config_.granule() - 1)) != 0) return answered(Status::range);
  const IovaRange input = config_.values().input;
  if (range.first < input.first || range.last > input.last) return answered(Status::range);
  const std::uint64_t length_less_one = range.last.value - range.first.value;
  if (request.phys_start.value + length_less_one < request.phys_start.value) return answered(Status::range);
  const Mapping mapping{range, request.phys_start, request.rights, request.mmio};
  if (const auto near = domain->mappings.first_from(range.first); near && near->range.first <= range.last)
    return answered(Status::invalid);
  if (any_reserved(*domain, range)) return answered(Status::invalid);
  switch (domain->mappings.insert(mapping)) {
    case Inserted::ok:        break;
    case Inserted::overlap:   return answered(Status::invalid);
    case Inserted::limit:
    case Inserted::no_memory: return answered(Status::no_memory);
    case Inserted::later:     return later;
  }
  if (listener_.mapped == nullptr || listener_.mapped(listener_.opaque, *domain, mapping)) return answered(Status::ok);
  static_cast<void>(domain->mappings.remove(range, 1, [](const Mapping&) {}));
  return answered(Status::device_error);
}

Domains::Outcome Domains::unmap(const Unmap& request, std::size_t most) noexcept {
  Domain* domain = nullptr;
  if (const Status status = domain_for(request.domain, domain); status != Status::ok) return answered(status);
  const IovaRange range{request.virt_start, request.virt_end};
  if (range.last < range.first) return answered(Status::invalid);
  if (going_on_ != request) {
    if (domain->mappings.splits(range)) return answered(Status::range);
    const bool agreed = listener_.unmapping == nullptr || listener_.unmapping(listener_.opaque, *domain, range);
    if (!agreed) return answered(Status::device_error);
    going_on_ = request;
  }
  if (domain->mappings.remove(range, most, [](const Mapping&) {}) == Removed::more) return later;
  going_on_.reset();
  return answered(Status::ok);
}

// ---- The rest ----

void Domains::bypass_changed() noexcept {
  using Kind = EndpointView::Kind;
  const EndpointView before{config_.bypass() ? Kind::detached : Kind::bypass, nullptr};
  for (const Endpoint& endpoint : endpoints_)
    if (endpoint.known && endpoint.domain == nothing) tell_moved(endpoint, before);
}

void Domains::detach_all() noexcept {
  going_on_.reset();
  for (Endpoint& endpoint : endpoints_) {
    if (!endpoint.known) {
      if (endpoint.gone_from) endpoint_ids_.erase(endpoint.id.value);
      endpoint.gone_from.reset();
      continue;
    }
    if (endpoint.domain == nothing) continue;
    const EndpointView before = view(endpoint);
    const std::uint32_t empty = leave(endpoint);
    tell_moved(endpoint, before);
    destroy(empty);
  }
}

void Domains::seal(std::uint64_t ticket) noexcept {
  nodes_.seal(ticket);
  if (retired_ == 0) return;
  for (Slot& slot : slots_)
    if (slot.domain != nullptr && !slot.live() && slot.ticket == 0) slot.ticket = ticket;
}

bool Domains::reclaim(std::uint64_t completed, std::size_t most) noexcept {
  for (std::size_t i = 0; retired_ != 0 && i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.domain == nullptr || slot.live() || slot.ticket == 0 || slot.ticket > completed) continue;
    slot.domain = nullptr;
    slot.room.reset();
    --retired_;
  }
  return nodes_.reclaim(completed, most);
}

}  // namespace viommu::virtio_iommu
