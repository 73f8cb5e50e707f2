// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/capabilities.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint32_t version_1_0 = 0x10;
constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606;
constexpr std::uint64_t cap_39_caching = 0x80D2'008C'2226'0286;
constexpr std::uint64_t ecap_remapping = 0xF0'0F4A;  // QI, IR, PT

Capabilities decode(std::uint64_t cap = cap_48, std::uint64_t ecap = ecap_remapping, unsigned haw = 48) {
  return Capabilities::decode(version_1_0, cap, ecap, haw);
}
template <class Type>
std::uint64_t cap_with(const Field<CapabilityRegister, Type>& field, std::type_identity_t<Type> value) {
  return with(CapabilityRegister{cap_48}, field, value).raw;
}
template <class Type>
std::uint64_t ecap_with(const Field<ExtendedCapabilityRegister, Type>& field, std::type_identity_t<Type> value) {
  return with(ExtendedCapabilityRegister{ecap_remapping}, field, value).raw;
}
/// A bit of a register as the figures number them.
constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }
std::string problem(const Capabilities& capabilities) { return describe(capabilities.check()); }

}  // namespace

TEST_CASE("capabilities are decoded from the registers", "[vtd][Capability Register][normative]") {
  const Capabilities c = decode();
  CHECK_FALSE(c.check());
  CHECK(c.major_version == 1);
  CHECK(c.domain_id_bits == 16);
  CHECK(c.input_address_bits == 48);
  CHECK(c.largest_width == 2);
  CHECK(c.largest_address_bits() == 48);
  CHECK(c.supports_width(1));
  CHECK(c.supports_width(2));
  CHECK_FALSE(c.supports_width(0));
  CHECK_FALSE(c.supports_width(3));
  CHECK_FALSE(c.supports_width(7));
  CHECK(c.last_input_address(1) == Iova{0x7F'FFFF'FFFF});
  CHECK(c.last_input_address(2) == Iova{0xFFFF'FFFF'FFFF});
  CHECK(c.last_input_address(3) == Iova{0xFFFF'FFFF'FFFF});
  CHECK(c.page_selective);
  CHECK(c.max_address_mask == 18);
  CHECK(c.fault_records == 1);
  CHECK(c.fault_record_offset == 0x220);
  CHECK(c.iotlb_offset == 0xF0);
  CHECK(c.registers_end() == 0x230);
  CHECK(c.window_bytes == 0x1000);
  CHECK(c.drain_reads);
  CHECK(c.drain_writes);
  CHECK(c.root_pointer_invalidates);
  CHECK_FALSE(c.interrupt_table_invalidates);
  CHECK_FALSE(c.caching_mode);
  CHECK_FALSE(c.zero_length_read);
  CHECK(c.queue);
  CHECK(c.interrupt_remapping);
  CHECK(c.pass_through);
  CHECK_FALSE(c.device_tlb);
  CHECK_FALSE(c.snoop_control);
  CHECK_FALSE(c.extended_interrupt_mode);
  CHECK_FALSE(c.coherent_tables);
  CHECK(c.max_index_mask == 15);
}

TEST_CASE("capability shows 39-bit width and large pages", "[vtd][Capability Register][KUT-7][KUT-8]") {
  const Capabilities c = decode(cap_39_caching, ecap_remapping, 39);
  CHECK_FALSE(c.check());
  CHECK(c.supports_width(1));
  CHECK_FALSE(c.supports_width(2));
  CHECK(c.input_address_bits == 39);
  CHECK(c.caching_mode);
  CHECK(c.pages_2m);
  CHECK(c.pages_1g);
}

