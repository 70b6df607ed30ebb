#include "tokenizer/special_matcher.h"

#include <algorithm>

#include "tokenizer/utf8.h"

namespace tokenmill {

SpecialMatcher::SpecialMatcher(std::vector<std::pair<std::string_view, Token>> patterns) {
  roots_.fill(0);
  std::erase_if(patterns, [](const auto& p) { return p.first.empty() || !IsWholeUtf8(p.first); });
  if (patterns.empty()) return;
  std::stable_sort(patterns.begin(), patterns.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });

  // Breadth first: each node stands for a range of the sorted patterns that share its path.
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, patterns.size(), 0}};
  nodes_.push_back({0, 0, 0, -1});
  for (size_t n = 0; n < nodes_.size(); ++n) {
    auto [begin, end, depth] = ranges[n];
    if (patterns[begin].first.size() == depth) nodes_[n].token = patterns[begin].second;
    while (begin < end && patterns[begin].first.size() == depth) ++begin;
    nodes_[n].first_child = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char byte = patterns[begin].first[depth];
      size_t next = begin;
      while (next < end && patterns[next].first[depth] == byte) ++next;
      ranges.push_back({begin, next, depth + 1});
      nodes_.push_back({0, 0, static_cast<uint8_t>(byte), -1});
      ++nodes_[n].child_count;
      begin = next;
    }
  }
  for (uint32_t i = 0; i < nodes_[0].child_count; ++i) roots_[nodes_[1 + i].byte] = 1 + i;
}

uint32_t SpecialMatcher::Child(uint32_t node, uint8_t byte) const {
  const auto begin = nodes_.begin() + nodes_[node].first_child;
  const auto end = begin + nodes_[node].child_count;
  const auto found = std::lower_bound(begin, end, byte, [](const Node& n, uint8_t b) { return n.byte < b; });
  return found != end && found->byte == byte ? static_cast<uint32_t>(found - nodes_.begin()) : 0;
}

bool SpecialMatcher::Find(std::string_view text, size_t from, Match* match) const {
  if (empty()) return false;
  for (size_t begin = from; begin < text.size(); ++begin) {
    uint32_t node = roots_[static_cast<uint8_t>(text[begin])];
    match->token = -1;
    for (size_t at = begin + 1; node != 0; ++at) {
      if (nodes_[node].token >= 0) *match = {begin, at, nodes_[node].token};
      if (at == text.size()) break;
      node = Child(node, static_cast<uint8_t>(text[at]));
    }
    if (match->token >= 0) return true;
  }
  return false;
}

}  // namespace tokenmill
