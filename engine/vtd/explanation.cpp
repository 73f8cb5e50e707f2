// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/explanation.hpp"

#include <cstring>

#include "engine/vtd/context_walk.hpp"
#include "engine/vtd/pasid_walk.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::vtd {
namespace {

/// Guest memory for a walk of contexts, which keeps each word that was loaded. Loads come in a fixed order, and that
/// tells what they are.
class Loads {
 public:
  Loads(const GuestMemory& memory, ContextSeen& seen, bool scalable, bool upper) noexcept
      : memory_{memory}, seen_{seen}, scalable_{scalable}, upper_{upper} {}

  [[nodiscard]] GuestMemory as_memory() noexcept {
    MemoryCallbacks callbacks;
    callbacks.opaque = this;
    callbacks.read = [](void* opaque, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      return static_cast<Loads*>(opaque)->load({gpa}, data, size) ? 0 : -1;
    };
    return GuestMemory{callbacks};
  }

 private:
  using T = ContextTable;

  bool load(Gpa at, void* data, std::uint64_t size) noexcept {
    if (size == sizeof(std::uint64_t)) {
      const std::optional<std::uint64_t> word = memory_.load_u64(at);
      if (word) std::memcpy(data, &*word, sizeof *word);
      put(T::pasid_directory, at, word);
      ++loads_;
      return word.has_value();
    }
    const std::optional<Word128> pair = memory_.load_u128(at);
    if (pair) std::memcpy(data, &*pair, sizeof *pair);
    const auto low = pair ? std::optional{pair->low} : std::nullopt;
    const auto high = pair ? std::optional{pair->high} : std::nullopt;
    put_pair(at, low, high);
    ++loads_;
    return pair.has_value();
  }
  void put_pair(Gpa at, std::optional<std::uint64_t> low, std::optional<std::uint64_t> high) noexcept {
    const auto both = [&](T first, T second) {
      put(first, at, low);
      put(second, at + 8, high);
    };
    if (!scalable_) return loads_ == 0 ? both(T::root_low, T::root_high) : both(T::context_low, T::context_high);
    switch (loads_) {
      case 0:  // one half is looked at
        return upper_ ? put(T::scalable_root_upper, at + 8, high) : put(T::scalable_root_lower, at, low);
      case 1:  return both(T::scalable_context_low, T::scalable_context_high);
      case 2:  return both(T::scalable_context_rest, T::scalable_context_rest);
      case 4:  return both(T::pasid_entry_0, T::pasid_entry_1);  // behind the directory entry
      case 5:  return both(T::pasid_entry_2, T::pasid_entry_rest);
      default: return both(T::pasid_entry_rest, T::pasid_entry_rest);
    }
  }
  void put(ContextTable table, Gpa at, std::optional<std::uint64_t> raw) noexcept {
    if (seen_.count != ContextSeen::most) seen_.words[seen_.count++] = {table, at, raw};
  }

  const GuestMemory& memory_;
  ContextSeen& seen_;
  const bool scalable_;
  const bool upper_;
  unsigned loads_ = 0;
};

/// The bits of an entry of legacy mode that must be zero.
[[nodiscard]] std::uint64_t must_be_zero(const Capabilities& capabilities, ContextTable table,
                                         TranslationType type) noexcept {
  switch (table) {
    case ContextTable::root_low:     return root_low_reserved(capabilities.host_address_width).raw;
    case ContextTable::root_high:    return reserved_mask(root_high::rows);
    case ContextTable::context_low:  return context_low_reserved(capabilities.host_address_width, type).raw;
    case ContextTable::context_high: return context_high_reserved(capabilities.domain_id_bits).raw;
    default:                         return 0;
  }
}

/// Marks those that are not, in entries that are present.
void mark_wrong_bits(const Capabilities& capabilities, ContextSeen& seen) noexcept {
  for (std::size_t first = 0; first + 1 < seen.count; first += 2) {
    WordSeen& low = seen.words[first];
    WordSeen& high = seen.words[first + 1];
    if (!low.raw || !high.raw || !get(ContextLow{*low.raw}, context_low::present)) continue;
    const TranslationType type = get(ContextLow{*low.raw}, context_low::type);
    low.wrong = *low.raw & must_be_zero(capabilities, low.table, type);
    high.wrong = *high.raw & must_be_zero(capabilities, high.table, type);
  }
}
static_assert(mask_of(root_low::present) == mask_of(context_low::present));

}  // namespace

std::string_view name_of(ContextTable table) noexcept {
  switch (table) {
    case ContextTable::root_low:              return "root entry, low";
    case ContextTable::root_high:             return "root entry, high";
    case ContextTable::scalable_root_lower:   return "root entry, lower";
    case ContextTable::scalable_root_upper:   return "root entry, upper";
    case ContextTable::context_low:
    case ContextTable::scalable_context_low:  return "context entry, low";
    case ContextTable::context_high:
    case ContextTable::scalable_context_high: return "context entry, high";
    case ContextTable::scalable_context_rest: return "context entry, rest";
    case ContextTable::pasid_directory:       return "PASID directory entry";
    case ContextTable::pasid_entry_0:         return "PASID entry, word 0";
    case ContextTable::pasid_entry_1:         return "PASID entry, word 1";
    case ContextTable::pasid_entry_2:         return "PASID entry, word 2";
    case ContextTable::pasid_entry_rest:      return "PASID entry, rest";
  }
  return "";
}

std::span<const Row> rows_of(const WordSeen& word) noexcept {
  switch (word.table) {
    case ContextTable::root_low:              return root_low::rows.list;
    case ContextTable::root_high:             return root_high::rows.list;
    case ContextTable::scalable_root_lower:
    case ContextTable::scalable_root_upper:   return scalable_root::rows.list;
    case ContextTable::context_low:           return context_low::rows.list;
    case ContextTable::context_high:          return context_high::rows.list;
    case ContextTable::scalable_context_low:  return scalable_context_low::rows.list;
    case ContextTable::scalable_context_high: return scalable_context_high::rows.list;
    case ContextTable::pasid_directory:       return pasid_directory::rows.list;
    case ContextTable::pasid_entry_0:         return pasid_entry_0::rows.list;
    case ContextTable::pasid_entry_1:         return pasid_entry_1::rows.list;
    case ContextTable::pasid_entry_2:         return pasid_entry_2::rows.list;
    case ContextTable::scalable_context_rest:
    case ContextTable::pasid_entry_rest:      return root_high::rows.list;  // one cell, reserved
  }
  return {};
}

void explain_context(const GuestMemory& memory, const Capabilities& capabilities, Gpa root, TableMode in_force,
                     const DmaRequest& request, ContextSeen& seen) noexcept {
  constexpr unsigned half_of_bus = 128;
  const bool scalable = in_force == TableMode::scalable;
  Loads loads{memory, seen, scalable, request.source.devfn() >= half_of_bus};
  const GuestMemory observed = loads.as_memory();
  if (!scalable) {
    const ContextWalk walk = walk_context(observed, capabilities, root, request.source);
    mark_wrong_bits(capabilities, seen);
    seen.fault = walk.fault;
    seen.fault_disable = walk.fault_disable;
    seen.device_tlb = walk.device_tlb;
    seen.key = walk.key;
    return;
  }
  const PasidWalk walk = walk_pasid(observed, capabilities, root, pasid_request_of(request));
  seen.fault = walk.fault;
  seen.fault_disable = walk.fault_disable;
  if (walk.fault != FaultReason::none) return;
  seen.device_tlb = walk.context.device_tlb;
  seen.key = key_of(walk.context, capabilities);
}

}  // namespace viommu::vtd
