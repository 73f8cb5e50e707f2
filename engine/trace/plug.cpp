// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/plug.hpp"

#include <array>
#include <cstddef>

#include "engine/trace/fields.hpp"

namespace viommu::trace {
namespace {

constexpr std::string_view backends[] = {"vfio", "iommufd"};
constexpr std::string_view host_kinds[] = {"vtd", "smmu"};
constexpr std::string_view facts[] = {"width", "caps", "ranges", "pages"};  // behind HostFact::none
constexpr std::string_view abilities[] = {"able", "notable", "unknown"};
constexpr std::string_view wishes[] = {"translate", "bypass", "unset"};
constexpr std::string_view offers[] = {"0", "1"};
constexpr unsigned widest_host = 64;

using Reader = void (*)(Fields& value, PlugOptions& options);
struct Row {
  std::string_view name;
  Reader read;
};

template <class Choice, std::size_t N>
Choice choose(Fields& value, const std::string_view (&words)[N]) noexcept {
  return static_cast<Choice>(value.choice({}, words));
}

AddressRange range_of(std::string_view text, Fields& value) noexcept {
  AddressRange range;
  if (!next_range(text, range) || !text.empty()) value.fail(Problem::bad_range, {}, {});
  return range;
}

constexpr std::array<Row, 15> rows{{
    {"backend", [](Fields& v, PlugOptions& o) { o.backend = choose<Backend>(v, backends); }},
    {"hostkind", [](Fields& v, PlugOptions& o) { o.host_kind = choose<HostKind>(v, host_kinds); }},
    {"hcap", [](Fields& v, PlugOptions& o) { o.capability = v.hex({}, 64); }},
    {"hecap", [](Fields& v, PlugOptions& o) { o.extended_capability = v.hex({}, 64); }},
    {"haw", [](Fields& v, PlugOptions& o) { o.width = static_cast<std::uint32_t>(v.decimal({}, widest_host)); }},
    {"hpages", [](Fields& v, PlugOptions& o) { o.page_sizes = v.hex({}, 64); }},
    {"hiova",
     [](Fields& v, PlugOptions& o) {
       o.ranges = v.take({});
       AddressRange range;
       std::string_view rest = o.ranges;
       while (next_range(rest, range)) {
       }
       if (!rest.empty()) v.fail(Problem::bad_range, {}, {});
     }},
    {"hfail", [](Fields& v, PlugOptions& o) { o.fails = static_cast<HostFact>(v.choice({}, facts) + 1); }},
    {"ability", [](Fields& v, PlugOptions& o) { o.ability = choose<Ability>(v, abilities); }},
    {"wish", [](Fields& v, PlugOptions& o) { o.wish = choose<Wish>(v, wishes); }},
    {"platform", [](Fields& v, PlugOptions& o) { o.platform_offered = v.choice({}, offers) == 1; }},
    {"alias", [](Fields& v, PlugOptions& o) { o.alias = static_cast<std::uint16_t>(v.hex({}, 16)); }},
    {"endpoint", [](Fields& v, PlugOptions& o) { o.endpoint = static_cast<std::uint32_t>(v.hex({}, 32)); }},
    {"rmrr", [](Fields& v, PlugOptions& o) { o.reserved = range_of(v.take({}), v); }},
    {"bypassed", nullptr},  // a key without a value
}};

}  // namespace

bool next_range(std::string_view& list, AddressRange& range) noexcept {
  const std::size_t comma = list.find(',');
  const std::string_view item = list.substr(0, comma);
  const std::size_t dash = item.find('-');
  if (dash == std::string_view::npos || (comma != std::string_view::npos && comma + 1 == list.size())) return false;
  Fields first{item.substr(0, dash), true};
  Fields last{item.substr(dash + 1), true};
  const AddressRange found{first.hex({}, 64), last.hex({}, 64)};
  if (first.error() || last.error() || found.last < found.first) return false;
  range = found;
  list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  return true;
}

ParseError parse_plug_options(std::string_view pairs, PlugOptions& options) noexcept {
  options = {};
  if (pairs.empty()) return {};
  std::array<bool, rows.size()> seen{};
  Fields fields{pairs, true};
  for (unsigned index = 0; fields.more(); ++index) {
    const std::string_view field = fields.take("key=value");
    if (fields.error()) return {fields.error().problem, index, "key=value", {}};
    const std::size_t equals = field.find('=');
    const bool has_value = equals != std::string_view::npos;
    const std::string_view name = field.substr(0, equals);
    std::size_t key = 0;
    while (key < rows.size() && rows[key].name != name) ++key;
    if (key == rows.size()) return {Problem::unknown_key, index, "key=value", field};
    if (seen[key]) return {Problem::repeated_key, index, rows[key].name, field};
    seen[key] = true;
    if ((rows[key].read != nullptr) != has_value) return {Problem::not_a_pair, index, rows[key].name, field};
    if (!has_value) {
      options.bypassed = true;
      continue;
    }
    Fields value{field.substr(equals + 1), true};
    rows[key].read(value, options);
    if (value.error()) return {value.error().problem, index, rows[key].name, field.substr(equals + 1)};
  }
  return {};
}

}  // namespace viommu::trace
