// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How fast does a real guest's DMA get its translations, and is every one of them right?
//
//   real_guests --table [--rounds N] [RECORDING...]   the main job: check, measure, print the table
//   real_guests [benchmark flags] [RECORDING...]      the same measurement as Google Benchmarks
//
// Without RECORDINGs all of tests/recordings that are of a VT-d unit are taken. A recording is parsed beforehand into
// flat arrays. Both sides work on the same RAM (which the library gets as regions, and the peer through its dispatch)
// from the same state after reset, and mimalloc serves the allocations of both, because it is linked into the process.
// Inside the clock: register writes, with the descriptors they make the unit process, and translations. The guest's
// stores and the loop over the events are inside as well, are the same for all, and are measured apart by a side that
// does nothing; the table takes their time off both, the benchmarks leave it in. Answers are stored inside the clock
// and compared outside. Register reads change nothing and are left out; the checked pass compares them.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/support/round.hpp"
#include "bench/support/table.hpp"
#include "engine/cli/input.hpp"
#include "engine/cli/replay_command.hpp"

namespace viommu::bench {
namespace {

struct Arguments {
  bool table = false;
  int rounds = 11;
  std::vector<std::string> files;
};

[[nodiscard]] std::string name_of(const std::string& file) {
  std::string name = std::filesystem::path{file}.filename().string();
  return name.substr(0, name.find(".trace"));
}

[[nodiscard]] std::vector<std::string> shipped_recordings() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator{RECORDINGS_FOLDER}) {
    const std::string name = entry.path().filename().string();
    const bool is_of_virtio = name.starts_with("vio-");  // both sides are VT-d units
    if (name.ends_with(".trace.zst") && !is_of_virtio) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

[[nodiscard]] bool read_arguments(int count, char** words, Arguments& arguments) {
  for (int index = 1; index < count; ++index) {
    const std::string_view word = words[index];
    if (word == "--table") {
      arguments.table = true;
    } else if (word == "--rounds" && index + 1 < count) {
      arguments.rounds = std::atoi(words[++index]);
    } else if (word.starts_with("-")) {
      return false;
    } else {
      arguments.files.emplace_back(word);
    }
  }
  if (arguments.files.empty()) arguments.files = shipped_recordings();
  return arguments.rounds > 0;
}

/// One line on the terminal that says what is going on; nothing when standard error is no terminal.
class Progress {
 public:
  void say(const std::string& text) const {
    if (shown_) std::cerr << "\r\033[K" << text << std::flush;
  }
  void done() const {
    if (shown_) std::cerr << "\r\033[K" << std::flush;
  }

 private:
  bool shown_ = isatty(STDERR_FILENO) != 0;
};

[[nodiscard]] bool load(const std::string& file, std::string& text, Recording& recording) {
  cli::Text read = cli::read_text(file, std::cin);
  std::string problem = read.error;
  if (problem.empty() && parse_recording(read.bytes, recording, problem)) {
    recording.name = name_of(file);
    text = std::move(read.bytes);
    return true;
  }
  std::cerr << file << ": " << problem << '\n';
  return false;
}

[[nodiscard]] int table(const Arguments& arguments) {
  const Progress progress;
  std::vector<Row> rows;
  bool all_well = !arguments.files.empty();
  if (!all_well) std::cerr << "there is no recording in " RECORDINGS_FOLDER "\n";
  for (const std::string& file : arguments.files) {
    const std::string name = name_of(file);
    progress.say(name + ": checking every answer");
    std::string text;
    Recording recording;
    if (!load(file, text, recording)) {
      all_well = false;
      continue;
    }
    Row row{name, cli::replay_text(text), {}};
    if (row.checked.error) {
      std::cerr << file << ':' << row.checked.error->line << ": " << row.checked.error->text << '\n';
      all_well = false;
      continue;
    }
    row.timed = !recording.configuration.scalable;
    if (row.timed) {
      row.times = measure(recording, arguments.rounds, [&](int round, int rounds) {
        progress.say(name + ": round " + std::to_string(round + 1) + " of " + std::to_string(rounds));
      });
    }
    all_well = all_well && row.mismatches() == 0 && row.times.peer_wrong == 0;
    rows.push_back(std::move(row));
  }
  progress.done();
  print_table(std::cout, rows, arguments.rounds);
  return all_well ? 0 : 1;
}

template <class Side>
void real_guests(benchmark::State& state, Recording& recording) {
  Contestant<Side> side{recording};
  static_cast<void>(side.pass());
  if (side.wrong_answers() != 0) return state.SkipWithError("wrong answers are not timed");
  for (auto _ : state) state.SetIterationTime(side.pass().ns * 1e-9);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(recording.asks.size()));
}

[[nodiscard]] int benchmarks(const Arguments& arguments) {
  std::vector<std::unique_ptr<Recording>> recordings;
  for (const std::string& file : arguments.files) {
    auto recording = std::make_unique<Recording>();
    std::string text;
    if (!load(file, text, *recording)) return 1;
    if (recording->configuration.scalable) continue;  // the peer does not know scalable mode
    Recording& loaded = *recordings.emplace_back(std::move(recording));
    const auto add = [&loaded](const char* side, auto function) {
      const std::string name = std::string{"real_guests<"} + side + ">/" + loaded.name;
      benchmark::RegisterBenchmark(name.c_str(), [function, &loaded](benchmark::State& state) {
        function(state, loaded);
      })->UseManualTime();
    };
    add("Viommu", &real_guests<Viommu>);
    add("QemuShape", &real_guests<Shape>);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) {
  try {
    benchmark::Initialize(&count, words);
    viommu::bench::Arguments arguments;
    if (!viommu::bench::read_arguments(count, words, arguments)) {
      std::cerr << "usage: real_guests [--table] [--rounds N] [benchmark flags] [RECORDING...]\n";
      return 2;
    }
    viommu::bench::pin_this_thread();
    return arguments.table ? viommu::bench::table(arguments) : viommu::bench::benchmarks(arguments);
  } catch (const std::exception& problem) {
    std::cerr << "real_guests: " << problem.what() << '\n';
    return 2;
  }
}
