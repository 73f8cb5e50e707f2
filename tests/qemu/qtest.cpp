// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/qtest.hpp"

#include <cinttypes>
#include <cstdio>
#include <stdexcept>
#include <utility>

namespace viommu::qemu {
namespace {

std::string text(const char* command, unsigned size, std::uint64_t address) {
  constexpr const char* suffixes[] = {"", "b", "w", "", "l", "", "", "", "q"};
  char line[64];
  std::snprintf(line, sizeof line, "%s%s 0x%" PRIx64, command, suffixes[size], address);
  return line;
}

std::string hex(std::uint64_t value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, " 0x%" PRIx64, value);
  return digits;
}

std::vector<std::string> with_qtest(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"-qtest", "stdio", "-qtest-log", "none"});
  return arguments;
}

}  // namespace

Qtest::Qtest(std::vector<std::string> arguments) : process_{with_qtest(std::move(arguments))} {}

void Qtest::send(const std::string& line) {
  constexpr std::size_t most_ahead = 1000;  // their answers must fit into the pipe
  unsent_ += line;
  unsent_ += '\n';
  if (++unanswered_ < most_ahead) return;
  process_.write(std::exchange(unsent_, {}));
  for (; unanswered_ > 0; --unanswered_) answer();
}

std::string Qtest::answer() {
  for (;;) {
    std::string line = process_.read_line();
    if (line.starts_with("OK")) return line.size() > 3 ? line.substr(3) : std::string{};
    // Whatever else a device prints is no answer.
    if (line.starts_with("FAIL") || line.starts_with("ERR")) throw std::runtime_error{"qtest: " + line};
  }
}

std::string Qtest::ask(const std::string& line) {
  process_.write(std::exchange(unsent_, {}) + line + '\n');
  for (; unanswered_ > 0; --unanswered_) answer();
  return answer();
}

void Qtest::write(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  send(text("write", size, gpa) + hex(value));
}

void Qtest::fill(std::uint64_t gpa, std::uint64_t bytes, std::uint8_t value) {
  send(text("memset", 0, gpa) + hex(bytes) + hex(value));
}

void Qtest::out(std::uint16_t port, unsigned size, std::uint32_t value) { send(text("out", size, port) + hex(value)); }

std::uint64_t Qtest::read(std::uint64_t gpa, unsigned size) {
  return std::stoull(ask(text("read", size, gpa)), nullptr, 16);
}

std::uint32_t Qtest::in_u32(std::uint16_t port) {
  return static_cast<std::uint32_t>(std::stoul(ask(text("in", 4, port)), nullptr, 16));
}

std::vector<std::uint32_t> Qtest::read_block(std::uint64_t gpa, std::uint64_t bytes) {
  const std::string digits = ask(text("read", 0, gpa) + hex(bytes)).substr(2);
  if (digits.size() != 2 * bytes) throw std::runtime_error{"qtest: a block of another length"};
  std::vector<std::uint32_t> words(bytes / 4);
  const auto digit = [&](std::size_t at) -> std::uint32_t {
    const char c = digits[at];
    return static_cast<std::uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  for (std::size_t at = 0; at < words.size() * 4; ++at) {
    words[at / 4] |= (digit(2 * at) << 4 | digit(2 * at + 1)) << 8 * (at % 4);
  }
  return words;
}

}  // namespace viommu::qemu
