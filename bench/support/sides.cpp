// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/sides.hpp"

#include <stdexcept>
#include <utility>

#include "engine/cli/unit.hpp"

namespace viommu::bench {
namespace {

[[nodiscard]] std::uint32_t host_address_width(const trace::VtdConfiguration& configuration) noexcept {
  return configuration.host_address_width != 0 ? configuration.host_address_width : configuration.address_width;
}

[[nodiscard]] std::unique_ptr<AddressDispatch> dispatch_of(const Recording& recording) {
  auto memory = std::make_unique<AddressDispatch>();
  for (const GuestRam::Region& region : recording.ram.regions()) {
    memory->add(ram_section(region.gpa, region.gpa + (region.memory.size() - 1), region.memory.data()));
  }
  return memory;
}

[[nodiscard]] ShapeUnit shape_unit(const trace::VtdConfiguration& configuration) noexcept {
  return {.capability = configuration.capability,
          .extended_capability = configuration.extended_capability,
          .version = configuration.version,
          .host_address_width = host_address_width(configuration)};
}

}  // namespace

Viommu::Viommu(const Recording& recording)
    : outside_{std::make_unique<Outside>()},
      engine_{create_engine(recording, *outside_)},
      reader_{create_reader(engine_)} {
  for (const GuestRam::Region& region : recording.ram.regions()) {
    if (engine_.add_region(region.gpa, region.memory) != VIOMMU_OK) throw std::runtime_error{"a region was refused"};
  }
}

Engine Viommu::create_engine(const Recording& recording, Outside& outside) {
  const viommu_vtd_options options = cli::options_of(recording.configuration);

  viommu_host host{};
  host.size = sizeof host;
  host.opaque = &outside;
  host.memory_read = [](void*, std::uint64_t, void*, std::uint64_t) -> std::int32_t { return -1; };
  host.msi = [](void* opaque, std::uint64_t, std::uint32_t) { ++static_cast<Outside*>(opaque)->messages; };
  host.wake = [](void* opaque) { static_cast<Outside*>(opaque)->woken = true; };

  auto engine = Engine::create_vtd(options, host);
  if (!engine) throw std::runtime_error{"the engine was refused: " + engine.error().text};
  return *std::move(engine);
}

Reader Viommu::create_reader(Engine& engine) {
  auto reader = engine.reader();
  if (!reader) throw std::runtime_error{"the reader was refused: " + reader.error().text};
  return *std::move(reader);
}

void Viommu::process() noexcept {
  outside_->woken = false;
  while (engine_.process().state == VIOMMU_PROCESS_MORE) {
  }
}

Shape::Shape(const Recording& recording)
    : messages_{std::make_unique<std::uint64_t>(0)},
      memory_{dispatch_of(recording)},
      unit_{shape_unit(recording.configuration),
            *memory_,
            {messages_.get(),
             [](void* opaque, std::uint64_t, std::uint32_t) { ++*static_cast<std::uint64_t*>(opaque); }}} {}

}  // namespace viommu::bench
