// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A consumer that keeps what it is given, with its boundaries, and finds fault with every event that a real one could
// not carry out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>
#include <viommu/viommu.hpp>

namespace viommu::test {

/// What is mapped at some addresses.
struct Extent {
  std::uint64_t iova = 0;
  std::uint64_t length = 0;  ///< 0 for all of 2^64
  std::uint64_t gpa = 0;
  unsigned rights = 0;

  friend bool operator==(const Extent&, const Extent&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Extent& extent) {
    return out << std::hex << "[" << extent.iova << " +" << extent.length << " -> " << extent.gpa << " "
               << extent.rights << "]" << std::dec;
  }
};

/// An event as tests write it.
struct Seen {
  std::uint32_t kind = 0;
  Extent what{};

  friend bool operator==(const Seen&, const Seen&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Seen& seen) {
    return out << (seen.kind == VIOMMU_EVENT_MAP ? 'M' : seen.kind == VIOMMU_EVENT_UNMAP ? 'U' : 'D') << seen.what;
  }
};
[[nodiscard]] inline Seen mapped(std::uint64_t iova, std::uint64_t length, std::uint64_t gpa, unsigned rights = 3) {
  return {VIOMMU_EVENT_MAP, {iova, length, gpa, rights}};
}
/// The gpa of an UNMAP is not compared.
[[nodiscard]] inline Seen unmapped(std::uint64_t iova, std::uint64_t length) {
  return {VIOMMU_EVENT_UNMAP, {iova, length, 0, 0}};
}

class MirrorModel;
/// Host address spaces that consumers share.
struct SpaceHost {
  std::map<std::uint64_t, std::unique_ptr<MirrorModel>> spaces;
  std::vector<std::string> wrong;
};

class MirrorModel {
 public:
  explicit MirrorModel(std::uint32_t declares = 0, std::uint64_t first = 0, std::uint64_t last = 0x7F'FFFF'FFFF) {
    consumer.size = sizeof consumer;
    consumer.opaque = this;
    consumer.notify = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
    consumer.declares = declares;
    consumer.first = first;
    consumer.last = last;
    consumer.events = [](void* opaque, viommu_event* events, std::uint32_t count) {
      for (std::uint32_t i = 0; i < count; ++i) static_cast<MirrorModel*>(opaque)->take(events[i]);
    };
    consumer.report = [](void* opaque, const viommu_consumer_report* report) {
      static_cast<MirrorModel*>(opaque)->reports.push_back(*report);
    };
  }
  MirrorModel(const MirrorModel&) = delete;
  MirrorModel& operator=(const MirrorModel&) = delete;

  viommu_consumer consumer{};
  std::uint64_t id = 0;
  std::vector<Seen> seen;
  std::vector<viommu_consumer_report> reports;
  std::vector<std::string> wrong;                        ///< what no consumer could do
  std::function<bool(const viommu_event& event)> fails;  ///< this event does
  std::function<void()> on_event;
  std::uint64_t maps = 0;
  std::uint64_t unmaps = 0;

  // ---- Where it shares ----
  SpaceHost* host = nullptr;
  std::uint64_t attached = 0;  ///< the space that its device uses; 0: none yet
  /// What it has of spaces is in `with` from now on.
  void share(SpaceHost& with) {
    host = &with;
    consumer.declares |= VIOMMU_CONSUMER_SHARES;
    consumer.attach = [](void* opaque, std::uint64_t space) {
      auto& self = *static_cast<MirrorModel*>(opaque);
      static_cast<void>(self.space(space));
      self.attached = space;
      if (self.on_event) self.on_event();
    };
    consumer.space_gone = [](void* opaque, std::uint64_t space) {
      auto& self = *static_cast<MirrorModel*>(opaque);
      const auto at = self.host->spaces.find(space);
      if (self.on_event) self.on_event();
      if (at == self.host->spaces.end())
        return static_cast<void>(self.host->wrong.emplace_back("a space went that was not there"));
      self.host->wrong.insert(self.host->wrong.end(), at->second->wrong.begin(), at->second->wrong.end());
      self.host->spaces.erase(at);
    };
    consumer.space_events = [](void* opaque, std::uint64_t number, viommu_event* events, std::uint32_t count) {
      auto& self = *static_cast<MirrorModel*>(opaque);
      MirrorModel& space = self.space(number);
      if (self.on_event) self.on_event();
      space.fails = self.fails;
      for (std::uint32_t i = 0; i < count; ++i) space.take(events[i]);
    };
  }
  [[nodiscard]] MirrorModel& space(std::uint64_t number) {
    std::unique_ptr<MirrorModel>& there = host->spaces[number];
    if (!there)
      there = std::make_unique<MirrorModel>(consumer.declares & ~std::uint32_t{VIOMMU_CONSUMER_SHARES}, consumer.first,
                                            consumer.last);
    return *there;
  }

