#pragma once

// A scheduler on a model whose replies are known: what the scheduler's tests share. For one source file a program.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "allocations.h"
#include "engine/drafter.h"
#include "engine/random.h"
#include "engine/scheduler.h"
#include "harness.h"

namespace tokenmill {

inline constexpr int kVocabulary = 257;  // the bytes and an end token
inline constexpr Token kEnd = 256;

inline std::string Utf8(uint32_t code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

// Every byte is a token, written in GPT-2's alphabet of printable stand-ins.
inline std::shared_ptr<const Tokenizer> ByteTokenizer() {
  TokenizerSpec spec;
  uint32_t stand_in = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    spec.tokens.push_back(Utf8(printable ? b : stand_in++));
    spec.kinds.push_back(TokenKind::kNormal);
  }
  spec.tokens.push_back("<end>");
  spec.kinds.push_back(TokenKind::kControl);
  spec.pre = "gpt-2";
  spec.eos = kEnd;
  spec.end_of_generation = {kEnd};
  auto tokenizer = Tokenizer::Create(std::move(spec));
  if (!tokenizer.ok()) std::printf("%s\n", tokenizer.status().message().c_str());
  return std::move(tokenizer).value();
}

// With less than all tokens to look back on and few letters a reply repeats itself.
inline size_t toy_memory = SIZE_MAX;
inline uint64_t toy_letters = 26;

// The toy model's next token: a hash of everything before it that it remembers.
inline Token NextToken(std::span<const Token> tokens) {
  uint64_t hash = 1469598103934665603ull;
  for (const Token token : tokens.last(std::min(tokens.size(), toy_memory)))
    hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211ull;
  hash ^= hash >> 29;
  if (hash % 97 == 0) return kEnd;
  return static_cast<Token>('a' + hash % toy_letters);
}

// A model whose pages hold the tokens themselves and whose head reads a sequence back from its pages: a lost,
// shared or stale page changes what it says. A second group has small pages, and is read within its window.
class ToyModel final : public PageMemory {
 public:
  explicit ToyModel(const std::vector<KvGroup>* groups) : groups_(groups) {}

  size_t PageBytes(int group) const override {
    return kPageTokens * sizeof(Token) * (group == 0 && groups_->size() > 1 ? kLargePage : 1);
  }
  Status AddSlab(int group, int slab, int pages) override {
    if (refuses_memory) return Status(Code::kOutOfMemory, "refused");
    for (int p = 0; p < pages; ++p) pages_[{group, slab * pages + p}].assign(kPageTokens, -1);
    return {};
  }
  void RemoveSlab(int group, int slab) override {
    for (int p = 0; p < BlockPool::kSlabPages; ++p) pages_.erase({group, slab * BlockPool::kSlabPages + p});
  }

  void CopyPage(int group, PageId from, PageId to) override {
    pages_.at({group, to}) = pages_.at({group, from});
  }

  void Run(const StepInput& input, StepResult* result) {
    rows_run += input.tokens.size();
    result->head.assign(input.head.size(), HeadResult());
    size_t head = 0;
    for (const StepSequence& sequence : input.sequences) {
      for (int i = 0; i < sequence.rows; ++i) {
        const int position = sequence.position + i;
        const int row = sequence.row_begin + i;
        for (int group = 0; group < static_cast<int>(groups_->size()); ++group)
          Slot(sequence, group, position) = fails ? -2 : input.tokens[static_cast<size_t>(row)];
        if (fails) continue;
        if (head < input.head.size() && input.head[head].row == row) {
          const std::vector<Token> tokens = Read(sequence, position);
          Answer(input.head[head], tokens, &result->head[head]);
          if (input.head[head].full) HandOver(input, head, tokens);
          ++head;
        }
      }
    }
    EXPECT(fails || head == input.head.size());
    rows_seen = std::max(rows_seen, static_cast<int>(input.tokens.size()));
  }

  static constexpr int kLargePage = 4;
  std::function<Token(std::span<const Token>)> next = NextToken;  // what it says
  int rows_seen = 0;
  size_t rows_run = 0;
  bool refuses_memory = false;
  bool fails = false;  // steps leave nonsense in their rows' pages
  std::set<Token> poisoned;  // a sequence that begins so gives NaN
  size_t poisoned_guesses = SIZE_MAX;  // behind so many tokens, what the model would not say gives NaN
  std::set<Token> hungry;  // a sequence that begins so finds no memory to draw from whole rows

 private:
  Token& Slot(const StepSequence& sequence, int group, int position) {
    const PageId page = sequence.pages[static_cast<size_t>(group)][position / kPageTokens];
    return pages_.at({group, page})[static_cast<size_t>(position % kPageTokens)];
  }

  std::vector<Token> Read(const StepSequence& sequence, int position) {
    std::vector<Token> tokens;
    for (int p = 0; p <= position; ++p) tokens.push_back(Slot(sequence, 0, p));
    for (int group = 1; group < static_cast<int>(groups_->size()); ++group) {
      const int window = (*groups_)[static_cast<size_t>(group)].window;
      for (int p = std::max(0, position - window + 1); p <= position; ++p)
        EXPECT_EQ(Slot(sequence, group, p), tokens[static_cast<size_t>(p)]);
    }
    return tokens;
  }

