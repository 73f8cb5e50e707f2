// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A recorded guest, parsed into flat arrays: what is fed to a translator, and which answers are right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "bench/support/guest_ram.hpp"
#include "engine/trace/config.hpp"

namespace viommu::bench {

/// The guest stores an 8-byte word.
struct Store {
  std::byte* at = nullptr;
  std::uint64_t value = 0;
};

/// What the unit must have written to guest memory by the end.
struct Written {
  const std::byte* at = nullptr;
  std::uint64_t value = 0;
  std::size_t size = 0;
};

/// The guest writes a register.
struct RegisterWrite {
  std::uint64_t value = 0;
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
};

/// A device asks.
struct Ask {
  std::uint64_t iova = 0;
  std::uint16_t source = 0;
  std::uint8_t access = 0;  // 1 read, 2 write, 3 both
  bool report = true;       // false: a probe, which leaves no fault record
};

struct Answer {
  std::uint64_t gpa = 0;  // of the access itself
  std::uint8_t rights = 0;
  std::uint8_t reason = 0;  // 0: not blocked
};

/// Which answers are right: the recorded one, and for what came from the recorder's own IOTLB also a fresh walk of the
/// memory of that moment (trace format, "Replaying").
struct Expected {
  Answer recorded;
  Answer fresh;
  bool from_cache = false;  // the recorder answered from its IOTLB
  bool dropped = false;     // it then dropped the access, for want of the right: blocking is right
};

[[nodiscard]] bool is_there(const Written& written) noexcept;
[[nodiscard]] bool right(const Expected& expected, const Ask& ask, const Answer& answer) noexcept;

enum class Step : std::uint8_t { store, write, ask, drop_caches, reset };

/// `count` elements of the step's array, from where its last run ended.
struct Run {
  Step step = Step::store;
  std::uint32_t count = 0;
};

struct Recording {
  std::string name;
  trace::VtdConfiguration configuration;
  std::uint64_t events = 0;    // lines that say something
  std::uint64_t messages = 0;  // interrupts the unit must have sent at the end
  GuestRam ram;
  std::vector<Run> runs;
  std::vector<Store> stores;
  std::vector<RegisterWrite> writes;
  std::vector<Ask> asks;
  std::vector<Expected> expected;  // one for each of `asks`
  std::vector<Written> written;    // where no later store of the guest is known
};

/// Parses the text of a trace. On failure `problem` says why (a trace of another kind of unit among it).
[[nodiscard]] bool parse_recording(std::string_view text, Recording& recording, std::string& problem);

/// Feeds everything to `side` in the recorded order; answers[i] is what it said to asks[i].
template <class Side>
void feed(const Recording& recording, Side& side, Answer* answers) {
  const Store* store = recording.stores.data();
  const RegisterWrite* write = recording.writes.data();
  const Ask* ask = recording.asks.data();
  for (const Run& run : recording.runs) {
    switch (run.step) {
      case Step::store:
        for (const Store* const end = store + run.count; store != end; ++store)
          std::memcpy(store->at, &store->value, sizeof store->value);
        break;
      case Step::write:
        for (const RegisterWrite* const end = write + run.count; write != end; ++write) side.write(*write);
        break;
      case Step::ask:
        for (const Ask* const end = ask + run.count; ask != end; ++ask) *answers++ = side.translate(*ask);
        break;
      case Step::drop_caches: side.drop_caches(); break;
      case Step::reset:       side.reset(); break;
    }
  }
}

}  // namespace viommu::bench
