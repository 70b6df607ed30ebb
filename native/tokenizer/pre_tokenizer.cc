#include "tokenizer/pre_tokenizer.h"

#include "tokenizer/split_rules.h"

namespace tokenmill {
namespace {

using namespace split;

constexpr uint8_t kPlain = 0;
constexpr uint8_t kNfc = PreTokenizer::kNfc;
constexpr uint8_t kAddBos = PreTokenizer::kAddBos;
constexpr uint8_t kIgnoreMerges = PreTokenizer::kIgnoreMerges;

// ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+` with lower-case contractions.
constexpr FindMatch kGpt2 = FindGpt2;
// Each number character alone, as the Digits pre-tokenizer has it.
constexpr FindMatch kDigits = FindRun<NumericAlone>;
constexpr FindMatch kNumberTriples = FindRun<NumberTriples>;

constexpr WordRules kLlama3Rules{.digits_max = 3};
constexpr WordRules kQwen2Rules{.digits_max = 1};
constexpr WordRules kQwen35Rules{
    .word = chars::kLetter | chars::kMark,
    .rest = kEverything & ~(chars::kSpace | chars::kLetter | chars::kMark | chars::kNumber),
    .digits_max = 1};
constexpr WordRules kSeedCoderRules{.lines_after_rest = false, .digits_max = 1};
constexpr WordRules kMiniCpm5Rules{.digits_max = kUnlimited};
constexpr WordRules kDeepSeekV3Rules{.contractions = false,
                                     .punctuated_word = true,
                                     .word = chars::kLetter | chars::kMark,
                                     .not_prefix = chars::kLetter | chars::kPunctuation | chars::kSymbol,
                                     .rest = chars::kPunctuation | chars::kSymbol,
                                     .digits_max = 0};
constexpr CasedRules kGpt4oRules{.contractions = true, .digits_max = 3};
constexpr CasedRules kTekkenRules{.contractions = false, .digits_max = 1};

constexpr FindMatch kLlama3 = FindWord<kLlama3Rules>;
constexpr FindMatch kQwen2 = FindWord<kQwen2Rules>;

// Which names share an expression follows the GGUF convention; the expressions are those of the models' own
// tokenizer.json where these differ from it.
constexpr PreTokenizer kPreTokenizers[] = {
    {"smollm starcoder refact codeshell exaone minerva-7b mellum2", kPlain, {kDigits, kGpt2}},
    {"command-r", kNfc, {kDigits, kGpt2}},
    {"gpt-2 phi-2 jais trillion granite-docling gigachat exaone4 a.x-4.0 mellum", kPlain, {kGpt2}},
    {"mpt olmo modern-bert", kNfc, {kGpt2}},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", kAddBos | kIgnoreMerges, {kLlama3}},
    {"dbrx smaug-bpe chatglm-bpe glm4", kPlain, {kLlama3}},
    {"qwen2 deepseek-r1-qwen", kNfc, {kQwen2}},
    {"stablelm2 megrez hunyuan solar-open grok-2 kormo bailingmoe bailingmoe2 llada-moe", kPlain, {kQwen2}},
    {"seed-coder", kPlain, {FindWord<kSeedCoderRules>}},
    {"qwen35", kNfc, {FindWord<kQwen35Rules>}},
    {"minicpm5", kIgnoreMerges, {kNumberTriples, FindWord<kMiniCpm5Rules>}},
    {"deepseek-v3 hunyuan-dense joyai-llm",
     kPlain,
     {kNumberTriples, FindRun<CjkAndKana>, FindWord<kDeepSeekV3Rules>}},
    {"deepseek-coder",
     kPlain,
     {FindRun<NewlineAlone>, FindRun<SpacedLetters>, FindRun<SpacedPunctuation>, FindRun<EastAsian>,
      kDigits}},
    {"gpt-4o llama4 kanana2 talkie minimax-m2", kPlain, {FindCased<kGpt4oRules>}},
    {"tekken", kAddBos | kIgnoreMerges, {FindCased<kTekkenRules>}},
    {"bloom poro-chat gpt3-finnish", kPlain, {FindRun<NotSentencePunctuation>}},
    {"viking", kPlain, {FindRun<NotSentencePunctuation>, kDigits}},
    {"default", kPlain, {FindRun<PunctuationRun>, kGpt2, FindRun<Numbers>, FindRun<AsciiDigitTriples>}},
};

/// Calls `visit` for every name of a row until it returns true.
template <class Visit>
bool ForEachName(const PreTokenizer& row, const Visit& visit) {
  std::string_view rest = row.names;
  while (!rest.empty()) {
    const size_t space = rest.find(' ');
    if (visit(rest.substr(0, space))) return true;
    rest = space == std::string_view::npos ? std::string_view() : rest.substr(space + 1);
  }
  return false;
}

}  // namespace

void PreTokenizer::RunStage(int stage, std::string_view text, PieceSink* sink) const {
  if (text.empty()) return;
  if (stage == kMaxStages || stages[stage] == nullptr) {
    sink->OnPiece(text);
    return;
  }
  size_t done = 0;
  size_t begin, end;
  while (done < text.size() && stages[stage](text, done, &begin, &end)) {
    RunStage(stage + 1, text.substr(done, begin - done), sink);
    RunStage(stage + 1, text.substr(begin, end - begin), sink);
    done = end;
  }
  RunStage(stage + 1, text.substr(done), sink);
}

const PreTokenizer* FindPreTokenizer(std::string_view name) {
  for (const PreTokenizer& row : kPreTokenizers) {
    if (ForEachName(row, [&](std::string_view known) { return known == name; })) return &row;
  }
  return nullptr;
}

std::string PreTokenizerNames() {
  std::string names;
  for (const PreTokenizer& row : kPreTokenizers) {
    ForEachName(row, [&](std::string_view name) {
      if (!names.empty()) names += ", ";
      names += name;
      return false;
    });
  }
  return names;
}

}  // namespace tokenmill
