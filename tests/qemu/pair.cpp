// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/pair.hpp"

#include <array>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace viommu::qemu {
namespace {

constexpr std::uint64_t cap = 0x08;
constexpr std::uint64_t ecap = 0x10;
constexpr std::uint64_t gsts = 0x1C;
constexpr std::uint64_t fsts = 0x34;
constexpr std::uint64_t fault_record = 0x220;
constexpr std::size_t record_end = fault_record / 4 + 4;
constexpr std::uint32_t overflow = 1;
constexpr std::uint32_t queue_enabled = 0x0400'0000;

}  // namespace

std::string format(const char* form, ...) {
  char text[512];
  std::va_list arguments;
  va_start(arguments, form);
  std::vsnprintf(text, sizeof text, form, arguments);
  va_end(arguments);
  return text;
}

Pair::Pair(const Variant& variant, const std::string& firmware)
    : variant_{&variant},
      qemu_{variant, firmware},
      capability_{qemu_.read_register(cap, 8)},
      extended_{qemu_.read_register(ecap, 8)},
      library_{variant, capability_, extended_} {}

void Pair::begin() {
  log_.clear();
  qemu_.reset();
  qemu_.clear_arena();
  library_.reset();
  library_.clear_arena();
}

void Pair::store(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  qemu_.store(gpa, size, value);
  library_.store(gpa, size, value);
}

test::Words Pair::words() {
  return {[this](std::uint64_t gpa) { return library_.load_u64(gpa); },
          [this](std::uint64_t gpa, std::uint64_t value) {
            const std::optional<std::uint64_t> before = library_.load_u64(gpa);
            if (!before) return false;
            if (*before != value) store(gpa, sizeof value, value);
            return true;
          }};
}

void Pair::write_register(std::uint64_t offset, unsigned size, std::uint64_t value) {
  qemu_.write_register(offset, size, value);
  library_.write_register(offset, size, value);
  written_offset_ = offset;
  written_ = value;
}

void Pair::read_registers() {
  qemu_registers_ = qemu_.registers();
  library_registers_ = library_.registers();
}

void Pair::compare_registers() {
  read_registers();
  compare_read_registers();
}

void Pair::compare_read_registers() {
  // A record says something while its F is set.
  const bool recorded = ((library_registers_.at(record_end - 1) | qemu_registers_.at(record_end - 1)) >> 31) != 0;
  for (std::size_t at = 0; at < library_registers_.size(); ++at) {
    if (!recorded && at >= fault_record / 4 && at < record_end) continue;
    compare_register(4 * at, library_registers_.at(at), qemu_registers_.at(at));
  }
}

void Pair::compare_sizes(std::uint64_t offset) {
  if (offset >= fault_record) return;  // what they say depends on F
  const std::uint64_t whole = library_.read_register(offset, 8);
  compare_register(offset, static_cast<std::uint32_t>(whole),
                   static_cast<std::uint32_t>(qemu_.read_register(offset, 4)));
  compare_register(offset + 4, static_cast<std::uint32_t>(whole >> 32),
                   static_cast<std::uint32_t>(qemu_.read_register(offset + 4, 4)));
}

void Pair::compare_register(std::uint64_t offset, std::uint32_t library, std::uint32_t qemu) {
  if (library == qemu) return;
  const RegisterObservation seen{.variant = variant_,
                                 .offset = offset,
                                 .library = library,
                                 .qemu = qemu,
                                 .written_offset = written_offset_,
                                 .written = written_,
                                 .queue_enabled = (library_registers_.at(gsts / 4) & queue_enabled) != 0};
  judge(seen, format("register 0x%" PRIx64 ": library 0x%08x, QEMU 0x%08x; last write 0x%" PRIx64 " to 0x%" PRIx64,
                     offset, library, qemu, written_, written_offset_));
}

void Pair::clear_faults() {
  write_register(fault_record + 12, 4, 0x8000'0000);
  write_register(fsts, 4, overflow);
}

void Pair::compare_memory() {
  constexpr std::array<std::pair<std::uint64_t, std::uint64_t>, 3> parts{
      {{status_page, 0x1000}, {first_data, data_bytes}, {second_data, data_bytes}}};
  for (const auto& [first, bytes] : parts) {
    const std::vector<std::uint32_t> qemu = qemu_.load_block(first, bytes);
    const std::vector<std::uint32_t> library = library_.load_block(first, bytes);
    for (std::size_t at = 0; at < library.size(); ++at) {
      if (qemu.at(at) == library.at(at)) continue;
      throw Mismatch{
          format("memory at 0x%" PRIx64 ": library 0x%08x, QEMU 0x%08x", first + 4 * at, library.at(at), qemu.at(at))};
    }
  }
}

}  // namespace viommu::qemu
