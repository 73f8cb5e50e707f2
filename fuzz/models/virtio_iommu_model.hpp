// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The virtio IOMMU device read from the specification a second time: bytes of a request, an ordered map of intervals
// for each domain, and the bytes of the reply. Nothing is shared with the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace viommu::fuzz {

class VirtioIommuModel {
 public:
  struct Setting {
    bool map_unmap = true;
    bool probe = false;
    bool mmio = false;
    bool bypass_config = false;
    std::uint64_t granule = 0x1000;
    std::uint64_t input_first = 0;
    std::uint64_t input_last = 0;
    std::uint32_t domain_first = 0;
    std::uint32_t domain_last = 0;
    std::uint32_t probe_size = 0;
    std::uint32_t domains = 0;   ///< most of them
    std::uint32_t mappings = 0;  ///< most of them; 0: no limit
    bool boot_bypass = false;    ///< `bypass` after a reset of the system
    bool strict_detach = false;  ///< a DETACH of one that has gone finds nothing
  };
  struct Reserved {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    bool msi = false;
    friend bool operator==(const Reserved&, const Reserved&) = default;
  };
  struct Mapping {
    std::uint64_t last = 0;
    std::uint64_t gpa = 0;
    std::uint32_t flags = 0;
  };
  using Bytes = std::vector<std::uint8_t>;

  using Intervals = std::map<std::uint64_t, Mapping>;  // by first address

  explicit VirtioIommuModel(const Setting& setting) : setting_{setting}, bypass_{setting.boot_bypass} {}

  // ---- The VMM ----
  void add(std::uint32_t id, std::vector<Reserved> reserved) {
    endpoints_[id] = {true, std::nullopt, std::nullopt, std::move(reserved)};
  }
  bool remove(std::uint32_t id) {
    const auto found = endpoints_.find(id);
    if (found == endpoints_.end() || !found->second.known) return false;
    if (!setting_.strict_detach) found->second.gone_from = found->second.domain;
    found->second.known = false;
    leave(found->second);
    if (!found->second.gone_from) endpoints_.erase(found);
    return true;
  }
  void set_reserved(std::uint32_t id, std::vector<Reserved> reserved) {
    endpoints_.at(id).reserved = std::move(reserved);
  }
  void set_granule(std::uint64_t granule) { setting_.granule = granule; }
  void set_bypass(bool bypass) { bypass_ = bypass; }
  /// FEATURES_OK with these.
  void accept(std::uint64_t features) {
    setting_.map_unmap = (features >> 2 & 1) != 0;
    setting_.probe = (features >> 4 & 1) != 0;
    setting_.mmio = (features >> 5 & 1) != 0;
    setting_.bypass_config = (features >> 6 & 1) != 0;
  }
  /// Of the device, which keeps `bypass`, or of the system.
  void reset(bool system) {
    accept(0);
    std::erase_if(endpoints_, [](const auto& one) { return !one.second.known; });
    for (auto& [id, endpoint] : endpoints_) endpoint.domain.reset();
    domains_.clear();
    if (system) bypass_ = setting_.boot_bypass;
  }

  // ---- The driver ----
  /// The bytes that the device writes, from the start of the writable part: all that is reported as used.
  [[nodiscard]] Bytes request(std::span<const std::uint8_t> bytes, std::uint64_t writable) {
    if (bytes.size() < 4 || writable < 4) return {};
    const std::size_t needed = size_of(bytes[0]);
    if (needed == 0) return {};
    if (bytes[0] == 5) return probe(bytes, writable, needed);
    if (bytes.size() < needed) return answer(4);
    switch (bytes[0]) {
      case 1:  return answer(attach(bytes));
      case 2:  return answer(detach(word(bytes, 4), word(bytes, 8)));
      case 3:  return answer(map(bytes));
      default: return answer(unmap(word(bytes, 4), wide(bytes, 8), wide(bytes, 16)));
    }
  }

