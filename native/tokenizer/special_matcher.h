#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tokenmill {

/// Finds tokens that are matched as whole strings: leftmost first, the longest at a place. A trie over bytes.
class SpecialMatcher {
 public:
  SpecialMatcher() { roots_.fill(0); }

  /// Empty patterns and such that are not UTF-8 never match. Of equal patterns the first stays.
  explicit SpecialMatcher(std::vector<std::pair<std::string_view, Token>> patterns);

  struct Match {
    size_t begin, end;
    Token token;
  };

  /// The next match at or after `from`; false when there is none.
  bool Find(std::string_view text, size_t from, Match* match) const;

  bool empty() const { return nodes_.empty(); }

 private:
  struct Node {
    uint32_t first_child;  // children are consecutive, in the order of their bytes
    uint16_t child_count;
    uint8_t byte;  // on the edge from the parent
    Token token;  // that ends here, or -1
  };

  /// The child of `node` by `byte`, or 0: the root is nobody's child.
  uint32_t Child(uint32_t node, uint8_t byte) const;

  std::vector<Node> nodes_;  // nodes_[0] is the root
  std::array<uint32_t, 256> roots_;  // the root's children by byte; 0: none
};

}  // namespace tokenmill
