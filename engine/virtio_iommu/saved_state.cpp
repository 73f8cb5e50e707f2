// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/saved_state.hpp"

#include <algorithm>

#include "engine/virtio_iommu/layouts.hpp"
#include "engine/virtqueue/problem.hpp"

namespace viommu::virtio_iommu {
namespace {

using machine::FieldMismatch;
using machine::SectionReader;
using machine::StateProblem;
using machine::StateWriter;

constexpr std::array sections{section::device,    section::transport, section::queues,  section::domains,
                              section::endpoints, section::gone,      section::mappings};
enum : std::size_t { device_at, transport_at, queues_at, domains_at, endpoints_at, gone_at, mappings_at };

constexpr std::size_t frame_bytes = 24 + 8 + 8 * sections.size();  // header, checksum, and before each section
constexpr std::size_t device_bytes = 44;
constexpr std::size_t transport_bytes = 12;
constexpr std::size_t queue_bytes = 40;
constexpr std::size_t count_bytes = 4;
constexpr std::size_t domain_bytes = 16;
constexpr std::size_t endpoint_bytes = 8;
constexpr std::size_t mapping_bytes = 28;

struct TransportBits {
  std::uint32_t raw = 0;
};
namespace transport_bits {
inline constexpr Field<TransportBits, bool> running{"running", {0, 0}};
inline constexpr Field<TransportBits, bool> broken{"broken", {1, 1}};
inline constexpr Field<TransportBits, bool> bypass{"bypass", {2, 2}};
inline constexpr Field<TransportBits, std::uint32_t> unknown{"", {31, 3}, Rule::reserved};
inline constexpr auto rows = layout(running, broken, bypass, unknown);
}  // namespace transport_bits

struct QueueBits {
  std::uint32_t raw = 0;
};
namespace queue_bits {
inline constexpr Field<QueueBits, bool> available_wrap{"available_wrap", {0, 0}};
inline constexpr Field<QueueBits, bool> used_wrap{"used_wrap", {1, 1}};
inline constexpr Field<QueueBits, bool> indirect{"INDIRECT_DESC", {2, 2}};
inline constexpr Field<QueueBits, bool> event_index{"EVENT_IDX", {3, 3}};
inline constexpr Field<QueueBits, bool> packed{"RING_PACKED", {4, 4}};
inline constexpr Field<QueueBits, std::uint32_t> unknown{"", {31, 5}, Rule::reserved};
inline constexpr auto rows = layout(available_wrap, used_wrap, indirect, event_index, packed, unknown);
}  // namespace queue_bits

struct DomainBits {
  std::uint32_t raw = 0;
};
namespace domain_bits {
inline constexpr Field<DomainBits, bool> bypass{"bypass", {0, 0}};
inline constexpr Field<DomainBits, std::uint32_t> unknown{"", {31, 1}, Rule::reserved};
inline constexpr auto rows = layout(bypass, unknown);
}  // namespace domain_bits

// ---- Writing ----

void put_queue(StateWriter& to, const SavedQueue& queue) noexcept {
  const virtqueue::Config& config = queue.config;
  const bool there = config.size != 0;
  const virtqueue::State state = there ? queue.state : virtqueue::State{.available_wrap = false, .used_wrap = false};
  to.put_u32(config.size);
  to.put_u64(config.descriptor_area.value);
  to.put_u64(config.driver_area.value);
  to.put_u64(config.device_area.value);
  to.put_u16(state.next_available);
  to.put_u16(state.next_used);
  QueueBits bits;
  bits = with(bits, queue_bits::available_wrap, state.available_wrap);
  bits = with(bits, queue_bits::used_wrap, state.used_wrap);
  bits = with(bits, queue_bits::indirect, config.features.indirect);
  bits = with(bits, queue_bits::event_index, config.features.event_index);
  bits = with(bits, queue_bits::packed, config.features.packed);
  to.put_u32(bits.raw);
  to.put_u32(state.unannounced);
}

void put_endpoints(StateWriter& to, section::SectionName name, const HostArray<SavedEndpoint>& endpoints) noexcept {
  to.begin(name);
  to.put_u32(static_cast<std::uint32_t>(endpoints.size()));
  for (const SavedEndpoint& endpoint : endpoints) {
    to.put_u32(endpoint.id.value);
    to.put_u32(endpoint.domain.value);
  }
  to.end();
}

void put_mapping(StateWriter& to, const Mapping& mapping) noexcept {
  to.put_u64(mapping.range.first.value);
  to.put_u64(mapping.range.last.value);
  to.put_u64(mapping.gpa.value);
  MapFlags flags;
  flags = with(flags, map_flags::read, mapping.rights.read());
  flags = with(flags, map_flags::write, mapping.rights.write());
  flags = with(flags, map_flags::mmio, mapping.mmio);
  to.put_u32(flags.raw);
}

// ---- Reading: each says what is wrong, or nothing ----

[[nodiscard]] std::optional<FieldMismatch> difference(const DeviceIdentity& device, SectionReader& saved) noexcept {
  const std::uint64_t offered = saved.u64();
  for (const auto& row : features::rows)
    if (row.value_in(device.offered.raw) != row.value_in(offered))
      return FieldMismatch{row.name.empty() ? "features" : row.name, row.value_in(device.offered.raw),
                           row.value_in(offered)};
  const ConfigValues& own = device.config.values();
  struct Word {
    std::string_view name;
    std::uint64_t own;
    std::uint64_t found;
  };
  const std::array words{Word{"page_size_mask", own.page_size_mask, saved.u64()},
                         Word{"input_range.start", own.input.first.value, saved.u64()},
                         Word{"input_range.end", own.input.last.value, saved.u64()},
                         Word{"domain_range.start", own.domains.first.value, saved.u32()},
                         Word{"domain_range.end", own.domains.last.value, saved.u32()},
                         Word{"probe_size", own.probe_size, saved.u32()}};
  for (const Word& word : words)
    if (word.own != word.found) return FieldMismatch{word.name, word.own, word.found};
  return std::nullopt;
}

[[nodiscard]] const char* read_transport(SectionReader& saved, Features offered, SavedState& state) noexcept {
  state.negotiated = {saved.u64()};
  const TransportBits bits{saved.u32()};
  state.running = get(bits, transport_bits::running);
  state.broken = get(bits, transport_bits::broken);
  state.bypass = get(bits, transport_bits::bypass);
  if (get(bits, transport_bits::unknown) != 0) return "has bits that are not known here";
  const bool none = state.negotiated.raw == 0;
  if (!none && !acceptable(offered, state.negotiated)) return "has features that cannot be negotiated";
  if (state.running && none) return "runs without features";
  if (state.broken && !state.running) return "is broken and does not run";
  if (state.bypass && !get(offered, features::bypass_config)) return "has a byte that is not offered";
  return nullptr;
}

[[nodiscard]] const char* read_queue(SectionReader& saved, Features offered, SavedQueue& queue) noexcept {
  const std::uint32_t size = saved.u32();
  virtqueue::Config& config = queue.config;
  config.descriptor_area = {saved.u64()};
  config.driver_area = {saved.u64()};
  config.device_area = {saved.u64()};
  queue.state.next_available = saved.u16();
  queue.state.next_used = saved.u16();
  const QueueBits bits{saved.u32()};
  queue.state.unannounced = saved.u32();
  if (size == 0) {
    const std::uint64_t rest = config.descriptor_area.value | config.driver_area.value | config.device_area.value |
                               queue.state.next_available | queue.state.next_used | bits.raw | queue.state.unannounced;
    queue = {};
    return rest != 0 ? "has a queue that is not there" : nullptr;
  }
  if (size > virtqueue::most_entries || get(bits, queue_bits::unknown) != 0) return "has a queue that cannot be";
  config.size = static_cast<std::uint16_t>(size);
  queue.state.available_wrap = get(bits, queue_bits::available_wrap);
  queue.state.used_wrap = get(bits, queue_bits::used_wrap);
  config.features.indirect = get(bits, queue_bits::indirect);
  config.features.event_index = get(bits, queue_bits::event_index);
  config.features.packed = get(bits, queue_bits::packed);
  const virtqueue::Features may = ring_features(offered);
  const bool offered_all = (may.indirect || !config.features.indirect) &&
                           (may.event_index || !config.features.event_index) && (may.packed || !config.features.packed);
  if (!offered_all || problem_of(config) != virtqueue::ConfigProblem::none || !possible(config, queue.state))
    return "has a queue that cannot be";
  return nullptr;
}

/// A count, and whether as many records of this size are all that follows.
[[nodiscard]] bool read_count(SectionReader& saved, std::size_t record_bytes, std::size_t& count) noexcept {
  count = saved.u32();
  return saved.left() % record_bytes == 0 && saved.left() / record_bytes == count;
}

constexpr const char* other_length = "has another length";
constexpr const char* no_memory = "";  ///< in place of what is wrong

[[nodiscard]] const char* read_domains(SectionReader& saved, const DeviceIdentity& device,
                                       const Domains::Limits& limits, const HostAllocator& allocator,
                                       HostArray<SavedDomain>& domains) noexcept {
  std::size_t count = 0;
  if (!read_count(saved, domain_bytes, count)) return other_length;
  if (count > limits.domains) return "has more domains than there can be";
  if (!domains.reset(allocator, count)) return no_memory;
  std::uint64_t left = limits.mappings.mappings;
  for (std::size_t i = 0; i < count; ++i) {
    SavedDomain& domain = domains[i];
    domain.id = {saved.u32()};
    const DomainBits bits{saved.u32()};
    domain.bypass = get(bits, domain_bits::bypass);
    domain.mappings = saved.u64();
    if (i != 0 && domain.id <= domains[i - 1].id) return "has domains that do not ascend";
    const bool may_be = device.config.values().domains.contains(domain.id) && get(bits, domain_bits::unknown) == 0 &&
                        (!domain.bypass || (get(device.offered, features::bypass_config) && domain.mappings == 0));
    if (!may_be) return "has a domain that cannot be";
    if (domain.mappings > left) return "has more mappings than there can be";
    left -= domain.mappings;
  }
  return nullptr;
}

[[nodiscard]] bool by_id(const SavedEndpoint& one, const SavedEndpoint& other) noexcept { return one.id < other.id; }

[[nodiscard]] const char* read_attached(SectionReader& saved, const Domains::Limits& limits,
                                        const HostAllocator& allocator, SavedState& state) noexcept {
  std::size_t count = 0;
  if (!read_count(saved, endpoint_bytes, count)) return other_length;
  if (count > limits.endpoints) return "has more endpoints than there can be";
  if (!state.attached.reset(allocator, count)) return no_memory;
  for (std::size_t i = 0; i < count; ++i) {
    SavedEndpoint& endpoint = state.attached[i];
    endpoint.id = {saved.u32()};
    endpoint.domain = {saved.u32()};
    if (i != 0 && !by_id(state.attached[i - 1], endpoint)) return "has endpoints that do not ascend";
    SavedDomain* const domain = std::ranges::lower_bound(state.domains, endpoint.domain, {}, &SavedDomain::id);
    if (domain == state.domains.end() || domain->id != endpoint.domain) return "names a domain that is not there";
    ++domain->members;
  }
  const bool all = std::ranges::all_of(state.domains, [](const SavedDomain& domain) { return domain.members != 0; });
  return all ? nullptr : "leaves a domain without endpoints";
}

[[nodiscard]] const char* read_gone(SectionReader& saved, const DeviceIdentity& device, const Domains::Limits& limits,
                                    const HostAllocator& allocator, SavedState& state) noexcept {
  std::size_t count = 0;
  if (!read_count(saved, endpoint_bytes, count)) return other_length;
  const std::size_t most = limits.gone_is_unknown ? 0 : limits.endpoints - state.attached.size();
  if (count > most) return "has more endpoints than there can be";
  HostArray<SavedEndpoint> ordered;
  if (!state.gone.reset(allocator, count) || !ordered.reset(allocator, count)) return no_memory;
  for (std::size_t i = 0; i < count; ++i) {
    SavedEndpoint& endpoint = state.gone[i];
    endpoint.id = {saved.u32()};
    endpoint.domain = {saved.u32()};
    if (!device.config.values().domains.contains(endpoint.domain)) return "names a domain that cannot be";
    if (std::ranges::binary_search(state.attached, endpoint.id, {}, &SavedEndpoint::id))
      return "has an endpoint that is attached";
    ordered[i] = endpoint;
  }
  std::ranges::sort(ordered, by_id);
  const auto same = [](const SavedEndpoint& one, const SavedEndpoint& other) { return one.id == other.id; };
  return std::ranges::adjacent_find(ordered, same) == ordered.end() ? nullptr : "has an endpoint twice";
}

struct MappingRecord {
  Mapping mapping;
  MapFlags flags;
};
[[nodiscard]] MappingRecord read_record(SectionReader& saved) noexcept {
  MappingRecord record;
  record.mapping.range.first = {saved.u64()};
  record.mapping.range.last = {saved.u64()};
  record.mapping.gpa = {saved.u64()};
  record.flags = {saved.u32()};
  record.mapping.rights = Rights{get(record.flags, map_flags::read), get(record.flags, map_flags::write)};
  record.mapping.mmio = get(record.flags, map_flags::mmio);
  return record;
}

/// As a MAP is checked, but for reserved memory, which may have come later than the mapping.
[[nodiscard]] const char* check_mappings(SectionReader saved, const DeviceIdentity& device,
                                         const HostArray<SavedDomain>& domains) noexcept {
  const ConfigValues& config = device.config.values();
  const std::uint64_t low = device.config.granule() - 1;
  for (const SavedDomain& domain : domains) {
    std::optional<Iova> last;
    for (std::uint64_t i = 0; i < domain.mappings; ++i) {
      if (saved.left() < mapping_bytes) return other_length;
      const auto [mapping, flags] = read_record(saved);
      const IovaRange range = mapping.range;
      if (range.last < range.first || (last && range.first <= *last)) return "has mappings that do not ascend";
      last = range.last;
      const std::uint64_t misaligned = range.first.value | (range.last.value + 1) | mapping.gpa.value;
      const bool wraps = mapping.gpa.value + (range.last.value - range.first.value) < mapping.gpa.value;
      const bool may_be = (misaligned & low) == 0 && range.first >= config.input.first &&
                          range.last <= config.input.last && !wraps && get(flags, map_flags::unknown) == 0 &&
                          (!mapping.mmio || get(device.offered, features::mmio));
      if (!may_be) return "has a mapping that cannot be";
    }
  }
  return saved.left() == 0 ? nullptr : other_length;
}

}  // namespace

std::optional<std::size_t> bytes_of(const SavedState& state) noexcept {
  std::size_t mappings = 0;
  for (const SavedDomain& domain : state.domains) mappings += domain.mappings;
  if (mappings > ~std::uint32_t{0} / mapping_bytes) return std::nullopt;
  return frame_bytes + device_bytes + transport_bytes + queue_bytes * state.queues.size() + 3 * count_bytes +
         domain_bytes * state.domains.size() + endpoint_bytes * (state.attached.size() + state.gone.size()) +
         mapping_bytes * mappings;
}

void write_state(const SavedState& state, const DeviceIdentity& device, const Domains& domains,
                 std::span<std::byte> room) noexcept {
  StateWriter to{room};
  const ConfigValues& config = device.config.values();

  to.begin(section::device);
  to.put_u64(device.offered.raw);
  to.put_u64(config.page_size_mask);
  to.put_u64(config.input.first.value);
  to.put_u64(config.input.last.value);
  to.put_u32(config.domains.first.value);
  to.put_u32(config.domains.last.value);
  to.put_u32(config.probe_size);
  to.end();

  to.begin(section::transport);
  to.put_u64(state.negotiated.raw);
  TransportBits bits;
  bits = with(bits, transport_bits::running, state.running);
  bits = with(bits, transport_bits::broken, state.broken);
  bits = with(bits, transport_bits::bypass, state.bypass);
  to.put_u32(bits.raw);
  to.end();

  to.begin(section::queues);
  for (const SavedQueue& queue : state.queues) put_queue(to, queue);
  to.end();

  to.begin(section::domains);
  to.put_u32(static_cast<std::uint32_t>(state.domains.size()));
  for (const SavedDomain& domain : state.domains) {
    to.put_u32(domain.id.value);
    to.put_u32(with(DomainBits{}, domain_bits::bypass, domain.bypass).raw);
    to.put_u64(domain.mappings);
  }
  to.end();

  put_endpoints(to, section::endpoints, state.attached);
  put_endpoints(to, section::gone, state.gone);

  to.begin(section::mappings);
  for (const SavedDomain& domain : state.domains)
    domains.find(domain.id)->mappings.visit(all_iovas, [&](const Mapping& mapping) {
      put_mapping(to, mapping);
      return true;
    });
  to.end();
  to.finish();
}

Mapping read_mapping(SectionReader& mappings) noexcept { return read_record(mappings).mapping; }

LoadProblem read_state(std::span<const std::byte> bytes, const DeviceIdentity& device, const Domains::Limits& limits,
                       const HostAllocator& allocator, SavedState& state) noexcept {
  std::array<SectionReader, sections.size()> saved;
  if (const auto problem = machine::take_apart(bytes, sections, saved)) return *problem;
  if (saved[device_at].left() != device_bytes) return StateProblem{section::device, other_length};
  if (const auto mismatch = difference(device, saved[device_at])) return *mismatch;

  const auto problem = [](section::SectionName where, const char* wrong) -> LoadProblem {
    if (wrong == no_memory) return NoMemory{};
    return StateProblem{where, wrong};
  };
  if (saved[transport_at].left() != transport_bytes) return problem(section::transport, other_length);
  if (const char* const wrong = read_transport(saved[transport_at], device.offered, state))
    return problem(section::transport, wrong);
  if (saved[queues_at].left() != queue_bytes * state.queues.size()) return problem(section::queues, other_length);
  for (SavedQueue& queue : state.queues)
    if (const char* const wrong = read_queue(saved[queues_at], device.offered, queue))
      return problem(section::queues, wrong);
  if (const char* const wrong = read_domains(saved[domains_at], device, limits, allocator, state.domains))
    return problem(section::domains, wrong);
  if (const char* const wrong = read_attached(saved[endpoints_at], limits, allocator, state))
    return problem(section::endpoints, wrong);
  if (const char* const wrong = read_gone(saved[gone_at], device, limits, allocator, state))
    return problem(section::gone, wrong);
  state.mappings = saved[mappings_at];
  if (const char* const wrong = check_mappings(saved[mappings_at], device, state.domains))
    return problem(section::mappings, wrong);
  return {};
}

}  // namespace viommu::virtio_iommu
