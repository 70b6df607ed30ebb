// Merging against its definition: search all neighbours for the best, join them, start over.

#include "tokenizer/merger.h"

#include <map>

#include "harness.h"

using namespace tokenmill;

namespace {

struct Table {
  std::map<std::pair<Token, Token>, Merge> merges;
  Merge Find(Token left, Token right) const {
    const auto found = merges.find({left, right});
    return found == merges.end() ? Merge{} : found->second;
  }
};

uint64_t state = 1;

size_t Below(size_t limit) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<size_t>(state >> 33) % limit;
}

/// Merges among a few letters and their products; equal ranks where `ties`.
Table RandomTable(Token letters, int merges, bool ties) {
  Table table;
  for (int i = 0; i < merges; ++i) {
    const size_t known = static_cast<size_t>(letters + i);
    const std::pair<Token, Token> parts(static_cast<Token>(Below(known)), static_cast<Token>(Below(known)));
    table.merges.emplace(
        parts, Merge{static_cast<uint32_t>(ties ? Below(5) : Below(1000) * 100 + static_cast<size_t>(i)),
                     static_cast<Token>(letters + i)});
  }
  return table;
}

std::vector<Token> ByDefinition(std::vector<Token> ids, const Table& table) {
  while (true) {
    Merge best;
    size_t at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const Merge merge = table.Find(ids[i], ids[i + 1]);
      if (merge.rank < best.rank) best = merge, at = i;
    }
    if (best.rank == Merge::kNone) return ids;
    ids[at] = best.product;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

/// Letters are one byte each, so every symbol must begin where the letters before it end.
void Compare(const std::vector<Token>& letters, const Table& table, Merger* merger) {
  merger->symbols.clear();
  for (size_t i = 0; i < letters.size(); ++i)
    merger->symbols.push_back({letters[i], static_cast<uint32_t>(i)});
  const uint32_t size = static_cast<uint32_t>(letters.size());
  merger->Run(size, [&](const Symbol& left, const Symbol& right, uint32_t end) {
    EXPECT(left.begin < right.begin && right.begin < end && end <= size);
    return table.Find(left.id, right.id);
  });
  std::string ours, expected;
  for (const Symbol& symbol : merger->symbols) ours += std::to_string(symbol.id) + " ";
  for (const Token id : ByDefinition(letters, table)) expected += std::to_string(id) + " ";
  EXPECT_EQ(ours, expected);
}

void CompareMany(bool ties) {
  Merger merger;
  for (int round = 0; round < 400; ++round) {
    const Token letters = static_cast<Token>(1 + Below(4));
    const Table table = RandomTable(letters, 1 + static_cast<int>(Below(30)), ties);
    for (const size_t size : {Below(8), Below(60), 47 + Below(4), 60 + Below(200)}) {
      std::vector<Token> text(size);
      for (Token& id : text) id = static_cast<Token>(Below(static_cast<size_t>(letters)));
      Compare(text, table, &merger);
    }
  }
}

}  // namespace

TEST(DistinctRanksFollowTheDefinition) { CompareMany(false); }

TEST(EqualRanksGoLeftmostFirst) { CompareMany(true); }

HARNESS_MAIN()
