// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include <unistd.h>

#include <iostream>

#include "engine/cli/command_line.hpp"

int main(int argc, char** argv) {
  const viommu::cli::Streams streams{std::cin, std::cout, std::cerr, isatty(STDOUT_FILENO) != 0,
                                     isatty(STDERR_FILENO) != 0};
  return viommu::cli::run(argc, argv, streams);
}
