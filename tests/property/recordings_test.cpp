// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The oracle against recordings of real guests on another unit: what it would answer from the recorded memory is what
// was answered there, but for the three things that the recorded emulator is known to do (README of the recordings).
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/cli/input.hpp"
#include "engine/trace/config.hpp"
#include "engine/trace/event.hpp"
#include "engine/trace/parse.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {
namespace {

using oracle::Answer;

/// Follows one recording: memory, the two registers the oracle needs, and the answers.
class Follower {
 public:
  Follower() { memory_.add_ram(0, std::uint64_t{1} << 63); }

  void operator()(const trace::Configuration& event) {
    trace::VtdConfiguration configuration;
    legacy = event.family == trace::Family::vtd && !trace::parse_vtd_configuration(event.pairs, configuration) &&
             !configuration.scalable;
    unit_.cap = configuration.capability;
    unit_.ecap = configuration.extended_capability;
    unit_.haw = configuration.host_address_width != 0 ? configuration.host_address_width : configuration.address_width;
  }
  void operator()(const trace::GuestWord& event) { memory_.store_u64(event.gpa, event.value); }
  void operator()(const trace::MemoryWrite& event) {
    memory_.write(event.gpa, std::as_bytes(std::span{&event.value, 1}).first(event.size));
  }
  void operator()(const trace::Reset&) {
    unit_.translation_enabled = false;
    root_register_ = 0;
    unit_.root_table = 0;
  }
  void operator()(const trace::RegisterWrite& event) {
    constexpr std::uint64_t low_half = 0xFFFFFFFF;
    if (event.offset == 0x20 && event.size == 8) root_register_ = event.value;
    if (event.offset == 0x20 && event.size == 4) root_register_ = (root_register_ & ~low_half) | event.value;
    if (event.offset == 0x24) root_register_ = (root_register_ & low_half) | event.value << 32;
    if (event.offset != 0x18) return;
    if ((event.value & 0x40000000) != 0) unit_.root_table = root_register_;
    unit_.translation_enabled = (event.value & 0x80000000) != 0;
  }
  void operator()(const trace::Translate& event) {
    oracle::Request request;
    request.source_id = static_cast<std::uint16_t>(event.source_id);
    if (event.pasid != trace::no_pasid) request.pasid = event.pasid;
    request.iova = event.iova;
    request.read = event.access.rights.read;
    request.write = event.access.rights.write;
    const Answer answer =
        oracle::translate(unit_, [this](std::uint64_t gpa) { return memory_.load_u64(gpa); }, request);
    ++translations;
    if (!agrees(event, answer)) wrong = true;
  }
  void operator()(const auto&) {}

  bool legacy = false;
  bool wrong = false;
  std::uint64_t translations = 0;

 private:
  [[nodiscard]] bool agrees(const trace::Translate& event, const Answer& answer) {
    if (!event.ok) return answer.kind == Answer::fault && answer.reason == event.reason;
    const bool from_cache = event.source == trace::Source::iotlb;
    const bool dropped =
        (event.access.rights.read && !event.perm.read) || (event.access.rights.write && !event.perm.write);
    if (dropped) return from_cache && answer.kind == Answer::fault;  // the access was not done after all
    const std::uint64_t page = (event.gpa | (event.iova & event.mask)) & ~std::uint64_t{0xFFF};
    std::set<std::uint64_t>& earlier = earlier_[{event.source_id, event.iova >> 12}];
    if (answer.kind != Answer::fault && (answer.gpa & ~std::uint64_t{0xFFF}) == page) {
      earlier.insert(page);
      return answer.kind == Answer::identity || from_cache || answer.page_mask == event.mask;
    }
    return from_cache && earlier.contains(page);  // out of date, as its cache may be
  }

  oracle::Unit unit_;
  SparseMemory memory_;
  std::uint64_t root_register_ = 0;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::set<std::uint64_t>> earlier_;
};

}  // namespace

TEST_CASE("the oracle gives every answer of the legacy-mode recordings", "[oracle][recordings]") {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator{recordings_folder()}) {
    if (entry.path().extension() == ".zst") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  unsigned checked = 0;
  for (const std::filesystem::path& file : files) {
    CAPTURE(file);
    const cli::Text text = cli::read_text(file.string(), std::cin);
    REQUIRE(text.error == "");
    Follower follower;
    trace::Parser parser;
    trace::Event event;
    cli::Lines lines{text.bytes};
    for (std::string_view line; lines.next(line);) {
      REQUIRE_FALSE(parser.parse(line, event));
      std::visit(follower, event);
      if (parser.family() != trace::Family::none && !follower.legacy) break;
      if (follower.wrong) FAIL("line " << lines.number() << ": " << line);
    }
    if (!follower.legacy) continue;
    CHECK(follower.translations > 0);
    ++checked;
  }
  CHECK(checked >= 4);
}

}  // namespace viommu::test
