// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does it cost to read whole leaf tables, by the shape of what they map, and what is the least that it can cost?
//
//   table_scan<T>/SHAPE/TABLES     items are entries; 128 tables (512 KiB) lie in L2, 32,768 (128 MiB) in memory
//
// Tables in shuffled order; the lines of the table after next are prefetched beside those that are read. Runs are put
// into the same page again, as a consumer's look has it. T is the kernel: Lanes is the one that this CPU is given.
// Floor reads the tables the same way and adds the words up.
#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "bench/support/question.hpp"
#include "bench/support/replay_guest.hpp"
#include "walkers/batch.hpp"
#include "walkers/simd/select.hpp"
#include "walkers/table_scan.hpp"

namespace viommu::bench {
namespace {

using walkers::Kernels;
using walkers::MappedRun;
using walkers::ScanResult;
using walkers::ScanRules;

constexpr std::uint32_t ahead = 2;
constexpr std::uint64_t malformed = std::uint64_t{1} << 62;

/// The tables of one shape and number, and room for their runs.
class Tables {
 public:
  Tables(Shape shape, std::uint32_t tables) : guest_{shape, tables, 1} {}
  [[nodiscard]] const std::byte* table(std::uint32_t number) const noexcept {
    return guest_.host_table(0, number & (guest_.tables() - 1));
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return guest_.tables(); }
  [[nodiscard]] MappedRun* runs() noexcept { return runs_.data(); }

 private:
  ReplayGuest guest_;
  alignas(ReplayGuest::table_bytes) std::array<MappedRun, walkers::scan_room> runs_;
};

[[nodiscard]] Tables& tables_of(Shape shape, std::int64_t tables) {
  static std::map<std::pair<Shape, std::int64_t>, std::unique_ptr<Tables>> all;
  std::unique_ptr<Tables>& one = all[{shape, tables}];
  if (!one) one = std::make_unique<Tables>(shape, static_cast<std::uint32_t>(tables));
  return *one;
}

struct Lanes {
  static constexpr const char* name = "Lanes";
  static const Kernels& kernels() { return *walkers::select_kernels(""); }
};
struct Scalar {
  static constexpr const char* name = "Scalar";
  static const Kernels& kernels() { return *walkers::select_kernels("scalar"); }
};
struct Avx2 {
  static constexpr const char* name = "Avx2";
  static const Kernels& kernels() { return *walkers::select_kernels("avx2"); }
};
struct Floor {
  static constexpr const char* name = "Floor";
};

/// Times `read(table, the table ahead)` over all tables again and again.
template <class Read>
void measure_tables(benchmark::State& state, Together& together, Tables& tables, Read read) {
  std::uint32_t next = 0;
  measure(state, together, walkers::table_pages, [&](std::uint64_t count) {
    for (std::uint64_t done = 0; done < count; done += walkers::table_pages) {
      if (next == tables.count()) next = 0;
      read(tables.table(next), tables.table(next + ahead));
      ++next;
    }
  });
  state.SetBytesProcessed(state.items_processed() * static_cast<std::int64_t>(sizeof(std::uint64_t)));
}

template <class Kernel>
void scan(benchmark::State& state, Together& together, Shape shape) {
  Tables& tables = tables_of(shape, state.range(0));
  const Kernels& kernels = Kernel::kernels();
  std::vector<MappedRun> right(walkers::scan_room);
  for (std::uint32_t number = 0; number < std::min(tables.count(), 256u); ++number) {
    const std::byte* const table = tables.table(number);
    const ScanRules rules{malformed, 3};
    const ScanResult expected = walkers::scan_table(table, 0, walkers::table_pages - 1, rules, true, right.data());
    const ScanResult got = kernels.scan_table(table, 0, walkers::table_pages - 1, rules, true, tables.runs());
    if (got != expected || !std::equal(right.begin(), right.begin() + expected.runs, tables.runs()))
      return state.SkipWithError("wrong answers are not timed");
  }
  std::uint64_t runs = 0;
  measure_tables(state, together, tables, [&](const std::byte* table, const std::byte* later) {
    const ScanRules rules{malformed, 3, later};
    runs += kernels.scan_table(table, 0, walkers::table_pages - 1, rules, true, tables.runs()).runs;
  });
  benchmark::DoNotOptimize(runs);
}

void read_only(benchmark::State& state, Together& together, Shape shape) {
  Tables& tables = tables_of(shape, state.range(0));
  std::uint64_t sum = 0;
  measure_tables(state, together, tables, [&](const std::byte* table, const std::byte* later) {
    const auto* const words = reinterpret_cast<const std::uint64_t*>(table);
    constexpr std::size_t line = 8;
    for (std::size_t at = 0; at < walkers::table_pages; at += line) {
      __builtin_prefetch(later + at * sizeof(std::uint64_t));
      for (std::size_t i = 0; i < line; ++i) sum += words[at + i];
    }
  });
  benchmark::DoNotOptimize(sum);
}

template <class Translator, class Run>
void add_scan(Shape shape, std::int64_t tables, Run run) {
  const auto together = std::make_shared<Together>(1u);
  const std::string name = std::string{"table_scan<"} + Translator::name + ">/" + name_of(shape);
  benchmark::RegisterBenchmark(name.c_str(),
                               [run, together, shape](benchmark::State& state) { run(state, *together, shape); })
      ->UseManualTime()
      ->Args({tables});
}

void add_all() {
  for (const Shape shape : all_shapes) {
    for (const std::int64_t tables : {128, 32768}) {
      add_scan<Lanes>(shape, tables, &scan<Lanes>);
      if (walkers::select_kernels("avx512") != nullptr) add_scan<Avx2>(shape, tables, &scan<Avx2>);
      add_scan<Scalar>(shape, tables, &scan<Scalar>);
      add_scan<Floor>(shape, tables, &read_only);
    }
  }
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
