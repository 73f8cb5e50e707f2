// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A host address space, kept equal to what a device sees of guest memory: all of it at its own addresses, what tables
// map, or nothing.
//
//   aim(content)    a new content: what is held and not in it goes, what is missing comes
//   touch(range)    the tables of the content may have changed there
//   advance()       looks through the tables, a slice at a time, and tells the difference
//   change(range)   touch() and all of advance(), which the consumer carries out or refuses
//
// Tables are the guest's, or mappings that the front end keeps (kept_mappings.hpp). No more than 57 bits of addresses
// are mirrored: what is mapped beyond them is held by nobody, as what is outside of the consumer's range.
//
// Work is in proportion to the tables that are there and to what is held; an address space without either is done at
// once. A table is looked through once for all that is asked of it before. Threads: one at a time.
#pragma once

#include "caches/address_spaces.hpp"
#include "engine/consumer/delivery.hpp"
#include "engine/consumer/event.hpp"
#include "engine/consumer/guest_tables.hpp"
#include "engine/consumer/sections.hpp"
#include "engine/consumer/shadow.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::consumer {

/// What a device sees.
enum class View : std::uint32_t { system, translated, blocked };

struct Content {
  View view = View::blocked;
  caches::AddressSpaceKey key{};  ///< of View::translated

  friend bool operator==(const Content& a, const Content& b) noexcept {
    return a.view == b.view && (a.view != View::translated || a.key == b.key);
  }
};

/// How many tables may be looked through, or what is held of as many taken back, before somebody else has a turn.
class Slice {
 public:
  explicit Slice(std::uint32_t tables) noexcept : left_{tables} {}
  void take(std::uint32_t count = 1) noexcept { left_ -= std::min(left_, count); }
  [[nodiscard]] bool over() const noexcept { return left_ == 0; }

 private:
  std::uint32_t left_;
};

class Mirror {
 public:
  struct Figures {
    std::uint64_t mappings = 0;
    std::uint64_t bytes = 0;
    std::uint64_t split_bytes = 0;
    std::uint64_t tables = 0;
    Told told{};
  };

  /// @param quota  mappings at a time
  Mirror(const HostAllocator& allocator, const Sink& sink, SourceId source, const Declared& declared, IovaRange range,
         std::uint64_t quota) noexcept
      : shadow_{allocator},
        sections_{allocator},
        sink_{sink},
        source_{source},
        declared_{declared},
        range_{range},
        quota_{quota} {}

  /// @param reach  last address that the unit translates at all
  void limit(Iova reach) noexcept { reach_ = std::min(range_.last, reach); }
  void rename(SourceId source) noexcept { source_ = source; }
  /// Another consumer is told from now on, of what the one before was told.
  void tell(const Sink& sink, SourceId source) noexcept {
    sink_ = sink;
    source_ = source;
  }

  void aim(const Content& content) noexcept;
  void touch(IovaRange range) noexcept;
  /// Regions have changed: what is mapped may be memory now, or no longer.
  void regions_changed() noexcept {
    touch(range_);
    job_.regions = true;
  }
  void touch_all() noexcept { touch(range_); }
  /// All that is held goes in one UNMAP of the whole range, where the consumer takes that. @return whether it does
  bool withdraw_whole_range() noexcept;

  [[nodiscard]] bool busy() const noexcept { return job_.pending; }
  void advance(const Tables& tables, Slice& slice) noexcept;
  /// The content has changed in the range, and what the consumer makes of it decides whether that stays so. The first
  /// thing that fails ends it: what has been told by then is as it was told, and undone by the next call. The quota is
  /// no reason to give up, but one to refuse. Not while busy().
  /// @param undo  the content is as it was before the change that was refused: everything is tried, whatever fails, and
  ///              the quota does not count
  /// @return whether the consumer holds what it should
  [[nodiscard]] bool change(IovaRange range, const Tables& tables, bool undo) noexcept;

  // For consumers without MAP: no table is looked at.
  void tell_unmapped(IovaRange range) noexcept;
  void tell_device_unmapped(IovaRange range) noexcept;

  /// Whether it holds nothing because it cannot hold what it should.
  [[nodiscard]] bool gave_up() const noexcept { return gave_up_; }
  [[nodiscard]] const Content& content() const noexcept { return content_; }
  [[nodiscard]] const Declared& declared() const noexcept { return declared_; }
  [[nodiscard]] IovaRange range() const noexcept { return range_; }
  [[nodiscard]] const Figures& figures() const noexcept { return figures_; }
  [[nodiscard]] std::uint64_t shadow_bytes() const noexcept { return shadow_.bytes() + sections_.bytes(); }

 private:
  /// Says something of what of the range is its own.
  template <class Say>
  void tell(IovaRange range, const Say& say) noexcept;
  friend class SlotSync;
  friend class TableSync;
  friend class SectionSync;

  struct Broken {
    IovaRange range{{~std::uint64_t{0}}, {0}};
    std::uint64_t offset = 0;  ///< of gpas from iovas
    std::uint8_t rights = 0;
  };
  /// What a failure, and the quota, come to.
  enum class Terms : std::uint8_t { usual, all_or_nothing, undo };
  struct Job {
    bool pending = false;
    bool regions = false;  ///< what memory is may have changed
    IovaRange range{};
    Iova next{};  ///< where to go on
  };

  /// Whether all that is known of is more than the quota, or takes more memory: few mappings far apart have a tree
  /// above them.
  [[nodiscard]] bool beyond_quota(std::uint64_t more = 0) const noexcept {
    constexpr std::uint64_t tree_bytes = std::uint64_t{64} << 20;
    constexpr std::uint64_t mapping_bytes = 16;
    if (gave_up_ || terms_ == Terms::undo) return false;  // what is there goes, or was there before
    return figures_.mappings + left_out_ + more > quota_ || shadow_.bytes() > tree_bytes + mapping_bytes * quota_;
  }
  /// A first stage is the guest's own affair: it announces no new mapping, so what it maps cannot be mirrored.
  [[nodiscard]] bool supports(const Content& content) const noexcept {
    return !declared_.map || content.view != View::translated ||
           content.key.interpretation == caches::Interpretation::second_stage ||
           content.key.interpretation == caches::Interpretation::mappings;
  }
  void give_up(Delivery& delivery) noexcept;
  void refuse(Delivery& delivery, bool quota, IovaRange looked) noexcept;
  void apply_failures(Delivery& delivery) noexcept;
  void erase(IovaRange range) noexcept;
  void put_back(const Event& event) noexcept;
  [[nodiscard]] bool clear_left_out(Shadow::Node& node, std::size_t index) noexcept;
  [[nodiscard]] bool put_back_large(Iova iova, const MappedRun& run) noexcept;
  void edit_slot(Iova slot, bool make, unsigned first, unsigned last, const MappedRun* instead) noexcept;

  Shadow shadow_;
  Sections sections_;
  Sink sink_;
  SourceId source_;
  Declared declared_;
  IovaRange range_;
  Iova reach_{~std::uint64_t{0}};
  std::uint64_t quota_;
  Content content_;
  Job job_;
  Terms terms_ = Terms::usual;
  bool refused_ = false;
  std::optional<IovaRange> undone_;  ///< that a refused change has left to be looked through
  std::uint64_t left_out_ = 0;       ///< runs that are mapped and not delivered: they take room as mappings do
  Broken broken_;  ///< unit of more than a slot that was withdrawn as a whole, until all is looked through again
  bool gave_up_ = false;
  bool unsupported_ = false;  ///< to be reported
  Figures figures_;
};

}  // namespace viommu::consumer
