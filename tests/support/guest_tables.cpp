// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/guest_tables.hpp"

#include <stdexcept>
#include <utility>

namespace viommu::test {
namespace {

constexpr std::uint64_t pointer_mask = 0x000FFFFFFFFFF000;

}  // namespace

GuestTables::GuestTables(Words words, std::uint64_t next_page)
    : words_{std::move(words)}, next_page_{next_page}, root_{allocate_page()} {}

std::uint64_t GuestTables::load(std::uint64_t gpa) const {
  const std::optional<std::uint64_t> value = words_.load(gpa);
  if (!value) throw std::out_of_range{"guest table outside guest memory"};
  return *value;
}

void GuestTables::store(std::uint64_t gpa, std::uint64_t value) const {
  if (!words_.store(gpa, value)) throw std::out_of_range{"guest table outside guest memory"};
}

std::uint64_t GuestTables::allocate_page() {
  const std::uint64_t page = next_page_;
  next_page_ += 4096;
  for (std::uint64_t offset = 0; offset < 4096; offset += 8) store(page + offset, 0);
  return page;
}

std::uint64_t GuestTables::context_entry(std::uint16_t source_id) {
  const std::uint64_t root_entry = root_ + std::uint64_t{16} * (source_id >> 8);
  if ((load(root_entry) & 1) == 0) store(root_entry, allocate_page() | 1);
  return (load(root_entry) & pointer_mask) + std::uint64_t{16} * (source_id & 0xFF);
}

void GuestTables::set_context(std::uint16_t source_id, std::uint64_t low, std::uint64_t high) {
  const std::uint64_t entry = context_entry(source_id);
  store(entry + 8, high);
  store(entry, low);
}

void GuestTables::attach(std::uint16_t source_id, const Tree& tree, const ContextFields& fields) {
  const std::uint64_t low = tree.root | fields.type << 2 | std::uint64_t{fields.fault_disable} << 1 | 1;
  set_context(source_id, low, std::uint64_t{fields.domain_id} << 8 | (tree.levels - 2));
}

void GuestTables::detach(std::uint16_t source_id) {
  const std::uint64_t entry = context_entry(source_id);
  store(entry, 0);
  store(entry + 8, 0);
}

std::uint64_t GuestTables::slot(const Tree& tree, std::uint64_t iova, unsigned level) {
  std::uint64_t table = tree.root;
  for (unsigned at = tree.levels;; --at) {
    const std::uint64_t entry = table + 8 * ((iova >> (12 + 9 * (at - 1))) % 512);
    if (at == level) return entry;
    if ((load(entry) & entry_read_write) == 0) store(entry, allocate_page() | entry_read_write);
    table = load(entry) & pointer_mask;
  }
}

void GuestTables::map(const Tree& tree, std::uint64_t iova, std::uint64_t gpa, std::uint64_t rights,
                      unsigned leaf_level) {
  store(slot(tree, iova, leaf_level), gpa | rights | (leaf_level > 1 ? entry_page_size : 0));
}

void GuestTables::unmap(const Tree& tree, std::uint64_t iova, unsigned leaf_level) {
  store(slot(tree, iova, leaf_level), 0);
}

}  // namespace viommu::test
