// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/qemu_replay_side.hpp"

#include <algorithm>

namespace viommu::bench {
namespace {

[[nodiscard]] std::uint64_t last_iova(std::uint32_t pages) noexcept {
  return ReplayGuest::first_iova + (std::uint64_t{pages} << 12) - 1;
}

}  // namespace

QemuReplaySide::QemuReplaySide(const ReplayGuest& guest)
    : guest_{guest},
      replay_{memory_,
              [](void* opaque, const PageNotification& page) {
                auto& self = *static_cast<QemuReplaySide*>(opaque);
                ++self.told_;
                if (self.mirror_ == nullptr) return;
                if (page.rights == 0)
                  self.mirror_->unmap(page.iova, page.iova + page.mask);
                else
                  self.mirror_->map(page.iova, page.iova + page.mask, page.gpa, page.rights);
              },
              this} {
  memory_.add(ram_section(0, guest.ram().size() - 1, guest.ram().data()));
}

std::uint32_t QemuReplaySide::pages() const noexcept {
  return std::min(guest_.tables(), most_tables) * ReplayGuest::table_pages;
}

void QemuReplaySide::begin() { replay_.replay(guest_.root_of(domain_), ReplayGuest::first_iova, last_iova(pages())); }

void QemuReplaySide::end() { replay_.unmap_all(); }

void QemuReplaySide::drop_domain() { resync(); }

void QemuReplaySide::attach(std::uint32_t domain) {
  domain_ = domain;  // as if read from the context entry, which is not this side's alone
  resync();          // for that entry; the domain before has no device any more
}

void QemuReplaySide::resync() { replay_.resync(guest_.root_of(domain_), ReplayGuest::first_iova, last_iova(pages())); }

}  // namespace viommu::bench
