// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a request to translate is to be answered, and what its driver is to hear of it.
#include "fuzz/virtio_device/world.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "fuzz/support/require.hpp"

namespace viommu::fuzz::virtio_device {

viommu_request World::dma(std::uint8_t source, std::uint64_t iova, std::uint8_t access, std::uint8_t flags) {
  viommu_request made{};
  made.iova = iova;
  made.source = sources[source % sources.size()];
  made.access = access;
  made.flags = flags;
  return made;
}

Answer World::fault(std::uint8_t reason, std::uint64_t last) const {
  Answer answer;
  answer.reason = reason;
  answer.last = last;
  return answer;
}

Answer World::answer_of(const viommu_request& asked) const {
  constexpr std::uint64_t top = ~std::uint64_t{0};
  Answer answer;
  const auto as_memory = [&](std::uint64_t last) {
    answer.last = std::min(
        last, asked.iova + (parts_.device_alike_up_to(answer.gpa, answer.gpa + (last - asked.iova)) - answer.gpa));
    if (parts_.is_mmio(answer.gpa)) answer.rights |= VIOMMU_MMIO;
    return answer;
  };
  const auto identity = [&](std::uint64_t last) {
    answer.kind = VIOMMU_IDENTITY;
    answer.rights = VIOMMU_READ | VIOMMU_WRITE;
    answer.gpa = asked.iova;
    return as_memory(last);
  };
  if (bypasses(asked.source)) return identity(top);
  const PluggedDevice* const device = behind(asked.source);
  if (device == nullptr) return fault(VIOMMU_VIRTIO_FAULT_UNKNOWN, top);
  if ((asked.flags & VIOMMU_HAS_PASID) != 0) return fault(VIOMMU_VIRTIO_FAULT_MAPPING, top);
  const std::uint32_t id = device->endpoint;
  if (const Model::Reserved* const region = model_.reserved_at(id, asked.iova)) {
    if (!region->msi || asked.access != VIOMMU_WRITE) return fault(VIOMMU_VIRTIO_FAULT_MAPPING, region->last);
    answer.kind = VIOMMU_INTERRUPT;
    answer.rights = VIOMMU_WRITE;
    answer.gpa = asked.iova;
    answer.last = region->last;
    return answer;
  }
  std::uint64_t free = top;  // of reserved memory
  for (const Model::Reserved& region : model_.reserved_of(id))
    if (region.first > asked.iova) free = std::min(free, region.first - 1);
  switch (model_.view(id)) {
    case View::unknown:    break;
    case View::detached:   return fault(VIOMMU_VIRTIO_FAULT_DOMAIN, free);
    case View::bypass:     return identity(free);
    case View::translated: {
      const auto found = model_.find(id, asked.iova);
      if (!found) {
        const Model::Intervals& all = model_.mappings_of(id);
        const auto next = all.upper_bound(asked.iova);
        return fault(VIOMMU_VIRTIO_FAULT_MAPPING, next == all.end() ? free : std::min(free, next->first - 1));
      }
      const std::uint64_t last = std::min(free, found->second.last);
      if ((asked.access & ~found->second.flags) != 0) return fault(VIOMMU_VIRTIO_FAULT_MAPPING, last);
      answer.kind = VIOMMU_TRANSLATED;
      answer.rights = found->second.flags & 3;
      answer.gpa = found->second.gpa + (asked.iova - found->first);
      return as_memory(last);
    }
  }
  return fault(VIOMMU_VIRTIO_FAULT_UNKNOWN, top);
}

void World::check(const viommu_request& asked, const viommu_translation& found, const Answer& right) {
  require_equal(found.kind, right.kind, "kind of an answer");
  require_equal(found.reason, right.reason, "reason of a fault");
  if (right.kind == VIOMMU_FAULT) {
    const bool silent = (asked.flags & VIOMMU_NO_REPORT) != 0;
    return require_equal(found.status, silent ? std::uint8_t{VIOMMU_FAULT_NOT_REPORTED} : report(asked, right.reason),
                         "what became of a report");
  }
  require_equal(found.gpa, right.gpa, "address of an answer");
  require_equal(found.rights, right.rights, "rights of an answer");
  if (right.kind == VIOMMU_INTERRUPT) return;
  // All of the block translates alike.
  require((found.mask & (found.mask + 1)) == 0 && ((asked.iova ^ found.gpa) & found.mask) == 0, "a block");
  viommu_request at_first = asked;
  at_first.iova &= ~found.mask;
  const Answer first = answer_of(at_first);
  require(first.kind == right.kind && first.rights == right.rights && first.gpa == (right.gpa & ~found.mask) &&
              first.last >= (asked.iova | found.mask),
          "a block that does not translate alike");
}

std::uint8_t World::report(const viommu_request& asked, std::uint8_t reason) {
  const PluggedDevice* const device = behind(asked.source);
  Bytes bytes(report_bytes);
  const std::uint32_t flags = 0x100U | asked.access;
  const std::uint32_t id = device == nullptr ? asked.source : device->endpoint;
  bytes[0] = reason;
  std::memcpy(bytes.data() + 4, &flags, sizeof flags);
  std::memcpy(bytes.data() + 8, &id, sizeof id);
  std::memcpy(bytes.data() + 16, &asked.iova, sizeof asked.iova);
  if (!running_ || broken_ || !reports_.there()) {
    if (event_room_ == 0) return VIOMMU_FAULT_NO_BUFFER;
    --event_room_;
    told_.push_back(std::move(bytes));
    return VIOMMU_FAULT_RECORDED;
  }
  const auto place = std::ranges::find_if(posted_, [](const Posted& one) { return one.report.empty() && one.fits; });
  if (place == posted_.end()) return VIOMMU_FAULT_NO_BUFFER;
  place->report = std::move(bytes);
  return VIOMMU_FAULT_RECORDED;
}

}  // namespace viommu::fuzz::virtio_device
