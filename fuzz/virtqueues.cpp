// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: for any split ring, each chain that is taken has the bytes that the specification reads there, in its
// order; a queue is broken exactly where the specification has no chain, empty where there is none, and asks for a
// notification when the driver wants one. A packed ring of any bytes leads to chains inside of memory, or to an end.
//
//   head: kind of ring, its size, features     record: an operation, index, address, length, flags, next
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/virtqueue/queue.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/virtqueue/guest.hpp"

namespace viommu::virtqueue {
namespace {

using fuzz::Input;
using fuzz::require;
using fuzz::require_equal;
using test::RingGuest;

constexpr std::uint64_t table = RingGuest::first + 0x10;
constexpr std::uint64_t available = RingGuest::first + 0x1002;
constexpr std::uint64_t used = RingGuest::first + 0x2004;
constexpr std::uint64_t indirect = RingGuest::first + 0x3008;
constexpr std::uint64_t arena = RingGuest::first + 0x4000;
constexpr std::uint64_t cleared_bytes = 0x6000;
constexpr std::size_t most_read = 256;

constexpr std::uint16_t flag_next = 1;
constexpr std::uint16_t flag_write = 2;
constexpr std::uint16_t flag_indirect = 4;

/// A split ring as the specification reads it, one chain at a time, on the guest's memory as it is.
class SplitModel {
 public:
  enum class Found : std::uint8_t { nothing, chain, broken };
  struct Piece {
    std::uint64_t gpa = 0;
    std::uint32_t length = 0;
  };

  SplitModel(const RingGuest& guest, std::uint16_t size, bool may_indirect)
      : guest_{guest}, size_{size}, may_indirect_{may_indirect} {}

  std::uint16_t head = 0;
  std::vector<Piece> readable;
  std::vector<Piece> writable;

  Found take() {
    const auto index = guest_.get<std::uint16_t>(available + 2);
    if (index == next_) return Found::nothing;
    if (static_cast<std::uint16_t>(index - next_) > size_) return Found::broken;
    head = guest_.get<std::uint16_t>(available + 4 + 2ULL * (next_ % size_));
    readable.clear();
    writable.clear();
    if (!follow(table, size_, head, true)) return Found::broken;
    ++next_;
    return Found::chain;
  }
  [[nodiscard]] static std::uint64_t bytes_of(const std::vector<Piece>& pieces) {
    std::uint64_t all = 0;
    for (const Piece& piece : pieces) all += piece.length;
    return all;
  }

 private:
  [[nodiscard]] static bool in_memory(std::uint64_t gpa, std::uint64_t length) {
    return gpa >= RingGuest::first && gpa <= RingGuest::last && length <= RingGuest::last - gpa + 1;
  }
  bool follow(std::uint64_t descriptors, std::uint32_t entries, std::uint32_t index, bool of_ring) {
    for (std::uint32_t count = 0; count < entries; ++count) {
      const std::uint64_t at = descriptors + 16ULL * index;
      if (index >= entries || !in_memory(at, 16)) return false;
      const auto gpa = guest_.get<std::uint64_t>(at);
      const auto length = guest_.get<std::uint32_t>(at + 8);
      const auto flags = guest_.get<std::uint16_t>(at + 12);
      if ((flags & flag_indirect) != 0) {
        if (!of_ring || !may_indirect_ || (flags & flag_next) != 0 || length == 0 || length % 16 != 0) return false;
        return gpa <= ~std::uint64_t{0} - (length - 1) && follow(gpa, length / 16, 0, false);
      }
      if (length != 0) {
        if (!in_memory(gpa, length)) return false;
        const bool writes = (flags & flag_write) != 0;
        if (!writes && !writable.empty()) return false;
        (writes ? writable : readable).push_back({gpa, length});
      }
      if ((flags & flag_next) == 0) return true;
      index = guest_.get<std::uint16_t>(at + 14);
    }
    return false;
  }

  const RingGuest& guest_;
  std::uint16_t size_;
  bool may_indirect_;
  std::uint16_t next_ = 0;
};

class World {
 public:
  static constexpr std::size_t record_bytes = 8;

  World(RingGuest& guest, bool packed, std::uint16_t size, Features features)
      : guest_{guest}, packed_{packed}, size_{size}, features_{features}, model_{guest, size, features.indirect} {
    features_.packed = packed;
    const Config config{size, {table}, {packed ? RingGuest::first + 0x1004 : available}, {used}, features_};
    require(queue_.enable(config) == ConfigProblem::none, "a queue that cannot be enabled");
  }

