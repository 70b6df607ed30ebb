// What is read from tokenizer.ggml.*, and what is refused.

#include <functional>
#include <limits>

#include "gguf_writer.h"
#include "harness.h"
#include "memory_file.h"
#include "tokenizer_fixtures.h"

using namespace tokenmill;

namespace {

/// The smallest byte-level vocabulary: plain text's bytes, two merges, special tokens.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges = {"t h", "th e"};

  Vocabulary() {
    for (char c = '!'; c <= '~'; ++c) Add(std::string(1, c), 1);
    for (const char* token : {"Ġ", "Ċ", "th", "the"}) Add(token, 1);
    for (const char* token : {"<|im_start|>", "<|im_end|>", "<|end|>", "</s>"}) Add(token, 3);
    Add("<|eot_id|>", 4);
    Add("<eos>", 4);
  }

  void Add(std::string token, int32_t type) {
    tokens.push_back(std::move(token));
    types.push_back(type);
  }

  int32_t Id(const std::string& token) const {
    return static_cast<int32_t>(std::find(tokens.begin(), tokens.end(), token) - tokens.begin());
  }

  GgufWriter Write(std::string_view model = "gpt2", std::string_view pre = "gpt-2") const {
    GgufWriter writer;
    writer.AddString("tokenizer.ggml.model", model);
    if (!pre.empty()) writer.AddString("tokenizer.ggml.pre", pre);
    writer.AddStrings("tokenizer.ggml.tokens", tokens);
    writer.AddArray("tokenizer.ggml.token_type", GgufType::kInt32, types);
    writer.AddStrings("tokenizer.ggml.merges", merges);
    return writer;
  }
};

Result<TokenizerSpec> Read(const GgufWriter& writer) {
  const auto file = GgufFile::Open(std::make_shared<MemoryFile>(writer.Bytes()));
  if (!file.ok()) return file.status();
  return ReadTokenizerSpec(*file.value());
}

Status ReadAndCreate(const GgufWriter& writer) {
  auto spec = Read(writer);
  return spec.ok() ? Tokenizer::Create(std::move(spec).value()).status() : spec.status();
}

void ExpectError(const Status& status, Code code, std::string_view part) {
  EXPECT_EQ(CodeName(status.code()), CodeName(code));
  if (status.message().find(part) == std::string::npos) {
    harness::Fail(__FILE__, __LINE__,
                  "\"" + status.message() + "\" does not say \"" + std::string(part) + "\"");
  }
}

/// Changes a good spec and expects it to be refused.
void ExpectRefused(const char* fixture, std::string_view part,
                   const std::function<void(TokenizerSpec*)>& change) {
  TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + fixture);
  change(&spec);
  ExpectError(Tokenizer::Create(std::move(spec)).status(), Code::kCorruptFile, part);
}

}  // namespace

TEST(DefaultsFollowThePreTokenizer) {
  const Vocabulary vocabulary;
  auto plain = Read(vocabulary.Write());
  EXPECT(plain.ok());
  EXPECT(!plain.value().add_bos && !plain.value().add_eos && !plain.value().nfc &&
         !plain.value().ignore_merges);
  EXPECT_EQ(plain.value().bos, -1);
  auto llama = Read(vocabulary.Write("gpt2", "llama-bpe"));
  EXPECT(llama.ok() && llama.value().add_bos && llama.value().ignore_merges);
  auto qwen = Read(vocabulary.Write("gpt2", "qwen2"));
  EXPECT(qwen.ok() && qwen.value().nfc && !qwen.value().add_bos);
  auto none = Read(vocabulary.Write("gpt2", ""));
  EXPECT(none.ok() && none.value().pre == "default");
  GgufWriter writer = vocabulary.Write("gpt2", "llama-bpe");
  writer.Add("tokenizer.ggml.add_bos_token", GgufType::kBool, uint8_t{0});
  auto told = Read(writer);
  EXPECT(told.ok() && !told.value().add_bos);
}

