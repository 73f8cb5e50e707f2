// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/window_model.hpp"

#include <algorithm>

namespace viommu::test {
namespace {

using oracle::Answer;

bool same(const Answer& a, const Answer& b) {
  if (a.kind != b.kind) return false;
  return a.kind == Answer::fault
             ? a.reason == b.reason
             : a.gpa == b.gpa && a.read == b.read && a.write == b.write && a.page_mask == b.page_mask;
}

template <class Array>
bool same_answers(const Array& a, const Array& b) {
  return same(a[1], b[1]) && same(a[2], b[2]) && same(a[3], b[3]);
}

/// Some access gets through: a translation that may be cached, though it may deny other accesses.
template <class Array>
bool maps_something(const Array& answers) {
  return std::any_of(answers.begin() + 1, answers.end(), [](const Answer& a) { return a.kind != Answer::fault; });
}

}  // namespace

WindowModel::WindowModel(const oracle::Unit& unit, Words words, std::vector<std::uint16_t> sources,
                         std::vector<std::uint64_t> iovas)
    : unit_{unit},
      words_{std::move(words)},
      sources_{std::move(sources)},
      iovas_{std::move(iovas)},
      contexts_(sources_.size()),
      keeps_faults_{(unit.cap & 0x80) != 0} {
  memory_changed();
}

WindowModel::Context WindowModel::context_of(std::size_t source) const {
  const std::uint64_t root = (unit_.root_table & ~std::uint64_t{0xFFF}) + std::uint64_t{16} * (sources_[source] >> 8);
  const std::uint64_t entry =
      (words_.load(root).value_or(0) & ~std::uint64_t{0xFFF}) + std::uint64_t{16} * (sources_[source] & 0xFF);
  return {words_.load(entry).value_or(0), words_.load(entry + 8).value_or(0)};
}

WindowModel::Answers WindowModel::ask(const Context& context, std::uint64_t iova, const Path& known, Path& read) const {
  // A unit of its own with one root and one context entry; the tables behind them are the guest's.
  constexpr std::uint64_t own_root = std::uint64_t{1} << 62;
  oracle::Unit unit = unit_;
  unit.root_table = own_root;
  const oracle::ReadWord read_word = [&](std::uint64_t gpa) -> std::optional<std::uint64_t> {
    if (gpa == own_root) return 1;  // the context table is at address 0
    if (gpa == own_root + 8) return 0;
    if (gpa == 0) return context.low;
    if (gpa == 8) return context.high;
    const std::optional word = read.size() < known.size() ? known[read.size()] : words_.load(gpa);
    if (word) read.push_back(*word);
    return word;
  };
  Answers answers;
  for (unsigned access = 1; access < answers.size(); ++access) {
    oracle::Request request;
    request.iova = iova;
    request.read = (access & 1) != 0;
    request.write = (access & 2) != 0;
    read.clear();
    answers[access] = oracle::translate(unit, read_word, request);
  }
  return answers;
}

Answer WindowModel::under(const Context& context, const Answers& answers, unsigned access) const {
  Answer answer = answers.at(access);
  // Every fault behind a root entry is one that FPD covers.
  if (context.fault_disable()) answer.reported = false;
  return answer;
}

void WindowModel::memory_changed() {
  for (std::size_t source = 0; source < sources_.size(); ++source) {
    const Context now = context_of(source);
    std::vector<Context>& known = contexts_[source];
    if (!known.empty() && known.back() == now) continue;
    std::erase(known, now);
    if (!keeps_faults_) std::erase_if(known, [](const Context& context) { return !context.leads_to_tables(); });
    known.push_back(now);
    histories_.try_emplace(now.for_translating(), iovas_.size());
  }
  for (auto& [context, history] : histories_) {
    for (std::size_t page = 0; page < iovas_.size(); ++page) {
      Path path;
      const Answers now = ask(context, iovas_[page], {}, path);
      if (path != history[page].present) {
        remember_tables(history[page], history[page].present, 1);
        history[page].present = std::move(path);
      }
      if (shared_) go_on_from_tables(context, iovas_[page], history[page]);
      std::vector<Answers>& said = history[page].said;
      if (!said.empty() && same_answers(said.back(), now)) continue;
      if (!said.empty() && !keeps_faults_ && !maps_something(said.back())) said.pop_back();
      std::erase_if(said, [&](const Answers& before) { return same_answers(before, now); });
      said.push_back(now);
    }
  }
}

/// The last entry of a path leads to no table, or nobody asked for it.
void WindowModel::remember_tables(Page& page, const Path& path, std::size_t from) {
  for (std::size_t length = from; length < path.size(); ++length) {
    const Path way{path.begin(), path.begin() + static_cast<std::ptrdiff_t>(length)};
    if (std::ranges::find(page.known, way) == page.known.end()) page.known.push_back(way);
  }
}

void WindowModel::go_on_from_tables(const Context& context, std::uint64_t iova, Page& page) const {
  for (std::size_t i = 0; i < page.known.size(); ++i) {  // ends: each adds longer ones, of at most five levels
    Path read;
    const Answers answers = ask(context, iova, page.known[i], read);
    remember_tables(page, read, page.known[i].size() + 1);
    const auto same_as = [&](const Answers& other) { return same_answers(other, answers); };
    if (maps_something(answers) && std::ranges::none_of(page.said, same_as))
      page.said.insert(page.said.begin(), answers);
  }
}

void WindowModel::forget_contexts(std::size_t source, const std::function<bool(const Context&)>& covered) {
  std::vector<Context>& known = contexts_[source];
  const Context present = known.back();
  std::erase_if(known, [&](const Context& context) { return context != present && covered(context); });
}

void WindowModel::contexts_invalidated() {
  for (std::size_t source = 0; source < sources_.size(); ++source) {
    forget_contexts(source, [](const Context&) { return true; });
  }
}

void WindowModel::contexts_invalidated(std::uint16_t domain_id) {
  // A cached entry that is not present is tagged with domain 0, whatever stands in it.
  for (std::size_t source = 0; source < sources_.size(); ++source) {
    forget_contexts(source, [&](const Context& context) {
      return (context.leads_to_tables() ? context.domain_id() : 0) == domain_id;
    });
  }
}

void WindowModel::contexts_invalidated(std::uint16_t domain_id, std::uint16_t source_id, std::uint16_t ignored) {
  for (std::size_t source = 0; source < sources_.size(); ++source) {
    if (((sources_[source] ^ source_id) & ~ignored) != 0) continue;
    // Of an entry that is not present every device-selective invalidation of its source must take hold.
    forget_contexts(
        source, [&](const Context& context) { return !context.leads_to_tables() || context.domain_id() == domain_id; });
  }
}

void WindowModel::forget_pages(std::optional<std::uint16_t> domain_id, std::uint64_t first, std::uint64_t last) {
  for (auto& [context, history] : histories_) {
    if (domain_id && context.domain_id() != *domain_id) continue;
    for (std::size_t page = 0; page < iovas_.size(); ++page) {
      if (iovas_[page] < first || iovas_[page] > last) continue;
      std::vector<Answers>& said = history[page].said;
      said.erase(said.begin(), said.end() - 1);
      history[page].known.clear();
    }
  }
  // Contexts nobody can come through any more need not be asked about.
  std::erase_if(histories_, [&](const auto& entry) {
    const auto knows = [&](const std::vector<Context>& known) {
      return std::ranges::find(known, entry.first, &Context::for_translating) != known.end();
    };
    const auto settled = [](const Page& page) { return page.said.size() == 1; };
    return std::ranges::none_of(contexts_, knows) && std::ranges::all_of(entry.second, settled);
  });
}

void WindowModel::translations_invalidated() { forget_pages(std::nullopt, 0, ~std::uint64_t{0}); }

void WindowModel::translations_invalidated(std::uint16_t domain_id) { forget_pages(domain_id, 0, ~std::uint64_t{0}); }

void WindowModel::translations_invalidated(std::uint16_t domain_id, std::uint64_t first, std::uint64_t last) {
  forget_pages(domain_id, first, last);
}

std::vector<Answer> WindowModel::allowed(std::size_t source, std::size_t iova, unsigned access) const {
  std::vector<Answer> all;
  for (const Context& context : contexts_[source]) {
    for (const Answers& answers : histories_.at(context.for_translating())[iova].said) {
      all.push_back(under(context, answers, access));
    }
  }
  return all;
}

Answer WindowModel::present(std::size_t source, std::size_t iova, unsigned access) const {
  const Context& context = contexts_[source].back();
  return under(context, histories_.at(context.for_translating())[iova].said.back(), access);
}

}  // namespace viommu::test
