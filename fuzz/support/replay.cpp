// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The driver of a target where there is no libFuzzer: runs the inputs named, or times the target on mutations of them.
//   TARGET [--measure SECONDS] FILE|FOLDER...
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/support/random.hpp"

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t longest_input = 8192;

viommu::test::Random byte_random{1};

Bytes read(const fs::path& file) {
  std::ifstream stream{file, std::ios::binary};
  if (!stream) {
    std::fprintf(stderr, "cannot read %s\n", file.c_str());
    std::exit(2);
  }
  return {std::istreambuf_iterator<char>{stream}, {}};
}

std::vector<fs::path> files_of(const fs::path& where) {
  if (!fs::is_directory(where)) return {where};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator{where})
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

void run(const Bytes& input) {
  // A copy that ends where the input ends, so that a sanitizer sees a read behind it.
  const Bytes exact(input);
  static_cast<void>(LLVMFuzzerTestOneInput(exact.data(), exact.size()));
}

void measure(const std::vector<Bytes>& inputs, double seconds) {
  viommu::test::Random random{2};
  std::array<std::uint8_t, longest_input> room{};
  std::uint64_t executions = 0;
  viommu::fuzz::work_done = 0;
  const std::clock_t begin = std::clock();  // of this process: a machine that is busy otherwise does not count
  double took = 0;
  do {
    const Bytes& from = inputs[random.below(inputs.size())];
    std::ranges::copy(from, room.begin());
    const std::size_t size =
        LLVMFuzzerCustomMutator(room.data(), from.size(), room.size(), static_cast<unsigned>(random.next()));
    static_cast<void>(LLVMFuzzerTestOneInput(room.data(), size));
    ++executions;
    took = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  } while (took < seconds);
  std::printf("%.0f executions/s and core", static_cast<double>(executions) / took);
  if (viommu::fuzz::work_done != 0)
    std::printf(", %.0f %s/s", static_cast<double>(viommu::fuzz::work_done) / took, viommu::fuzz::work_name);
  std::printf("\n");
}

int run_all(int argc, char** argv) {
  double seconds = 0;
  std::vector<Bytes> inputs{Bytes{}};
  for (int i = 1; i < argc; ++i) {
    if (std::string_view{argv[i]} == "--measure" && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
      continue;
    }
    for (const fs::path& file : files_of(argv[i])) {
      inputs.push_back(read(file));
      if (seconds == 0) std::printf("%s\n", file.c_str());
      std::fflush(stdout);
      run(inputs.back());
    }
  }
  run(inputs.front());
  std::erase_if(inputs, [](const Bytes& input) { return input.size() > longest_input; });
  if (seconds > 0) measure(inputs, seconds);
  if (seconds == 0) std::printf("%zu inputs\n", inputs.size());
  return 0;
}

}  // namespace

std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most) {
  if (size == 0 || (byte_random.chance(1, 8) && size < most)) {
    data[size] = static_cast<std::uint8_t>(byte_random.next());
    return size + 1;
  }
  data[byte_random.below(size)] ^= static_cast<std::uint8_t>(1U << byte_random.below(8));
  return size;
}

int main(int argc, char** argv) {
  try {
    return run_all(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