TEST_CASE("each bit is decoded into its own ability", "[vtd][Capability Register][normative]") {
  CHECK(decode(cap_48 | bit(5)).protected_low);
  CHECK_FALSE(decode(cap_48 | bit(5)).protected_high);
  CHECK(decode(cap_48 | bit(6)).protected_high);
  CHECK_FALSE(decode(cap_48 | bit(6)).protected_low);
  CHECK(decode(cap_with(cap::sslps, 1)).pages_2m);
  CHECK_FALSE(decode(cap_with(cap::sslps, 1)).pages_1g);
  CHECK_FALSE(decode(cap_with(cap::sslps, 0)).pages_2m);
  CHECK(decode((cap_48 | bit(62)) & ~bit(63)).interrupt_table_invalidates);
  CHECK_FALSE(decode((cap_48 | bit(62)) & ~bit(63)).root_pointer_invalidates);
  CHECK_FALSE(decode(cap_48 & ~bit(54)).drain_writes);
  CHECK(decode(cap_48 & ~bit(54)).drain_reads);
  CHECK_FALSE(decode(cap_48 & ~bit(55)).drain_reads);
  CHECK(decode(cap_48 & ~bit(55)).drain_writes);
  CHECK(decode(cap_48 | bit(59)).posted_interrupts);
  CHECK_FALSE(decode(cap_48 & ~bit(59)).posted_interrupts);
  CHECK(decode(cap_48, ecap_remapping | bit(61)).extended_interrupts_required);
  CHECK_FALSE(decode(cap_48, ecap_remapping | bit(61)).interrupt_remapping_required);
  CHECK(decode(cap_48, ecap_remapping | bit(62)).interrupt_remapping_required);
  CHECK_FALSE(decode(cap_48, ecap_remapping | bit(62)).extended_interrupts_required);
  CHECK(decode(cap_48, ecap_remapping | bit(0)).coherent_tables);
  CHECK(decode(cap_48, ecap_remapping | bit(42)).page_request_drain);
  CHECK_FALSE(decode(cap_48, ecap_remapping | bit(42)).device_tlb_throttle);
  CHECK(decode(cap_48, ecap_remapping | bit(41)).device_tlb_throttle);
  CHECK(decode(cap_48, ecap_remapping | bit(52)).abort_mode);
  CHECK(decode(cap_48, ecap_remapping | bit(40)).pasid);
}

TEST_CASE("the supported widths are exactly those of SAGAW", "[vtd][Capability Register][QVT-18]") {
  CHECK(decode().address_widths == 0b00110);
  CHECK(get(CapabilityRegister{cap_48}, cap::mgaw) == 47);
  CHECK(Capabilities::decode(version_1_0, cap_with(cap::sagaw, 0b01000), ecap_remapping, 48).largest_width == 3);
}

