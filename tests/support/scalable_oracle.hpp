// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The independent oracle of scalable mode: a request from the root table to its page, read literally from the
// specification, nested translation and second-stage accessed and dirty flags included. In legacy mode it hands on to
// oracle.hpp. Not in it: host permission tables, SSIRWE.
//
// It remembers nothing, reads one word a step, and shares no header with the library. Where the specification leaves a
// choice, it has the one that engine/docs/conformance.md names.
#pragma once

#include <cstdint>
#include <functional>

#include "tests/support/oracle.hpp"

namespace viommu::oracle {

/// How a compare-exchange of an aligned word ended.
enum class Exchanged : std::uint8_t { done, lost, no_memory };
using ExchangeWord = std::function<Exchanged(std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired)>;

/// Structures of 128 bits and more are read in pairs of words, the pair with P first; a pair of which one word is no
/// memory is not readable. The rights of an answer are those that may be cached: where there are dirty flags, a right
/// to write only with all of them set. Accessed and dirty flags are set through `exchange_word`, whatever the answer.
[[nodiscard]] Answer translate_scalable(const Unit& unit, const ReadWord& read_word, const ExchangeWord& exchange_word,
                                        const Request& request);

/// The answer to a translation request. A right to write is granted as asked for, and the dirty flags are set.
struct Completion {
  enum Status { success, unsupported_request, completer_abort };
  Status status = success;
  bool read = false;
  bool write = false;
  bool untranslated_only = false;  ///< U
  bool privileged = false;         ///< PRIV
  std::uint64_t gpa = 0;
  std::uint8_t reason = 0;  ///< also of a success that grants nothing
  bool reported = false;    ///< the fault is logged
};

/// As above for a translation request, in any mode but legacy mode. `request.write` is clear where NW is set and
/// counts.
[[nodiscard]] Completion translate_for_device(const Unit& unit, const ReadWord& read_word,
                                              const ExchangeWord& exchange_word, const Request& request);

/// As translate_scalable(), in any mode but legacy mode, for a translated request: an identity, or why it is blocked.
[[nodiscard]] Answer check_translated(const Unit& unit, const ReadWord& read_word, const Request& request);

/// The same for a page request: an identity where it may be passed on.
[[nodiscard]] Answer admit_page_request(const Unit& unit, const ReadWord& read_word, const Request& request);

}  // namespace viommu::oracle