  // ---- What endpoints see ----
  enum class View : std::uint8_t { unknown, detached, bypass, translated };
  [[nodiscard]] View view(std::uint32_t id) const {
    const auto found = endpoints_.find(id);
    if (found == endpoints_.end() || !found->second.known) return View::unknown;
    if (!found->second.domain) return bypass_ ? View::bypass : View::detached;
    return domains_.at(found->second.domain.value_or(0)).bypass ? View::bypass : View::translated;
  }
  /// Of one that is translated.
  [[nodiscard]] std::optional<std::pair<std::uint64_t, Mapping>> find(std::uint32_t id, std::uint64_t iova) const {
    const Intervals& mappings = mappings_of(id);
    auto at = mappings.upper_bound(iova);
    if (at == mappings.begin()) return std::nullopt;
    --at;
    if (at->second.last < iova) return std::nullopt;
    return *at;
  }
  /// All that one sees that is translated.
  [[nodiscard]] const Intervals& mappings_of(std::uint32_t id) const {
    return domains_.at(endpoints_.at(id).domain.value_or(0)).mappings;
  }
  /// Of one that is known: the region that an address is in.
  [[nodiscard]] const Reserved* reserved_at(std::uint32_t id, std::uint64_t iova) const {
    for (const Reserved& region : endpoints_.at(id).reserved)
      if (region.first <= iova && region.last >= iova) return &region;
    return nullptr;
  }
  [[nodiscard]] const std::vector<Reserved>& reserved_of(std::uint32_t id) const { return endpoints_.at(id).reserved; }
  [[nodiscard]] const Setting& setting() const { return setting_; }
  [[nodiscard]] bool bypass() const { return bypass_; }
  [[nodiscard]] std::size_t domain_count() const { return domains_.size(); }
  [[nodiscard]] std::size_t mapping_count() const {
    std::size_t count = 0;
    for (const auto& [id, domain] : domains_) count += domain.mappings.size();
    return count;
  }

 private:
  struct Domain {
    bool bypass = false;
    unsigned members = 0;
    Intervals mappings;
  };
  struct Endpoint {
    bool known = false;
    std::optional<std::uint32_t> domain;
    std::optional<std::uint32_t> gone_from;
    std::vector<Reserved> reserved;
  };

