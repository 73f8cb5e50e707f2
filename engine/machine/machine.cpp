// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/machine.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

namespace viommu::machine {

void Machine::refuse_for_announcing(SourceId source, Refusal& why) const noexcept {
  why = {};
  why.code = RefusalCode::caching_mode;
  why.source = source;
  why.expected = 1;
  why.decimal = true;
  why.field = front_end_.announcing;
  why.words = "needed by a host-backed device, which has to be told of new mappings";
}

std::optional<Machine::Conduct> Machine::conduct_of(const Candidate& candidate, Refusal& why) const noexcept {
  const Device* const physical = candidate.physical ? registry_.find(*candidate.physical) : nullptr;
  Conduct conduct;
  conduct.ability = candidate.ability.value_or(physical == nullptr ? Ability::able : physical->ability);
  conduct.wish = candidate.wish == Wish::unset && physical != nullptr ? physical->wish : candidate.wish;
  if (candidate.is_virtio && !candidate.offers_platform) conduct.ability = Ability::not_able;
  Decision decision = way_for(conduct.ability, conduct.wish, policy_.unknown);
  if (candidate.bypassed) decision = {Way::system, conduct.wish == Wish::translate};
  conduct.way = decision.way;
  if (!decision.refused) return conduct;
  if (decision.way == Way::blocked) {
    why.code = RefusalCode::unknown_ability;
    why.field = "ability";
    why.words = "not known to pass the unit, and not known to bypass it";
  } else {
    why.code = RefusalCode::cannot_translate;
    why.field = "wish";
    why.words = candidate.bypassed ? "to be translated, on a bus that bypasses" : "to be translated, and not able to";
  }
  return std::nullopt;
}

bool Machine::lacks_memory(const Device& device, Refusal& why) const noexcept {
  if (device.bypassed) return false;  // the table does not tell of it
  for (const GpaRange& range : device.reserved_memory) {
    const std::optional<Gpa> hole = front_end_.memory_hole(front_end_.opaque, range);
    if (!hole) continue;
    why = {};
    why.code = RefusalCode::invalid;
    why.source = device.source;
    why.expected = range.first.value;
    why.found = hole->value;
    why.field = "reserved_memory";
    why.words = "reserved memory that is in no region";
    return true;
  }
  return false;
}

bool Machine::vetoed(const Candidate& candidate, Refusal& why) const noexcept {
  for (const Veto& veto : std::span{vetoes_}.first(veto_count_)) {
    why.veto_text = {};
    if (veto.refuses(veto.opaque, candidate, why.veto_text.data(), why.veto_text.size()) == 0) continue;
    why.veto_text.back() = '\0';
    why.code = RefusalCode::vetoed;
    return true;
  }
  return false;
}

bool Machine::is_another(const Device& device, const Candidate& candidate, bool bypassed, Refusal& why) noexcept {
  if (device.bypassed != bypassed) {
    why.field = "Bypassed";
    why.expected = device.bypassed ? 1 : 0;
    why.found = bypassed ? 1 : 0;
  } else if (device.alias != candidate.alias) {
    why.field = "alias";
    why.expected = device.requester().value;
    why.found = candidate.alias.value_or(device.source).value;
  } else {
    return false;
  }
  why.code = RefusalCode::invalid;
  why.words = "another than before, of a device that is there";
  return true;
}

Admitted Machine::add(const Candidate& candidate, Refusal& why, const Placement& placement) noexcept {
  why = {};
  why.source = candidate.source;
  Device* device = registry_.find(candidate.source);
  if (device != nullptr && !device->facts_withdrawn) {
    why.code = RefusalCode::already_exists;
    why.words = "there is such a device already";
    return Admitted::refused;
  }
  const std::optional<Conduct> conduct = conduct_of(candidate, why);
  if (!conduct) return Admitted::refused;
  const bool bypassed = conduct->way == Way::system;
  if (device != nullptr && is_another(*device, candidate, bypassed, why)) return Admitted::refused;
  const bool running = phase_ == Phase::ready;
  const bool checked = candidate.kind == DeviceKind::host && !bypassed;
  if (running && lacks_announcing(candidate.kind, bypassed)) {
    refuse_for_announcing(candidate.source, why);
    return Admitted::refused;
  }
  Admission admission{front_end_, policy_, running, registry_, allocator_};
  if (checked)
    if (const Admitted admitted = admission.check(candidate, why); admitted != Admitted::yes) return admitted;
  if (running && vetoed(candidate, why)) return Admitted::refused;

  HostArray<GpaRange> reserved;
  if (candidate.reserved_count != 0) {
    if (!reserved.reset(allocator_, candidate.reserved_count)) return Admitted::no_memory;
    std::copy_n(candidate.reserved_memory, candidate.reserved_count, reserved.begin());
  }
  const bool is_new = device == nullptr;
  if (is_new) device = registry_.create(candidate.source);
  if (device == nullptr) return Admitted::no_memory;

  device->alias = candidate.alias;
  device->kind = candidate.kind;
  device->bypassed = bypassed;
  device->offers_platform = candidate.offers_platform;
  device->isolates = candidate.isolates;
  device->ability = conduct->ability;
  device->wish = conduct->wish;
  device->way = conduct->way;
  device->physical = candidate.physical;
  // Facts may come anew while the driver is at work.
  if (is_new || device->is_virtio != candidate.is_virtio)
    device->driver = candidate.is_virtio ? DriverState::none : DriverState::agreed;
  device->is_virtio = candidate.is_virtio;
  device->reserved_memory = std::move(reserved);
  device->facts = checked ? std::optional{std::move(admission.facts)} : std::nullopt;
  device->facts_withdrawn = false;
  device->facts_class = checked ? class_of(*device) : 0;
  if (placement.place != nullptr && !placement.place(placement.opaque, *device)) {
    if (is_new)
      registry_.erase(candidate.source);
    else
      unset_facts(candidate.source);
    return Admitted::unplaced;
  }
  if (checked && admission.narrows()) {
    front_end_.apply(front_end_.opaque, admission.widths);
    narrowed_.store(true, std::memory_order_release);
  }
  if (checked && admission.page_sizes != 0 && !running)
    front_end_.set_page_sizes(front_end_.opaque, admission.page_sizes);
  return Admitted::yes;
}

std::uint64_t Machine::class_of(const Device& added) noexcept {
  std::uint64_t alike = 0;
  registry_.for_each([&](const Device& device) {
    if (&device != &added && device.facts && *device.facts == *added.facts) alike = device.facts_class;
  });
  return alike != 0 ? alike : ++facts_classes_;
}

bool Machine::remove(SourceId source) noexcept {
  if (registry_.find(source) == nullptr) return false;
  registry_.erase(source);
  return true;
}

void Machine::unset_facts(SourceId source) noexcept {
  Device* const device = registry_.find(source);
  if (device == nullptr || !device->facts) return;
  device->facts.reset();
  device->facts_withdrawn = true;
}

bool Machine::driver_chose(SourceId source, bool accepted, Refusal& why) noexcept {
  why = {};
  why.source = source;
  why.field = "ACCESS_PLATFORM";
  Device* const device = registry_.find(source);
  const bool offered = device != nullptr && device->offers_platform;
  why.expected = offered ? 1 : 0;
  why.found = accepted ? 1 : 0;
  why.decimal = true;
  if (device == nullptr || !device->is_virtio || (accepted && !offered)) {
    why.code = RefusalCode::invalid;
    why.words = accepted ? "accepted, and not offered" : "of no virtio device";
    return false;
  }
  if (offered && !accepted) {
    device->driver = DriverState::refused;
    why.code = RefusalCode::not_supported;
    why.words = "offered, and not accepted: the device would go round the unit";
    return false;
  }
  device->driver = DriverState::agreed;
  return true;
}

void Machine::driver_gone(SourceId source) noexcept {
  Device* const device = registry_.find(source);
  if (device != nullptr && device->is_virtio) device->driver = DriverState::none;
}

Way Machine::way_of(SourceId source) const noexcept {
  const Device* const device = registry_.find(source);
  return device == nullptr ? Way::unit : device->now();
}

bool Machine::put_bridges(std::span<const Bridge> bridges) noexcept {
  HostArray<Bridge> kept;
  if (!kept.reset(allocator_, bridges.size())) return false;
  std::ranges::copy(bridges, kept.begin());
  bridges_ = std::move(kept);
  return true;
}

bool Machine::add_veto(const Veto& veto) noexcept {
  if (veto_count_ == vetoes_.size()) return false;
  vetoes_[veto_count_++] = veto;
  return true;
}

}  // namespace viommu::machine