TEST(EndsOfGenerationComeFromIdsAndTexts) {
  Vocabulary vocabulary;
  GgufWriter writer = vocabulary.Write();
  writer.Add("tokenizer.ggml.eos_token_id", GgufType::kUint32, uint32_t{0});
  writer.Add("tokenizer.ggml.eot_token_id", GgufType::kUint32, uint32_t{1});
  writer.Add("tokenizer.ggml.eom_token_id", GgufType::kUint32, uint32_t{1});
  auto spec = Read(writer);
  EXPECT(spec.ok());
  std::vector<Token> expected = {0, 1};
  for (const char* text : {"<|im_end|>", "<|end|>", "</s>", "<|eot_id|>", "<eos>"})
    expected.push_back(vocabulary.Id(text));
  EXPECT_EQ(fixtures::Shown(spec.value().end_of_generation), fixtures::Shown(expected));

  vocabulary.Add("<|return|>", 3);
  vocabulary.Add("<|call|>", 3);
  auto channels = Read(vocabulary.Write());
  EXPECT(channels.ok());
  const std::vector<Token>& ends = channels.value().end_of_generation;
  EXPECT(std::find(ends.begin(), ends.end(), vocabulary.Id("<|end|>")) == ends.end());
  EXPECT(std::find(ends.begin(), ends.end(), vocabulary.Id("<|return|>")) != ends.end());
}

TEST(TurnMarksAreControlTokens) {
  Vocabulary vocabulary;
  for (const char* text : {"<｜User｜>", "<start_of_turn>", "<end_of_turn>", "<|>", "<think>"})
    vocabulary.Add(text, 4);
  vocabulary.types[static_cast<size_t>(vocabulary.Id("</s>"))] = 4;
  auto spec = Read(vocabulary.Write());
  EXPECT(spec.ok());
  const std::vector<Token>& ends = spec.value().end_of_generation;
  const auto is_end = [&](const char* text) {
    return std::find(ends.begin(), ends.end(), vocabulary.Id(text)) != ends.end();
  };
  const auto kind = [&](const char* text) {
    return spec.value().kinds[static_cast<size_t>(vocabulary.Id(text))];
  };
  for (const char* text : {"<|eot_id|>", "<｜User｜>", "<start_of_turn>", "<end_of_turn>", "<eos>"})
    EXPECT(kind(text) == TokenKind::kControl);
  EXPECT(is_end("<end_of_turn>") && is_end("<eos>") && !is_end("<start_of_turn>"));
  for (const char* text : {"<|>", "<think>", "</s>"}) EXPECT(kind(text) == TokenKind::kUserDefined);
  EXPECT(!is_end("</s>"));
}

TEST(TokensThatBeginAndEndSequencesAreControlTokens) {
  Vocabulary vocabulary;
  const char* texts[] = {"[BEGIN]", "[END]", "[TURN]", "[MESSAGE]"};
  const char* keys[] = {"bos", "eos", "eot", "eom"};
  for (const int32_t type : {1, 4}) {
    for (const char* text : texts) vocabulary.Add(text, type);
    GgufWriter writer = vocabulary.Write();
    for (size_t i = 0; i < std::size(keys); ++i)
      writer.Add(std::string("tokenizer.ggml.") + keys[i] + "_token_id", GgufType::kUint32,
                 static_cast<uint32_t>(vocabulary.Id(texts[i])));
    auto spec = Read(writer);
    EXPECT(spec.ok());
    for (const char* text : texts)
      EXPECT(spec.value().kinds[static_cast<size_t>(vocabulary.Id(text))] == TokenKind::kControl);
    const auto tokenizer = fixtures::Make(std::move(spec).value());
    if (tokenizer == nullptr) return;
    const Token end = vocabulary.Id("[END]");
    EXPECT(fixtures::Encode(*tokenizer, "[END]").size() > 1);
    EXPECT_EQ(fixtures::Shown(fixtures::Encode(*tokenizer, "[END]", {.special = true})),
              fixtures::Shown({end}));
    vocabulary = Vocabulary();
  }
}

