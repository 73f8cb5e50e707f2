// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/replay_command.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iomanip>
#include <map>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "engine/cli/input.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"
#include "engine/cli/trace_file.hpp"

namespace viommu::cli {
namespace {

constexpr std::uint64_t lines_between_progress = 8192;

/// One line on a terminal that counts up and goes away again.
class Progress {
 public:
  Progress(std::ostream& out, bool on, const std::string& name, std::size_t size)
      : out_(out), on_(on), name_(name), size_(size) {}

  void at(std::size_t position, std::uint64_t translations) {
    if (!on_) return;
    const std::size_t percent = size_ == 0 ? 100 : position * 100 / size_;
    if (shown_ && percent == percent_) return;
    shown_ = true;
    percent_ = percent;
    out_ << "\r\x1b[K" << name_ << ": " << percent << " %, " << translations << " translations" << std::flush;
  }
  void clear() {
    if (shown_) out_ << "\r\x1b[K" << std::flush;
  }

 private:
  std::ostream& out_;
  bool on_;
  const std::string& name_;
  std::size_t size_;
  std::size_t percent_ = 0;
  bool shown_ = false;
};

/// viommu_dump() of the unit as the trace leaves it. @return what is wrong, or nothing
std::string write_dump(Engine* engine, const std::string& file) {
  if (engine == nullptr) return "there is no unit to dump";
  auto document = engine->dump();
  if (!document) return "the unit cannot be dumped: " + document.error().text;
  std::ofstream out{file, std::ios::binary};
  out << *document << "\n";
  out.close();
  return out ? std::string{} : "cannot be written";
}

Report replay_with(std::string_view text, Progress* progress, const std::string& dump = {}) {
  const auto start = std::chrono::steady_clock::now();
  Replayer replayer{{.explicit_ram = has_ram_line(text)}};
  EventReader events{text};
  trace::Event event;
  while (events.next(event) && replayer.feed(event, events.line())) {
    if (progress != nullptr && events.line() % lines_between_progress == 0)
      progress->at(events.position(), replayer.report().translations);
  }
  if (events.error() && !replayer.report().error) replayer.report().error = events.error();
  replayer.finish(events.line());
  Report report = std::move(replayer.report());
  if (!dump.empty() && !report.error) {
    if (const std::string wrong = write_dump(replayer.engine(), dump); !wrong.empty())
      report.error = TraceError{0, "--dump " + dump + ": " + wrong};
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

/// 1234567 as "1,234,567".
std::string grouped(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

double per_second(const Report& report) {
  return report.seconds > 0 ? static_cast<double>(report.translations) / report.seconds : 0;
}

std::string in_units(double rate) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1);
  if (rate >= 1e6)
    text << rate / 1e6 << " M";
  else if (rate >= 1e3)
    text << rate / 1e3 << " k";
  else
    text << rate << " ";
  return text.str();
}

void print_kinds(std::ostream& out, const char* what, const std::map<std::string, std::uint64_t>& kinds) {
  if (kinds.empty()) return;
  out << ", " << what;
  const char* separator = " ";
  for (const auto& [name, count] : kinds) {
    out << separator << name << " " << grouped(count);
    separator = ", ";
  }
}

void print_text(const std::string& file, const Report& report, Streams streams) {
  std::ostream& out = streams.out;
  const bool colour = streams.out_is_terminal;
  const char* plain = paint(Colour::plain, colour);
  if (report.error) {
    streams.err << file << ": ";
    if (report.error->line != 0) streams.err << "line " << report.error->line << ": ";
    streams.err << report.error->text << "\n";
    return;
  }
  const bool right = report.mismatches == 0;
  out << paint(Colour::bold, colour) << file << plain << ": " << paint(right ? Colour::green : Colour::red, colour)
      << grouped(report.mismatches) << (report.mismatches == 1 ? " mismatch" : " mismatches") << plain << ", "
      << grouped(report.events) << " events, " << grouped(report.translations) << " translations, "
      << grouped(report.matches) << " matches";
  if (report.stale != 0) out << ", stale " << grouped(report.stale);
  if (report.dropped_access != 0) out << ", dropped access " << grouped(report.dropped_access);
  print_kinds(out, "artefacts:", report.artefacts);
  print_kinds(out, "deviations:", report.deviations);
  print_kinds(out, "skipped:", report.skipped);
  out << std::fixed << std::setprecision(3) << ", " << report.seconds << " s, " << in_units(per_second(report))
      << "translations/s\n";
  for (const Mismatch& mismatch : report.first_mismatches) {
    out << "  " << paint(Colour::cyan, colour) << "line " << mismatch.line << plain << ": " << mismatch.event
        << "\n    expected  " << mismatch.expected << "\n    found     " << paint(Colour::red, colour) << mismatch.found
        << plain << "\n";
  }
  if (report.mismatches > report.first_mismatches.size())
    out << "  and " << grouped(report.mismatches - report.first_mismatches.size()) << " more\n";
}

void print_json(const std::string& file, const Report& report, std::ostream& out) {
  nlohmann::ordered_json json;
  json["file"] = file;
  json["result"] = report.error ? "error" : report.mismatches != 0 ? "mismatch" : "match";
  if (report.error) json["error"] = {{"line", report.error->line}, {"text", report.error->text}};
  json["events"] = report.events;
  json["translations"] = report.translations;
  json["matches"] = report.matches;
  json["stale"] = report.stale;
  json["dropped_access"] = report.dropped_access;
  json["artefacts"] = report.artefacts;
  json["deviations"] = report.deviations;
  json["mismatches"] = report.mismatches;
  json["first_mismatches"] = nlohmann::ordered_json::array();
  for (const Mismatch& mismatch : report.first_mismatches)
    json["first_mismatches"].push_back({{"line", mismatch.line},
                                        {"event", mismatch.event},
                                        {"expected", mismatch.expected},
                                        {"found", mismatch.found}});
  json["skipped"] = report.skipped;
  json["seconds"] = report.seconds;
  json["translations_per_second"] = per_second(report);
  // File names are bytes; what is no UTF-8 in them must not end the output.
  out << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
}

}  // namespace

Report replay_text(std::string_view text) { return replay_with(text, nullptr); }

int replay(const ReplayCommand& command, Streams streams) {
  int worst = 0;
  for (const std::string& file : command.files) {
    const Text text = read_text(file, streams.in);
    Report report;
    if (!text.error.empty()) {
      report.error = TraceError{0, text.error};
    } else {
      Progress progress{streams.err, streams.err_is_terminal, file, text.bytes.size()};
      report = replay_with(text.bytes, &progress, command.dump);
      progress.clear();
    }
    if (command.json)
      print_json(file, report, streams.out);
    else
      print_text(file, report, streams);
    streams.out.flush();
    worst = std::max(worst, report.exit_code());
  }
  return worst;
}

}  // namespace viommu::cli
