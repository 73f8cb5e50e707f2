// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/unit.hpp"

#include <array>
#include <cstring>
#include <span>

#include "engine/base/address.hpp"
#include "engine/base/fault.hpp"
#include "engine/cli/messages.hpp"
#include "engine/vtd/capability_layouts.hpp"

namespace viommu::cli {
namespace {

Host& host_of(void* opaque) noexcept { return *static_cast<Host*>(opaque); }

// The engine must not see an exception; memory that cannot be had is memory that is not there.
template <class Action>
std::int32_t guarded(const Action& action) noexcept {
  try {
    return action();
  } catch (...) {
    return -1;
  }
}

std::int32_t read(void* opaque, std::uint64_t gpa, void* data, std::uint64_t size) noexcept {
  Host& host = host_of(opaque);
  if (!host.of_recording && host.around.regions.withheld(gpa)) {
    static_cast<void>(guarded([&] {
      host.around.complaints.push_back({"read of " + hex(gpa), "the unit reads no memory that is not its to read"});
      return 0;
    }));
    return -1;
  }
  return host.memory.read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
}

std::int32_t write(void* opaque, std::uint64_t gpa, const void* data, std::uint64_t size) noexcept {
  return guarded([&] {
    Host& host = host_of(opaque);
    const bool written = host.memory.write(gpa, {static_cast<const std::byte*>(data), size});
    if (written) {
      std::uint64_t value = 0;
      std::memcpy(&value, data, size);
      host.effects.push_back({Effect::Kind::write, gpa, value, size, 0});
    } else if (host.of_recording) {
      host.effects.push_back({Effect::Kind::failed_write, gpa, 0, size, 0});
    }
    return written ? 0 : -1;
  });
}

std::int32_t compare_exchange(void* opaque, std::uint64_t gpa, std::uint64_t* expected,
                              std::uint64_t desired) noexcept {
  return guarded([&] {
    Memory& memory = host_of(opaque).memory;
    const std::optional<std::uint64_t> found = memory.load(gpa);
    if (!found || !memory.writable(gpa, 8)) return -1;
    if (*found != *expected) {
      *expected = *found;
      return 1;
    }
    return memory.write(gpa, std::as_bytes(std::span{&desired, 1})) ? 0 : -1;
  });
}

void message(void* opaque, std::uint64_t address, std::uint32_t data) noexcept {
  static_cast<void>(guarded([&] {
    host_of(opaque).effects.push_back({Effect::Kind::message, address, data, 0, 0});
    return 0;
  }));
}

void routes_changed(void* opaque, std::uint32_t first, std::uint32_t count) noexcept {
  static_cast<void>(guarded([&] {
    Host& host = host_of(opaque);
    const bool names_entries = count != 0;
    if (!host.of_recording && names_entries) host.effects.push_back({Effect::Kind::routes, first, count, 0, 0});
    return 0;
  }));
}

std::uint64_t clock_of(void* opaque) noexcept { return host_of(opaque).now_ns; }

void region_gone(void* opaque, std::uint64_t cookie) noexcept {
  std::vector<Removal>& removals = host_of(opaque).removals;
  if (cookie < removals.size()) removals[cookie].gone = true;
}

void page_response(void* opaque, std::uint16_t source, std::uint32_t pasid, std::uint32_t group,
                   std::uint32_t code) noexcept {
  static_cast<void>(guarded([&] {
    host_of(opaque).effects.push_back(reply_effect(source, pasid, group, code));
    return 0;
  }));
}

std::int32_t virtio_event(void* opaque, const void* event, std::uint32_t size) noexcept {
  return guarded([&] {
    Host& host = host_of(opaque);
    if (host.event_buffers && *host.event_buffers == 0) return -1;
    if (host.event_buffers) --*host.event_buffers;
    host.effects.push_back(event_effect(event, size));
    return 0;
  });
}

void view_changed(void* opaque, std::uint16_t source, std::uint32_t view) noexcept {
  static_cast<void>(guarded([&] {
    host_of(opaque).around.views[source] = view;
    return 0;
  }));
}

/// How many bytes a T line asks for: 0, not told. The format has no length, and only in the interrupt window does the
/// length decide: a write of 4 bytes, or of a length not told, is a message, any other is blocked with 29h. So where a
/// line says 29h of a write that could have been a message, its length was another one, whichever.
std::uint64_t length_of(const trace::Translate& asked) noexcept {
  constexpr std::uint64_t not_a_message = 8;
  const bool could_be_message = !asked.access.rights.read && asked.access.rights.write && !asked.access.zero_length &&
                                interrupt_window.contains(asked.iova);
  const bool was_none = !asked.ok && asked.reason == static_cast<std::uint8_t>(FaultReason::not_an_interrupt);
  return could_be_message && was_none ? not_a_message : 0;
}

}  // namespace

Effect event_effect(const void* bytes, std::size_t size) noexcept {
  std::array<std::uint64_t, 3> words{};
  Effect effect;
  effect.kind = Effect::Kind::event;
  if (size != sizeof words) {
    effect.value = ~std::uint64_t{0};
    return effect;
  }
  std::memcpy(words.data(), bytes, sizeof words);
  effect.value = words[0];
  effect.size = words[1];
  effect.address = words[2];
  return effect;
}

std::string Effect::text() const {
  switch (kind) {
    case Kind::write: {
      const trace::MemoryWrite write{address, value, static_cast<std::uint8_t>(size)};
      return text_of(trace::Event{write});
    }
    case Kind::event:        return "E " + hex(value, 16) + " " + hex(size, 16) + " " + hex(address, 16) + " (words)";
    case Kind::failed_write: return text_of(trace::Event{trace::FailedWrite{address, size}});
    case Kind::message:      return text_of(trace::Event{trace::Message{address, static_cast<std::uint32_t>(value)}});
    case Kind::routes:
      return text_of(
          trace::Event{trace::RoutesChanged{static_cast<std::uint32_t>(address), static_cast<std::uint32_t>(value)}});
    case Kind::reply:
      return text_of(trace::Event{
          trace::PageAnswered{static_cast<std::uint32_t>(address), static_cast<std::uint32_t>(value),
                              static_cast<std::uint16_t>(size >> 4), static_cast<std::uint8_t>(size & 0xF)}});
  }
  return {};
}

viommu_host Host::table() {
  viommu_host table{};
  table.size = sizeof table;
  table.opaque = this;
  table.memory_read = read;
  table.memory_write = write;
  table.memory_compare_exchange = compare_exchange;
  table.msi = message;
  table.routes_changed = routes_changed;
  table.region_gone = region_gone;
  table.page_response = page_response;
  table.view_changed = view_changed;
  table.virtio_event = virtio_event;
  if (!of_recording) table.now_ns = clock_of;  // a recording has no time
  return table;
}

std::string missing_feature(const trace::VtdConfiguration& configuration) {
  if (configuration.fault_limit > ~std::uint32_t{0}) return "needs a higher limit on faults than there is";
  return {};
}

viommu_vtd_options options_of(const trace::VtdConfiguration& configuration) {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.capability = configuration.capability;
  options.extended_capability = configuration.extended_capability;
  options.version = configuration.version;
  options.host_address_width =
      configuration.host_address_width != 0 ? configuration.host_address_width : configuration.address_width;
  options.flags = configuration.compress ? VIOMMU_FAULT_COMPRESSION : 0;
  const auto flag = [](bool set, unsigned value) { return set ? value : 0u; };
  if (configuration.scenario)
    options.flags |= flag(configuration.narrow_haw, VIOMMU_NARROW_HAW) |
                     flag(configuration.first_stage_checks, VIOMMU_FIRST_STAGE_CHECKS) |
                     flag(configuration.migratable == trace::Migratable::only, VIOMMU_MIGRATABLE_ONLY) |
                     flag(configuration.share, VIOMMU_SHARE_SPACES) |
                     flag(configuration.unknown == trace::UnknownAbility::legacy, VIOMMU_UNKNOWN_BYPASSES);
  options.policy = configuration.policy == trace::CapabilityPolicy::sync ? VIOMMU_POLICY_SYNC : VIOMMU_POLICY_CHECK;
  options.fault_limit = static_cast<std::uint32_t>(configuration.fault_limit);
  options.mapping_quota = configuration.quota;
  options.fill = VIOMMU_FILL_EXACT;
  options.hash_seed = 1;  // the same run every time
  return options;
}

viommu_message message_of(const trace::Interrupt& asked) {
  constexpr std::uint32_t unknown_source = 0xFFFF;
  const bool unknown = asked.source_id == unknown_source;
  return interrupt_message(static_cast<std::uint16_t>(asked.source_id), asked.address, asked.data,
                           unknown ? std::uint16_t{VIOMMU_MESSAGE_ANY_SOURCE} : std::uint16_t{0});
}

std::optional<viommu_request> request_of(const trace::Translate& asked, bool report) {
  const trace::Access& access = asked.access;
  const bool has_pasid = asked.pasid != trace::no_pasid;
  if (access.translation_request && access.translated) return std::nullopt;
  if (!has_pasid && (access.supervisor || access.execute)) return std::nullopt;  // both belong to a PASID
  viommu_request request{};
  request.iova = asked.iova;
  request.length = length_of(asked);
  request.source = static_cast<std::uint16_t>(asked.source_id);
  // A request that asks for nothing is looked up like a read.
  const std::uint8_t rights = rights_of(access.rights);
  request.access = rights != 0 ? rights : std::uint8_t{VIOMMU_READ};
  unsigned flags = report ? 0 : VIOMMU_NO_REPORT;
  if (has_pasid) {
    flags |= VIOMMU_HAS_PASID;
    request.pasid = asked.pasid;
  }
  if (access.supervisor) flags |= VIOMMU_PRIVILEGED;
  if (access.execute) flags |= VIOMMU_EXECUTE;
  if (access.zero_length) flags |= VIOMMU_ZERO_LENGTH;
  request.flags = static_cast<std::uint8_t>(flags);
  return request;
}

}  // namespace viommu::cli
