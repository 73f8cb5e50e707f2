// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/parse.hpp"

#include <algorithm>
#include <iterator>
#include <optional>

#include "engine/trace/fields.hpp"
#include "engine/trace/parse_words.hpp"
#include "engine/trace/vocabulary.hpp"

namespace viommu::trace {
namespace {

constexpr std::uint32_t register_sizes = 1u << 1 | 1u << 2 | 1u << 4 | 1u << 8;
constexpr std::uint32_t memory_sizes = 0x1fe;  // 1..8

template <std::size_t N>
bool is_one_of(std::string_view word, const std::string_view (&words)[N]) noexcept {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

template <std::size_t N>
std::uint8_t choose(Fields& fields, std::string_view name, const std::string_view (&words)[N]) noexcept {
  return static_cast<std::uint8_t>(fields.choice(name, words));
}

ParseError parse_driver_ready(Fields fields, Event& event) noexcept {
  DriverReady ready;
  const std::string_view features = fields.value_of("features");
  Fields digits{features, true};
  ready.features = digits.hex({}, 64);
  if (!fields.error() && digits.error()) fields.fail(digits.error().problem, "features", features);
  const std::string_view bypass = fields.value_of("bypass");
  ready.bypass = bypass == "1";
  if (!fields.error() && bypass != "0" && bypass != "1") fields.fail(Problem::bad_choice, "bypass", bypass);
  return finish(fields, ready, event);
}

struct Shape {
  unsigned id_bits;  // of a source id or an endpoint
  bool scenario;
};

ParseError parse_translate(Fields fields, Shape shape, Event& event) noexcept {
  Translate t;
  t.source_id = static_cast<std::uint32_t>(fields.hex("SID", shape.id_bits));
  t.pasid = static_cast<std::uint32_t>(fields.hex_or_dash("PASID", 20, no_pasid));
  t.iova = fields.hex("IOVA", 64);
  t.access = fields.access("ACC");
  t.ok = fields.choice("ok|fault", outcomes) == 0;
  if (t.ok) {
    t.gpa = fields.hex("GPA", 64);
    t.mask = fields.hex("MASK", 64);
    t.perm = fields.perm("PERM");
    t.source = static_cast<Source>(choose(fields, "SRC", sources));
  } else {
    t.reason = static_cast<std::uint8_t>(fields.hex("REASON", 8));
    t.status = static_cast<Status>(choose(fields, "STATUS", statuses));
  }
  return finish(fields, t, event);
}

ParseError parse_interrupt(Fields fields, Shape shape, Event& event) noexcept {
  Interrupt v;
  v.question = fields.choice("w|q", askers) == 1;
  v.source_id = static_cast<std::uint32_t>(fields.hex("SID", shape.id_bits));
  v.address = fields.hex("ADDR", 64);
  v.data = static_cast<std::uint32_t>(fields.hex("DATA", 32));
  v.ok = fields.choice("ok|fault", outcomes) == 0;
  if (v.ok) {
    v.out_address = fields.hex("ADDR2", 64);
    v.out_data = static_cast<std::uint32_t>(fields.hex("DATA2", 32));
  } else {
    v.reason = static_cast<std::uint8_t>(fields.hex("REASON", 8));
    v.status = static_cast<Status>(choose(fields, "STATUS", statuses));
  }
  return finish(fields, v, event);
}

ParseError parse_notify(Fields fields, Shape shape, Event& event) noexcept {
  Notify n;
  n.source_id = static_cast<std::uint32_t>(fields.hex("SID", shape.id_bits));
  n.kind = static_cast<NotifyKind>(choose(fields, "map|unmap|devunmap", notify_kinds));
  n.iova = fields.hex("IOVA", 64);
  n.mask = fields.hex("MASK", 64);
  n.gpa = fields.hex("GPA", 64);
  n.perm = fields.perm("PERM");
  return finish(fields, n, event);
}

template <class Access>
ParseError parse_register(Fields fields, Event& event) noexcept {
  Access access;
  access.offset = static_cast<std::uint32_t>(fields.hex("OFF", 32));
  access.size = fields.size(register_sizes);
  access.value = fields.value_of_size(access.size);
  return finish(fields, access, event);
}

ParseError parse_virtio_letter(char letter, Fields fields, Family family, Event& event) noexcept {
  if (family != Family::virtio) return {Problem::family_mismatch, 0, {}, {}};
  switch (letter) {
    case 'C': return parse_driver_ready(fields, event);
    case 'B': return finish(fields, BypassChanged{static_cast<std::uint8_t>(fields.hex("V", 8))}, event);
    case 'E': return finish(fields, FaultReported{fields.byte_string("HEX")}, event);
    default:  break;
  }
  Request request;
  request.readable = fields.byte_string("REQ");
  request.written = fields.byte_string("TAIL");
  return finish(fields, request, event);
}

/// Lines of one letter. Nothing when this trace cannot have the letter; the caller then says why.
std::optional<ParseError> parse_letter(char letter, Fields fields, Shape shape, Family family, Event& event) noexcept {
  switch (letter) {
    case 'm': {
      GuestWord m;
      m.gpa = fields.hex("GPA", 64);
      m.value = fields.hex("VALUE", 64);
      return finish(fields, m, event);
    }
    case 'T': return parse_translate(fields, shape, event);
    case 'V': return parse_interrupt(fields, shape, event);
    case 'W': return parse_register<RegisterWrite>(fields, event);
    case 'R': return parse_register<RegisterRead>(fields, event);
    case 'w': {
      MemoryWrite w;
      w.gpa = fields.hex("GPA", 64);
      w.size = fields.size(memory_sizes);
      w.value = fields.value_of_size(w.size);
      return finish(fields, w, event);
    }
    case 'I': {
      Message i;
      i.address = fields.hex("ADDR", 64);
      i.data = static_cast<std::uint32_t>(fields.hex("DATA", 32));
      return finish(fields, i, event);
    }
    case 'C':
    case 'Q':
    case 'E': return parse_virtio_letter(letter, fields, family, event);
    case 'X': return finish(fields, Marker{fields.take_rest("TEXT")}, event);
    default:  break;
  }
  if (shape.scenario) return std::nullopt;
  switch (letter) {
    case 'u': {
      FailedRead u;
      u.gpa = fields.hex("GPA", 64);
      u.length = fields.length(u.gpa);
      return finish(fields, u, event);
    }
    case 'U': {
      FailedWrite u;
      u.gpa = fields.hex("GPA", 64);
      u.length = fields.length(u.gpa);
      return finish(fields, u, event);
    }
    case 'S': {
      ViewSwitch s;
      s.source_id = static_cast<std::uint32_t>(fields.hex("SID", shape.id_bits));
      s.pasid = static_cast<std::uint32_t>(fields.hex_or_dash("PASID", 32, no_pasid));
      s.on = fields.choice("ON", switches) == 1;
      return finish(fields, s, event);
    }
    case 'O': return finish(fields, CachesDropped{}, event);
    case 'Z': return finish(fields, Reset{}, event);
    case 'N': return parse_notify(fields, shape, event);
    case 'P': {
      ReplayAsked p;
      p.source_id = static_cast<std::uint32_t>(fields.hex("SID", shape.id_bits));
      return finish(fields, p, event);
    }
    case 'B': return parse_virtio_letter(letter, fields, family, event);
    default:  return std::nullopt;
  }
}

bool is_word(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

/// The header with another number.
bool is_other_version(std::string_view line) noexcept {
  constexpr std::string_view start = header_line.substr(0, header_line.size() - 1);
  if (!line.starts_with(start)) return false;
  line.remove_prefix(start.size());
  return !line.empty() && line.find_first_not_of("0123456789") == std::string_view::npos;
}

bool has_pair(std::string_view pairs, std::string_view pair) noexcept {
  while (!pairs.empty()) {
    const std::size_t space = pairs.find(' ');
    if (pairs.substr(0, space) == pair) return true;
    if (space == std::string_view::npos) return false;
    pairs.remove_prefix(space + 1);
  }
  return false;
}

}  // namespace

ParseError Parser::parse(std::string_view line, Event& event) noexcept {
  if (family_ != Family::none && line.size() >= 2 && line[1] == ' ') {
    const Shape shape{family_ == Family::vtd ? 16u : 32u, scenario_};
    const auto done = parse_letter(line[0], Fields{line.substr(2), true}, shape, family_, event);
    if (done) return *done;
  }
  return parse_other(line, event);
}

ParseError Parser::parse_other(std::string_view line, Event& event) noexcept {
  if (!header_seen_) {
    if (line != header_line)
      return {is_other_version(line) ? Problem::other_version : Problem::missing_header, 0, {}, line};
    header_seen_ = true;
    event = Nothing{};
    return {};
  }
  const std::size_t space = line.find(' ');
  const std::string_view word = line.substr(0, space);
  if (line.empty()) {
    if (family_ != Family::none && !scenario_) return {Problem::empty_line, 0, {}, {}};
    event = Nothing{};
    return {};
  }
  if (line[0] == '#') {
    event = Nothing{};
    return {};
  }
  if (word.empty()) return {Problem::empty_field, 0, {}, {}};
  if (!is_word(word)) return {Problem::not_text, 0, {}, word};
  if (word == "cfg") return parse_configuration(line, event);
  if (family_ == Family::none) return {Problem::no_configuration, 0, {}, word};

  const bool more = space != std::string_view::npos;
  const Fields fields{more ? line.substr(space + 1) : std::string_view{}, more};
  if (!more && word.size() == 1) {
    const Shape shape{family_ == Family::vtd ? 16u : 32u, scenario_};
    const auto done = parse_letter(word[0], fields, shape, family_, event);
    if (done) return *done;
  }
  if (!scenario_ && !(plugs_ && is_one_of(word, words_of_recordings))) {
    event = Unknown{word};
    return {};
  }
  if (family_ != Family::virtio && is_one_of(word, virtio_words)) return {Problem::family_mismatch, 0, {}, word};
  const auto done = parse_word(word, fields, event);
  if (done) return *done;
  return {is_one_of(word, recorded_letters) ? Problem::recorded_only : Problem::unknown_word, 0, {}, word};
}

ParseError Parser::parse_configuration(std::string_view line, Event& event) noexcept {
  const std::size_t space = line.find(' ');
  const bool more = space != std::string_view::npos;
  Fields fields{more ? line.substr(space + 1) : std::string_view{}, more};
  const std::string_view kind = fields.take("vtd|virtio|resv");
  if (fields.error()) return fields.error();
  if (kind == "resv") {
    if (family_ == Family::none) return {Problem::no_configuration, 1, {}, kind};
    if (family_ != Family::virtio) return {Problem::family_mismatch, 1, {}, kind};
    ReservedRegion region;
    region.subtype = static_cast<std::uint8_t>(fields.hex("SUBTYPE", 8));
    region.first = fields.hex("START", 64);
    region.last = fields.hex("END", 64);
    if (!fields.error() && region.last < region.first) fields.fail(Problem::bad_range, "END", {});
    return finish(fields, region, event);
  }
  const Family family = kind == "vtd" ? Family::vtd : kind == "virtio" ? Family::virtio : Family::none;
  if (family == Family::none) return {Problem::unknown_family, 1, {}, kind};
  if (family_ != Family::none) return {Problem::second_configuration, 0, {}, {}};
  const std::string_view pairs = fields.take_rest("key=value");
  if (fields.error()) return fields.error();
  family_ = family;
  scenario_ = has_pair(pairs, "scenario=1");
  plugs_ = family == Family::virtio && has_pair(pairs, "plugs=1");
  event = Configuration{family, pairs};
  return {};
}

}  // namespace viommu::trace
