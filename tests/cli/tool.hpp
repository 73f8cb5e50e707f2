// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Runs the tool inside the test, with its streams as strings.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "engine/cli/command_line.hpp"

namespace viommu::test {

struct ToolRun {
  int code = 0;
  std::string out;
  std::string err;
};

/// `viommu ARGUMENTS... <INPUT`. On a terminal the output has colours and the errors show progress.
inline ToolRun run_tool(const std::vector<std::string>& arguments, const std::string& input = {},
                        bool terminal = false) {
  std::vector<const char*> argv{"viommu"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::istringstream in{input};
  std::ostringstream out;
  std::ostringstream err;
  const int code = cli::run(static_cast<int>(argv.size()), argv.data(), cli::Streams{in, out, err, terminal, terminal});
  return {code, out.str(), err.str()};
}

/// A whole trace out of its lines.
inline std::string lines(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& line : list) text += line + "\n";
  return text;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace viommu::test
