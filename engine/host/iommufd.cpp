// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_iommufd of viommu_host.h: address spaces and logging; devices are in iommufd_device.cpp.
#include "engine/host/iommufd.hpp"

#include <cerrno>
#include <new>
#include <span>

#include "engine/host/sized.hpp"

namespace viommu::host {
namespace {

/// Makes the space `number`, under the iommufd's lock. May throw.
[[nodiscard]] int make(viommu_iommufd& iommufd, std::uint64_t number, std::shared_ptr<viommu_iommufd::Space>& space) {
  const auto place = iommufd.spaces.try_emplace(number).first;  // nothing can fail once the kernel has made one
  iommufd::IoasAlloc alloc;
  int done = -ENOMEM;
  try {
    done = iommufd.kernel(iommufd.fd, iommufd::ioas_alloc, alloc);
    if (done >= 0) space = std::make_shared<viommu_iommufd::Space>(iommufd.kernel, iommufd.fd, alloc.out_ioas_id);
  } catch (const std::bad_alloc&) {
    iommufd::Destroy destroy;
    destroy.id = alloc.out_ioas_id;
    static_cast<void>(iommufd.kernel(iommufd.fd, iommufd::destroy, destroy));
    done = -ENOMEM;
  }
  if (!space) {
    iommufd.spaces.erase(place);
    return done;
  }
  if (iommufd.sink) static_cast<void>(space->log(&*iommufd.sink));  // empty and unused: no call, so none that fails
  place->second = space;
  return 0;
}

}  // namespace

int find_or_make(viommu_iommufd& iommufd, std::uint64_t number, std::shared_ptr<viommu_iommufd::Space>& space,
                 bool& made) noexcept {
  try {
    const auto at = iommufd.spaces.find(number);
    made = at == iommufd.spaces.end();
    if (made) return make(iommufd, number, space);
    space = at->second;
    return 0;
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
}

}  // namespace viommu::host

using namespace viommu::host;

namespace {

[[nodiscard]] std::shared_ptr<viommu_iommufd::Space> find(viommu_iommufd& iommufd, std::uint64_t space) noexcept {
  const std::lock_guard lock{iommufd.mutex};
  const auto at = iommufd.spaces.find(space);
  return at == iommufd.spaces.end() ? nullptr : at->second;
}

/// Nobody looks for it meanwhile.
[[nodiscard]] viommu_result destroy(viommu_iommufd::Space& space) noexcept {
  if (space.with_side([](const Ioas& side, auto) { return side.used(); })) return VIOMMU_E_BUSY;
  if (const viommu_result cleared = space.clear(); cleared != VIOMMU_OK) return cleared;
  return result_of(space.with_side([](Ioas& side, auto) { return side.destroy(); }));
}

}  // namespace

void viommu::host::destroy_given_up(viommu_iommufd& iommufd) noexcept {
  std::erase_if(iommufd.spaces, [](const auto& known) {
    const bool unused = known.second->with_side([](const Ioas& side, auto) { return side.given_up() && !side.used(); });
    return unused && destroy(*known.second) == VIOMMU_OK;
  });
}

void viommu::host::give_up_space(viommu_iommufd& iommufd, std::uint64_t number) noexcept {
  const std::lock_guard lock{iommufd.mutex};
  const auto at = iommufd.spaces.find(number);
  if (at == iommufd.spaces.end()) return;
  at->second->with_side([](Ioas& side, auto) { side.give_up(); });
  destroy_given_up(iommufd);
}

extern "C" {

viommu_result viommu_iommufd_create(const struct viommu_host_kernel* kernel, int32_t fd, viommu_iommufd** iommufd) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  *iommufd = nullptr;
  Kernel with;
  if (const viommu_result taken = Kernel::take(kernel, with); taken != VIOMMU_OK) return taken;
  try {
    *iommufd = std::make_unique<viommu_iommufd>(with, fd).release();
  } catch (const std::bad_alloc&) {
    return VIOMMU_E_MEMORY;
  }
  return VIOMMU_OK;
}

void viommu_iommufd_destroy(viommu_iommufd* iommufd) {
  if (iommufd == nullptr) return;
  for (const auto& [number, space] : iommufd->spaces) {
    space->end_log();
    static_cast<void>(destroy(*space));
  }
  delete iommufd;
}

viommu_result viommu_iommufd_space_destroy(viommu_iommufd* iommufd, uint64_t space) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  const std::lock_guard lock{iommufd->mutex};
  const auto at = iommufd->spaces.find(space);
  if (at == iommufd->spaces.end()) return VIOMMU_E_NOT_FOUND;
  const viommu_result destroyed = destroy(*at->second);
  if (destroyed == VIOMMU_OK) iommufd->spaces.erase(at);
  return destroyed;
}

void viommu_iommufd_space_events(viommu_iommufd* iommufd, uint64_t space, struct viommu_event* events, uint32_t count) {
  if (iommufd == nullptr || events == nullptr) return;
  std::shared_ptr<viommu_iommufd::Space> found;
  bool made = false;
  int done = 0;
  {
    const std::lock_guard lock{iommufd->mutex};
    done = find_or_make(*iommufd, space, found, made);
  }
  if (found) return found->apply({events, count});
  for (viommu_event& event : std::span{events, count}) event.status = result_of(done);
}

viommu_result viommu_iommufd_dirty(viommu_iommufd* iommufd, const struct viommu_dirty_sink* sink) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  viommu_dirty_sink known{};
  if (sink != nullptr && (take(sink, known, sizeof known) != VIOMMU_OK || known.runs == nullptr))
    return VIOMMU_E_ARGUMENT;
  const std::lock_guard lock{iommufd->mutex};
  if ((sink != nullptr) == iommufd->sink.has_value()) return VIOMMU_OK;
  for (auto at = iommufd->spaces.begin(); at != iommufd->spaces.end(); ++at) {
    const viommu_result done = at->second->log(sink == nullptr ? nullptr : &known);
    if (done == VIOMMU_OK) continue;
    while (at != iommufd->spaces.begin()) static_cast<void>((--at)->second->log(nullptr));  // only a start fails
    return done;
  }
  iommufd->sink.reset();
  if (sink != nullptr) iommufd->sink = known;
  return VIOMMU_OK;
}

viommu_result viommu_iommufd_dirty_fetch(viommu_iommufd* iommufd, uint64_t space) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  const auto found = find(*iommufd, space);
  return found ? found->fetch() : VIOMMU_E_NOT_FOUND;
}

viommu_result viommu_iommufd_figures(viommu_iommufd* iommufd, uint64_t space, struct viommu_host_figures* figures) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  const auto found = find(*iommufd, space);
  return found ? give(found->figures(), figures) : VIOMMU_E_NOT_FOUND;
}

}  // extern "C"
