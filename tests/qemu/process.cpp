// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/process.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <system_error>

namespace viommu::qemu {
namespace {

void check(bool fine, const char* what) {
  if (!fine) throw std::system_error{errno, std::generic_category(), what};
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments) : errors_{memfd_create("errors", MFD_CLOEXEC)} {
  check(errors_ >= 0, "memfd_create");
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  // Closed on exec: a child that another thread starts meanwhile must not keep our pipes open.
  check(pipe2(in.data(), O_CLOEXEC) == 0 && pipe2(out.data(), O_CLOEXEC) == 0, "pipe2");
  to_ = in[1];
  from_ = out[0];

  std::vector<std::string> copies = arguments;
  std::vector<char*> pointers;
  pointers.reserve(copies.size() + 1);
  for (std::string& argument : copies) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions{};
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors_, STDERR_FILENO);
  const int result = posix_spawnp(&pid_, pointers[0], &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  if (result != 0) throw std::system_error{result, std::generic_category(), "cannot start " + arguments[0]};
}

Process::~Process() {
  close(to_);
  close(from_);
  close(errors_);
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

std::string Process::complaints() const {
  constexpr off_t most = 2000;
  const off_t end = lseek(errors_, 0, SEEK_END);
  const off_t first = end > most ? end - most : 0;
  std::string text(static_cast<std::size_t>(end - first), '\0');
  const ssize_t got = pread(errors_, text.data(), text.size(), first);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

void Process::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t done = ::write(to_, text.data(), text.size());
    if (done < 0) throw std::runtime_error{"the emulator has ended: " + complaints()};
    text.remove_prefix(static_cast<std::size_t>(done));
  }
}

std::string Process::read_line() {
  for (;;) {
    if (const std::size_t end = unread_.find('\n'); end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    std::array<char, 65536> block{};
    const ssize_t got = read(from_, block.data(), block.size());
    if (got <= 0) throw std::runtime_error{"the emulator has ended: " + complaints()};
    unread_.append(block.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace viommu::qemu
