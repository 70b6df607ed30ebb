// Byte-level BPE against PyPI's `tokenizers`: a small vocabulary whose merges cross every boundary that a
// pre-tokenizer could set, and SmolLM2's own.

#include <thread>

#include "harness.h"
#include "tokenizer_fixtures.h"

using namespace tokenmill;

namespace {

/// What remains of a text: bytes without a token are left out.
std::string WithoutByte(std::string text, char byte) {
  std::erase(text, byte);
  return text;
}

}  // namespace

TEST(IdsAreTheOracles) {
  const std::vector<std::string> texts = fixtures::Texts();
  for (const char* name : {"smollm", "llama-bpe", "qwen2"}) {
    TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + "bpe.gguf");
    spec.pre = name;
    spec.ignore_merges = std::string(name) == "llama-bpe";
    spec.nfc = std::string(name) == "qwen2";
    const auto tokenizer = fixtures::Make(std::move(spec));
    if (tokenizer == nullptr) return;
    // Twice: the second time whole words are known.
    for (int round = 0; round < 2; ++round) {
      fixtures::ExpectIds(*tokenizer, texts, std::string("bpe_") + name + ".ids");
    }
  }
}

TEST(IdsOfSmolLm2AreTheOracles) {
  const auto tokenizer = fixtures::LoadReal("smollm2-135m-instruct.gguf");
  if (tokenizer == nullptr) return;
  fixtures::ExpectIds(*tokenizer, fixtures::Texts(), "smollm2.ids");
  EXPECT_EQ(tokenizer->vocabulary_size(), 49152);
  EXPECT(!tokenizer->spec().add_bos);
  EXPECT(tokenizer->IsEndOfGeneration(tokenizer->Find("<|im_end|>")));
  EXPECT(tokenizer->IsEndOfGeneration(tokenizer->Find("<|endoftext|>")));
  EXPECT(!tokenizer->IsEndOfGeneration(tokenizer->Find("<|im_start|>")));
}

TEST(KnownWordsStillMerge) {
  // z and j join before q can take part, so that merging never gives "qzj", though it is a token.
  TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + "bpe.gguf");
  const Token first = static_cast<Token>(spec.tokens.size());
  for (const char* token : {"qz", "zj", "qzj"}) {
    spec.tokens.push_back(token);
    spec.kinds.push_back(TokenKind::kNormal);
  }
  spec.merges = {{"z", "j"}, {"q", "z"}, {"qz", "j"}};
  TokenizerSpec ignoring = spec;
  ignoring.ignore_merges = true;
  const auto merging = fixtures::Make(std::move(spec));
  const auto whole = fixtures::Make(std::move(ignoring));
  if (merging == nullptr || whole == nullptr) return;
  const std::string apart = fixtures::Shown({merging->Find("q"), first + 1});
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(fixtures::Shown(fixtures::Encode(*merging, "qzj")), apart);
    EXPECT_EQ(fixtures::Shown(fixtures::Encode(*whole, "qzj")), fixtures::Shown({first + 2}));
  }
}

TEST(DecodingGivesTheTextBack) {
  const auto tokenizer = fixtures::Load("bpe.gguf");
  if (tokenizer == nullptr) return;
  std::vector<std::string> texts = fixtures::Texts();
  texts.insert(texts.end(), {"\xFF\xFE", "a\xC3", "\xE2\x82z\xF0\x9F\x98"});
  for (const std::string& text : texts) {
    const std::vector<Token> ids = fixtures::Encode(*tokenizer, text);
    EXPECT_EQ(tokenizer->Decode(ids.data(), ids.size()), WithoutByte(ToValidUtf8(text), '\x04'));
    fixtures::ExpectStreams(*tokenizer, ids);
  }
}