  void run(Input input) {
    while (!input.empty()) {
      Input record = input.record(record_bytes);
      const unsigned operation = record.below(8);
      const auto index = record.take<std::uint8_t>();
      const auto where = record.take<std::uint16_t>();
      const auto length = record.take<std::uint16_t>();
      const auto flags = record.take<std::uint8_t>();
      const auto next = record.take<std::uint8_t>();
      switch (operation) {
        default: put_descriptor(table, index % size_, where, length, flags, next); break;
        case 3:  put_descriptor(indirect, index % 16, where, length, flags, next); break;
        case 4:  guest_.put<std::uint16_t>(available + 4 + 2ULL * (index % size_), next); break;
        case 5:  announce(index, where, flags); break;
        case 6:  wish(index, where); break;
        case 7:  serve(); break;
      }
    }
    serve();
  }

 private:
  [[nodiscard]] std::uint64_t address_of(std::uint16_t where, bool writes) const {
    const std::uint64_t inside = where & 0x1FFF;
    switch (where >> 13) {
      case 6:  return writes ? arena + inside : RingGuest::first + inside;  // of rings and tables, too
      case 5:  return RingGuest::last - (where & 0xFF);
      case 4:  return (where & 1) != 0 ? ~std::uint64_t{0} - inside : RingGuest::first - (where & 0xFF);
      case 3:  return indirect + (where & 0x1F0);
      default: return arena + inside;
    }
  }
  void put_descriptor(std::uint64_t in, std::uint32_t index, std::uint16_t where, std::uint16_t length,
                      std::uint8_t flags, std::uint8_t next) {
    const std::uint64_t at = in + 16ULL * index;
    const bool writes = (flags & flag_write) != 0 || packed_;
    // A buffer that is written lies apart from what the model reads.
    const bool table_of = (flags & flag_indirect) != 0;
    std::uint64_t gpa =
        table_of ? address_of(static_cast<std::uint16_t>((where & 0x1FFF) | 0x6000), false) : address_of(where, writes);
    if (!table_of && writes && where >> 13 == 3) gpa = arena + (where & 0x1F0);
    std::uint32_t bytes = length & 0x3FF;
    if ((length & 0x8000) != 0) bytes = table_of ? 16U * (length & 15) : ~std::uint32_t{0} - bytes;
    guest_.put<std::uint64_t>(at, gpa);
    guest_.put<std::uint32_t>(at + 8, bytes);
    if (packed_) {
      guest_.put<std::uint16_t>(at + 12, next);
      guest_.put<std::uint16_t>(at + 14,
                                static_cast<std::uint16_t>((flags & 7) | (flags & 8) << 4 | (flags & 16) << 11));
    } else {
      guest_.put<std::uint16_t>(at + 12, flags & 7);
      guest_.put<std::uint16_t>(at + 14, next);
    }
  }
  void announce(std::uint8_t more, std::uint16_t raw, std::uint8_t flags) {
    made_ = static_cast<std::uint16_t>((flags & 1) != 0 ? raw : made_ + more % (size_ + 1));
    if (!packed_) guest_.put<std::uint16_t>(available + 2, made_);
  }
  void wish(std::uint8_t flags, std::uint16_t event) {
    if (packed_) return;
    guest_.put<std::uint16_t>(available, flags & 1);
    guest_.put<std::uint16_t>(available + 4 + 2ULL * size_, event);
  }
  [[nodiscard]] bool wants(std::uint16_t before, std::uint16_t now) const {
    if (!features_.event_index) return now != before && guest_.get<std::uint16_t>(available) == 0;
    const auto event = guest_.get<std::uint16_t>(available + 4 + 2ULL * size_);
    return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
  }

