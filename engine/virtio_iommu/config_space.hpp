// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The device's configuration space: 40 bytes, of which a driver may write one. Reads are of any offset and size; what
// lies behind the end reads 0.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/virtio_iommu/features.hpp"
#include "engine/virtio_iommu/ids.hpp"
#include "engine/virtio_iommu/layouts.hpp"

namespace viommu::virtio_iommu {

struct DomainRange {
  DomainId first{};
  DomainId last{~std::uint32_t{0}};

  [[nodiscard]] constexpr bool contains(DomainId domain) const noexcept { return first <= domain && domain <= last; }
};

/// What a device is created with.
struct ConfigValues {
  std::uint64_t page_size_mask = 0;  ///< at least one bit
  IovaRange input = all_iovas;
  DomainRange domains;
  std::uint32_t probe_size = 0;  ///< 0 without PROBE
  bool bypass = false;           ///< at a system reset; always false without BYPASS_CONFIG
};

enum class ConfigWrite : std::uint8_t {
  nothing,       ///< no field that a driver may write, or the value it has
  bypass,        ///< `bypass` has another value now: endpoints without a domain have another view, at once
  driver_error,  ///< refused: the old value stays
};

/// One thread at a time.
class ConfigSpace {
 public:
  explicit ConfigSpace(const ConfigValues& values) noexcept : values_{values}, bypass_{values.bypass} {}

  [[nodiscard]] const ConfigValues& values() const noexcept { return values_; }
  [[nodiscard]] bool bypass() const noexcept { return bypass_; }
  /// The smallest size of a mapping, and what its ends are multiples of.
  [[nodiscard]] std::uint64_t granule() const noexcept {
    return values_.page_size_mask & (~values_.page_size_mask + 1);
  }

  /// @param size  1, 2, 4 or 8 bytes; of another size nothing is read
  [[nodiscard]] std::uint64_t read(std::uint64_t offset, unsigned size) const noexcept;
  [[nodiscard]] ConfigWrite write(std::uint64_t offset, unsigned size, std::uint64_t value,
                                  Features negotiated) noexcept;

  /// A reset of the device changes nothing here; one of the system brings back the value of the start.
  void system_reset() noexcept { bypass_ = values_.bypass; }
  /// From a saved state.
  void load_bypass(bool bypass) noexcept { bypass_ = bypass; }
  /// While nobody has read it yet: what a host leaves of it.
  void set_page_size_mask(std::uint64_t mask) noexcept { values_.page_size_mask = mask; }

 private:
  ConfigValues values_;
  bool bypass_;
};

}  // namespace viommu::virtio_iommu
