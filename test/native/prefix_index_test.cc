#include "kv/prefix_index.h"

#include <algorithm>
#include <array>
#include <memory>
#include <random>

#include "token_memory.h"

using namespace tokenmill;

namespace {

const std::vector<KvGroup> kFull = {{0, 1}};
const std::vector<KvGroup> kWindow = {{40, 1}};
const std::vector<KvGroup> kBoth = {{0, 1}, {40, 1}};

// A sequence as the scheduler has it.
struct Runner {
  Runner(BlockPool* pool, const std::vector<KvGroup>* groups) : table(pool, groups) {}
  std::vector<int32_t> tokens;
  uint64_t space = 0;
  size_t computed = 0;
  BlockTable table;
  PrefixIndex::Cursor cursor;
};

struct Bench {
  Bench(const std::vector<KvGroup>& kv_groups, size_t limit_bytes, uint64_t hash_mask = UINT64_MAX)
      : groups(kv_groups),
        memory(groups.size() == 1 ? std::vector<size_t>{100} : std::vector<size_t>{100, 40}),
        pool(&memory, static_cast<int>(groups.size()), limit_bytes),
        index(&pool, &groups, hash_mask) {}

  static PrefixSpace Space(uint64_t space) { return {std::to_string(space)}; }

  std::unique_ptr<Runner> Begin(uint64_t space, std::vector<int32_t> tokens) {
    auto runner = std::make_unique<Runner>(&pool, &groups);
    runner->space = space;
    runner->tokens = std::move(tokens);
    const auto wanted = std::span<const int32_t>(runner->tokens).first(runner->tokens.size() - 1);
    runner->computed = index.Adopt(Space(space), wanted, &runner->table, &runner->cursor);
    EXPECT(runner->computed <= wanted.size());
    EXPECT(memory.Shows(runner->table, groups, space, runner->tokens, runner->computed));
    return runner;
  }

  // How much of a text is known.
  size_t Look(uint64_t space, const std::vector<int32_t>& tokens) { return Begin(space, tokens)->computed; }

  // False when there are no pages.
  bool Compute(Runner* runner, size_t rows) {
    const size_t end = std::min(runner->computed + rows, runner->tokens.size());
    if (!runner->table.Reserve(static_cast<int>(runner->computed), static_cast<int>(end))) return false;
    memory.Write(pool, runner->table, runner->space, runner->tokens, runner->computed, end);
    runner->computed = end;
    index.Enter(runner->tokens, end, &runner->table, &runner->cursor);
    EXPECT(memory.Shows(runner->table, groups, runner->space, runner->tokens, end));
    return true;
  }

  void End(std::unique_ptr<Runner> runner) {
    index.EnterPartial(runner->tokens, runner->computed, runner->table, runner->cursor);
  }

  // All of a text, from the beginning to the end. Gives what was known of it.
  size_t Run(uint64_t space, const std::vector<int32_t>& tokens) {
    auto runner = Begin(space, tokens);
    const size_t known = runner->computed;
    EXPECT(Compute(runner.get(), tokens.size()));
    End(std::move(runner));
    return known;
  }

  void Check() const {
    EXPECT_EQ(pool.CheckIntegrity(), "");
    EXPECT_EQ(index.CheckIntegrity(), "");
  }

  const std::vector<KvGroup> groups;
  TokenMemory memory;
  BlockPool pool;
  PrefixIndex index;
};

std::vector<int32_t> Text(uint32_t seed, size_t length) {
  std::mt19937 random(seed);
  std::vector<int32_t> text;
  while (text.size() < length) text.push_back(static_cast<int32_t>(random() % 50000));
  return text;
}

// Texts with much in common: words of few letters, of 1 to 40 tokens.
std::vector<int32_t> RandomText(std::mt19937* random) {
  std::vector<int32_t> text;
  const int words = static_cast<int>((*random)() % 8) + 1;
  for (int i = 0; i < words; ++i) {
    const uint32_t word = (*random)() % 3;
    const auto letters = Text(word, word * 19 + 2);
    text.insert(text.end(), letters.begin(), letters.end());
  }
  return text;
}

size_t CommonPrefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b, size_t most) {
  size_t common = 0;
  while (common < std::min({a.size(), b.size(), most}) && a[common] == b[common]) ++common;
  return common;
}

struct Known {
  uint64_t space;
  std::vector<int32_t> tokens;
};

// What must be found when nothing is ever evicted.
size_t LongestKnown(const std::vector<Known>& known, uint64_t space, const std::vector<int32_t>& tokens) {
  size_t longest = 0;
  for (const Known& each : known) {
    if (each.space == space)
      longest = std::max(longest, CommonPrefix(each.tokens, tokens, tokens.size() - 1));
  }
  return longest;
}

