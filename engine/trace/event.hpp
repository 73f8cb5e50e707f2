// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One line of a trace as a value. Numbers are plain integers here, as on the line: who replays an event gives them
// types. Texts are views into the line an event was parsed from; an event lives no longer than that line.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <variant>

#include "engine/trace/access.hpp"
#include "engine/trace/scenario_words.hpp"

namespace viommu::trace {

inline constexpr std::string_view header_line = "# viommu-trace 1";

/// The kind of unit a trace is of.
enum class Family : std::uint8_t { none, vtd, virtio };

/// SRC of an answer: where the recorded unit took it from.
enum class Source : std::uint8_t { iotlb, walk, pass_through, disabled, mapping, bypass, msi_region };

/// STATUS of a fault: what became of its record.
enum class Status : std::uint8_t { recorded, compressed, overflow_set, overflowed, disabled, none, no_buffer };

/// `cfg vtd ...` or `cfg virtio ...`; the pairs are read by parse_config().
struct Configuration {
  Family family = Family::none;
  std::string_view pairs;
  friend constexpr bool operator==(const Configuration&, const Configuration&) = default;
};

/// `cfg resv SUBTYPE START END`.
struct ReservedRegion {
  std::uint8_t subtype = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  friend constexpr bool operator==(const ReservedRegion&, const ReservedRegion&) = default;
};

/// `m GPA VALUE`: the 8-byte word that is at GPA.
struct GuestWord {
  std::uint64_t gpa = 0;
  std::uint64_t value = 0;
  friend constexpr bool operator==(const GuestWord&, const GuestWord&) = default;
};

/// `u GPA LEN`: a read of guest memory that failed.
struct FailedRead {
  std::uint64_t gpa = 0;
  std::uint64_t length = 0;
  friend constexpr bool operator==(const FailedRead&, const FailedRead&) = default;
};

/// `w GPA SIZE VALUE`: the unit wrote guest memory.
struct MemoryWrite {
  std::uint64_t gpa = 0;
  std::uint64_t value = 0;
  std::uint8_t size = 0;
  friend constexpr bool operator==(const MemoryWrite&, const MemoryWrite&) = default;
};

/// `U GPA LEN`: a write of guest memory that failed.
struct FailedWrite {
  std::uint64_t gpa = 0;
  std::uint64_t length = 0;
  friend constexpr bool operator==(const FailedWrite&, const FailedWrite&) = default;
};

/// `W OFF SIZE VALUE`.
struct RegisterWrite {
  std::uint64_t value = 0;
  std::uint32_t offset = 0;
  std::uint8_t size = 0;
  friend constexpr bool operator==(const RegisterWrite&, const RegisterWrite&) = default;
};

/// `R OFF SIZE VALUE`.
struct RegisterRead {
  std::uint64_t value = 0;
  std::uint32_t offset = 0;
  std::uint8_t size = 0;
  friend constexpr bool operator==(const RegisterRead&, const RegisterRead&) = default;
};

/// `T SID PASID IOVA ACC ok GPA MASK PERM SRC` or `T SID PASID IOVA ACC fault REASON STATUS`.
struct Translate {
  std::uint64_t iova = 0;
  std::uint64_t gpa = 0;   // ok: base of the page
  std::uint64_t mask = 0;  // ok: page size minus one
  std::uint32_t source_id = 0;
  std::uint32_t pasid = no_pasid;
  Access access{};
  Perm perm{};                   // ok
  Source source = Source::walk;  // ok
  bool ok = false;
  std::uint8_t reason = 0;           // fault
  Status status = Status::recorded;  // fault
  friend constexpr bool operator==(const Translate&, const Translate&) = default;
};

/// `I ADDR DATA`: an MSI of the unit's own.
struct Message {
  std::uint64_t address = 0;
  std::uint32_t data = 0;
  friend constexpr bool operator==(const Message&, const Message&) = default;
};

/// `S SID PASID ON`.
struct ViewSwitch {
  std::uint32_t source_id = 0;
  std::uint32_t pasid = no_pasid;
  bool on = false;
  friend constexpr bool operator==(const ViewSwitch&, const ViewSwitch&) = default;
};

/// `O`: the emulator's IOTLB was full and dropped.
struct CachesDropped {
  friend constexpr bool operator==(CachesDropped, CachesDropped) = default;
};

/// `Z`: the unit was reset.
struct Reset {
  friend constexpr bool operator==(Reset, Reset) = default;
};

enum class NotifyKind : std::uint8_t { map, unmap, device_unmap };

/// `N SID map|unmap|devunmap IOVA MASK GPA PERM`.
struct Notify {
  std::uint64_t iova = 0;
  std::uint64_t mask = 0;
  std::uint64_t gpa = 0;
  std::uint32_t source_id = 0;
  NotifyKind kind = NotifyKind::map;
  Perm perm{};
  friend constexpr bool operator==(const Notify&, const Notify&) = default;
};

/// `P SID`: a replay of this device's mappings was asked for.
struct ReplayAsked {
  std::uint32_t source_id = 0;
  friend constexpr bool operator==(const ReplayAsked&, const ReplayAsked&) = default;
};

/// `V w|q SID ADDR DATA ok ADDR2 DATA2` or `V w|q SID ADDR DATA fault REASON STATUS`.
struct Interrupt {
  std::uint64_t address = 0;
  std::uint64_t out_address = 0;  // ok
  std::uint32_t data = 0;
  std::uint32_t out_data = 0;  // ok
  std::uint32_t source_id = 0;
  bool question = false;  // q: the interrupt controller asked for a route
  bool ok = false;
  std::uint8_t reason = 0;           // fault
  Status status = Status::recorded;  // fault
  friend constexpr bool operator==(const Interrupt&, const Interrupt&) = default;
};

/// `X text`.
struct Marker {
  std::string_view text;
  friend constexpr bool operator==(const Marker&, const Marker&) = default;
};

// Of a virtio-iommu. Bytes are pairs of hex digits; none are an empty text, and `-` on the line.

/// `C features=HEX bypass=B`: DRIVER_OK, with what was negotiated.
struct DriverReady {
  std::uint64_t features = 0;
  bool bypass = false;
  friend constexpr bool operator==(const DriverReady&, const DriverReady&) = default;
};

/// `B V`: the bypass byte became V.
struct BypassChanged {
  std::uint8_t value = 0;
  friend constexpr bool operator==(const BypassChanged&, const BypassChanged&) = default;
};

/// `Q REQ TAIL`.
struct Request {
  std::string_view readable;
  std::string_view written;
  friend constexpr bool operator==(const Request&, const Request&) = default;
};

/// `E HEX`: a record on the event queue.
struct FaultReported {
  std::string_view record;
  friend constexpr bool operator==(const FaultReported&, const FaultReported&) = default;
};

/// A line of a recording whose first field the format does not know; a reader counts it and goes on.
struct Unknown {
  std::string_view word;
  friend constexpr bool operator==(const Unknown&, const Unknown&) = default;
};

/// A line that says nothing: the header, a comment, a blank line of a scenario.
struct Nothing {
  friend constexpr bool operator==(Nothing, Nothing) = default;
};

using Event = std::variant<
    // Letters.
    Nothing, Configuration, ReservedRegion, GuestWord, FailedRead, MemoryWrite, FailedWrite, RegisterWrite,
    RegisterRead, Translate, Message, ViewSwitch, CachesDropped, Reset, Notify, ReplayAsked, Interrupt, Marker,
    DriverReady, BypassChanged, Request, FaultReported, Unknown,
    // Words of scenarios.
    RamAdded, RamRemoved, MemoryCheck, PartChanged, RegionGone, Ready, MachineReset, RoutesChanged, BusBypassed, Plug,
    FactsUnset, Unplug, BusRenumbered, Subscribe, Unsubscribe, FailNext, ShadowCheck, ShadowExtent, DeltaCheck,
    CountCheck, ErrorsCheck, PinsCheck, ViewCheck, CapabilitiesCheck, WidthCheck, BlockersCheck, HoldOpened,
    HoldReleased, StateStep, DirtySwitch, BitmapCheck, DirtyRun, Process, ClockForward, PageRequested, HostFaulted,
    PageAnswered, DriverChoice, IsolatableCheck, ScopeCheck, SizedRequest, EventBuffers, WaitingCheck>;

// A writer in the middle of the engine visits an event: no alternative may be able to fail in a copy.
static_assert(std::is_trivially_copyable_v<Event>);

/// How the format spells these; the parser and the writer share the spelling.
[[nodiscard]] std::string_view spelling(Source source) noexcept;
[[nodiscard]] std::string_view spelling(Status status) noexcept;
[[nodiscard]] std::string_view spelling(NotifyKind kind) noexcept;

/// The first field of the event's line ("T", "ram", ...); empty for a line that says nothing.
[[nodiscard]] std::string_view first_field(const Event& event) noexcept;

}  // namespace viommu::trace
