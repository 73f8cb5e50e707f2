// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Creation options: defaults, ranges, and the words for what is wrong.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/bits.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/sized.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/page_formats.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::capi {
namespace {

/// 39, 48 and 57 bit tables, 2 MiB and 1 GiB pages, page-selective invalidation of up to 2^18 pages, 8 fault records at
/// 220h, domain ids of 16 bits, drains, SRTP invalidates.
[[nodiscard]] std::uint64_t default_capability() noexcept {
  namespace c = vtd::cap;
  vtd::CapabilityRegister cap{};
  cap = with(cap, c::nd, 6U);
  cap = with(cap, c::sagaw, 0b01110U);
  cap = with(cap, c::mgaw, 56U);
  cap = with(cap, c::fro, 0x22U);
  cap = with(cap, c::sslps, 0b11U);
  cap = with(cap, c::psi, true);
  cap = with(cap, c::nfr, 7U);
  cap = with(cap, c::mamv, 18U);
  cap = with(cap, c::dwd, true);
  cap = with(cap, c::drd, true);
  cap = with(cap, c::esrtps, true);
  return cap.raw;
}

/// Queued invalidation, pass-through, coherent walks; IOTLB registers at F0h.
[[nodiscard]] std::uint64_t default_extended_capability() noexcept {
  namespace e = vtd::ecap;
  vtd::ExtendedCapabilityRegister ecap{};
  ecap = with(ecap, e::coherent, true);
  ecap = with(ecap, e::qi, true);
  ecap = with(ecap, e::pt, true);
  ecap = with(ecap, e::iro, 0xFU);
  return ecap.raw;
}

/// 0 where the system has no source of random numbers.
[[nodiscard]] std::uint64_t random_word() noexcept {
  try {
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
  } catch (...) {
    return 0;
  }
}

[[nodiscard]] std::uint64_t random_seed() noexcept {
  // The clock alone would be a weaker seed, and still not the guest's to choose.
  const auto now = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return (now ^ random_word()) * 0x9E3779B97F4A7C15 | 1;
}

[[nodiscard]] caches::Drain drain_of(std::uint32_t option) noexcept {
  switch (option) {
    case VIOMMU_DRAIN_FENCE:   return caches::Drain::fence;
    case VIOMMU_DRAIN_BARRIER: return caches::Drain::barrier;
    default:                   return caches::Drain::automatic;
  }
}

[[nodiscard]] core::FillMode fill_of(std::uint32_t option) noexcept {
  switch (option) {
    case VIOMMU_FILL_EXACT: return core::FillMode::exact;
    case VIOMMU_FILL_LINE:  return core::FillMode::line;
    default:                return core::FillMode::all;
  }
}

/// So that tests of whole programs can run each kernel. Null when it is not set, or set to nothing.
[[nodiscard]] const char* kernel_of_environment() noexcept {
  const char* const name = std::getenv("VIOMMU_KERNEL");
  return name != nullptr && *name != '\0' ? name : nullptr;
}

struct Complaint {
  char* text;
  std::size_t size;

