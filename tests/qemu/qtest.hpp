// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The qtest text protocol: a line for each access, a line for each answer, in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/qemu/process.hpp"

namespace viommu::qemu {

/// Commands without an answer of interest are sent ahead; whatever reads waits for all before it.
class Qtest {
 public:
  /// @param arguments  the emulator's command line; `-qtest stdio` is added
  explicit Qtest(std::vector<std::string> arguments);

  /// `size` is 4 or 8.
  void write(std::uint64_t gpa, unsigned size, std::uint64_t value);
  void fill(std::uint64_t gpa, std::uint64_t bytes, std::uint8_t value);
  void out(std::uint16_t port, unsigned size, std::uint32_t value);

  [[nodiscard]] std::uint64_t read(std::uint64_t gpa, unsigned size);
  [[nodiscard]] std::uint32_t in_u32(std::uint16_t port);
  /// `bytes` from gpa on, as little-endian 32-bit words. The emulator reads in the largest pieces it can.
  [[nodiscard]] std::vector<std::uint32_t> read_block(std::uint64_t gpa, std::uint64_t bytes);

 private:
  void send(const std::string& line);
  [[nodiscard]] std::string ask(const std::string& line);
  std::string answer();

  Process process_;
  std::string unsent_;
  std::size_t unanswered_ = 0;
};

}  // namespace viommu::qemu
