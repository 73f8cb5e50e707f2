// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/host/fake_kernel.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <sstream>

namespace viommu::test {
namespace {

template <class Word>
Word get(std::uintptr_t argument, std::size_t offset) {
  Word word;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): what the kernel is given is a number
  std::memcpy(&word, reinterpret_cast<const void*>(argument + offset), sizeof word);
  return word;
}
std::uint32_t u32(std::uintptr_t argument, std::size_t offset) { return get<std::uint32_t>(argument, offset); }
std::uint64_t u64(std::uintptr_t argument, std::size_t offset) { return get<std::uint64_t>(argument, offset); }
template <class Word>
void put(std::uintptr_t argument, std::size_t offset, Word word) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): what the kernel is given is a number
  std::memcpy(reinterpret_cast<void*>(argument + offset), &word, sizeof word);
}

constexpr std::uint64_t top = ~std::uint64_t{0};

bool overlaps(const HeldMap& held, std::uint64_t first, std::uint64_t last) {
  return std::ranges::any_of(held, [&](const auto& at) { return at.second.first <= last && first <= at.second.last; });
}
bool cuts(const HeldMap& held, std::uint64_t first, std::uint64_t last) {
  return std::ranges::any_of(held, [&](const auto& at) {
    const Held& one = at.second;
    return one.first <= last && first <= one.last && (one.first < first || one.last > last);
  });
}
bool writable(const HeldMap& held, std::uint64_t iova) {
  return std::ranges::any_of(held, [&](const auto& at) {
    return at.second.first <= iova && iova <= at.second.last && (at.second.rights & VIOMMU_WRITE) != 0;
  });
}

/// Sets the bits of [first, first + size) in memory that the caller offers.
void report(std::set<std::uint64_t>& dirty, std::uint64_t first, std::uint64_t size, std::uint64_t page_size,
            std::uint64_t data, bool clear) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): what the kernel is given is a number
  auto* const bytes = reinterpret_cast<unsigned char*>(data);
  for (auto at = dirty.lower_bound(first); at != dirty.end() && *at - first < size;) {
    const std::uint64_t bit = (*at - first) / page_size;
    bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] | (1U << (bit % 8)));
    at = clear ? dirty.erase(at) : std::next(at);
  }
}

/// The rules of iommufd about a struct's size.
int sized(std::uintptr_t argument, std::uint32_t known) {
  const std::uint32_t size = u32(argument, 0);
  if (size < known) return -EINVAL;
  for (std::uint32_t at = known; at < size; ++at)
    if (get<unsigned char>(argument, at) != 0) return -E2BIG;
  return 0;
}

constexpr std::size_t chain_room(std::size_t ranges) { return 24 + 16 + ranges * 16 + 32 + 16; }

}  // namespace

FakeKernel::FakeKernel() = default;

viommu_host_kernel FakeKernel::table() { return {sizeof(viommu_host_kernel), this, entry}; }

std::int32_t FakeKernel::entry(void* opaque, std::int32_t fd, std::uint32_t request, std::uintptr_t argument) {
  auto& kernel = *static_cast<FakeKernel*>(opaque);
  kernel.calls.push_back(request);
  const bool has_struct = request >= 0x3B70 && request <= 0x3B8C;
  if (has_struct) kernel.sizes[request] = u32(argument, 0);
  if (kernel.fails)
    if (const int failed = kernel.fails(request); failed != 0) return failed;
  return kernel.call(fd, request, argument);
}

int FakeKernel::call(std::int32_t fd, std::uint32_t request, std::uintptr_t argument) {
  if (fd == container_fd) return container_call(request, argument);
  if (fd == iommufd_fd) return iommufd_call(request, argument);
  if (fd >= first_group && fd < first_group + 10) return group_call(fd, request, argument);
  if (fd >= first_device && fd < first_device + 10) return device_call(fd, request, argument);
  return -EBADF;
}

