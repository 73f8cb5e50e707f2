// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The same machine with our unit in it: memory, registers, and devices with a buffer of one word.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/qemu/world.hpp"

namespace viommu::qemu {

class Library {
 public:
  /// @param capability, extended  as the other side's unit reports them
  Library(const Variant& variant, std::uint64_t capability, std::uint64_t extended);

  /// As Emulator::reset() and clear_arena().
  void reset();
  void clear_arena();

  void write_register(std::uint64_t offset, unsigned size, std::uint64_t value);
  [[nodiscard]] std::uint64_t read_register(std::uint64_t offset, unsigned size);
  [[nodiscard]] Registers registers();

  void store(std::uint64_t gpa, unsigned size, std::uint64_t value);
  [[nodiscard]] std::optional<std::uint64_t> load_u64(std::uint64_t gpa) const;
  [[nodiscard]] std::uint32_t load(std::uint64_t gpa) const;
  [[nodiscard]] std::vector<std::uint32_t> load_block(std::uint64_t gpa, std::uint64_t bytes) const;

  /// As Emulator::dma(), but the answer is known.
  viommu_translation dma(std::size_t device, std::uint64_t iova, bool write);

 private:
  struct alignas(4096) Page {
    std::array<std::byte, 4096> bytes;
  };
  [[nodiscard]] std::byte* at(std::uint64_t gpa);
  [[nodiscard]] const std::byte* at(std::uint64_t gpa) const;

  std::vector<Page> memory_;  // [ram_first, ram_end)
  std::array<std::uint32_t, sources.size()> buffers_{};
  Engine engine_;
  Reader reader_;
};

}  // namespace viommu::qemu
