// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/emulator.hpp"

#include <algorithm>

namespace viommu::qemu {
namespace {

constexpr std::uint64_t unit = 0xFED9'0000;
constexpr std::uint64_t first_bar = 0xC000'0000;
constexpr std::uint64_t bar_bytes = 0x10'0000;
constexpr std::uint16_t root_port = 0x18;

// "PCI Local Bus": the mechanism of two ports, and offsets of a header.
constexpr std::uint16_t address_port = 0xCF8;
constexpr std::uint16_t data_port = 0xCFC;
constexpr std::uint8_t command_register = 0x04;
constexpr std::uint8_t bar_0 = 0x10;
constexpr std::uint8_t bus_numbers = 0x18;
constexpr std::uint8_t memory_window = 0x20;
constexpr std::uint32_t memory_and_master = 6;
constexpr std::uint16_t reset_port = 0xCF9;
constexpr std::uint32_t reset_all = 6;

// QEMU's docs/specs/edu.rst.
constexpr std::uint64_t dma_source = 0x80;
constexpr std::uint64_t dma_destination = 0x88;
constexpr std::uint64_t dma_count = 0x90;
constexpr std::uint64_t dma_command = 0x98;
constexpr std::uint64_t buffer = 0x4'0000;
constexpr std::uint64_t start = 1;
constexpr std::uint64_t to_memory = 2;

std::uint64_t bar_of(std::size_t device) { return first_bar + bar_bytes * device; }

std::vector<std::string> command_line(const Variant& variant, const std::string& firmware) {
  const std::string edu = "edu,dma_mask=0xffffffffffffffff,";
  return {
      "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35", "-m", "32", "-bios", firmware,
      // The edu device waits 100 ms of the guest's time; with the processor halted that time is skipped.
      "-accel", "tcg", "-icount", "shift=0,sleep=off", "-device",
      "intel-iommu,aw-bits=" + std::to_string(variant.address_bits) + (variant.caching_mode ? ",caching-mode=on" : ""),
      "-device", edu + "addr=1.0,multifunction=on", "-device", edu + "addr=1.1", "-device", edu + "addr=2.0", "-device",
      "pcie-root-port,id=bus1,chassis=1,addr=3.0", "-device", edu + "bus=bus1,addr=0.0"};
}

}  // namespace

Emulator::Emulator(const Variant& variant, const std::string& firmware) : qtest_{command_line(variant, firmware)} {
  set_up_devices();
}

void Emulator::configure(std::uint16_t source, std::uint8_t offset, std::uint32_t value) {
  qtest_.out(address_port, 4, 0x8000'0000U | static_cast<std::uint32_t>(source) << 8 | offset);
  qtest_.out(data_port, 4, value);
}

std::uint32_t Emulator::configuration(std::uint16_t source, std::uint8_t offset) {
  qtest_.out(address_port, 4, 0x8000'0000U | static_cast<std::uint32_t>(source) << 8 | offset);
  return qtest_.in_u32(data_port);
}

void Emulator::set_up_devices() {
  const std::uint64_t behind_port = bar_of(other_bus) >> 16;
  configure(root_port, bus_numbers, 0x01'01'00);
  configure(root_port, memory_window, static_cast<std::uint32_t>(behind_port << 16 | behind_port));
  configure(root_port, command_register, memory_and_master);
  for (std::size_t device = 0; device < sources.size(); ++device) {
    configure(sources.at(device), bar_0, static_cast<std::uint32_t>(bar_of(device)));
    configure(sources.at(device), command_register, memory_and_master);
  }
}

void Emulator::reset() {
  qtest_.out(reset_port, 1, reset_all);
  // It happens some time later: until then the device is still set up.
  while ((configuration(sources[0], command_register) & memory_and_master) != 0) {
  }
  set_up_devices();
}

void Emulator::write_register(std::uint64_t offset, unsigned size, std::uint64_t value) {
  qtest_.write(unit + offset, size, value);
}

std::uint64_t Emulator::read_register(std::uint64_t offset, unsigned size) { return qtest_.read(unit + offset, size); }

Registers Emulator::registers() {
  Registers all{};
  std::ranges::copy(qtest_.read_block(unit, register_bytes), all.begin());
  return all;
}

void Emulator::clear_arena() { qtest_.fill(arena, arena_end - arena, 0); }

void Emulator::dma(std::size_t device, std::uint64_t iova, bool write) {
  const std::uint64_t bar = bar_of(device);
  qtest_.write(bar + dma_source, 8, write ? buffer : iova);
  qtest_.write(bar + dma_destination, 8, write ? iova : buffer);
  qtest_.write(bar + dma_count, 8, dma_bytes);
  qtest_.write(bar + dma_command, 8, start | (write ? to_memory : 0));
  while ((qtest_.read(bar + dma_command, 8) & start) != 0) {
  }
}

}  // namespace viommu::qemu
