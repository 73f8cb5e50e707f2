// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices of a machine as a VMM describes them, and the host's IOMMU that it asks.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "tests/behaviour/machine.hpp"
#include "tests/support/saved_state.hpp"

namespace viommu::test {

// InForce of 39 and 48 bits, with caching mode and without, as the requirements have them.
inline constexpr std::uint64_t cap_39_announced = 0x80D2'008C'2226'0286;
inline constexpr std::uint64_t cap_39 = 0x80D2'008C'2226'0206;
inline constexpr std::uint64_t cap_48_announced = 0x80D2'008C'222F'0686;
inline constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606;
inline constexpr std::uint64_t cap_without_widths = 0x80D2'008C'222F'0006;
inline constexpr std::uint64_t ecap_usual = 0xF0'0F4A;  ///< QI, IR, PT
/// SMTS, FSTS, SSTS, NEST, SMPWCS and what they need, for a guest whose first stage the host walks.
inline constexpr std::uint64_t ecap_first_stage = ecap_usual | 0x0001'C800'0400'0000;

inline constexpr std::uint16_t device_a = 0x0100;
inline constexpr std::uint16_t device_b = 0x0200;

[[nodiscard]] inline viommu_vtd_options unit_options(std::uint64_t cap, unsigned haw = 0, std::uint32_t policy = 0,
                                                     std::uint32_t flags = 0) {
  viommu_vtd_options options = usual_options();
  options.capability = cap;
  options.extended_capability = ecap_usual;
  options.host_address_width = haw;
  options.policy = policy;
  options.flags = flags;
  return options;
}

/// CAP of a host with input addresses of `bits`; widths of tables do not count.
[[nodiscard]] inline std::uint64_t host_cap(unsigned bits) {
  return with(vtd::CapabilityRegister{cap_48}, vtd::cap::mgaw, bits - 1).raw;
}

/// The host's IOMMU under one device: what each question is answered with.
class HostIommu {
 public:
  explicit HostIommu(unsigned bits = 48) : width{bits}, cap{host_cap(bits)} {}

  std::uint32_t backend = VIOMMU_BACKEND_IOMMUFD;
  std::uint32_t kind = VIOMMU_HOST_KIND_VTD;
  std::uint32_t width;
  std::uint64_t cap;
  std::uint64_t ecap = ecap_first_stage;
  std::vector<viommu_range> ranges{{0, 0xFEDF'FFFF}, {0xFEF0'0000, 0xFFFF'FFFF'FFFF}};
  std::uint64_t page_sizes = 0x4020'1000;
  std::int32_t error = 0;  ///< what `broken` answers
  std::string broken;      ///< name of a question
  std::string missing;     ///< name of a function that there is not
  std::vector<std::string> asked;
  std::function<void()> during;  ///< called inside each question

  /// What legacy VFIO has: no kind, no registers, no width but that of its ranges.
  static HostIommu legacy(std::vector<viommu_range> usable) {
    HostIommu host;
    host.backend = VIOMMU_BACKEND_VFIO;
    host.ranges = std::move(usable);
    return host;
  }

  [[nodiscard]] viommu_host_facts facts() {
    viommu_host_facts all{};
    all.size = sizeof all;
    all.opaque = this;
    all.backend = backend;
    const bool legacy = backend == VIOMMU_BACKEND_VFIO;
    if (!legacy && missing != "kind")
      all.kind = [](void* self, std::uint32_t* answer) {
        *answer = of(self).kind;
        return of(self).answered("kind");
      };
    if (!legacy && missing != "width")
      all.width = [](void* self, std::uint32_t* answer) {
        *answer = of(self).width;
        return of(self).answered("width");
      };
    if (!legacy && missing != "capabilities")
      all.capabilities = [](void* self, std::uint64_t* cap_word, std::uint64_t* ecap_word) {
        *cap_word = of(self).cap;
        *ecap_word = of(self).ecap;
        return of(self).answered("capabilities");
      };
    if (missing != "iova_ranges")
      all.iova_ranges = [](void* self, viommu_range* into, std::uint32_t capacity, std::uint32_t* count) {
        const auto& known = of(self).ranges;
        *count = static_cast<std::uint32_t>(known.size());
        std::copy_n(known.begin(), std::min<std::size_t>(capacity, known.size()), into);
        return of(self).answered("iova_ranges");
      };
    if (missing != "page_sizes")
      all.page_sizes = [](void* self, std::uint64_t* answer) {
        *answer = of(self).page_sizes;
        return of(self).answered("page_sizes");
      };
    return all;
  }