  void Answer(const HeadRow& row, const std::vector<Token>& tokens, HeadResult* result) {
    result->finite = poisoned.count(tokens[0]) == 0;
    const std::span<const Token> before = std::span(tokens).first(tokens.size() - 1);
    if (tokens.size() > poisoned_guesses && tokens.back() != NextToken(before)) result->finite = false;
    if (row.candidates > 0) result->candidates = {{next(tokens), 1, 1}};
    result->log_sum_exp = 2;
    for (const int32_t target : row.targets)
      result->targets.push_back(target == NextToken(tokens) ? 1.0f : -5.0f);
  }

  const std::vector<KvGroup>* const groups_;
  // Logits that leave no doubt about the next token.
  void HandOver(const StepInput& input, size_t head, const std::vector<Token>& tokens) {
    std::vector<float> logits(kVocabulary, -1e9f);
    logits[static_cast<size_t>(next(tokens))] = 0;
    allocations::refused = hungry.count(tokens[0]) > 0;
    input.sink->Take(head, logits, 0);
    allocations::refused = false;
  }

  std::map<std::pair<int, int>, std::vector<Token>> pages_;
};

struct Rig {
  explicit Rig(int pages, int max_rows = 32, int context = 400) : Rig({{0, 1}}, pages, max_rows, context) {}

  Rig(std::vector<KvGroup> kv_groups, int pages, int max_rows, int context)
      : Rig(std::move(kv_groups), pages, SchedulerLimits{max_rows, context}) {}

  // `pages` are those of the last group. Time stands still but for what steps cost.
  Rig(std::vector<KvGroup> kv_groups, int pages, SchedulerLimits limits)
      : tokenizer(ByteTokenizer()),
        groups(std::move(kv_groups)),
        model(&groups),
        pool(&model, static_cast<int>(groups.size()),
             static_cast<size_t>(pages) * model.PageBytes(static_cast<int>(groups.size()) - 1)),
        prefix(&pool, &groups),
        scheduler(tokenizer.get(), &groups, &pool, limits, &prefix, [this] { return now; }) {}

  void Submit(RequestId id, std::vector<Token> prompt, int max_tokens = 50, int credits = 1 << 30) {
    Request request;
    request.id = id;
    request.cache_salt = salt;
    request.score = score;
    request.prompt_lookup = prompt_lookup;
    request.drafter = drafter;
    request.ignore_eos = ignore_eos;
    request.sampling.temperature = temperature;
    request.max_tokens = max_tokens;
    request.credits = credits;
    Submit(std::move(request), std::move(prompt));
  }

  void Submit(Request request, std::vector<Token> prompt) {
    scheduler.Submit(1, std::move(request), std::move(prompt), now);
    Drain();
  }

  bool Step() {
    const bool ran = scheduler.Plan(&plan);
    if (ran) {
      StepResult result;
      model.Run(plan.Input(), &result);
      Pass(step_ms(plan));
      scheduler.Finish(plan, result, model.fails ? Error(Code::kInternal, "a step failed") : Status());
    }
    CheckIntegrity();
    Drain();
    return ran;
  }

  void CheckIntegrity() const {
    EXPECT_EQ(pool.CheckIntegrity(), "");
    EXPECT_EQ(scheduler.CheckIntegrity(), "");
    EXPECT_EQ(prefix.CheckIntegrity(), "");
  }

  void Pass(double ms) {
    now += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(ms));
  }

  void Drain() {
    scheduler.HandOver([this](ClientId, std::vector<Event>&& events) {
      for (const Event& event : events) Note(event);
    });
  }

  void Note(const Event& event) {
    auto& tokens = replies[event.id];
    tokens.insert(tokens.end(), event.tokens.begin(), event.tokens.end());
    texts[event.id] += event.text;
    if (!event.outcome) return;
    EXPECT(outcomes.emplace(event.id, *event.outcome).second);
    ended.push_back(event.id);
  }

  bool ignore_eos = false;
  bool score = false;
  bool prompt_lookup = false;
  std::shared_ptr<Drafter> drafter;
  std::string salt;
  double temperature = 0;
  Clock::time_point now = Clock::time_point{} + std::chrono::hours(1);
  std::function<double(const StepPlan&)> step_ms = [](const StepPlan&) { return 0.0; };
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<KvGroup> groups;
  ToyModel model;
  BlockPool pool;
  PrefixIndex prefix;
  Scheduler scheduler;
  StepPlan plan{1};
  std::map<RequestId, std::vector<Token>> replies;
  std::map<RequestId, std::string> texts;
  std::map<RequestId, Outcome> outcomes;
  std::vector<RequestId> ended;  // in this order
};

inline std::vector<Token> Prompt(uint64_t seed, int length) {
  std::vector<Token> prompt;
  for (int i = 0; i < length; ++i)
    prompt.push_back(static_cast<Token>(UniformAt(seed, static_cast<uint64_t>(i)) * 255));
  return prompt;
}

inline std::vector<Token> Expected(std::vector<Token> tokens, int max_tokens, bool ignore_eos = false) {
  std::vector<Token> reply;
  while (static_cast<int>(reply.size()) < max_tokens) {
    const Token next = NextToken(tokens);
    if (next == kEnd && !ignore_eos) break;
    tokens.push_back(next);
    reply.push_back(next);
  }
  return reply;
}

}  // namespace tokenmill
