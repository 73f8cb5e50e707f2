// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: a line of a trace is an event, whose line is parsed as the same event and written the same again, or a
// problem with a place in that line; then nothing has changed. The pairs of cfg and plug lines alike.
//
//   the input is text, a line after the other
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/trace/config.hpp"
#include "engine/trace/event.hpp"
#include "engine/trace/format.hpp"
#include "engine/trace/parse.hpp"
#include "engine/trace/plug.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/support/random.hpp"

namespace viommu::trace {
namespace {

using fuzz::require;

bool lies_in(std::string_view part, std::string_view line) {
  return part.empty() || (part.data() >= line.data() && part.data() + part.size() <= line.data() + line.size());
}

void check_problem(const ParseError& error, std::string_view line) {
  require(!phrase(error.problem).empty(), "a problem without a phrase");
  require(lies_in(error.text, line), "a problem whose text is not of its line");
  constexpr std::size_t before_pairs = 2;  // fields of a cfg line that are counted along
  require(error.field <= line.size() + before_pairs, "a problem behind its line");
}

void check_configuration(std::string_view pairs) {
  VtdConfiguration first;
  const ParseError error = parse_vtd_configuration(pairs, first);
  if (error) return check_problem(error, pairs);
  std::array<char, 320> room{};
  const std::string text{format_vtd_configuration(first, room)};
  require(!text.empty(), "a configuration that does not fit where it always does");
  VtdConfiguration again;
  require(!parse_vtd_configuration(text, again), "pairs that were written and cannot be read");
  require(again == first, "a configuration that is another one when it is read again");
}

/// One trace, and beside it what is written for each of its events.
class Twins {
 public:
  void take(std::string_view line) {
    const Event untouched = Reset{};
    Event event = untouched;
    const ParseError error = parser_.parse(line, event);
    ++fuzz::work_done;
    if (error) {
      check_problem(error, line);
      return require(event == untouched, "an event of a line that is none");
    }
    if (std::holds_alternative<Nothing>(event) || std::holds_alternative<Unknown>(event)) {
      Event same = untouched;
      require(!again_.parse(line, same) && same == event, "a line that is read otherwise a second time");
      return;
    }
    if (const auto* const configuration = std::get_if<Configuration>(&event);
        configuration != nullptr && configuration->family == Family::vtd)
      check_configuration(configuration->pairs);
    if (const auto* const plug = std::get_if<Plug>(&event)) check_plug(*plug);
    const std::string written = write(event, line.size());
    Event read = untouched;
    const std::string_view without_feed = std::string_view{written}.substr(0, written.size() - 1);
    require(!again_.parse(without_feed, read), "a line that was written and cannot be read");
    require(read == event, "an event that is another one when it is read again");
    require(write(read, line.size()) == written, "a line that is written otherwise the second time");
    require(parser_.family() == again_.family() && parser_.scenario() == again_.scenario(), "the kind of a trace");
  }

 private:
  static std::string write(const Event& event, std::size_t text_bytes) {
    std::vector<char> room(longest_line + 2 * text_bytes);
    std::string written{format(event, room)};
    require(written.size() > 1 && written.back() == '\n', "an event that cannot be written");
    require(written.find('\n') == written.size() - 1, "an event of more than one line");
    return written;
  }
  static void check_plug(const Plug& plug) {
    PlugOptions options;
    const ParseError error = parse_plug_options(plug.options, options);
    if (error) check_problem(error, plug.options);
  }

  Parser parser_;
  Parser again_;
};

void run(std::string_view text) {
  Twins twins;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    twins.take(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// Lines are put in another place, doubled, and taken out.
std::size_t mutate_lines(std::span<std::uint8_t> room, std::size_t size, std::uint64_t seed) {
  test::Random random{seed};
  std::vector<std::string> lines{1};
  for (const std::uint8_t byte : room.first(size)) {
    lines.back().push_back(static_cast<char>(byte));
    if (byte == '\n') lines.emplace_back();
  }
  const std::size_t at = random.below(lines.size());
  const std::size_t other = random.below(lines.size());
  switch (random.below(3)) {
    case 0:  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(other), lines[at]); break;
    case 1:  lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(at)); break;
    default: std::swap(lines[at], lines[other]); break;
  }
  std::string text;
  for (const std::string& line : lines) text += line;
  text.resize(std::min(text.size(), room.size()));
  std::ranges::copy(text, room.begin());
  return text.size();
}

}  // namespace
}  // namespace viommu::trace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  viommu::trace::run({reinterpret_cast<const char*>(data), size});
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  if (seed % 4 != 0) return LLVMFuzzerMutate(data, size, most);
  return viommu::trace::mutate_lines({data, most}, size, seed);
}