TEST_CASE("a unit without table widths is legal and does not translate", "[vtd][Capability Register][S0.10]") {
  const Capabilities c = decode(0x80D2'008C'222F'0006);
  CHECK_FALSE(c.check());
  CHECK_FALSE(c.translates());
  CHECK(c.largest_address_bits() == 48);
  SECTION("and its host address width is not tied to MGAW") {
    CHECK_FALSE(decode(0x80D2'008C'2226'0006, ecap_remapping, 48).check());
  }
}

TEST_CASE("reserved bits and values are refused by name", "[vtd][Capability Register]") {
  CHECK(problem(decode(cap_with(cap::nd, 7))) == "ND: 7 is reserved");
  CHECK(decode(cap_with(cap::sagaw, 1)).check().field == "SAGAW");
  CHECK(decode(cap_with(cap::sagaw, 16)).check().field == "SAGAW");
  CHECK(decode(cap_with(cap::sslps, 2)).check().field == "SSLPS");
  CHECK(decode(cap_with(cap::sslps, 4)).check().field == "SSLPS");
  CHECK(decode(cap_with(cap::mgaw, 0)).check().field == "MGAW");
  CHECK(decode(cap_with(cap::reserved_3, true)).check().field == "CAP");
  CHECK(decode(cap_48, ecap_with(ecap::reserved_63, true)).check().field == "ECAP");
  CHECK(Capabilities::decode(0x100 | version_1_0, cap_48, ecap_remapping, 48).check().field == "VER");
  CHECK(Capabilities::decode(0, cap_48, ecap_remapping, 48).check().field == "VER");
}

TEST_CASE("a feature needs the one it stands on", "[vtd][Extended Capability Register][normative]") {
  CHECK(problem(decode(cap_48, 0xF08)) == "IR: needs QI");
  CHECK(problem(decode(cap_48, 0xF04)) == "DT: needs QI");
  CHECK(problem(decode(cap_48, 0xF12)) == "EIM: needs IR");
  CHECK(problem(decode(cap_48, ecap_with(ecap::dit, true))) == "DIT: needs DT");
  CHECK(problem(decode(cap_48, ecap_with(ecap::pds, true))) == "PDS: needs DT");
  CHECK(problem(decode(cap_48, ecap_with(ecap::pss, 19))) == "PSS: needs SMTS");
  CHECK(problem(decode(cap_48, ecap_with(ecap::fsts, true))) == "FSTS: needs SMTS");
  CHECK(problem(decode(cap_with(cap::fs1gp, true))) == "FS1GP: needs FSTS");
  SECTION("each of them, whatever else it has") {
    struct Row {
      std::uint64_t cap;
      std::vector<unsigned> ecap;
      const char* text;
    };
    const Row rows[] = {
        {0, {43}, "SMTS: needs QI"},
        {0, {2}, "DT: needs QI"},
        {0, {3}, "IR: needs QI"},
        {0, {1, 4}, "EIM: needs IR"},
        {bit(59), {1}, "PI: needs IR"},
        {0, {1, 62}, "IRREQ: needs IR"},
        {0, {1, 3, 61}, "EIMER: needs EIM"},
        {0, {1, 40}, "PASID: needs SMTS"},
        {0, {1, 35}, "PSS: needs SMTS"},
        {0, {1, 31}, "SRS: needs SMTS"},
        {0, {1, 25}, "MTS: needs SMTS"},
        {0, {1, 49}, "RPS: needs SMTS"},
        {0, {1, 48}, "SMPWCS: needs SMTS"},
        {0, {1, 47}, "FSTS: needs SMTS"},
        {0, {1, 2, 29}, "PRS: needs DT and SMTS"},
        {0, {1, 43, 29}, "PRS: needs DT and SMTS"},
        {0, {1, 42}, "PDS: needs DT"},
        {0, {1, 41}, "DIT: needs DT"},
        {0, {1, 33}, "NWFS: needs DT"},
        {0, {1, 43, 47, 26}, "NEST: needs SMTS, FSTS and SSTS"},
        {0, {1, 43, 46, 26}, "NEST: needs SMTS, FSTS and SSTS"},
        {0, {1, 45}, "SSADS: needs SMPWCS"},
        {0, {1, 43, 47, 34}, "EAFS: needs FSTS and SMPWCS"},
        {0, {1, 43, 48, 34}, "EAFS: needs FSTS and SMPWCS"},
        {0, {1, 53}, "RPRIVS: needs SRS"},
        {bit(60), {1}, "FS5LP: needs FSTS"},
        {bit(56), {1}, "FS1GP: needs FSTS"},
        {0, {1, 57}, "SSIRWS: needs SSTS"},
        {0, {1, 2, 56}, "PTRS: needs DT and PASID"},
        {0, {1, 43, 40, 56}, "PTRS: needs DT and PASID"},
        {0, {1, 43, 55}, "HPTS: needs SMTS and DT"},
        {0, {1, 2, 55}, "HPTS: needs SMTS and DT"},
        {0, {1, 51}, "PMS: needs ECMDS"},
        {0, {1, 58}, "SMS: needs PRS"},
    };
    for (const Row& row : rows) {
      std::uint64_t ecap = 0xF00;
      for (const unsigned number : row.ecap) ecap |= bit(number);
      const Capabilities c = decode(cap_48 | row.cap, ecap);
      CHECK(problem(c) == row.text);
      CHECK(c.check().rule == CapabilityRule::dependency);
    }
  }
  SECTION("RWBF and scalable mode exclude each other") {
    CHECK(problem(decode(cap_with(cap::rwbf, true), ecap_with(ecap::smts, true))) == "RWBF: excludes SMTS");
  }
  SECTION("from version 2 on draining is always there") {
    CHECK_FALSE(Capabilities::decode(0x20, cap_48, ecap_remapping, 48).check());
    CHECK_FALSE(Capabilities::decode(0x1F, cap_with(cap::drd, false), ecap_remapping, 48).check());
    CHECK(Capabilities::decode(0x20, cap_with(cap::drd, false), ecap_remapping, 48).check().field == "DRD");
    CHECK(Capabilities::decode(0x20, cap_with(cap::dwd, false), ecap_remapping, 48).check().field == "DWD");
  }
  SECTION("from version 6 on legacy widths need a second stage") {
    CHECK_FALSE(Capabilities::decode(0x5F, cap_48, ecap_remapping, 48).check());
    CHECK(Capabilities::decode(0x60, cap_48, ecap_remapping, 48).check().field == "SAGAW");
    CHECK_FALSE(Capabilities::decode(0x60, cap_48, ecap_with(ecap::ssts, true), 48).check());
    CHECK_FALSE(Capabilities::decode(0x60, cap_with(cap::sagaw, 0), ecap_remapping, 48).check());
  }
}

TEST_CASE("what descriptors go by is decoded from the registers", "[vtd][Extended Capability Register][normative]") {
  for (const auto& [bit, has] : {std::pair{mask_of(ecap::prs), &Capabilities::page_requests},
                                 std::pair{mask_of(ecap::pds), &Capabilities::page_request_drain},
                                 std::pair{mask_of(ecap::dt), &Capabilities::device_tlb},
                                 std::pair{mask_of(ecap::dit), &Capabilities::device_tlb_throttle},
                                 std::pair{mask_of(ecap::hpts), &Capabilities::host_permission_tables},
                                 std::pair{mask_of(ecap::smts), &Capabilities::scalable_mode},
                                 std::pair{mask_of(ecap::adms), &Capabilities::abort_mode}}) {
    CAPTURE(bit);
    CHECK(decode(cap_48, ecap_remapping | bit).*has);
    CHECK_FALSE(decode(cap_48, ~bit).*has);
  }
  CHECK(decode().first_stage_address_bits == 48);
  CHECK(decode(cap_with(cap::fs5lp, true)).first_stage_address_bits == 57);
}

TEST_CASE("what is not there yet is refused by name", "[vtd][Extended Capability Register]") {
  CHECK(problem(decode(cap_with(cap::ecmds, true))) == "not supported: ECMDS");
  CHECK(decode(cap_with(cap::ecmds, true)).check().rule == CapabilityRule::unsupported);
  SECTION("also when it has everything it needs") {
    CHECK(problem(decode(cap_48 | bit(61))) == "not supported: ECMDS");
    struct Row {
      std::uint64_t ecap;
      const char* name;
    };
    for (const Row& row : {Row{bit(30), "ERS"}, Row{bit(44), "VCS"}, Row{bit(50), "TDXCS"}, Row{bit(59), "HPT1GPS"},
                           Row{bit(60), "RDTS"}, Row{bit(46) | bit(57), "SSIRWS"}, Row{bit(43) | bit(25), "MTS"}}) {
      CHECK(problem(decode(cap_48, ecap_remapping | row.ecap)) == "not supported: " + std::string{row.name});
    }
  }
}

TEST_CASE("every feature of scalable mode that is there is accepted", "[vtd][Extended Capability Register]") {
  constexpr std::uint64_t scalable = bit(43);
  const std::uint64_t features =
      GENERATE(as<std::uint64_t>{}, 0, bit(46), bit(47), bit(46) | bit(47), bit(48), bit(40) | 19ULL << 35, bit(49),
               bit(31), bit(31) | bit(53), bit(52), bit(47) | bit(48) | bit(34));
  CHECK_FALSE(decode(cap_with(cap::rwbf, false), ecap_remapping | scalable | features).check());
  CHECK_FALSE(decode(cap_48 | bit(60) | bit(56), ecap_remapping | scalable | bit(47)).check());
}

TEST_CASE("every legacy-mode feature is accepted", "[vtd][Extended Capability Register]") {
  const auto [cap, ecap] = GENERATE(table<std::uint64_t, std::uint64_t>({
      {cap_with(cap::rwbf, true), ecap_remapping},
      {cap_with(cap::plmr, true), ecap_remapping},
      {cap_with(cap::phmr, true), ecap_remapping},
      {cap_with(cap::cm, true), ecap_remapping},
      {cap_with(cap::zlr, true), ecap_remapping},
      {cap_with(cap::psi, false), ecap_remapping},
      {cap_with(cap::esirtps, true), ecap_remapping},
      {cap_with(cap::sslps, 0), ecap_remapping},
      {cap_with(cap::sslps, 1), ecap_remapping},
      {cap_with(cap::nfr, 7), ecap_remapping},
      {cap_with(cap::nfr, 255), ecap_remapping},
      {cap_48, ecap_with(ecap::eim, true)},
      {cap_48, ecap_remapping | mask_of(ecap::eim, ecap::eimer)},
      {cap_48, ecap_with(ecap::irreq, true)},
      {cap_with(cap::pi, true), ecap_remapping},
      {cap_48, ecap_with(ecap::sc, true)},
      {cap_48, ecap_with(ecap::coherent, true)},
      {cap_48, ecap_remapping | mask_of(ecap::dt, ecap::dit, ecap::pds)},
      {cap_48, 0xF40},  // no queue
      {cap_48, 0xF42},
  }));
  CHECK(problem(decode(cap, ecap)).empty());
}

TEST_CASE("address widths fit together", "[vtd][Capability Register][S2.19]") {
  CHECK_FALSE(decode(cap_48, ecap_remapping, 39).check());
  CHECK(decode(cap_39_caching, ecap_remapping, 40).check().field == "MGAW");
  CHECK(decode(cap_48, ecap_remapping, 53).check().field == "HAW");
  CHECK(decode(cap_48, ecap_remapping, 31).check().field == "HAW");
  CHECK_FALSE(decode(cap_48, ecap_remapping, 32).check());
  CHECK_FALSE(decode(cap_with(cap::mgaw, 51), ecap_remapping, 52).check());
}

TEST_CASE("registers neither overlap nor leave the window", "[vtd][Capability Register]") {
  CHECK(decode(cap_with(cap::fro, 0x0E)).check().field == "FRO");
  CHECK(decode(cap_with(cap::fro, 0x0F)).check().field == "FRO");
  CHECK_FALSE(decode(cap_with(cap::fro, 0x10)).check());
  CHECK(decode(cap_48, ecap_with(ecap::iro, 0x0E)).check().field == "IRO");
  CHECK(decode(cap_48, ecap_with(ecap::iro, 0x22)).check().field == "FRO");
  CHECK_FALSE(decode(cap_48, ecap_with(ecap::iro, 0x23)).check());
  SECTION("the window given must hold the last register") {
    CHECK_FALSE(Capabilities::decode(version_1_0, cap_48, ecap_remapping, 48, 0x230).check());
    CHECK(Capabilities::decode(version_1_0, cap_48, ecap_remapping, 48, 0x22C).check().field == "NFR");
    const std::uint64_t low_records = cap_with(cap::fro, 0x10);
    const std::uint64_t high_iotlb = ecap_with(ecap::iro, 0x22);
    CHECK_FALSE(Capabilities::decode(version_1_0, low_records, high_iotlb, 48, 0x230).check());
    CHECK(Capabilities::decode(version_1_0, low_records, high_iotlb, 48, 0x22C).check().field == "IRO");
    CHECK(Capabilities::decode(version_1_0, cap_48, ecap_with(ecap::iro, 0x40), 48, 0x240).check().field == "IRO");
    CHECK(Capabilities::decode(version_1_0, cap_48, ecap_remapping, 48, 0x233).check().field == "window");
  }
  SECTION("a window of the unit's own choice is whole pages, a power of two of them") {
    CHECK(decode(cap_with(cap::nfr, 255)).window_bytes == 0x2000);
    CHECK(decode(cap_with(cap::fro, 0x3FF)).window_bytes == 0x4000);
    CHECK(decode(cap_48, ecap_with(ecap::iro, 0xFF)).window_bytes == 0x1000);
    CHECK(decode(cap_48, ecap_with(ecap::iro, 0x100)).window_bytes == 0x2000);
    CHECK(decode(cap_with(cap::fro, 0x3FF) | mask_of(cap::nfr)).window_bytes == 0x8000);
  }
}

}  // namespace viommu::vtd
