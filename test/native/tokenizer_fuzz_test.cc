// Random bytes as text and as vocabularies: nothing crashes, decoding gives texts back, streams agree with
// the whole. Most cases are short, so that the test is; TOKENMILL_FUZZ_LONG=1 makes all of them up to 4 KB.

#include "harness.h"
#include "tokenizer_fixtures.h"

using namespace tokenmill;

namespace {

constexpr int kCases = 20000;
constexpr size_t kBytesMax = 4096;

/// xorshift64*: the same cases everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 2685821657736338717u;
  }
  size_t Below(size_t limit) { return static_cast<size_t>((Next() >> 11) % limit); }

 private:
  uint64_t state_;
};

/// Bytes of several tempers: any, mostly text, few kinds of bytes, pieces of the vocabulary.
std::string RandomBytes(Random* random, const Tokenizer& tokenizer) {
  static const bool all_long = std::getenv("TOKENMILL_FUZZ_LONG") != nullptr;
  const size_t size = random->Below(all_long || random->Below(16) == 0 ? kBytesMax : 160);
  const size_t temper = random->Below(4);
  const std::string few = " \n'sS1a\xC3\xA9\xCC\x81\xE3\x81\x82\xF0\x9F\x98\x80<|";
  std::string bytes;
  while (bytes.size() < size) {
    switch (temper) {
      case 0:
        bytes.push_back(static_cast<char>(random->Below(256)));
        break;
      case 1:
        bytes.push_back(
            static_cast<char>(random->Below(16) == 0 ? random->Below(256) : 32 + random->Below(95)));
        break;
      case 2:
        bytes.push_back(few[random->Below(few.size())]);
        break;
      default:
        bytes += tokenizer.spec().tokens[random->Below(static_cast<size_t>(tokenizer.vocabulary_size()))];
    }
  }
  return bytes;
}

std::string WithSpaces(std::string text) {
  for (size_t at = 0; (at = text.find("\u2581", at)) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

void FuzzTexts(const Tokenizer& tokenizer, bool gives_back) {
  Random random(1);
  const bool spaces = tokenizer.spec().model == TokenizerSpec::Model::kSentencePieceBpe;
  for (int i = 0; i < kCases; ++i) {
    const std::string bytes = RandomBytes(&random, tokenizer);
    const bool special = random.Below(2) == 0;
    const std::vector<Token> ids = fixtures::Encode(tokenizer, bytes, {.special = special});
    for (const Token id : ids) EXPECT(id >= 0 && id < tokenizer.vocabulary_size());
    if (!special) fixtures::ExpectStreams(tokenizer, ids);
    if (!gives_back || special) continue;
    std::string expected = ToValidUtf8(bytes);
    if (spaces) {
      expected = WithSpaces(expected);
    } else {
      std::erase(expected, '\x04');
    }
    EXPECT(tokenizer.Decode(ids.data(), ids.size()) == expected);
  }
}

/// Damages a good specification in a few places.
void Damage(TokenizerSpec* spec, Random* random) {
  const auto token = [&]() -> std::string& { return spec->tokens[random->Below(spec->tokens.size())]; };
  for (size_t n = 1 + random->Below(4); n > 0; --n) {
    switch (random->Below(8)) {
      case 0:
        token() = token();
        break;
      case 1:
        token().push_back(static_cast<char>(random->Below(256)));
        break;
      case 2:
        token().clear();
        break;
      case 3:
        spec->kinds[random->Below(spec->kinds.size())] = static_cast<TokenKind>(1 + random->Below(6));
        break;
      case 4:
        spec->tokens.pop_back();
        break;
      case 5:
        if (!spec->merges.empty()) spec->merges[random->Below(spec->merges.size())].second = token();
        break;
      case 6:
        if (!spec->scores.empty())
          spec->scores[random->Below(spec->scores.size())] = static_cast<float>(random->Below(9));
        break;
      default:
        spec->bos = static_cast<Token>(random->Next());
        break;
    }
  }
}

void FuzzSpecs(const char* fixture) {
  Random random(2);
  const TokenizerSpec good = fixtures::SpecOf(fixtures::Folder() + fixture);
  int made = 0;
  for (int i = 0; i < 1000; ++i) {
    TokenizerSpec spec = good;
    Damage(&spec, &random);
    const auto tokenizer = Tokenizer::Create(std::move(spec));
    if (!tokenizer.ok()) {
      EXPECT(!tokenizer.status().message().empty());
      continue;
    }
    ++made;
    const std::vector<Token> ids =
        fixtures::Encode(*tokenizer.value(), "The dog's 12\n\u00e9\u0301 <|im_start|>", {.special = true});
    fixtures::ExpectStreams(*tokenizer.value(), ids);
  }
  EXPECT(made > 10 && made < 990);
}

}  // namespace

TEST(AnyBytesThroughByteLevelBpe) {
  const auto tokenizer = fixtures::Load("bpe.gguf");
  if (tokenizer != nullptr) FuzzTexts(*tokenizer, true);
}

TEST(AnyBytesThroughNfc) {
  TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + "bpe.gguf");
  spec.pre = "gpt-4o";
  spec.nfc = true;
  const auto tokenizer = fixtures::Make(std::move(spec));
  if (tokenizer != nullptr) FuzzTexts(*tokenizer, false);
}

TEST(AnyBytesThroughSentencePiece) {
  const auto tokenizer = fixtures::Load("sentencepiece.gguf");
  if (tokenizer != nullptr) FuzzTexts(*tokenizer, true);
}

TEST(AnyBytesThroughUnknownTokens) {
  const auto tokenizer = fixtures::Load("sentencepiece_unk.gguf");
  if (tokenizer != nullptr) FuzzTexts(*tokenizer, false);
}

TEST(DamagedSpecs) {
  FuzzSpecs("bpe.gguf");
  FuzzSpecs("sentencepiece.gguf");
}

HARNESS_MAIN()
