// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/section_sync.hpp"

#include <algorithm>

namespace viommu::consumer {
namespace {

[[nodiscard]] std::uint8_t rights_of(const Section& section) noexcept {
  const Rights rights = section.read_only ? read_only : read_write;
  return static_cast<std::uint8_t>(rights.bits() | (section.mmio ? mmio_right : 0U));
}

[[nodiscard]] std::uint64_t bytes_of(const Sections& sections) noexcept {
  std::uint64_t bytes = 0;
  for (const Section& section : sections.span()) bytes += section.range.last.value - section.range.first.value + 1;
  return bytes;
}

}  // namespace

std::span<const Region> SectionSync::wanted() const noexcept {
  const RegionMap* const map = backing_.map();
  if (mirror_.content().view != View::system || mirror_.gave_up() || map == nullptr) return {};
  return map->regions();
}

bool SectionSync::collect(std::span<const Region> regions, Sections& now) const noexcept {
  // Each failed piece of a withdrawal, of which some are of what is there now, may become one again.
  if (!now.reserve(regions.size() + Delivery::most_failures)) return false;
  for (const Region& region : regions) {
    const IovaRange clip{std::max(Iova{region.range.first.value}, mirror_.range().first),
                         std::min(Iova{region.range.last.value}, mirror_.range().last)};
    // Nobody asked for one that the consumer does not take, so nobody misses it.
    if (clip.last < clip.first || backing_.piece(region.range.first, region.range.last).left_out) continue;
    now.insert({clip, region.host_at({clip.first.value}), region.mmio, region.read_only});
  }
  return true;
}

bool SectionSync::run() noexcept {
  const std::span<const Region> regions = wanted();
  if (regions.empty()) {
    withdraw();
    return true;
  }
  Sections now{mirror_.sections_.allocator()};
  if (!collect(regions, now)) return false;
  const auto held = mirror_.sections_.span();
  std::size_t next = 0;
  const auto withdraw_up_to = [&](Iova last) {
    for (; next < held.size() && held[next].range.first <= last; ++next)
      if (std::ranges::find(now.span(), held[next]) == now.span().end())
        delivery_.unmap(held[next].range, held[next].range.first.value, rights_of(held[next]));
  };
  for (const Section& section : now.span()) {
    if (std::ranges::find(held, section) != held.end()) continue;
    withdraw_up_to(section.range.last);
    delivery_.map(section.range, {section.range.first.value}, section.host, rights_of(section));
  }
  withdraw_up_to({~std::uint64_t{0}});
  delivery_.flush();
  apply_failures(now);
  mirror_.figures_.mappings += now.span().size() - held.size();
  mirror_.figures_.bytes += bytes_of(now) - bytes_of(mirror_.sections_);
  mirror_.sections_ = std::move(now);
  return true;
}

/// Takes no memory: what fails to go has room where all was.
void SectionSync::withdraw() noexcept {
  Sections& held = mirror_.sections_;
  if (held.span().empty()) return;
  for (const Section& section : held.span())
    delivery_.unmap(section.range, section.range.first.value, rights_of(section));
  delivery_.flush();
  const std::size_t mappings = held.span().size();
  const std::uint64_t bytes = bytes_of(held);
  held.clear();
  apply_failures(held);
  mirror_.figures_.mappings -= mappings - held.span().size();
  mirror_.figures_.bytes -= bytes - bytes_of(held);
}

/// What failed to come is not there, and what failed to go is, unless something took its place. An event may be of
/// several sections that go on from one another.
void SectionSync::apply_failures(Sections& now) noexcept {
  std::size_t room = Delivery::most_failures;
  for (const Event& event : delivery_.failures())
    if (event.kind == EventKind::map) cut(now, {{event.iova}, {event.last}}, room);
  for (const Event& event : delivery_.failures())
    if (event.kind == EventKind::unmap) put_back(now, event, room);
  delivery_.forget_failures();
}

void SectionSync::cut(Sections& now, IovaRange range, std::size_t& room) noexcept {
  for (std::size_t i = 0; i < now.span().size() && room > 1;) {  // ends: what is left of a section is not in the range
    const Section whole = now.span()[i];
    if (!whole.range.overlaps(range)) {
      ++i;
      continue;
    }
    now.erase(i);
    const auto keep = [&](Iova first, Iova last) {
      std::byte* const host = whole.host == nullptr ? nullptr : whole.host + (first.value - whole.range.first.value);
      now.insert({{first, last}, host, whole.mmio, whole.read_only});
      --room;
    };
    if (whole.range.first < range.first) keep(whole.range.first, {range.first.value - 1});
    if (range.last < whole.range.last) keep({range.last.value + 1}, whole.range.last);
  }
}

void SectionSync::put_back(Sections& now, const Event& event, std::size_t& room) noexcept {
  const auto insert = [&](std::uint64_t first, std::uint64_t last) {
    now.insert({{{first}, {last}}, nullptr, (event.rights & mmio_right) != 0, (event.rights & write_only.bits()) == 0});
    --room;
  };
  for (std::uint64_t at = event.iova; room != 0;) {  // ends: `at` grows
    const auto after = [&](const Section& section) { return section.range.last.value >= at; };
    const auto next = std::ranges::find_if(now.span(), after);
    if (next == now.span().end() || next->range.first.value > event.last) return insert(at, event.last);
    const IovaRange taken = next->range;
    if (at < taken.first.value) insert(at, taken.first.value - 1);
    if (event.last <= taken.last.value) return;
    at = taken.last.value + 1;
  }
}

}  // namespace viommu::consumer
