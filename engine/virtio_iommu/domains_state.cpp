// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Migration: which domains there are and who is in them, out of a saved state and into one.
#include <algorithm>

#include "engine/virtio_iommu/domains.hpp"
#include "engine/virtio_iommu/saved_state.hpp"

namespace viommu::virtio_iommu {

bool Domains::save(SavedState& state) const noexcept {
  std::size_t attached = 0;
  std::size_t gone = 0;
  for (const Endpoint& endpoint : endpoints_) {
    if (endpoint.known && endpoint.domain != nothing) ++attached;
    if (!endpoint.known && endpoint.gone_from) ++gone;
  }
  HostArray<const Endpoint*> removed;
  if (!state.domains.reset(allocator_, domain_count_) || !state.attached.reset(allocator_, attached) ||
      !state.gone.reset(allocator_, gone) || !removed.reset(allocator_, gone))
    return false;

  SavedDomain* domain = state.domains.begin();
  for (const Slot& slot : slots_) {
    if (slot.domain == nullptr || !slot.live()) continue;
    *domain++ = {slot.domain->id(), slot.domain->bypass(), slot.domain->mappings.size(), slot.domain->members()};
  }
  std::ranges::sort(state.domains, {}, &SavedDomain::id);

  SavedEndpoint* member = state.attached.begin();
  const Endpoint** other = removed.begin();
  for (const Endpoint& endpoint : endpoints_) {
    if (endpoint.known && endpoint.domain != nothing) *member++ = {endpoint.id, slots_[endpoint.domain].domain->id()};
    if (!endpoint.known && endpoint.gone_from) *other++ = &endpoint;
  }
  std::ranges::sort(state.attached, {}, &SavedEndpoint::id);
  std::ranges::sort(removed, {}, [](const Endpoint* endpoint) { return endpoint->gone_at; });
  std::ranges::transform(removed, state.gone.begin(),
                         [](const Endpoint* endpoint) { return SavedEndpoint{endpoint->id, *endpoint->gone_from}; });
  return true;
}

std::optional<EndpointId> Domains::missing(const SavedState& state) const noexcept {
  const auto* const first = std::ranges::find_if(state.attached, [&](const auto& e) { return !knows(e.id); });
  return first == state.attached.end() ? std::nullopt : std::optional{first->id};
}

bool Domains::restore(const SavedState& state) noexcept {
  if (!restore_domains(state)) {
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot)
      if (slots_[slot].live()) destroy(slot);
    return false;
  }
  for (const SavedEndpoint& endpoint : state.attached)
    enter(*live(endpoint.id), domain_ids_.find(endpoint.domain.value));
  for (const SavedEndpoint& gone : state.gone) {
    // One that has come back since is another one.
    Endpoint* const endpoint = knows(gone.id) ? nullptr : free_endpoint();
    if (endpoint == nullptr) continue;
    endpoint_ids_.insert(gone.id.value, index_of(*endpoint));
    endpoint->id = gone.id;
    endpoint->gone_from = gone.domain;
    endpoint->gone_at = ++removals_;
  }
  return true;
}

bool Domains::restore_domains(const SavedState& state) noexcept {
  machine::SectionReader mappings = state.mappings;
  std::uint32_t slot = 0;
  for (const SavedDomain& saved : state.domains) {
    slot = free_slot(slot);
    if (slot == nothing) return false;
    Domain& domain = make(slot, saved.id, saved.bypass);
    domain_ids_.insert(saved.id.value, slot);
    ++domain_count_;
    for (std::uint64_t i = 0; i < saved.mappings; ++i) {
      if (domain.mappings.insert(read_mapping(mappings)) != Inserted::ok) return false;
      nodes_.take_back_unseen();
    }
  }
  return true;
}

}  // namespace viommu::virtio_iommu
