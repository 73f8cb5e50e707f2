// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include <catch2/catch.hpp>
#include <cstdint>

#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/descriptor_layouts.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/interrupt_layouts.hpp"
#include "engine/vtd/posted_descriptor.hpp"
#include "engine/vtd/register_layouts.hpp"
#include "engine/vtd/scalable_layouts.hpp"
#include "engine/vtd/table_layouts.hpp"
#include "tests/support/layout_round_trip.hpp"
#include "walkers/format/second_stage_layout.hpp"

namespace viommu::vtd {
namespace {
using test::check_round_trips;
constexpr std::uint64_t all = ~std::uint64_t{0};
}  // namespace

TEST_CASE("each field of the root and context entries goes in and comes out alone", "[vtd][Root Entry]") {
  check_round_trips(root_low::rows);
  check_round_trips(root_high::rows);
  check_round_trips(context_low::rows);
  check_round_trips(context_high::rows);
}

TEST_CASE("each field of the scalable-mode entries goes in and comes out alone",
          "[vtd][Scalable-Mode Context Entry][Scalable-Mode PASID Table Entry]") {
  check_round_trips(scalable_root::rows);
  check_round_trips(scalable_context_low::rows);
  check_round_trips(scalable_context_high::rows);
  check_round_trips(pasid_directory::rows);
  check_round_trips(pasid_entry_0::rows);
  check_round_trips(pasid_entry_1::rows);
  check_round_trips(pasid_entry_2::rows);
}

TEST_CASE("each field of interrupt messages, entries and posted descriptors goes in and comes out alone",
          "[vtd][Interrupt Remapping Table Entry]") {
  check_round_trips(remappable_address::rows);
  check_round_trips(remappable_data::rows);
  check_round_trips(message_address::rows);
  check_round_trips(message_data::rows);
  check_round_trips(interrupt_entry_low::remapped_rows);
  check_round_trips(interrupt_entry_low::xapic_rows);
  check_round_trips(interrupt_entry_low::posted_rows);
  check_round_trips(interrupt_entry_high::remapped_rows);
  check_round_trips(interrupt_entry_high::posted_rows);
  check_round_trips(posted_control::rows);
  check_round_trips(posted_control::xapic_rows);
}

TEST_CASE("each field of the second-stage entries goes in and comes out alone", "[vtd][Second-Stage Paging Entries]") {
  check_round_trips(walkers::second_stage_table::rows);
  check_round_trips(walkers::second_stage_leaf::rows);
  check_round_trips(walkers::second_stage_leaf_2m::rows);
  check_round_trips(walkers::second_stage_leaf_1g::rows);
}

TEST_CASE("each field of the registers goes in and comes out alone", "[vtd][Register Descriptions][B75]") {
  check_round_trips(version_register::rows);
  check_round_trips(cap::rows);
  check_round_trips(ecap::rows);
  check_round_trips(gcmd::rows);
  check_round_trips(gsts::rows);
  check_round_trips(rtaddr::rows);
  check_round_trips(ccmd::rows);
  check_round_trips(iva::rows);
  check_round_trips(iotlb_command::rows);
  check_round_trips(pmen::rows);
  check_round_trips(protected_low::rows);
  check_round_trips(protected_high::rows);
  check_round_trips(queue_pointer::rows);
  check_round_trips(iqa::rows);
  check_round_trips(ics::rows);
  check_round_trips(iqercd::rows);
  check_round_trips(irta::rows);
  check_round_trips(fsts::rows);
  check_round_trips(event_control::rows);
  check_round_trips(event_data::rows);
  check_round_trips(event_address::rows);
  check_round_trips(frcd_low::rows);
  check_round_trips(frcd_interrupt::rows);
  check_round_trips(frcd_high::rows);
}

TEST_CASE("each field of the descriptors goes in and comes out alone", "[vtd][Invalidation Descriptors]") {
  check_round_trips(descriptor_head::rows);
  check_round_trips(descriptor_blank::rows);
  check_round_trips(context_descriptor::rows);
  check_round_trips(iotlb_descriptor_low::rows);
  check_round_trips(iotlb_descriptor_high::rows);
  check_round_trips(device_tlb_descriptor_low::rows);
  check_round_trips(device_tlb_descriptor_high::rows);
  check_round_trips(interrupt_entry_descriptor::rows);
  check_round_trips(wait_descriptor_low::rows);
  check_round_trips(wait_descriptor_high::rows);
  check_round_trips(pasid_iotlb_descriptor_low::rows);
  check_round_trips(pasid_iotlb_descriptor_high::rows);
  check_round_trips(pasid_cache_descriptor::rows);
  check_round_trips(pasid_device_tlb_descriptor_low::rows);
  check_round_trips(pasid_device_tlb_descriptor_high::rows);
  check_round_trips(page_group_descriptor_low::rows);
  check_round_trips(page_group_descriptor_high::rows);
  check_round_trips(host_permission_descriptor_low::rows);
  check_round_trips(host_permission_descriptor_high::rows);
}

TEST_CASE("root entries reserve what the figure prints", "[vtd][Root Entry][normative]") {
  CHECK(root_low_reserved(39).raw == ((all << 39) | 0xFFE));
  CHECK(root_low_reserved(52).raw == ((all << 52) | 0xFFE));
  CHECK(reserved_mask(root_high::rows) == all);
}

TEST_CASE("context entries reserve what the figure prints", "[vtd][Context Entry][normative]") {
  CHECK(context_low_reserved(39, TranslationType::untranslated_only).raw == ((all << 39) | 0xFF0));
  CHECK(context_low_reserved(48, TranslationType::with_device_tlb).raw == ((all << 48) | 0xFF0));
  CHECK(context_high_reserved(16).raw == 0xFFFF'FFFF'FF00'0080);
  CHECK(context_high_reserved(8).raw == 0xFFFF'FFFF'FFFF'0080);
  CHECK(context_high_reserved(4).raw == 0xFFFF'FFFF'FFFF'F080);
  SECTION("a pass-through entry ignores its table pointer") {
    CHECK(context_low_reserved(39, TranslationType::pass_through).raw == 0xFF0);
  }
}

TEST_CASE("AW stands for levels and address bits", "[vtd][Context Entry][normative]") {
  CHECK(levels_of(1) == 3);
  CHECK(address_bits_of(1) == 39);
  CHECK(levels_of(2) == 4);
  CHECK(address_bits_of(2) == 48);
  CHECK(levels_of(3) == 5);
  CHECK(address_bits_of(3) == 57);
}

TEST_CASE("second-stage entries reserve what the figures print", "[vtd][Second-Stage Paging Entries][normative]") {
  const unsigned width = GENERATE(39u, 46u, 52u);
  const std::uint64_t beyond = low_bits(52) & (all << width);
  walkers::SecondStageRules rules{.host_address_width = width, .snoop_control = true};
  walkers::SecondStageMasks masks = walkers::second_stage_masks(rules);
  SECTION("tables") {
    CHECK(masks.table[4] == (beyond | 0x4000'0000'0000'0880));
    CHECK(masks.table[3] == (beyond | 0x4000'0000'0000'0880));
    CHECK(masks.table[2] == (beyond | 0x4000'0000'0000'0800));
    CHECK(masks.table[1] == (beyond | 0x4000'0000'0000'0800));
  }
  SECTION("leaves") {
    CHECK(masks.leaf[2] == (beyond | 0x4000'0000'3FFF'F000));
    CHECK(masks.leaf[1] == (beyond | 0x4000'0000'001F'F000));
    CHECK(masks.leaf[0] == (beyond | 0x4000'0000'0000'0000));
  }
  SECTION("without snoop control SNP of a leaf is reserved too") {
    rules.snoop_control = false;
    masks = walkers::second_stage_masks(rules);
    CHECK(masks.leaf[2] == (beyond | 0x4000'0000'3FFF'F800));
    CHECK(masks.leaf[1] == (beyond | 0x4000'0000'001F'F800));
    CHECK(masks.leaf[0] == (beyond | 0x4000'0000'0000'0800));
  }
  SECTION("without a page size its PS is reserved") {
    rules.pages_1g = false;
    masks = walkers::second_stage_masks(rules);
    CHECK(masks.leaf[2] == (beyond | 0x4000'0000'3FFF'F080));
    CHECK(masks.leaf[1] == (beyond | 0x4000'0000'001F'F000));
    rules.pages_2m = false;
    masks = walkers::second_stage_masks(rules);
    CHECK(masks.leaf[1] == (beyond | 0x4000'0000'001F'F080));
    CHECK(masks.leaf[0] == (beyond | 0x4000'0000'0000'0000));
  }
}

TEST_CASE("descriptors reserve what the figures print", "[vtd][Invalidation Descriptors][normative]") {
  CHECK(reserved_mask(context_descriptor::rows) == 0xFFFC'0000'0000'F1C0);
  CHECK(reserved_mask(iotlb_descriptor_low::rows) == 0xFFFF'FFFF'0000'F100);
  CHECK(reserved_mask(iotlb_descriptor_high::rows) == 0xF80);
  CHECK(reserved_mask(device_tlb_descriptor_low::rows) == 0x000F'0000'FFE0'01F0);
  CHECK(reserved_mask(device_tlb_descriptor_high::rows) == 0xFFE);
  CHECK(reserved_mask(interrupt_entry_descriptor::rows) == 0xFFFF'0000'07FF'F1E0);
  CHECK(reserved_mask(wait_descriptor_low::rows) == 0xFFFF'F100);
  CHECK(reserved_mask(wait_descriptor_high::rows) == 0x3);
  CHECK(reserved_mask(pasid_iotlb_descriptor_low::rows) == 0xFFF0'0000'0000'F1C0);
  CHECK(reserved_mask(pasid_iotlb_descriptor_high::rows) == 0xF80);
  CHECK(reserved_mask(pasid_cache_descriptor::rows) == 0xFFF0'0000'0000'F1C0);
  CHECK(reserved_mask(pasid_device_tlb_descriptor_low::rows) == 0);
  CHECK(reserved_mask(pasid_device_tlb_descriptor_high::rows) == 0x7FE);
  CHECK(reserved_mask(page_group_descriptor_low::rows) == 0xFFF0'0000'0000'01E0);
  CHECK(reserved_mask(page_group_descriptor_high::rows) == 0xFFFF'FFFF'FFFF'F003);
  CHECK(reserved_mask(host_permission_descriptor_low::rows) == 0xFFFF'FFFF'0000'F1C0);
  CHECK(reserved_mask(host_permission_descriptor_high::rows) == 0xF00);
}

TEST_CASE("the global command and status registers agree bit for bit", "[vtd][Global Command Register][normative]") {
  CHECK(reserved_mask(gcmd::rows) == 0x307F'FFFF);
  CHECK(reserved_mask(gsts::rows) == reserved_mask(gcmd::rows));
  // The commands are the bits that software drops when it builds a new image from the status.
  CHECK(mask_of(gcmd::srtp, gcmd::wbf, gcmd::sirtp) == (0xFFFF'FFFF & ~0x96FF'FFFF & ~reserved_mask(gcmd::rows)));
}

}  // namespace viommu::vtd