  viommu_result subscribe(viommu_engine* engine, std::uint16_t source, viommu_refusal* refusal = nullptr) {
    return viommu_subscribe(engine, source, &consumer, refusal, &id);
  }
  viommu_result subscribe(Engine& engine, std::uint16_t source, viommu_refusal* refusal = nullptr) {
    return subscribe(engine.get(), source, refusal);
  }
  /// Subscribes and asks for what is there.
  void join(Engine& engine, std::uint16_t source) { join(engine.get(), source); }
  void join(viommu_engine* engine, std::uint16_t source) {
    if (subscribe(engine, source) != VIOMMU_OK || viommu_replay(engine, id) != VIOMMU_OK)
      throw std::logic_error{"a consumer could not join"};
  }
  std::vector<Seen> take_seen() { return std::exchange(seen, {}); }

  /// Maximal runs of what is held, ascending.
  [[nodiscard]] std::vector<Extent> extents() const {
    if (host != nullptr) return attached == 0 ? std::vector<Extent>{} : host->spaces.at(attached)->extents();
    std::vector<Extent> all;
    for (const auto& [iova, unit] : held_) {
      if (!all.empty()) {
        Extent& before = all.back();
        if (before.iova + before.length == iova && before.gpa + before.length == unit.gpa &&
            before.rights == unit.rights) {
          before.length += unit.length;
          continue;
        }
      }
      all.push_back(unit);
    }
    return all;
  }
  [[nodiscard]] std::size_t units() const { return held_.size(); }
  /// Whether something is held between them.
  [[nodiscard]] bool holds_any(std::uint64_t first, std::uint64_t last) const {
    const auto next = held_.upper_bound(last);
    return next != held_.begin() && std::prev(next)->second.iova + (std::prev(next)->second.length - 1) >= first;
  }

 private:
  [[nodiscard]] bool declares(std::uint32_t flag) const { return (consumer.declares & flag) != 0; }
  void complain(const char* what, const viommu_event& event) {
    wrong.push_back(std::string{what} + " " + std::to_string(event.iova) + ".." + std::to_string(event.last));
  }
  void take(viommu_event& event) {
    if (on_event) on_event();
    const std::uint64_t length = event.last - event.iova + 1;
    const bool map = event.kind == VIOMMU_EVENT_MAP;
    ++(map ? maps : unmaps);
    seen.push_back({event.kind, {event.iova, length, map ? event.gpa : 0, map ? event.rights : 0U}});
    if (event.iova < consumer.first || event.last > consumer.last) complain("outside", event);
    if (declares(VIOMMU_CONSUMER_POW2) && ((length & (length - 1)) != 0 || (event.iova & (length - 1)) != 0))
      complain("no power of two", event);
    if (fails && fails(event)) {
      event.status = -5;
      return;
    }
    if (map) {
      if (holds_any(event.iova, event.last)) complain("over what is held", event);
      held_[event.iova] = {event.iova, length, event.gpa, event.rights};
      return;
    }
    if (event.kind != VIOMMU_EVENT_UNMAP) return;
    for (auto unit = held_.begin(); unit != held_.end();) {
      const Extent was = unit->second;
      const std::uint64_t last = was.iova + (was.length - 1);
      if (last < event.iova || was.iova > event.last) {
        ++unit;
        continue;
      }
      const bool cut = was.iova < event.iova || last > event.last;
      if (cut && !declares(VIOMMU_CONSUMER_SPLIT)) complain("cuts an earlier map", event);
      unit = held_.erase(unit);
      if (was.iova < event.iova) held_[was.iova] = {was.iova, event.iova - was.iova, was.gpa, was.rights};
      if (last > event.last)
        held_[event.last + 1] = {event.last + 1, last - event.last, was.gpa + (event.last + 1 - was.iova), was.rights};
    }
  }

  std::map<std::uint64_t, Extent> held_;
};

}  // namespace viommu::test
