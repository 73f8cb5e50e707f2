// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What is behind the opaque handles of viommu.h.
#pragma once

#include <viommu/viommu.h>

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "engine/capi/recorder.hpp"
#include "engine/core/host.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/unit.hpp"

namespace viommu::capi {

/// What the machine around the unit is like.
struct MachineSettings {
  bool sync = false;                ///< VIOMMU_POLICY_SYNC
  bool narrow_haw = false;          ///< VIOMMU_NARROW_HAW
  bool first_stage_checks = false;  ///< VIOMMU_FIRST_STAGE_CHECKS
  bool migratable_only = false;     ///< VIOMMU_MIGRATABLE_ONLY
  bool share_spaces = false;        ///< VIOMMU_SHARE_SPACES
  std::uint32_t subscriptions = 0;
  std::uint64_t mapping_quota = 0;  ///< all ones where there is none
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
        hold_report_ns{settings.waist.hold_report_ns},
        machine{settings.machine} {
    if (recorder != nullptr) recorder->belongs_to(host);
  }

  /// The consumers hear of what is dropped.
  [[nodiscard]] viommu::core::WaistOptions listening(viommu::core::WaistOptions options) noexcept {
    options.listener.opaque = this;
    options.listener.pages = [](void* engine, std::span<const viommu::caches::PageScope> scopes) {
      static_cast<viommu_engine*>(engine)->unit.consumers().pages_dropped(scopes);
    };
    options.listener.other = [](void* engine, const viommu::caches::Scope& scope) {
      static_cast<viommu_engine*>(engine)->unit.consumers().dropped(scope);
    };
    return options;
  }

  std::unique_ptr<viommu::capi::Recorder> recorder;  ///< null when nothing is recorded
  viommu::core::Host host;
  viommu::core::Waist waist;
  viommu::vtd::Unit unit;
  std::uint64_t hold_report_ns;
  viommu::capi::MachineSettings machine;
};
