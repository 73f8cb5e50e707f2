// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: for any requests of a virtio IOMMU driver, cut into descriptors at any byte, with too much or too little
// room, the used length, every byte of the reply and what each endpoint sees afterwards are the model's; beside the
// reply nothing is written.
//
//   head: features, sizes, domains     record: what it is, ids, cuts, lengths, addresses
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "engine/virtio_iommu/domains.hpp"
#include "engine/virtio_iommu/reply.hpp"
#include "engine/virtqueue/queue.hpp"
#include "fuzz/models/virtio_iommu_model.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/virtio_grammar.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/virtqueue/packed_driver.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::virtio_iommu {
namespace {

using fuzz::Input;
using fuzz::require;
using fuzz::require_equal;
using Model = fuzz::VirtioIommuModel;

constexpr std::uint16_t ring_size = 16;
constexpr std::uint64_t readable_at = test::RingGuest::first + 0x20000;
constexpr std::uint64_t writable_at = test::RingGuest::first + 0x30000;
constexpr std::uint64_t indirect_at = test::RingGuest::first + 0x40000;
constexpr std::uint64_t margin = 16;
constexpr std::uint8_t untouched = 0xEE;

constexpr std::array<std::uint32_t, 6> endpoint_ids{0x100, 0x108, 0x200, 0xFFFF'FFFF, 0, 0x101};

HostAllocator allocator() {
  HostAllocator functions;
  functions.allocate = [](void*, std::size_t size, std::size_t alignment) {
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  };
  functions.deallocate = [](void*, void* memory, std::size_t, std::size_t) { std::free(memory); };
  return functions;
}

struct Setup {
  Model::Setting setting;
  Features negotiated;
  ConfigValues values;

  explicit Setup(Input& input) {
    const auto flags = input.take<std::uint8_t>();
    setting = fuzz::virtio_setting(flags, input.take<std::uint8_t>());
    namespace f = features;
    negotiated = with(negotiated, f::map_unmap, setting.map_unmap);
    negotiated = with(negotiated, f::probe, setting.probe);
    negotiated = with(negotiated, f::mmio, setting.mmio);
    negotiated = with(negotiated, f::bypass_config, setting.bypass_config);
    values.page_size_mask = ~(setting.granule - 1);
    values.input = {{setting.input_first}, {setting.input_last}};
    values.domains = {{setting.domain_first}, {setting.domain_last}};
    values.probe_size = setting.probe_size;
  }
};

/// A device without an engine around it: requests go from the ring to the domains at once.
template <class Driver>
class World {
 public:
  World(const Setup& setup, test::RingGuest& guest, bool event_index)
      : setup_{setup},
        guest_{guest},
        config_{setup.values},
        domains_{allocator(), config_, {setup.setting.domains, 4, {1 << 12, 1 << 24}, false}, {}},
        driver_{guest, ring_size, event_index},
        model_{setup.setting} {
    require(domains_.reset(77), "the world could not be made");
    require(queue_.enable(driver_.config()) == virtqueue::ConfigProblem::none, "the queue could not be enabled");
    add(0, 1);
    add(1, 0);
  }

  void run(Input input) {
    while (!input.empty()) {
      Input record = input.record(record_bytes);
      const unsigned operation = record.below(10);
      const auto endpoint = record.take<std::uint8_t>();
      switch (operation) {
        case 7:  add(endpoint % 3U, record.take<std::uint8_t>()); break;
        case 8:  remove(endpoint % endpoint_ids.size()); break;
        case 9:  set_bypass((endpoint & 1) != 0); break;
        default: request(operation, endpoint, record); break;
      }
      compare();
      ++fuzz::work_done;
    }
  }
  static constexpr std::size_t record_bytes = 40;

 private:
  void add(std::size_t number, std::uint8_t reserved) {
    std::vector<ReservedRegion> regions;
    std::vector<Model::Reserved> same;
    if ((reserved & 1) != 0) {
      regions.push_back({{{0x30'0000}, {0x30'7FFF}}, ReservedMemoryKind::reserved});
      same.push_back({0x30'0000, 0x30'7FFF, false});
    }
    if ((reserved & 2) != 0) {
      regions.push_back({{{0xFEE0'0000}, {0xFEEF'FFFF}}, ReservedMemoryKind::msi});
      same.push_back({0xFEE0'0000, 0xFEEF'FFFF, true});
    }
    const std::uint32_t id = endpoint_ids[number];
    const bool known = model_.view(id) != Model::View::unknown;
    const Domains::Added added = domains_.add_endpoint({{id}, {}}, regions);
    require((added == Domains::Added::exists) == known, "an endpoint added twice");
    if (!known && added == Domains::Added::ok) model_.add(id, same);
    require(known || added == Domains::Added::ok, "an endpoint that could not be added");
  }
  void remove(std::size_t number) {
    require_equal(domains_.remove_endpoint({endpoint_ids[number]}), model_.remove(endpoint_ids[number]),
                  "whether an endpoint was removed");
  }
  void set_bypass(bool bypass) {
    if (!setup_.setting.bypass_config) return;
    if (config_.write(0x24, 1, bypass ? 1 : 0, setup_.negotiated) == ConfigWrite::bypass) domains_.bypass_changed();
    model_.set_bypass(bypass);
  }

  void request(unsigned operation, std::uint8_t endpoint, Input& record) {
    const std::uint32_t id = endpoint_ids[endpoint % endpoint_ids.size()];
    const fuzz::VirtioRequest made = fuzz::take_virtio_request(operation, id, setup_.setting.probe_size, record);
    for (std::uint64_t i = 0; i < made.writable + 2 * margin; ++i) guest_.put(writable_at + i, untouched);
    for (std::size_t i = 0; i < made.bytes.size(); ++i) guest_.put(readable_at + i, made.bytes[i]);
    const test::RingBuffer buffer =
        fuzz::cut_virtio_request(made, {readable_at, writable_at + margin, indirect_at}, true, record);
    if (buffer.slots() == 0) return;
    const auto ring_id = static_cast<std::uint16_t>(driver_.add(buffer));
    driver_.publish();
    const std::vector<std::uint8_t> right = model_.request(made.bytes, made.writable);
    serve();
    const auto used = driver_.collect();
    require_equal(used.size(), 1, "buffers that came back");
    require_equal(used[0].id, ring_id, "the buffer that came back");
    require_equal(used[0].length, right.size(), "used length");
    for (std::uint64_t i = 0; i < made.writable + 2 * margin; ++i) {
      const std::uint64_t at = i - margin;
      const std::uint8_t expected = i >= margin && at < right.size() ? right[at] : untouched;
      require_equal(guest_.get<std::uint8_t>(writable_at + i), expected, "a byte of a reply");
    }
  }
  void serve() {
    const virtqueue::Memory memory{guest_.memory()};
    const auto serve_one = [&](const virtqueue::Chain& chain) {
      RequestBytes bytes{};
      const std::optional<Decoded> decoded =
          read_request(memory, chain, setup_.negotiated, setup_.setting.probe_size, bytes);
      require(decoded.has_value(), "memory that has gone");
      if (!decoded) return virtqueue::Served{virtqueue::Served::Outcome::memory_gone};
      const std::optional<std::uint32_t> used = answer(memory, chain, *decoded);
      require(used.has_value(), "memory that has gone");
      return virtqueue::Served{virtqueue::Served::Outcome::done, used.value_or(0)};
    };
    const virtqueue::RunResult result =
        queue_.run(memory, chain_, 4, [&](const virtqueue::Chain& chain) noexcept -> virtqueue::Served {
          try {
            return serve_one(chain);
          } catch (...) {
            std::abort();  // of the target's own
          }
        });
    require(result.stop == virtqueue::RunResult::Stop::idle, "a queue that did not come to its end");
  }
  std::optional<std::uint32_t> answer(const virtqueue::Memory& memory, const virtqueue::Chain& chain,
                                      const Decoded& decoded) {
    if (std::holds_alternative<Unanswered>(decoded.request)) return 0;
    if (const auto* const probe = std::get_if<Probe>(&decoded.request)) {
      const auto reserved = domains_.reserved_of(probe->endpoint);
      std::vector<std::byte> properties(reserved ? decoded.tail_offset : 0);
      if (reserved) require(encode_properties(*reserved, properties), "properties that do not fit");
      return write_reply(memory, chain, decoded.tail_offset, reserved ? Status::ok : Status::no_entry, properties);
    }
    Domains::Outcome outcome = perform(decoded.request);
    for (unsigned turn = 0; outcome.later && turn < 10'000; ++turn) {
      domains_.seal(++ticket_);
      while (domains_.reclaim(ticket_, 100)) {
      }
      outcome = perform(decoded.request);
    }
    require(!outcome.later, "a request that is never answered");
    return write_reply(memory, chain, decoded.tail_offset, outcome.status);
  }
  Domains::Outcome perform(const Request& request) {
    if (const auto* const attach = std::get_if<Attach>(&request)) return domains_.attach(*attach);
    if (const auto* const detach = std::get_if<Detach>(&request)) return domains_.detach(*detach);
    if (const auto* const map = std::get_if<Map>(&request)) {
      near_ = {map->virt_start.value, map->virt_end.value};
      return domains_.map(*map);
    }
    if (const auto* const unmap = std::get_if<Unmap>(&request)) {
      near_ = {unmap->virt_start.value, unmap->virt_end.value};
      return domains_.unmap(*unmap, 2);
    }
    return {std::get<Refused>(request).status, false};
  }

  void compare() {
    require_equal(domains_.domains(), model_.domain_count(), "number of domains");
    for (const std::uint32_t id : endpoint_ids) {
      const EndpointView view = domains_.view({id});
      require_equal(static_cast<unsigned>(view.kind), static_cast<unsigned>(model_.view(id)), "what an endpoint sees");
      if (view.kind != EndpointView::Kind::translated) continue;
      for (const std::uint64_t iova :
           {near_.first, near_.first - 1, near_.last, near_.last + 1, std::uint64_t{0}, ~std::uint64_t{0}}) {
        const auto found = view.domain->mappings.find({iova});
        const auto right = model_.find(id, iova);
        require_equal(found.has_value(), right.has_value(), "whether an address is mapped");
        if (!found || !right) continue;
        require_equal(found->range.first.value, right->first, "start of a mapping");
        require_equal(found->range.last.value, right->second.last, "end of a mapping");
        require_equal(found->gpa.value, right->second.gpa, "where a mapping leads");
        require_equal(found->rights.bits() | (found->mmio ? 4U : 0U), right->second.flags, "flags of a mapping");
      }
    }
  }

  struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  const Setup& setup_;
  test::RingGuest& guest_;
  ConfigSpace config_;
  Domains domains_;
  Driver driver_;
  Model model_;
  virtqueue::Queue queue_;
  virtqueue::Chain chain_;
  Range near_;
  std::uint64_t ticket_ = 0;
};

constexpr std::size_t head_bytes = 2;
constexpr fuzz::RecordShape shape{head_bytes, World<test::SplitDriver>::record_bytes, fuzz::virtio_cells,
                                  fuzz::virtio_values};

}  // namespace
}  // namespace viommu::virtio_iommu

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::virtio_iommu;
  static viommu::test::RingGuest guest{viommu::test::Reach::mapped};
  viommu::fuzz::Input input{data, size};
  const bool packed = size > 0 && (data[0] & 8) != 0;
  const bool event_index = size > 0 && (data[0] & 16) != 0;
  const Setup setup{input};
  // Rings begin blank.
  for (std::uint64_t at = 0; at < 0x20000; at += 8)
    if (guest.get<std::uint64_t>(viommu::test::RingGuest::first + at) != 0)
      guest.put<std::uint64_t>(viommu::test::RingGuest::first + at, 0);
  if (packed)
    World<viommu::test::PackedDriver>{setup, guest, event_index}.run(input);
  else
    World<viommu::test::SplitDriver>{setup, guest, event_index}.run(input);
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::virtio_iommu::shape, data, size, most, seed);
}