void RunRandomly(Bench* bench, bool evicts, int steps) {
  std::mt19937 random(3);
  std::vector<std::unique_ptr<Runner>> runners;
  std::vector<Known> known;
  size_t hits = 0, rejected = 0;
  for (int step = 0; step < steps; ++step) {
    if (random() % 3 == 0 && runners.size() < 5) {
      auto runner = bench->Begin(random() % 2, RandomText(&random));
      const size_t longest = LongestKnown(known, runner->space, runner->tokens);
      EXPECT(evicts ? runner->computed <= longest : runner->computed == longest);
      hits += runner->computed > 0;
      runners.push_back(std::move(runner));
    } else if (!runners.empty()) {
      const size_t chosen = random() % runners.size();
      Runner* runner = runners[chosen].get();
      const bool stays = random() % 8 != 0 && runner->computed < runner->tokens.size();
      if (stays && bench->Compute(runner, random() % 40 + 1)) {
        const size_t whole = runner->cursor.blocks() * kPageTokens;
        const auto end = runner->tokens.begin() + static_cast<std::ptrdiff_t>(whole);
        if (whole > 0) known.push_back({runner->space, {runner->tokens.begin(), end}});
      } else {
        const auto end = runner->tokens.begin() + static_cast<std::ptrdiff_t>(runner->computed);
        known.push_back({runner->space, {runner->tokens.begin(), end}});
        if (evicts && random() % 16 == 0) {
          bench->index.Reject(random() % 3, &runner->cursor);
          ++rejected;
        }
        bench->End(std::move(runners[chosen]));
        runners.erase(runners.begin() + static_cast<std::ptrdiff_t>(chosen));
      }
    }
    bench->Check();
    std::vector<const BlockTable*> tables;
    for (const auto& runner : runners) tables.push_back(&runner->table);
    EXPECT(ReferencesMatch(bench->pool, tables));
  }
  EXPECT(hits > 50);
  EXPECT(evicts ? bench->pool.evicted() > 100 && rejected > 5 : bench->pool.evicted() == 0);
  runners.clear();
  bench->pool.EvictCached();
  bench->Check();
  EXPECT_EQ(bench->index.nodes(), 0u);
}

}  // namespace

TEST(the_longest_known_prefix_is_found) {
  for (const uint64_t hash_mask : {UINT64_MAX, uint64_t{1}, uint64_t{0}}) {
    for (const auto& groups : {kFull, kWindow, kBoth}) {
      Bench bench(groups, 1 << 20, hash_mask);
      RunRandomly(&bench, false, 2000);
    }
  }
}

TEST(what_is_evicted_is_not_found_and_the_rest_is_right) {
  for (const auto& groups : {kFull, kWindow, kBoth}) {
    for (const size_t slabs : {2, 3, 5}) {
      Bench bench(groups, slabs * BlockPool::kSlabPages * (groups.size() == 1 ? 100 : 140));
      RunRandomly(&bench, true, 6000);
    }
  }
}

TEST(the_longest_unused_goes_first_and_its_end_before_its_beginning) {
  Bench bench(kFull, 100 * 16);
  const auto a = Text(1, 6 * 16 + 1), b = Text(2, 6 * 16 + 1);
  EXPECT_EQ(bench.Run(0, a), 0u);
  EXPECT_EQ(bench.Run(0, b), 0u);
  EXPECT_EQ(bench.pool.cached(0), 14u);
  EXPECT_EQ(bench.Run(0, a), 96u);
  EXPECT_EQ(bench.Look(0, b), 96u);
  EXPECT_EQ(bench.Look(0, a), 96u);
  // Two pages are free; the last pages, with a token that nobody asked for, go, then two blocks of b.
  const std::array<PageId, 6> taken = {bench.pool.Allocate(0), bench.pool.Allocate(0),
                                       bench.pool.Allocate(0), bench.pool.Allocate(0),
                                       bench.pool.Allocate(0), bench.pool.Allocate(0)};
  bench.Check();
  for (const PageId page : taken) bench.pool.Release(0, page);
  EXPECT_EQ(bench.pool.evicted(), 4u);
  EXPECT_EQ(bench.Look(0, a), 96u);
  EXPECT_EQ(bench.Look(0, b), 64u);
}

