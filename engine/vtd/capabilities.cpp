// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/capabilities.hpp"

#include <algorithm>
#include <bit>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/register_map.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::vtd {
namespace {

constexpr unsigned smallest_host_address_width = 32;  // the interrupt address range lies below 4 GiB
constexpr unsigned largest_host_address_width = 52;   // address bits of a page-table entry
constexpr std::uint32_t bytes_per_offset_unit = 16;   // FRO and IRO count in these
constexpr std::uint32_t fault_record_bytes = 16;
constexpr std::uint32_t iotlb_block_bytes = 16;
constexpr unsigned drain_always_since = 2;          // major version
constexpr unsigned scalable_widths_only_since = 6;  // major version

/// Bits of CAP and ECAP that stand for one feature, or for one of several.
struct Feature {
  std::string_view name;
  CapabilityRegister cap{};
  ExtendedCapabilityRegister ecap{};

  [[nodiscard]] constexpr bool any(std::uint64_t cap_value, std::uint64_t ecap_value) const noexcept {
    return (cap_value & cap.raw) != 0 || (ecap_value & ecap.raw) != 0;
  }
  [[nodiscard]] constexpr bool all(std::uint64_t cap_value, std::uint64_t ecap_value) const noexcept {
    return (cap_value & cap.raw) == cap.raw && (ecap_value & ecap.raw) == ecap.raw;
  }
};

template <class Type>
constexpr Feature feature(const Field<CapabilityRegister, Type>& field) {
  return {field.name, {mask_of(field)}, {}};
}
template <class... Types>
constexpr Feature feature(const Field<ExtendedCapabilityRegister, Types>&... fields) {
  return {{}, {}, {mask_of(fields...)}};
}
template <class Type>
constexpr Feature feature(const Field<ExtendedCapabilityRegister, Type>& field) {
  return {field.name, {}, {mask_of(field)}};
}

struct Dependency {
  Feature subject;
  Feature needs;
  std::string_view text;
};

// "Capability Register" and "Extended Capability Register": what each feature needs beside it.
constexpr Dependency dependencies[] = {
    {feature(ecap::smts), feature(ecap::qi), "needs QI"},
    {feature(ecap::dt), feature(ecap::qi), "needs QI"},
    {feature(ecap::ir), feature(ecap::qi), "needs QI"},
    {feature(ecap::eim), feature(ecap::ir), "needs IR"},
    {feature(cap::pi), feature(ecap::ir), "needs IR"},
    {feature(ecap::irreq), feature(ecap::ir), "needs IR"},
    {feature(ecap::eimer), feature(ecap::eim), "needs EIM"},
    {feature(ecap::pasid), feature(ecap::smts), "needs SMTS"},
    {feature(ecap::pss), feature(ecap::smts), "needs SMTS"},
    {feature(ecap::srs), feature(ecap::smts), "needs SMTS"},
    {feature(ecap::mts), feature(ecap::smts), "needs SMTS"},
    {feature(ecap::rps), feature(ecap::smts), "needs SMTS"},
    {feature(ecap::smpwcs), feature(ecap::smts), "needs SMTS"},
    {feature(ecap::fsts), feature(ecap::smts), "needs SMTS"},
    {feature(ecap::prs), feature(ecap::dt, ecap::smts), "needs DT and SMTS"},
    {feature(ecap::pds), feature(ecap::dt), "needs DT"},
    {feature(ecap::dit), feature(ecap::dt), "needs DT"},
    {feature(ecap::nwfs), feature(ecap::dt), "needs DT"},
    {feature(ecap::nest), feature(ecap::smts, ecap::fsts, ecap::ssts), "needs SMTS, FSTS and SSTS"},
    {feature(ecap::ssads), feature(ecap::smpwcs), "needs SMPWCS"},
    {feature(ecap::eafs), feature(ecap::fsts, ecap::smpwcs), "needs FSTS and SMPWCS"},
    {feature(ecap::rprivs), feature(ecap::srs), "needs SRS"},
    {feature(cap::fs5lp), feature(ecap::fsts), "needs FSTS"},
    {feature(cap::fs1gp), feature(ecap::fsts), "needs FSTS"},
    {feature(ecap::ssirws), feature(ecap::ssts), "needs SSTS"},
    {feature(ecap::ptrs), feature(ecap::dt, ecap::pasid), "needs DT and PASID"},
    {feature(ecap::hpts), feature(ecap::smts, ecap::dt), "needs SMTS and DT"},
    {feature(ecap::pms), feature(cap::ecmds), "needs ECMDS"},
    {feature(ecap::sms), feature(ecap::prs), "needs PRS"},
};

// What the engine does not do. A guest would use what it is offered, so offering it is refused.
constexpr Feature not_offered[] = {
    feature(cap::ecmds), feature(ecap::pms),    feature(ecap::ers),     feature(ecap::mts),
    feature(ecap::vcs),  feature(ecap::tdxcs),  feature(ecap::hpts),    feature(ecap::sms),
    feature(ecap::rdts), feature(ecap::ssirws), feature(ecap::hpt1gps),
};

struct Block {
  std::uint32_t first;
  std::uint32_t end;
  [[nodiscard]] constexpr bool overlaps(Block other) const noexcept { return first < other.end && other.first < end; }
};

constexpr CapabilityError error(CapabilityRule rule, std::string_view field, std::string_view text) noexcept {
  return {rule, field, text};
}

CapabilityError check_reserved(const Capabilities& c) noexcept {
  const CapabilityRegister cap_value{c.cap};
  if ((c.version & reserved_mask(version_register::rows)) != 0) {
    return error(CapabilityRule::reserved, "VER", "reserved bits are set");
  }
  if (c.major_version == 0) return error(CapabilityRule::reserved, "VER", "the major version must be 1 or more");
  if ((c.cap & reserved_mask(cap::rows)) != 0) return error(CapabilityRule::reserved, "CAP", "reserved bits are set");
  if ((c.ecap & reserved_mask(ecap::rows)) != 0) {
    return error(CapabilityRule::reserved, "ECAP", "reserved bits are set");
  }
  if (get(cap_value, cap::nd) > 6) return error(CapabilityRule::reserved, "ND", "7 is reserved");
  constexpr unsigned widths = 0b01110;
  if ((get(cap_value, cap::sagaw) & ~widths) != 0) {
    return error(CapabilityRule::reserved, "SAGAW", "only bits 1 (39), 2 (48) and 3 (57) stand for a width");
  }
  const unsigned large_pages = get(cap_value, cap::sslps);
  if (large_pages != 0 && large_pages != 1 && large_pages != 3) {
    return error(CapabilityRule::reserved, "SSLPS", "must be 0, 1 or 3");
  }
  if (get(cap_value, cap::mgaw) == 0) return error(CapabilityRule::reserved, "MGAW", "must not be 0");
  return {};
}

CapabilityError check_dependencies(const Capabilities& c) noexcept {
  for (const Dependency& rule : dependencies) {
    if (rule.subject.any(c.cap, c.ecap) && !rule.needs.all(c.cap, c.ecap)) {
      return error(CapabilityRule::dependency, rule.subject.name, rule.text);
    }
  }
  if (c.write_buffer_flush && c.scalable_mode) return error(CapabilityRule::dependency, "RWBF", "excludes SMTS");
  if (c.major_version >= drain_always_since && !(c.drain_reads && c.drain_writes)) {
    return error(CapabilityRule::dependency, c.drain_reads ? "DWD" : "DRD", "must be 1 from major version 2 on");
  }
  const bool has_second_stage = get(ExtendedCapabilityRegister{c.ecap}, ecap::ssts);
  if (c.major_version >= scalable_widths_only_since && c.address_widths != 0 && !has_second_stage) {
    return error(CapabilityRule::dependency, "SAGAW", "must be 0 without SSTS from major version 6 on");
  }
  return {};
}

CapabilityError check_widths(const Capabilities& c) noexcept {
  if (c.host_address_width < smallest_host_address_width || c.host_address_width > largest_host_address_width) {
    return error(CapabilityRule::width, "HAW", "must be 32 to 52 bits");
  }
  if (c.address_widths != 0 && c.host_address_width > c.input_address_bits) {
    return error(CapabilityRule::width, "MGAW", "must cover the host address width (MGAW + 1 >= HAW)");
  }
  return {};
}

CapabilityError check_placement(const Capabilities& c) noexcept {
  constexpr Block fixed{0, offset::fixed_end};
  const Block iotlb{c.iotlb_offset, c.iotlb_offset + iotlb_block_bytes};
  const Block records{c.fault_record_offset, c.fault_record_offset + c.fault_records * fault_record_bytes};
  if (iotlb.overlaps(fixed)) return error(CapabilityRule::placement, "IRO", "overlaps the registers below 0xF0");
  if (records.overlaps(fixed)) return error(CapabilityRule::placement, "FRO", "overlaps the registers below 0xF0");
  if (records.overlaps(iotlb)) return error(CapabilityRule::placement, "FRO", "fault records overlap IVA and IOTLB");
  if (c.window_bytes % sizeof(std::uint32_t) != 0) {
    return error(CapabilityRule::placement, "window", "must be a multiple of 4 bytes");
  }
  if (iotlb.end > c.window_bytes) return error(CapabilityRule::placement, "IRO", "ends outside the register window");
  if (records.end > c.window_bytes) {
    return error(CapabilityRule::placement, "NFR", "fault records end outside the register window");
  }
  return {};
}

CapabilityError check_offered(const Capabilities& c) noexcept {
  for (const Feature& feature : not_offered) {
    if (feature.any(c.cap, c.ecap)) return error(CapabilityRule::unsupported, feature.name, "not supported");
  }
  return {};
}

}  // namespace

