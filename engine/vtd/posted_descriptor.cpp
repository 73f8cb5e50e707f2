// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/posted_descriptor.hpp"

#include <optional>

namespace viommu::vtd {
namespace {

constexpr unsigned word_bits = 64;
constexpr std::uint64_t word_bytes = 8;
constexpr std::uint64_t control_at = 32;  // and the 8 bytes behind it are reserved,
constexpr std::uint64_t rest_at = 48;     // like the last 16

constexpr Posted inaccessible{FaultReason::posted_descriptor_unreadable};

[[nodiscard]] std::uint64_t reserved_bits(bool extended) noexcept {
  return extended ? reserved_mask(posted_control::rows) : reserved_mask(posted_control::xapic_rows);
}

/// To whom the word as it was sends its notification, if it sends one.
[[nodiscard]] Posted notification(PostedControl before, const Posting& posting) noexcept {
  const bool suppressed = get(before, posted_control::suppress) && !posting.urgent;
  if (get(before, posted_control::outstanding) || suppressed) return {};
  return {FaultReason::none, true, get(before, posted_control::vector),
          posting.extended ? get(before, posted_control::destination) : get(before, posted_control::xapic)};
}

/// Sets ON, unless the word says that nobody is to be notified.
[[nodiscard]] Posted set_outstanding(const GuestMemory& memory, const Posting& posting) noexcept {
  const Gpa at = posting.descriptor + control_at;
  constexpr std::uint64_t outstanding = mask_of(posted_control::outstanding);
  std::optional<std::uint64_t> word = memory.load_u64(at);
  // A lost exchange is another post, which has set ON, or a guest that is at it: after as many the bit is set without
  // a condition. A guest that sets SN at that instant finds ON set where it need not be.
  constexpr unsigned most_losses = 4;
  for (unsigned losses = 0; word && losses < most_losses; ++losses) {
    const Posted found = notification({*word}, posting);
    if (!found.notify) return found;
    switch (memory.compare_exchange_u64(at, *word, *word | outstanding)) {
      case Exchange::done:   return found;
      case Exchange::lost:   break;
      case Exchange::failed: return inaccessible;
    }
  }
  if (word) word = memory.fetch_or_u64(at, outstanding);
  return word ? notification({*word}, posting) : inaccessible;
}

}  // namespace

Posted post(const GuestMemory& memory, const Posting& posting) noexcept {
  const std::optional control = memory.load_u128(posting.descriptor + control_at);
  const std::optional rest = memory.load_u128(posting.descriptor + rest_at);
  if (!control || !rest) return inaccessible;
  if ((control->low & reserved_bits(posting.extended)) != 0 || control->high != 0 || *rest != Word128{})
    return {FaultReason::posted_descriptor_reserved};
  const unsigned bit = posting.vector % word_bits;
  const Gpa word = posting.descriptor + posting.vector / word_bits * word_bytes;
  if (!memory.fetch_or_u64(word, mask_of(BitRange{bit, bit}))) return inaccessible;
  return set_outstanding(memory, posting);
}

}  // namespace viommu::vtd
