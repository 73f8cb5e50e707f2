// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The static tracepoints that a library says it has, read from its notes as tracing tools read them.
#pragma once

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace viommu::test {

/// By name: how many arguments each place has that bears it. For a 64-bit ELF file of this byte order.
[[nodiscard]] inline std::map<std::string, std::vector<std::size_t>> probes_of(const std::filesystem::path& file,
                                                                               const std::string& provider) {
  std::ifstream in{file, std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
  const auto at = [&]<class T>(std::size_t offset, T value) {
    std::memcpy(&value, bytes.substr(offset, sizeof value).data(), sizeof value);
    return value;
  };
  std::map<std::string, std::vector<std::size_t>> probes;
  const auto header = at(0, Elf64_Ehdr{});
  const auto names = at(header.e_shoff + std::size_t{header.e_shstrndx} * header.e_shentsize, Elf64_Shdr{});
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const auto section = at(header.e_shoff + i * header.e_shentsize, Elf64_Shdr{});
    if (std::string{bytes.c_str() + names.sh_offset + section.sh_name} != ".note.stapsdt") continue;
    for (std::size_t note = section.sh_offset; note + sizeof(Elf64_Nhdr) < section.sh_offset + section.sh_size;) {
      const auto head = at(note, Elf64_Nhdr{});
      const auto padded = [](std::size_t size) { return (size + 3) / 4 * 4; };
      const std::size_t text = note + sizeof head + padded(head.n_namesz) + 3 * sizeof(std::uint64_t);
      const std::string its_provider{bytes.c_str() + text};
      const std::string name{bytes.c_str() + text + its_provider.size() + 1};
      const std::string arguments{bytes.c_str() + text + its_provider.size() + 1 + name.size() + 1};
      std::size_t count = 0;
      for (const char c : arguments) count += c == '@' ? 1U : 0U;
      if (its_provider == provider) probes[name].push_back(count);
      note += sizeof head + padded(head.n_namesz) + padded(head.n_descsz);
    }
  }
  return probes;
}

}  // namespace viommu::test
