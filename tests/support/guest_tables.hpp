// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a guest driver does: builds root, context and second-stage tables in its memory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace viommu::test {

/// Guest memory as the builder needs it. Both kinds of test memory offer the two calls.
struct Words {
  std::function<std::optional<std::uint64_t>(std::uint64_t gpa)> load;
  std::function<bool(std::uint64_t gpa, std::uint64_t value)> store;
};

template <class Memory>
[[nodiscard]] Words words_of(Memory& memory) {
  return {[&memory](std::uint64_t gpa) { return memory.load_u64(gpa); },
          [&memory](std::uint64_t gpa, std::uint64_t value) { return memory.store_u64(gpa, value); }};
}

/// Rights bits of a second-stage entry.
inline constexpr std::uint64_t entry_read = 1;
inline constexpr std::uint64_t entry_write = 2;
inline constexpr std::uint64_t entry_read_write = 3;
inline constexpr std::uint64_t entry_page_size = 0x80;

/// One table tree. `levels` is 3, 4 or 5, and AW of a context entry that names it is levels - 2.
struct Tree {
  std::uint64_t root = 0;
  unsigned levels = 0;
};

struct ContextFields {
  std::uint64_t type = 0;
  std::uint16_t domain_id = 1;
  bool fault_disable = false;
};

/// Builds tables out of pages taken one after another from `next_page` on. Level 1 is the table of 4 KiB pages.
/// The words are composed here from the figures of the specification, not through the library's layouts.
class GuestTables {
 public:
  GuestTables(Words words, std::uint64_t next_page);

  [[nodiscard]] std::uint64_t root_table() const noexcept { return root_; }
  std::uint64_t allocate_page();
  [[nodiscard]] Tree create_tree(unsigned levels) { return {allocate_page(), levels}; }

  void attach(std::uint16_t source_id, const Tree& tree, const ContextFields& fields = {});
  /// Writes the two words as they are; the high one first, as a driver does.
  void set_context(std::uint16_t source_id, std::uint64_t low, std::uint64_t high);
  void detach(std::uint16_t source_id);
  /// Address of a context entry; makes the context table if there is none yet.
  std::uint64_t context_entry(std::uint16_t source_id);

  /// @param leaf_level  1, 2 or 3: a page of 4 KiB, 2 MiB or 1 GiB
  void map(const Tree& tree, std::uint64_t iova, std::uint64_t gpa, std::uint64_t rights = entry_read_write,
           unsigned leaf_level = 1);
  void unmap(const Tree& tree, std::uint64_t iova, unsigned leaf_level = 1);
  /// Address of the entry for `iova` in the table of that level; tables above it are made as needed.
  std::uint64_t slot(const Tree& tree, std::uint64_t iova, unsigned level);

 private:
  [[nodiscard]] std::uint64_t load(std::uint64_t gpa) const;
  void store(std::uint64_t gpa, std::uint64_t value) const;

  Words words_;
  std::uint64_t next_page_;
  std::uint64_t root_;
};

}  // namespace viommu::test
