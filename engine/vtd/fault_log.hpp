// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Primary Fault Logging": the fault recording registers, filled in turn.
// The overflow flag, the status register and the event are the register file's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/base/address.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/register_image.hpp"

namespace viommu::vtd {

/// FRCD_REG, {T1, T2}: what kind of request was blocked.
enum class FaultedRequest : std::uint8_t { write = 0, page_request = 1, read = 2, atomic = 3 };

/// A blocked request, as it is to be recorded.
struct FaultEntry {
  SourceId source;
  FaultReason reason = FaultReason::none;
  FaultedRequest request = FaultedRequest::read;
  AddressType address_type = AddressType::untranslated;
  Iova address;
  std::optional<std::uint16_t> interrupt_index = std::nullopt;  ///< recorded instead of the address
  std::optional<Pasid> pasid = std::nullopt;                    ///< only if the request itself carried one
  bool privileged = false;                                      ///< counts with `pasid`
  bool execute = false;                                         ///< counts with `pasid`
};

/// The records of one unit. `record` looks at each record once at most (256 of them); everything else is O(1).
class FaultLog {
 public:
  /// `capabilities` say how many records there are and which fields they have.
  explicit FaultLog(const Capabilities& capabilities) noexcept;

  /// Writes `entry` into the next record. With `compress`, a fault of a source that has a pending record is dropped.
  /// @return recorded, compressed, or overflow_set: the next record is still pending, nothing was written.
  FaultStatus record(const FaultEntry& entry, bool compress) noexcept;

  /// Whether any record is pending (PPF), and which one was first since none was (FRI).
  [[nodiscard]] bool pending() const noexcept { return pending_records_ != 0; }
  [[nodiscard]] unsigned first() const noexcept { return first_; }

  /// Dword `index` of all records, four a record. `index` is below `dwords()`.
  [[nodiscard]] std::size_t dwords() const noexcept { return 4 * std::size_t{records_in_use_}; }
  [[nodiscard]] std::uint32_t read(std::size_t index) const noexcept;
  /// A write of the bits in `mask`. Only F reacts: written 1, it is cleared. @return whether F was cleared.
  bool write(std::size_t index, std::uint32_t value, std::uint32_t mask) noexcept;

  /// The next fault goes to record 0: neither translation nor interrupt remapping is on.
  void restart() noexcept { next_ = 0; }
  /// Power-good reset.
  void reset() noexcept;

  // register_image.cpp
  [[nodiscard]] FaultLogImage image() const noexcept;
  /// @return false for one that this log could not have come to; it is good for nothing then
  [[nodiscard]] bool adopt(const FaultLogImage& image) noexcept;

 private:
  struct Record {
    FaultRecordLow low;
    FaultRecordHigh high;
  };
  [[nodiscard]] Record encode(const FaultEntry& entry) const noexcept;
  [[nodiscard]] bool could_be(const FaultLogImage::Record& record) const noexcept;

  std::array<Record, FaultLogImage::most_records> records_{};
  unsigned records_in_use_;
  unsigned address_bits_;
  bool has_address_type_;
  bool has_pasid_;
  unsigned next_ = 0;
  unsigned first_ = 0;
  unsigned pending_records_ = 0;
};

}  // namespace viommu::vtd
