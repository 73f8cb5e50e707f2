// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The device as its transport and the machine around it see it.
#include "engine/virtio_iommu/device.hpp"

#include <algorithm>

namespace viommu::virtio_iommu {
namespace {

/// The byte counts for nothing in a device that does not offer it.
[[nodiscard]] ConfigValues values_of(const DeviceOptions& options) noexcept {
  ConfigValues values = options.config;
  if (!options.features.bypass_config) values.bypass = false;
  if (!options.features.probe) values.probe_size = 0;
  return values;
}

}  // namespace

Device::Device(const DeviceOptions& options, core::Waist& waist, const core::Host& host) noexcept
    : options_{options},
      offered_{virtio_iommu::offered(options.features)},
      waist_{waist},
      host_{host},
      events_{host},
      views_{host.allocator()},
      config_seen_{values_of(options)},
      config_{values_of(options)},
      domains_{host.allocator(), config_, options.limits, listener()},
      consumers_{waist, host, front_end()},
      completions_{waist, host, options.report_ns},
      tracking_{waist, consumers_} {}

bool Device::reset_memory() noexcept {
  if (!events_.limit(options_.fault_limit) || !faults_.reset(host_.allocator(), options_.accounts)) return false;
  if (!domains_.reset(options_.seed) || !properties_.reset(host_.allocator(), config_.values().probe_size))
    return false;
  if (consumers_.reset(options_.subscriptions) != consumer::Result::ok) return false;
  const std::uint64_t counting = waist_.counts_apart() ? core::RequestMode::counting : 0;
  waist_.set_mode({core::RequestMode::translating | counting});
  return true;
}

// ---- Transport ----

std::uint64_t Device::read_config(std::uint64_t offset, unsigned size) noexcept {
  const std::lock_guard lock{config_lock_};
  return config_seen_.read(offset, size);
}

ConfigWrite Device::write_config(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept {
  ConfigWrite written = ConfigWrite::nothing;
  {
    const std::lock_guard lock{config_lock_};
    written = config_seen_.write(offset, size, value, negotiated());
  }
  if (written == ConfigWrite::bypass) work_again();
  return written;
}

Device::Setup Device::negotiate(Features accepted) noexcept {
  bool agreed = false;
  const bool done = exclusively([&] {
    agreed = !running_ && acceptable(offered_, accepted);
    if (agreed) negotiated_.store(accepted.raw, std::memory_order_release);
  });
  if (!done) return Setup::busy;
  return agreed ? Setup::ok : Setup::refused;
}

Device::Setup Device::set_queue(QueueIndex index, const virtqueue::Config& config,
                                virtqueue::ConfigProblem& problem) noexcept {
  problem = virtqueue::ConfigProblem::none;
  const bool done = exclusively([&] {
    virtqueue::Config whole = config;
    whole.features = ring_features(negotiated());
    if (index == QueueIndex::request) {
      forget_open();
      requests_.disable();
      if (config.size != 0) problem = requests_.enable(whole);
      return;
    }
    events_queued_.store(false, std::memory_order_release);
    events_.disable();
    if (config.size == 0) return;
    problem = events_.enable(whole, {});
    events_queued_.store(running_ && problem == virtqueue::ConfigProblem::none, std::memory_order_release);
    if (running_) run_events();
  });
  if (!done) return Setup::busy;
  return problem == virtqueue::ConfigProblem::none ? Setup::ok : Setup::refused;
}

Device::Setup Device::start() noexcept {
  bool agreed = false;
  const bool done = exclusively([&] {
    agreed = get(negotiated(), features::version_1);  // there is no device without
    if (!agreed) return;
    running_ = true;
    events_queued_.store(events_.queue().enabled(), std::memory_order_release);
  });
  if (!done) return Setup::busy;
  if (!agreed) return Setup::refused;
  work_again();
  return Setup::ok;
}

void Device::notify(QueueIndex) noexcept { work_again(); }

bool Device::reset(ResetKind kind) noexcept {
  return exclusively([&] {
    stop();
    if (kind == ResetKind::system) {
      const std::lock_guard lock{config_lock_};
      config_seen_.system_reset();
    }
    domains_.detach_all();
    follow_bypass();
    consumers_.finish();
    dropped_.clear();
    take_back();
  });
}

// ---- Devices of the machine ----

Domains::Added Device::add_endpoint(EndpointName name, std::span<const ReservedRegion> reserved) noexcept {
  if (views_.of(name.source).kind != EndpointView::Kind::unknown) return Domains::Added::exists;
  if (domains_.knows(name.id)) return Domains::Added::exists;
  if (!views_.prepare(name.source, reserved)) return Domains::Added::no_memory;
  const Domains::Added added = domains_.add_endpoint(name, reserved);
  if (added != Domains::Added::ok) return added;
  views_.name(name.source, name.id);
  views_.put(name.source, domains_.view(name.id));
  if (tap_.added != nullptr) tap_.added(tap_.opaque, name);
  return added;
}

void Device::remove_endpoint(SourceId source) noexcept {
  const Views::Seen seen = views_.of(source);
  if (seen.kind == EndpointView::Kind::unknown) return;
  domains_.remove_endpoint(seen.endpoint);  // moved() publishes it
  if (tap_.removed != nullptr) tap_.removed(tap_.opaque, {seen.endpoint, source});
  consumers_.remove_device(source);
  dropped_.clear();
  take_back();
}

bool Device::set_reserved(SourceId source, std::span<const ReservedRegion> reserved) noexcept {
  const Views::Seen seen = views_.of(source);
  if (seen.kind == EndpointView::Kind::unknown) return true;
  if (!views_.prepare(source, reserved)) return false;
  if (domains_.set_reserved(seen.endpoint, reserved) != Domains::Added::ok) return false;
  views_.name(source, seen.endpoint);
  const EndpointView now = domains_.view(seen.endpoint);
  views_.put(source, now, domains_.covers_reserved(seen.endpoint));
  consumers_.dropped(drop_context(source));
  consumers_.finish();
  dropped_.clear();  // nothing is answered for it
  take_back();
  return true;
}

bool Device::renumber(std::uint8_t from, std::uint8_t to) noexcept {
  if (from == to) return true;
  if (tap_.renumbered != nullptr) tap_.renumbered(tap_.opaque, from, to);
  for (unsigned devfn = 0; devfn <= low_bits(8); ++devfn) {
    const SourceId old{static_cast<std::uint16_t>(unsigned{from} << 8 | devfn)};
    const SourceId now{static_cast<std::uint16_t>(unsigned{to} << 8 | devfn)};
    const Views::Seen seen = views_.of(old);
    if (seen.kind == EndpointView::Kind::unknown) continue;
    EndpointId id = seen.endpoint;
    if ((id.value & low_bits(16)) == old.value) id.value = (id.value & ~std::uint32_t{0xFFFF}) | now.value;
    if (!views_.rename(old, now, id)) return false;
    domains_.rename_endpoint(seen.endpoint, {id, now});
  }
  take_back();
  return true;
}

void Device::set_page_size_mask(std::uint64_t mask) noexcept {
  config_.set_page_size_mask(mask);
  const std::lock_guard lock{config_lock_};
  config_seen_.set_page_size_mask(mask);
}

core::Obstacle Device::obstacle() noexcept {
  core::Obstacle obstacle{"process", "another thread is at the device's work", 0};
  static_cast<void>(exclusively([&] { obstacle = open_work(); }));
  return obstacle;
}

core::Obstacle Device::open_work() noexcept {
  if (const core::Obstacle hold = core::open_hold(waist_)) return hold;
  if (open_)
    return open_->ticket ? core::delay_of(waist_, *open_->ticket) : core::Obstacle{"request", "is not answered", 1};
  if (events_.anything_kept()) return {"event", "is not in the guest's queue", 1};
  if (const core::Obstacle region = core::removed_region(waist_)) return region;
  return tracking_.obstacle();
}

bool Device::collect_dirty() noexcept {
  bool settled = false;
  static_cast<void>(exclusively([&] { settled = tracking_.collect(); }));
  return settled;
}

}  // namespace viommu::virtio_iommu
