// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "fuzz/support/records.hpp"

#include <algorithm>
#include <array>

#include "fuzz/support/target.hpp"
#include "tests/support/random.hpp"

namespace viommu::fuzz {
namespace {

using test::Random;

// Widths, page sizes, the interrupt range, canonical borders.
constexpr std::array<std::uint64_t, 28> borders{0x0,
                                                0x1,
                                                0x2,
                                                0x3,
                                                0x7F,
                                                0x80,
                                                0xFF,
                                                0x100,
                                                0xFFF,
                                                0x1000,
                                                0xFFFF,
                                                0x1F'FFFF,
                                                0x20'0000,
                                                0x3FFF'FFFF,
                                                0x4000'0000,
                                                0xFEDF'F000,
                                                0xFEE0'0000,
                                                0xFEEF'FFFF,
                                                0xFEF0'0000,
                                                0xFFFF'FFFF,
                                                0x1'0000'0000,
                                                1ULL << 39,
                                                (1ULL << 47) - 1,
                                                1ULL << 47,
                                                (1ULL << 48) - 1,
                                                1ULL << 52,
                                                1ULL << 63,
                                                ~std::uint64_t{0}};

/// Of the bytes at `data`, in place: they may become as many as `most`.
class Mutation {
 public:
  Mutation(const RecordShape& shape, std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed)
      : shape_{shape}, data_{data}, size_{size}, most_{most}, random_{seed} {}

  void step() {
    const std::size_t count = records();
    const std::uint64_t dice = random_.below(16);
    if (count == 0 || dice < 2) return insert(count);
    const std::size_t at = random_.below(count);
    if (dice == 2) return erase(at);
    if (dice == 3) return copy(at, random_.below(count + 1));
    if (dice == 4) return swap(at, random_.below(count));
    if (dice == 5 && shape_.head != 0) return change_byte(random_.below(std::min(shape_.head, size_)));
    change_cell(at, count);
  }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  [[nodiscard]] std::size_t records() const { return size_ <= shape_.head ? 0 : (size_ - shape_.head) / shape_.record; }
  [[nodiscard]] std::uint8_t* place(std::size_t record) { return data_ + shape_.head + record * shape_.record; }
  /// Room for one more record. @return where; null where there is none
  [[nodiscard]] std::uint8_t* open(std::size_t before) {
    if (size_ < shape_.head) {
      if (most_ < shape_.head) return nullptr;
      std::fill(data_ + size_, data_ + shape_.head, std::uint8_t{0});
      size_ = shape_.head;
    }
    if (most_ - size_ < shape_.record) return nullptr;
    std::uint8_t* const at = place(before);
    std::copy_backward(at, data_ + size_, data_ + size_ + shape_.record);
    size_ += shape_.record;
    return at;
  }

  void insert(std::size_t count) {
    std::uint8_t* const at = open(random_.below(count + 1));
    if (at == nullptr) return;
    for (std::size_t i = 0; i < shape_.record; ++i)
      at[i] = random_.chance(1, 2) ? static_cast<std::uint8_t>(random_.next()) : std::uint8_t{0};
  }
  void erase(std::size_t at) {
    std::copy(place(at + 1), data_ + size_, place(at));
    size_ -= shape_.record;
  }
  void copy(std::size_t from, std::size_t to) {
    std::uint8_t* const at = open(to);
    if (at != nullptr) std::copy_n(place(from < to ? from : from + 1), shape_.record, at);
  }
  void swap(std::size_t one, std::size_t other) {
    if (one != other) std::swap_ranges(place(one), place(one + 1), place(other));
  }
  void change_byte(std::size_t at) {
    std::uint8_t& byte = data_[at];
    if (random_.chance(1, 2))
      byte = static_cast<std::uint8_t>(byte ^ 1U << random_.below(8));
    else
      byte = static_cast<std::uint8_t>(random_.next());
  }
  void change_cell(std::size_t at, std::size_t count) {
    if (shape_.cells.empty()) return change_byte(shape_.head + at * shape_.record + random_.below(shape_.record));
    const Cell cell = shape_.cells[random_.below(shape_.cells.size())];
    const std::uint64_t old = get(at, cell);
    const auto bit = std::uint64_t{1} << random_.below(std::uint64_t{8} * cell.bytes);
    switch (random_.below(9)) {
      case 0:  return set(at, cell, old ^ bit);
      case 1:  return set(at, cell, old + 1);
      case 2:  return set(at, cell, old - 1);
      case 3:  return set(at, cell, random_.pick(borders));
      case 4:  return set(at, cell, old ^ random_.pick(borders));
      case 5:  return set(at, cell, get(random_.below(count), cell));
      case 6:  return set(at, cell, bit);
      case 7:  return set(at, cell, random_.next());
      default: break;
    }
    if (shape_.values.empty()) return set(at, cell, old + bit);
    set(at, cell, shape_.values[random_.below(shape_.values.size())]);
  }
  [[nodiscard]] std::uint64_t get(std::size_t record, Cell cell) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < cell.bytes; ++i) value |= std::uint64_t{place(record)[cell.at + i]} << (8 * i);
    return value;
  }
  void set(std::size_t record, Cell cell, std::uint64_t value) {
    for (std::size_t i = 0; i < cell.bytes; ++i)
      place(record)[cell.at + i] = static_cast<std::uint8_t>(value >> (8 * i));
  }

  const RecordShape& shape_;
  std::uint8_t* data_;
  std::size_t size_;
  std::size_t most_;
  Random random_;
};

}  // namespace

std::size_t mutate_records(const RecordShape& shape, std::uint8_t* data, std::size_t size, std::size_t most,
                           unsigned seed) {
  Random random{seed};
  if (random.chance(1, 4)) return LLVMFuzzerMutate(data, size, most);
  Mutation mutation{shape, data, size, most, seed ^ 0x5EED};
  for (std::uint64_t steps = 1 + random.below(4); steps > 0; --steps) mutation.step();
  return mutation.size();
}

}  // namespace viommu::fuzz