void FakeKernel::note(const char* what, std::uint64_t first, std::uint64_t size) {
  std::ostringstream text;
  text << what << ' ' << std::hex << first << ' ' << size;
  changes.push_back(text.str());
}

bool FakeKernel::usable(std::uint64_t first, std::uint64_t last) const {
  return ranges.empty() ||
         std::ranges::any_of(ranges, [&](const auto& range) { return range.first <= first && last <= range.last; });
}

std::uint64_t FakeKernel::pinned() const {
  std::uint64_t bytes = 0;
  const auto add = [&bytes](const HeldMap& held) {
    for (const auto& [first, one] : held) bytes += one.last - one.first + 1;
  };
  add(container_.held);
  for (const auto& [id, space] : spaces_) add(space.held);
  return bytes;
}

// ---- A container --------------------------------------------------------------------------------------------------

int FakeKernel::container_call(std::uint32_t request, std::uintptr_t argument) {
  switch (request) {
    case 0x3B64: return 0;
    case 0x3B65:
      if (argument == 3) return type1v2 ? 1 : 0;
      if (argument == 4) return coherent ? 1 : 0;
      if (argument == 9) return unmap_all ? 1 : 0;
      return 0;
    case 0x3B66:
      if (argument != 3 || groups_.empty() || container_.type != 0) return -EINVAL;
      container_.type = 3;
      return 0;
    case 0x3B70: return get_info(argument);
    case 0x3B71: return map_dma(argument);
    case 0x3B72: return unmap_dma(argument);
    case 0x3B75: return dirty_pages(argument);
    default:     return -ENOTTY;
  }
}

int FakeKernel::group_call(std::int32_t group, std::uint32_t request, std::uintptr_t argument) {
  if (request == 0x3B68) {
    if (get<std::int32_t>(argument, 0) != container_fd || groups_.contains(group)) return -EINVAL;
    groups_.insert(group);
    return 0;
  }
  if (request == 0x3B69) {
    if (groups_.erase(group) == 0) return -EINVAL;
    if (groups_.empty()) container_ = {};
    return 0;
  }
  return -ENOTTY;
}

int FakeKernel::get_info(std::uintptr_t argument) {
  const std::uint32_t room = u32(argument, 0);
  if (room < 16) return -EINVAL;
  if (grows) ranges.push_back({top - 0xFFF, top});
  put<std::uint32_t>(argument, 4, capabilities ? 3 : 1);
  put<std::uint64_t>(argument, 8, page | (page << 9) | (page << 18));
  if (!capabilities) {
    put<std::uint32_t>(argument, 0, 24);
    return 0;
  }
  const std::size_t whole = chain_room(ranges.size());
  put(argument, 0, static_cast<std::uint32_t>(whole));
  if (room < whole) {
    if (room >= 24) put<std::uint32_t>(argument, 16, 0);
    return 0;
  }
  std::size_t at = 24;
  put(argument, 16, static_cast<std::uint32_t>(at));
  const auto head = [&](std::uint16_t id, std::size_t length, bool more) {
    put<std::uint16_t>(argument, at, id);
    put<std::uint16_t>(argument, at + 2, 1);
    put(argument, at + 4, static_cast<std::uint32_t>(more ? at + length : 0));
  };
  head(1, 16 + ranges.size() * 16, true);
  put(argument, at + 8, static_cast<std::uint32_t>(ranges.size()));
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    put(argument, at + 16 + i * 16, ranges[i].first);
    put(argument, at + 24 + i * 16, ranges[i].last);
  }
  at += 16 + ranges.size() * 16;
  head(migration ? 2 : 99, 32, true);
  put<std::uint64_t>(argument, at + 16, page);
  put<std::uint64_t>(argument, at + 24, longest_bitmap);
  at += 32;
  head(3, 16, false);
  put(argument, at + 8, static_cast<std::uint32_t>(entry_limit - container_.held.size()));
  return 0;
}