  viommu_result operator()(viommu_result result, const char* words) const noexcept {
    if (text != nullptr && size != 0) std::snprintf(text, size, "%s", words);
    return result;
  }
};

/// take_over() with words for what is wrong.
template <class Struct>
[[nodiscard]] viommu_result take_or_complain(const Struct& given, Struct& known, std::size_t least, const char* name,
                                             const Complaint& complain) noexcept {
  char words[96];
  switch (take_over(given, known, least)) {
    case Taken::ok: return VIOMMU_OK;
    case Taken::no_version:
      std::snprintf(words, sizeof words, "%s.size: no version of the struct has this size", name);
      return complain(VIOMMU_E_ARGUMENT, words);
    case Taken::unknown_field:
      std::snprintf(words, sizeof words, "%s: a field that this version does not know is set", name);
      return complain(VIOMMU_E_UNSUPPORTED, words);
  }
  return VIOMMU_E_ARGUMENT;
}

struct Limit {
  const char* name;
  std::uint32_t given;
  std::uint32_t fallback;
  std::uint32_t least;
  std::uint32_t most;
  std::uint32_t* into;
};

/// What options of every front end have, under the same names.
struct CommonOptions {
  std::uint64_t hold_report_ns = 0;
  std::uint64_t hash_seed = 0;
  std::uint64_t mapping_quota = 0;
  const char* kernel = nullptr;
  std::uint32_t drain = 0;
  std::uint32_t fill = 0;
  std::uint32_t iotlb_pages = 0;
  std::uint32_t structures = 0;
  std::uint32_t context_entries = 0;
  std::uint32_t pasid_entries = 0;
  std::uint32_t address_spaces = 0;
  std::uint32_t tag_bits = 0;
  std::uint32_t readers = 0;
  std::uint32_t holds = 0;
  std::uint32_t regions = 0;
  std::uint32_t shards = 0;
  std::uint32_t accounts = 0;
  std::uint32_t subscriptions = 0;
  // Of the front end:
  bool has_pasids = false;
  std::uint32_t default_spaces = 0;  ///< 0: as context_entries and pasid_entries together
};

template <class Options>
[[nodiscard]] CommonOptions common_of(const Options& options) noexcept {
  CommonOptions common;
  common.hold_report_ns = options.hold_report_ns;
  common.hash_seed = options.hash_seed;
  common.mapping_quota = options.mapping_quota;
  common.kernel = options.kernel;
  common.drain = options.drain;
  common.fill = options.fill;
  common.iotlb_pages = options.iotlb_pages;
  common.context_entries = options.context_entries;
  common.address_spaces = options.address_spaces;
  common.tag_bits = options.tag_bits;
  common.readers = options.readers;
  common.holds = options.holds;
  common.shards = options.shards;
  common.accounts = options.accounts;
  common.subscriptions = options.subscriptions;
  return common;
}

constexpr std::uint64_t one_second_ns = 1'000'000'000;

[[nodiscard]] viommu_result read_limits(std::span<const Limit> limits, const Complaint& complain) noexcept {
  for (const Limit& limit : limits) {
    *limit.into = limit.given != 0 ? limit.given : limit.fallback;
    if (*limit.into >= limit.least && *limit.into <= limit.most) continue;
    char words[96];
    std::snprintf(words, sizeof words, "options.%s: %u, and the range is %u to %u", limit.name, *limit.into,
                  limit.least, limit.most);
    return complain(VIOMMU_E_ARGUMENT, words);
  }
  return VIOMMU_OK;
}

[[nodiscard]] viommu_result read_common(const CommonOptions& options, Settings& settings,
                                        const Complaint& complain) noexcept {
  MachineSettings& machine = settings.machine;
  constexpr std::uint64_t default_quota = std::uint64_t{1} << 24;  // of scattered pages, 128 MiB of the shadow
  machine.mapping_quota = options.mapping_quota != 0 ? options.mapping_quota : default_quota;
  if (options.drain > VIOMMU_DRAIN_AUTO) return complain(VIOMMU_E_ARGUMENT, "options.drain: an unknown mode");
  if (options.fill > VIOMMU_FILL_ALL) return complain(VIOMMU_E_ARGUMENT, "options.fill: an unknown mode");

  core::WaistOptions& waist = settings.waist;
  waist.drain = drain_of(options.drain);
  waist.fill = fill_of(options.fill);
  const char* const kernel = options.kernel != nullptr ? options.kernel : kernel_of_environment();
  waist.kernels = walkers::select_kernels(kernel == nullptr ? std::string_view{} : std::string_view{kernel});
  if (waist.kernels == nullptr)
    return complain(VIOMMU_E_UNSUPPORTED, "options.kernel (or VIOMMU_KERNEL): not a kernel of this build and CPU");
  const std::uint32_t contexts = options.context_entries != 0 ? options.context_entries : 4096;
  constexpr std::uint32_t default_pasids = 4096;
  constexpr std::uint32_t most_spaces = 65536;
  const std::uint32_t pasids = options.pasid_entries != 0 ? options.pasid_entries : default_pasids;
  // In scalable mode each of them may have its own; the sum of two that are in range does not wrap.
  const std::uint32_t spaces = options.default_spaces != 0 ? options.default_spaces
                               : options.has_pasids && pasids <= most_spaces && contexts <= most_spaces
                                   ? std::min(contexts + pasids, most_spaces)
                                   : contexts;
  const Limit limits[] = {
      {"iotlb_pages", options.iotlb_pages, 65536, 1, 1U << 24, &waist.iotlb_pages},
      {"structures", options.structures, 4096, 1, 1U << 20, &waist.structures},
      {"shards", options.shards, 1, 1, 64, &waist.shards},
      {"context_entries", options.context_entries, 4096, 1, 65536, &waist.context_entries},
      {"pasid_entries", options.pasid_entries, default_pasids, 8, 65536, &waist.pasid_entries},
      {"address_spaces", options.address_spaces, spaces, 1, most_spaces, &waist.address_spaces},
      {"tag_bits", options.tag_bits, 16, 4, 16, &waist.tag_bits},
      {"readers", options.readers, 64, 1, 4096, &waist.readers},
      {"holds", options.holds, 1024, 1, 1U << 20, &waist.holds},
      {"regions", options.regions, 256, 1, 65536, &waist.regions},
      {"accounts", options.accounts, 0, 0, 65535, &waist.accounts},
      {"subscriptions", options.subscriptions, 256, 1, 65536, &machine.subscriptions},
  };
  if (const viommu_result read = read_limits(limits, complain); read != VIOMMU_OK) return read;
  if (!std::has_single_bit(waist.shards)) return complain(VIOMMU_E_ARGUMENT, "options.shards: not a power of two");
  if (!std::has_single_bit(waist.pasid_entries))
    return complain(VIOMMU_E_ARGUMENT, "options.pasid_entries: not a power of two");
  if (!options.has_pasids) waist.pasid_entries = 0;  // a request with a PASID is blocked
  waist.hold_report_ns = options.hold_report_ns != 0 ? options.hold_report_ns : one_second_ns;
  waist.hash_seed = options.hash_seed != 0 ? options.hash_seed : random_seed();
  return VIOMMU_OK;
}

}  // namespace

