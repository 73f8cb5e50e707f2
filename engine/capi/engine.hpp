// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What is behind the opaque handles of viommu.h.
#pragma once

#include <viommu/viommu.h>
#include <viommu/viommu_virtio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "engine/capi/bypassing.hpp"
#include "engine/capi/front_ends.hpp"
#include "engine/capi/recorder.hpp"
#include "engine/core/host.hpp"
#include "engine/core/waist.hpp"
#include "engine/machine/machine.hpp"
#include "engine/machine/ways.hpp"

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
  core::WaistOptions waist;
  std::uint32_t fault_limit = 0;  ///< records a second of one source
  MachineSettings machine{};
  VtdSettings vtd{};                                 ///< of a unit
  virtio_iommu::DeviceOptions virtio{};              ///< of a device, and
  HostArray<virtio_iommu::ReservedRegion> reserved;  ///< what no endpoint of it may map
};

/// Fills in and checks. `text` receives what is wrong, at most `text_size` bytes with the terminating zero.
[[nodiscard]] viommu_result read_settings(const viommu_vtd_options& options, Settings& settings, char* text,
                                          std::size_t text_size) noexcept;
[[nodiscard]] viommu_result read_settings(const viommu_virtio_options& options, const HostAllocator& allocator,
                                          Settings& settings, char* text, std::size_t text_size) noexcept;
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
  /// @param options  of the front end: viommu::capi::VtdSettings or viommu::virtio_iommu::DeviceOptions
  template <class Options>
  viommu_engine(viommu::capi::Settings& settings, const Options& options, const viommu::core::HostFunctions& functions,
                std::unique_ptr<viommu::capi::Recorder> sink) noexcept
      : recorder{std::move(sink)},
        host{functions},
        waist{listening(settings.waist, std::is_same_v<Options, viommu::capi::VtdSettings>), host},
        front{options, waist, host},
        machine{front.machine_table(), viommu::capi::policy_of(settings.machine), host.allocator()},
        reserved{std::move(settings.reserved)},
        hold_report_ns{settings.waist.hold_report_ns},
        mapping_quota{settings.machine.mapping_quota},
        share_spaces{settings.machine.share_spaces} {
    if (recorder != nullptr) recorder->belongs_to(host);
    front.with([this](auto& either) { either.follow(ways); });
  }
  // What hangs on a device follows it. Called inside front.exclusively().
  /// No device makes requests under the id any more.
  void on_id_unused(viommu::SourceId id) noexcept {
    front.consumers().remove_device(id);
    ways.put(id, viommu::machine::Way::unit);
    waist.forget_sources(id);
  }
  void on_bus_renumbered(std::uint8_t from, std::uint8_t to) noexcept {
    static_cast<void>(front.consumers().renumber(from, to));
    ways.renumber(from, to);
    for (const std::uint8_t bus : {from, to}) waist.forget_sources({static_cast<std::uint16_t>(bus << 8)}, 0xFF);
    bypassing.renumber(from, to);
  }

  /// The consumers of a unit hear of what is dropped; a virtio-iommu tells its own. The waist asks that for mappings.
  [[nodiscard]] viommu::core::WaistOptions listening(viommu::core::WaistOptions options, bool to_drops) noexcept {
    if (to_drops) {
      options.listener.opaque = this;
      options.listener.range_ns = &range_ns;
      options.listener.pages = [](void* engine, std::span<const viommu::caches::PageScope> scopes) {
        static_cast<viommu_engine*>(engine)->front.consumers().pages_dropped(scopes);
      };
      options.listener.other = [](void* engine, const viommu::caches::Scope& scope) {
        static_cast<viommu_engine*>(engine)->front.consumers().dropped(scope);
      };
    }
    options.store.opaque = this;
    options.store.find = [](void* engine, viommu::DomainId domain, viommu::Iova iova,
                            viommu::core::StoredMapping& found) noexcept {
      return static_cast<viommu_engine*>(engine)->front.virtio()->find_mapping(domain, iova, found);
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
  viommu::capi::FrontEnds front;
  viommu::machine::Machine machine;                                          ///< inside front.exclusively()
  std::array<viommu::capi::VmmVeto, viommu::machine::most_vetoes> vetoes{};  ///< the machine's refer to them
  std::size_t veto_count = 0;
  viommu::capi::Bypassing bypassing;  ///< those of the machine's devices that never pass the unit
  viommu::machine::Ways ways;         ///< what the requests of all meet now
  viommu::HostArray<viommu::virtio_iommu::ReservedRegion> reserved;  ///< what no endpoint may map
  std::uint64_t hold_report_ns;
  std::uint64_t mapping_quota;
  const bool share_spaces;
};