int FakeKernel::map_dma(std::uintptr_t argument) {
  const std::uint32_t flags = u32(argument, 4);
  const std::uint64_t vaddr = u64(argument, 8);
  const std::uint64_t iova = u64(argument, 16);
  const std::uint64_t size = u64(argument, 24);
  if (u32(argument, 0) < 32 || (flags & ~3U) != 0 || (flags & 3U) == 0) return -EINVAL;
  if (size == 0 || ((size | iova | vaddr) & (page - 1)) != 0) return -EINVAL;
  if (iova + size - 1 < iova || vaddr + size - 1 < vaddr) return -EINVAL;
  if (overlaps(container_.held, iova, iova + size - 1)) return -EEXIST;
  if (container_.held.size() >= entry_limit) return -ENOSPC;
  if (!usable(iova, iova + size - 1)) return -EINVAL;
  if (size > locked_limit || pinned() > locked_limit - size) return -ENOMEM;
  if (busy_once.contains(iova)) return -EBUSY;
  container_.held[iova] = {iova, iova + size - 1, vaddr, flags};
  note("map", iova, size);
  return 0;
}

int FakeKernel::unmap_dma(std::uintptr_t argument) {
  const std::uint32_t argsz = u32(argument, 0);
  const std::uint32_t flags = u32(argument, 4);
  const std::uint64_t iova = u64(argument, 8);
  const std::uint64_t size = u64(argument, 16);
  if (argsz < 24 || (flags & ~3U) != 0) return -EINVAL;
  const bool all = (flags & 2U) != 0;
  const bool dirty = (flags & 1U) != 0;
  if (all && (!unmap_all || dirty || iova != 0 || size != 0)) return -EINVAL;
  if (!all && (size == 0 || ((size | iova) & (page - 1)) != 0 || iova + size - 1 < iova)) return -EINVAL;
  const std::uint64_t last = all ? top : iova + size - 1;
  if (dirty) {
    if (argsz < 48 || !container_.logging || u64(argument, 24) != page) return -EINVAL;
    const std::uint64_t bytes = u64(argument, 32);
    if (bytes > longest_bitmap || bytes < (size / page + 7) / 8 || u64(argument, 40) == 0) return -EINVAL;
  }
  if (cuts(container_.held, iova, last)) return -EINVAL;
  busy_once.erase(iova);
  if (dirty) report(container_.dirty, iova, size, page, u64(argument, 40), true);
  std::uint64_t gone = 0;
  std::erase_if(container_.held, [&](const auto& at) {
    if (at.second.first < iova || at.second.last > last) return false;
    gone += at.second.last - at.second.first + 1;
    return true;
  });
  std::erase_if(container_.dirty, [&](std::uint64_t at) { return iova <= at && at <= last; });
  put(argument, 16, gone);
  note(all ? "all" : dirty ? "unmap dirty" : "unmap", iova, size);
  return 0;
}

int FakeKernel::dirty_pages(std::uintptr_t argument) {
  if (u32(argument, 0) < 8 || !migration) return -EINVAL;
  switch (u32(argument, 4)) {
    case 1:
      if (container_.logging) return -EINVAL;
      container_.logging = true;
      return 0;
    case 2:
      if (!container_.logging) return -EINVAL;
      container_.logging = false;
      container_.dirty.clear();
      return 0;
    case 4:  break;
    default: return -EINVAL;
  }
  const std::uint64_t iova = u64(argument, 8);
  const std::uint64_t size = u64(argument, 16);
  const std::uint64_t bytes = u64(argument, 32);
  if (u32(argument, 0) < 48 || !container_.logging || u64(argument, 24) != page || size == 0) return -EINVAL;
  if (((iova | size) & (page - 1)) != 0 || iova + size - 1 < iova) return -EINVAL;
  if (bytes > longest_bitmap || bytes < (size / page + 7) / 8) return -EINVAL;
  if (cuts(container_.held, iova, iova + size - 1)) return -EINVAL;
  report(container_.dirty, iova, size, page, u64(argument, 40), true);
  return 0;
}