viommu_result read_settings(const viommu_vtd_options& given, Settings& settings, char* text,
                            std::size_t text_size) noexcept {
  const Complaint complain{text, text_size};
  viommu_vtd_options options;
  constexpr std::size_t least = offsetof(viommu_vtd_options, capability) + sizeof options.capability;
  if (const viommu_result taken = take_or_complain(given, options, least, "options", complain); taken != VIOMMU_OK)
    return taken;

  constexpr std::uint32_t default_version = 0x10;
  const std::uint64_t cap = options.capability != 0 ? options.capability : default_capability();
  const std::uint64_t ecap =
      options.extended_capability != 0 ? options.extended_capability : default_extended_capability();
  const std::uint32_t version = options.version != 0 ? options.version : default_version;
  constexpr unsigned widest = 52;
  unsigned width = options.host_address_width;
  if (width == 0) width = std::min(get(vtd::CapabilityRegister{cap}, vtd::cap::mgaw) + 1, widest);
  vtd::Capabilities& capabilities = settings.vtd.capabilities;
  capabilities = vtd::Capabilities::decode(version, cap, ecap, width);
  if (const vtd::CapabilityError error = capabilities.check(); error) {
    const viommu_result result =
        error.rule == vtd::CapabilityRule::unsupported ? VIOMMU_E_UNSUPPORTED : VIOMMU_E_ARGUMENT;
    try {
      return complain(result, vtd::describe(error).c_str());
    } catch (...) {
      return complain(result, "capabilities");
    }
  }

  settings.fault_limit = options.fault_limit;
  constexpr std::uint32_t all_flags = VIOMMU_FAULT_COMPRESSION | VIOMMU_UNCACHED | VIOMMU_NARROW_HAW |
                                      VIOMMU_FIRST_STAGE_CHECKS | VIOMMU_MIGRATABLE_ONLY | VIOMMU_SHARE_SPACES |
                                      VIOMMU_UNKNOWN_BYPASSES;
  if ((options.flags & ~all_flags) != 0) return complain(VIOMMU_E_ARGUMENT, "options.flags: an unknown flag");
  if (options.policy > VIOMMU_POLICY_SYNC) return complain(VIOMMU_E_ARGUMENT, "options.policy: an unknown policy");
  MachineSettings& machine = settings.machine;
  machine.sync = options.policy == VIOMMU_POLICY_SYNC;
  machine.narrow_haw = (options.flags & VIOMMU_NARROW_HAW) != 0;
  machine.first_stage_checks = (options.flags & VIOMMU_FIRST_STAGE_CHECKS) != 0;
  machine.migratable_only = (options.flags & VIOMMU_MIGRATABLE_ONLY) != 0;
  machine.share_spaces = (options.flags & VIOMMU_SHARE_SPACES) != 0;
  machine.unknown_bypasses = (options.flags & VIOMMU_UNKNOWN_BYPASSES) != 0;
  settings.waist.uncached = (options.flags & VIOMMU_UNCACHED) != 0;
  settings.vtd.registers.compress_faults = (options.flags & VIOMMU_FAULT_COMPRESSION) != 0;

  CommonOptions common = common_of(options);
  common.structures = options.structures;
  common.pasid_entries = options.pasid_entries;
  common.regions = options.regions;
  common.has_pasids = capabilities.scalable_mode;
  if (const viommu_result read = read_common(common, settings, complain); read != VIOMMU_OK) return read;
  // PCI Express, "Invalidate Completion Timeout": no sooner than after one minute.
  settings.vtd.times = {settings.waist.hold_report_ns,
                        options.device_timeout_ns != 0 ? options.device_timeout_ns : 60 * one_second_ns};
  settings.waist.rules = vtd::second_stage_rules(capabilities);
  settings.waist.first_stage_rules = vtd::first_stage_rules(capabilities);
  if (text != nullptr && text_size != 0) text[0] = '\0';
  return VIOMMU_OK;
}

