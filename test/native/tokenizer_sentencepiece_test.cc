// SentencePiece BPE against PyPI's `sentencepiece`: small vocabularies that it trained, and Gemma 3's own.

#include "harness.h"
#include "tokenizer_fixtures.h"

using namespace tokenmill;

namespace {

/// What decoding makes of a text: U+2581 means a space.
std::string WithSpaces(std::string text) {
  for (size_t at; (at = text.find("\u2581")) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

}  // namespace

TEST(IdsAreTheOracles) {
  for (const char* name : {"sentencepiece", "sentencepiece_unk"}) {
    const auto tokenizer = fixtures::Load(std::string(name) + ".gguf");
    if (tokenizer == nullptr) return;
    for (int round = 0; round < 2; ++round) {
      fixtures::ExpectIds(*tokenizer, fixtures::Texts(), std::string(name) + ".ids");
    }
  }
}

TEST(IdsOfGemma3AreTheOracles) {
  const auto tokenizer = fixtures::LoadReal("gemma-3-270m.gguf");
  if (tokenizer == nullptr) return;
  fixtures::ExpectIds(*tokenizer, fixtures::Texts(), "gemma3.ids");
  EXPECT_EQ(tokenizer->vocabulary_size(), 262144);
  EXPECT(tokenizer->spec().add_bos);
  EXPECT(!tokenizer->spec().add_space_prefix);
  EXPECT(tokenizer->IsEndOfGeneration(tokenizer->Find("<end_of_turn>")));
  EXPECT(tokenizer->IsEndOfGeneration(tokenizer->Find("<eos>")));
  EXPECT(!tokenizer->IsEndOfGeneration(tokenizer->Find("</s>")));  // markup, a token like any other
  EXPECT_EQ(fixtures::Shown(fixtures::Encode(*tokenizer, "<start_of_turn>", {.special = true})), "105 ");
  EXPECT(fixtures::Encode(*tokenizer, "<start_of_turn>").size() > 1);
}

TEST(DecodingGivesTheTextBack) {
  const auto tokenizer = fixtures::Load("sentencepiece.gguf");
  if (tokenizer == nullptr) return;
  std::vector<std::string> texts = fixtures::Texts();
  texts.insert(texts.end(), {"\xFF\xFE", "a\xC3", "\xE2\x82z\xF0\x9F\x98"});
  for (const std::string& text : texts) {
    const std::vector<Token> ids = fixtures::Encode(*tokenizer, text);
    EXPECT_EQ(tokenizer->Decode(ids.data(), ids.size()), WithSpaces(ToValidUtf8(text)));
    fixtures::ExpectStreams(*tokenizer, ids);
  }
}

TEST(OnlyThePrefixSpaceIsStripped) {
  const auto tokenizer = fixtures::Load("sentencepiece.gguf");
  if (tokenizer == nullptr) return;
  const auto decoded = [&](std::vector<Token> ids) { return tokenizer->Decode(ids.data(), ids.size()); };
  const Token space = tokenizer->Find("▁");
  const Token a = tokenizer->Find("a");
  const Token bos = tokenizer->spec().bos;
  EXPECT(space >= 0 && a >= 0);
  EXPECT_EQ(decoded({space, a}), "a");
  EXPECT_EQ(decoded({bos, space, a}), "a");
  EXPECT_EQ(decoded({space, space, a}), " a");
  EXPECT_EQ(decoded({a, space, a}), "a a");
  fixtures::ExpectStreams(*tokenizer, {bos, space, space, a, space});
}

TEST(ControlTokensStartANewText) {
  const auto tokenizer = fixtures::Load("sentencepiece.gguf");
  if (tokenizer == nullptr) return;
  const std::vector<Token> one = fixtures::Encode(*tokenizer, "the dog");
  std::vector<Token> expected = one;
  expected.push_back(tokenizer->Find("</s>"));
  expected.insert(expected.end(), one.begin(), one.end());
  EXPECT_EQ(fixtures::Shown(fixtures::Encode(*tokenizer, "the dog</s>the dog", {.special = true})),
            fixtures::Shown(expected));
  EXPECT(fixtures::Encode(*tokenizer, "</s>").size() > 1);
}

TEST(BytesStandForThemselves) {
  const auto tokenizer = fixtures::Load("sentencepiece.gguf");
  if (tokenizer == nullptr) return;
  const Token byte = tokenizer->Find("<0xE2>");
  EXPECT(byte >= 0);
  EXPECT_EQ(tokenizer->Bytes(byte), "\xE2");
  // The text of a byte token is no byte.
  const std::vector<Token> ids = fixtures::Encode(*tokenizer, "<0xE2>");
  EXPECT_EQ(tokenizer->Decode(ids.data(), ids.size()), "<0xE2>");
}

TEST(EveryTokenIsFoundByItsText) {
  const auto tokenizer = fixtures::Load("sentencepiece.gguf");
  if (tokenizer == nullptr) return;
  for (Token id = 0; id < tokenizer->vocabulary_size(); ++id) {
    EXPECT_EQ(tokenizer->Find(tokenizer->spec().tokens[static_cast<size_t>(id)]), id);
  }
  EXPECT_EQ(tokenizer->Find(" "), -1);  // stored as U+2581
}

TEST(EncodingIsLinear) {
  const auto tokenizer = fixtures::Load("sentencepiece.gguf");
  if (tokenizer == nullptr) return;
  for (const auto& named : fixtures::LongTexts()) {
    const std::string& text = named.second;
    fixtures::ExpectLinear(named.first, text.size(), [&] {
      const std::vector<Token> ids = fixtures::Encode(*tokenizer, text, {.special = true});
      EXPECT(tokenizer->Decode(ids.data(), ids.size(), true) == ToValidUtf8(text));
    });
  }
}

HARNESS_MAIN()