void FakeKernel::write(std::uint64_t iova) {
  if (container_.logging && writable(container_.held, iova)) container_.dirty.insert(iova & ~(page - 1));
}

// ---- iommufd ------------------------------------------------------------------------------------------------------

int FakeKernel::iommufd_call(std::uint32_t request, std::uintptr_t argument) {
  switch (request) {
    case 0x3B80: return destroy(argument);
    case 0x3B81:
      if (const int wrong = sized(argument, 12); wrong != 0) return wrong;
      if (u32(argument, 4) != 0) return -EOPNOTSUPP;
      put(argument, 8, next_id_);
      spaces_[next_id_++] = {};
      return 0;
    case 0x3B84: return iova_ranges(argument);
    case 0x3B85: return ioas_map(argument);
    case 0x3B86: return ioas_unmap(argument);
    case 0x3B89: return hwpt_alloc(argument);
    case 0x3B8A: return hw_info(argument);
    case 0x3B8B: {
      if (const int wrong = sized(argument, 16); wrong != 0) return wrong;
      if ((u32(argument, 4) & ~1U) != 0 || u32(argument, 12) != 0) return -EOPNOTSUPP;
      const auto at = tables_.find(u32(argument, 8));
      if (at == tables_.end()) return -ENOENT;
      at->second.logging = (u32(argument, 4) & 1U) != 0;
      at->second.dirty.clear();
      return 0;
    }
    case 0x3B8C: return get_dirty(argument);
    default:     return -ENOTTY;
  }
}

int FakeKernel::destroy(std::uintptr_t argument) {
  if (const int wrong = sized(argument, 8); wrong != 0) return wrong;
  const std::uint32_t id = u32(argument, 4);
  if (!spaces_.contains(id) && !tables_.contains(id)) return -ENOENT;
  if (std::ranges::any_of(devices_, [id](const auto& device) { return device.second.at == id; })) return -EBUSY;
  if (std::ranges::any_of(tables_, [id](const auto& table) { return table.second.space == id; })) return -EBUSY;
  spaces_.erase(id);
  tables_.erase(id);
  return 0;
}

int FakeKernel::ioas_map(std::uintptr_t argument) {
  if (const int wrong = sized(argument, 40); wrong != 0) return wrong;
  const std::uint32_t flags = u32(argument, 4);
  const std::uint64_t vaddr = u64(argument, 16);
  const std::uint64_t length = u64(argument, 24);
  const std::uint64_t iova = u64(argument, 32);
  if ((flags & ~7U) != 0 || u32(argument, 12) != 0) return -EOPNOTSUPP;
  if ((flags & 6U) == 0) return -EINVAL;
  if (iova == top || length == top) return -EOVERFLOW;
  const auto space = spaces_.find(u32(argument, 8));
  if (space == spaces_.end()) return -ENOENT;
  if ((flags & 1U) == 0) return -EINVAL;  // the library chooses its addresses itself
  if (length == 0 || ((iova | length) & (page - 1)) != 0) return -EINVAL;
  if (iova + length - 1 < iova) return -EOVERFLOW;
  if (!usable(iova, iova + length - 1)) return -EINVAL;
  if (overlaps(space->second.held, iova, iova + length - 1)) return -EEXIST;
  if (length > locked_limit || pinned() > locked_limit - length) return -ENOMEM;
  if (busy_once.contains(iova)) return -EBUSY;
  const std::uint32_t rights = ((flags & 4U) != 0 ? 1U : 0U) | ((flags & 2U) != 0 ? 2U : 0U);
  space->second.held[iova] = {iova, iova + length - 1, vaddr, rights};
  note("map", iova, length);
  return 0;
}

