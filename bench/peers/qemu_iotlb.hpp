// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The IOTLB of QEMU's shape: a GLib hash table whose keys and entries are heap blocks. A lookup probes once for each
// page size; an invalidation visits every entry; a full table is thrown away whole.
#pragma once

#include <glib.h>

#include <cstdint>

namespace viommu::bench {

struct IotlbKey {
  std::uint64_t frame = 0;  // iova >> 12, bits inside a larger page clear
  std::uint32_t pasid = 0;
  std::uint32_t level = 0;  // 1: 4 KiB, 2: 2 MiB, 3: 1 GiB
  std::uint16_t source = 0;
};

struct IotlbEntry {
  std::uint64_t frame = 0;
  std::uint64_t page = 0;  // guest-physical base
  std::uint64_t mask = 0;  // page size minus one
  std::uint16_t domain = 0;
  std::uint8_t rights = 0;
};

class QemuIotlb {
 public:
  static constexpr std::uint32_t original_capacity = 1024;

  /// @param capacity  entries at which all are thrown away; 0: never
  explicit QemuIotlb(std::uint32_t capacity = original_capacity);
  QemuIotlb(const QemuIotlb&) = delete;
  QemuIotlb& operator=(const QemuIotlb&) = delete;
  ~QemuIotlb();

  /// The entry of any page size that covers `iova`, or null.
  [[nodiscard]] const IotlbEntry* find(std::uint16_t source, std::uint64_t iova) const;
  void insert(std::uint16_t source, unsigned level, const IotlbEntry& entry);
  void drop_all();
  void drop_domain(std::uint16_t domain);
  /// The 2^order pages around `iova`.
  void drop_pages(std::uint16_t domain, std::uint64_t iova, unsigned order);

 private:
  GHashTable* table_;
  std::uint32_t capacity_;
};

/// Address bits below the page that an entry of `level` maps.
[[nodiscard]] constexpr unsigned level_shift(unsigned level) noexcept { return 12 + 9 * (level - 1); }

}  // namespace viommu::bench
