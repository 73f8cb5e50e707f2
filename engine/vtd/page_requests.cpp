// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/page_requests.hpp"

#include "engine/vtd/page_request_layouts.hpp"

namespace viommu::vtd {
namespace {

[[nodiscard]] PagePosted unless_last(const PageRequest& request, PagePosted answered) noexcept {
  return request.last ? answered : PagePosted::dropped;
}

}  // namespace

PagePosted PageRequests::post(core::Reader& reader, const PageRequest& request) noexcept {
  DmaRequest asked;
  asked.source = request.source;
  asked.iova = request.address;
  asked.asked = request.asked;
  asked.has_pasid = request.pasid.has_value();
  asked.pasid = request.pasid.value_or(Pasid{});
  asked.privileged = request.privileged;
  asked.execute = request.execute;
  asked.page_request = true;
  const std::optional<caches::AddressSpaceKey> key = dma_.admit_page_request(reader, asked);
  if (!key) return unless_last(request, PagePosted::invalid);
  const PagePosted posted = registers_.with([&](RegisterFile& file) {
    // A reset has come in between: its registers say where no queue is.
    if (!file.translation_enabled()) return unless_last(request, PagePosted::invalid);
    // "Page Request Queue": while the overflow is there, requests are answered and not told.
    if (file.page_overflow()) return unless_last(request, PagePosted::success);
    if (count_ == most_posted || (request.last && waiting_.count == most_groups) ||
        file.free_page_requests() <= count_) {
      registers_.queue(file.raise_page_overflow());
      return unless_last(request, PagePosted::success);
    }
    posted_[(first_ + count_++) % most_posted] = {request, key->domain, key->pasid.value_or(Pasid{}),
                                                  key->interpretation};
    if (request.last) waiting_.groups[waiting_.count++] = {request.source, request.pasid, request.group};
    any_posted_.store(true, std::memory_order_relaxed);
    return PagePosted::queued;
  });
  registers_.deliver();
  return posted;
}

void PageRequests::write_posted() noexcept {
  for (std::size_t written = 0; written < most_posted && any_posted(); ++written) {
    const std::optional next = registers_.with([&](RegisterFile&) -> std::optional<Posted> {
      if (count_ == 0) return std::nullopt;
      return posted_[first_];  // it keeps its place until the tail says so
    });
    if (!next) return;
    drop_cached(*next);
    const std::optional place = place_for_next();
    if (!place || !store(*place, next->request)) {
      give_up(next->request);
      continue;
    }
    registers_.with([&](RegisterFile& file) {
      forget_first();
      registers_.queue(file.publish_page_request());
    });
    registers_.deliver();
  }
}

std::optional<Gpa> PageRequests::place_for_next() noexcept {
  return registers_.with([&](const RegisterFile& file) -> std::optional<Gpa> {
    if (file.free_page_requests() == 0) return std::nullopt;  // the guest has moved its head
    return file.next_page_request();
  });
}

bool PageRequests::store(Gpa at, const PageRequest& request) noexcept {
  namespace l = page_request_low;
  namespace h = page_request_high;
  PageRequestLow low = with(PageRequestLow{}, l::type, l::page_request_type);
  low = with(low, l::source, request.source);
  if (request.pasid) {
    low = with(with(low, l::has_pasid, true), l::pasid, *request.pasid);
    low = with(with(low, l::execute, request.execute), l::privileged, request.privileged);
  }
  PageRequestHigh high = with(PageRequestHigh{}, h::read, request.asked.read());
  high = with(with(high, h::write, request.asked.write()), h::last, request.last);
  high = with(with(high, h::group, request.group), h::address, request.address);
  const std::array<std::uint64_t, page_request_bytes / 8> words{low.raw, high.raw, 0, 0};
  for (std::size_t i = 0; i < words.size(); ++i) {
    const Gpa word = at + i * 8;
    if (!waist_.memory().store_u32(word, low_half(words[i])) ||
        !waist_.memory().store_u32(word + 4, high_half(words[i])))
      return false;
  }
  return true;
}

/// "Page Requests": what the device would be told again must be looked up anew.
void PageRequests::drop_cached(const Posted& posted) noexcept {
  caches::Scope scope;
  scope.domain = posted.domain;
  scope.pasid = posted.pasid;
  const std::uint64_t page = posted.request.address.value & ~low_bits(page_shift);
  scope.range = {{page}, {page | low_bits(page_shift)}};
  switch (posted.interpretation) {
    case caches::Interpretation::first_stage: scope.kind = caches::Scope::Kind::pasid_pages; break;
    case caches::Interpretation::nested:      scope.kind = caches::Scope::Kind::domain; break;
    default:                                  scope.kind = caches::Scope::Kind::pages; break;
  }
  waist_.drop(scope);
}

/// There is no place for it after all, or no memory: as if the queue had been full when it came.
void PageRequests::give_up(const PageRequest& request) noexcept {
  const Group group{request.source, request.pasid, request.group};
  const bool waits = registers_.with([&](RegisterFile& file) {
    forget_first();
    registers_.queue(file.raise_page_overflow());
    return request.last && close(group);
  });
  registers_.deliver();
  if (waits) answer(group, response_success);
}

void PageRequests::forget_first() noexcept {
  first_ = (first_ + 1) % most_posted;
  any_posted_.store(--count_ != 0, std::memory_order_relaxed);
}

bool PageRequests::close(const Group& group) noexcept {
  for (std::size_t i = 0; i < waiting_.count; ++i) {
    const Group& each = waiting_.groups[i];
    if (each.source != group.source || each.pasid != group.pasid || each.number != group.number) continue;
    waiting_.groups[i] = waiting_.groups[--waiting_.count];
    return true;
  }
  return false;
}

bool PageRequests::respond(const PageGroupResponse& response) noexcept {
  const Group group{response.source, response.pasid, response.group};
  if (!registers_.with([&](RegisterFile&) { return close(group); })) return false;
  answer(group, response.response);
  return true;
}

void PageRequests::answer(const Group& group, unsigned code) noexcept {
  host_.page_response(group.source, group.pasid, group.number, code);
}

void PageRequests::reset() noexcept {
  for (;;) {  // ends: each round takes one of at most most_groups, and nothing is posted while translation is off
    const std::optional group = registers_.with([&](RegisterFile&) -> std::optional<Group> {
      first_ = count_ = 0;
      any_posted_.store(false, std::memory_order_relaxed);
      if (waiting_.count == 0) return std::nullopt;
      return waiting_.groups[--waiting_.count];
    });
    if (!group) return;
    answer(*group, response_failure);
  }
}

}  // namespace viommu::vtd
