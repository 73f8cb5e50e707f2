// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/admission.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>

#include "engine/machine/fields.hpp"

namespace viommu::machine {
namespace {

constexpr unsigned widest = 64;

[[nodiscard]] std::span<const IovaRange> all_of(const HostArray<IovaRange>& ranges) noexcept {
  return {ranges.begin(), ranges.size()};
}

/// Not empty, and each begins behind the one before.
[[nodiscard]] bool ascending(std::span<const IovaRange> ranges) noexcept {
  for (std::size_t i = 0; i < ranges.size(); ++i)
    if (ranges[i].last < ranges[i].first || (i != 0 && ranges[i].first <= ranges[i - 1].last)) return false;
  return true;
}

/// The first fact in which two hosts differ for devices that look the same to them; empty when in none.
[[nodiscard]] std::string_view difference(const HostFacts& a, const HostFacts& b) noexcept {
  if (a.has_ranges != b.has_ranges || !std::ranges::equal(all_of(a.ranges), all_of(b.ranges))) return "iova_ranges";
  if (a.page_sizes != b.page_sizes) return "page_sizes";
  if (a.width != b.width) return "width";
  return {};
}

}  // namespace

Admission::Admission(const FrontEnd& front_end, const Policy& policy, bool frozen, const Registry& registry,
                     const HostAllocator& allocator) noexcept
    : front_end_{front_end},
      policy_{policy},
      frozen_{frozen},
      may_narrow_{policy.sync && !frozen},
      registry_{registry},
      allocator_{allocator},
      own_words_{has_words() ? front_end.words(front_end.opaque) : VendorWords{}},
      own_{has_words() ? Widths{static_cast<unsigned>(input_bits_field(front_end.fields).value(own_words_)) + 1,
                                front_end.host_address_width(front_end.opaque)}
                       : Widths{}} {
  widths = own_;
}

Admitted Admission::check(const Candidate& candidate, Refusal& why) noexcept {
  candidate_ = &candidate;
  why_ = &why;
  facts.backend = candidate.facts->backend;
  for (const Step step :
       {&Admission::check_kind, &Admission::check_width, &Admission::check_host_address_width, &Admission::check_fields,
        &Admission::check_pages_and_ranges, &Admission::check_alias, &Admission::check_migration})
    if (const Admitted admitted = (this->*step)(); admitted != Admitted::yes) return admitted;
  return Admitted::yes;
}

Admitted Admission::refuse(RefusalCode code, std::string_view field, const char* words, std::uint64_t expected,
                           std::uint64_t found, bool decimal) noexcept {
  why_->code = code;
  why_->field = field;
  why_->words = words;
  why_->expected = expected;
  why_->found = found;
  why_->decimal = decimal;
  return Admitted::refused;
}

/// @param code  what the host's function answered, 0 where there is none
Admitted Admission::cannot_be_had(std::string_view fact, std::int32_t code) noexcept {
  return refuse(RefusalCode::field_mismatch, fact,
                code == 0 ? "needed, and the host's backend does not have it" : "the host's backend could not tell it",
                0, static_cast<std::uint64_t>(-std::int64_t{code}));
}

Admitted Admission::check_kind() noexcept {
  const FactFunctions& ask = *candidate_->facts;
  if (policy_.mode == CheckMode::first_stage && facts.backend != Backend::iommufd)
    return refuse(RefusalCode::need_iommufd, "backend", "a host that walks the first stage is told of it by iommufd",
                  static_cast<std::uint64_t>(Backend::iommufd), static_cast<std::uint64_t>(facts.backend));
  if (ask.kind != nullptr) {
    std::uint32_t kind = 0;
    if (const std::int32_t code = ask.kind(ask.opaque, &kind); code != 0) return cannot_be_had("kind", code);
    facts.kind = kind;
  }
  if (!needs_words()) return Admitted::yes;
  if (!facts.kind) return cannot_be_had("kind", 0);
  if (*facts.kind != front_end_.vendor)
    return refuse(RefusalCode::host_type, "kind", "incompatible host IOMMU type", front_end_.vendor, *facts.kind);
  return Admitted::yes;
}

Admitted Admission::ask_capabilities() noexcept {
  const FactFunctions& ask = *candidate_->facts;
  if (ask.capabilities == nullptr) return needs_words() ? cannot_be_had("capabilities", 0) : Admitted::yes;
  if (facts.kind != front_end_.vendor) return Admitted::yes;  // another vendor's words mean nothing here
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  if (const std::int32_t code = ask.capabilities(ask.opaque, &first, &second); code != 0)
    return cannot_be_had("capabilities", code);
  facts.words = VendorWords{first, second};
  return Admitted::yes;
}

Admitted Admission::check_width() noexcept {
  const FactFunctions& ask = *candidate_->facts;
  if (!has_words()) return Admitted::yes;  // its ranges say what can be mapped
  if (ask.width != nullptr) {
    std::uint32_t bits = 0;
    if (const std::int32_t code = ask.width(ask.opaque, &bits); code != 0) return cannot_be_had("width", code);
    if (bits == 0 || bits > widest)
      return refuse(RefusalCode::field_mismatch, "width", "no width of addresses", widest, bits);
    facts.width = bits;
  } else if (facts.backend == Backend::vfio) {
    // It has no such fact, but it says what can be mapped.
    if (const Admitted asked = ask_ranges(); asked != Admitted::yes) return asked;
    const std::span ranges = all_of(facts.ranges);
    facts.width = ranges.empty() ? widest : static_cast<unsigned>(std::bit_width(ranges.back().last.value));
  } else {
    return cannot_be_had("width", 0);
  }
  if (const Admitted asked = ask_capabilities(); asked != Admitted::yes) return asked;
  const CapabilityField& field = input_bits_field(front_end_.fields);
  if (may_narrow_) {
    widths.input_bits = std::min(own_.input_bits, facts.width);
    if (facts.words)
      widths.input_bits = std::min(widths.input_bits, static_cast<unsigned>(field.value(*facts.words)) + 1);
    return Admitted::yes;
  }
  if (facts.width < own_.input_bits)
    return refuse(RefusalCode::width_too_small, field.name, "the host's input addresses have fewer bits",
                  own_.input_bits, facts.width);
  return Admitted::yes;
}

Admitted Admission::check_host_address_width() noexcept {
  if (widths.input_bits == own_.input_bits || widths.input_bits >= own_.host_address_width) return Admitted::yes;
  if (!policy_.narrow_haw)
    return refuse(RefusalCode::narrows_haw, "HAW", "the host would narrow guest-physical addresses",
                  own_.host_address_width, widths.input_bits);
  const std::optional end = front_end_.memory_end(front_end_.opaque);
  if (end && end->value > low_bits(widths.input_bits))
    return refuse(RefusalCode::narrows_haw, "RAM", "guest memory ends above what the host leaves",
                  end->value == ~std::uint64_t{0} ? end->value : end->value + 1, widths.input_bits, false);
  widths.host_address_width = widths.input_bits;
  return Admitted::yes;
}

Admitted Admission::check_fields() noexcept {
  if (facts.words) {
    VendorWords left = own_words_;
    input_bits_field(front_end_.fields).put(left, widths.input_bits - 1);
    const CapabilityField* const field = first_mismatch(front_end_.fields, policy_.mode, left, *facts.words);
    if (field != nullptr && field->meaning == FieldMeaning::nesting)
      return refuse(RefusalCode::nesting_unsupported, field->name, "the host cannot nest its stage behind the guest's",
                    1, field->value(*facts.words));
    if (field != nullptr)
      return refuse(RefusalCode::field_mismatch, field->name, "the host has less of it", field->value(left),
                    field->value(*facts.words));
  }
  if (!narrows()) return Admitted::yes;
  if (const std::string_view name = front_end_.problem(front_end_.opaque, widths); !name.empty())
    return refuse(RefusalCode::field_mismatch, name, "nothing of it would be left beside this host", own_.input_bits,
                  widths.input_bits);
  return Admitted::yes;
}

Admitted Admission::ask_ranges() noexcept {
  const FactFunctions& ask = *candidate_->facts;
  if (facts.has_ranges || ask.iova_ranges == nullptr) return Admitted::yes;
  std::uint32_t announced = 0;
  if (const std::int32_t code = ask.iova_ranges(ask.opaque, nullptr, 0, &announced); code != 0)
    return cannot_be_had("iova_ranges", code);
  if (announced > most_iova_ranges)
    return refuse(RefusalCode::field_mismatch, "iova_ranges", "more than can be kept", most_iova_ranges, announced);
  if (announced != 0) {
    if (!facts.ranges.reset(allocator_, announced)) return Admitted::no_memory;
    std::uint32_t written = 0;
    if (const std::int32_t code = ask.iova_ranges(ask.opaque, facts.ranges.begin(), announced, &written); code != 0)
      return cannot_be_had("iova_ranges", code);
    if (written != announced || !ascending(all_of(facts.ranges)))
      return refuse(RefusalCode::field_mismatch, "iova_ranges", "not ascending, or another number of them", announced,
                    written);
  }
  facts.has_ranges = true;
  return Admitted::yes;
}

Admitted Admission::check_pages_and_ranges() noexcept {
  const FactFunctions& ask = *candidate_->facts;
  if (ask.page_sizes != nullptr) {
    std::uint64_t mask = 0;
    if (const std::int32_t code = ask.page_sizes(ask.opaque, &mask); code != 0)
      return cannot_be_had("page_sizes", code);
    facts.page_sizes = mask;
  }
  if (const Admitted admitted = check_page_sizes(); admitted != Admitted::yes) return admitted;
  return ask_ranges();
}

Admitted Admission::check_page_sizes() noexcept {
  if (front_end_.page_sizes == nullptr) return Admitted::yes;
  const std::uint64_t own = front_end_.page_sizes(front_end_.opaque);
  page_sizes = own;
  if (!facts.page_sizes) return Admitted::yes;  // a backend that does not say maps what the CPU's pages are made of
  if (frozen_) {
    const std::uint64_t granule = own & (~own + 1);
    if ((*facts.page_sizes & granule) == 0)
      return refuse(RefusalCode::granule_frozen, "page_sizes", "the host cannot map what the guest may ask for",
                    granule, *facts.page_sizes, false);
    return Admitted::yes;
  }
  page_sizes = own & *facts.page_sizes;
  if (page_sizes == 0)
    return refuse(RefusalCode::page_sizes_disjoint, "page_sizes", "none of them are the host's", own, *facts.page_sizes,
                  false);
  return Admitted::yes;
}

Admitted Admission::check_alias() noexcept {
  const SourceId requester = candidate_->alias.value_or(candidate_->source);
  if (policy_.mode == CheckMode::first_stage && requester != candidate_->source)
    return refuse(RefusalCode::alias_conflict, "alias", "the host walks no tables for a device behind an alias",
                  candidate_->source.value, requester.value, false);
  // All of one alias are one device to the host, so they can only be allowed what is the same for all.
  registry_.for_each([&](const Device& device) {
    if (why_->code != RefusalCode::nothing || !device.facts || device.requester() != requester) return;
    if (const std::string_view fact = difference(facts, *device.facts); !fact.empty())
      refuse(RefusalCode::alias_conflict, fact, "not that of the device it shares its requester id with",
             device.source.value, requester.value, false);
  });
  return why_->code == RefusalCode::nothing ? Admitted::yes : Admitted::refused;
}

Admitted Admission::check_migration() noexcept {
  if (!narrows() || !policy_.migratable_only) return Admitted::yes;
  return refuse(RefusalCode::migration_not_allowed, input_bits_field(front_end_.fields).name,
                "capabilities would follow this host, and then the machine could not be migrated", own_.input_bits,
                widths.input_bits);
}

}  // namespace viommu::machine
