// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Messages from bytes and into bytes, and what they do to a back end's translations.
#include <viommu/viommu_vhost.h>

#include <cstring>

#include "engine/vhost/layouts.hpp"
#include "engine/vhost/range.hpp"

namespace viommu::vhost {
namespace {

constexpr std::uint32_t every_right = VIOMMU_READ | VIOMMU_WRITE;

[[nodiscard]] bool is_form(std::uint32_t form) noexcept { return form <= VIOMMU_VHOST_V2; }
[[nodiscard]] std::size_t bytes_of(std::uint32_t form) noexcept {
  return form == VIOMMU_VHOST_PLAIN ? sizeof(IotlbMessage) : sizeof(Envelope);
}
[[nodiscard]] bool is_batch(std::uint8_t type) noexcept {
  return type == VIOMMU_VHOST_BATCH_BEGIN || type == VIOMMU_VHOST_BATCH_END;
}
[[nodiscard]] bool has_rights(std::uint8_t type) noexcept { return type != VIOMMU_VHOST_INVALIDATE && !is_batch(type); }

[[nodiscard]] bool is_type(std::uint32_t form, std::uint8_t type) noexcept {
  return (type >= VIOMMU_VHOST_MISS && type <= VIOMMU_VHOST_ACCESS_FAIL) || (form == VIOMMU_VHOST_V2 && is_batch(type));
}

/// What is true of each message, whichever way it goes; its type is known.
[[nodiscard]] viommu_result checked(const viommu_vhost_message& message) noexcept {
  if (is_batch(message.type)) return VIOMMU_OK;
  if (has_rights(message.type) && (message.access == 0 || (message.access & ~every_right) != 0))
    return VIOMMU_E_ARGUMENT;
  if (message.last < message.iova) return VIOMMU_E_RANGE;
  if (message.type != VIOMMU_VHOST_UPDATE) return VIOMMU_OK;
  const bool nowhere = message.uaddr == top_address || wraps(message.uaddr, message.last - message.iova);
  return nowhere ? VIOMMU_E_RANGE : VIOMMU_OK;
}

}  // namespace
}  // namespace viommu::vhost

using namespace viommu::vhost;

extern "C" {

viommu_result viommu_vhost_message_read(uint32_t form, const void* bytes, size_t length,
                                        struct viommu_vhost_message* message) {
  if (bytes == nullptr || message == nullptr || !is_form(form) || length != bytes_of(form)) return VIOMMU_E_ARGUMENT;
  // One copy: a peer that shares the memory cannot change what has been checked.
  Envelope envelope;
  if (form == VIOMMU_VHOST_PLAIN)
    std::memcpy(&envelope.iotlb, bytes, sizeof envelope.iotlb);
  else
    std::memcpy(&envelope, bytes, sizeof envelope);
  if (form != VIOMMU_VHOST_PLAIN && envelope.form != form) return VIOMMU_E_UNSUPPORTED;
  const IotlbMessage& iotlb = envelope.iotlb;
  if (!is_type(form, iotlb.type)) return VIOMMU_E_UNSUPPORTED;
  viommu_vhost_message read{};
  read.type = iotlb.type;
  if (form == VIOMMU_VHOST_V2) read.asid = envelope.asid;
  if (!is_batch(iotlb.type)) {
    read.iova = iotlb.iova;
    if (has_rights(iotlb.type)) read.access = iotlb.perm;
    if (iotlb.type == VIOMMU_VHOST_UPDATE) read.uaddr = iotlb.uaddr;
    if (iotlb.size != 0) {
      read.last = iotlb.iova + (iotlb.size - 1);  // below `iova` where it wraps
    } else if (iotlb.type == VIOMMU_VHOST_MISS || iotlb.type == VIOMMU_VHOST_ACCESS_FAIL) {
      read.last = iotlb.iova;
    } else if (iotlb.type == VIOMMU_VHOST_INVALIDATE && iotlb.iova == 0) {
      read.last = top_address;
    } else {
      return VIOMMU_E_ARGUMENT;
    }
  }
  if (const viommu_result result = checked(read); result != VIOMMU_OK) return result;
  *message = read;
  return VIOMMU_OK;
}

viommu_result viommu_vhost_message_write(uint32_t form, const struct viommu_vhost_message* message, void* bytes,
                                         size_t capacity, size_t* length) {
  if (message == nullptr || bytes == nullptr || length == nullptr || !is_form(form) || message->reserved != 0)
    return VIOMMU_E_ARGUMENT;
  if (!is_type(form, message->type) || (form != VIOMMU_VHOST_V2 && message->asid != 0)) return VIOMMU_E_UNSUPPORTED;
  if (const viommu_result result = checked(*message); result != VIOMMU_OK) return result;
  if (capacity < bytes_of(form)) return VIOMMU_E_RANGE;
  Envelope envelope;
  envelope.form = form;
  envelope.asid = message->asid;
  envelope.iotlb.type = message->type;
  if (!is_batch(message->type)) {
    const std::uint64_t more = message->last - message->iova;
    if (more == top_address) return VIOMMU_E_RANGE;
    envelope.iotlb.iova = message->iova;
    envelope.iotlb.size = more + 1;
    if (has_rights(message->type)) envelope.iotlb.perm = message->access;
    if (message->type == VIOMMU_VHOST_UPDATE) envelope.iotlb.uaddr = message->uaddr;
  }
  if (form == VIOMMU_VHOST_PLAIN)
    std::memcpy(bytes, &envelope.iotlb, sizeof envelope.iotlb);
  else
    std::memcpy(bytes, &envelope, sizeof envelope);
  *length = bytes_of(form);
  return VIOMMU_OK;
}

viommu_result viommu_vhost_apply(viommu_iotlb* iotlb, const struct viommu_vhost_message* message, uint64_t* ticket) {
  if (ticket != nullptr) *ticket = 0;
  if (iotlb == nullptr || message == nullptr) return VIOMMU_E_ARGUMENT;
  switch (message->type) {
    case VIOMMU_VHOST_UPDATE:
      return viommu_iotlb_update(iotlb, message->iova, message->last, message->uaddr, message->access);
    case VIOMMU_VHOST_INVALIDATE:  return viommu_iotlb_invalidate(iotlb, message->iova, message->last, ticket);
    case VIOMMU_VHOST_ACCESS_FAIL: return viommu_iotlb_failed(iotlb, message->iova, message->last);
    case VIOMMU_VHOST_BATCH_BEGIN:
    case VIOMMU_VHOST_BATCH_END:   return VIOMMU_OK;
    default:                       return VIOMMU_E_ARGUMENT;
  }
}

}  // extern "C"
