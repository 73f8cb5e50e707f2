// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/translators.hpp"

#include <stdexcept>

namespace viommu::bench {
namespace {

[[nodiscard]] std::unique_ptr<AddressDispatch> dispatch_to(const SyntheticGuest& guest) {
  auto memory = std::make_unique<AddressDispatch>();
  memory->add(ram_section(0, guest.ram().size() - 1, guest.ram().data()));
  return memory;
}

/// The unit that the library is by default.
[[nodiscard]] ShapeUnit default_unit() {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.iotlb_pages = 1;
  viommu_host host{};
  host.size = sizeof host;
  auto engine = Engine::create_vtd(options, host);
  if (!engine) throw std::runtime_error{"the engine was refused: " + engine.error().text};
  constexpr unsigned widest = 52;
  return {.capability = engine->mmio_read(reg::capability, 8),
          .extended_capability = engine->mmio_read(reg::extended_capability, 8),
          .host_address_width = widest};
}

}  // namespace

QemuTranslator::QemuTranslator(const SyntheticGuest& guest, const Setup& setup)
    : memory_{dispatch_to(guest)},
      unit_{default_unit(),
            *memory_,
            {nullptr, [](void*, std::uint64_t, std::uint32_t) {}},
            {.capacity = setup.shape_capacity, .cached = setup.caches}} {}

FloorTranslator::FloorTranslator(const SyntheticGuest& guest, const Setup&)
    : page_mask_{guest.pages_of_device() - 1},
      devices_{std::make_unique<Device[]>(256)},
      slots_{std::make_unique<Slot[]>(guest.layout().pages)} {
  for (std::uint32_t device = 0; device < guest.layout().devices; ++device) {
    Device& line = devices_[guest.source(device)];
    line = {std::uint64_t{device + 1} << 48, std::size_t{device} * guest.pages_of_device()};
    for (std::uint32_t page = 0; page < guest.pages_of_device(); ++page) {
      const viommu_request request = guest.ask(device, page);
      slots_[line.first + (request.iova >> 12 & page_mask_)] = {line.tag | request.iova >> 12, guest.gpa(request) | 3};
    }
  }
}

}  // namespace viommu::bench
