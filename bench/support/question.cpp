// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/question.hpp"

#include <exception>
#include <iostream>

namespace viommu::bench {

int run_question(int count, char** words, const std::function<void()>& add_all) {
  try {
    pin_this_thread();
    benchmark::Initialize(&count, words);
    if (benchmark::ReportUnrecognizedArguments(count, words)) return 2;
    add_all();
    benchmark::RunSpecifiedBenchmarks();
    return 0;
  } catch (const std::exception& problem) {
    std::cerr << words[0] << ": " << problem.what() << '\n';
    return 2;
  }
}

}  // namespace viommu::bench
