// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Accesses: sizes, halves, masks, bounds, reset.
#include "engine/vtd/register_file.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "engine/vtd/fault_layouts.hpp"
#include "tests/vtd/register_driver.hpp"

namespace viommu::vtd {
namespace {

using test::capable;
using test::Registers;

std::vector<std::uint64_t> image(const RegisterFile& file) {
  std::vector<std::uint64_t> words;
  for (std::uint64_t offset = 0; offset < file.capabilities().window_bytes; offset += 4) {
    words.push_back(file.read(offset, 4).value);
  }
  return words;
}

/// Each bit of CAP that adds writable registers.
Capabilities rich() {
  return capable(test::cap_48 | mask_of(cap::plmr, cap::phmr, cap::rwbf),
                 test::ecap_remapping | mask_of(ecap::dt, ecap::eim));
}

}  // namespace

TEST_CASE("registers read their reset values", "[vtd][Register Descriptions][normative][QVT-18]") {
  const Registers registers;
  CHECK(registers.read32(offset::version) == 0x10);
  CHECK(registers.read64(offset::capability) == test::cap_48);
  CHECK(registers.read64(offset::extended_capability) == test::ecap_remapping);
  CHECK(registers.read32(offset::fault_event_control) == 0x8000'0000);
  CHECK(registers.read32(offset::completion_event_control) == 0x8000'0000);
  for (std::uint32_t dword = offset::global_command; dword < 0x1000; dword += 4) {
    INFO("offset " << dword);
    const bool is_event_control = dword == offset::fault_event_control || dword == offset::completion_event_control;
    CHECK((registers.read32(dword) != 0) == is_event_control);
  }
}

TEST_CASE("a reset returns every register to its cold image", "[vtd][Register Descriptions][QVT-18][B67]") {
  Registers registers{rich()};
  const std::vector<std::uint64_t> cold = image(registers.file);
  for (std::uint32_t dword = 0x20; dword < 0x230; dword += 4) registers.write32(dword, ~0u);
  registers.command(0xFFFF'FFFF);
  CHECK(registers.file.record_fault(test::read_fault(1)).status == FaultStatus::recorded);
  CHECK_FALSE(registers.file.raise_queue_error(QueueErrorCode::fetch_failed));
  static_cast<void>(registers.file.complete_wait_interrupt());
  registers.file.set_queue_head(0x40);
  CHECK(image(registers.file) != cold);
  registers.file.reset();
  CHECK(image(registers.file) == cold);
  CHECK_FALSE(registers.file.translation_enabled());
  CHECK_FALSE(registers.file.interrupt_remapping_enabled());
  CHECK(registers.file.root_pointer().table == Gpa{0});
  SECTION("and the levels are off, so that each can be commanded again") {
    CHECK(registers.command(0x8000'0000).translation == true);
  }
}

TEST_CASE("a register reads back what was written to it", "[vtd][Register Descriptions][B68]") {
  Registers registers{rich()};
  registers.write64(offset::root_table, 0x0000'1234'5678'9C00);
  CHECK(registers.read64(offset::root_table) == 0x0000'1234'5678'9C00);
  registers.write64(offset::queue_address, 0x0000'1234'5678'9807);
  CHECK(registers.read64(offset::queue_address) == 0x0000'1234'5678'9807);
  registers.write64(offset::interrupt_table, 0x0000'1234'5678'980F);
  CHECK(registers.read64(offset::interrupt_table) == 0x0000'1234'5678'980F);
  registers.write64(offset::queue_tail, 0x7'FFF0);
  CHECK(registers.read64(offset::queue_tail) == 0x7'FFF0);
}

TEST_CASE("all ones show what each register implements", "[vtd][Register Descriptions][normative][RVM-13][S2.10]") {
  Registers registers{
      capable(test::cap_48 | mask_of(cap::plmr, cap::phmr), test::ecap_remapping | mask_of(ecap::eim), 39)};
  for (std::uint32_t qword = 0x20; qword < 0x230; qword += 8) {
    if (qword == offset::context_command || qword == 0xF8) continue;
    registers.write32(qword, ~0u);
    registers.write32(qword + 4, ~0u);
  }
  CHECK(registers.read64(offset::root_table) == 0x7F'FFFF'FC00);
  CHECK(registers.read64(offset::queue_address) == 0x7F'FFFF'F807);
  CHECK(registers.read64(offset::interrupt_table) == 0x7F'FFFF'F80F);
  CHECK(registers.read64(offset::queue_tail) == 0x7'FFF0);
  CHECK(registers.read64(offset::queue_head) == 0);
  CHECK(registers.read64(offset::queue_error_record) == 0);
  CHECK(registers.read32(offset::fault_status) == 0);
  CHECK(registers.read32(offset::fault_event_control) == 0x8000'0000);
  CHECK(registers.read32(offset::fault_event_data) == 0xFFFF);
  CHECK(registers.read32(offset::fault_event_address) == 0xFFFF'FFFC);
  CHECK(registers.read32(offset::fault_event_upper_address) == 0xFFFF'FFFF);
  CHECK(registers.read32(offset::completion_event_data) == 0xFFFF);
  CHECK(registers.read32(offset::completion_event_address) == 0xFFFF'FFFC);
  CHECK(registers.read32(offset::completion_event_upper_address) == 0xFFFF'FFFF);
  CHECK(registers.read32(offset::protected_memory_enable) == 0x8000'0000);
  CHECK(registers.read32(offset::protected_low_base) == 0xFFE0'0000);
  CHECK(registers.read64(offset::protected_high_limit) == 0x7F'FFE0'0000);
  CHECK(registers.read64(0xF0) == 0);
  CHECK(registers.read64(0x220) == 0);
  CHECK(registers.read64(0x228) == 0);
}

TEST_CASE("all ones but the command show what the invalidation commands implement",
          "[vtd][Register Descriptions][normative][RVM-13]") {
  Registers registers;
  registers.write32(offset::context_command, ~0u);
  registers.write32(offset::context_command + 4, 0x7FFF'FFFF);
  CHECK(registers.read64(offset::context_command) == 0x6000'0000'0000'FFFF);  // SID and FM are write-only
  registers.write32(0xF8, ~0u);
  registers.write32(0xFC, 0x7FFF'FFFF);
  CHECK(registers.read64(0xF8) == 0x3003'FFFF'0000'0000);
}

TEST_CASE("each kind of protected memory brings its own registers, and either brings PMEN",
          "[vtd][Register Descriptions][RVM-13]") {
  const bool high = GENERATE(false, true);
  Registers registers{capable(test::cap_48 | (high ? mask_of(cap::phmr) : mask_of(cap::plmr)))};
  for (std::uint32_t dword = offset::protected_memory_enable; dword < 0x80; dword += 4) registers.write32(dword, ~0u);
  CHECK(registers.read32(offset::protected_memory_enable) == 0x8000'0000);
  CHECK(registers.read32(offset::protected_low_base) == (high ? 0 : 0xFFE0'0000));
  CHECK(registers.read32(offset::protected_low_limit) == (high ? 0 : 0xFFE0'0000));
  CHECK(registers.read64(offset::protected_high_base) == (high ? 0xFFFF'FFE0'0000 : 0));
  CHECK(registers.read64(offset::protected_high_limit) == (high ? 0xFFFF'FFE0'0000 : 0));
}

TEST_CASE("registers of a feature that is not there stay 0", "[vtd][Register Descriptions][RVM-13]") {
  Registers registers{capable(test::cap_48, 0xF40)};  // neither queue nor interrupt remapping
  for (std::uint32_t dword = 0x58; dword < 0xF0; dword += 4) {
    const Actions actions = registers.write32(dword, ~0u);
    CHECK_FALSE(actions.tail_written);
    INFO("offset " << dword);
    CHECK(registers.read32(dword) == 0);
  }
  SECTION("also beside a feature that is") {
    Registers queue_alone{capable(test::cap_48, 0xF42)};
    queue_alone.write64(offset::interrupt_table, ~std::uint64_t{0});
    CHECK(queue_alone.read64(offset::interrupt_table) == 0);
    queue_alone.write32(offset::queue_tail, ~0u);
    CHECK(queue_alone.read32(offset::queue_tail) == 0x7'FFF0);
  }
  SECTION("and so does a field") {
    Registers no_extended_mode;
    no_extended_mode.write32(offset::interrupt_table, ~0u);
    CHECK(no_extended_mode.read32(offset::interrupt_table) == 0xFFFF'F00F);
  }
}

TEST_CASE("read-only registers stay", "[vtd][Register Descriptions][RVM-13]") {
  Registers registers;
  for (const std::uint32_t dword : {0x00u, 0x08u, 0x0Cu, 0x10u, 0x14u, 0x1Cu, 0x80u, 0xB0u, 0xB4u}) {
    const std::uint32_t before = registers.read32(dword);
    registers.write32(dword, ~before);
    CHECK(registers.read32(dword) == before);
  }
}

TEST_CASE("a 64-bit register is one qword or two dwords", "[vtd][Register Descriptions][normative][RVM-13]") {
  Registers whole;
  Registers halves;
  whole.write64(offset::root_table, 0x0000'1234'5678'9000);
  halves.write32(offset::root_table + 4, 0x1234);
  halves.write32(offset::root_table, 0x5678'9000);
  CHECK(whole.read64(offset::root_table) == halves.read64(offset::root_table));
  CHECK(whole.read32(offset::root_table + 4) == 0x1234);
  SECTION("bytes and words change their own bits only") {
    CHECK(whole.file.write(offset::root_table + 2, 1, 0xFF).access == AccessStatus::done);
    CHECK(whole.read64(offset::root_table) == 0x0000'1234'56FF'9000);
    CHECK(whole.file.write(offset::root_table + 4, 2, 0xABCD).access == AccessStatus::done);
    CHECK(whole.read64(offset::root_table) == 0x0000'ABCD'56FF'9000);
    CHECK(whole.file.read(offset::root_table + 2, 1).value == 0xFF);
    CHECK(whole.file.read(offset::root_table + 4, 2).value == 0xABCD);
    CHECK(whole.file.read(offset::root_table + 5, 1).value == 0xAB);
  }
}

TEST_CASE("8 bytes at a 32-bit register are its own 4", "[vtd][Register Descriptions][B70]") {
  const std::uint32_t where = GENERATE(0x38u, 0x3Cu, 0xA0u, 0xA8u, 0xE0u);
  Registers registers;
  registers.write32(where + 4, 0x0506'0708);
  const std::uint32_t next = registers.read32(where + 4);
  Registers expected = registers;
  expected.write32(where, 0x0102'0304);
  CHECK(registers.write64(where, 0xFFFF'FFFF'0102'0304).access == AccessStatus::done);
  CHECK(registers.read32(where) == expected.read32(where));
  CHECK(registers.read32(where + 4) == next);
  CHECK(registers.read64(where) == registers.read32(where));
  SECTION("and at the upper half of a 64-bit register that half") {
    registers.write64(offset::queue_address + 4, 0xFFFF'FFFF'0000'0012);
    CHECK(registers.read64(offset::queue_address) == 0x12'0000'0000);
    CHECK(registers.read64(offset::queue_address + 4) == 0x12);
    CHECK(registers.read32(offset::queue_address + 8) == 0);
  }
}

TEST_CASE("8-byte accesses at every dword leave the unit sound", "[vtd][Register Descriptions][QVT-19]") {
  Registers registers;
  for (std::uint32_t dword = 0; dword + 8 <= 0x1000; dword += 4) {
    const ReadResult before = registers.file.read(dword, 8);
    CHECK(before.access == AccessStatus::done);
    CHECK(registers.file.write(dword, 8, before.value).access == AccessStatus::done);
    CHECK(registers.file.read(dword, 8).value == before.value);
  }
  CHECK(image(registers.file) == image(Registers{}.file));
  SECTION("whatever is written") {
    for (std::uint32_t dword = 0; dword + 8 <= 0x1000; dword += 4) {
      CHECK(registers.file.write(dword, 8, ~std::uint64_t{0}).access == AccessStatus::done);
    }
    CHECK(registers.read64(offset::capability) == test::cap_48);
  }
}

TEST_CASE("misaligned accesses and strange sizes do nothing", "[vtd][Register Descriptions][RVM-13]") {
  Registers registers;
  registers.write64(offset::root_table, 0x1234'5000);
  const std::vector<std::uint64_t> before = image(registers.file);
  struct Access {
    std::uint64_t offset;
    unsigned size;
  };
  for (const Access access : {Access{0x21, 2}, Access{0x22, 4}, Access{0x21, 4}, Access{0x22, 8}, Access{0x21, 8},
                              Access{0x20, 0}, Access{0x21, 3}, Access{0x20, 5}, Access{0x20, 16}}) {
    CHECK(registers.file.write(access.offset, access.size, ~std::uint64_t{0}).access == AccessStatus::ignored);
    CHECK(registers.file.read(access.offset, access.size).access == AccessStatus::ignored);
    CHECK(registers.file.read(access.offset, access.size).value == 0);
  }
  CHECK(image(registers.file) == before);
}

TEST_CASE("accesses outside the window do nothing", "[vtd][Register Descriptions][RVM-13]") {
  Registers registers;
  const std::vector<std::uint64_t> before = image(registers.file);
  for (const std::uint64_t where : {std::uint64_t{0x1000}, std::uint64_t{0x1'0000'0020}, ~std::uint64_t{0} - 7}) {
    CHECK(registers.file.read(where, 8).access == AccessStatus::outside);
    CHECK(registers.file.read(where, 8).value == 0);
    CHECK(registers.file.write(where, 4, ~0u).access == AccessStatus::outside);
  }
  CHECK(registers.file.read(0xFFC, 8).access == AccessStatus::outside);
  CHECK(registers.file.read(0xFFC, 4).access == AccessStatus::done);
  CHECK(registers.file.read(0xFFF, 1).access == AccessStatus::done);
  CHECK(image(registers.file) == before);
}

TEST_CASE("the last register is in bounds", "[vtd][Register Descriptions][B82]") {
  const Capabilities tight = Capabilities::decode(0x10, test::with_fault_records(8), test::ecap_remapping, 48, 0x2A0);
  REQUIRE_FALSE(tight.check());
  Registers registers{tight, {.compress_faults = false}};
  for (int i = 0; i < 8; ++i) {
    CHECK(registers.file.record_fault(test::read_fault(7)).status == FaultStatus::recorded);
  }
  CHECK(registers.read32(0x29C) == 0xC000'0006);
  CHECK(registers.read64(0x298) == 0xC000'0006'0000'0007);
  CHECK(registers.file.read(0x29F, 1).value == 0xC0);
  CHECK(registers.file.read(0x2A0, 4).access == AccessStatus::outside);
  static_cast<void>(registers.file.write(0x29F, 1, 0x80));
  CHECK(registers.read32(0x29C) == 0x4000'0006);
}

TEST_CASE("the blocks that capabilities place are where they say", "[vtd][Register Descriptions]") {
  const std::uint64_t ecap = with(ExtendedCapabilityRegister{test::ecap_remapping}, ecap::iro, 0x50).raw;
  const std::uint64_t cap = with(CapabilityRegister{test::with_fault_records(256)}, cap::fro, 0x100).raw;
  Registers registers{capable(cap, ecap), {.compress_faults = false}};
  REQUIRE_FALSE(registers.file.capabilities().check());
  for (int i = 0; i < 256; ++i) {
    CHECK(registers.file.record_fault(test::read_fault(9)).status == FaultStatus::recorded);
  }
  CHECK(registers.read32(0x1FFC) == 0xC000'0006);
  CHECK(registers.read32(0xFFC) == 0);
  registers.write32(0x500, 0x1000);
  CHECK(registers.write64(0x508, 0x9000'0000'0000'0000).iotlb_invalidation);
  CHECK_FALSE(registers.write64(0xF8, 0x9000'0000'0000'0000).iotlb_invalidation);
}

}  // namespace viommu::vtd
