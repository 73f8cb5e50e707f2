// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A viommu_consumer of either backend; and whether there is a backend at all.
#include <cstddef>
#include <mutex>

#include "engine/host/container.hpp"
#include "engine/host/iommufd.hpp"
#include "engine/host/iommufd_layouts.hpp"
#include "engine/host/sized.hpp"

namespace viommu::host {
namespace {

viommu_host_consumer& settings_of(void* opaque) noexcept { return *static_cast<viommu_host_consumer*>(opaque); }

void on_events(void* opaque, viommu_event* events, std::uint32_t count) {
  const viommu_host_consumer& settings = settings_of(opaque);
  if (settings.container != nullptr)
    viommu_vfio_container_events(settings.container, events, count);
  else
    viommu_iommufd_device_events(settings.device, events, count);
}

void on_report(void* opaque, const viommu_consumer_report* report) {
  const viommu_host_consumer& settings = settings_of(opaque);
  settings.report(settings.opaque, report);
}

void on_attach(void* opaque, std::uint64_t space) {
  const viommu_host_consumer& settings = settings_of(opaque);
  bool blocked = false;
  const viommu_result attached = attach_or_block(*settings.device, space, &blocked);
  if (attached != VIOMMU_OK && settings.attach_failed != nullptr)
    settings.attach_failed(settings.opaque, space, attached, blocked ? 1 : 0);
}

void on_space_gone(void* opaque, std::uint64_t space) { give_up_space(*settings_of(opaque).device->iommufd, space); }

void on_space_events(void* opaque, std::uint64_t space, viommu_event* events, std::uint32_t count) {
  viommu_iommufd_space_events(settings_of(opaque).device->iommufd, space, events, count);
}

constexpr std::uint32_t choices = VIOMMU_CONSUMER_LEAF | VIOMMU_CONSUMER_NO_BLINK | VIOMMU_CONSUMER_POW2 |
                                  VIOMMU_CONSUMER_SNOOPS | VIOMMU_CONSUMER_MMIO | VIOMMU_CONSUMER_PRIVATE;

[[nodiscard]] viommu_result of_container(viommu_vfio_container& container, viommu_consumer& consumer) noexcept {
  viommu_vfio_information information{};
  information.size = sizeof information;
  const viommu_result asked = viommu_vfio_container_information(&container, &information, nullptr, 0);
  if (asked != VIOMMU_OK) return asked;
  if (information.dirty_page_sizes != 0) consumer.declares |= VIOMMU_CONSUMER_LOGS;
  if (container.kernel.number(container.fd, vfio::check_extension, vfio::cache_coherent) > 0)
    consumer.declares |= VIOMMU_CONSUMER_SNOOPS;
  if (information.mappings_left != ~std::uint32_t{0}) consumer.quota = information.mappings_left;
  return VIOMMU_OK;
}

}  // namespace
}  // namespace viommu::host

using namespace viommu::host;

extern "C" {

viommu_result viommu_host_consumer_init(struct viommu_host_consumer* settings, struct viommu_consumer* consumer) {
  viommu_host_consumer known{};
  if (const viommu_result taken = take(settings, known, sizeof known); taken != VIOMMU_OK) return taken;
  if ((known.container == nullptr) == (known.device == nullptr)) return VIOMMU_E_ARGUMENT;
  const std::uint32_t allowed =
      choices | (known.device != nullptr ? std::uint32_t{VIOMMU_CONSUMER_SHARES} : std::uint32_t{0});
  if ((known.declares & ~allowed) != 0 || known.reserved != 0 || known.last < known.first) return VIOMMU_E_ARGUMENT;

  viommu_consumer made{};
  made.opaque = settings;
  made.notify = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
  made.declares = known.declares;
  made.first = known.first;
  made.last = known.first == 0 && known.last == 0 ? top_address : known.last;
  made.events = on_events;
  if (known.report != nullptr) made.report = on_report;
  // All there is may be taken at once only where all there is belongs to this consumer.
  if (made.first == 0 && made.last == top_address) made.declares |= VIOMMU_CONSUMER_UNMAP_ALL;
  if (known.container != nullptr) {
    if (const viommu_result asked = of_container(*known.container, made); asked != VIOMMU_OK) return asked;
  } else {
    if (known.device->information.logs != 0) made.declares |= VIOMMU_CONSUMER_LOGS;
    if ((known.declares & VIOMMU_CONSUMER_SHARES) != 0) {
      made.attach = on_attach;
      made.space_gone = on_space_gone;
      made.space_events = on_space_events;
      made.share_group = reinterpret_cast<std::uintptr_t>(known.device->iommufd);
    }
  }
  return give(made, consumer);
}

viommu_result viommu_host_probe(const struct viommu_host_kernel* kernel, uint32_t backend, int32_t fd) {
  Kernel with;
  if (const viommu_result taken = Kernel::take(kernel, with); taken != VIOMMU_OK) return taken;
  if (backend == VIOMMU_BACKEND_VFIO) {
    viommu_result checked = VIOMMU_E_UNSUPPORTED;
    const int version = with.number(fd, vfio::get_api_version, 0);
    if (version < 0) return result_of(version);
    const int there = with.number(fd, vfio::check_extension, vfio::type1v2);
    if (version == vfio::api_version && there != 0) checked = result_of(there);
    return checked;
  }
  if (backend != VIOMMU_BACKEND_IOMMUFD) return VIOMMU_E_ARGUMENT;
  iommufd::IoasAlloc alloc;
  if (const int done = with(fd, iommufd::ioas_alloc, alloc); done < 0) return result_of(done);
  iommufd::Destroy destroy;
  destroy.id = alloc.out_ioas_id;
  return result_of(with(fd, iommufd::destroy, destroy));
}

}  // extern "C"
