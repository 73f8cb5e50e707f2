// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/command_line.hpp"

#include <exception>
#include <string>

#include <CLI/CLI.hpp>

#include <viommu/viommu.h>

#include "engine/cli/inspect_command.hpp"
#include "engine/cli/replay_command.hpp"

namespace viommu::cli {
namespace {

constexpr int wrong_use = 2;

int run_parsed(int argc, const char* const* argv, Streams streams) {
  CLI::App app{"Replays and inspects traces of virtual IOMMUs.", "viommu"};
  app.set_version_flag("--version", std::string{viommu_version()});
  app.require_subcommand(1);

  ReplayCommand replay_command;
  CLI::App* replaying = app.add_subcommand("replay", "Feed traces to the engine and check every answer");
  replaying->add_option("FILE", replay_command.files, "Trace, plain or zstd; - for standard input")->required();
  replaying->add_flag("--json", replay_command.json, "One JSON object a file, one a line");
  replaying->add_option("--dump", replay_command.dump, "File for the unit's state at the end, as JSON; one trace only");
  replaying->footer(
      "A trace is a recording, or a scenario (scenario=1 in its cfg line): a whole test in a file, with devices,\n"
      "consumers, what the guest does, and every answer that must come.\n"
      "Exit code: 0 all matched, 1 a mismatch, 2 a file that cannot be read or parsed.");

  InspectCommand inspect_command;
  std::string source;
  std::string iova;
  std::string pasid;
  CLI::App* inspecting = app.add_subcommand("inspect", "Show registers and tables as they are at a line of a trace");
  inspecting->add_option("FILE", inspect_command.file, "Trace, plain or zstd; - for standard input")->required();
  inspecting->add_option("--at", inspect_command.line, "Line after which to look")->required();
  inspecting->add_option("--source", source, "Device, as BB:DD.F (or its hex id)");
  inspecting->add_option("--iova", iova, "Address to walk, hex; needs --source");
  inspecting->add_option("--pasid", pasid, "PASID of the request, hex; needs --source");
  std::string interrupts;
  CLI::Option* const with_interrupts =
      inspecting
          ->add_option("--interrupts", interrupts,
                       "Interrupt table entries: those present, or of an index or FIRST-LAST, hex")
          ->expected(0, 1);
  inspecting->add_option("--ranges", inspect_command.ranges, "Mapped ranges to print at most")->capture_default_str();
  inspecting->add_flag("--json", inspect_command.json, "One JSON object");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, streams.out, streams.err) == 0 ? 0 : wrong_use;
  }
  if (!replay_command.dump.empty() && replay_command.files.size() != 1) {
    streams.err << "--dump: of one trace only\n";
    return wrong_use;
  }
  if (replaying->parsed()) return replay(replay_command, streams);

  if (!source.empty() && !parse_source(source, inspect_command.source)) {
    streams.err << "--source: not a device like 00:1f.2: '" << source << "'\n";
    return wrong_use;
  }
  if (!iova.empty() && !parse_address(iova, inspect_command.iova)) {
    streams.err << "--iova: not a hex address: '" << iova << "'\n";
    return wrong_use;
  }
  if (!pasid.empty() && !parse_pasid(pasid, inspect_command.pasid)) {
    streams.err << "--pasid: not a hex number of 20 bits: '" << pasid << "'\n";
    return wrong_use;
  }
  if (with_interrupts->count() != 0 && !parse_interrupts(interrupts, inspect_command.interrupts)) {
    streams.err << "--interrupts: not an index, or FIRST-LAST, of up to four hex digits: '" << interrupts << "'\n";
    return wrong_use;
  }
  if (inspect_command.iova && !inspect_command.source) {
    streams.err << "--iova needs --source: an address means nothing without its device\n";
    return wrong_use;
  }
  if (inspect_command.pasid && !inspect_command.source) {
    streams.err << "--pasid needs --source: each device has PASIDs of its own\n";
    return wrong_use;
  }
  return inspect(inspect_command, streams);
}

}  // namespace

int run(int argc, const char* const* argv, Streams streams) {
  try {
    return run_parsed(argc, argv, streams);
  } catch (const std::exception& error) {
    streams.err << "viommu: " << error.what() << "\n";
    return wrong_use;
  }
}

}  // namespace viommu::cli
