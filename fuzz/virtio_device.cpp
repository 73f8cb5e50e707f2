// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: whatever the driver of a virtio-iommu asks for through rings in its memory or as bytes, and whatever the
// VMM plugs, maps, moves and resets meanwhile, the device answers as its model does: every byte of a reply and of a
// report, what each endpoint sees, what each consumer holds. No request is answered while somebody may still use what
// it took away; nothing is lost and nothing hangs; a device that was saved goes on elsewhere as the same one.
//
//   head: features, sizes, two of the VMM's options     record: an operation, and what a request's record has
#include <viommu/viommu_virtio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fuzz/models/consumer_view.hpp"
#include "fuzz/models/reserved_memory.hpp"
#include "fuzz/models/virtio_iommu_model.hpp"
#include "fuzz/support/driver_ring.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/state_bytes.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/virtio_grammar.hpp"
#include "fuzz/support/virtio_side.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/virtqueue/guest.hpp"
#include "tests/virtqueue/ring_buffer.hpp"

namespace viommu::fuzz {
namespace {

using test::RingGuest;
using Bytes = std::vector<std::uint8_t>;
using Model = VirtioIommuModel;
using View = Model::View;

constexpr std::uint64_t buffers_at = RingGuest::first + 0x20000;
constexpr std::uint64_t buffer_bytes = 0x4000;  ///< of a request: readable part, table, writable part
constexpr std::uint64_t margin = 16;
constexpr std::uint64_t reports_at = RingGuest::first + 0x70000;
constexpr std::uint64_t report_bytes = 24;
constexpr std::uint8_t untouched = 0xEE;
/// The ring of reports lies where that of requests does, in memory of its own that begins so much further up.
constexpr std::uint64_t events_above = 0x10'0000;
constexpr std::size_t most_in_a_burst = 4;

/// Endpoint ids that requests name.
constexpr std::array<std::uint32_t, 8> endpoint_ids{0x100, 0x108, 0x1'0200, 0xFFFF'FFFF, 0x500, 0x508, 0, 0x600};
/// Requester ids that DMA comes from.
constexpr std::array<std::uint16_t, 8> sources{0x100, 0x108, 0x200, 0x3FF, 0x500, 0x508, 0x101, 0x600};

struct Place {
  std::uint16_t source;
  std::uint16_t requester;
  std::uint32_t endpoint;
  bool has_host = false;
  bool bypassed = false;
};
constexpr std::array<Place, 8> places{{{0x100, 0x100, 0x100},
                                       {0x108, 0x108, 0x108, true},
                                       {0x200, 0x200, 0x1'0200},
                                       {0x3FF, 0x3FF, 0xFFFF'FFFF, true},
                                       {0x508, 0x500, 0x500},
                                       {0x510, 0x500, 0x500},
                                       {0x101, 0x101, 0},
                                       {0x600, 0x600, 0x600, false, true}}};

/// Memory that no CPU sees here: for consumers.
struct Memory {
  std::uint64_t gpa;
  std::uint64_t length;
  std::uint64_t flags;
};
constexpr std::array<Memory, 4> memories{{{0x1000'0000, 0x3000'0000, VIOMMU_REGION_UNMAPPED},
                                          {0x5000'0000, 0x10'0000, VIOMMU_REGION_MMIO},
                                          {0x6000'0000, 0x20'0000, VIOMMU_REGION_UNMAPPED | VIOMMU_REGION_READ_ONLY},
                                          {0x1'0000'0000, 0x4000'0000, VIOMMU_REGION_UNMAPPED}}};

struct Guest {
  RingGuest requests{test::Reach::mapped};
  RingGuest reports{test::Reach::mapped};
};
/// All that is in its memory now.
class GuestBytes {
 public:
  explicit GuestBytes(Guest& guest) : guest_{guest}, bytes_{all(guest.requests), all(guest.reports)} {}
  void put_back() const {
    std::ranges::copy(bytes_[0], guest_.requests.span(RingGuest::first, RingGuest::bytes).begin());
    std::ranges::copy(bytes_[1], guest_.reports.span(RingGuest::first, RingGuest::bytes).begin());
  }

 private:
  [[nodiscard]] static std::vector<std::byte> all(RingGuest& guest) {
    const std::span<std::byte> whole = guest.span(RingGuest::first, RingGuest::bytes);
    return {whole.begin(), whole.end()};
  }
  Guest& guest_;
  std::array<std::vector<std::byte>, 2> bytes_;
};

/// What a request to translate is to be answered.
struct Answer {
  std::uint8_t kind = VIOMMU_FAULT;
  std::uint8_t reason = 0;
  std::uint8_t rights = 0;
  std::uint64_t gpa = 0;
  bool reported = true;    ///< a fault that the driver is told of
  std::uint64_t last = 0;  ///< up to where it goes on so
};

class World {
 public:
  static constexpr std::size_t record_bytes = 40;

  World(Guest& guest, Input& head) : guest_{guest} {
    const auto flags = head.take<std::uint8_t>();
    const auto sizes = head.take<std::uint8_t>();
    choice_ = head.take<std::uint8_t>();
    const auto devices = head.take<std::uint8_t>();
    Model::Setting setting = virtio_setting(flags, sizes);
    setting.mappings = (sizes & 0x80) != 0 ? 6 : 0;
    setting.strict_detach = (flags & 0x40) != 0;
    setting.boot_bypass = setting.bypass_config && (flags & 0x80) != 0;
    wanted_ = virtio_version_1 | 3 | (setting.map_unmap ? 4U : 0U) | (setting.probe ? 0x10U : 0U) |
              (setting.mmio ? 0x20U : 0U) | (setting.bypass_config ? 0x40U : 0U);
    if ((flags & 8) != 0) wanted_ |= virtio_packed;
    if ((flags & 0x10) != 0) wanted_ |= virtio_event_index;
    if ((choice_ & 0x20) == 0) wanted_ |= virtio_indirect;
    offered_ = virtio_version_1 | 7 | virtio_indirect | virtio_event_index | virtio_packed | (wanted_ & 0x70);
    blocked_at_boot_ = (flags & 0x80) == 0;
    page_sizes_ = ~(setting.granule - 1);
    model_.emplace(setting);
    model_->accept(0);
    if ((choice_ & 4) != 0) configured_.push_back({0xFEE0'0000, 0xFEEF'FFFF, true});
    if ((choice_ & 8) != 0) configured_.push_back({0x30'0000, 0x30'7FFF, false});
    side_ = make_side();
    for (const std::uint64_t above : {std::uint64_t{0}, events_above})
      parts_.add({RingGuest::first + above, RingGuest::last + above});
    for (const Memory& memory : memories) add_memory(memory);
    for (std::size_t i = 0; i < places.size(); ++i)
      if ((devices >> i & 1) != 0) plug(i, 0, 0);
    boot(wanted_);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() { release_all(); }

  void run(Input input) {
    while (!input.empty()) {
      step(input.record(record_bytes));
      if (!burst_.empty()) continue;
      compare();
      ++work_done;
    }
    finish_burst();
    compare();
  }

 private:
  // ---- Making one ----
  [[nodiscard]] std::unique_ptr<VirtioSide> make_side() const {
    std::vector<viommu_virtio_region> regions;
    for (const Model::Reserved& region : configured_)
      regions.push_back({region.first, region.last, region.msi ? 1U : 0U, 0});
    const Model::Setting& setting = model_->setting();
    viommu_virtio_options options{};
    options.size = sizeof options;
    options.page_size_mask = page_sizes_;
    options.first_input = setting.input_first;
    options.last_input = setting.input_last;
    options.first_domain = setting.domain_first;
    options.last_domain = setting.domain_last;
    options.probe_size = setting.probe_size;
    options.flags = blocked_at_boot_ ? VIOMMU_VIRTIO_BLOCKED_AT_BOOT : 0;
    if (setting.strict_detach) options.flags |= VIOMMU_VIRTIO_STRICT_DETACH;
    if ((choice_ & 1) != 0) options.flags |= VIOMMU_VIRTIO_SHARE_SPACES;
    if ((choice_ & 2) != 0) options.flags |= VIOMMU_VIRTIO_UNCACHED;
    options.without = 0x70 & ~wanted_;
    options.regions = regions.data();
    options.region_count = static_cast<std::uint32_t>(regions.size());
    options.domains = setting.domains;
    options.endpoints = 16;
    options.mappings = setting.mappings != 0 ? setting.mappings : 4096;
    options.fill = (choice_ & 0x10) != 0 ? VIOMMU_FILL_EXACT : VIOMMU_FILL_ALL;
    options.hash_seed = 1;
    options.iotlb_pages = 16;
    options.context_entries = 4;
    options.tag_bits = 4;
    options.readers = 1;
    options.holds = 4;
    options.regions_of_memory = 16;
    options.subscriptions = 8;
    auto side = std::make_unique<VirtioSide>(options);
    const auto add = [&](RingGuest& ring, std::uint64_t above) {
      require(side->add_region(RingGuest::first + above, RingGuest::bytes,
                               ring.span(RingGuest::first, RingGuest::bytes).data(), 0) == VIOMMU_OK,
              "a region that is not taken");
    };
    add(guest_.requests, 0);
    add(guest_.reports, events_above);
    return side;
  }

  // ---- The VMM ----
  void add_memory(const Memory& memory) {
    require(side_->add_region(memory.gpa, memory.length, nullptr, memory.flags) == VIOMMU_OK,
            "a region that is not taken");
    parts_.add({memory.gpa, memory.gpa + memory.length - 1, (memory.flags & VIOMMU_REGION_MMIO) != 0,
                (memory.flags & VIOMMU_REGION_READ_ONLY) != 0});
  }
  void change_memory(std::uint8_t which, std::uint8_t how, std::uint64_t where) {
    const Memory& memory = memories[which % memories.size()];
    const std::uint64_t last = memory.gpa + memory.length - 1;
    const bool there = parts_.find(memory.gpa) != nullptr;
    if (!there) return add_memory(memory);
    if ((how & 1) != 0) {
      const std::uint64_t from = memory.gpa + (where % memory.length & ~std::uint64_t{0xFFF});
      const std::uint64_t bytes = std::min((std::uint64_t{how} >> 2) * 0x1000 + 0x1000, last - from + 1);
      const bool back = (how & 2) != 0;
      const viommu_result result =
          viommu_region_part(side_->engine, from, bytes, back ? VIOMMU_PART_SHARED : VIOMMU_PART_DISCARDED, 1);
      require(result == VIOMMU_OK || result == VIOMMU_E_LIMIT, "what becomes of a part");
      if (result == VIOMMU_OK) parts_.set_there(from, from + bytes - 1, back);
      return;
    }
    const viommu_result result = viommu_region_remove(side_->engine, memory.gpa, 1);
    require(result == VIOMMU_OK || result == VIOMMU_E_LIMIT, "what becomes of a region");
    if (result == VIOMMU_OK) parts_.remove(memory.gpa, last);
  }

  [[nodiscard]] std::vector<Model::Reserved> reserved_of(std::uint16_t requester) const {
    ReservedMemory memory{configured_};
    for (const PluggedDevice& device : plugged_) {
      if (device.requester != requester || device.bypassed) continue;
      for (const viommu_range& range : device.reserved) memory.add({range.first, range.last});
      if (device.facts && device.facts->tells_ranges) memory.add_holes_of(device.facts->ranges);
    }
    return memory.regions();
  }
  [[nodiscard]] static HostFacts facts_of(std::uint8_t which) {
    constexpr std::uint64_t top = ~std::uint64_t{0};
    constexpr std::array<std::uint64_t, 8> sizes{
        ~std::uint64_t{0xFFF}, 0x4020'1000, ~std::uint64_t{0xFFFF}, 0, top, 0x4020'1000, 0x20'0000, top};
    HostFacts facts;
    facts.page_sizes = sizes[which & 7];
    switch (which >> 3 & 3) {
      case 0:  facts.ranges = {{0, 0xFEDF'FFFF}, {0xFEF0'0000, (std::uint64_t{1} << 48) - 1}}; break;
      case 1:  facts.ranges = {{0, (std::uint64_t{1} << 39) - 1}}; break;
      case 2:  facts.ranges = {{0x10'0000, 0x2F'FFFF}, {0x40'0000, top}}; break;
      default: facts.tells_ranges = (which & 0x20) != 0; break;
    }
    return facts;
  }
  [[nodiscard]] PluggedDevice* plugged(std::uint16_t source) {
    const auto found = std::ranges::find(plugged_, source, &PluggedDevice::source);
    return found == plugged_.end() ? nullptr : &*found;
  }
  [[nodiscard]] const PluggedDevice* behind(std::uint16_t requester) const {
    for (const PluggedDevice& device : plugged_)
      if (device.requester == requester && !device.bypassed) return &device;
    return nullptr;
  }
  [[nodiscard]] bool bypasses(std::uint16_t source) const {
    return std::ranges::any_of(plugged_, [&](const auto& one) { return one.bypassed && one.source == source; });
  }
  /// @param how  of its reserved memory, and whether it has another endpoint's id
  void plug(std::size_t number, std::uint8_t how, std::uint8_t facts) {
    const Place& place = places[number % places.size()];
    // Once its guest maps, hosts leave the device as it is.
    if (place.has_host && model_->mapping_count() != 0 && !get_ready()) return;
    PluggedDevice device{place.source, place.requester, place.endpoint, place.bypassed, std::nullopt, {}};
    if ((how & 1) != 0) device.reserved.push_back({0x10'2000, 0x10'2FFF});
    if ((how & 2) != 0) device.reserved.push_back({0x1008'0000, 0x1009'FFFF});
    if ((how & 4) != 0 && place.requester == place.source) device.endpoint = 0x100;
    if (place.has_host) device.facts = facts_of(facts);

    PluggedDevice* const before = plugged(place.source);
    const bool is_new = before == nullptr;
    const bool exists = !is_new && !withdrawn(place.source);
    // Those who share a requester id are one endpoint, named by the first.
    if (const PluggedDevice* const first = behind(place.requester)) device.endpoint = first->endpoint;
    if (!is_new) device.endpoint = before->endpoint;
    const bool named_already =
        behind(place.requester) == nullptr && !place.bypassed && model_->view(device.endpoint) != View::unknown;
    std::uint64_t sizes = page_sizes_;
    bool fits = true;
    if (device.facts) {
      fits = ready_ ? (device.facts->page_sizes & page_sizes_ & (~page_sizes_ + 1)) != 0
                    : (device.facts->page_sizes & page_sizes_) != 0;
      if (!ready_) sizes = page_sizes_ & device.facts->page_sizes;
    }
    viommu_refusal refusal{};
    const viommu_result result = side_->plug(device, refusal);
    if (exists) {
      require(result == VIOMMU_E_REFUSED && refusal.code == VIOMMU_REFUSED_ALREADY_EXISTS, "a device plugged twice");
      return;
    }
    if (!fits) {
      const std::uint32_t code = ready_ ? VIOMMU_REFUSED_GRANULE_FROZEN : VIOMMU_REFUSED_PAGE_SIZES_DISJOINT;
      require(result == VIOMMU_E_REFUSED && refusal.code == code, "a host that cannot map what the guest may");
      return;
    }
    if (named_already) return require(result == VIOMMU_E_EXISTS, "an endpoint whose id another one has");
    require(result == VIOMMU_OK, "a device that is not taken");
    page_sizes_ = sizes;
    model_->set_granule(page_sizes_ & (~page_sizes_ + 1));
    const bool known = behind(place.requester) != nullptr;
    if (is_new)
      plugged_.push_back(device);
    else
      *before = device;
    std::erase(withdrawn_, place.source);
    if (place.bypassed) return;
    if (known)
      model_->set_reserved(device.endpoint, reserved_of(place.requester));
    else
      model_->add(device.endpoint, reserved_of(place.requester));
  }
  void unplug(std::size_t number) {
    const Place& place = places[number % places.size()];
    const PluggedDevice* const device = plugged(place.source);
    const bool was = device != nullptr;
    const std::uint32_t endpoint = was ? device->endpoint : 0;
    require(viommu_device_remove(side_->engine, place.source) == VIOMMU_OK, "a device that is not let go");
    std::erase(withdrawn_, place.source);
    std::erase_if(plugged_, [&](const auto& one) { return one.source == place.source; });
    // The subscriptions of whoever is not there any more have ended, and what was mapped is withdrawn.
    std::uint16_t gone = place.source;
    if (was && !place.bypassed) {
      if (behind(place.requester) != nullptr) {
        model_->set_reserved(endpoint, reserved_of(place.requester));
      } else {
        model_->remove(endpoint);
        gone = place.requester;
      }
    }
    for (const auto& keeper : side_->keepers)
      if (keeper->source == gone && keeper->maps() && keeper->model.host == nullptr)
        require(keeper->model.extents().empty(), "what the consumer of a device that is gone still has");
    side_->forget_keepers_of(gone);
  }
  [[nodiscard]] bool withdrawn(std::uint16_t source) const {
    return std::ranges::find(withdrawn_, source) != withdrawn_.end();
  }
  void unset_facts(std::size_t number) {
    const Place& place = places[number % places.size()];
    require(viommu_host_facts_unset(side_->engine, place.source) == VIOMMU_OK, "facts that are not taken back");
    PluggedDevice* const device = plugged(place.source);
    if (device == nullptr || !device->facts) return;
    device->facts.reset();
    withdrawn_.push_back(place.source);
    if (!device->bypassed) model_->set_reserved(device->endpoint, reserved_of(place.requester));
  }
  void subscribe(std::uint8_t which, std::uint8_t declares, std::uint8_t how, std::uint64_t first, std::uint64_t last) {
    if ((how & 0x80) != 0) {
      if (!side_->keepers.empty()) side_->unsubscribe(which % side_->keepers.size());
      return;
    }
    std::uint32_t words = declares & 0x2F;  // LEAF, NO_BLINK, SPLIT, POW2, MMIO
    if ((how & 1) != 0) words |= VIOMMU_CONSUMER_UNMAP_ALL;
    if ((how & 2) == 0) {
      first = 0;
      last = (how & 4) != 0 ? ~std::uint64_t{0} : 0x7F'FFFF'FFFF;
    } else if (last < first) {
      std::swap(first, last);
    }
    const bool maps = (how & 8) == 0;
    const std::uint16_t by = sources[which % sources.size()];
    // A device behind an alias is known by that.
    const PluggedDevice* const device = plugged(by);
    auto keeper = std::make_unique<Keeper>(device != nullptr ? device->requester : by, words, first, last, maps);
    if ((how & 0x10) != 0) keeper->model.consumer.unit_bytes = 0x4000'0000;
    side_->subscribe(std::move(keeper), by, (choice_ & 1) != 0 && (how & 0x20) != 0);
  }

  /// @return false where memory that devices have reserved is missing
  bool get_ready() {
    if (viommu_ready(side_->engine, nullptr, 0, nullptr) == VIOMMU_OK) ready_ = true;
    return ready_;
  }

  // ---- The driver's transport ----
  /// Nobody waits for those whose answers went without a request.
  void void_uses() {
    for (Use& use : uses_)
      if (use.counts) use.counts = still_good(use);
  }
  void forget_rings() {
    requests_.end();
    reports_.end();
    posted_.clear();
  }
  void reset(bool system) {
    require((system ? viommu_reset(side_->engine) : viommu_virtio_reset(side_->engine)) == VIOMMU_OK,
            "a reset that is not done");
    model_->reset(system);
    forget_rings();
    features_ = 0;
    running_ = broken_ = false;
  }
  void negotiate(std::uint64_t features) {
    const bool right = !running_ && (features & ~offered_) == 0 && (features & virtio_version_1) != 0;
    const viommu_result result = viommu_virtio_negotiate(side_->engine, features);
    require(result == (right ? VIOMMU_OK : VIOMMU_E_REFUSED), "whether features are accepted");
    if (!right) return;
    features_ = features;
    model_->accept(features);
  }
  void set_queue(std::uint32_t index) {
    DriverRing& ring = index == VIOMMU_VIRTIO_REQUESTS ? requests_ : reports_;
    if (index == VIOMMU_VIRTIO_EVENTS) posted_.clear();
    ring.begin(features_);
    const viommu_virtio_queue queue = ring.place(index == VIOMMU_VIRTIO_REQUESTS ? 0 : events_above);
    require(viommu_virtio_queue_set(side_->engine, index, &queue) == VIOMMU_OK, "a queue that is not taken");
  }
  void drop_queue(std::uint32_t index) {
    require(viommu_virtio_queue_set(side_->engine, index, nullptr) == VIOMMU_OK, "a queue that does not go");
    (index == VIOMMU_VIRTIO_REQUESTS ? requests_ : reports_).end();
    if (index == VIOMMU_VIRTIO_EVENTS) posted_.clear();
  }
  void start() {
    const bool right = (features_ & virtio_version_1) != 0;
    require(viommu_virtio_start(side_->engine) == (right ? VIOMMU_OK : VIOMMU_E_REFUSED), "whether the device runs");
    if (right) running_ = true;
  }
  void boot(std::uint64_t features) {
    reset(false);
    negotiate(features);
    if (features_ == 0) return;
    set_queue(VIOMMU_VIRTIO_REQUESTS);
    set_queue(VIOMMU_VIRTIO_EVENTS);
    start();
  }
  [[nodiscard]] bool serves() { return running_ && !broken_ && requests_.there(); }
  void notify(std::uint32_t index) {
    require(viommu_virtio_notify(side_->engine, index) == VIOMMU_OK, "a notification that is refused");
  }
  /// A request that lies where there is no memory.
  void break_ring() {
    if (!serves() || requests_.room() < 2) return;
    requests_.add(test::direct({{0x7000'0000, 20, false}, {0x7000'1000, 4, true}}));
    requests_.publish();
    const std::uint64_t before = side_->needs_reset;
    notify(VIOMMU_VIRTIO_REQUESTS);
    require_equal(side_->needs_reset, before + 1, "times that the device asked for a reset");
    broken_ = true;
    requests_.end();
  }
  void transport(std::uint8_t which, std::uint8_t how, std::uint64_t raw) {
    switch (which % 8) {
      case 0:  return boot((how & 1) != 0 ? (wanted_ ^ raw) & (offered_ | raw) : wanted_);
      case 1:  return reset(false);
      case 2:  return reset(true);
      case 3:  return negotiate(raw ^ wanted_);
      case 4:  return drop_queue(how & 1);
      case 5:  return set_queue(how & 1);
      case 6:  return start();
      default: return break_ring();
    }
  }
  void write_config(std::uint8_t how, std::uint64_t offset, std::uint64_t value) {
    constexpr std::uint64_t bypass_at = 36;
    constexpr std::array<std::uint32_t, 4> sizes{1, 2, 4, 8};
    const std::uint32_t size = sizes[how & 3];
    if ((how & 4) == 0) {
      offset = bypass_at;
      value &= 1;
    }
    const bool named = offset <= bypass_at && bypass_at - offset < size;
    const std::uint64_t byte = named ? value >> 8 * (bypass_at - offset) & 0xFF : 0;
    const bool right = !named || (byte <= 1 && model_->setting().bypass_config);
    const bool changes = named && right && model_->bypass() != (byte == 1);
    require(viommu_virtio_config_write(side_->engine, offset, size, value) == (right ? VIOMMU_OK : VIOMMU_E_REFUSED),
            "what becomes of a write to the configuration");
    if (changes) model_->set_bypass(byte == 1);
  }

  // ---- Requests ----
  struct Sent {
    VirtioRequest request;
    std::uint64_t at = 0;  ///< of its buffer
    std::uint32_t id = 0;  ///< in the ring
  };
  [[nodiscard]] static bool is_change_of_mappings(const VirtioRequest& request) {
    return request.bytes.size() >= 4 && (request.bytes[0] == 3 || request.bytes[0] == 4);
  }
  /// Somebody will not follow the next MAP or UNMAP.
  [[nodiscard]] Keeper* arm(std::uint8_t how, std::uint8_t which) {
    if ((how & 4) == 0 || side_->keepers.empty()) return nullptr;
    Keeper& keeper = *side_->keepers[which % side_->keepers.size()];
    keeper.fails_of = (which & 0x80) != 0 ? VIOMMU_EVENT_UNMAP : VIOMMU_EVENT_MAP;
    keeper.fails_after = which >> 4 & 3;
    keeper.failed = false;
    return &keeper;
  }
  /// @return whether somebody has failed
  static bool disarm(Keeper* keeper) {
    if (keeper == nullptr) return false;
    keeper->fails_of = 0;
    return std::exchange(keeper->failed, false);
  }

  void request(unsigned operation, std::uint8_t endpoint, Input& record) {
    const std::uint32_t id = endpoint_ids[endpoint % endpoint_ids.size()];
    const std::uint32_t probe_size = model_->setting().probe_size;
    VirtioRequest made = take_virtio_request(operation, id, probe_size, record);
    Input after = record;  // behind the cuts
    static_cast<void>(after.take<std::uint32_t>());
    const auto how = after.take<std::uint8_t>();
    const auto which = after.take<std::uint8_t>();
    const auto source = after.take<std::uint8_t>();
    near_ = {made.first, made.last};
    if ((how & 1) != 0 || !serves()) {
      finish_burst();
      return ask(made, how, which, source);
    }
    const std::uint64_t at = buffers_at + buffer_bytes * burst_.size();
    const VirtioPlace place{at, at + 0x2000 + margin, at + 0x1000};
    const test::RingBuffer buffer = cut_virtio_request(made, place, requests_.may_indirect(), record);
    if (buffer.slots() == 0) return;
    if (requests_.room() < buffer.slots()) {
      finish_burst();
      return;
    }
    lay_out(made, at);
    const std::uint32_t ring_id = requests_.add(buffer);
    burst_.push_back({std::move(made), at, ring_id});
    if ((how & 2) != 0 && burst_.size() < most_in_a_burst) return;
    send_burst(how, which, source);
  }
  void lay_out(const VirtioRequest& made, std::uint64_t at) {
    const auto writable = guest_.requests.span(at + 0x2000, made.writable + 2 * margin);
    std::ranges::fill(writable, std::byte{untouched});
    if (!made.bytes.empty())
      std::memcpy(guest_.requests.span(at, made.bytes.size()).data(), made.bytes.data(), made.bytes.size());
  }
  void finish_burst() {
    if (!burst_.empty()) send_burst(0, 0, 0);
  }

  /// All that was put into the ring, at once.
  void send_burst(std::uint8_t how, std::uint8_t which, std::uint8_t source) {
    const bool alone = burst_.size() == 1;
    Keeper* const keeper = alone && is_change_of_mappings(burst_[0].request) ? arm(how, which) : nullptr;
    const Model before = *model_;
    begin_guard(how, source);
    requests_.publish();
    notify(VIOMMU_VIRTIO_REQUESTS);
    side_->work();
    // While some wait for whoever uses what goes, the VMM does something else.
    std::size_t done = 0;
    collect(done, keeper, before);
    if (done < burst_.size()) {
      require(!uses_.empty(), "a request that nobody is in the way of is not answered");
      if (meanwhile(how, source)) return;
      const std::uint64_t wakes = side_->wakes;
      end_uses();
      require(side_->wakes != wakes, "a request waits, and nobody was woken when it could go on");
      side_->work();
      collect(done, keeper, before);
    }
    require_equal(done, burst_.size(), "requests that came back");
    burst_.clear();
    end_guard();
    static_cast<void>(disarm(keeper));
  }
  /// Those that have come back, in their order.
  void collect(std::size_t& done, Keeper* keeper, const Model& before) {
    bool due = false;
    const std::uint64_t notified = side_->notified[VIOMMU_VIRTIO_REQUESTS];
    const std::vector<test::UsedBuffer> used = requests_.collect(due);
    if (due) require(notified != notified_, "a notification that the driver did not get");
    notified_ = notified;
    for (const test::UsedBuffer& one : used) {
      require(done < burst_.size(), "a buffer that was not sent");
      const Sent& sent = burst_[done++];
      require_equal(one.id, sent.id, "the buffer that came back");
      const Bytes right = serve(sent.request, keeper, before);
      require_equal(one.length, right.size(), "used length");
      const std::span<std::byte> all = guest_.requests.span(sent.at + 0x2000, sent.request.writable + 2 * margin);
      for (std::size_t i = 0; i < all.size(); ++i) {
        const std::size_t at = i - margin;
        const std::uint8_t expected = i >= margin && at < right.size() ? right[at] : untouched;
        require_equal(std::to_integer<std::uint8_t>(all[i]), expected, "a byte of a reply");
      }
    }
  }
  /// By the model; then nobody may use any more what it has taken away.
  [[nodiscard]] Bytes serve(const VirtioRequest& request, Keeper* keeper, const Model& before) {
    Bytes right = model_->request(request.bytes, request.writable);
    if (keeper != nullptr && keeper->failed && right.size() == 4 && right[0] == 0) {
      *model_ = before;
      right[0] = 3;
    }
    check_uses();
    return right;
  }
  /// One that the VMM reads from the ring itself.
  void ask(const VirtioRequest& made, std::uint8_t how, std::uint8_t which, std::uint8_t source) {
    Keeper* const keeper = is_change_of_mappings(made) ? arm(how, which) : nullptr;
    const Model before = *model_;
    begin_guard(how, source);
    Bytes reply(made.writable, untouched);
    std::uint32_t used = 0;
    const auto try_once = [&] {
      const viommu_result result =
          viommu_virtio_request(side_->engine, made.bytes.data(), made.bytes.size(), reply.data(), reply.size(), &used);
      require(result == VIOMMU_OK || result == VIOMMU_E_BUSY, "what becomes of a request");
      return result == VIOMMU_OK;
    };
    bool done = false;
    for (unsigned turn = 0; turn < 100 && !done; ++turn) {
      done = try_once();
      if (!done) side_->work();
    }
    if (!done) {
      require(!uses_.empty(), "a request that nobody is in the way of is not answered");
      require_equal(used, 0, "used length of a request that waits");
      for (const std::uint8_t byte : reply) require_equal(byte, untouched, "the reply to a request that waits");
      if (meanwhile(how, source)) return static_cast<void>(disarm(keeper));
      const std::uint64_t wakes = side_->wakes;
      end_uses();
      require(side_->wakes != wakes, "a request waits, and nobody was woken when it could go on");
      for (unsigned turn = 0; turn < 100 && !done; ++turn) {
        done = try_once();
        if (!done) side_->work();
      }
      require(done, "a request that is never answered");
    }
    const Bytes right = serve(made, keeper, before);
    require_equal(used, right.size(), "used length");
    for (std::size_t i = 0; i < reply.size(); ++i)
      require_equal(reply[i], i < right.size() ? right[i] : untouched, "a byte of a reply");
    end_guard();
    static_cast<void>(disarm(keeper));
  }
  /// What happens while a request waits. @return whether it is forgotten
  bool meanwhile(std::uint8_t how, std::uint8_t source) {
    switch (how >> 4 & 7) {
      case 1: require(side_->save().empty(), "a device is saved whose request is not answered"); return false;
      case 2: {  // another one has to wait
        const Bytes other{3, 0, 0, 0};
        Bytes reply(4);
        std::uint32_t used = 0;
        require(viommu_virtio_request(side_->engine, other.data(), other.size(), reply.data(), reply.size(), &used) ==
                    (model_->setting().map_unmap ? VIOMMU_E_BUSY : VIOMMU_OK),
                "a request beside one that waits");
        return false;
      }
      case 3:
        static_cast<void>(viommu_drop_caches(side_->engine));
        notify(source & 1);
        return false;
      case 4:  // all of it goes
        forget_waiting();
        reset((source & 1) != 0);
        return true;
      default: return false;
    }
  }
  void forget_waiting() {
    burst_.clear();
    for (const auto& keeper : side_->keepers) static_cast<void>(disarm(keeper.get()));
    end_uses();
  }

  // ---- Who uses answers ----
  struct Use {
    std::uint64_t handle = 0;  ///< of a hold; 0: of the guard
    viommu_request request{};
    Answer answer;
    bool counts = true;  ///< whether requests wait for it
  };
  void begin_guard(std::uint8_t how, std::uint8_t source) {
    if ((how & 8) == 0) return;
    viommu_enter(side_->reader);
    in_guard_ = true;
    const viommu_request asked = dma(source, near_.first, VIOMMU_READ, VIOMMU_NO_REPORT);
    viommu_translation found{};
    static_cast<void>(viommu_translate(side_->reader, &asked, &found));
    const Answer right = answer_of(asked);
    check(asked, found, right);
    uses_.push_back({0, asked, right, found.kind != VIOMMU_FAULT});
  }
  void end_guard() {
    if (!std::exchange(in_guard_, false)) return;
    viommu_leave(side_->reader);
    std::erase_if(uses_, [](const Use& use) { return use.handle == 0; });
  }
  void end_uses() {
    for (const Use& use : uses_)
      if (use.handle != 0) require(viommu_release(side_->engine, use.handle) == VIOMMU_OK, "a hold that does not end");
    uses_.clear();
    if (std::exchange(in_guard_, false)) viommu_leave(side_->reader);
  }
  void release_all() {
    end_uses();
    side_->work();
  }
  [[nodiscard]] bool still_good(const Use& use) const {
    const Answer now = answer_of(use.request);
    return now.kind == use.answer.kind && now.gpa == use.answer.gpa;
  }
  void check_uses() const {
    for (const Use& use : uses_)
      require(!use.counts || still_good(use), "a request is answered while somebody uses what it took away");
  }
  void hold(const viommu_request& asked) {
    viommu_translation found{};
    std::uint64_t handle = 0;
    const viommu_result result = viommu_hold(side_->reader, &asked, 1, &found, &handle);
    const Answer right = answer_of(asked);
    check(asked, found, right);
    if (right.kind == VIOMMU_INTERRUPT) return require(result != VIOMMU_OK, "a doorbell that is held");
    if (right.kind == VIOMMU_FAULT) return require(result == VIOMMU_E_FAULT, "a fault that is held");
    require(result == VIOMMU_OK || result == VIOMMU_E_LIMIT, "what becomes of a hold");
    if (result == VIOMMU_OK) uses_.push_back({handle, asked, right, true});
  }

  // ---- DMA ----
  [[nodiscard]] static viommu_request dma(std::uint8_t source, std::uint64_t iova, std::uint8_t access,
                                          std::uint8_t flags) {
    viommu_request made{};
    made.iova = iova;
    made.source = sources[source % sources.size()];
    made.access = access;
    made.flags = flags;
    return made;
  }
  [[nodiscard]] Answer fault(std::uint8_t reason, std::uint64_t last) const {
    Answer answer;
    answer.reason = reason;
    answer.last = last;
    return answer;
  }
  [[nodiscard]] Answer answer_of(const viommu_request& asked) const {
    constexpr std::uint64_t top = ~std::uint64_t{0};
    Answer answer;
    const auto as_memory = [&](std::uint64_t last) {
      answer.last = std::min(
          last, asked.iova + (parts_.device_alike_up_to(answer.gpa, answer.gpa + (last - asked.iova)) - answer.gpa));
      if (parts_.is_mmio(answer.gpa)) answer.rights |= VIOMMU_MMIO;
      return answer;
    };
    const auto identity = [&](std::uint64_t last) {
      answer.kind = VIOMMU_IDENTITY;
      answer.rights = VIOMMU_READ | VIOMMU_WRITE;
      answer.gpa = asked.iova;
      return as_memory(last);
    };
    if (bypasses(asked.source)) return identity(top);
    const PluggedDevice* const device = behind(asked.source);
    if (device == nullptr) return fault(VIOMMU_VIRTIO_FAULT_UNKNOWN, top);
    if ((asked.flags & VIOMMU_HAS_PASID) != 0) return fault(VIOMMU_VIRTIO_FAULT_MAPPING, top);
    const std::uint32_t id = device->endpoint;
    if (const Model::Reserved* const region = model_->reserved_at(id, asked.iova)) {
      if (!region->msi || asked.access != VIOMMU_WRITE) return fault(VIOMMU_VIRTIO_FAULT_MAPPING, region->last);
      answer.kind = VIOMMU_INTERRUPT;
      answer.rights = VIOMMU_WRITE;
      answer.gpa = asked.iova;
      answer.last = region->last;
      return answer;
    }
    std::uint64_t free = top;  // of reserved memory
    for (const Model::Reserved& region : model_->reserved_of(id))
      if (region.first > asked.iova) free = std::min(free, region.first - 1);
    switch (model_->view(id)) {
      case View::unknown:    break;
      case View::detached:   return fault(VIOMMU_VIRTIO_FAULT_DOMAIN, free);
      case View::bypass:     return identity(free);
      case View::translated: {
        const auto found = model_->find(id, asked.iova);
        if (!found) {
          const Model::Intervals& all = model_->mappings_of(id);
          const auto next = all.upper_bound(asked.iova);
          return fault(VIOMMU_VIRTIO_FAULT_MAPPING, next == all.end() ? free : std::min(free, next->first - 1));
        }
        const std::uint64_t last = std::min(free, found->second.last);
        if ((asked.access & ~found->second.flags) != 0) return fault(VIOMMU_VIRTIO_FAULT_MAPPING, last);
        answer.kind = VIOMMU_TRANSLATED;
        answer.rights = found->second.flags & 3;
        answer.gpa = found->second.gpa + (asked.iova - found->first);
        return as_memory(last);
      }
    }
    return fault(VIOMMU_VIRTIO_FAULT_UNKNOWN, top);
  }
  void check(const viommu_request& asked, const viommu_translation& found, const Answer& right) {
    require_equal(found.kind, right.kind, "kind of an answer");
    require_equal(found.reason, right.reason, "reason of a fault");
    if (right.kind == VIOMMU_FAULT) {
      const bool silent = (asked.flags & VIOMMU_NO_REPORT) != 0;
      return require_equal(found.status, silent ? std::uint8_t{VIOMMU_FAULT_NOT_REPORTED} : report(asked, right.reason),
                           "what became of a report");
    }
    require_equal(found.gpa, right.gpa, "address of an answer");
    require_equal(found.rights, right.rights, "rights of an answer");
    if (right.kind == VIOMMU_INTERRUPT) return;
    // All of the block translates alike.
    require((found.mask & (found.mask + 1)) == 0 && ((asked.iova ^ found.gpa) & found.mask) == 0, "a block");
    viommu_request at_first = asked;
    at_first.iova &= ~found.mask;
    const Answer first = answer_of(at_first);
    require(first.kind == right.kind && first.rights == right.rights && first.gpa == (right.gpa & ~found.mask) &&
                first.last >= (asked.iova | found.mask),
            "a block that does not translate alike");
  }
  /// The driver is told, or its VMM. @return VIOMMU_FAULT_*
  std::uint8_t report(const viommu_request& asked, std::uint8_t reason) {
    const PluggedDevice* const device = behind(asked.source);
    Bytes bytes(report_bytes);
    const std::uint32_t flags = 0x100U | asked.access;
    const std::uint32_t id = device == nullptr ? asked.source : device->endpoint;
    bytes[0] = reason;
    std::memcpy(bytes.data() + 4, &flags, sizeof flags);
    std::memcpy(bytes.data() + 8, &id, sizeof id);
    std::memcpy(bytes.data() + 16, &asked.iova, sizeof asked.iova);
    if (!running_ || broken_ || !reports_.there()) {
      if (event_room_ == 0) return VIOMMU_FAULT_NO_BUFFER;
      --event_room_;
      told_.push_back(std::move(bytes));
      return VIOMMU_FAULT_RECORDED;
    }
    const auto place = std::ranges::find_if(posted_, [](const Posted& one) { return one.report.empty() && one.fits; });
    if (place == posted_.end()) return VIOMMU_FAULT_NO_BUFFER;
    place->report = std::move(bytes);
    return VIOMMU_FAULT_RECORDED;
  }

  void translate(std::uint8_t source, std::uint8_t access, std::uint8_t how, std::uint64_t iova, std::uint64_t length) {
    near_ = {iova, iova + length};
    std::uint8_t flags = (how & 1) != 0 ? VIOMMU_NO_REPORT : 0;
    if ((how & 0xE) == 0xE) flags |= VIOMMU_HAS_PASID;
    const viommu_request asked = dma(source, iova, static_cast<std::uint8_t>(1 + access % 3), flags);
    if ((how & 0x80) != 0) return hold(asked);
    switch (how >> 4 & 3) {
      case 0: {
        viommu_translation found{};
        const viommu_result result = viommu_translate(side_->reader, &asked, &found);
        require_equal(result == VIOMMU_E_FAULT, found.kind == VIOMMU_FAULT, "a fault and its result");
        check(asked, found, answer_of(asked));
        return keep(asked, found);
      }
      case 1:  return translate_batch(asked, length);
      case 2:  return translate_range(asked, length);
      default: {
        viommu_translation found{};
        static_cast<void>(viommu_translate_once(side_->engine, &asked, &found));
        return check(asked, found, answer_of(asked));
      }
    }
  }
  /// Whoever asks on each miss has it until he is told.
  void keep(const viommu_request& asked, const viommu_translation& found) {
    if (found.kind != VIOMMU_TRANSLATED && found.kind != VIOMMU_IDENTITY) return;
    for (const auto& keeper : side_->keepers)
      if (!keeper->maps() && keeper->source == asked.source && asked.iova >= keeper->model.consumer.first &&
          asked.iova <= keeper->model.consumer.last)
        keeper->answers.push_back({asked.iova, found.gpa});
  }
  void translate_batch(const viommu_request& first, std::uint64_t stride) {
    constexpr std::size_t count = 20;
    std::array<viommu_request, count> asked{};
    std::array<viommu_translation, count> found{};
    for (std::size_t i = 0; i < count; ++i) {
      asked[i] = first;
      asked[i].iova += i * stride;
      if (i % 7 == 6) asked[i].source = sources[i % sources.size()];
    }
    require(viommu_translate_batch(side_->reader, asked.data(), found.data(), count) == VIOMMU_OK, "a batch");
    for (std::size_t i = 0; i < count; ++i) check(asked[i], found[i], answer_of(asked[i]));
  }
  void translate_range(viommu_request asked, std::uint64_t length) {
    asked.length = length == 0 ? 1 : std::min(length, ~asked.iova);
    if (asked.length == 0) return;
    std::array<viommu_piece, 6> pieces{};
    viommu_range_end end{};
    const viommu_result result = viommu_translate_range(side_->reader, &asked, pieces.data(), pieces.size(), &end);
    require(result == VIOMMU_OK || result == VIOMMU_E_FAULT, "what becomes of a range");
    std::uint64_t at = asked.iova;
    for (std::uint32_t i = 0; i < end.pieces; ++i) {
      const viommu_piece& piece = pieces.at(i);
      require(piece.length != 0 && piece.iova == at, "a piece that does not follow the one before");
      const std::uint64_t last = at + (piece.length - 1);
      for (std::uint64_t from = at;;) {
        viommu_request inside = asked;
        inside.iova = from;
        const Answer right = answer_of(inside);
        require_equal(piece.kind, right.kind, "kind of a piece");
        require_equal(piece.rights, right.rights, "rights of a piece");
        require_equal(piece.gpa + (from - at), right.gpa, "address of a piece");
        if (right.last >= last) break;
        from = right.last + 1;
      }
      if (i > 0) {
        const viommu_piece& before = pieces.at(i - 1);
        require(before.kind != piece.kind || before.rights != piece.rights || before.gpa + before.length != piece.gpa,
                "two pieces that are one");
      }
      at += piece.length;
    }
    require_equal(end.translated, at - asked.iova, "bytes of all pieces");
    require_equal(end.complete, end.translated == asked.length, "whether a range is complete");
    viommu_request next = asked;
    next.iova = at;
    if (result == VIOMMU_E_FAULT) {
      const Answer right = answer_of(next);
      require(right.kind == VIOMMU_FAULT && end.complete == 0, "a range that stops where it could go on");
      require_equal(end.reason, right.reason, "reason of a range's fault");
      if ((asked.flags & VIOMMU_NO_REPORT) == 0)
        require_equal(end.status, report(next, right.reason), "what became of a range's report");
    } else if (end.complete == 0) {
      require(answer_of(next).kind != VIOMMU_FAULT, "a fault that a range does not tell of");
      require(end.translated != 0, "a range that does not begin");
    }
  }
  void host_fault(std::uint8_t source, std::uint8_t access, std::uint8_t reason, std::uint64_t iova) {
    const viommu_request asked = dma(source, iova, static_cast<std::uint8_t>(1 + access % 3), 0);
    std::uint8_t status = 0;
    const viommu_result result =
        viommu_report_host_fault(side_->engine, &asked, static_cast<std::uint8_t>(reason % 3), &status);
    require(result == VIOMMU_OK || result == VIOMMU_E_NOT_FOUND, "what becomes of a host's fault");
    if (result == VIOMMU_OK) require_equal(status, report(asked, reason % 3), "what became of a host's fault");
  }

  // ---- Reports ----
  struct Posted {
    std::uint32_t id = 0;
    std::uint64_t at = 0;
    std::uint32_t length = 0;
    bool fits = false;
    Bytes report;
  };
  void post(std::uint8_t cuts, std::uint8_t length) {
    if (!running_ || broken_ || !reports_.there()) {
      event_room_ = side_->event_room = cuts % 4U;
      return;
    }
    constexpr std::uint32_t room = 0x100;
    Posted posted;
    posted.length = (length & 0x80) != 0 ? length & 0x7F : 24;
    if (posted.length == 0 || reports_.room() < 3) return;
    posted.at = reports_at + room * (next_report_++ % 64);
    posted.fits = posted.length >= report_bytes;
    std::ranges::fill(guest_.requests.span(posted.at, room), std::byte{untouched});
    std::vector<test::Piece> pieces;
    const std::uint32_t first = cuts % posted.length;
    if (first != 0) pieces.push_back({posted.at, first, true});
    pieces.push_back({posted.at + first, posted.length - first, true});
    posted.id = reports_.add(test::direct(std::move(pieces)));
    reports_.publish();
    posted_.push_back(std::move(posted));
    notify(VIOMMU_VIRTIO_EVENTS);
  }
  /// In order: those that are full, and those that nothing fits into.
  void compare_reports() {
    require(side_->events == told_, "what the VMM was told of faults");
    if (!reports_.there() || !running_ || broken_) return;
    bool due = false;
    const std::uint64_t notified = side_->notified[VIOMMU_VIRTIO_EVENTS];
    const std::vector<test::UsedBuffer> used = reports_.collect(due);
    if (due) require(notified != reports_notified_, "a notification of a report that the driver did not get");
    reports_notified_ = notified;
    for (const test::UsedBuffer& one : used) {
      require(!posted_.empty(), "a report that nobody made");
      const Posted& posted = posted_.front();
      require_equal(one.id, posted.id, "the buffer of a report");
      require_equal(one.length, posted.report.size(), "length of a report");
      require(!posted.fits || !posted.report.empty(), "a buffer that comes back without a report");
      for (std::size_t i = 0; i < 0x100; ++i) {
        const std::uint8_t right = i < posted.report.size() ? posted.report[i] : untouched;
        require_equal(guest_.requests.get<std::uint8_t>(posted.at + i), right, "a byte of a report");
      }
      posted_.pop_front();
    }
    const bool lost = !posted_.empty() && (!posted_.front().fits || !posted_.front().report.empty());
    require(!lost, "a report that was lost");
  }

  // ---- Migration ----
  void move(std::uint8_t how, std::uint16_t where, std::uint64_t value) {
    release_all();
    require(viommu_quiesce(side_->engine, nullptr) == VIOMMU_OK, "a device that does not come to rest");
    State state = side_->save();
    require(!state.empty(), "a device at rest that is not saved");
    if (!get_ready()) return;
    std::unique_ptr<VirtioSide> there = make_twin();
    if ((how & 0x80) != 0) return attack(*there, state, how, where, value);
    there->load(state, false);
    there->work();
    require_same_state(there->save(), state, "a state that was loaded is saved as other bytes");
    there->event_room = side_->event_room;
    side_ = std::move(there);
    withdrawn_.clear();  // whoever has no facts there is not host-backed
    told_.clear();
    notified_ = reports_notified_ = 0;
  }
  /// A machine like this one, whose guest has not begun.
  [[nodiscard]] std::unique_ptr<VirtioSide> make_twin() {
    std::unique_ptr<VirtioSide> there = make_side();
    for (const Memory& memory : memories) {
      if (parts_.find(memory.gpa) == nullptr) continue;
      require(there->add_region(memory.gpa, memory.length, nullptr, memory.flags) == VIOMMU_OK, "a region");
    }
    for (const GuestPart& part : parts_.all()) {
      if (part.there) continue;
      const std::uint64_t bytes = part.last - part.first + 1;
      require(viommu_region_part(there->engine, part.first, bytes, VIOMMU_PART_DISCARDED, 1) == VIOMMU_OK, "a part");
    }
    require(viommu_ready(there->engine, nullptr, 0, nullptr) == VIOMMU_OK, "a machine without devices");
    for (PluggedDevice& device : plugged_) {
      viommu_refusal refusal{};
      require(there->plug(device, refusal) == VIOMMU_OK, "a device that one side has taken and the other refuses");
    }
    for (const auto& keeper : side_->keepers) {
      const viommu_consumer& like = keeper->model.consumer;
      auto twin = std::make_unique<Keeper>(keeper->source, like.declares & ~std::uint32_t{VIOMMU_CONSUMER_SHARES},
                                           like.first, like.last, keeper->maps());
      twin->model.consumer.unit_bytes = like.unit_bytes;
      require(there->subscribe(std::move(twin), keeper->source, keeper->model.host != nullptr),
              "a consumer that is not taken again");
    }
    return there;
  }
  /// A state that somebody has changed is refused whole, or is one.
  void attack(VirtioSide& there, State& state, std::uint8_t how, std::uint16_t where, std::uint64_t value) {
    there.work();
    const State before = there.save();
    require(!before.empty(), "a new device that is not at rest");
    const GuestBytes memory{guest_};  // its rings may be any, and work in the guest's memory
    change_state(state, how, true, where, value);
    if ((how & 8) == 0) reseal(state);
    const bool taken = there.load(state, true);
    there.work();
    if (!taken) require_same_state(there.save(), before, "a state that was refused has changed the device");
    for (const auto& keeper : there.keepers) require(keeper->model.wrong.empty(), "an event after a changed state");
    memory.put_back();
  }

  // ---- One record ----
  void step(Input record) {
    const unsigned operation = record.below(16);
    const auto endpoint = record.take<std::uint8_t>();
    if (operation <= 7) return request(operation, endpoint, record);
    finish_burst();
    other(operation, endpoint, record);
    void_uses();
  }
  void other(unsigned operation, std::uint8_t endpoint, Input& record) {
    const auto a = record.take<std::uint8_t>();
    const auto b = record.take<std::uint8_t>();
    const auto c = record.take<std::uint8_t>();
    const auto x = record.take<std::uint64_t>();
    const auto y = record.take<std::uint64_t>();
    switch (operation) {
      case 8:  return translate(endpoint, b, c, x, y);
      case 9:  return post(b, c);
      case 10: return write_config(b, x % 48, y);
      case 11:
        if ((a & 3) == 0) return unplug(endpoint);
        return (a & 3) == 1 ? unset_facts(endpoint) : plug(endpoint, b, c);
      case 12: return transport(endpoint, b, x);
      case 13: return subscribe(endpoint, b, c, x, y);
      case 14: return change_memory(endpoint, b, x);
      default: break;
    }
    switch (endpoint % 6) {
      case 0:  return move(b, static_cast<std::uint16_t>(y), x);
      case 1:  return static_cast<void>(viommu_drop_caches(side_->engine));
      case 2:  return host_fault(a, b, c, x);
      case 3:  return static_cast<void>(get_ready());
      case 4:  return end_uses();
      default: return dump();
    }
  }
  void dump() {
    viommu_dump_options options{};
    options.size = sizeof options;
    std::size_t bytes = 0;
    options.opaque = &bytes;
    options.write = [](void* all, const char*, std::size_t length) { *static_cast<std::size_t*>(all) += length; };
    require(viommu_dump(side_->engine, &options) == VIOMMU_OK && bytes != 0, "a dump");
  }

  // ---- What is to be seen ----
  void compare() {
    side_->work();
    compare_reports();
    compare_device();
    for (const std::uint16_t source : sources) compare_view(source);
    for (const auto& keeper : side_->keepers) compare_keeper(*keeper);
    require(side_->spaces.wrong.empty(), "a space that was not there");
  }
  void compare_device() {
    const Model::Setting& setting = model_->setting();
    require_equal(side_->config(0, 8), page_sizes_, "page sizes");
    require_equal(side_->config(8, 8), setting.input_first, "first address");
    require_equal(side_->config(16, 8), setting.input_last, "last address");
    require_equal(side_->config(24, 4), setting.domain_first, "first domain");
    require_equal(side_->config(28, 4), setting.domain_last, "last domain");
    require_equal(side_->config(32, 4), setting.probe_size, "size of properties");
    require_equal(side_->config(36, 4), model_->bypass() ? 1 : 0, "bypass");
    require_equal(side_->broken() ? 1 : 0, broken_ ? 1 : 0, "whether the device is broken");
    viommu_virtio_statistics figures{};
    figures.size = sizeof figures;
    require(viommu_virtio_statistics_get(side_->engine, &figures) == VIOMMU_OK, "figures");
    require_equal(figures.domains, model_->domain_count(), "number of domains");
    require_equal(figures.mappings, model_->mapping_count(), "number of mappings");
  }
  void compare_view(std::uint16_t source) {
    std::uint32_t view = 0;
    require(viommu_view(side_->engine, source, &view) == VIOMMU_OK, "a view");
    const PluggedDevice* const device = behind(source);
    const View right = device == nullptr ? View::unknown : model_->view(device->endpoint);
    std::uint32_t expected = VIOMMU_VIEW_BLOCKED;
    if (right == View::bypass || bypasses(source)) expected = VIOMMU_VIEW_SYSTEM;
    if (right == View::translated) expected = VIOMMU_VIEW_TRANSLATED;
    require_equal(view, expected, "the view of a device");
    for (const std::uint64_t iova :
         {near_.first, near_.first - 1, near_.last, near_.last + 1, std::uint64_t{0}, ~std::uint64_t{0}}) {
      viommu_request asked{};
      asked.iova = iova;
      asked.source = source;
      asked.access = VIOMMU_READ;
      asked.flags = VIOMMU_NO_REPORT;
      viommu_translation found{};
      static_cast<void>(viommu_translate(side_->reader, &asked, &found));
      check(asked, found, answer_of(asked));
    }
  }
  void compare_keeper(const Keeper& keeper) {
    const PluggedDevice* const device = behind(keeper.source);
    const View view = device == nullptr ? View::unknown : model_->view(device->endpoint);
    if (!keeper.model.wrong.empty()) fail(keeper.model.wrong.front().c_str());
    if (!keeper.maps()) {
      for (const Keeper::Answer& one : keeper.answers) {
        viommu_request asked{};
        asked.iova = one.iova;
        asked.source = keeper.source;
        Answer now = answer_of(asked);  // asks for no right
        require(now.kind != VIOMMU_FAULT && now.gpa == one.gpa, "an answer went, and who has it was not told");
      }
      return;
    }
    ConsumerView right{parts_, keeper.model.consumer};
    std::vector<test::Extent> expected;
    if (view == View::bypass || bypasses(keeper.source)) expected = right.system();
    if (view == View::translated) expected = right.translated(model_->mappings_of(device->endpoint));
    const std::vector<test::Extent> found = keeper.model.extents();
    if (found == expected) return;
    const auto show = [](const char* who, const std::vector<test::Extent>& extents) {
      std::fprintf(stderr, "%s:\n", who);
      for (const test::Extent& one : extents)
        std::fprintf(stderr, "  %llx +%llx -> %llx %u\n", static_cast<unsigned long long>(one.iova),
                     static_cast<unsigned long long>(one.length), static_cast<unsigned long long>(one.gpa), one.rights);
    };
    show("held", found);
    show("right", expected);
    fail("what a consumer holds");
  }

  struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  Guest& guest_;
  std::uint8_t choice_ = 0;
  bool blocked_at_boot_ = false;
  std::uint64_t wanted_ = 0;  ///< features that its driver takes
  std::uint64_t offered_ = 0;
  std::vector<Model::Reserved> configured_;
  std::optional<Model> model_;
  std::unique_ptr<VirtioSide> side_;

  // The machine.
  GuestParts parts_;
  std::vector<PluggedDevice> plugged_;
  std::vector<std::uint16_t> withdrawn_;  ///< whose host facts were
  std::uint64_t page_sizes_ = 0;
  bool ready_ = false;

  // The transport.
  std::uint64_t features_ = 0;
  bool running_ = false;
  bool broken_ = false;
  DriverRing requests_{guest_.requests};
  DriverRing reports_{guest_.reports};
  std::vector<Sent> burst_;
  std::uint64_t notified_ = 0;
  std::uint64_t reports_notified_ = 0;
  std::deque<Posted> posted_;
  std::uint64_t next_report_ = 0;
  unsigned event_room_ = 0;
  std::vector<Bytes> told_;

  std::vector<Use> uses_;
  bool in_guard_ = false;
  Range near_;
};

constexpr std::size_t head_bytes = 4;
constexpr std::array<Cell, 14> cells{{{0, 1},
                                      {1, 1},
                                      {2, 1},
                                      {3, 1},
                                      {4, 1},
                                      {5, 8},
                                      {13, 8},
                                      {21, 8},
                                      {29, 1},
                                      {30, 2},
                                      {34, 1},
                                      {35, 1},
                                      {36, 1},
                                      {5, 1}}};
constexpr auto values = [] {
  constexpr std::array<std::uint64_t, 8> more{0x1000'0000, 0x1008'0000, 0x4FFF'F000,   0x500F'F000,
                                              0x6000'0000, 0x10'2000,   0x1'0000'0000, 0x1'3FFF'F000};
  std::array<std::uint64_t, virtio_values.size() + more.size()> all{};
  std::ranges::copy(more, std::ranges::copy(virtio_values, all.begin()).out);
  return all;
}();
constexpr RecordShape shape{head_bytes, World::record_bytes, cells, values};

}  // namespace
}  // namespace viommu::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::fuzz;
  static Guest guest;
  Input input{data, size};
  World world{guest, input};
  world.run(input);
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::fuzz::shape, data, size, most, seed);
}
