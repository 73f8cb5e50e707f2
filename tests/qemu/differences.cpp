// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/differences.hpp"

#include <algorithm>
#include <array>

namespace viommu::qemu {
namespace {

using oracle::Answer;

// ---- What predicates ask ----

bool is_fault(const Answer& answer, std::uint8_t reason) {
  return answer.kind == Answer::fault && answer.reason == reason;
}
bool any_fault(const std::vector<Answer>& answers, std::uint8_t reason) {
  return std::ranges::any_of(answers, [&](const Answer& answer) { return is_fault(answer, reason); });
}
bool any_passes(const std::vector<Answer>& answers) {
  return std::ranges::any_of(answers, [](const Answer& answer) { return answer.kind != Answer::fault; });
}
/// Blocked for that reason, as far as can be seen.
bool recorded(const DmaObservation& seen, std::uint8_t reason) {
  if (seen.pending) return seen.qemu.kind == Outcome::nowhere;
  return seen.qemu.kind == Outcome::recorded && seen.qemu.reason == reason;
}
std::uint8_t missing_right(const DmaObservation& seen) { return seen.write ? 0x5 : 0x6; }

/// QEMU did what one of these answers says, as far as can be seen.
bool looks_like(const DmaObservation& seen, const Answer& answer) {
  if (answer.kind == Answer::fault) return answer.reported && recorded(seen, answer.reason);
  if (seen.qemu.kind == Outcome::landed) return answer.gpa == seen.qemu.gpa;
  return seen.qemu.kind == Outcome::nowhere && (!seen.write || !is_ram(answer.gpa));
}

/// QEMU let it pass, to where it says itself.
bool passed_as_it_was(const DmaObservation& seen) {
  if (seen.qemu.kind == Outcome::landed) return seen.qemu.gpa == seen.iova;
  return seen.qemu.kind == Outcome::nowhere && (!seen.write || !is_data(seen.iova));
}

bool page_meets_interrupt_range(const Answer& answer) {
  const std::uint64_t first = answer.gpa & ~answer.page_mask;
  return answer.kind == Answer::translated && first <= 0xFEEF'FFFF && (first | answer.page_mask) >= 0xFEE0'0000;
}

constexpr std::uint64_t pass_through = 8;  // TT = 10b
bool passes_through(const Way& way) { return (way.low & 0xC) == pass_through; }

template <class Predicate>
bool any_way(const DmaObservation& seen, Predicate predicate) {
  return std::ranges::any_of(seen.ways, predicate);
}
bool lacks_right(const DmaObservation& seen, const Way& way) {
  const std::uint64_t right = seen.write ? 2 : 1;
  return std::ranges::any_of(way.entries, [&](std::uint64_t entry) { return (entry & right) == 0; });
}

/// Bits in which a register differs, all of them clear in the library's.
std::uint32_t only_in_qemu(const RegisterObservation& seen) {
  return (seen.library & ~seen.qemu) == 0 ? seen.qemu & ~seen.library : 0;
}

std::uint64_t type(const DescriptorObservation& seen) { return seen.low & 0xF; }

// ---- The list ----

constexpr std::array list{
    Difference{.id = "rights-of-cached-page",
               .qemu = "a request that a cached translation denies is blocked without a record",
               .specification = "a missing right is LGN.2 or LGN.3, wherever the translation comes from: "
                                "Legacy Mode Address Translation Faults",
               .dma =
                   [](const DmaObservation& seen) {
                     return seen.qemu.kind == Outcome::nowhere && !seen.overflowed &&
                            any_fault(seen.allowed, missing_right(seen));
                   }},
    Difference{.id = "rights-before-the-rest",
               .qemu = "the first entry on the way that lacks the right ends the walk with 5 or 6",
               .specification = "rights are those of a whole, well-formed walk: Access Rights",
               .dma =
                   [](const DmaObservation& seen) {
                     return recorded(seen, missing_right(seen)) &&
                            (any_fault(seen.allowed, 0xC) || any_fault(seen.allowed, 0x7) ||
                             any_fault(seen.allowed, 0xE)) &&
                            any_way(seen, [&](const Way& way) { return lacks_right(seen, way); });
                   }},
    Difference{.id = "page-beside-interrupts",
               .qemu = "a large page that covers part of the interrupt range is blocked whole (B28)",
               .specification = "a request is blocked whose own output address lies there: Interrupt Address Range",
               .dma =
                   [](const DmaObservation& seen) {
                     return recorded(seen, 0xE) && std::ranges::any_of(seen.allowed, page_meets_interrupt_range);
                   }},
    Difference{.id = "domain-0-with-caching-mode",
               .qemu = "domain id 0 is taken although caching mode is on",
               .specification = "it is reserved then, reason B: Context Entry",
               .dma =
                   [](const DmaObservation& seen) {
                     return seen.variant->caching_mode && any_fault(seen.allowed, 0xB) &&
                            any_way(seen, [](const Way& way) { return (way.high >> 8 & 0xFFFF) == 0; });
                   }},
    Difference{.id = "translations-by-source",
               .qemu = "cached translations are found by source id, before the context is looked at",
               .specification = "they belong to the domain of the context in force: Tagging of Cached Translations",
               .dma =
                   [](const DmaObservation& seen) {
                     return std::ranges::any_of(seen.by_source, [&](const Answer& answer) {
                       // What is denied by a cached translation is not recorded either.
                       if (is_fault(answer, missing_right(seen))) return seen.qemu.kind == Outcome::nowhere;
                       return answer.kind == Answer::translated && looks_like(seen, answer);
                     });
                   }},
    Difference{.id = "pass-through-beyond-width",
               .qemu = "pass-through takes addresses above the host address width",
               .specification = "they are LGN.1.3, reason 4: Legacy Mode Address Translation Faults",
               .dma =
                   [](const DmaObservation& seen) {
                     return any_fault(seen.allowed, 0x4) && seen.iova >> seen.variant->address_bits != 0 &&
                            passed_as_it_was(seen) && any_way(seen, passes_through);
                   }},
    Difference{.id = "pass-through-narrow",
               .qemu = "pass-through takes any supported AW",
               .specification = "AW must be the largest one: Context Entry",
               .dma =
                   [](const DmaObservation& seen) {
                     return any_fault(seen.allowed, 0x3) && passed_as_it_was(seen) && any_way(seen, passes_through);
                   }},
    Difference{.id = "pass-through-pointer",
               .qemu = "the table pointer of a pass-through context is checked for reserved bits",
               .specification = "the field is ignored: Context Entry",
               .dma =
                   [](const DmaObservation& seen) {
                     return recorded(seen, 0xB) && (any_passes(seen.allowed) || any_fault(seen.allowed, 0x4)) &&
                            any_way(seen, [&](const Way& way) {
                              return passes_through(way) && way.low >> seen.variant->address_bits != 0;
                            });
                   }},
    Difference{
        .id = "context-fault-not-disabled",
        .qemu = "reserved bits in a context are recorded although FPD is set",
        .specification = "LCT.3 is a qualified fault, which FPD silences: Legacy Mode Address Translation Faults",
        .dma =
            [](const DmaObservation& seen) {
              return recorded(seen, 0xB) && std::ranges::any_of(seen.allowed, [](const Answer& answer) {
                       return is_fault(answer, 0xB) && !answer.reported;
                     });
            }},
    Difference{.id = "entry-of-ones",
               .qemu = "an entry of all ones is taken for one that could not be read (B35)",
               .specification = "reserved bits are set in it: LSS.2, reason C: Legacy Mode Address Translation Faults",
               .dma =
                   [](const DmaObservation& seen) {
                     return any_fault(seen.allowed, 0xC) && any_way(seen, [&](const Way& way) {
                              return !way.entries.empty() && way.entries.back() == ~std::uint64_t{0} &&
                                     recorded(seen, way.entries.size() == 1 ? 0x3 : 0x7);
                            });
                   }},

    Difference{
        .id = "record-pasid-of-none",
        .qemu = "a walk's fault without a PASID is recorded with PV all ones (B75)",
        .specification = "PV is 0 where there is no PASID: Fault Recording Registers",
        .registers =
            [](const RegisterObservation& seen) { return seen.offset == 0x22C && only_in_qemu(seen) == 0x00FF'FF00; }},
    Difference{.id = "record-address-beyond-width",
               .qemu = "FI shows address bits above the largest width",
               .specification = "they read 0: Fault Recording Registers",
               .registers =
                   [](const RegisterObservation& seen) {
                     return seen.offset == 0x224 && only_in_qemu(seen) != 0 &&
                            only_in_qemu(seen) % (std::uint64_t{1} << (seen.variant->address_bits - 32)) == 0;
                   }},
    Difference{.id = "no-queue-error-record",
               .qemu = "IQERCD_REG reads 0",
               .specification = "IQEI tells the error: Invalidation Queue Error Record Register",
               .registers =
                   [](const RegisterObservation& seen) {
                     return seen.offset == 0xB0 && seen.qemu == 0 && seen.library != 0 && seen.library <= 7;
                   }},
    Difference{.id = "domain-contexts-as-global",
               .qemu = "a domain-selective invalidation of contexts is done, and reported, as a global one",
               .specification = "allowed: CAIG may be coarser than CIRG: Context Command Register",
               .registers =
                   [](const RegisterObservation& seen) {
                     return seen.offset == 0x2C && seen.library == 0x5000'0000 && seen.qemu == 0x4800'0000;
                   }},
    Difference{.id = "wide-event-data",
               .qemu = "IEDATA_REG keeps its upper half",
               .specification = "bits 31:16 are RsvdZ: Invalidation Event Data Register",
               .registers =
                   [](const RegisterObservation& seen) {
                     return seen.offset == 0xA4 && only_in_qemu(seen) >> 16 != 0 && only_in_qemu(seen) << 16 == 0;
                   }},
    Difference{.id = "table-address-beyond-width",
               .qemu = "RTADDR_REG and IRTA_REG keep address bits above the host address width",
               .specification = "allowed: such bits need not be there: Root Table Address Register",
               .registers =
                   [](const RegisterObservation& seen) {
                     return (seen.offset == 0x24 || seen.offset == 0xBC) && only_in_qemu(seen) != 0 &&
                            only_in_qemu(seen) % (std::uint64_t{1} << (seen.variant->address_bits - 32)) == 0;
                   }},
    Difference{.id = "no-upper-event-address",
               .qemu = "FEUADDR_REG and IEUADDR_REG read 0",
               .specification = "allowed without EIM: Fault Event Upper Address Register",
               .registers =
                   [](const RegisterObservation& seen) {
                     return (seen.offset == 0x44 || seen.offset == 0xAC) && seen.qemu == 0;
                   }},
    Difference{.id = "extended-mode-without-eim",
               .qemu = "IRTA_REG keeps EIME",
               .specification = "it is RsvdZ without EIM: Interrupt Remapping Table Address Register",
               .registers =
                   [](const RegisterObservation& seen) { return seen.offset == 0xB8 && only_in_qemu(seen) == 0x800; }},
    Difference{.id = "queue-address-before-enable",
               .qemu = "IQA_REG reads the address in force, not the one written, until the queue is enabled",
               .specification = "the register is read and write: Invalidation Queue Address Register",
               .registers =
                   [](const RegisterObservation& seen) {
                     return (seen.offset == 0x90 || seen.offset == 0x94) && seen.written_offset == 0x90 &&
                            !seen.queue_enabled;
                   }},
    Difference{.id = "no-compatibility-format",
               .qemu = "CFI does nothing, CFIS reads 0",
               .specification = "CFIS follows CFI: Global Command Register",
               .registers =
                   [](const RegisterObservation& seen) {
                     return seen.offset == 0x1C && (seen.library ^ seen.qemu) == 0x0080'0000 && only_in_qemu(seen) == 0;
                   }},
    Difference{.id = "no-restart",
               .qemu = "clearing IQE does not make the queue go on; the next write of the tail does",
               .specification = "fetching goes on when IQE is cleared: Invalidation Queue Errors",
               .registers =
                   [](const RegisterObservation& seen) {
                     return seen.offset == 0x80 && seen.written_offset == 0x34 && (seen.written & 0x10) != 0;
                   }},

    Difference{.id = "wait-for-nothing",
               .qemu = "a wait with neither SW nor IF stops the queue",
               .specification = "not an error in the text, and FN alone is of use: Invalidation Wait Descriptor",
               .descriptor =
                   [](const DescriptorObservation& seen) {
                     return seen.qemu_stopped && type(seen) == 5 && (seen.low & 0x30) == 0;
                   }},
    Difference{.id = "status-outside-memory",
               .qemu = "a status write that meets no memory stops the queue",
               .specification = "not said; no error is defined for it: Invalidation Wait Descriptor",
               .descriptor =
                   [](const DescriptorObservation& seen) {
                     return seen.qemu_stopped && type(seen) == 5 && (seen.low & 0x20) != 0 && !is_ram(seen.high);
                   }},
    Difference{.id = "pasid-types-in-legacy-mode",
               .qemu = "types 6 and 7 are taken, and do nothing, in legacy mode (B73)",
               .specification = "they are invalid types there: Invalidation Descriptors",
               .descriptor =
                   [](const DescriptorObservation& seen) {
                     return seen.library_stopped && (type(seen) == 6 || type(seen) == 7);
                   }},
    Difference{.id = "interrupt-entry-reserved",
               .qemu = "reserved bits of an interrupt entry invalidation, and bits 11:9 of its type, are not looked at",
               .specification = "they stop the queue: Interrupt Entry Cache Invalidate Descriptor",
               .descriptor =
                   [](const DescriptorObservation& seen) {
                     return seen.library_stopped && type(seen) == 4 &&
                            ((seen.low & 0xFFFF'0000'07FF'FFE0) != 0 || seen.high != 0);
                   }},
};

template <class Seen, class Predicate>
std::optional<std::size_t> first(const Seen& seen, Predicate Difference::* predicate) {
  for (std::size_t at = 0; at < list.size(); ++at) {
    if (list.at(at).*predicate != nullptr && (list.at(at).*predicate)(seen)) return at;
  }
  return std::nullopt;
}

}  // namespace

std::span<const Difference> differences() { return list; }

std::optional<std::size_t> explain(const DmaObservation& seen) { return first(seen, &Difference::dma); }
std::optional<std::size_t> explain(const RegisterObservation& seen) { return first(seen, &Difference::registers); }
std::optional<std::size_t> explain(const DescriptorObservation& seen) { return first(seen, &Difference::descriptor); }

}  // namespace viommu::qemu