int FakeKernel::ioas_unmap(std::uintptr_t argument) {
  if (const int wrong = sized(argument, 24); wrong != 0) return wrong;
  const std::uint64_t iova = u64(argument, 8);
  const std::uint64_t length = u64(argument, 16);
  const auto space = spaces_.find(u32(argument, 4));
  if (space == spaces_.end()) return -ENOENT;
  const bool all = iova == 0 && length == top;
  if (!all && (iova == top || length == top)) return -EOVERFLOW;
  if (length == 0) return -EINVAL;
  if (iova + length - 1 < iova) return -EOVERFLOW;
  const std::uint64_t last = all ? top : iova + length - 1;
  note(all ? "all" : "unmap", iova, length);
  busy_once.erase(iova);
  HeldMap& held = space->second.held;
  std::uint64_t gone = 0;
  int result = all ? 0 : -ENOENT;
  for (auto at = held.begin(); at != held.end();) {
    const Held one = at->second;
    if (one.last < iova || one.first > last) {
      ++at;
      continue;
    }
    if (one.first < iova || one.last > last) {
      result = -ENOENT;  // those before are gone
      break;
    }
    gone += one.last - one.first + 1;
    at = held.erase(at);
    result = 0;
  }
  for (auto& [id, table] : tables_)
    if (table.space == space->first)
      std::erase_if(table.dirty, [&](std::uint64_t address) { return !writable(held, address); });
  put(argument, 16, gone);
  return result;
}

int FakeKernel::iova_ranges(std::uintptr_t argument) {
  if (const int wrong = sized(argument, 32); wrong != 0) return wrong;
  if (!spaces_.contains(u32(argument, 4))) return -ENOENT;
  if (u32(argument, 12) != 0) return -EOPNOTSUPP;
  if (grows) ranges.resize(ranges.size() * 2, {top - 0xFFF, top});
  const std::uint32_t room = u32(argument, 8);
  for (std::size_t i = 0; i < std::min<std::size_t>(room, ranges.size()); ++i) {
    put(u64(argument, 16), i * 16, ranges[i].first);
    put(u64(argument, 16), i * 16 + 8, ranges[i].last);
  }
  put(argument, 8, static_cast<std::uint32_t>(ranges.size()));
  put<std::uint64_t>(argument, 24, page);
  return room < ranges.size() ? -EMSGSIZE : 0;
}

FakeKernel::Device* FakeKernel::device_by(std::uint32_t id) {
  for (auto& [fd, device] : devices_)
    if (device.id == id) return &device;
  return nullptr;
}

int FakeKernel::hwpt_alloc(std::uintptr_t argument) {
  if (const int wrong = sized(argument, 48); wrong != 0) return wrong;
  if (u32(argument, 4) != 2 || u32(argument, 20) != 0 || u32(argument, 24) != 0) return -EOPNOTSUPP;
  const auto device = std::ranges::find_if(devices_, [&](const auto& at) { return at.second.id == u32(argument, 8); });
  if (device == devices_.end() || !spaces_.contains(u32(argument, 12))) return -ENOENT;
  if (cannot_log.contains(device->first)) return -EOPNOTSUPP;
  put(argument, 16, next_id_);
  tables_[next_id_++] = {u32(argument, 12), iommu_of[device->first], false, {}};
  return 0;
}

int FakeKernel::hw_info(std::uintptr_t argument) {
  if (const int wrong = sized(argument, 40); wrong != 0) return wrong;
  const auto device = std::ranges::find_if(devices_, [&](const auto& at) { return at.second.id == u32(argument, 8); });
  if (device == devices_.end()) return -ENOENT;
  if (u32(argument, 12) >= 24 && hardware == 1) {
    put(u64(argument, 16), 8, cap);
    put(u64(argument, 16), 16, ecap);
  }
  put<std::uint32_t>(argument, 12, 24);
  put<std::uint32_t>(argument, 24, hardware);
  put<std::uint64_t>(argument, 32, cannot_log.contains(device->first) ? 0 : 1);
  return 0;
}

