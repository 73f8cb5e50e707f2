// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Prints a dictionary for fuzzers: each field of the layouts that guests fill in, as a word of 4 or 8 bytes with its
// lowest and with all of its bits set; the bits that have to be zero; and addresses at which rules change.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <set>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/virtio_iommu/layouts.hpp"
#include "engine/vtd/descriptor_layouts.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/interrupt_layouts.hpp"
#include "engine/vtd/page_request_layouts.hpp"
#include "engine/vtd/register_layouts.hpp"
#include "engine/vtd/scalable_layouts.hpp"
#include "engine/vtd/table_layouts.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/format/second_stage_layout.hpp"

namespace {

using namespace viommu;

std::set<std::vector<std::uint8_t>> words;

void add(std::uint64_t value, std::size_t bytes) {
  std::vector<std::uint8_t> word(bytes);
  for (std::size_t i = 0; i < bytes; ++i) word[i] = static_cast<std::uint8_t>(value >> (8 * i));
  words.insert(word);
}

template <class Layout, class... Types>
void add_rows(const Rows<Layout, Types...>& rows) {
  constexpr std::size_t bytes = sizeof(Word<Layout>);
  std::uint64_t reserved = 0;
  for (const Row& row : rows) {
    add(mask_of(row.bits), bytes);
    add(mask_of(BitRange{row.bits.low, row.bits.low}), bytes);
    if (row.rule == Rule::reserved) reserved |= mask_of(row.bits);
  }
  add(reserved, bytes);
}
template <class... All>
void add_all(const All&... rows) {
  (add_rows(rows), ...);
}

void add_layouts() {
  {
    using namespace viommu::vtd;
    add_all(descriptor_head::rows, descriptor_blank::rows, context_descriptor::rows, iotlb_descriptor_low::rows,
            iotlb_descriptor_high::rows, device_tlb_descriptor_low::rows, device_tlb_descriptor_high::rows,
            interrupt_entry_descriptor::rows, wait_descriptor_low::rows, wait_descriptor_high::rows,
            pasid_iotlb_descriptor_low::rows, pasid_iotlb_descriptor_high::rows, pasid_cache_descriptor::rows,
            pasid_device_tlb_descriptor_low::rows, pasid_device_tlb_descriptor_high::rows,
            page_group_descriptor_low::rows, page_group_descriptor_high::rows, host_permission_descriptor_low::rows,
            host_permission_descriptor_high::rows, fsts::rows, event_control::rows, event_data::rows,
            event_address::rows, frcd_low::rows, frcd_interrupt::rows, frcd_high::rows,
            interrupt_entry_low::remapped_rows, interrupt_entry_low::xapic_rows, interrupt_entry_low::posted_rows,
            interrupt_entry_high::remapped_rows, interrupt_entry_high::posted_rows, remappable_address::rows,
            remappable_data::rows, message_address::rows, message_data::rows, page_queue_pointer::rows, pqa::rows,
            prs::rows, page_request_low::rows, page_request_high::rows, gcmd::rows, gsts::rows, rtaddr::rows,
            ccmd::rows, iva::rows, iotlb_command::rows, pmen::rows, protected_low::rows, protected_high::rows,
            queue_pointer::rows, iqa::rows, ics::rows, iqercd::rows, irta::rows, scalable_root::rows,
            scalable_context_low::rows, scalable_context_high::rows, pasid_directory::rows, root_low::rows,
            root_high::rows, context_low::rows, context_high::rows);
  }
  {
    using namespace viommu::walkers;
    add_all(first_stage_table::rows, first_stage_leaf::rows, second_stage_table::rows, second_stage_leaf::rows);
  }
  {
    using namespace viommu::virtio_iommu;
    add_all(attach_flags::rows, map_flags::rows, property_head::rows, fault_flags::rows);
  }
}

/// Widths, the interrupt range, canonical borders, ends.
void add_addresses() {
  constexpr std::uint64_t page = 0x1000;
  for (const std::uint64_t border :
       {std::uint64_t{0xFEE0'0000}, std::uint64_t{0xFEF0'0000}, std::uint64_t{1} << 32, std::uint64_t{1} << 39,
        std::uint64_t{1} << 47, std::uint64_t{1} << 48, std::uint64_t{1} << 52, std::uint64_t{1} << 57, ~low_bits(47)})
    for (const std::uint64_t address : {border - page, border - 1, border, border + page}) add(address, 8);
  add(~std::uint64_t{0}, 4);
  add(~std::uint64_t{0}, 8);
}

}  // namespace

int main() {
  add_layouts();
  add_addresses();
  for (const std::vector<std::uint8_t>& word : words) {
    std::printf("\"");
    for (const std::uint8_t byte : word) std::printf("\\x%02X", unsigned{byte});
    std::printf("\"\n");
  }
  return 0;
}