 private:
  static HostIommu& of(void* self) { return *static_cast<HostIommu*>(self); }
  std::int32_t answered(const char* question) {
    asked.emplace_back(question);
    if (during) during();
    return broken == question ? error : 0;
  }
};

[[nodiscard]] inline viommu_device described(std::uint16_t source, std::uint32_t kind, std::uint32_t flags = 0) {
  viommu_device device{};
  device.size = sizeof device;
  device.source = source;
  device.kind = kind;
  device.flags = flags;
  return device;
}
/// One of a host whose IOMMU answers `facts`.
[[nodiscard]] inline viommu_device host_device(std::uint16_t source, const viommu_host_facts& facts) {
  viommu_device device{};
  device.size = sizeof device;
  device.source = source;
  device.kind = VIOMMU_DEVICE_HOST;
  device.facts = &facts;
  return device;
}

/// Adds `device` with these facts, and keeps nothing of them.
inline viommu_result plug(Engine& engine, viommu_device device, HostIommu* host, viommu_refusal& refusal) {
  refusal = empty_refusal();
  viommu_host_facts facts{};
  if (host != nullptr) facts = host->facts();
  if (host != nullptr) device.facts = &facts;
  const viommu_result result = viommu_device_add(engine.get(), &device, &refusal);
  facts = {};
  return result;
}

/// Plugs a real device. @return the refusal, of VIOMMU_REFUSED_NOTHING when there is none
inline viommu_refusal plug_real(Engine& engine, std::uint16_t source, HostIommu& host) {
  viommu_refusal refusal{};
  const viommu_result result = plug(engine, described(source, VIOMMU_DEVICE_HOST), &host, refusal);
  CHECK(result == (refusal.code == VIOMMU_REFUSED_NOTHING ? VIOMMU_OK : VIOMMU_E_REFUSED));
  return refusal;
}
inline viommu_refusal plug_real(Engine& engine, std::uint16_t source, HostIommu&& host) {
  return plug_real(engine, source, host);
}
inline viommu_result plug_emulated(Engine& engine, std::uint16_t source) {
  viommu_refusal refusal{};
  return plug(engine, described(source, VIOMMU_DEVICE_EMULATED), nullptr, refusal);
}

[[nodiscard]] inline viommu_result make_ready(Engine& engine) {
  std::uint32_t count = 0;
  return viommu_ready(engine.get(), nullptr, 0, &count);
}
[[nodiscard]] inline std::vector<viommu_refusal> refused_at_ready(Engine& engine) {
  std::array<viommu_refusal, 8> refusals{};
  for (viommu_refusal& refusal : refusals) refusal.size = sizeof refusal;
  std::uint32_t count = 0;
  const viommu_result result = viommu_ready(engine.get(), refusals.data(), 8, &count);
  CHECK(result == (count == 0 ? VIOMMU_OK : VIOMMU_E_REFUSED));
  return {refusals.begin(), refusals.begin() + std::min<std::uint32_t>(count, 8)};
}

struct InForce {
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  std::uint32_t haw = 0;

  friend bool operator==(const InForce&, const InForce&) = default;
  friend std::ostream& operator<<(std::ostream& out, const InForce& c) {
    return out << std::hex << c.cap << ' ' << c.ecap << std::dec << ' ' << c.haw;
  }
};
[[nodiscard]] inline InForce capabilities_of(Engine& engine) {
  InForce all;
  REQUIRE(viommu_capabilities_get(engine.get(), &all.cap, &all.ecap, &all.haw) == VIOMMU_OK);
  CHECK(all.cap == engine.mmio_read(offset::capability, 8));
  CHECK(all.ecap == engine.mmio_read(offset::extended_capability, 8));
  return all;
}
[[nodiscard]] inline std::vector<std::string> blockers_of(Engine& engine) {
  std::vector<std::string> all;
  char text[160];
  while (viommu_migration_blocker(engine.get(), static_cast<std::uint32_t>(all.size()), text, sizeof text) == VIOMMU_OK)
    all.emplace_back(text);
  return all;
}
/// Everything countable about an engine, its registers included.
[[nodiscard]] inline std::vector<std::uint64_t> snapshot(Engine& engine) {
  const viommu_statistics s = engine.statistics();
  std::vector<std::uint64_t> all(sizeof s / sizeof(std::uint64_t));
  std::memcpy(all.data(), &s, sizeof s);
  for (std::uint64_t at = 0; at < viommu_mmio_size(engine.get()); at += 4) all.push_back(engine.mmio_read(at, 4));
  return all;
}

[[nodiscard]] inline bool says(const viommu_refusal& refusal, const std::string& words) {
  return std::string{refusal.text}.find(words) != std::string::npos;
}

}  // namespace viommu::test
