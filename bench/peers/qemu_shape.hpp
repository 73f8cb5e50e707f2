// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// "QEMU's shape": how QEMU's VT-d model does its work in legacy mode, written anew from that description.
//
//   translate: one mutex -> hash table of heap blocks, probed for 4 KiB, 2 MiB and 1 GiB in turn, at most 1,024 entries
//              -> context entry cached for each device under a generation number
//              -> walk with one guest-memory call for each table -> entry and key allocated and inserted
//   invalidate: queued descriptors; global empties the table, domain and page visit every entry of it
//
// It leaves out what costs QEMU more than this: tracing, the memory API above the translation, notifiers, the fences of
// its DMA reads, the formatting of fault reports. Its times are a lower bound. It answers what the specification says:
// a hit that lacks the right asked for is a fault here.
#pragma once

#include "bench/peers/address_dispatch.hpp"
#include "bench/peers/qemu_iotlb.hpp"
#include "bench/peers/qemu_registers.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

namespace viommu::bench {

struct ShapeUnit {
  std::uint64_t capability = 0;
  std::uint64_t extended_capability = 0;
  std::uint32_t version = 0x10;
  unsigned host_address_width = 48;
};

/// How the shape is changed to answer a question apart.
struct ShapeVariant {
  std::uint32_t capacity = QemuIotlb::original_capacity;  // 0: no limit
  bool cached = true;                                     // false: every request walks, under the same mutex
};

struct ShapeAnswer {
  std::uint64_t gpa = 0;    // of the access itself
  std::uint8_t rights = 0;  // 1 read, 2 write
  std::uint8_t reason = 0;  // of a blocked request, else 0
};

class QemuShape {
 public:
  QemuShape(const ShapeUnit& unit, const AddressDispatch& memory, MessageSink sink, const ShapeVariant& variant = {});

  /// `access`: 1 read, 2 write, 3 both. Without `report` a blocked request leaves no record.
  [[nodiscard]] ShapeAnswer translate(std::uint16_t source, std::uint64_t iova, std::uint8_t access, bool report);

  void write(std::uint64_t offset, unsigned size, std::uint64_t value);
  [[nodiscard]] std::uint64_t read(std::uint64_t offset, unsigned size);
  void reset();
  void drop_caches();

 private:
  struct Device {
    std::uint64_t context_low = 0;
    std::uint64_t context_high = 0;
    std::uint32_t generation = 0;  // 0: nothing cached
  };
  struct Bus {
    std::array<std::unique_ptr<Device>, 256> devices;
  };
  struct Descriptor {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
  };
  struct Leaf {
    std::uint64_t page = 0;
    std::uint64_t mask = 0;
    unsigned level = 1;
    std::uint8_t rights = 0;
    std::uint8_t reason = 0;
  };

  Device& device_of(std::uint16_t source);
  [[nodiscard]] std::uint8_t load_context(std::uint16_t source, Device& device, bool& quiet);
  [[nodiscard]] Leaf walk(const Device& device, std::uint64_t iova, std::uint8_t access) const;
  [[nodiscard]] ShapeAnswer blocked(const BlockedRequest& request, bool report);

  void write_global_command(std::uint32_t value);
  void write_queue_tail(std::uint32_t value);
  void run_queue();
  [[nodiscard]] bool process(const Descriptor& descriptor);
  [[nodiscard]] bool invalidate_context(const Descriptor& descriptor);
  [[nodiscard]] bool invalidate_iotlb(const Descriptor& descriptor);
  [[nodiscard]] bool complete_wait(const Descriptor& descriptor);
  void next_generation();

  ShapeUnit unit_;
  const AddressDispatch& memory_;
  QemuRegisters registers_;
  std::mutex mutex_;
  QemuIotlb iotlb_;
  std::array<std::unique_ptr<Bus>, 256> buses_;
  // Bits of a present second-stage entry that must be zero, by level; [0] is not used.
  std::array<std::uint64_t, 6> reserved_in_table_{};
  std::array<std::uint64_t, 6> reserved_in_leaf_{};
  std::uint64_t root_table_ = 0;
  std::uint64_t queue_base_ = 0;
  std::uint32_t queue_entries_ = 0;
  std::uint32_t queue_head_ = 0;
  std::uint32_t queue_tail_ = 0;
  std::uint32_t generation_ = 1;
  bool cached_;
  bool queue_enabled_ = false;
  bool translating_ = false;
};

}  // namespace viommu::bench