TEST(a_group_in_need_takes_the_slab_that_was_unused_for_longest) {
  // Three slabs of the windowed group have the bytes of one of the full group, and a bit.
  TokenMemory memory({100, 40});
  BlockPool pool(&memory, 2, 16 * (100 + 3 * 40));
  struct Notes final : PageCache {
    void Evict(int group, PageId page) noexcept override {
      pool->Forget(group, page);
      evicted.push_back({group, page});
    }
    void MakeRoom(int, size_t) override {}
    void Renumber(const PageMoves&) noexcept override {}
    BlockPool* pool = nullptr;
    std::vector<std::pair<int, PageId>> evicted;
  } notes;
  notes.pool = &pool;
  pool.SetCache(&notes);
  std::vector<PageId> windowed, full;
  for (int i = 0; i < 48; ++i) windowed.push_back(pool.Allocate(1));
  for (int i = 0; i < 16; ++i) full.push_back(pool.Allocate(0));
  const auto cache = [&](int group, PageId page) {
    pool.Keep(group, page);
    pool.Release(group, page);
  };
  // The middle slab is used last, the first one first; one page of the last one stays in use.
  for (int i = 0; i < 16; ++i) cache(1, windowed[static_cast<size_t>(i)]);
  for (int i = 33; i < 48; ++i) cache(1, windowed[static_cast<size_t>(i)]);
  for (int i = 0; i < 16; ++i) cache(0, full[static_cast<size_t>(i)]);
  for (int i = 16; i < 32; ++i) cache(1, windowed[static_cast<size_t>(i)]);
  EXPECT_EQ(pool.CheckIntegrity(), "");
  // Two slabs of the windowed group are not the bytes of a full one: it has to take its own.
  EXPECT_EQ(pool.Allocate(0), full[0]);
  EXPECT_EQ(notes.evicted.size(), 1u);
  pool.Release(1, windowed[32]);
  EXPECT_EQ(pool.CheckIntegrity(), "");
  // With the third one they are, but the middle one was used after the full group's pages.
  EXPECT_EQ(pool.Allocate(0), full[1]);
  EXPECT_EQ(notes.evicted.size(), 2u);
  for (size_t i = 2; i < 16; ++i) {
    pool.AddReference(0, full[i]);
    pool.Release(0, full[i]);
  }
  EXPECT_EQ(pool.Allocate(0), BlockPool::kSlabPages);
  EXPECT_EQ(notes.evicted.size(), 2u + 16u + 15u + 16u);
  EXPECT(notes.evicted[2] == std::pair(1, windowed[0]));
  EXPECT(notes.evicted[2 + 16] == std::pair(1, windowed[33]));
  EXPECT(notes.evicted[2 + 16 + 15] == std::pair(1, windowed[16]));
  EXPECT_EQ(pool.cached(0), 14u);
  EXPECT_EQ(pool.CheckIntegrity(), "");
}

TEST(two_that_compute_the_same_keep_one_copy) {
  Bench bench(kBoth, 1 << 20);
  const auto text = Text(1, 200);
  auto first = bench.Begin(0, text), second = bench.Begin(0, text);
  for (int i = 0; i < 20; ++i) {
    EXPECT(bench.Compute(first.get(), 10));
    EXPECT(bench.Compute(second.get(), 10));
  }
  EXPECT_EQ(bench.pool.used(0), 200u / kPageTokens + 2);
  bench.Check();
}

TEST(what_nobody_uses_keeps_to_its_bound) {
  Bench bench(kBoth, 200 * BlockPool::kSlabPages * 140);
  const size_t bound = 40 * 140;  // 40 pages of each group
  bench.pool.SetCachedMaximum(bound);
  for (uint32_t seed = 0; seed < 20; ++seed) {
    bench.Run(1, Text(seed, 100));
    bench.pool.TrimCached();
    EXPECT_LE(bench.pool.cached(0) * 100 + bench.pool.cached(1) * 40, bound);
    bench.Check();
  }
  EXPECT(bench.Look(1, Text(19, 100)) > 90);
  EXPECT_EQ(bench.Look(1, Text(0, 100)), 0u);
}

TEST(integrity_tells_lost_and_stolen_pages) {
  Bench bench(kFull, 1 << 20);
  bench.Run(0, Text(1, 100));
  const PageId page = bench.pool.Allocate(0);
  bench.pool.Keep(0, page);
  EXPECT(bench.index.CheckIntegrity() != "");
  bench.pool.Forget(0, page);
  bench.Check();
  auto runner = bench.Begin(0, Text(1, 100));
  bench.pool.Forget(0, runner->table.pages(0)[2]);
  EXPECT(bench.index.CheckIntegrity() != "");
}

HARNESS_MAIN()
