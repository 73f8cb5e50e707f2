// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What this unit says it can do: VER, CAP and ECAP decoded once, and the rules they must obey.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/address.hpp"

namespace viommu::vtd {

enum class CapabilityRule : std::uint8_t {
  none,         ///< every rule holds
  reserved,     ///< a bit or value the specification reserves
  dependency,   ///< a feature without the one it needs, or beside one it excludes
  width,        ///< address widths that do not fit together
  placement,    ///< registers that overlap each other or end outside the window
  unsupported,  ///< legal, and not offered by this engine
};

/// The first broken rule, or `rule == none`. The texts are static.
struct CapabilityError {
  CapabilityRule rule = CapabilityRule::none;
  std::string_view field;  ///< the specification's name of the field at fault
  std::string_view text;

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return rule != CapabilityRule::none; }
};

/// One line for a person, such as "not supported: SMTS" or "PSI: ...".
[[nodiscard]] std::string describe(const CapabilityError& error);

struct Capabilities {
  // As given.
  std::uint32_t version = 0;
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  unsigned host_address_width = 0;  ///< bits of a guest-physical address
  std::uint32_t window_bytes = 0;   ///< size of the register window

  // VER.
  unsigned major_version = 0;

  // CAP, input side.
  unsigned input_address_bits = 0;  ///< MGAW + 1
  unsigned address_widths = 0;      ///< SAGAW: bit AW set when context entries may use that width
  unsigned largest_width = 0;       ///< largest AW of SAGAW, 0 when the unit cannot translate
  unsigned domain_id_bits = 0;
  bool caching_mode = false;
  bool zero_length_read = false;
  bool pages_2m = false;
  bool pages_1g = false;
  unsigned first_stage_address_bits = 0;  ///< of the widest first stage, whether there is one or not

  // CAP, commands and registers.
  bool write_buffer_flush = false;
  bool protected_low = false;
  bool protected_high = false;
  bool page_selective = false;
  unsigned max_address_mask = 0;  ///< MAMV
  bool drain_reads = false;
  bool drain_writes = false;
  bool root_pointer_invalidates = false;     ///< ESRTPS
  bool interrupt_table_invalidates = false;  ///< ESIRTPS
  bool posted_interrupts = false;            ///< PI
  unsigned fault_records = 0;                ///< NFR + 1
  std::uint32_t fault_record_offset = 0;     ///< bytes
  std::uint32_t iotlb_offset = 0;            ///< bytes; IVA_REG, then IOTLB_REG

  // ECAP.
  bool coherent_tables = false;
  bool queue = false;
  bool device_tlb = false;
  bool device_tlb_throttle = false;  ///< DIT
  bool no_write_flag = false;        ///< NWFS
  bool interrupt_remapping = false;
  bool extended_interrupt_mode = false;
  bool extended_interrupts_required = false;  ///< EIMER
  bool interrupt_remapping_required = false;  ///< IRREQ
  bool pass_through = false;
  bool snoop_control = false;
  bool page_requests = false;       ///< PRS
  bool page_request_drain = false;  ///< PDS
  unsigned max_index_mask = 0;      ///< MHMV
  bool scalable_mode = false;       ///< SMTS
  bool abort_mode = false;          ///< ADMS
  bool pasid = false;
  bool host_permission_tables = false;  ///< HPTS

  // ECAP, of scalable mode.
  unsigned pasid_bits = 0;         ///< PSS + 1
  bool translated_pasids = false;  ///< PTRS
  bool rid_pasid = false;          ///< RPS
  bool rid_privileged = false;     ///< RPRIVS
  bool first_stage = false;
  bool second_stage = false;
  bool nested = false;
  bool second_dirty = false;       ///< SSADS
  bool walk_snoop = false;         ///< SMPWCS
  bool memory_types = false;       ///< MTS
  bool supervisor = false;         ///< SRS
  bool extended_accessed = false;  ///< EAFS

  /// Decodes without judging. `window_bytes` 0 asks for the smallest power of two of whole pages that holds every
  /// register.
  [[nodiscard]] static Capabilities decode(std::uint32_t version, std::uint64_t cap, std::uint64_t ecap,
                                           unsigned host_address_width, std::uint32_t window_bytes = 0) noexcept;

  /// The first rule that these values break. A unit is only built from values that break none.
  [[nodiscard]] CapabilityError check() const noexcept;

  /// Whether there is a context of any kind that lets a request through.
  [[nodiscard]] constexpr bool translates() const noexcept {
    return address_widths != 0 || (scalable_mode && (first_stage || pass_through || abort_mode));
  }
  /// Whether a context entry may have this AW.
  [[nodiscard]] bool supports_width(unsigned width) const noexcept;
  /// Bits of the largest supported table, which fault records are cut to; MGAW + 1 when there is none.
  [[nodiscard]] unsigned largest_address_bits() const noexcept;
  /// Last address a device may use with tables of this AW: 2^min(MGAW, AGAW) - 1.
  [[nodiscard]] Iova last_input_address(unsigned width) const noexcept;
  /// First byte behind the last register.
  [[nodiscard]] std::uint32_t registers_end() const noexcept;
  /// "Invalidation registers" act only up to major version 5.
  [[nodiscard]] constexpr bool register_invalidation() const noexcept { return major_version < 6; }
};

}  // namespace viommu::vtd
