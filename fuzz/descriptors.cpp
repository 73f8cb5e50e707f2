// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: for any stream of invalidation descriptors, any ring and any doorbells, a unit stands where the serial
// model of the specification does: head, error, stores and messages in their order, counts. No status is written while
// a guard is open that is older than an invalidation before it, and what an invalidation covers is not served any more.
//
//   head: profile, flags, IQA_REG's low word     record: an operation, a, b, c, four words of a descriptor
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/page_formats.hpp"
#include "engine/vtd/unit.hpp"
#include "fuzz/models/queue_model.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"

namespace viommu::vtd {
namespace {

using fuzz::Input;
using fuzz::QueueModel;
using fuzz::require;
using fuzz::require_equal;

struct Profile {
  std::uint64_t cap;
  std::uint64_t ecap;
  unsigned haw;
};

constexpr std::uint64_t ecap_legacy = 0xF0'0F4A;
constexpr std::array<Profile, 5> profiles{
    {{0x80D2'008C'222F'0606, ecap_legacy, 48},
     // 8 bits of domain id, MAMV 9, few index bits, device TLBs with PFSID
     {0x8009'008C'222F'0602, 0x30'0F4A | mask_of(ecap::dt, ecap::dit, ecap::pds), 40},
     {0x80D2'000C'222F'0606, 0xF0'0F42, 48},  // no page-selective ones, no interrupt remapping
     {0x80D2'008C'222F'0606,
      ecap_legacy | mask_of(ecap::dt, ecap::smts, ecap::adms, ecap::pasid, ecap::prs, ecap::pds, ecap::hpts), 48},
     {0x00D2'008C'222F'0606, ecap_legacy | mask_of(ecap::smts, ecap::pasid), 46}}};

constexpr std::uint64_t ram_begin = 0x100000;
constexpr std::uint64_t ring_area = 0x90000;  // the largest ring and a little more
constexpr std::uint64_t first_table = ram_begin + ring_area;
constexpr std::uint64_t ram_bytes = ring_area + 0x20000;
constexpr std::uint64_t last_page = ram_begin + ram_bytes - 0x1000;
constexpr std::uint64_t status_page = 0x80000;  // not in a region: the host's function takes it, but for its upper half

constexpr std::array<std::uint64_t, 4> ring_pages{ram_begin, ram_begin + 0x10000, last_page, 0x4000'0000};
constexpr std::array<std::uint64_t, 4> pages{0x4000'0000, 0x4000'1000, 0x401F'F000, 0x4020'0000};

/// Address spaces whose translations are cached: two domains, with and without a PASID.
struct Space {
  std::uint16_t domain;
  std::optional<std::uint32_t> pasid;
};
constexpr std::array<Space, 4> spaces{{{1, std::nullopt}, {1, 5}, {2, 5}, {2, std::nullopt}}};

core::WaistOptions small_waist(const Capabilities& capabilities) {
  core::WaistOptions made{};
  made.rules = second_stage_rules(capabilities);
  made.first_stage_rules = first_stage_rules(capabilities);
  made.hash_seed = 1;
  made.iotlb_pages = 16;
  made.structures = 4;
  made.context_entries = 4;
  made.pasid_entries = 4;
  made.address_spaces = 8;
  made.tag_bits = 4;
  made.readers = 1;
  made.holds = 4;
  made.regions = 2;
  return made;
}

/// Ends the program where a function says that it could not.
void must(bool done) { require(done, "the world could not be made"); }

/// One unit with its guest, made once for each profile; reset() begins anew.
class World {
 public:
  World(const Profile& profile, bool mapped) : profile_{profile}, mapped_{mapped} {
    must(waist_.reset());
    reader_ = waist_.take_reader();  // NOLINT(cppcoreguidelines-prefer-member-initializer): there is none before
    must(reader_ != nullptr);
    if (mapped) {
      const GpaRange range{{ram_begin}, {ram_begin + ram_bytes - 1}};
      must(waist_.add_region({range, ram_.data(), true}) == core::RegionResult::ok);
    }
    for (std::size_t space = 0; space < spaces.size(); ++space) {
      const test::Tree tree = tables_.create_tree(4);
      roots_[space] = tree.root;
      for (std::size_t page = 0; page < pages.size(); ++page) {
        slots_[space][page] = tables_.slot(tree, pages[page], 1);
        for (unsigned level = 2; level <= 4; ++level) {  // accessed already, as far as they are of a first stage
          const std::uint64_t slot = tables_.slot(tree, pages[page], level);
          must(ram_.store_u64(slot, ram_.load_u64(slot).value_or(0) | 0x20));
        }
      }
    }
    must(tables_.allocate_page() < last_page);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() = default;

  void run(Input input);

 private:
  // ---- Begin and end ----
  void begin(unsigned flags, std::uint64_t ring) {
    must(unit_.reset());
    effects_.clear();
    tail_ = 0;
    levels_ = 0;
    generation_ = 0;
    asked_ = false;
    model_.reset((flags & 2) != 0, (flags & 4) != 0);
    for (auto& covered : covered_) covered.fill(false);
    for (std::size_t i = 0; i < first_counts_.size(); ++i) first_counts_[i] = unit_.count(static_cast<WorkCount>(i));
    change_pages();
    for (auto& floors : floors_) floors.fill(generation_);
    write(offset::fault_event_address, 0xFEE0'1000, 4);
    write(offset::fault_event_data, 0x44, 4);
    write(offset::fault_event_control, (flags & 2) != 0 ? 0 : 0x8000'0000, 4);
    write(offset::completion_event_address, 0xFEE0'2000, 4);
    write(offset::completion_event_data, 0x55, 4);
    write(offset::completion_event_control, (flags & 4) != 0 ? 0 : 0x8000'0000, 4);
    set_root(flags >> 3 & 3);
    set_ring(ring);
  }
  /// The ring is empty again for the next input.
  void end() {
    for (const std::uint64_t gpa : written_) must(ram_.store_u64(gpa, 0));
    written_.clear();
  }

  // ---- Operations ----
  void put(std::uint64_t offset_in_ring, const QueueModel::Words& words) {
    const std::uint64_t at = model_.base() + offset_in_ring % model_.size();
    if (!in_ring_area(at) || !in_ring_area(at + model_.entry_bytes() - 1)) return;
    for (std::uint64_t i = 0; i < model_.entry_bytes() / 8; ++i) {
      must(ram_.store_u64(at + i * 8, words[i]));
      written_.push_back(at + i * 8);
    }
  }
  void put_next(const QueueModel::Words& words) {
    put(tail_, words);
    tail_ = (tail_ + model_.entry_bytes()) % model_.size();
  }
  void write_tail(std::uint64_t value) {
    write(offset::queue_tail, value);
    model_.write_tail(value);
    model_.run();
  }
  void write_tail_under_guard(std::uint64_t value) {
    waist_.enter(*reader_);
    write(offset::queue_tail, value);
    model_.write_tail(value);
    model_.run();
    require(effects_.size() <= model_.effects_before_drain(), "a completion while an older guard is open");
    waist_.leave(*reader_);
    for (unsigned turn = 0; turn < 4 && unit_.process(0) != WorkState::idle; ++turn) {
    }
  }
  void set_root(std::uint64_t mode) {
    const std::uint64_t value = first_table | mode << 10;
    write(offset::root_table, value);
    command(0x4000'0000);
    model_.set_root(value);
    if (mode_drops())
      for (std::size_t space = 0; space < spaces.size(); ++space)
        for (std::size_t page = 0; page < pages.size(); ++page) cover(space, page);
    model_.run();
  }
  void set_ring(std::uint64_t address) {
    write(offset::queue_address, address);
    model_.write_address(address);
    if (model_.enabled()) {
      levels_ = 0;
      command(0);
      model_.enable(false);
      model_.run();
    }
    levels_ = 0x0400'0000;
    command(0);
    model_.enable(true);
    tail_ = 0;
    model_.run();
  }
  void clear_error(bool repair, const QueueModel::Words& words, std::uint64_t bits) {
    if (repair) put(model_.head(), words);
    write(offset::fault_status, bits, 4);
    model_.write_fault_status(bits);
    model_.run();
  }
  void clear_completion() {
    write(offset::completion_status, 1, 4);
    model_.write_completion_status(1);
  }
  void change_pages() {
    ++generation_;
    for (std::size_t space = 0; space < spaces.size(); ++space)
      for (std::size_t page = 0; page < pages.size(); ++page)
        must(ram_.store_u64(slots_[space][page], generation_ << 16 | space << 14 | page << 12 | 0x63));
  }
  /// Inside a guard. @return whether there was room for its context
  bool ask(std::size_t space, std::size_t page) {
    const SourceId source{static_cast<std::uint16_t>(space << 8)};
    const std::uint64_t version = waist_.context_version();
    caches::ContextEntry context = waist_.find_context(source);
    if (!context) context = waist_.insert_context(version, source, key(space), {});
    if (context) {
      const core::Translation found = waist_.translate(*reader_, context.space(), {pages[page] + 0x10}, read_only);
      require(found.outcome == core::Outcome::translated, "a page that is there");
      require_equal(found.gpa.value & 0xFFFF, space << 14 | page << 12 | 0x10, "another space's page");
      const std::uint64_t generation = found.gpa.value >> 16;
      require(generation <= generation_, "a page that never was");
      require(generation >= floors_[space][page], "a translation that an invalidation has covered");
    }
    covered_[space][page] = false;
    return bool{context};
  }
  /// @param all  else what was covered since it was asked for last: there an old translation would be served
  void ask_for(bool all) {
    bool had_room = true;
    waist_.enter(*reader_);
    for (std::size_t space = 0; space < spaces.size(); ++space)
      for (std::size_t page = 0; page < pages.size(); ++page)
        if (all || covered_[space][page]) had_room &= ask(space, page);
    waist_.leave(*reader_);
    if (!had_room) static_cast<void>(unit_.process(0));  // pools are short
  }

  // ---- What is to be seen ----
  void compare() {
    for (const QueueModel::Dropped& dropped : model_.dropped) cover(dropped);
    model_.dropped.clear();
    require_equal(read(offset::queue_head), model_.head(), "head");
    require_equal(read(offset::fault_status, 4), model_.stopped() ? 0x10 : 0, "FSTS_REG");
    if (model_.stopped()) require_equal(read(offset::queue_error_record), model_.code(), "IQERCD_REG");
    require_equal(read(offset::completion_status, 4), model_.completed(), "ICS_REG");
    require_equal(effects_.size(), model_.effects.size(), "number of effects");
    for (std::size_t i = 0; i < effects_.size(); ++i) {
      require_equal(effects_[i].kind, model_.effects[i].kind, "kind of an effect");
      require_equal(effects_[i].address, model_.effects[i].address, "address of an effect");
      require_equal(effects_[i].data, model_.effects[i].data, "data of an effect");
    }
    effects_.clear();
    model_.effects.clear();
    const QueueModel::Counts& right = model_.counts();
    require_equal(count(WorkCount::descriptors), right.descriptors, "descriptors");
    require_equal(count(WorkCount::context_invalidations), right.contexts, "context invalidations");
    require_equal(count(WorkCount::iotlb_global), right.global, "global invalidations");
    require_equal(count(WorkCount::iotlb_domain) + count(WorkCount::iotlb_page), right.parts, "other invalidations");
    require_equal(count(WorkCount::device_tlb), right.device_tlbs, "device TLB invalidations");
    require_equal(count(WorkCount::interrupt_entries), right.interrupts, "interrupt entry invalidations");
    require_equal(count(WorkCount::waits), right.waits, "waits");
    require_equal(count(WorkCount::status_writes_dropped), right.dropped_stores, "dropped status writes");
    ++fuzz::work_done;
  }
  void cover(const QueueModel::Dropped& dropped) {
    using Kind = QueueModel::Dropped::Kind;
    for (std::size_t space = 0; space < spaces.size(); ++space) {
      const bool of_first_stage = spaces[space].pasid.has_value();
      if (dropped.kind != Kind::all && spaces[space].domain != dropped.domain) continue;
      const bool by_pasid = dropped.kind == Kind::pasid || dropped.kind == Kind::pasid_pages;
      const bool by_page = dropped.kind == Kind::pages || dropped.kind == Kind::pasid_pages;
      if (by_pasid && spaces[space].pasid != dropped.pasid) continue;
      if (dropped.kind == Kind::pages && of_first_stage) continue;
      for (std::size_t page = 0; page < pages.size(); ++page)
        if (!by_page || (pages[page] >= dropped.first && pages[page] <= dropped.last)) cover(space, page);
    }
  }
  void cover(std::size_t space, std::size_t page) {
    floors_[space][page] = generation_;
    covered_[space][page] = true;
  }

  // ---- The unit ----
  void write(std::uint64_t where, std::uint64_t value, unsigned size = 8) {
    require(unit_.write(where, size, value) == AccessStatus::done, "a write that is none");
  }
  [[nodiscard]] std::uint64_t read(std::uint64_t where, unsigned size = 8) { return unit_.read(where, size).value; }
  void command(std::uint32_t bits) { write(offset::global_command, levels_ | bits, 4); }
  [[nodiscard]] std::uint64_t count(WorkCount which) const {
    return unit_.count(which) - first_counts_[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] bool mode_drops() const { return (profile_.cap >> 63) != 0; }
  [[nodiscard]] static bool in_ring_area(std::uint64_t gpa) {
    return (gpa >= ram_begin && gpa < first_table) || (gpa >= last_page && gpa < last_page + 0x1000);
  }
  [[nodiscard]] bool accepts(std::uint64_t gpa) const {
    return (gpa >= status_page && gpa < status_page + 0x800) ||
           (!mapped_ && gpa >= ram_begin && gpa - ram_begin < ram_bytes);
  }
  [[nodiscard]] caches::AddressSpaceKey key(std::size_t space) const {
    caches::AddressSpaceKey made;
    made.domain = {spaces[space].domain};
    made.root = {roots_[space]};
    made.top_level = 3;
    made.last = {low_bits(48)};
    if (!spaces[space].pasid) return made;
    made.pasid = Pasid{spaces[space].pasid.value_or(0)};
    made.interpretation = caches::Interpretation::first_stage;
    made.last = {low_bits(47)};
    made.flags.privileged = true;
    return made;
  }
  [[nodiscard]] static World& of(void* self) { return *static_cast<World*>(self); }
  [[nodiscard]] core::HostFunctions functions() {
    core::HostFunctions made;
    made.opaque = this;
    made.memory.opaque = this;
    made.memory.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      if (gpa < ram_begin || gpa - ram_begin > ram_bytes - size) return -1;
      std::memcpy(data, of(self).ram_.data() + (gpa - ram_begin), size);
      return 0;
    };
    // Nothing is changed: the model reads the ring after the unit has.
    made.memory.write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) -> std::int32_t {
      require(size == 4, "a store that is none of a status");
      std::uint32_t value = 0;
      std::memcpy(&value, data, sizeof value);
      if (!of(self).accepts(gpa)) return -1;
      of(self).effects_.push_back({QueueModel::Effect::store, gpa, value});
      return 0;
    };
    made.msi = [](void* self, std::uint64_t address, std::uint32_t data) {
      of(self).effects_.push_back({QueueModel::Effect::message, address, data});
    };
    return made;
  }

  Profile profile_;
  bool mapped_;
  std::vector<QueueModel::Effect> effects_;
  std::vector<std::uint64_t> written_;
  std::array<std::uint64_t, work_counts> first_counts_{};
  std::array<std::array<std::uint64_t, pages.size()>, spaces.size()> floors_{};
  std::array<std::array<bool, pages.size()>, spaces.size()> covered_{};  ///< and not asked for since
  std::array<std::array<std::uint64_t, pages.size()>, spaces.size()> slots_{};
  std::array<std::uint64_t, spaces.size()> roots_{};
  std::uint64_t generation_ = 0;
  bool asked_ = false;
  std::uint64_t tail_ = 0;
  std::uint32_t levels_ = 0;
  core::HostFunctions functions_ = functions();
  core::Host host_{functions_};
  Capabilities capabilities_ = Capabilities::decode(0x30, profile_.cap, profile_.ecap, profile_.haw);
  core::Waist waist_{small_waist(capabilities_), host_};
  test::GuardedRegion ram_{ram_begin, ram_bytes};
  test::GuestTables tables_{test::words_of(ram_), first_table};
  core::Reader* reader_ = nullptr;
  Unit unit_{capabilities_, {}, waist_, host_, {}};
  QueueModel model_{{profile_.cap, profile_.ecap, profile_.haw},
                    [this](std::uint64_t gpa) { return ram_.load_u64(gpa); },
                    [this](std::uint64_t gpa) { return accepts(gpa); }};
};

constexpr std::size_t head_bytes = 4;
constexpr std::size_t record_bytes = 40;

std::uint64_t ring_of(std::uint16_t bits) {
  return ring_pages[bits >> 12 & 3] | (bits & 7U) | ((bits & 8U) != 0 ? 0x800U : 0U);
}

void World::run(Input input) {
  const auto flags = input.take<std::uint8_t>();
  const auto ring = input.take<std::uint16_t>();
  begin(flags, ring_of(ring));
  compare();
  while (!input.empty()) {
    Input record = input.record(record_bytes);
    const unsigned operation = record.below(16);
    const auto a = record.take<std::uint8_t>();
    const auto b = record.take<std::uint16_t>();
    const auto c = record.take<std::uint32_t>();
    QueueModel::Words words{};
    for (std::uint64_t& word : words) word = record.take<std::uint64_t>();
    if ((a & 0x80) != 0) {  // reserved bits are right, so that the values count
      const QueueModel::Words allowed = model_.allowed_bits(words);
      for (std::size_t i = 0; i < words.size(); ++i) words[i] &= allowed[i];
    }
    switch (operation) {
      default:
        put_next(words);
        if ((a & 0x40) == 0) continue;  // nothing is to be seen of that
        write_tail(tail_);
        break;
      case 6:  put(std::uint64_t{b} * 16, words); continue;
      case 7:  write_tail((a & 1) != 0 ? tail_ : c); break;
      case 8:  write_tail_under_guard((a & 1) != 0 ? tail_ : c); break;
      case 9:  clear_error((a & 1) != 0, words, (a & 2) != 0 ? c : 0x10); break;
      case 10: set_ring((a & 1) != 0 ? words[0] : ring_of(b)); break;
      case 11: set_root(a & 3); break;
      case 12: change_pages(); break;
      case 13:
        asked_ = true;
        ask_for(true);
        break;
      case 14: clear_completion(); break;
      case 15: static_cast<void>(unit_.process(c)); break;
    }
    compare();
  }
  if (asked_) ask_for(false);  // else nothing was cached
  end();
}

constexpr std::array<fuzz::Cell, 9> cells{{{0, 1}, {1, 1}, {2, 2}, {4, 4}, {8, 1}, {8, 8}, {16, 8}, {16, 1}, {10, 2}}};
/// Descriptors of every type, some addresses and tails.
constexpr std::array<std::uint64_t, 30> values{
    0x11, 0x21, 0x1'0021, 0x31,          0x12,        0x1'0022,      0x1'0032,      0x2'0032, 0x03,   0x04,
    0x14, 0x15, 0x25,     0x1'0000'0025, 0x35,        0x5'0001'0026, 0x5'0002'0036, 0x37,     0x07,   0x17,
    0x08, 0x09, 0x0A,     0x4000'0000,   0x4000'0009, 0x4020'0040,   0x8'0000,      0x8'0800, 0x1000, 0x7FFF0};
constexpr fuzz::RecordShape shape{head_bytes, record_bytes, cells, values};

}  // namespace
}  // namespace viommu::vtd

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::vtd;
  static std::array<std::array<std::unique_ptr<World>, 2>, profiles.size()> worlds;
  viommu::fuzz::Input input{data, size};
  const auto profile = input.take<std::uint8_t>();
  std::unique_ptr<World>& world = worlds[profile % profiles.size()][profile >> 7];
  if (!world) world = std::make_unique<World>(profiles[profile % profiles.size()], profile >> 7 != 0);
  world->run(input);
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::vtd::shape, data, size, most, seed);
}