TEST(AnEndTokenOfOneCharacterStaysText) {
  const Vocabulary vocabulary;
  GgufWriter writer = vocabulary.Write();
  writer.Add("tokenizer.ggml.eos_token_id", GgufType::kUint32, static_cast<uint32_t>(vocabulary.Id("Ċ")));
  auto spec = Read(writer);
  EXPECT(spec.ok());
  const auto tokenizer = fixtures::Make(std::move(spec).value());
  if (tokenizer == nullptr) return;
  EXPECT_EQ(fixtures::Shown(fixtures::Encode(*tokenizer, "\n")), fixtures::Shown({vocabulary.Id("Ċ")}));
}

TEST(UnknownNamesAreUnsupported) {
  const Vocabulary vocabulary;
  ExpectError(Read(vocabulary.Write("bert")).status(), Code::kUnsupportedModel, "\"bert\"");
  const Status pre = Read(vocabulary.Write("gpt2", "made-up")).status();
  ExpectError(pre, Code::kUnsupportedModel, "\"made-up\"");
  ExpectError(pre, Code::kUnsupportedModel, "llama-bpe");
  TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + "bpe.gguf");
  spec.pre = "made-up";
  ExpectError(Tokenizer::Create(std::move(spec)).status(), Code::kUnsupportedModel, "\"made-up\"");
}

TEST(SentencePieceHasItsOwnDefaults) {
  GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", "llama");
  writer.AddStrings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a", "▁"});
  writer.AddArray("tokenizer.ggml.token_type", GgufType::kInt32, std::vector<int32_t>{2, 3, 3, 1, 1});
  writer.AddArray("tokenizer.ggml.scores", GgufType::kFloat32, std::vector<float>{0, 0, 0, -1, -2});
  auto spec = Read(writer);
  EXPECT(spec.ok());
  EXPECT(spec.value().add_bos && spec.value().add_space_prefix && !spec.value().add_eos);
  EXPECT_EQ(spec.value().unk, 0);
  EXPECT_EQ(spec.value().bos, 1);
  EXPECT_EQ(spec.value().eos, 2);
  const auto tokenizer = fixtures::Make(std::move(spec).value());
  if (tokenizer == nullptr) return;
  EXPECT_EQ(fixtures::Shown(fixtures::Encode(*tokenizer, "a zz a")), "4 3 4 0 4 3 ");
}

TEST(MergesSplitAtTheRightSpace) {
  Vocabulary vocabulary;
  vocabulary.Add("a b", 4);
  vocabulary.merges = {"t h", "a b c"};
  auto spec = Read(vocabulary.Write());
  EXPECT(spec.ok());
  EXPECT_EQ(spec.value().merges[0].first, "t");
  EXPECT_EQ(spec.value().merges[1].first, "a b");
  EXPECT_EQ(spec.value().merges[1].second, "c");
  for (const char* bad : {"", "th", "th ", " th"}) {
    vocabulary.merges = {bad};
    ExpectError(Read(vocabulary.Write()).status(), Code::kCorruptFile, "entry 0");
  }
}

TEST(BadMetadataIsCorrupt) {
  const Vocabulary good;
  EXPECT(ReadAndCreate(good.Write()).ok());

  Vocabulary types = good;
  types.types.pop_back();
  ExpectError(ReadAndCreate(types.Write()), Code::kCorruptFile, "tokenizer.ggml.token_type has");
  types = good;
  types.types[3] = 7;
  ExpectError(ReadAndCreate(types.Write()), Code::kCorruptFile, "token 3 has type 7");

  for (const char* key : {"bos", "eos", "eot", "eom", "unknown", "padding"}) {
    GgufWriter writer = good.Write();
    writer.Add(std::string("tokenizer.ggml.") + key + "_token_id", GgufType::kUint32, uint32_t{4000000000u});
    ExpectError(ReadAndCreate(writer), Code::kCorruptFile, "4000000000");
  }
  GgufWriter empty;
  empty.AddString("tokenizer.ggml.model", "gpt2");
  ExpectError(ReadAndCreate(empty), Code::kCorruptFile, "tokenizer.ggml.tokens");
}

