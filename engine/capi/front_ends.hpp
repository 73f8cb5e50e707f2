// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The front end of an engine: a VT-d unit or a virtio-iommu, never both; and what both have.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "engine/consumer/consumers.hpp"
#include "engine/core/dma_request.hpp"
#include "engine/core/fault_counts.hpp"
#include "engine/core/host.hpp"
#include "engine/core/role.hpp"
#include "engine/core/waist.hpp"
#include "engine/machine/front_end.hpp"
#include "engine/virtio_iommu/device.hpp"
#include "engine/virtio_iommu/machine_side.hpp"
#include "engine/vtd/machine_side.hpp"
#include "engine/vtd/unit.hpp"

namespace viommu::capi {

struct VtdSettings {
  vtd::Capabilities capabilities;
  vtd::RegisterFile::Options registers;
  vtd::Worker::Times times{};
};

class FrontEnds {
 public:
  FrontEnds(const VtdSettings& settings, core::Waist& waist, const core::Host& host) noexcept
      : either_{std::in_place_type<Vtd>, settings, waist, host} {}
  FrontEnds(const virtio_iommu::DeviceOptions& options, core::Waist& waist, const core::Host& host) noexcept
      : either_{std::in_place_type<Virtio>, options, waist, host} {}
  FrontEnds(const FrontEnds&) = delete;
  FrontEnds& operator=(const FrontEnds&) = delete;

  /// Null where it is the other one.
  [[nodiscard]] vtd::Unit* vtd() noexcept {
    Vtd* const front = std::get_if<Vtd>(&either_);
    return front == nullptr ? nullptr : &front->unit;
  }
  [[nodiscard]] const vtd::Unit* vtd() const noexcept {
    const Vtd* const front = std::get_if<Vtd>(&either_);
    return front == nullptr ? nullptr : &front->unit;
  }
  [[nodiscard]] virtio_iommu::Device* virtio() noexcept {
    Virtio* const front = std::get_if<Virtio>(&either_);
    return front == nullptr ? nullptr : &front->device;
  }
  [[nodiscard]] const virtio_iommu::Device* virtio() const noexcept {
    const Virtio* const front = std::get_if<Virtio>(&either_);
    return front == nullptr ? nullptr : &front->device;
  }

  /// Calls use(unit) or use(device).
  template <class Use>
  decltype(auto) with(const Use& use) noexcept {
    if (Vtd* const front = std::get_if<Vtd>(&either_); front != nullptr) [[likely]]
      return use(front->unit);
    return use(std::get_if<Virtio>(&either_)->device);
  }

  [[nodiscard]] consumer::Consumers& consumers() noexcept {
    return with([](auto& front) -> consumer::Consumers& { return front.consumers(); });
  }
  core::WorkState process(std::uint32_t budget) noexcept {
    return with([=](auto& front) { return front.process(budget); });
  }
  template <class Use>
  [[nodiscard]] bool exclusively(const Use& use) noexcept {
    return with([&](auto& front) { return front.exclusively(use); });
  }
  [[nodiscard]] const core::FaultCounts& fault_counts() noexcept {
    return with([](auto& front) -> const core::FaultCounts& { return front.fault_counts(); });
  }
  /// System reset. @return false when another thread is at the front end's work
  [[nodiscard]] bool reset() noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) return unit->reset();
    return virtio()->reset(virtio_iommu::Device::ResetKind::system);
  }
  /// What the engine calls the domain that the guest calls so; nothing where there is none.
  [[nodiscard]] std::optional<DomainId> domain_of(std::uint32_t id) const noexcept {
    if (const virtio_iommu::Device* const device = virtio(); device != nullptr)
      return device->domains().number_of({id});
    if (id > low_bits(16)) return std::nullopt;
    return DomainId{static_cast<std::uint16_t>(id)};
  }
  /// When something that is waited for is too late; all ones where nothing is.
  [[nodiscard]] std::uint64_t deadline_ns() noexcept {
    const vtd::Unit* const unit = vtd();
    return unit != nullptr ? unit->device_tlbs().deadline_ns() : ~std::uint64_t{0};
  }
  [[nodiscard]] std::uint64_t suppressed_faults(SourceId source) noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) return unit->suppressed_faults(source);
    return virtio()->limited_reports(source);
  }
  [[nodiscard]] machine::FrontEnd machine_table() noexcept {
    if (Vtd* const front = std::get_if<Vtd>(&either_); front != nullptr) return front->side.front_end();
    return std::get_if<Virtio>(&either_)->side.front_end();
  }

  // ---- Requests of devices, inside a guard ----
  [[nodiscard]] core::DmaAnswer translate(core::Reader& reader, const core::DmaRequest& request) noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) [[likely]]
      return unit->dma().translate(reader, request);
    return virtio()->translate(reader, request);
  }
  [[nodiscard]] core::DmaAnswer translate_missed(core::Reader& reader, const core::DmaRequest& request,
                                                 caches::ContextEntry context) noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) [[likely]]
      return unit->dma().translate_missed(reader, request, context);
    return virtio()->translate_missed(reader, request, context);
  }
  template <class Batch>
  void translate_batch(core::Reader& reader, std::size_t count, const Batch& batch) noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) [[likely]]
      return unit->dma().translate_batch(reader, count, batch);
    virtio()->translate_batch(reader, count, batch);
  }
  [[nodiscard]] FaultStatus report_host_fault(core::Reader& reader, const core::DmaRequest& request,
                                              FaultReason reason) noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) return unit->dma().report_host_fault(reader, request, reason);
    return virtio()->report_host_fault(reader, request, reason);
  }
  /// The context that a request would go by; null when it is not cached.
  [[nodiscard]] caches::ContextEntry cached_context(const core::Waist& waist,
                                                    const core::DmaRequest& request) noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) return unit->dma().cached_context(request);
    return waist.find_context(request.source);
  }
  [[nodiscard]] consumer::Content content_of(SourceId source) noexcept {
    if (vtd::Unit* const unit = vtd(); unit != nullptr) return unit->dma().content_of(source);
    return virtio()->content_of(source);
  }

 private:
  struct Vtd {
    Vtd(const VtdSettings& settings, core::Waist& waist, const core::Host& host) noexcept
        : unit{settings.capabilities, settings.registers, waist, host, settings.times}, side{unit, waist.memory()} {}
    vtd::Unit unit;
    vtd::MachineSide side;
  };
  struct Virtio {
    Virtio(const virtio_iommu::DeviceOptions& options, core::Waist& waist, const core::Host& host) noexcept
        : device{options, waist, host}, side{device, waist.memory()} {}
    virtio_iommu::Device device;
    virtio_iommu::MachineSide side;
  };

  std::variant<Vtd, Virtio> either_;
};

}  // namespace viommu::capi
