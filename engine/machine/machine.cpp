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

Admitted Machine::add(const Candidate& candidate, Refusal& why) noexcept {
  why = {};
  why.source = candidate.source;
  Device* device = registry_.find(candidate.source);
  if (device != nullptr && !device->facts_withdrawn) {
    why.code = RefusalCode::already_exists;
    why.words = "there is such a device already";
    return Admitted::refused;
  }
  const bool running = phase_ == Phase::ready;
  const bool checked = candidate.kind == DeviceKind::host && !candidate.bypassed;
  if (running && lacks_announcing(candidate.kind, candidate.bypassed)) {
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
  if (device == nullptr) device = registry_.create(candidate.source);
  if (device == nullptr) return Admitted::no_memory;

  device->alias = candidate.alias;
  device->kind = candidate.kind;
  device->bypassed = candidate.bypassed;
  device->reserved_memory = std::move(reserved);
  device->facts = checked ? std::optional{std::move(admission.facts)} : std::nullopt;
  device->facts_withdrawn = false;
  device->facts_class = checked ? class_of(*device) : 0;
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

bool Machine::add_veto(const Veto& veto) noexcept {
  if (veto_count_ == vetoes_.size()) return false;
  vetoes_[veto_count_++] = veto;
  return true;
}

}  // namespace viommu::machine
