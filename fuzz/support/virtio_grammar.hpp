// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Requests of a virtio IOMMU driver out of records: mostly right, and at every border of what is.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "fuzz/models/virtio_iommu_model.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "tests/virtqueue/ring_buffer.hpp"

namespace viommu::fuzz {

/// What a device can do, out of two bytes. Free are bits 3, 4, 6 and 7 of the first and bit 7 of the second.
[[nodiscard]] inline VirtioIommuModel::Setting virtio_setting(std::uint8_t flags, std::uint8_t sizes) {
  constexpr std::array<std::uint64_t, 4> granules{0x1000, 1, 0x10000, 0x20'0000};
  constexpr std::array<std::uint32_t, 4> probe_sizes{512, 48, 72, 1024};
  VirtioIommuModel::Setting setting;
  setting.map_unmap = (flags & 0x20) == 0;
  setting.probe = (flags & 1) != 0;
  setting.mmio = (flags & 2) != 0;
  setting.bypass_config = (flags & 4) != 0;
  setting.granule = granules[sizes & 3];
  setting.probe_size = setting.probe ? probe_sizes[sizes >> 2 & 3] : 0;
  setting.input_first = (sizes & 0x10) != 0 ? 0x10'0000 : 0;
  setting.input_last = (sizes & 0x20) != 0 ? ~std::uint64_t{0} : (std::uint64_t{1} << 40) - 1;
  setting.domain_first = 1;
  setting.domain_last = (sizes & 0x40) != 0 ? 100 : 0xFFFF'FFFE;
  setting.domains = 3;
  return setting;
}

/// A request as its driver makes it.
struct VirtioRequest {
  std::vector<std::uint8_t> bytes;
  std::uint64_t writable = 0;  ///< bytes that the device may write
  std::uint8_t room = 0;       ///< that of the record: 0x20 asks for a table of descriptors, its 0x80 for one before it
  std::uint64_t first = 0;     ///< addresses that it is about
  std::uint64_t last = 0;
};

/// @param operation  0 to 6 say the type, others have none
/// @param endpoint  its id
[[nodiscard]] inline VirtioRequest take_virtio_request(unsigned operation, std::uint32_t endpoint,
                                                       std::uint32_t probe_size, Input& record) {
  constexpr std::array<std::uint32_t, 8> domain_ids{1, 2, 3, 4, 100, 101, 0, 0xFFFF'FFFF};
  constexpr std::array<std::uint8_t, 7> types{1, 2, 3, 4, 5, 3, 4};
  constexpr std::array<std::size_t, 6> lengths{40, 20, 20, 36, 28, 72};
  constexpr std::size_t longest = 240;
  VirtioRequest made;
  made.bytes.resize(longest);
  const auto put = [&](std::size_t at, std::uint64_t value, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) made.bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
  };
  const auto domain = record.take<std::uint8_t>();
  const auto flags = record.take<std::uint8_t>();
  const auto raw = record.take<std::uint8_t>();
  const auto first = record.take<std::uint64_t>();
  const auto last = record.take<std::uint64_t>();
  const auto gpa = record.take<std::uint64_t>();
  const std::uint8_t type = operation < types.size() ? types.at(operation) : 0;
  made.first = first;
  // Mostly pages; the end is then some pages behind the start.
  made.last = (raw & 4) != 0 ? last : first + ((last & 0xFF) + 1) * 0x1000 - 1;
  put(0, (raw & 1) != 0 ? first : type, (raw & 1) != 0 ? 4 : 1);
  put(4, domain_ids[domain % domain_ids.size()], 4);
  if (type == 5) put(4, endpoint, 4);
  if (type == 1 || type == 2) {
    put(8, endpoint, 4);
    put(12, flags, 4);
    if ((raw & 2) != 0) put(16, last, 4);
  }
  if (type == 3 || type == 4) {
    put(8, first, 8);
    put(16, made.last, 8);
  }
  if (type == 3) {
    put(24, gpa, 8);
    put(32, flags, 4);
  }
  made.bytes.resize((raw & 8) != 0 ? std::size_t{raw} >> 4 << 3 : lengths.at(type));

  made.room = record.take<std::uint8_t>();
  const bool probes = !made.bytes.empty() && made.bytes[0] == 5;
  constexpr std::array<std::uint64_t, 8> deltas{0, 0, 0, 0, 1, 4, 64, 3};
  const std::uint64_t delta = deltas[made.room & 7];
  made.writable = 4 + (probes ? probe_size : 0);
  made.writable = (made.room & 0x10) != 0 ? made.writable - std::min(made.writable, delta) : made.writable + delta;
  return made;
}

/// Where a request lies in memory, and where its descriptors may.
struct VirtioPlace {
  std::uint64_t readable = 0;
  std::uint64_t writable = 0;
  std::uint64_t table = 0;
};

/// Both parts in descriptors, at most 12, cut where the record says; of no length none.
[[nodiscard]] inline test::RingBuffer cut_virtio_request(const VirtioRequest& request, const VirtioPlace& place,
                                                         bool may_indirect, Input& record) {
  std::vector<test::Piece> pieces;
  const auto add_part = [&](std::uint64_t at, std::uint64_t size, bool device_writes) {
    const std::uint64_t step = 1 + record.take<std::uint8_t>();
    const std::uint64_t first = record.take<std::uint8_t>() % (size + 1);
    for (std::uint64_t from = 0; from < size;) {
      std::uint64_t count = from == 0 && first != 0 ? first : step;
      if (pieces.size() % 6 == 5) count = size;  // in the end all of it
      count = std::min(count, size - from);
      pieces.push_back({at + from, static_cast<std::uint32_t>(count), device_writes});
      from += count;
    }
  };
  add_part(place.readable, request.bytes.size(), false);
  add_part(place.writable, request.writable, true);
  if (may_indirect && pieces.size() > 1 && (request.room & 0x20) != 0)
    return test::indirect(std::move(pieces), place.table, request.room >> 7);
  return test::direct(std::move(pieces));
}

/// The fields of a record that begins with an operation, an endpoint and a request.
inline constexpr std::array<Cell, 10> virtio_cells{
    {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 8}, {13, 8}, {21, 8}, {29, 1}, {30, 2}}};
inline constexpr std::array<std::uint64_t, 12> virtio_values{
    0x10'0000,   0x10'1000,   0x2F'F000, 0x30'0000, 0x30'8000,      0xFEDF'F000,
    0xFEE0'0000, 0xFFFF'F000, 0x1000,    0x0,       0xFF'FFFF'F000, 0xFFFF'FFFF'FFFF'F000};

}  // namespace viommu::fuzz