namespace {

[[nodiscard]] viommu_result read_regions(const viommu_virtio_options& options, const HostAllocator& allocator,
                                         Settings& settings, const Complaint& complain) noexcept {
  constexpr std::uint32_t most_regions = 256;
  if (options.region_count > most_regions) return complain(VIOMMU_E_ARGUMENT, "options.region_count: more than 256");
  if (options.region_count == 0) return VIOMMU_OK;
  if (options.regions == nullptr) return complain(VIOMMU_E_ARGUMENT, "options.regions: null");
  if (!settings.reserved.reset(allocator, options.region_count)) return VIOMMU_E_MEMORY;
  unsigned doorbells = 0;
  for (std::uint32_t i = 0; i < options.region_count; ++i) {
    const viommu_virtio_region& region = options.regions[i];
    if (region.kind > VIOMMU_VIRTIO_MSI || region.reserved != 0)
      return complain(VIOMMU_E_ARGUMENT, "options.regions: an unknown kind");
    if (region.last < region.first) return complain(VIOMMU_E_ARGUMENT, "options.regions: one ends before it begins");
    const IovaRange range{{region.first}, {region.last}};
    for (std::uint32_t other = 0; other < i; ++other)
      if (settings.reserved[other].range.overlaps(range))
        return complain(VIOMMU_E_ARGUMENT, "options.regions: two overlap");
    settings.reserved[i] = {range, static_cast<virtio_iommu::ReservedMemoryKind>(region.kind)};
    doorbells += region.kind == VIOMMU_VIRTIO_MSI ? 1U : 0U;
  }
  return doorbells <= 1 ? VIOMMU_OK : complain(VIOMMU_E_ARGUMENT, "options.regions: more than one of MSI");
}

[[nodiscard]] viommu_result read_config(const viommu_virtio_options& options, virtio_iommu::DeviceOptions& device,
                                        const Complaint& complain) noexcept {
  virtio_iommu::ConfigValues& config = device.config;
  config.page_size_mask = options.page_size_mask != 0 ? options.page_size_mask : ~low_bits(page_shift);
  config.input = {{options.first_input}, {options.last_input != 0 ? options.last_input : ~std::uint64_t{0}}};
  config.domains = {{options.first_domain}, {options.last_domain != 0 ? options.last_domain : ~std::uint32_t{0}}};
  if (config.input.last < config.input.first)
    return complain(VIOMMU_E_ARGUMENT, "options.last_input: before the first");
  if (config.domains.last < config.domains.first)
    return complain(VIOMMU_E_ARGUMENT, "options.last_domain: before the first");
  config.bypass = (options.flags & VIOMMU_VIRTIO_BLOCKED_AT_BOOT) == 0;
  namespace f = virtio_iommu::features;
  constexpr std::uint64_t may_be_left_out =
      mask_of(f::probe, f::mmio, f::bypass_config, f::indirect, f::event_index, f::packed);
  if ((options.without & ~may_be_left_out) != 0)
    return complain(VIOMMU_E_ARGUMENT, "options.without: a feature that is always offered, or none");
  const virtio_iommu::Features without{options.without};
  device.features = {!get(without, f::probe),    !get(without, f::mmio),        !get(without, f::bypass_config),
                     !get(without, f::indirect), !get(without, f::event_index), !get(without, f::packed)};
  return VIOMMU_OK;
}

}  // namespace

