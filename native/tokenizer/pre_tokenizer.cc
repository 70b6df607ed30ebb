#include "tokenizer/pre_tokenizer.h"

#include "tokenizer/split_rules.h"

namespace tokenmill {
namespace {

using namespace split;

// ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+` with lower-case contractions.
constexpr FindMatch kGpt2 = FindGpt2;
// Each number character alone, as the Digits pre-tokenizer has it.
constexpr FindMatch kDigits = FindRun<NumericAlone>;

constexpr WordRules kLlama3Rules{.digits_max = 3};
constexpr WordRules kQwen2Rules{.digits_max = 1};
constexpr WordRules kQwen35Rules{.word = chars::kLetter | chars::kMark,
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

// The first row of a group is checked against the models' own tokenizer.json or an equal expression; the other
// names are those that the GGUF convention gives to the same expressions.
constexpr PreTokenizer kPreTokenizers[] = {
    {"smollm starcoder refact codeshell exaone minerva-7b mellum2", false, false, false, {kDigits, kGpt2}},
    {"command-r", true, false, false, {kDigits, kGpt2}},
    {"gpt-2 phi-2 jais trillion granite-docling gigachat exaone4 a.x-4.0 mellum", false, false, false, {kGpt2}},
    {"mpt olmo modern-bert", true, false, false, {kGpt2}},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", false, true, true,
     {FindWord<kLlama3Rules>}},
    {"dbrx smaug-bpe chatglm-bpe glm4", false, false, false, {FindWord<kLlama3Rules>}},
    {"qwen2 deepseek-r1-qwen", true, false, false, {FindWord<kQwen2Rules>}},
    {"stablelm2 megrez hunyuan solar-open grok-2 kormo bailingmoe bailingmoe2 llada-moe", false, false,
     false, {FindWord<kQwen2Rules>}},
    {"seed-coder", false, false, false, {FindWord<kSeedCoderRules>}},
    {"qwen35", true, false, false, {FindWord<kQwen35Rules>}},
    {"minicpm5", false, false, true, {FindRun<NumberTriples>, FindWord<kMiniCpm5Rules>}},
    {"deepseek-v3 hunyuan-dense joyai-llm", false, false, false,
     {FindRun<NumberTriples>, FindRun<CjkAndKana>, FindWord<kDeepSeekV3Rules>}},
    {"deepseek-coder", false, false, false,
     {FindRun<NewlineAlone>, FindRun<SpacedLetters>, FindRun<SpacedPunctuation>, FindRun<EastAsian>, kDigits}},
    {"gpt-4o llama4 kanana2 talkie minimax-m2", false, false, false, {FindCased<kGpt4oRules>}},
    {"tekken", false, true, true, {FindCased<kTekkenRules>}},
    {"bloom poro-chat gpt3-finnish", false, false, false, {FindRun<NotSentencePunctuation>}},
    {"viking", false, false, false, {FindRun<NotSentencePunctuation>, kDigits}},
    {"default", false, false, false,
     {FindRun<PunctuationRun>, kGpt2, FindRun<Numbers>, FindRun<AsciiDigitTriples>}},
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
