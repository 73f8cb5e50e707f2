// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/regions.hpp"

#include <algorithm>

namespace viommu::cli {
namespace {

constexpr bool within(Range inner, Range outer) noexcept {
  return outer.first <= inner.first && inner.last <= outer.last;
}
constexpr bool meet(Range a, Range b) noexcept { return a.first <= b.last && b.first <= a.last; }

}  // namespace

void Regions::add(Range range, bool mmio) {
  regions_.push_back({range, mmio});
  const auto after =
      std::find_if(parts_.begin(), parts_.end(), [&](const Part& part) { return part.range.first > range.last; });
  parts_.insert(after, {range, mmio, State::there});
}

void Regions::remove(const Region& region) {
  const Range range = region.range;
  std::erase_if(regions_, [&](const Region& r) { return r.range == range; });
  std::erase_if(parts_, [&](const Part& part) { return within(part.range, range); });
}

void Regions::set(Range range, State state) {
  std::vector<Part> parts;
  for (const Part& part : parts_) {
    if (!meet(part.range, range)) {
      parts.push_back(part);
      continue;
    }
    const Range inside{std::max(part.range.first, range.first), std::min(part.range.last, range.last)};
    if (part.range.first < inside.first) parts.push_back({{part.range.first, inside.first - 1}, part.mmio, part.state});
    parts.push_back({inside, part.mmio, state});
    if (inside.last < part.range.last) parts.push_back({{inside.last + 1, part.range.last}, part.mmio, part.state});
  }
  parts_ = std::move(parts);
}

const Regions::Region* Regions::around(Range range) const noexcept {
  const auto found =
      std::find_if(regions_.begin(), regions_.end(), [&](const Region& region) { return within(range, region.range); });
  return found == regions_.end() ? nullptr : &*found;
}

bool Regions::overlaps(Range range) const noexcept {
  return std::any_of(regions_.begin(), regions_.end(), [&](const Region& region) { return meet(region.range, range); });
}

std::optional<bool> Regions::usable(Range range, bool private_too) const noexcept {
  std::optional<bool> mmio;
  std::uint64_t next = range.first;
  for (const Part& part : parts_) {
    if (part.range.last < next) continue;
    const bool allowed = part.state == State::there || (private_too && part.state == State::private_memory);
    if (part.range.first > next || !allowed || (mmio && *mmio != part.mmio)) return std::nullopt;
    mmio = part.mmio;
    if (part.range.last >= range.last) return mmio;
    next = part.range.last + 1;
  }
  return std::nullopt;
}

bool Regions::has_edge(Range range) const noexcept {
  return std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) {
    return part.range.first == range.first || part.range.last == range.last;
  });
}

bool Regions::withheld(std::uint64_t gpa) const noexcept {
  return std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) {
    const bool has_none = part.state == State::discarded || part.state == State::private_memory;
    return within({gpa, gpa}, part.range) && (part.mmio || has_none);
  });
}

}  // namespace viommu::cli
