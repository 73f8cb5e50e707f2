// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How QEMU's VT-d model remaps an interrupt, written anew from that description: under a mutex, two words of the entry
// through the memory API, its checks one after another, then the message. Without the copies, traces and error texts
// that it makes besides.
#pragma once

#include <cstdint>
#include <mutex>

#include "bench/peers/address_dispatch.hpp"

namespace viommu::bench {

struct ShapeMessage {
  std::uint64_t address = 0;
  std::uint32_t data = 0;
  std::uint8_t reason = 0;  // of a blocked request, else 0
};

class QemuInterrupts {
 public:
  QemuInterrupts(const AddressDispatch& memory, std::uint64_t table, std::uint32_t entries)
      : memory_{memory}, table_{table}, entries_{entries} {}

  /// A message in remappable format.
  [[nodiscard]] ShapeMessage remap(std::uint16_t source, std::uint64_t address, std::uint32_t data);

 private:
  [[nodiscard]] std::uint8_t load(std::uint32_t index, std::uint16_t source, std::uint64_t& low) const;

  const AddressDispatch& memory_;
  std::mutex mutex_;
  std::uint64_t table_;
  std::uint32_t entries_;
};

}  // namespace viommu::bench
