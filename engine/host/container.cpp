// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_vfio_container of viommu_host.h.
#include "engine/host/container.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <new>
#include <span>

#include "engine/host/facts.hpp"
#include "engine/host/sized.hpp"

namespace viommu::host {
namespace {

[[nodiscard]] viommu_result check(const Kernel& kernel, std::int32_t fd) noexcept {
  const int version = kernel.number(fd, vfio::get_api_version, 0);
  if (version < 0) return result_of(version);
  if (version != vfio::api_version) return VIOMMU_E_UNSUPPORTED;
  const int there = kernel.number(fd, vfio::check_extension, vfio::type1v2);
  if (there < 0) return result_of(there);
  return there == 0 ? VIOMMU_E_UNSUPPORTED : VIOMMU_OK;
}

/// Puts groups into a container, and takes them out again unless it is told to keep them.
class Joining {
 public:
  Joining(const Kernel& kernel, std::span<const std::int32_t> groups) noexcept : kernel_{kernel}, groups_{groups} {}
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;
  ~Joining() {
    while (joined_ != 0) static_cast<void>(kernel_.number(groups_[--joined_], vfio::group_unset_container, 0));
  }
  [[nodiscard]] int join(std::int32_t fd) noexcept {
    for (const std::int32_t group : groups_) {
      const int done = kernel_(group, vfio::group_set_container, fd);
      if (done < 0) return done;
      ++joined_;
    }
    return groups_.empty() ? 0 : kernel_.number(fd, vfio::set_iommu, vfio::type1v2);
  }
  void keep() noexcept { joined_ = 0; }

 private:
  const Kernel& kernel_;
  std::span<const std::int32_t> groups_;
  std::size_t joined_ = 0;
};

[[nodiscard]] int ask(viommu_vfio_container& container, Type1Information& information) noexcept {
  try {
    return container.space.with_side([&](const Type1& side, auto) { return side.information(information); });
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
}

std::int32_t width(void* opaque, std::uint32_t* bits) {
  Type1Information information;
  const int done = ask(*static_cast<viommu_vfio_container*>(opaque), information);
  if (done >= 0) *bits = width_of(information.ranges);
  return std::min(done, 0);
}

std::int32_t iova_ranges(void* opaque, viommu_range* ranges, std::uint32_t capacity, std::uint32_t* count) {
  Type1Information information;
  const int done = ask(*static_cast<viommu_vfio_container*>(opaque), information);
  if (done < 0) return done;
  give(information.ranges, ranges, capacity);
  *count = static_cast<std::uint32_t>(information.ranges.size());
  return 0;
}

std::int32_t page_sizes(void* opaque, std::uint64_t* mask) {
  Type1Information information;
  const int done = ask(*static_cast<viommu_vfio_container*>(opaque), information);
  if (done < 0) return done;
  if (information.page_sizes == 0) return -EOPNOTSUPP;
  *mask = information.page_sizes;
  return 0;
}

}  // namespace
}  // namespace viommu::host

using namespace viommu::host;

extern "C" {

viommu_result viommu_vfio_container_create(const struct viommu_host_kernel* kernel, int32_t fd, const int32_t* groups,
                                           uint32_t group_count, viommu_vfio_container** container) {
  if (container == nullptr || (groups == nullptr && group_count != 0)) return VIOMMU_E_ARGUMENT;
  *container = nullptr;
  Kernel with;
  if (const viommu_result taken = Kernel::take(kernel, with); taken != VIOMMU_OK) return taken;
  if (const viommu_result checked = check(with, fd); checked != VIOMMU_OK) return checked;
  try {
    auto made = std::make_unique<viommu_vfio_container>(with, fd);
    Joining joining{with, {groups, group_count}};
    int done = joining.join(fd);
    if (done >= 0) done = made->space.with_side([](Type1& side, auto) { return side.learn(); });
    if (done < 0) return result_of(done);
    joining.keep();
    *container = made.release();
    return VIOMMU_OK;
  } catch (const std::bad_alloc&) {
    return VIOMMU_E_MEMORY;
  }
}

void viommu_vfio_container_destroy(viommu_vfio_container* container) {
  if (container == nullptr) return;
  container->space.end_log();
  static_cast<void>(container->space.drop());
  delete container;
}

viommu_result viommu_vfio_container_information(viommu_vfio_container* container,
                                                struct viommu_vfio_information* information,
                                                struct viommu_range* ranges, uint32_t capacity) {
  if (container == nullptr || information == nullptr || (ranges == nullptr && capacity != 0)) return VIOMMU_E_ARGUMENT;
  Type1Information known;
  if (const int done = ask(*container, known); done < 0) return result_of(done);
  viommu::host::give(known.ranges, ranges, capacity);
  const auto count = static_cast<std::uint32_t>(known.ranges.size());
  return viommu::host::give({sizeof *information, known.page_sizes, known.dirty_page_sizes, known.dirty_bitmap_bytes,
                             known.mappings_left, count},
                            information);
}

void viommu_vfio_container_events(viommu_vfio_container* container, struct viommu_event* events, uint32_t count) {
  if (container != nullptr && events != nullptr) container->space.apply({events, count});
}

viommu_result viommu_vfio_container_dirty(viommu_vfio_container* container, const struct viommu_dirty_sink* sink) {
  if (container == nullptr) return VIOMMU_E_ARGUMENT;
  viommu_dirty_sink known{};
  if (sink != nullptr && (take(sink, known, sizeof known) != VIOMMU_OK || known.runs == nullptr))
    return VIOMMU_E_ARGUMENT;
  return container->space.log(sink == nullptr ? nullptr : &known);
}

viommu_result viommu_vfio_container_dirty_fetch(viommu_vfio_container* container) {
  return container == nullptr ? VIOMMU_E_ARGUMENT : container->space.fetch();
}

viommu_result viommu_vfio_container_facts(viommu_vfio_container* container, struct viommu_host_facts* facts) {
  if (container == nullptr || facts == nullptr) return VIOMMU_E_ARGUMENT;
  Type1Information known;
  if (const int done = ask(*container, known); done < 0) return result_of(done);
  viommu_host_facts found{};
  found.opaque = container;
  found.backend = VIOMMU_BACKEND_VFIO;
  found.width = width;
  found.page_sizes = page_sizes;
  if (!known.ranges.empty()) found.iova_ranges = iova_ranges;
  return viommu::host::give(found, facts);
}

viommu_result viommu_vfio_container_figures(viommu_vfio_container* container, struct viommu_host_figures* figures) {
  if (container == nullptr) return VIOMMU_E_ARGUMENT;
  return viommu::host::give(container->space.figures(), figures);
}

}  // extern "C"
