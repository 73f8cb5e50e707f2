// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/request.hpp"

#include <algorithm>
#include <cstring>

namespace viommu::virtio_iommu {
namespace {

template <class Layout>
[[nodiscard]] Layout laid_over(const RequestBytes& bytes) noexcept {
  Layout request;
  std::memcpy(&request, bytes.data(), std::min(sizeof request, bytes.size()));
  return request;
}

[[nodiscard]] Request decode_attach(const RequestBytes& bytes, Features negotiated) noexcept {
  const auto request = laid_over<AttachLayout>(bytes);
  if (request.reserved != Reserved<4>{}) return Refused{Status::invalid};
  std::uint32_t unknown = reserved_mask(attach_flags::rows);
  if (!get(negotiated, features::bypass_config)) unknown |= mask_of(attach_flags::bypass);
  if ((request.flags.raw & unknown) != 0) return Refused{Status::invalid};
  return Attach{{request.domain}, {request.endpoint}, get(request.flags, attach_flags::bypass)};
}

[[nodiscard]] Request decode_map(const RequestBytes& bytes, Features negotiated) noexcept {
  const auto request = laid_over<MapLayout>(bytes);
  std::uint32_t unknown = reserved_mask(map_flags::rows);
  if (!get(negotiated, features::mmio)) unknown |= mask_of(map_flags::mmio);
  if ((request.flags.raw & unknown) != 0) return Refused{Status::invalid};
  return Map{{request.domain},
             {request.virt_start},
             {request.virt_end},
             {request.phys_start},
             {get(request.flags, map_flags::read), get(request.flags, map_flags::write)},
             get(request.flags, map_flags::mmio)};
}

/// How much of a request the driver has to send; 0 of a type that there is not.
[[nodiscard]] std::size_t readable_bytes_of(RequestType type, Features negotiated) noexcept {
  switch (type) {
    case RequestType::attach: return offsetof(AttachLayout, tail);
    case RequestType::detach: return offsetof(DetachLayout, tail);
    case RequestType::map:    return get(negotiated, features::map_unmap) ? offsetof(MapLayout, tail) : 0;
    case RequestType::unmap:  return get(negotiated, features::map_unmap) ? offsetof(UnmapLayout, tail) : 0;
    case RequestType::probe:  return get(negotiated, features::probe) ? sizeof(ProbeLayout) : 0;
  }
  return 0;
}

}  // namespace

Decoded decode(const RequestBytes& bytes, BufferSize size, Features negotiated, std::uint32_t probe_size) noexcept {
  if (size.readable < sizeof(RequestHead) || size.writable < sizeof(RequestTail)) return {Unanswered{}};
  const RequestType type = laid_over<RequestHead>(bytes).type;
  const std::size_t needed = readable_bytes_of(type, negotiated);
  if (needed == 0) return {Unanswered{}};

  const bool probes = type == RequestType::probe;
  const std::uint64_t room = size.writable - sizeof(RequestTail);
  // Properties for which there is no room leave the status at the end of what there is.
  const auto tail_offset = static_cast<std::uint32_t>(probes ? std::min<std::uint64_t>(probe_size, room) : 0);
  if (size.readable < needed || (probes && room < probe_size)) return {Refused{Status::invalid}, tail_offset};

  switch (type) {
    case RequestType::attach: return {decode_attach(bytes, negotiated)};
    case RequestType::detach: {
      const auto request = laid_over<DetachLayout>(bytes);  // reserved is ignored
      return {Detach{{request.domain}, {request.endpoint}}};
    }
    case RequestType::map:   return {decode_map(bytes, negotiated)};
    case RequestType::unmap: {
      const auto request = laid_over<UnmapLayout>(bytes);  // reserved may be refused, or ignored: ignored
      return {Unmap{{request.domain}, {request.virt_start}, {request.virt_end}}};
    }
    case RequestType::probe: return {Probe{{laid_over<ProbeLayout>(bytes).endpoint}}, tail_offset};
  }
  return {Unanswered{}};
}

}  // namespace viommu::virtio_iommu