TEST(BadByteLevelSpecsAreCorrupt) {
  const char* fixture = "bpe.gguf";
  ExpectRefused(fixture, "vocabulary is empty", [](TokenizerSpec* s) {
    *s = TokenizerSpec();
    s->pre = "gpt-2";
  });
  ExpectRefused(fixture, "token types", [](TokenizerSpec* s) { s->kinds.pop_back(); });
  ExpectRefused(fixture, "are both \"<|im_start|>\"",
                [](TokenizerSpec* s) { s->tokens[0] = "<|im_start|>"; });
  ExpectRefused(fixture, "are both \"abc\"",
                [](TokenizerSpec* s) { s->tokens[500] = s->tokens[501] = "abc"; });
  ExpectRefused(fixture, "are both \"a\"", [](TokenizerSpec* s) { s->tokens[0] = "a"; });
  ExpectRefused(fixture, "byte 0x61", [](TokenizerSpec* s) {
    *std::find(s->tokens.begin(), s->tokens.end(), "a") = "something else";
  });
  ExpectRefused(fixture, "\"nowhere\" is not in the vocabulary",
                [](TokenizerSpec* s) { s->merges.emplace_back("a", "nowhere"); });
  ExpectRefused(fixture, "beginning-of-sequence token is 1000000",
                [](TokenizerSpec* s) { s->bos = 1000000; });
  ExpectRefused(fixture, "padding token is -2", [](TokenizerSpec* s) { s->pad = -2; });
  ExpectRefused(fixture, "end-of-generation", [](TokenizerSpec* s) { s->end_of_generation = {-1}; });
  ExpectRefused(fixture, "at most", [](TokenizerSpec* s) { s->tokens[0] = std::string(5000, 'x'); });
}

TEST(BadSentencePieceSpecsAreCorrupt) {
  const char* fixture = "sentencepiece.gguf";
  ExpectRefused(fixture, "scores", [](TokenizerSpec* s) { s->scores.pop_back(); });
  ExpectRefused(fixture, "not a number",
                [](TokenizerSpec* s) { s->scores.back() = std::numeric_limits<float>::quiet_NaN(); });
  const auto rename_byte = [](TokenizerSpec* s, const char* name) {
    *std::find(s->tokens.begin(), s->tokens.end(), "<0x0A>") = name;
  };
  ExpectRefused(fixture, "is a byte token", [&](TokenizerSpec* s) { rename_byte(s, "<0x0a>"); });
  ExpectRefused(fixture, "are both \"<0x0B>\"", [&](TokenizerSpec* s) { rename_byte(s, "<0x0B>"); });
  ExpectRefused(fixture, "no token stands for the byte 0x0a, but others", [&](TokenizerSpec* s) {
    const auto token = std::find(s->tokens.begin(), s->tokens.end(), "<0x0A>");
    s->kinds[static_cast<size_t>(token - s->tokens.begin())] = TokenKind::kControl;
  });
  ExpectRefused("sentencepiece_unk.gguf", "no unknown token", [](TokenizerSpec* s) { s->unk = -1; });
}

TEST(ProductsThatAreNoTokensDoNotMerge) {
  TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + "bpe.gguf");
  spec.merges = {{"q", "q"}};
  const auto tokenizer = fixtures::Make(std::move(spec));
  if (tokenizer == nullptr) return;
  EXPECT_EQ(fixtures::Encode(*tokenizer, "qqq").size(), size_t{3});
}

TEST(EmptyTokensAreHoles) {
  TokenizerSpec spec = fixtures::SpecOf(fixtures::Folder() + "bpe.gguf");
  const size_t count = spec.tokens.size();
  for (int i = 0; i < 2; ++i) {
    spec.tokens.emplace_back();
    spec.kinds.push_back(i == 0 ? TokenKind::kNormal : TokenKind::kUserDefined);
  }
  const auto tokenizer = fixtures::Make(std::move(spec));
  if (tokenizer == nullptr) return;
  EXPECT_EQ(tokenizer->Bytes(static_cast<Token>(count)), "");
  EXPECT(!fixtures::Encode(*tokenizer, "abc", {.special = true}).empty());
}

HARNESS_MAIN()