TEST(SpecialTokensAreRecognizedOnRequest) {
  const auto tokenizer = fixtures::Load("bpe.gguf");
  if (tokenizer == nullptr) return;
  const std::vector<std::string> texts = fixtures::Texts("special_texts.txt");
  fixtures::ExpectIds(*tokenizer, texts, "special_off.ids");
  fixtures::ExpectIds(*tokenizer, texts, "special_on.ids", {.special = true});
}

TEST(SpecialTokensHaveBytesOnRequest) {
  const auto tokenizer = fixtures::Load("bpe.gguf");
  if (tokenizer == nullptr) return;
  const Token start = tokenizer->Find("<|im_start|>");
  const Token think = tokenizer->Find("<think>");
  EXPECT(start >= 0 && think >= 0);
  EXPECT_EQ(tokenizer->Bytes(start), "");
  EXPECT_EQ(tokenizer->Bytes(start, true), "<|im_start|>");
  EXPECT_EQ(tokenizer->Bytes(think), "<think>");
  EXPECT_EQ(tokenizer->Bytes(-1), "");
  EXPECT_EQ(tokenizer->Bytes(tokenizer->vocabulary_size()), "");
  EXPECT(tokenizer->kind(start) == TokenKind::kControl);
  const Token ids[] = {start, think};
  EXPECT_EQ(tokenizer->Decode(ids, 2), "<think>");
  EXPECT_EQ(tokenizer->Decode(ids, 2, true), "<|im_start|><think>");
}

TEST(EveryTokenIsFoundByItsText) {
  const auto tokenizer = fixtures::Load("bpe.gguf");
  if (tokenizer == nullptr) return;
  for (Token id = 0; id < tokenizer->vocabulary_size(); ++id) {
    EXPECT_EQ(tokenizer->Find(tokenizer->spec().tokens[static_cast<size_t>(id)]), id);
  }
  EXPECT_EQ(tokenizer->Find("no such token"), -1);
  EXPECT_EQ(tokenizer->Find(""), -1);
  EXPECT_EQ(tokenizer->Find(" "), -1);  // the space's token is stored as U+0120
}

TEST(BosComesFirstOnRequest) {
  const auto tokenizer = fixtures::Load("bpe.gguf");
  if (tokenizer == nullptr) return;
  EXPECT_EQ(fixtures::Shown(fixtures::Encode(*tokenizer, "", {.bos = true})), "1 ");
  const std::vector<Token> plain = fixtures::Encode(*tokenizer, "a b");
  const std::vector<Token> with = fixtures::Encode(*tokenizer, "a b", {.bos = true});
  EXPECT_EQ(with.size(), plain.size() + 1);
  EXPECT_EQ(with[0], tokenizer->spec().bos);
}

TEST(ThreadsShareOneTokenizer) {
  const auto tokenizer = fixtures::Load("bpe.gguf");
  if (tokenizer == nullptr) return;
  const std::vector<std::string> texts = fixtures::Texts();
  std::vector<std::string> shown(4);
  std::vector<std::thread> threads;
  for (std::string& mine : shown) {
    threads.emplace_back([&] {
      for (const std::string& text : texts) mine += fixtures::Shown(fixtures::Encode(*tokenizer, text));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& other : shown) EXPECT(other == shown[0]);
}

TEST(EncodingIsLinear) {
  for (const char* pre : {"gpt-2", "bloom", "qwen2"}) {
    TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + "bpe.gguf");
    spec.pre = pre;
    spec.nfc = std::string(pre) == "qwen2";
    const auto tokenizer = fixtures::Make(std::move(spec));
    if (tokenizer == nullptr) return;
    for (const auto& named : fixtures::LongTexts()) {
      const std::string& text = named.second;
      fixtures::ExpectLinear(std::string(pre) + ", " + named.first, text.size(), [&] {
        const std::vector<Token> ids = fixtures::Encode(*tokenizer, text, {.special = true});
        if (!tokenizer->spec().nfc)
          EXPECT(tokenizer->Decode(ids.data(), ids.size(), true) == ToValidUtf8(text));
      });
    }
  }
}

HARNESS_MAIN()
