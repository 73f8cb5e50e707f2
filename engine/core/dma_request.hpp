// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A request of a device, and what becomes of it, whatever front end translates it.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/address_type.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/ids.hpp"

namespace viommu::core {

/// One request of a device.
struct DmaRequest {
  SourceId source;
  Iova iova;
  Rights asked;              ///< both for an atomic
  std::uint64_t length = 0;  ///< bytes, 0 when not told; matters in the interrupt window only
  bool zero_length = false;  ///< a zero-length read
  bool has_pasid = false;
  Pasid pasid{};
  bool privileged = false;  ///< PR and ER: of a request with PASID
  bool execute = false;
  bool report = true;  ///< false: same answer, but no record and no event
  AddressType type = AddressType::untranslated;
  bool page_request = false;  ///< the request is for a page, not for its contents
};

enum class DmaKind : std::uint8_t { fault, translated, identity, interrupt };

struct DmaAnswer {
  DmaKind kind = DmaKind::fault;
  Rights rights;
  Gpa gpa;
  std::uint64_t mask = 0;
  FaultReason reason = FaultReason::none;  ///< of a fault; a front end with codes of its own gives those
  FaultStatus status = FaultStatus::none;
  // Of the context that was used, for holds:
  DomainId domain{};
  std::optional<Pasid> pasid = std::nullopt;
  bool first_stage = false;
  bool mmio = false;  ///< it leads to a device's memory
};

}  // namespace viommu::core