  static std::uint32_t word(std::span<const std::uint8_t> bytes, std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
  static std::uint64_t wide(std::span<const std::uint8_t> bytes, std::size_t at) {
    return word(bytes, at) | std::uint64_t{word(bytes, at + 4)} << 32;
  }
  static Bytes answer(std::uint8_t status) { return {status, 0, 0, 0}; }
  [[nodiscard]] std::size_t size_of(std::uint8_t type) const {
    switch (type) {
      case 1:
      case 2:  return 20;
      case 3:  return setting_.map_unmap ? 36 : 0;
      case 4:  return setting_.map_unmap ? 28 : 0;
      case 5:  return setting_.probe ? 72 : 0;
      default: return 0;
    }
  }
  static bool overlap(const Intervals& mappings, std::uint64_t first, std::uint64_t last) {
    auto at = mappings.upper_bound(last);
    return at != mappings.begin() && std::prev(at)->second.last >= first;
  }
  void leave(Endpoint& endpoint) {
    if (!endpoint.domain) return;
    const auto domain = domains_.find(*endpoint.domain);
    endpoint.domain.reset();
    if (--domain->second.members == 0) domains_.erase(domain);
  }
  [[nodiscard]] bool is_domain(std::uint32_t id) const {
    return id >= setting_.domain_first && id <= setting_.domain_last;
  }

  std::uint8_t attach(std::span<const std::uint8_t> bytes) {
    const std::uint32_t id = word(bytes, 4);
    const std::uint32_t flags = word(bytes, 12);
    if (word(bytes, 16) != 0) return 4;
    if ((flags & ~1U) != 0 || (flags != 0 && !setting_.bypass_config)) return 4;
    if (!is_domain(id)) return 5;
    const auto found = endpoints_.find(word(bytes, 8));
    if (found == endpoints_.end() || !found->second.known) return 6;
    Endpoint& endpoint = found->second;
    const auto domain = domains_.find(id);
    if (domain != domains_.end()) {
      if (domain->second.bypass != (flags != 0)) return 4;
      if (endpoint.domain == id) return 0;
      for (const Reserved& region : endpoint.reserved)
        if (overlap(domain->second.mappings, region.first, region.last)) return 2;
    } else {
      const bool makes_room = endpoint.domain && domains_.at(*endpoint.domain).members == 1;
      if (domains_.size() == setting_.domains && !makes_room) return 8;
    }
    leave(endpoint);
    Domain& into = domains_[id];
    into.bypass = flags != 0;
    ++into.members;
    endpoint.domain = id;
    return 0;
  }
  std::uint8_t detach(std::uint32_t id, std::uint32_t endpoint_id) {
    if (!is_domain(id)) return 5;
    const auto found = endpoints_.find(endpoint_id);
    if (found == endpoints_.end()) return 6;
    if (!found->second.known) {  // it has gone: its own DETACH is answered once
      if (found->second.gone_from != id) return 6;
      endpoints_.erase(found);
      return 0;
    }
    if (found->second.domain != id) return 4;
    leave(found->second);
    return 0;
  }
  std::uint8_t map(std::span<const std::uint8_t> bytes) {
    const std::uint32_t id = word(bytes, 4);
    const std::uint64_t first = wide(bytes, 8);
    const std::uint64_t last = wide(bytes, 16);
    const std::uint64_t gpa = wide(bytes, 24);
    const std::uint32_t flags = word(bytes, 32);
    if ((flags & ~(setting_.mmio ? 7U : 3U)) != 0) return 4;
    if (!is_domain(id)) return 5;
    const auto domain = domains_.find(id);
    if (domain == domains_.end()) return 6;
    if (domain->second.bypass || last < first) return 4;
    if ((first | (last + 1) | gpa) % setting_.granule != 0) return 5;
    if (first < setting_.input_first || last > setting_.input_last) return 5;
    if (gpa > ~std::uint64_t{0} - (last - first)) return 5;
    if (overlap(domain->second.mappings, first, last)) return 4;
    for (const auto& [other, endpoint] : endpoints_)
      if (endpoint.domain == id)
        for (const Reserved& region : endpoint.reserved)
          if (region.first <= last && region.last >= first) return 4;
    if (setting_.mappings != 0 && mapping_count() == setting_.mappings) return 8;
    domain->second.mappings[first] = {last, gpa, flags};
    return 0;
  }
  std::uint8_t unmap(std::uint32_t id, std::uint64_t first, std::uint64_t last) {
    if (!is_domain(id)) return 5;
    const auto domain = domains_.find(id);
    if (domain == domains_.end()) return 6;
    if (domain->second.bypass || last < first) return 4;
    Intervals& mappings = domain->second.mappings;
    for (const auto& [begin, mapping] : mappings)
      if (begin <= last && mapping.last >= first && (begin < first || mapping.last > last)) return 5;
    std::erase_if(mappings, [&](const auto& one) { return one.first >= first && one.second.last <= last; });
    return 0;
  }
  Bytes probe(std::span<const std::uint8_t> bytes, std::uint64_t writable, std::size_t needed) {
    const std::uint64_t room = writable - 4;
    const std::uint64_t properties = room < setting_.probe_size ? room : setting_.probe_size;
    Bytes reply(properties);
    const auto finish = [&](std::uint8_t status) {
      const Bytes tail = answer(status);
      reply.insert(reply.end(), tail.begin(), tail.end());
      return reply;
    };
    if (bytes.size() < needed || room < setting_.probe_size) return finish(4);
    const auto found = endpoints_.find(word(bytes, 4));
    if (found == endpoints_.end() || !found->second.known) return finish(6);
    if (found->second.reserved.size() * 24 > setting_.probe_size) return finish(4);  // more than the device can say
    std::size_t at = 0;
    for (const Reserved& region : found->second.reserved) {
      reply[at] = 1;       // RESV_MEM
      reply[at + 2] = 20;  // bytes that follow the head
      reply[at + 4] = region.msi ? 1 : 0;
      std::memcpy(reply.data() + at + 8, &region.first, 8);
      std::memcpy(reply.data() + at + 16, &region.last, 8);
      at += 24;
    }
    return finish(0);
  }

  Setting setting_;
  bool bypass_ = false;
  std::map<std::uint32_t, Domain> domains_;
  std::map<std::uint32_t, Endpoint> endpoints_;
};

}  // namespace viommu::fuzz
