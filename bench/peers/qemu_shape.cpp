// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/qemu_shape.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint8_t read_right = 1;
constexpr std::uint8_t write_right = 2;
constexpr std::uint64_t rights_bits = 3;
constexpr std::uint64_t large_page = 1u << 7;
constexpr std::uint64_t snoop = 1u << 11;
constexpr std::uint64_t transient = std::uint64_t{1} << 62;
constexpr std::uint64_t frame_bits = 0x000ffffffffff000;

enum Reason : std::uint8_t {
  root_absent = 0x1,
  context_absent = 0x2,
  context_invalid = 0x3,
  beyond_width = 0x4,
  write_denied = 0x5,
  read_denied = 0x6,
  table_unreadable = 0x7,
  root_unreadable = 0x8,
  context_unreadable = 0x9,
  root_reserved = 0xa,
  context_reserved = 0xb,
  entry_reserved = 0xc,
  interrupt_output = 0xe,
};

enum class Type : unsigned { translated = 0, device_tlb = 1, pass_through = 2 };

[[nodiscard]] constexpr std::uint64_t below(unsigned bits) noexcept {
  return bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
}

[[nodiscard]] constexpr std::uint8_t denied(std::uint8_t access, std::uint64_t rights) noexcept {
  return (access & ~rights & write_right) != 0 ? write_denied : read_denied;
}

}  // namespace

QemuShape::QemuShape(const ShapeUnit& unit, const AddressDispatch& memory, MessageSink sink,
                     const ShapeVariant& variant)
    : unit_{unit},
      memory_{memory},
      registers_{unit.version, unit.capability, unit.extended_capability, sink},
      iotlb_{variant.capacity},
      cached_{variant.cached} {
  const std::uint64_t high = frame_bits & ~below(unit.host_address_width);
  const std::uint64_t snoop_reserved = (unit.extended_capability >> 7 & 1) != 0 ? 0 : snoop;
  const std::uint64_t sizes = unit.capability >> 34 & 3;
  for (unsigned level = 1; level <= 5; ++level) {
    reserved_in_table_[level] = high | snoop | transient;
    reserved_in_leaf_[level] = high | snoop_reserved | transient | (below(level_shift(level)) & ~below(12));
  }
  reserved_in_table_[4] |= large_page;
  reserved_in_table_[5] |= large_page;
  if ((sizes & 1) == 0) reserved_in_leaf_[2] |= large_page;
  if ((sizes & 2) == 0) reserved_in_leaf_[3] |= large_page;
}

QemuShape::Device& QemuShape::device_of(std::uint16_t source) {
  std::unique_ptr<Bus>& bus = buses_[source >> 8];
  if (!bus) bus = std::make_unique<Bus>();
  std::unique_ptr<Device>& device = bus->devices[source & 0xff];
  if (!device) device = std::make_unique<Device>();
  return *device;
}

ShapeAnswer QemuShape::translate(std::uint16_t source, std::uint64_t iova, std::uint8_t access, bool report) {
  constexpr std::uint8_t all_rights = read_right | write_right;
  Device& device = device_of(source);
  if (!translating_) return {iova, all_rights, 0};

  const std::lock_guard lock{mutex_};
  const BlockedRequest request{.iova = iova, .source = source, .reason = 0, .is_write = (access & write_right) != 0};
  if (const IotlbEntry* const entry = cached_ ? iotlb_.find(source, iova) : nullptr) {
    if ((access & ~unsigned{entry->rights}) == 0) return {entry->page | (iova & entry->mask), entry->rights, 0};
    BlockedRequest lacking = request;
    lacking.reason = denied(access, entry->rights);
    return blocked(lacking, report);
  }

  bool quiet = false;
  if (device.generation != generation_) {
    if (const std::uint8_t reason = load_context(source, device, quiet)) {
      BlockedRequest failed = request;
      failed.reason = reason;
      return blocked(failed, report && !quiet);
    }
  }
  quiet = (device.context_low & 2) != 0;
  const bool pass_through = static_cast<Type>(device.context_low >> 2 & 3) == Type::pass_through;
  const std::uint64_t limit = pass_through ? below(unit_.host_address_width)
                                           : below(static_cast<unsigned>(unit_.capability >> 16 & 0x3f) + 1) &
                                                 below(30 + 9 * static_cast<unsigned>(device.context_high & 7));
  const Leaf leaf = iova > limit   ? Leaf{.reason = beyond_width}
                    : pass_through ? Leaf{.page = iova & ~below(12), .mask = below(12), .rights = all_rights}
                                   : walk(device, iova, access);
  if (leaf.reason != 0) {
    BlockedRequest failed = request;
    failed.reason = leaf.reason;
    return blocked(failed, report && !quiet);
  }
  if (!pass_through && cached_) {
    const IotlbEntry entry{.frame = (iova & ~leaf.mask) >> 12,
                           .page = leaf.page,
                           .mask = leaf.mask,
                           .domain = static_cast<std::uint16_t>(device.context_high >> 8),
                           .rights = leaf.rights};
    iotlb_.insert(source, leaf.level, entry);
  }
  return {leaf.page | (iova & leaf.mask), leaf.rights, 0};
}

