// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A consumer of a scenario: it holds exactly what it is given, map by map, and says at once what should not have come.
//
//   line begins   what it holds is noted
//   events        each is checked, applied, and counted
//   line ends     bytes taken away and given back as they were, beside some that did change, leave the counts again
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <viommu/viommu.h>

#include "engine/cli/ranges.hpp"
#include "engine/cli/regions.hpp"
#include "engine/trace/event.hpp"

namespace viommu::cli {

/// One map.
struct Held {
  std::uint64_t last = 0;
  std::uint64_t gpa = 0;
  std::uint8_t rights = 0;  // with VIOMMU_MMIO
};
using Holdings = std::map<std::uint64_t, Held>;  // by their first address

struct Extent {
  Range range;
  std::uint64_t gpa = 0;
  std::uint8_t rights = 0;
  friend constexpr bool operator==(const Extent&, const Extent&) = default;
};

/// Maximal runs: alike in rights, and one behind the other at both ends.
[[nodiscard]] std::vector<Extent> extents_of(const Holdings& held);

/// Something that a consumer should not have been told.
struct Complaint {
  std::string event;
  std::string expected;
};

/// What consumers know of the machine around them.
struct Surroundings {
  Regions regions;
  bool dirty_tracking = false;
  std::map<std::uint16_t, std::uint32_t> views;               // the last one told, by source
  std::map<std::uint64_t, std::shared_ptr<Holdings>> spaces;  // host address spaces that devices share
  std::vector<Complaint> complaints;
};

class Consumer {
 public:
  Consumer(const trace::Subscribe& line, bool shares, Surroundings& surroundings);
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;
  Consumer(Consumer&&) = delete;
  Consumer& operator=(Consumer&&) = delete;
  ~Consumer() = default;

  /// What viommu_subscribe() is given; it refers to this object.
  [[nodiscard]] viommu_consumer table();
  /// The same consumer, with nothing in its hands.
  [[nodiscard]] std::unique_ptr<Consumer> fresh() const;

  // ---- What lines say of it ----
  void fail_next(bool unmap, std::uint64_t nth) { (unmap ? failing_unmap_ : failing_map_) = nth; }
  /// No event may come any more.
  void end() { ended_ = true; }
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  /// After each line that could have brought events. `same_view`: its device's view is the one before the line.
  void end_line();

  /// Whether events came since the last end of a line.
  [[nodiscard]] bool in_line() const noexcept { return in_line_; }

  // ---- What lines ask ----
  [[nodiscard]] std::vector<Extent> extents() const { return extents_of(*held_); }
  struct Delta {
    trace::Bytes mapped;
    trace::Bytes unmapped;
  };
  [[nodiscard]] Delta take_delta() { return std::exchange(delta_, {}); }
  struct Counts {
    std::uint64_t maps = 0;
    std::uint64_t unmaps = 0;
  };
  [[nodiscard]] Counts take_counts() { return std::exchange(counts_, {}); }
  [[nodiscard]] std::uint64_t take_reports() { return std::exchange(reports_, 0); }

  [[nodiscard]] const std::string& id() const noexcept { return id_; }
  std::uint16_t source = 0;
  std::uint64_t subscription = 0;  // 0: none

  // The calls of the engine.
  void take(viommu_event& event);
  void take_report() { ++reports_; }
  void attach(std::uint64_t space_number);
  void give_up(std::uint64_t space_number);
  void take_of(std::uint64_t space_number, viommu_event& event);

 private:
  /// Made if need be.
  [[nodiscard]] std::shared_ptr<Holdings> space(std::uint64_t number);
  void begin_line();
  void map(const viommu_event& event);
  void unmap(const viommu_event& event);
  void check_place(const viommu_event& event);
  void check_withdrawal(const viommu_event& event);
  [[nodiscard]] bool is_leaf(const viommu_event& event) const;
  void complain(const viommu_event& event, std::string expected);

  std::string id_;
  trace::ConsumerFlags flags_;
  Range range_;
  bool shares_ = false;
  bool ended_ = false;
  Surroundings& around_;
  std::shared_ptr<Holdings> held_ = std::make_shared<Holdings>();

  std::uint64_t failing_map_ = 0;  // how many operations from now; 0: none
  std::uint64_t failing_unmap_ = 0;
  Delta delta_;
  Counts counts_;
  std::uint64_t reports_ = 0;

  // Of the line that is under way.
  bool in_line_ = false;
  std::uint32_t view_before_ = VIOMMU_VIEW_SYSTEM;
  std::vector<Extent> before_;
  Ranges mapped_;     // in the order of the events, they may overlap
  Ranges withdrawn_;  // the same, what it held of them
};

/// `map IOVA LEN GPA PERM`, or `unmap IOVA LEN`.
[[nodiscard]] std::string text_of(const viommu_event& event);
[[nodiscard]] std::string text_of(const Extent& extent);

}  // namespace viommu::cli
