// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// `viommu inspect FILE --at LINE`: what the guest had set up at that line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"
#include "engine/cli/interrupts.hpp"
#include "engine/cli/report.hpp"
#include "engine/cli/streams.hpp"
#include "engine/cli/tables.hpp"

namespace viommu::cli {

struct InspectCommand {
  std::string file;
  std::uint64_t line = 0;
  std::optional<SourceId> source;
  std::optional<Iova> iova;
  std::optional<Pasid> pasid;                // nothing: what requests without one go by
  std::optional<InterruptRange> interrupts;  // nothing: not wanted
  std::size_t ranges = 64;
  bool json = false;
};

/// `BB:DD.F`, or a hex id of up to four digits.
[[nodiscard]] bool parse_source(std::string_view text, std::optional<SourceId>& source);
/// Hex, with or without 0x.
[[nodiscard]] bool parse_address(std::string_view text, std::optional<Iova>& address);
/// Hex, with or without 0x, of 20 bits.
[[nodiscard]] bool parse_pasid(std::string_view text, std::optional<Pasid>& pasid);
/// `BB:DD.F`.
[[nodiscard]] std::string text_of(SourceId source);

/// A register with its fields.
struct ShownRegister {
  std::string_view name;
  std::uint32_t offset = 0;
  unsigned digits = 16;
  std::uint64_t raw = 0;
  std::vector<ShownField> fields;
  std::string note;
};

/// The unit at one line of a trace.
struct Inspection {
  std::uint64_t line = 0;
  std::string event;  // the line itself
  bool translating = false;
  std::vector<ShownRegister> registers;
  // Without a source:
  std::vector<SourceLine> sources;
  // With one:
  std::optional<SourceId> source;
  ContextView context;
  std::optional<Iova> iova;
  WalkView walk;
  MappedView mapped;
  // Where they were asked for:
  std::optional<InterruptTableView> interrupts;

  std::optional<TraceError> error;
};
[[nodiscard]] Inspection inspect_text(std::string_view text, const InspectCommand& command);

void print_text(const Inspection& inspection, const std::string& file, Streams streams);
void print_json(const Inspection& inspection, const std::string& file, std::ostream& out);

/// Exit code 0, or 2 when there is nothing to show.
[[nodiscard]] int inspect(const InspectCommand& command, Streams streams);

}  // namespace viommu::cli