int FakeKernel::get_dirty(std::uintptr_t argument) {
  if (const int wrong = sized(argument, 48); wrong != 0) return wrong;
  const auto table = tables_.find(u32(argument, 4));
  const std::uint32_t flags = u32(argument, 8);
  const std::uint64_t iova = u64(argument, 16);
  const std::uint64_t length = u64(argument, 24);
  const std::uint64_t size = u64(argument, 32);
  if ((flags & ~1U) != 0 || u32(argument, 12) != 0) return -EOPNOTSUPP;
  if (table == tables_.end()) return -ENOENT;
  if (size < page || (size & (size - 1)) != 0 || (iova & (size - 1)) != 0 || ((iova + length) & (size - 1)) != 0)
    return -EINVAL;
  if (length == 0 || iova + length - 1 < iova || !table->second.logging) return -EINVAL;
  // Every address of the range is to be mapped.
  std::uint64_t next = iova;
  for (const auto& [first, one] : spaces_[table->second.space].held)
    if (one.first <= next && next <= one.last && next - iova < length) next = one.last + 1;
  if (next - iova < length) return -EINVAL;
  // NOLINTNEXTLINE(readability-suspicious-call-argument): a run of bits has both
  report(table->second.dirty, iova, length, size, u64(argument, 40), (flags & 1U) == 0);
  return 0;
}

int FakeKernel::device_call(std::int32_t fd, std::uint32_t request, std::uintptr_t argument) {
  switch (request) {
    case 0x3B76:
      if (u32(argument, 0) < 16 || u32(argument, 4) != 0 || get<std::int32_t>(argument, 8) != iommufd_fd)
        return -EINVAL;
      if (devices_.contains(fd)) return -EINVAL;
      devices_[fd].id = next_id_;
      put(argument, 12, next_id_++);
      return 0;
    case 0x3B77: {
      if (u32(argument, 0) < 12 || u32(argument, 4) != 0) return -EINVAL;
      const std::uint32_t id = u32(argument, 8);
      if (!devices_.contains(fd)) return -EINVAL;
      if (const auto table = tables_.find(id); table != tables_.end()) {
        if (table->second.iommu != iommu_of[fd]) return -EINVAL;
      } else if (!spaces_.contains(id)) {
        return -ENOENT;
      }
      devices_[fd].at = id;
      return 0;
    }
    case 0x3B78:
      if (u32(argument, 0) < 8 || u32(argument, 4) != 0 || !devices_.contains(fd)) return -EINVAL;
      devices_[fd].at = 0;
      return 0;
    default: return -ENOTTY;
  }
}

bool FakeKernel::attached(std::int32_t device) const {
  const auto at = devices_.find(device);
  return at != devices_.end() && at->second.at != 0;
}

HeldMap FakeKernel::reach(std::int32_t device) const {
  const auto at = devices_.find(device);
  if (at == devices_.end() || at->second.at == 0) return {};
  const auto table = tables_.find(at->second.at);
  const auto space = spaces_.find(table == tables_.end() ? at->second.at : table->second.space);
  return space == spaces_.end() ? HeldMap{} : space->second.held;
}

void FakeKernel::foreign(std::int32_t device, std::uint64_t first, std::uint64_t last) {
  const std::uint32_t at = devices_.at(device).at;
  const auto table = tables_.find(at);
  spaces_.at(table == tables_.end() ? at : table->second.space).held[first] = {first, last, 0x1000, 3};
}

void FakeKernel::write(std::int32_t device, std::uint64_t iova) {
  const auto table = tables_.find(devices_.at(device).at);
  if (table != tables_.end() && table->second.logging && writable(spaces_.at(table->second.space).held, iova))
    table->second.dirty.insert(iova & ~(page - 1));
}

}  // namespace viommu::test
