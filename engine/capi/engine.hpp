// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What is behind the opaque handles of viommu.h.
#pragma once

#include <viommu/viommu.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "engine/capi/bypassing.hpp"
#include "engine/capi/recorder.hpp"
#include "engine/core/host.hpp"
#include "engine/core/waist.hpp"
#include "engine/machine/machine.hpp"
#include "engine/machine/ways.hpp"
#include "engine/vtd/machine_side.hpp"
#include "engine/vtd/unit.hpp"

namespace viommu::capi {

/// What the machine around the unit is like.
struct MachineSettings {
  bool sync = false;                ///< VIOMMU_POLICY_SYNC
  bool narrow_haw = false;          ///< VIOMMU_NARROW_HAW
  bool first_stage_checks = false;  ///< VIOMMU_FIRST_STAGE_CHECKS
  bool migratable_only = false;     ///< VIOMMU_MIGRATABLE_ONLY
  bool share_spaces = false;        ///< VIOMMU_SHARE_SPACES
  bool unknown_bypasses = false;    ///< VIOMMU_UNKNOWN_BYPASSES
  std::uint32_t subscriptions = 0;
  std::uint64_t mapping_quota = 0;  ///< all ones where there is none
};

/// A veto as the VMM gave it, and whose call it is.
struct VmmVeto {
  viommu_veto given{};
  const core::Host* host = nullptr;
};

/// Options with every default filled in.
struct Settings {
  vtd::Capabilities capabilities;
  vtd::RegisterFile::Options registers;
  core::WaistOptions waist;
  std::uint32_t fault_limit = 0;        ///< records a second of one source
  std::uint64_t device_timeout_ns = 0;  ///< for the answer to a device-TLB invalidation
  MachineSettings machine{};
};

/// Fills in and checks. `text` receives what is wrong, at most `text_size` bytes with the terminating zero.
[[nodiscard]] viommu_result read_settings(const viommu_vtd_options& options, Settings& settings, char* text,
                                          std::size_t text_size) noexcept;
/// The caller's table as this version knows it.
[[nodiscard]] viommu_result read_host(const viommu_host& given, viommu_host& host, char* text,
                                      std::size_t text_size) noexcept;
[[nodiscard]] core::HostFunctions functions_of(const viommu_host& host) noexcept;
[[nodiscard]] machine::Policy policy_of(const MachineSettings& settings) noexcept;

[[nodiscard]] inline viommu_result result_of(core::RegionResult result) noexcept {
  switch (result) {
    case core::RegionResult::ok:        return VIOMMU_OK;
    case core::RegionResult::exists:    return VIOMMU_E_EXISTS;
    case core::RegionResult::not_found: return VIOMMU_E_NOT_FOUND;
    case core::RegionResult::limit:     return VIOMMU_E_LIMIT;
    case core::RegionResult::no_memory: return VIOMMU_E_MEMORY;
  }
  return VIOMMU_E_ARGUMENT;
}

}  // namespace viommu::capi

struct viommu_engine {
  viommu_engine(const viommu::capi::Settings& settings, const viommu::core::HostFunctions& functions,
                std::unique_ptr<viommu::capi::Recorder> sink) noexcept
      : recorder{std::move(sink)},
        host{functions},
        waist{listening(settings.waist), host},
        unit{settings.capabilities,
             settings.registers,
             waist,
             host,
             {settings.waist.hold_report_ns, settings.device_timeout_ns}},
        machine_side{unit, waist.memory()},
        machine{machine_side.front_end(), viommu::capi::policy_of(settings.machine), host.allocator()},
        hold_report_ns{settings.waist.hold_report_ns},
        mapping_quota{settings.machine.mapping_quota},
        share_spaces{settings.machine.share_spaces} {
    if (recorder != nullptr) recorder->belongs_to(host);
    unit.follow(ways);
  }
  // What hangs on a device follows it. Called inside unit.exclusively().
  void on_device_removed(viommu::SourceId source) noexcept {
    unit.consumers().remove_device(source);
    ways.put(source, viommu::machine::Way::unit);
    waist.forget_sources(source);
    bypassing.put(source, false);
  }  ///< before it is
  void on_bus_renumbered(std::uint8_t from, std::uint8_t to) noexcept {
    static_cast<void>(unit.consumers().renumber(from, to));
    ways.renumber(from, to);
    for (const std::uint8_t bus : {from, to}) waist.forget_sources({static_cast<std::uint16_t>(bus << 8)}, 0xFF);
    bypassing.renumber(from, to);
  }

  /// The consumers hear of what is dropped.
  [[nodiscard]] viommu::core::WaistOptions listening(viommu::core::WaistOptions options) noexcept {
    options.listener.opaque = this;
    options.listener.range_ns = &range_ns;
    options.listener.pages = [](void* engine, std::span<const viommu::caches::PageScope> scopes) {
      static_cast<viommu_engine*>(engine)->unit.consumers().pages_dropped(scopes);
    };
    options.listener.other = [](void* engine, const viommu::caches::Scope& scope) {
      static_cast<viommu_engine*>(engine)->unit.consumers().dropped(scope);
    };
    return options;
  }

  /// Of a range that is dropped while somebody mirrors: a look, and what the host does for it, an ioctl and pages to
  /// pin.
  static constexpr std::uint32_t mirrored_range_ns = 2000;
  viommu::Atomic<std::uint32_t> range_ns{0};         ///< what the waist is told of that
  std::unique_ptr<viommu::capi::Recorder> recorder;  ///< null when nothing is recorded
  viommu::core::Host host;
  viommu::core::Waist waist;
  viommu::vtd::Unit unit;
  viommu::vtd::MachineSide machine_side;
  viommu::machine::Machine machine;                                          ///< inside unit.exclusively()
  std::array<viommu::capi::VmmVeto, viommu::machine::most_vetoes> vetoes{};  ///< the machine's refer to them
  std::size_t veto_count = 0;
  viommu::capi::Bypassing bypassing;  ///< those of the machine's devices that never pass the unit
  viommu::machine::Ways ways;         ///< what the requests of all meet now
  std::uint64_t hold_report_ns;
  std::uint64_t mapping_quota;
  const bool share_spaces;
};
