// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/views.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

namespace viommu::virtio_iommu {

Views::~Views() {
  for (Atomic<Bus*>& place : buses_) {
    Bus* const bus = place.load(std::memory_order_relaxed);
    if (bus == nullptr) continue;
    for (Entry& entry : bus->entries) retire(entry.reserved.load(std::memory_order_relaxed));
    std::destroy_at(bus);
    allocator_.put(bus, sizeof(Bus), alignof(Bus));
  }
  free(prepared_);
  constexpr std::uint64_t all = ~std::uint64_t{0};  // also those whose ticket had not come
  seal(all);
  reclaim(all);
}

Views::Bus* Views::bus_of(SourceId source) noexcept {
  Atomic<Bus*>& place = buses_[source.bus()];
  if (Bus* const bus = place.load(std::memory_order_relaxed); bus != nullptr) return bus;
  void* const memory = allocator_.get(sizeof(Bus), alignof(Bus));
  if (memory == nullptr) return nullptr;
  Bus* const made = ::new (memory) Bus;
  place.store(made, std::memory_order_release);
  return made;
}

bool Views::prepare(SourceId source, std::span<const ReservedRegion> reserved) noexcept {
  free(std::exchange(prepared_, nullptr));
  if (bus_of(source) == nullptr) return false;
  if (reserved.empty()) return true;
  void* const memory = allocator_.get(sizeof(List), alignof(List));
  if (memory == nullptr) return false;
  List* const list = ::new (memory) List;
  if (!list->regions.reset(allocator_, reserved.size())) {
    free(list);
    return false;
  }
  std::ranges::copy(reserved, list->regions.begin());
  prepared_ = list;
  return true;
}

void Views::name(SourceId source, EndpointId endpoint) noexcept {
  Bus* const bus = buses_[source.bus()].load(std::memory_order_relaxed);
  Entry& entry = bus->entries[source.devfn()];
  entry.endpoint.store(endpoint.value, std::memory_order_relaxed);
  retire(entry.reserved.exchange(std::exchange(prepared_, nullptr), std::memory_order_acq_rel));
}

void Views::put(SourceId source, const EndpointView& view, bool covers_reserved) noexcept {
  Bus* const bus = buses_[source.bus()].load(std::memory_order_relaxed);
  if (bus == nullptr) return;
  const std::uint32_t domain = view.domain == nullptr ? 0U : view.domain->index().value;
  bus->entries[source.devfn()].word.store(
      static_cast<std::uint32_t>(view.kind) | domain << domain_at | (covers_reserved ? covers_bit : 0U),
      std::memory_order_release);
}

bool Views::rename(SourceId from, SourceId to, EndpointId endpoint) noexcept {
  Bus* const source = buses_[from.bus()].load(std::memory_order_relaxed);
  Bus* const bus = bus_of(to);
  if (bus == nullptr) return false;
  if (source == nullptr || from == to) return true;
  Entry& old = source->entries[from.devfn()];
  Entry& entry = bus->entries[to.devfn()];
  const std::uint32_t word = old.word.exchange(0, std::memory_order_acq_rel);  // from here on nobody is there
  entry.endpoint.store(endpoint.value, std::memory_order_relaxed);
  retire(entry.reserved.exchange(old.reserved.exchange(nullptr, std::memory_order_acq_rel), std::memory_order_acq_rel));
  entry.word.store(word, std::memory_order_release);
  return true;
}

void Views::retire(List* list) noexcept {
  if (list == nullptr) return;
  list->next = retired_;
  list->ticket = 0;
  retired_ = list;
}

void Views::free(List* list) noexcept {
  if (list == nullptr) return;
  std::destroy_at(list);
  allocator_.put(list, sizeof(List), alignof(List));
}

void Views::seal(std::uint64_t ticket) noexcept {
  for (List* list = retired_; list != nullptr; list = list->next)
    if (list->ticket == 0) list->ticket = ticket;
}

void Views::reclaim(std::uint64_t completed) noexcept {
  for (List** link = &retired_; *link != nullptr;) {  // ends: a list less, or the next one
    List* const list = *link;
    if (list->ticket == 0 || list->ticket > completed) {
      link = &list->next;
      continue;
    }
    *link = list->next;
    free(list);
  }
}

}  // namespace viommu::virtio_iommu
