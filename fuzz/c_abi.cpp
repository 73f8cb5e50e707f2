// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: whatever a VMM asks for, in any order and with any numbers, each call answers with a result that it may
// give; one request has one answer, whether it comes alone, without a reader, in a batch or as a range; handles that
// are not open are not found; and an engine whose readers and holds are closed is destroyed, with nothing left of it.
//
//   head: options     record: a call, small numbers, two large ones
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "fuzz/support/flat_guest.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"

namespace viommu::fuzz {
namespace {

constexpr std::size_t ram_bytes = 0x10000;
constexpr std::uint64_t scalable = 1ULL << 43 | 1ULL << 46 | 1ULL << 47 | 1ULL << 40 | 1ULL << 48;

/// Host memory for regions, of whole pages.
struct alignas(4096) Buffer {
  std::array<std::byte, 0x4000> bytes{};
};

/// A structure whose size a VMM of another version may say: there is room behind it.
template <class T>
struct Sized {
  T value{};
  std::array<std::byte, 512> rest{};
};

class World {
 public:
  static constexpr std::size_t record_bytes = 24;
  static constexpr std::uint64_t most_tracked_bytes = std::uint64_t{1} << 36;

  explicit World(Input& input) {
    const auto choice = input.take<std::uint8_t>();
    const auto raw = input.take<std::uint64_t>();
    Sized<viommu_vtd_options> made;
    viommu_vtd_options& options = made.value;
    options = smallest_options(0x80D2'078C'222F'0606 | ((choice & 1) != 0 ? 0x80U : 0U),
                               0xF0'0F5B | ((choice & 2) != 0 ? 4 | scalable | 1ULL << 29 : 0), 48);
    if ((choice & 4) != 0) spoil(options, choice >> 4, raw);
    if ((choice & 8) != 0) options.flags |= VIOMMU_SHARE_SPACES;
    viommu_host host = guest_.host();
    host.region_gone = [](void*, std::uint64_t) {};
    host.log = [](void*, std::int32_t, const char* text) { require(std::strlen(text) < 4096, "a line of the log"); };
    std::array<char, 64> error{};
    error.back() = 'x';
    check(viommu_create_vtd(&options, &host, error.data(), error.size(), &engine_));
    require(std::memchr(error.data(), 0, error.size()) != nullptr, "a text that does not end");
    if (engine_ == nullptr) return;
    check(viommu_reader_create(engine_, &reader_));
    // Tables that translate something: bus 0, functions 0 and 1, one domain each.
    guest_.store(0x1000, 0x2001);
    for (std::uint64_t function = 0; function < 2; ++function) {
      guest_.store(0x2000 + 16 * function, 0x3001);
      guest_.store(0x2008 + 16 * function, (function + 1) << 8 | 1);
    }
    guest_.store(0x3000, 0x4003);
    guest_.store(0x4000, 0x5003);
    for (std::uint64_t page = 0; page < 16; ++page) guest_.store(0x5000 + 8 * page, 0x10'0003 + (page << 12));
    write(0x20, 8, 0x1000);
    write(0x18, 4, 0x4000'0000);
    write(0x18, 4, 0x8000'0000);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() { end(); }

  void run(Input input) {
    while (engine_ != nullptr && !input.empty()) {
      step(input.record(record_bytes));
      ++work_done;
    }
  }

 private:
  static void spoil(viommu_vtd_options& options, unsigned which, std::uint64_t raw) {
    const auto small = static_cast<std::uint32_t>(raw);
    switch (which) {
      case 0:  options.capability ^= raw; break;
      case 1:  options.extended_capability ^= raw; break;
      case 2:  options.host_address_width = small; break;
      case 3:  options.size = raw % (2 * sizeof options); break;
      case 4:  options.iotlb_pages = small % 0x10000; break;
      case 5:  options.context_entries = small % 0x10002; break;
      case 6:  options.tag_bits = small; break;
      case 7:  options.readers = small % 0x1010; break;
      case 8:  options.holds = small % 0x1000; break;
      case 9:  options.regions = small % 0x10002; break;
      case 10: options.shards = small; break;
      case 11: options.drain = small % 8; break;
      case 12: options.fill = small % 8; break;
      case 13: options.flags = small % 128; break;
      case 14: options.version = small; break;
      default: options.kernel = (raw & 1) != 0 ? "scalar" : "none"; break;
    }
  }
  static void check(viommu_result result) {
    require(std::string_view{viommu_result_text(result)} != "unknown result", "a result that there is not");
  }
  void write(std::uint64_t offset, std::uint32_t size, std::uint64_t value) {
    check(viommu_mmio_write(engine_, offset, size, value));
  }

  void step(Input record) {
    const unsigned call = record.below(24);
    const auto a = record.take<std::uint8_t>();
    const auto b = record.take<std::uint16_t>();
    const auto c = record.take<std::uint32_t>();
    const auto x = record.take<std::uint64_t>();
    const auto y = record.take<std::uint64_t>();
    Sized<viommu_refusal> room;
    viommu_refusal& refusal = room.value;
    refusal.size = (a & 0x80) != 0 ? y % 512 : sizeof refusal;
    switch (call) {
      case 0:
      case 1:
      case 2:  return translate(asked(a, b, c, x));
      case 3:  return translate_range(asked(a, b, c, x), y);
      case 4:  return hold(asked(a, b, c, x), y);
      case 5:  return release(a, x);
      case 6:  return add_region(a, x, y);
      case 7:  return check(viommu_region_remove(engine_, (a & 1) != 0 ? x : b * 0x1000ULL << 8, y));
      case 8:  return check(viommu_region_part(engine_, x, y, a % 5, c));
      case 9:  return write(b, a % 10, x);
      case 10: return read(b, a % 10);
      case 11: return add_device(a, b, c, x, y, refusal);
      case 12: return check(viommu_device_remove(engine_, b));
      case 13: return subscribe(a, b, c, x, y, refusal);
      case 14: return check((a & 1) != 0 ? viommu_replay(engine_, pick(x)) : viommu_unsubscribe(engine_, pick(x)));
      case 15: return interrupt(a, b, c, x);
      case 16: return machine(a, c, x, refusal);
      case 17: return ask_for_pages(a, b, c, x);
      case 18: return statistics(a, b, x);
      case 19: return dump(a, asked(a, b, c, x), y);
      case 20: guest_.store(b & 0xFFF8U, x); return;
      case 21: return guard(a);
      case 22: return state(a, x);
      default: return check(viommu_process(engine_, c % 64, nullptr));
    }
  }
  static viommu_request asked(std::uint8_t flags, std::uint16_t source, std::uint32_t more, std::uint64_t iova) {
    viommu_request made = request(source, iova, static_cast<std::uint8_t>(more & 7), 0, flags);
    // Mostly what the tables are of.
    if ((more & 0x100) == 0) made.source &= 1;
    if ((more & 0x200) == 0) made.iova &= 0x1'1FFF;
    if ((more & 0x400) == 0) made.flags = VIOMMU_NO_REPORT;
    if ((more & 0x800) == 0) made.access = static_cast<std::uint8_t>(1 + more % 3);
    made.pasid = more >> 12;
    made.length = (more & 0x1000) != 0 ? more : 0;
    return made;
  }
  static bool same(const viommu_translation& a, const viommu_translation& b) {
    return a.kind == b.kind && a.reason == b.reason && a.gpa == b.gpa && a.rights == b.rights;
  }

  void translate(const viommu_request& one) {
    viommu_translation alone{};
    const viommu_result result = viommu_translate(reader_, &one, &alone);
    check(result);
    viommu_translation once{};
    require_equal(static_cast<std::uint32_t>(viommu_translate_once(engine_, &one, &once)),
                  static_cast<std::uint32_t>(result), "result of a request without a reader");
    const std::array<viommu_request, 3> three{one, one, one};
    std::array<viommu_translation, 3> answers{};
    const viommu_result batch = viommu_translate_batch(reader_, three.data(), answers.data(), 3);
    if (result == VIOMMU_E_ARGUMENT) return;  // of a batch, one such answer may be a fault of its own
    require(batch == VIOMMU_OK, "a batch of requests that are good alone");
    require_equal(alone.kind == VIOMMU_FAULT, result == VIOMMU_E_FAULT, "a fault and its result");
    require_equal(alone.reason != 0, alone.kind == VIOMMU_FAULT, "a fault and its reason");
    // Nothing changes between them; but dirty flags grow, where a stage has some.
    if (alone.kind != VIOMMU_FAULT) {
      require(once.gpa == alone.gpa && once.kind == alone.kind, "a request without a reader");
      require((alone.mask & (alone.mask + 1)) == 0, "the size of a block");
      require_equal((one.iova ^ alone.gpa) & alone.mask, 0, "a block that is not aligned");
    }
    for (const viommu_translation& in_batch : answers) require(same(in_batch, once), "a request in a batch");
  }
  void translate_range(viommu_request one, std::uint64_t length) {
    one.length = (length & 1) != 0 ? length : length % 0x20000;
    std::array<viommu_piece, 4> pieces{};
    viommu_range_end end{};
    const auto capacity = static_cast<std::uint32_t>(length >> 60) % 5;
    const viommu_result result = viommu_translate_range(reader_, &one, pieces.data(), capacity, &end);
    check(result);
    if (result == VIOMMU_E_ARGUMENT) return;
    require(end.pieces <= capacity, "more pieces than there is room for");
    require_equal(end.complete, end.translated == one.length, "whether a range is complete");
    std::uint64_t at = one.iova;
    for (std::uint32_t i = 0; i < end.pieces; ++i) {
      const viommu_piece& piece = pieces.at(i);
      require(piece.length != 0 && piece.iova == at, "a piece that does not follow the one before");
      for (const std::uint64_t offset : {std::uint64_t{0}, piece.length - 1}) {
        viommu_request inside = one;
        inside.iova = at + offset;
        inside.length = 0;
        viommu_translation answer{};
        static_cast<void>(viommu_translate(reader_, &inside, &answer));
        require_equal(answer.kind, piece.kind, "kind of a piece");
        require_equal(answer.gpa, piece.gpa + offset, "address of a piece");
      }
      at += piece.length;
    }
    require_equal(at - one.iova, end.translated, "bytes of all pieces");
  }
  void hold(const viommu_request& one, std::uint64_t cookie) {
    viommu_translation answer{};
    std::uint64_t handle = 0;
    const viommu_result result = viommu_hold(reader_, &one, cookie, &answer, &handle);
    check(result);
    if (result != VIOMMU_OK) return;
    require(handle != 0 && std::ranges::find(holds_, handle) == holds_.end(), "a handle that is open already");
    holds_.push_back(handle);
  }
  void release(unsigned which, std::uint64_t raw) {
    const bool open = !holds_.empty() && (which & 1) == 0;
    const std::uint64_t handle = open ? holds_[raw % holds_.size()] : raw;
    const bool known = std::ranges::find(holds_, handle) != holds_.end();
    const viommu_result result =
        (which & 2) != 0 ? viommu_hold_revoke(engine_, handle) : viommu_release(engine_, handle);
    require(result == (known ? VIOMMU_OK : VIOMMU_E_NOT_FOUND), "what becomes of a handle");
    std::erase(holds_, handle);
  }
  void add_region(unsigned how, std::uint64_t gpa, std::uint64_t length) {
    viommu_region region{gpa, length, nullptr, how % 10U};
    if ((how & 0x40) == 0) region.gpa = gpa % 16 * 0x10'0000 + 0x10'0000;
    if ((how & 0x20) == 0) region.length = 0x4000;
    if ((region.flags & (VIOMMU_REGION_UNMAPPED | VIOMMU_REGION_MMIO)) == 0) {
      region.hva = buffer_.bytes.data();
      region.length = std::min<std::uint64_t>(region.length, buffer_.bytes.size());
    }
    const bool vast = region.length > most_tracked_bytes;
    if (vast && tracks_) region.length = most_tracked_bytes;
    const viommu_result result = viommu_region_add(engine_, (how & 0x80) != 0 && (how & 0x10) != 0 ? nullptr : &region);
    check(result);
    untrackable_ = untrackable_ || (vast && result == VIOMMU_OK);
  }
  void read(std::uint64_t offset, std::uint32_t size) {
    std::uint64_t value = 0;
    check(viommu_mmio_read(engine_, offset, size, &value));
  }
  void add_device(unsigned a, std::uint16_t source, std::uint32_t c, std::uint64_t x, std::uint64_t y,
                  viommu_refusal& refusal) {
    const std::array<viommu_range, 2> reserved{{{x, y}, {0x1000, 0x1FFF}}};
    Sized<viommu_device> made;
    viommu_device& device = made.value;
    device.size = (a & 0x40) != 0 ? c % 256 : sizeof device;
    device.source = source;
    device.alias = static_cast<std::uint16_t>(c);
    device.kind = a % 4U;
    device.flags = a >> 2 & 3;
    device.reserved_count = c >> 16 & 1;
    device.reserved_memory = reserved.data();
    const viommu_result result = viommu_device_add(engine_, &device, &refusal);
    check(result);
    if ((a & 0x80) == 0) require((result == VIOMMU_E_REFUSED) == (refusal.code != 0), "a refusal and its result");
  }
  void subscribe(unsigned a, std::uint16_t source, std::uint32_t c, std::uint64_t x, std::uint64_t y,
                 viommu_refusal& refusal) {
    viommu_consumer consumer{};
    consumer.size = sizeof consumer;
    consumer.opaque = this;
    consumer.notify = (a & 1) != 0 ? c & 7 : VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
    consumer.declares = c >> 3 & 0x2FF;
    consumer.first = (a & 2) != 0 ? x : 0;
    consumer.last = (a & 2) != 0 ? y : 0xFFFF'FFFF;
    consumer.quota = (a & 4) != 0 ? x % 8 : 0;
    consumer.events = [](void*, viommu_event* events, std::uint32_t count) {
      for (std::uint32_t i = 0; i < count; ++i)
        require(events[i].iova <= events[i].last && events[i].status == 0, "an event that is none");
    };
    std::uint64_t id = 0;
    const viommu_result result = viommu_subscribe(engine_, source & 1, &consumer, &refusal, &id);
    check(result);
    if (result == VIOMMU_OK) subscriptions_.push_back(id);
  }
  [[nodiscard]] std::uint64_t pick(std::uint64_t raw) const {
    return subscriptions_.empty() || raw % 4 == 3 ? raw : subscriptions_[raw % subscriptions_.size()];
  }
  void interrupt(unsigned a, std::uint16_t source, std::uint32_t data, std::uint64_t address) {
    const std::uint64_t at = (a & 1) != 0 ? address : 0xFEE0'0000 | (address & 0xF'FFFF);
    const viommu_message message = interrupt_message(source, at, data, static_cast<std::uint16_t>(a >> 6));
    viommu_routed routed{};
    viommu_routed once{};
    const viommu_result result = viommu_interrupt(reader_, &message, &routed);
    check(result);
    require(viommu_interrupt_once(engine_, &message, &once) == result, "an interrupt without a reader");
    if (result != VIOMMU_E_ARGUMENT)
      require(once.kind == routed.kind && once.data == routed.data, "what becomes of it");
    check(viommu_route(engine_, &message, &routed));
  }
  void machine(unsigned a, std::uint32_t c, std::uint64_t x, viommu_refusal& refusal) {
    std::uint32_t number = 0;
    switch (a % 9) {
      case 0:  return check(viommu_reset(engine_));
      case 1:  return check(viommu_drop_caches(engine_));
      case 2:  return check(viommu_ready(engine_, &refusal, (a & 0x80) != 0 ? 0 : 1, &number));
      case 3:  return check(viommu_view(engine_, static_cast<std::uint16_t>(x), &number));
      case 4:  return track(untrackable_ ? 0 : c % 3);
      case 5:  return check(viommu_dirty_tracking_is(engine_, &number));
      case 6:  return fetch_dirty(c);
      case 7:  return check(viommu_quiesce(engine_, &refusal));
      default: return check(viommu_bus_renumber(engine_, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(x)));
    }
  }
  /// A log takes memory for every page of the regions, of which no machine has as many as a number can say.
  void track(std::uint32_t on) {
    tracks_ = tracks_ || on != 0;
    check(viommu_dirty_tracking(engine_, on));
  }
  void fetch_dirty(std::uint32_t capacity) {
    std::array<viommu_range, 4> runs{};
    std::uint32_t count = 0;
    check(viommu_dirty_fetch(engine_, runs.data(), capacity % 5, &count));
  }
  void ask_for_pages(unsigned a, std::uint16_t b, std::uint32_t c, std::uint64_t x) {
    const viommu_request one = asked(static_cast<std::uint8_t>(a), b, c, x);
    viommu_ats_completion completion{};
    check(viommu_ats_translate(reader_, &one, &completion));
    viommu_translation answer{};
    check(viommu_ats_check(reader_, &one, &answer));
    viommu_page_request page{};
    page.iova = x;
    page.pasid = c;
    page.source = b & 1;
    page.group = static_cast<std::uint16_t>(c % 520);
    page.access = one.access;
    page.flags = static_cast<std::uint8_t>(a);
    page.last = (c & 1) != 0;
    std::uint32_t code = 0;
    const viommu_result became = viommu_request_page(engine_, &page, &code);
    if (became < 0) check(became);
    check(viommu_device_invalidated(engine_, x, a % 4U));
    std::uint8_t status = 0;
    check(viommu_report_host_fault(engine_, &one, static_cast<std::uint8_t>(c >> 8), &status));
  }
  void statistics(unsigned a, std::uint16_t id, std::uint64_t size) {
    Sized<viommu_statistics> made;
    viommu_statistics& all = made.value;
    all.size = (a & 1) != 0 ? size % (sizeof all + 8) : sizeof all;
    check(viommu_statistics_get(engine_, &all));
    if ((a & 1) == 0) require_equal(all.holds_open, holds_.size(), "holds that are open");
    viommu_part_statistics part{};
    part.size = sizeof part;
    check(viommu_device_statistics_get(engine_, id, &part));
    check(viommu_domain_statistics_get(engine_, id, &part));
    std::uint64_t count = 0;
    check(viommu_fault_count(engine_, a % 4U, id, static_cast<std::uint8_t>(size), &count));
    check(viommu_faults_limited(engine_, id, &count));
    viommu_subscription_figures figures{};
    figures.size = sizeof figures;
    check(viommu_subscription_figures_get(engine_, pick(size), &figures));
  }
  void dump(unsigned sections, const viommu_request& one, std::uint64_t most) {
    viommu_dump_options options{};
    options.size = sizeof options;
    options.sections = sections % 128;
    options.most = static_cast<std::uint32_t>(most % 70'000);
    options.request = one;
    options.write = [](void*, const char* text, std::size_t length) {
      require(length <= 1024, "a piece of a document that is too long");
      for (std::size_t i = 0; i < length; ++i)
        require((text[i] >= ' ' && text[i] < 127) || text[i] == '\n', "a document that is not plain text");
    };
    check(viommu_dump(engine_, &options));
  }
  void guard(unsigned a) {
    if ((a & 1) != 0 && depth_ < 4) {
      viommu_enter(reader_);
      ++depth_;
    } else {
      viommu_leave(reader_);  // without an open one it does nothing
      depth_ -= std::min(depth_, 1U);
    }
    if (depth_ != 0) require(viommu_reader_destroy(reader_) == VIOMMU_E_BUSY, "a reader that goes inside its guard");
    if (depth_ != 0 || !holds_.empty())
      require(viommu_destroy(engine_) == VIOMMU_E_BUSY, "an engine that goes while it is in use");
  }
  void state(unsigned a, std::uint64_t x) {
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    std::vector<std::byte> bytes(4096);
    std::size_t length = 0;
    const viommu_result saved = viommu_save(engine_, bytes.data(), bytes.size(), &length, &refusal);
    check(saved);
    if (saved != VIOMMU_OK) return;
    bytes.resize(length);
    if ((a & 1) != 0) bytes[x % length] ^= std::byte{1};
    const viommu_result loaded = viommu_load(engine_, bytes.data(), bytes.size(), &refusal);
    require(loaded == ((a & 1) != 0 ? VIOMMU_E_REFUSED : VIOMMU_OK), "what becomes of a state");
  }
  void end() {
    if (engine_ == nullptr) return;
    for (; depth_ != 0; --depth_) viommu_leave(reader_);
    for (const std::uint64_t handle : holds_) require(viommu_release(engine_, handle) == VIOMMU_OK, "an open hold");
    require(viommu_reader_destroy(reader_) == VIOMMU_OK, "a reader that cannot go");
    require(viommu_destroy(engine_) == VIOMMU_OK, "an engine that cannot go");
  }

  FlatGuest guest_{ram_bytes};
  Buffer buffer_;
  viommu_engine* engine_ = nullptr;
  viommu_reader* reader_ = nullptr;
  std::vector<std::uint64_t> holds_;
  std::vector<std::uint64_t> subscriptions_;
  unsigned depth_ = 0;
  bool tracks_ = false;
  bool untrackable_ = false;  ///< a region is there whose log would be too long for us
};

constexpr std::size_t head_bytes = 9;
constexpr std::array<Cell, 6> cells{{{0, 1}, {1, 1}, {2, 2}, {4, 4}, {8, 8}, {16, 8}}};
constexpr std::array<std::uint64_t, 10> values{0x18,   0x20,        0x8000'0000, 0x4000'0000, 0x0400'0000,
                                               0x1000, 0xFEE0'0000, 0x10'0000,   0x4000,      0x7FFF'FFFF'FFFF'F000};
constexpr RecordShape shape{head_bytes, World::record_bytes, cells, values};

}  // namespace
}  // namespace viommu::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::fuzz;
  Input input{data, size};
  World world{input};
  world.run(input);
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::fuzz::shape, data, size, most, seed);
}
