// UTF-8 repair, NFC and streams of bytes.

#include "harness.h"
#include "tokenizer/nfc.h"
#include "tokenizer/utf8.h"
#include "tokenizer_fixtures.h"

using namespace tokenmill;

namespace {

/// Byte-level BPE with one token a byte, so that streams can be cut anywhere.
std::shared_ptr<const Tokenizer> ByteTokenizer() {
  TokenizerSpec spec;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    std::string token;
    AppendUtf8(visible ? byte : next++, &token);
    spec.tokens.push_back(token);
  }
  return fixtures::Make(std::move(spec));
}

}  // namespace

TEST(InvalidPartsBecomeReplacements) {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {"plain \xC3\xA9 \xF0\x9F\x98\x80", "plain \xC3\xA9 \xF0\x9F\x98\x80"},
      {"\xFF", "\uFFFD"},
      {"a\x80z", "a\uFFFDz"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},                  // overlong: neither byte can start or go on
      {"\xE0\x80\xAF", "\uFFFD\uFFFD\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},        // a surrogate
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // beyond U+10FFFF
      {"\xE2\x82", "\uFFFD"},                        // one for a truncated character
      {"\xF0\x9F\x98z", "\uFFFDz"},
      {"\xE2\x82\xE2\x82\xAC", "\uFFFD\u20AC"},
      {"\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
       "\uFFFD\uFFFD\uFFFD\x62\uFFFD\x63\uFFFD\uFFFD\x64"},
  };
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(ToValidUtf8(bytes), text);
    EXPECT_EQ(IsWholeUtf8(bytes), std::string_view(bytes) == text);
  }
}

TEST(NfcIsTheOracles) {
  size_t changed = 0;
  for (const std::string& line : fixtures::Lines("nfc.txt")) {
    const size_t tab = line.find('\t');
    const std::string text = fixtures::Unescaped(std::string_view(line).substr(0, tab));
    const std::string expected = fixtures::Unescaped(std::string_view(line).substr(tab + 1));
    EXPECT_EQ(ToNfc(text), expected);
    if (IsPlainNfc(text)) EXPECT_EQ(expected, text);
    changed += expected != text;
  }
  EXPECT(changed > 150);
}

TEST(NfcIsIdempotent) {
  for (const std::string& text : fixtures::Texts()) EXPECT_EQ(ToNfc(ToNfc(text)), ToNfc(text));
}

TEST(StreamsHoldHalfCharactersBack) {
  const auto tokenizer = ByteTokenizer();
  if (tokenizer == nullptr) return;
  const auto push = [&](StreamDecoder* decoder, const std::string& bytes) {
    std::string text;
    for (const char byte : bytes) text += decoder->Push(static_cast<uint8_t>(byte));
    return text;
  };
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(push(&decoder, "a\xF0\x9F"), "a");
  EXPECT_EQ(push(&decoder, "\x98"), "");
  EXPECT_EQ(push(&decoder, "\x80"), "\xF0\x9F\x98\x80");
  EXPECT_EQ(push(&decoder, "\xE2\x82z"), "\uFFFDz");
  EXPECT_EQ(push(&decoder, "\xC3"), "");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamsOfAnyBytesAreTheWhole) {
  const auto tokenizer = ByteTokenizer();
  if (tokenizer == nullptr) return;
  uint64_t state = 1;
  // Few leads and tails, so that all their sequences occur.
  const std::string bytes = "a\x80\xBF\x9F\xC3\xE0\xE2\xED\xF0\xF4\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::vector<Token> ids;
    for (int i = 0; i < 8; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      ids.push_back(static_cast<uint8_t>(bytes[(state >> 33) % bytes.size()]));
    }
    fixtures::ExpectStreams(*tokenizer, ids);
  }
}

TEST(NormalizingIsLinear) {
  for (const auto& [what, text] : fixtures::LongTexts()) {
    const std::string valid = ToValidUtf8(text);
    fixtures::ExpectLinear(what, valid.size(), [&] { EXPECT(ToNfc(valid).size() > 0); });
  }
}

HARNESS_MAIN()