viommu_result read_settings(const viommu_virtio_options& given, const HostAllocator& allocator, Settings& settings,
                            char* text, std::size_t text_size) noexcept {
  const Complaint complain{text, text_size};
  viommu_virtio_options options;
  if (const viommu_result taken = take_or_complain(given, options, sizeof options, "options", complain);
      taken != VIOMMU_OK)
    return taken;
  constexpr std::uint32_t all_flags = VIOMMU_VIRTIO_SHARE_SPACES * 2 - 1;
  if ((options.flags & ~all_flags) != 0) return complain(VIOMMU_E_ARGUMENT, "options.flags: an unknown flag");
  virtio_iommu::DeviceOptions& device = settings.virtio;
  if (const viommu_result read = read_config(options, device, complain); read != VIOMMU_OK) return read;
  if (const viommu_result read = read_regions(options, allocator, settings, complain); read != VIOMMU_OK) return read;
  virtio_iommu::Domains::Limits& limits_of = device.limits;
  constexpr std::uint32_t default_count = 4096;
  const Limit limits[] = {
      {"probe_size", options.probe_size, 512, 1, 65536, &device.config.probe_size},
      {"domains", options.domains, default_count, 1, virtio_iommu::Domains::most_domains, &limits_of.domains},
      {"endpoints", options.endpoints, default_count, 1, 65536, &limits_of.endpoints},
  };
  if (const viommu_result read = read_limits(limits, complain); read != VIOMMU_OK) return read;
  constexpr std::uint64_t default_mappings = std::uint64_t{1} << 22;
  constexpr std::uint64_t most_mappings = std::uint64_t{1} << 40;
  limits_of.mappings.mappings = options.mappings != 0 ? options.mappings : default_mappings;
  if (limits_of.mappings.mappings > most_mappings)
    return complain(VIOMMU_E_ARGUMENT, "options.mappings: more than 2^40");
  constexpr std::uint64_t bytes_of_mapping = 64;
  constexpr std::uint64_t bytes_of_trees = std::uint64_t{16} << 20;
  limits_of.mappings.bytes = options.mapping_bytes != 0
                                 ? options.mapping_bytes
                                 : limits_of.mappings.mappings * bytes_of_mapping + bytes_of_trees;
  limits_of.gone_is_unknown = (options.flags & VIOMMU_VIRTIO_STRICT_DETACH) != 0;

  settings.fault_limit = options.fault_limit;
  settings.machine.migratable_only = (options.flags & VIOMMU_VIRTIO_MIGRATABLE_ONLY) != 0;
  settings.machine.share_spaces = (options.flags & VIOMMU_VIRTIO_SHARE_SPACES) != 0;
  settings.waist.uncached = (options.flags & VIOMMU_VIRTIO_UNCACHED) != 0;
  CommonOptions common = common_of(options);
  common.regions = options.regions_of_memory;
  common.structures = 1;  // there are no tables
  common.default_spaces = std::min(2 * limits_of.domains, std::uint32_t{65536});
  if (const viommu_result read = read_common(common, settings, complain); read != VIOMMU_OK) return read;
  device.seed = settings.waist.hash_seed;
  device.report_ns = settings.waist.hold_report_ns;
  device.fault_limit = settings.fault_limit;
  device.subscriptions = settings.machine.subscriptions;
  device.accounts = settings.waist.accounts;
  if (text != nullptr && text_size != 0) text[0] = '\0';
  return VIOMMU_OK;
}

viommu_result read_host(const viommu_host& given, viommu_host& host, char* text, std::size_t text_size) noexcept {
  return take_or_complain(given, host, sizeof host.size, "host", Complaint{text, text_size});
}

machine::Policy policy_of(const MachineSettings& settings) noexcept {
  machine::Policy policy;
  policy.sync = settings.sync;
  policy.narrow_haw = settings.narrow_haw;
  policy.migratable_only = settings.migratable_only;
  policy.mode = settings.first_stage_checks ? machine::CheckMode::first_stage : machine::CheckMode::second_stage;
  if (settings.unknown_bypasses) policy.unknown = machine::UnknownPolicy::legacy;
  return policy;
}

core::HostFunctions functions_of(const viommu_host& host) noexcept {
  core::HostFunctions functions;
  functions.opaque = host.opaque;
  functions.memory = {host.opaque, host.memory_read, host.memory_write, host.memory_compare_exchange};
  functions.allocator = {host.opaque, host.allocate, host.deallocate};
  functions.msi = host.msi;
  functions.wake = host.wake;
  functions.now_ns = host.now_ns;
  functions.log = host.log;
  functions.execute = host.execute;
  functions.region_gone = host.region_gone;
  functions.routes_changed = host.routes_changed;
  functions.hold_overdue = host.hold_overdue;
  functions.page_response = host.page_response;
  functions.device_invalidate = host.device_invalidate;
  functions.view_changed = host.view_changed;
  functions.virtio_notify = host.virtio_notify;
  functions.virtio_needs_reset = host.virtio_needs_reset;
  functions.virtio_event = host.virtio_event;
  return functions;
}

}  // namespace viommu::capi
