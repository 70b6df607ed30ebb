// The pre-tokenizers against the pieces that PyPI's `tokenizers` makes of the same texts.

#include "tokenizer/pre_tokenizer.h"

#include "harness.h"
#include "tokenizer_fixtures.h"

using namespace tokenmill;

namespace {

class Lengths final : public PieceSink {
 public:
  std::string packed;
  size_t total = 0;
  void OnPiece(std::string_view piece) override {
    EXPECT(!piece.empty());
    total += piece.size();
    if (piece.size() < 36) {
      packed.push_back("0123456789abcdefghijklmnopqrstuvwxyz"[piece.size()]);
    } else {
      packed.append("{").append(std::to_string(piece.size())).append("}");
    }
  }
};

class Counter final : public PieceSink {
 public:
  size_t total = 0;
  void OnPiece(std::string_view piece) override { total += piece.size(); }
};

constexpr const char* kNames[] = {"smollm",     "gpt-2",  "llama-bpe", "qwen2",       "bailingmoe",
                                  "seed-coder", "qwen35", "minicpm5",  "deepseek-v3", "deepseek-coder",
                                  "gpt-4o",     "tekken", "bloom",     "viking",      "default"};

}  // namespace

TEST(PiecesAreTheOracles) {
  const std::vector<std::string> texts = fixtures::Texts();
  EXPECT(texts.size() > 400);
  for (const char* name : kNames) {
    const PreTokenizer* pre = FindPreTokenizer(name);
    EXPECT(pre != nullptr);
    if (pre == nullptr) continue;
    const std::vector<std::string> lines = fixtures::Lines(std::string("pieces_") + name + ".txt");
    EXPECT_EQ(lines.size(), texts.size());
    for (size_t i = 0; i < texts.size() && i < lines.size(); ++i) {
      Lengths lengths;
      pre->Split(texts[i], &lengths);
      EXPECT_EQ(lengths.total, texts[i].size());
      if (lengths.packed != lines[i]) {
        harness::Fail(__FILE__, __LINE__,
                      std::string(name) + " line " + std::to_string(i + 1) + ": " + lengths.packed +
                          " instead of " + lines[i]);
      }
    }
  }
}

TEST(EveryNameIsFound) {
  std::istringstream names(PreTokenizerNames());
  size_t count = 0;
  for (std::string name; std::getline(names, name, ',');) {
    name.erase(0, name.find_first_not_of(' '));
    EXPECT(FindPreTokenizer(name) != nullptr);
    ++count;
  }
  EXPECT(count > 30);
  EXPECT(FindPreTokenizer("") == nullptr);
  EXPECT(FindPreTokenizer("llama") == nullptr);
  EXPECT(FindPreTokenizer("gpt-2 phi-2") == nullptr);
}

TEST(SplittingIsLinear) {
  for (const auto& [what, text] : fixtures::LongTexts()) {
    const std::string valid = ToValidUtf8(text);
    fixtures::ExpectLinear(what, valid.size() * std::size(kNames), [&] {
      for (const char* name : kNames) {
        Counter counter;
        FindPreTokenizer(name)->Split(valid, &counter);
        EXPECT_EQ(counter.total, valid.size());
      }
    });
  }
}

HARNESS_MAIN()
