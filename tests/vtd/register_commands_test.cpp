// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Global commands, protected memory, and invalidation through registers.
#include <catch2/catch.hpp>
#include <cstdint>

#include "engine/vtd/register_file.hpp"
#include "tests/vtd/register_driver.hpp"

namespace viommu::vtd {
namespace {

using test::capable;
using test::Registers;

constexpr std::uint32_t te = 0x8000'0000;
constexpr std::uint32_t srtp = 0x4000'0000;
constexpr std::uint32_t wbf = 0x0800'0000;
constexpr std::uint32_t qie = 0x0400'0000;
constexpr std::uint32_t ire = 0x0200'0000;
constexpr std::uint32_t sirtp = 0x0100'0000;
constexpr std::uint32_t cfi = 0x0080'0000;
constexpr std::uint32_t iva_offset = 0xF0;
constexpr std::uint32_t iotlb_offset = 0xF8;

}  // namespace

TEST_CASE("the documented order shows step by step in the status register",
          "[vtd][Global Command Register][KUT-1][KUT-2][KUT-3][KUT-4][KUT-5][KUT-6][QVT-20]") {
  Registers registers;
  CHECK(registers.read32(offset::fault_status) == 0);
  registers.write64(offset::queue_address, 0x10'0000);
  registers.command(qie);
  CHECK(registers.read32(offset::global_status) == qie);
  registers.write64(offset::root_table, 0x104'E000);
  CHECK(registers.read32(offset::global_status) == qie);
  registers.command(qie | srtp);
  CHECK(registers.read32(offset::global_status) == (qie | srtp));
  registers.write64(offset::interrupt_table, 0x104'F00F);
  registers.command(qie | srtp | sirtp);
  CHECK(registers.read32(offset::global_status) == (qie | srtp | sirtp));
  registers.write32(offset::fault_event_data, 0x21);
  registers.write32(offset::fault_event_address, 0xFEE0'1004);
  registers.write32(offset::fault_event_control, 0);
  CHECK(registers.read32(offset::fault_event_control) == 0);
  registers.command(qie | sirtp | te);
  CHECK(registers.read32(offset::global_status) == (qie | srtp | sirtp | te));
  registers.command(qie | te | ire);
  CHECK(registers.read32(offset::global_status) == (qie | srtp | sirtp | te | ire));
  CHECK(registers.read32(offset::fault_status) == 0);
  CHECK(registers.file.interrupt_table().table == Gpa{0x104'F000});
  CHECK(registers.file.interrupt_table().entries == 65536);
}

TEST_CASE("a level asks for something only when it changes", "[vtd][Global Command Register][normative]") {
  Registers registers;
  CHECK(registers.command(qie).queue == true);
  const Actions actions = registers.command(qie | te);
  CHECK_FALSE(actions.queue);
  CHECK(actions.translation == true);
  CHECK_FALSE(registers.command(qie | te).translation);
  const Actions off = registers.command(0);
  CHECK(off.queue == false);
  CHECK(off.translation == false);
  CHECK(registers.read32(offset::global_status) == 0);
  SECTION("also while the command before is still being carried out") {
    CHECK(registers.write32(offset::global_command, te).translation == true);
    CHECK_FALSE(registers.write32(offset::global_command, te).translation);
    CHECK(registers.read32(offset::global_status) == 0);
    CHECK(registers.write32(offset::global_command, 0).translation == false);
  }
}

TEST_CASE("a status bit shows only what is done", "[vtd][Global Status Register][normative]") {
  Registers registers;
  registers.write32(offset::global_command, te | srtp | qie | ire | cfi);
  CHECK(registers.read32(offset::global_status) == 0);
  registers.file.complete_root_pointer();
  CHECK(registers.read32(offset::global_status) == srtp);
  registers.file.complete_translation(true);
  CHECK(registers.read32(offset::global_status) == (te | srtp));
  registers.file.complete_compatibility_format(true);
  CHECK(registers.read32(offset::global_status) == (te | srtp | cfi));
  CHECK(registers.file.compatibility_format_allowed());
  SECTION("a pointer command takes its bit back until it is done again") {
    registers.write32(offset::global_command, te | srtp | qie | ire | cfi);
    CHECK(registers.read32(offset::global_status) == (te | cfi));
    registers.file.complete_interrupt_table();
    CHECK(registers.read32(offset::global_status) == (te | cfi | sirtp));
    registers.write32(offset::global_command, te | sirtp | qie | ire | cfi);
    CHECK(registers.read32(offset::global_status) == (te | cfi));
  }
}

TEST_CASE("the root pointer is taken over by SRTP alone", "[vtd][Root Table Address Register][normative]") {
  Registers registers;
  registers.write64(offset::root_table, 0x1'0000);
  CHECK(registers.file.root_pointer().table == Gpa{0});
  registers.command(srtp);
  CHECK(registers.file.root_pointer().table == Gpa{0x1'0000});
  CHECK(registers.file.root_pointer().mode == TableMode::legacy);
  registers.write64(offset::root_table, 0x2'0400);
  registers.command(te);
  CHECK(registers.file.root_pointer().table == Gpa{0x1'0000});
  registers.command(te | srtp);
  CHECK(registers.file.root_pointer().table == Gpa{0x2'0000});
  CHECK(registers.file.root_pointer().mode == TableMode::scalable);
}

TEST_CASE("the interrupt table is taken over by SIRTP alone", "[vtd][Interrupt Table Address Register][normative]") {
  Registers registers{capable(test::cap_48, test::ecap_remapping | mask_of(ecap::eim))};
  registers.write64(offset::interrupt_table, 0x3'0807);
  registers.command(ire);
  CHECK(registers.file.interrupt_table().table == Gpa{0});
  registers.command(ire | sirtp);
  CHECK(registers.file.interrupt_table().table == Gpa{0x3'0000});
  CHECK(registers.file.interrupt_table().entries == 256);
  CHECK(registers.file.interrupt_table().extended);
}

TEST_CASE("what the unit does not have cannot be commanded", "[vtd][Global Command Register][normative][S0.10]") {
  SECTION("no table width: translation stays off") {
    Registers registers{capable(0x80D2'008C'222F'0006)};
    CHECK_FALSE(registers.command(te | srtp).translation);
    CHECK(registers.read32(offset::global_status) == srtp);
  }
  SECTION("no interrupt remapping, no queue") {
    Registers registers{capable(test::cap_48, 0xF40)};
    const Actions actions = registers.command(qie | ire | sirtp | cfi);
    CHECK_FALSE(actions.queue);
    CHECK_FALSE(actions.interrupt_remapping);
    CHECK_FALSE(actions.set_interrupt_table);
    CHECK_FALSE(actions.compatibility_format);
    CHECK(registers.read32(offset::global_status) == 0);
  }
  SECTION("no write buffer that would need flushing") {
    Registers registers;
    CHECK_FALSE(registers.write32(offset::global_command, wbf).flush_write_buffer);
    CHECK(registers.read32(offset::global_status) == 0);
  }
}

TEST_CASE("a write buffer flush shows while it runs", "[vtd][Global Command Register][normative]") {
  Registers registers{capable(test::cap_48 | mask_of(cap::rwbf))};
  CHECK(registers.write32(offset::global_command, wbf).flush_write_buffer);
  CHECK(registers.read32(offset::global_status) == wbf);
  registers.file.complete_write_buffer_flush();
  CHECK(registers.read32(offset::global_status) == 0);
}

TEST_CASE("a partial write of the command register keeps the other levels", "[vtd][Global Command Register]") {
  Registers registers;
  registers.command(cfi);
  const Actions actions = registers.file.write(offset::global_command + 3, 1, te >> 24);
  CHECK(actions.translation == true);
  CHECK_FALSE(actions.compatibility_format);
}

TEST_CASE("protected memory follows PMEN", "[vtd][Protected Memory Enable Register][normative]") {
  Registers registers{capable(test::cap_48 | mask_of(cap::plmr, cap::phmr))};
  registers.write32(offset::protected_low_base, 0x0020'1234);
  registers.write32(offset::protected_low_limit, 0x0040'1234);
  registers.write64(offset::protected_high_base, 0x1'0000'0000);
  CHECK(registers.write32(offset::protected_memory_enable, 0x8000'0000).protected_memory == true);
  CHECK(registers.read32(offset::protected_memory_enable) == 0x8000'0000);
  CHECK_FALSE(registers.file.protection_enabled());
  registers.file.complete_protected_memory(true);
  CHECK(registers.read32(offset::protected_memory_enable) == 0x8000'0001);
  CHECK(registers.file.protection_enabled());
  CHECK(registers.file.protected_low_region() == Range<Iova>{{0x0020'0000}, {0x005F'FFFF}});
  SECTION("a limit below the base is an empty region") {
    CHECK(registers.file.protected_high_region() == std::nullopt);
    registers.write64(offset::protected_high_limit, 0x1'0000'0000);
    CHECK(registers.file.protected_high_region() == Range<Iova>{{0x1'0000'0000}, {0x1'001F'FFFF}});
  }
  SECTION("of the low region too") {
    registers.write32(offset::protected_low_limit, 0);
    CHECK(registers.file.protected_low_region() == std::nullopt);
  }
  SECTION("the same value again asks for nothing") {
    CHECK_FALSE(registers.write32(offset::protected_memory_enable, 0x8000'0000).protected_memory);
    CHECK(registers.write32(offset::protected_memory_enable, 0).protected_memory == false);
    registers.file.complete_protected_memory(false);
    CHECK(registers.read32(offset::protected_memory_enable) == 0);
  }
}

TEST_CASE("a unit without protected regions has no PMEN", "[vtd][Protected Memory Enable Register][normative]") {
  Registers registers;
  CHECK_FALSE(registers.write32(offset::protected_memory_enable, 0x8000'0000).protected_memory);
  CHECK(registers.read32(offset::protected_memory_enable) == 0);
  CHECK(registers.file.protected_low_region() == std::nullopt);
  CHECK(registers.file.protected_high_region() == std::nullopt);
}

TEST_CASE("CCMD starts with the byte that holds ICC", "[vtd][Context Command Register][normative]") {
  Registers registers;
  CHECK_FALSE(registers.write32(offset::context_command, 0x0100'0007).context_invalidation);
  SECTION("a device") {
    const Actions actions = registers.write32(offset::context_command + 4, 0xE000'0002);
    CHECK(actions.context_invalidation == ContextInvalidation{ContextGranularity::device, {7}, {0x0100}, 2});
    // SID and FM are write-only.
    CHECK(registers.read64(offset::context_command) == 0xE000'0000'0000'0007);
    registers.file.complete_context_invalidation(ContextGranularity::domain);
    CHECK(registers.read64(offset::context_command) == 0x7000'0000'0000'0007);
  }
  SECTION("a domain, with one write") {
    const Actions actions = registers.write64(offset::context_command, 0xC000'0000'0000'0009);
    CHECK(actions.context_invalidation == ContextInvalidation{ContextGranularity::domain, {9}, {0}, 0});
  }
  SECTION("bytes that do not hold it start nothing") {
    CHECK_FALSE(registers.file.write(offset::context_command + 4, 2, 0xFFFF).context_invalidation);
    CHECK_FALSE(registers.file.write(offset::context_command + 7, 1, 0x60).context_invalidation);
    // Bits of the value beyond the size of the access do not count.
    CHECK_FALSE(registers.file.write(offset::context_command + 4, 2, 0xE000'0003).context_invalidation);
    CHECK(registers.file.write(offset::context_command + 7, 1, 0xA0).context_invalidation ==
          ContextInvalidation{ContextGranularity::global, {7}, {0x0100}, 3});
  }
  SECTION("while it runs the register does not change") {
    CHECK(registers.write32(offset::context_command + 4, 0xA000'0000).context_invalidation);
    CHECK_FALSE(registers.write64(offset::context_command, 0xC000'0000'0000'0001).context_invalidation);
    CHECK(registers.read64(offset::context_command) == 0xA000'0000'0000'0007);
    registers.file.complete_context_invalidation(ContextGranularity::global);
    CHECK(registers.write64(offset::context_command, 0xC000'0000'0000'0001).context_invalidation);
  }
}

TEST_CASE("IOTLB_REG starts with the byte that holds IVT", "[vtd][IOTLB Invalidate Register][normative]") {
  Registers registers;
  registers.write64(iva_offset, 0x1234'5049);
  CHECK(registers.read64(iva_offset) == 0);
  SECTION("pages") {
    const Actions actions = registers.write64(iotlb_offset, 0xB003'0007'0000'0000);
    CHECK(actions.iotlb_invalidation ==
          IotlbInvalidation{IotlbGranularity::page, {7}, {{0x1220'0000}, {0x123F'FFFF}}, true, true, true});
    CHECK(registers.read64(iotlb_offset) == 0xB003'0007'0000'0000);
    registers.file.complete_iotlb_invalidation(IotlbGranularity::page);
    CHECK(registers.read64(iotlb_offset) == 0x3603'0007'0000'0000);
  }
  SECTION("a domain and everything") {
    CHECK(registers.write32(iotlb_offset + 4, 0xA000'0007).iotlb_invalidation ==
          IotlbInvalidation{IotlbGranularity::domain, {7}});
    registers.file.complete_iotlb_invalidation(IotlbGranularity::global);
    CHECK(registers.read64(iotlb_offset) == 0x2200'0007'0000'0000);
    CHECK(registers.file.write(iotlb_offset + 7, 1, 0x90).iotlb_invalidation ==
          IotlbInvalidation{IotlbGranularity::global, {7}});
  }
  SECTION("while it runs neither register changes") {
    CHECK(registers.write32(iotlb_offset + 4, 0xB000'0007).iotlb_invalidation);
    registers.write64(iva_offset, 0x7000);
    CHECK_FALSE(registers.write32(iotlb_offset + 4, 0x9000'0001).iotlb_invalidation);
    registers.file.complete_iotlb_invalidation(IotlbGranularity::page);
    CHECK(registers.write32(iotlb_offset + 4, 0xB000'0007).iotlb_invalidation->pages.first == Iova{0x1220'0000});
  }
  SECTION("without page-selective invalidation the domain is taken") {
    Registers coarse{capable(test::cap_48 & ~mask_of(cap::psi))};
    coarse.write64(iva_offset, 0x1234'503F);
    CHECK(coarse.write32(iotlb_offset + 4, 0xB000'0007).iotlb_invalidation ==
          IotlbInvalidation{IotlbGranularity::domain, {7}});
  }
}

TEST_CASE("domain id bits above the width of ND do not count in registers", "[vtd][Context Command Register]") {
  Registers registers{capable(with(CapabilityRegister{test::cap_48}, cap::nd, 2).raw)};
  CHECK(registers.write64(offset::context_command, 0xC000'0000'0000'AB56).context_invalidation->domain ==
        DomainId{0x56});
  CHECK(registers.write64(iotlb_offset, 0xA000'AB56'0000'0000).iotlb_invalidation->domain == DomainId{0x56});
}

TEST_CASE("register invalidations that cannot be are answered with 00", "[vtd][Context Command Register][normative]") {
  constexpr std::uint32_t context_high = offset::context_command + 4;
  constexpr std::uint32_t iotlb_high = iotlb_offset + 4;
  const auto refuses = [](Registers& registers, std::uint32_t context, std::uint32_t iotlb) {
    // An answer of an earlier command must not stay.
    CHECK_FALSE(registers.write32(context_high, context).context_invalidation);
    CHECK((registers.read32(context_high) & 0x9800'0000) == 0);
    CHECK_FALSE(registers.write32(iotlb_high, iotlb).iotlb_invalidation);
    CHECK((registers.read32(iotlb_high) & 0x8600'0000) == 0);
  };
  Registers registers;
  registers.file.complete_context_invalidation(ContextGranularity::device);
  registers.file.complete_iotlb_invalidation(IotlbGranularity::page);
  SECTION("no granularity") { refuses(registers, 0x8000'0000, 0x8000'0000); }
  SECTION("not in legacy mode") {
    registers.write64(offset::root_table, 0x1'0400);
    registers.command(srtp);
    refuses(registers, 0xA000'0000, 0x9000'0000);
  }
  SECTION("beside the queue") {
    registers.command(qie);
    refuses(registers, 0xA000'0000, 0x9000'0000);
    refuses(registers, 0xE000'0000, 0xB000'0000);  // nor what is narrower and all right by itself
    registers.command(0);
    CHECK(registers.write32(context_high, 0xA000'0000).context_invalidation);
    CHECK(registers.write32(iotlb_high, 0x9000'0000).iotlb_invalidation);
  }
  SECTION("beside a queue that is on its way on, or on its way off") {
    CHECK(registers.write32(offset::global_command, qie).queue == true);
    refuses(registers, 0xA000'0000, 0x9000'0000);
    registers.file.complete_queue(true);
    CHECK(registers.write32(offset::global_command, 0).queue == false);
    refuses(registers, 0xA000'0000, 0x9000'0000);
    registers.file.complete_queue(false);
    CHECK(registers.write32(context_high, 0xA000'0000).context_invalidation);
  }
  SECTION("from version 6 on") {
    Registers newer{capable(0x80D2'008C'222F'0006, test::ecap_remapping, 48, 0x60)};
    REQUIRE_FALSE(newer.file.capabilities().check());
    refuses(newer, 0xA000'0000, 0x9000'0000);
  }
  SECTION("an address mask above MAMV") {
    registers.write64(iva_offset, 19);
    refuses(registers, 0x8000'0000, 0xB000'0007);
    registers.write64(iva_offset, 18);
    CHECK(registers.write32(iotlb_high, 0xB000'0007).iotlb_invalidation);
  }
}

TEST_CASE("what a value has beyond the size of its access is not written and starts nothing",
          "[vtd][Software Access to Registers]") {
  Registers registers;
  constexpr std::uint64_t stray = 0xFFFF'FFFF'FFFF'0000;
  // Everything is there but the bit that starts it.
  registers.write64(offset::context_command, 0x2000'0000'0000'0000);
  registers.write64(iotlb_offset, 0x1000'0000'0000'0000);
  CHECK_FALSE(registers.file.write(offset::context_command + 4, 2, stray).context_invalidation);
  CHECK_FALSE(registers.file.write(iotlb_offset + 4, 2, stray).iotlb_invalidation);
  CHECK_FALSE(registers.file.write(offset::global_command, 2, stray).translation);
  CHECK(registers.read64(offset::context_command) == 0x2000'0000'0000'0000);
  CHECK(registers.read64(iotlb_offset) == 0x1000'0000'0000'0000);
}

}  // namespace viommu::vtd
