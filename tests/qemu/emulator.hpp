// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// QEMU with an intel-iommu unit and edu devices, as a guest without an operating system drives them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/qemu/qtest.hpp"
#include "tests/qemu/world.hpp"

namespace viommu::qemu {

/// What an edu device moves in one DMA: a 32-bit word. Longer ones QEMU may translate in pieces.
inline constexpr unsigned dma_bytes = 4;

class Emulator {
 public:
  /// @param firmware  a file of HLT instructions: the processor must not do anything of its own
  Emulator(const Variant& variant, const std::string& firmware);

  /// The whole machine as after power-on, with its devices ready for DMA; memory keeps what is in it.
  void reset();

  void write_register(std::uint64_t offset, unsigned size, std::uint64_t value);
  [[nodiscard]] std::uint64_t read_register(std::uint64_t offset, unsigned size);
  [[nodiscard]] Registers registers();

  void clear_arena();
  void store(std::uint64_t gpa, unsigned size, std::uint64_t value) { qtest_.write(gpa, size, value); }
  [[nodiscard]] std::uint32_t load(std::uint64_t gpa) {
    return static_cast<std::uint32_t>(qtest_.read(gpa, dma_bytes));
  }
  [[nodiscard]] std::vector<std::uint32_t> load_block(std::uint64_t gpa, std::uint64_t bytes) {
    return qtest_.read_block(gpa, bytes);
  }

  /// The device reads a word into its buffer, or writes the word in its buffer; returns when that has been done or
  /// has failed, which a device cannot tell.
  void dma(std::size_t device, std::uint64_t iova, bool write);

 private:
  void configure(std::uint16_t source, std::uint8_t offset, std::uint32_t value);
  [[nodiscard]] std::uint32_t configuration(std::uint16_t source, std::uint8_t offset);
  void set_up_devices();

  Qtest qtest_;
};

}  // namespace viommu::qemu
