// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How an inspection looks: columns for a person, one object for a program.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include <nlohmann/json.hpp>

#include "engine/cli/inspect_command.hpp"
#include "engine/cli/messages.hpp"

namespace viommu::cli {
namespace {

using Json = nlohmann::ordered_json;

/// Pads to a column; never cuts.
std::string padded(std::string text, std::size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

/// 4096 as "4 KiB".
std::string size_text(std::uint64_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  while (unit + 1 < std::size(units) && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + " " + units[unit];
}

std::string rights_text(bool read, bool write) { return std::string{read ? "r" : "-"} + (write ? "w" : "-"); }

std::string tables_text(const ContextView& context) {
  const bool has_tables = context.key.interpretation != caches::Interpretation::pass_through;
  return has_tables ? "tables at " + hex(context.key.root.value) : "-";
}

class Page {
 public:
  explicit Page(Streams streams) : out_(streams.out), colour_(streams.out_is_terminal) {}

  void heading(const std::string& text) { out_ << "\n" << on(Colour::bold) << text << off() << "\n"; }

  void registers(const std::vector<ShownRegister>& list) {
    for (const ShownRegister& reg : list) {
      out_ << "  " << padded(std::string{reg.name}, 10) << padded(hex(reg.offset), 5)
           << (reg.raw == 0 ? hex(0, reg.digits) : padded(hex(reg.raw, reg.digits), 18));
      fields(reg.fields, true);
      if (!reg.note.empty()) out_ << "  " << on(Colour::cyan) << reg.note << off();
      out_ << "\n";
    }
  }

  void word(const ShownWord& word, std::size_t title_width) {
    out_ << "  " << padded(word.title, title_width) << "at " << padded(hex(word.gpa), 14);
    if (word.raw)
      out_ << hex(*word.raw, 16) << (word.fields.empty() ? "" : "  ");
    else
      out_ << on(Colour::red) << "cannot be read" << off();
    fields(word.fields, false);
    if (!word.meaning.empty()) out_ << "  " << on(Colour::cyan) << word.meaning << off();
    out_ << "\n";
  }

  void verdict(const Verdict& verdict) {
    out_ << "  " << (verdict.reason != 0 ? on(Colour::red) : on(Colour::green)) << "=> " << verdict.text << off()
         << "\n";
  }

  void sources(const std::vector<SourceLine>& list) {
    heading("Sources with a present context entry");
    if (list.empty()) out_ << "  none\n";
    for (const SourceLine& line : list) {
      out_ << "  " << text_of(line.source) << "  " << padded(hex(line.source.value), 6);
      if (line.context.verdict.reason != 0)
        out_ << on(Colour::red) << line.context.verdict.text << off();
      else
        out_ << padded(tables_text(line.context), 26) << line.context.words.back().meaning;
      out_ << (line.context.fault_disable ? ", faults not recorded\n" : "\n");
    }
  }

  void interrupts(const InterruptTableView& view) {
    heading("Interrupt table at " + hex(view.table) + ", " + std::to_string(view.entries) + " entries" +
            (view.extended ? ", 32-bit destinations" : ""));
    if (view.list.empty()) out_ << "  none present\n";
    for (const InterruptView& entry : view.list) {
      word(entry.low, 18);
      word(entry.high, 18);
      verdict(entry.verdict);
    }
  }

  void mapped(const MappedView& view) {
    heading("Mapped ranges");
    if (view.ranges_in_all == 0 && view.complete) out_ << "  none\n";
    for (const MappedRange& range : view.ranges)
      out_ << "  " << padded(hex(range.first), 13) << "- " << padded(hex(range.last), 13) << "-> "
           << padded(hex(range.gpa), 13) << padded(rights_text(range.read, range.write), 4)
           << size_text(range.last - range.first + 1) << "\n";
    if (view.ranges_in_all > view.ranges.size())
      out_ << "  and " << view.ranges_in_all - view.ranges.size() << " more (--ranges)\n";
    if (view.ranges_in_all != 0)
      out_ << "  " << view.ranges_in_all << " ranges, " << view.pages << " pages, " << size_text(view.bytes)
           << " in all\n";
    if (view.malformed != 0)
      out_ << on(Colour::red) << "  " << view.malformed << " entries with reserved bits" << off() << "\n";
    if (!view.complete) out_ << on(Colour::yellow) << "  too many tables: the rest was not looked at" << off() << "\n";
  }

  [[nodiscard]] const char* on(Colour colour) const { return paint(colour, colour_); }
  [[nodiscard]] const char* off() const { return paint(Colour::plain, colour_); }

 private:
  /// Cells as NAME=value; `terse` leaves out what is zero and shows a set single bit by its name alone.
  void fields(const std::vector<ShownField>& list, bool terse) {
    const char* separator = "";
    for (const ShownField& field : list) {
      const bool single = field.bits.high == field.bits.low;
      if (terse && field.value == 0) continue;
      out_ << separator;
      separator = " ";
      if (field.wrong) out_ << on(Colour::red);
      out_ << field.name;
      if (field.wrong) out_ << "[" << field.bits.high << ":" << field.bits.low << "]";
      if (!terse || !single) out_ << "=" << hex(field.value);
      if (field.wrong) out_ << " (must be 0)" << off();
    }
  }

  std::ostream& out_;
  bool colour_;
};

Json fields_json(const std::vector<ShownField>& list) {
  Json json = Json::object();
  for (const ShownField& field : list) {
    std::string name{field.name};
    if (field.wrong) name += "[" + std::to_string(field.bits.high) + ":" + std::to_string(field.bits.low) + "]";
    json[name] = hex(field.value);
  }
  return json;
}

Json word_json(const ShownWord& word) {
  Json json{{"title", word.title}, {"gpa", hex(word.gpa)}};
  json["value"] = word.raw ? Json(hex(*word.raw)) : Json(nullptr);
  json["fields"] = fields_json(word.fields);
  if (!word.meaning.empty()) json["meaning"] = word.meaning;
  return json;
}

Json verdict_json(const Verdict& verdict) { return {{"reason", hex(verdict.reason)}, {"text", verdict.text}}; }

Json source_json(SourceId source, const Inspection& inspection) {
  Json json{{"source", text_of(source)}, {"id", hex(source.value)}};
  json["entries"] = Json::array();
  for (const ShownWord& word : inspection.context.words) json["entries"].push_back(word_json(word));
  json["verdict"] = verdict_json(inspection.context.verdict);
  return json;
}

Json walk_json(Iova iova, const WalkView& walk) {
  Json json{{"iova", hex(iova.value)}, {"steps", Json::array()}};
  for (const WalkStep& step : walk.steps) {
    Json shown = word_json(step.entry);
    shown["stage"] = step.first_stage ? "first" : "second";
    if (step.for_table) shown["for_table"] = true;
    json["steps"].push_back(std::move(shown));
  }
  json["verdict"] = verdict_json(walk.verdict);
  json["mapped"] = walk.mapped;
  if (walk.mapped) {
    json["gpa"] = hex(walk.gpa);
    json["mask"] = hex(walk.mask);
    json["rights"] = rights_text(walk.read, walk.write);
  }
  return json;
}

Json interrupts_json(const InterruptTableView& view) {
  Json json{{"table", hex(view.table)},
            {"entries_in_all", view.entries},
            {"extended", view.extended},
            {"entries", Json::array()}};
  for (const InterruptView& entry : view.list)
    json["entries"].push_back({{"index", hex(entry.index)},
                               {"present", entry.present},
                               {"posted", entry.posted},
                               {"low", word_json(entry.low)},
                               {"high", word_json(entry.high)},
                               {"verdict", verdict_json(entry.verdict)}});
  return json;
}

Json mapped_json(const MappedView& view) {
  Json json{{"ranges_in_all", view.ranges_in_all}, {"pages", view.pages},       {"bytes", view.bytes},
            {"malformed", view.malformed},         {"complete", view.complete}, {"ranges", Json::array()}};
  for (const MappedRange& range : view.ranges)
    json["ranges"].push_back({{"first", hex(range.first)},
                              {"last", hex(range.last)},
                              {"gpa", hex(range.gpa)},
                              {"rights", rights_text(range.read, range.write)}});
  return json;
}

}  // namespace

void print_text(const Inspection& inspection, const std::string& file, Streams streams) {
  if (inspection.error) {
    streams.err << file << ": ";
    if (inspection.error->line != 0) streams.err << "line " << inspection.error->line << ": ";
    streams.err << inspection.error->text << "\n";
    return;
  }
  Page page{streams};
  streams.out << page.on(Colour::bold) << file << page.off() << " at line " << inspection.line << ": "
              << inspection.event << "\n";
  page.heading(inspection.translating ? "Registers" : "Registers (translation is off)");
  page.registers(inspection.registers);
  if (inspection.interrupts) page.interrupts(*inspection.interrupts);
  if (!inspection.source) {
    page.sources(inspection.sources);
    return;
  }
  page.heading("Source " + text_of(*inspection.source) + " (" + hex(inspection.source->value) + ")");
  for (const ShownWord& word : inspection.context.words) page.word(word, 22);
  page.verdict(inspection.context.verdict);
  if (inspection.iova) {
    page.heading("Walk of " + hex(inspection.iova->value));
    const bool nested = inspection.context.key.interpretation == caches::Interpretation::nested;
    for (const WalkStep& step : inspection.walk.steps) page.word(step.entry, nested ? 15 : 7);
    page.verdict(inspection.walk.verdict);
    if (inspection.walk.mapped)
      streams.out << "     " << hex(inspection.iova->value) << " -> " << hex(inspection.walk.gpa) << " in a page of "
                  << size_text(inspection.walk.mask + 1) << "\n";
  }
  page.mapped(inspection.mapped);
}

void print_json(const Inspection& inspection, const std::string& file, std::ostream& out) {
  Json json{{"file", file}};
  if (inspection.error) {
    json["error"] = {{"line", inspection.error->line}, {"text", inspection.error->text}};
  } else {
    json["line"] = inspection.line;
    json["event"] = inspection.event;
    json["translating"] = inspection.translating;
    json["registers"] = Json::array();
    for (const ShownRegister& reg : inspection.registers)
      json["registers"].push_back({{"name", reg.name},
                                   {"offset", hex(reg.offset)},
                                   {"value", hex(reg.raw)},
                                   {"fields", fields_json(reg.fields)}});
    if (inspection.interrupts) json["interrupts"] = interrupts_json(*inspection.interrupts);
    if (!inspection.source) {
      json["sources"] = Json::array();
      for (const SourceLine& line : inspection.sources)
        json["sources"].push_back({{"source", text_of(line.source)},
                                   {"id", hex(line.source.value)},
                                   {"table", hex(line.context.key.root.value)},
                                   {"verdict", verdict_json(line.context.verdict)}});
    } else {
      json["source"] = source_json(*inspection.source, inspection);
      if (inspection.iova) json["walk"] = walk_json(*inspection.iova, inspection.walk);
      json["mapped"] = mapped_json(inspection.mapped);
    }
  }
  out << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

}  // namespace viommu::cli