ShapeAnswer QemuShape::blocked(const BlockedRequest& request, bool report) {
  if (report) registers_.record(request);
  return {0, 0, request.reason};
}

// Fills the device's context cache; a reason when there is no usable entry. `quiet`: the entry disables fault reports.
std::uint8_t QemuShape::load_context(std::uint16_t source, Device& device, bool& quiet) {
  const std::uint64_t beyond = ~below(unit_.host_address_width);
  std::array<std::uint64_t, 2> root{};
  if (!memory_.read((root_table_ & frame_bits) + 16 * (std::uint64_t{source} >> 8), root.data(), sizeof root))
    return root_unreadable;
  if ((root[0] & 1) == 0) return root_absent;
  if ((root[0] & (0xffe | beyond)) != 0 || root[1] != 0) return root_reserved;

  std::array<std::uint64_t, 2> context{};
  const std::uint64_t at = (root[0] & frame_bits) + 16 * std::uint64_t{source & 0xffu};
  if (!memory_.read(at, context.data(), sizeof context)) return context_unreadable;
  quiet = (context[0] & 2) != 0;
  if ((context[0] & 1) == 0) return context_absent;
  const auto type = static_cast<Type>(context[0] >> 2 & 3);
  if ((context[0] & (0xff0 | (type == Type::pass_through ? 0 : beyond))) != 0) return context_reserved;
  if ((context[1] & 0xffffffffff000080) != 0) return context_reserved;

  const auto width = static_cast<unsigned>(context[1] & 7);
  const std::uint64_t widths = unit_.capability >> 8 & 0x1f;
  if (width == 0 || width > 3 || (widths >> width & 1) == 0) return context_invalid;
  const bool supported = type == Type::translated ||
                         (type == Type::device_tlb && (unit_.extended_capability >> 2 & 1) != 0) ||
                         (type == Type::pass_through && (unit_.extended_capability >> 6 & 1) != 0);
  if (!supported) return context_invalid;

  device = {.context_low = context[0], .context_high = context[1], .generation = generation_};
  return 0;
}

QemuShape::Leaf QemuShape::walk(const Device& device, std::uint64_t iova, std::uint8_t access) const {
  const unsigned top = static_cast<unsigned>(device.context_high & 7) + 2;
  std::uint64_t table = device.context_low & frame_bits;
  std::uint64_t rights = rights_bits;
  for (unsigned level = top;; --level) {  // ends: level 1 holds leaves only
    std::uint64_t entry = 0;
    const std::uint64_t index = iova >> level_shift(level) & 0x1ff;
    if (!memory_.read(table + 8 * index, &entry, sizeof entry)) {
      return {.reason = level == top ? context_invalid : table_unreadable};
    }
    if ((entry & rights_bits) == 0) return {.reason = denied(access, 0)};
    const bool leaf = level == 1 || (level <= 3 && (entry & large_page) != 0);
    if ((entry & (leaf ? reserved_in_leaf_ : reserved_in_table_)[level]) != 0) return {.reason = entry_reserved};
    rights &= entry;
    if ((access & ~rights) != 0) return {.reason = denied(access, rights)};
    if (leaf) {
      const std::uint64_t mask = below(level_shift(level));
      const std::uint64_t page = entry & frame_bits & ~mask;
      if (((page | (iova & mask)) >> 20) == 0xfee) return {.reason = interrupt_output};
      return {.page = page, .mask = mask, .level = level, .rights = static_cast<std::uint8_t>(rights)};
    }
    table = entry & frame_bits;
  }
}

void QemuShape::next_generation() {
  if (++generation_ != 0) return;
  generation_ = 1;
  for (const auto& bus : buses_) {
    if (!bus) continue;
    for (const auto& device : bus->devices) {
      if (device) device->generation = 0;
    }
  }
}

void QemuShape::drop_caches() {
  const std::lock_guard lock{mutex_};
  next_generation();
  iotlb_.drop_all();
}

void QemuShape::reset() {
  drop_caches();
  registers_.reset();
  root_table_ = queue_base_ = 0;
  queue_entries_ = queue_head_ = queue_tail_ = 0;
  queue_enabled_ = translating_ = false;
}

}  // namespace viommu::bench