std::string describe(const CapabilityError& error) {
  const bool unsupported = error.rule == CapabilityRule::unsupported;
  const std::string_view first = unsupported ? error.text : error.field;
  const std::string_view second = unsupported ? error.field : error.text;
  return error ? std::string{first}.append(": ").append(second) : std::string{};
}

Capabilities Capabilities::decode(std::uint32_t version, std::uint64_t cap, std::uint64_t ecap,
                                  unsigned host_address_width, std::uint32_t window_bytes) noexcept {
  const CapabilityRegister c{cap};
  const ExtendedCapabilityRegister e{ecap};
  const unsigned widths = get(c, cap::sagaw);
  const unsigned large_pages = get(c, cap::sslps);
  Capabilities result;
  result.version = version;
  result.cap = cap;
  result.ecap = ecap;
  result.host_address_width = host_address_width;
  result.major_version = get(VersionRegister{version}, version_register::major_version);

  result.input_address_bits = get(c, cap::mgaw) + 1;
  result.address_widths = widths;
  result.largest_width = widths == 0 ? 0 : detail::narrowed<unsigned>(std::bit_width(widths)) - 1;
  result.domain_id_bits = 4 + 2 * get(c, cap::nd);
  result.caching_mode = get(c, cap::cm);
  result.zero_length_read = get(c, cap::zlr);
  result.pages_2m = (large_pages & 1) != 0;
  result.pages_1g = (large_pages & 2) != 0;
  result.first_stage_address_bits = address_bits_of(get(c, cap::fs5lp) ? 3 : 2);

  result.write_buffer_flush = get(c, cap::rwbf);
  result.protected_low = get(c, cap::plmr);
  result.protected_high = get(c, cap::phmr);
  result.page_selective = get(c, cap::psi);
  result.max_address_mask = get(c, cap::mamv);
  result.drain_reads = get(c, cap::drd);
  result.drain_writes = get(c, cap::dwd);
  result.root_pointer_invalidates = get(c, cap::esrtps);
  result.interrupt_table_invalidates = get(c, cap::esirtps);
  result.posted_interrupts = get(c, cap::pi);
  result.fault_records = get(c, cap::nfr) + 1;
  result.fault_record_offset = get(c, cap::fro) * bytes_per_offset_unit;
  result.iotlb_offset = get(e, ecap::iro) * bytes_per_offset_unit;

  result.coherent_tables = get(e, ecap::coherent);
  result.queue = get(e, ecap::qi);
  result.device_tlb = get(e, ecap::dt);
  result.device_tlb_throttle = get(e, ecap::dit);
  result.no_write_flag = get(e, ecap::nwfs);
  result.interrupt_remapping = get(e, ecap::ir);
  result.extended_interrupt_mode = get(e, ecap::eim);
  result.extended_interrupts_required = get(e, ecap::eimer);
  result.interrupt_remapping_required = get(e, ecap::irreq);
  result.pass_through = get(e, ecap::pt);
  result.snoop_control = get(e, ecap::sc);
  result.page_requests = get(e, ecap::prs);
  result.page_request_drain = get(e, ecap::pds);
  result.max_index_mask = get(e, ecap::mhmv);
  result.scalable_mode = get(e, ecap::smts);
  result.abort_mode = get(e, ecap::adms);
  result.pasid = get(e, ecap::pasid);
  result.host_permission_tables = get(e, ecap::hpts);
  result.pasid_bits = get(e, ecap::pss) + 1;
  result.translated_pasids = get(e, ecap::ptrs);
  result.rid_pasid = get(e, ecap::rps);
  result.rid_privileged = get(e, ecap::rprivs);
  result.first_stage = get(e, ecap::fsts);
  result.second_stage = get(e, ecap::ssts);
  result.nested = get(e, ecap::nest);
  result.second_dirty = get(e, ecap::ssads);
  result.walk_snoop = get(e, ecap::smpwcs);
  result.memory_types = get(e, ecap::mts);
  result.supervisor = get(e, ecap::srs);
  result.extended_accessed = get(e, ecap::eafs);

  constexpr auto page = static_cast<std::uint32_t>(page_size_bytes);
  result.window_bytes = window_bytes != 0 ? window_bytes : std::bit_ceil(std::max(page, result.registers_end()));
  return result;
}

CapabilityError Capabilities::check() const noexcept {
  for (const auto rule : {check_reserved, check_dependencies, check_offered, check_widths, check_placement}) {
    if (const CapabilityError broken = rule(*this)) return broken;
  }
  return {};
}

bool Capabilities::supports_width(unsigned width) const noexcept {
  return width <= largest_width && width != 0 && (address_widths & (low_bits(width + 1) ^ low_bits(width))) != 0;
}

unsigned Capabilities::largest_address_bits() const noexcept {
  return largest_width == 0 ? input_address_bits : address_bits_of(largest_width);
}

Iova Capabilities::last_input_address(unsigned width) const noexcept {
  return {low_bits(std::min(input_address_bits, address_bits_of(width)))};
}

std::uint32_t Capabilities::registers_end() const noexcept {
  return std::max(
      {offset::fixed_end, iotlb_offset + iotlb_block_bytes, fault_record_offset + fault_records * fault_record_bytes});
}

}  // namespace viommu::vtd