  void serve() {
    if (broken_) return;
    const Memory memory{guest_.memory()};
    const std::uint16_t before = put_;
    const RunResult result = queue_.run(memory, chain_, 64, [&](const Chain& chain) {
      ++fuzz::work_done;
      if (!packed_) compare(memory, chain);
      check_inside(chain);
      const std::array<std::byte, 4> answer{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
      const std::size_t count = std::min<std::uint64_t>(answer.size(), chain.writable_bytes());
      require(chain.write(memory, 0, std::span{answer}.first(count)), "a reply that cannot be written");
      if (!packed_) remember(chain.token().id, static_cast<std::uint32_t>(count));
      return Served{Served::Outcome::done, static_cast<std::uint32_t>(count)};
    });
    broken_ = result.stop == RunResult::Stop::broken;
    require_equal(queue_.problem() != Problem::none, broken_, "a problem of a queue that is not broken");
    if (packed_) return;
    if (result.stop != RunResult::Stop::more)
      require_equal(static_cast<unsigned>(model_.take()),
                    static_cast<unsigned>(broken_ ? SplitModel::Found::broken : SplitModel::Found::nothing),
                    "why a run ends");
    if (broken_) return;
    require_equal(result.notify, wants(before, put_), "whether the driver is notified");
    require_equal(guest_.get<std::uint16_t>(used + 2), put_, "index of the used ring");
  }
  void compare(const Memory& memory, const Chain& chain) {
    require(model_.take() == SplitModel::Found::chain, "a chain where there is none");
    require_equal(chain.token().id, model_.head, "head of a chain");
    require_equal(chain.readable_bytes(), SplitModel::bytes_of(model_.readable), "readable bytes");
    require_equal(chain.writable_bytes(), SplitModel::bytes_of(model_.writable), "writable bytes");
    std::vector<std::byte> right;
    for (const SplitModel::Piece& piece : model_.readable)
      for (std::uint32_t i = 0; i < piece.length && right.size() < most_read; ++i)
        right.push_back(guest_.get<std::byte>(piece.gpa + i));
    std::vector<std::byte> found(right.size());
    require(chain.read(memory, 0, found), "bytes that cannot be read");
    require(found == right, "bytes of a chain");
  }
  static void check_inside(const Chain& chain) {
    for (const std::span<const Segment> part : {chain.readable(), chain.writable()})
      for (const Segment& segment : part)
        require(segment.size_bytes != 0 && segment.gpa.value >= RingGuest::first &&
                    segment.gpa.value <= RingGuest::last &&
                    segment.size_bytes <= RingGuest::last - segment.gpa.value + 1,
                "a segment outside of memory");
  }
  void remember(std::uint16_t id, std::uint32_t length) {
    const std::uint64_t at = used + 4 + 8ULL * (put_ % size_);
    if (put_ != 0) require_equal(guest_.get<std::uint32_t>(last_at_), last_id_, "id of a used element");
    if (put_ != 0) require_equal(guest_.get<std::uint32_t>(last_at_ + 4), last_length_, "length of a used element");
    last_at_ = at;
    last_id_ = id;
    last_length_ = length;
    ++put_;
  }

  RingGuest& guest_;
  bool packed_;
  std::uint16_t size_;
  Features features_;
  SplitModel model_;
  Queue queue_;
  Chain chain_;
  bool broken_ = false;
  std::uint16_t made_ = 0;
  std::uint16_t put_ = 0;
  std::uint64_t last_at_ = 0;
  std::uint32_t last_id_ = 0;
  std::uint32_t last_length_ = 0;
};

constexpr std::size_t head_bytes = 2;
constexpr std::array<fuzz::Cell, 6> cells{{{0, 1}, {1, 1}, {2, 2}, {4, 2}, {6, 1}, {7, 1}}};
constexpr fuzz::RecordShape shape{head_bytes, World::record_bytes, cells, {}};

}  // namespace
}  // namespace viommu::virtqueue

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::virtqueue;
  static RingGuest guest{viommu::test::Reach::mapped};
  // As it was for the input before; what is beyond is never written.
  for (std::uint64_t at = 0; at < cleared_bytes; at += 8)
    guest.put<std::uint64_t>(RingGuest::first + at, at >= 0x4000 ? at : 0);
  for (std::uint64_t at = 0; at < 0x200; at += 8) guest.put<std::uint64_t>(RingGuest::last - 0x1FF + at, at);
  viommu::fuzz::Input input{data, size};
  const auto kind = input.take<std::uint8_t>();
  const auto ring_size = static_cast<std::uint16_t>(1U << (kind >> 3 & 5));
  World{guest, (kind & 1) != 0, ring_size, {(kind & 2) != 0, (kind & 4) != 0, false}}.run(
      (static_cast<void>(input.take<std::uint8_t>()), input));
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::virtqueue::shape, data, size, most, seed);
}
