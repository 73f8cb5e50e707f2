// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A child process whose standard input and output are pipes of ours.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace viommu::qemu {

class Process {
 public:
  /// Starts arguments[0], looked for in PATH. What it prints as errors is kept for complaints().
  explicit Process(const std::vector<std::string>& arguments);
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  void write(std::string_view text);
  /// Without its line feed. Throws, with the complaints, when the process has ended.
  std::string read_line();

 private:
  [[nodiscard]] std::string complaints() const;

  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  int errors_;
  std::string unread_;
};

}  // namespace viommu::qemu
