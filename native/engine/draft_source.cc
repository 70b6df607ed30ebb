#include "engine/draft_source.h"

namespace tokenmill {

Status CheckVocabulary(const Tokenizer& target, const DraftSource& draft) {
  constexpr const char* kAdvice =
      "A draft model needs the very vocabulary of the model that it guesses for; take a smaller one of the "
      "same "
      "family";
  const Tokenizer& guessing = *draft.tokenizer;
  if (guessing.vocabulary_size() != target.vocabulary_size()) {
    return Error(Code::kIncompatible, "the draft model '%s' has %d tokens, and the model has %d. %s",
                 draft.name.c_str(), guessing.vocabulary_size(), target.vocabulary_size(), kAdvice);
  }
  for (size_t id = 0; id < target.spec().tokens.size(); ++id) {
    const std::string& theirs = guessing.spec().tokens[id];
    const std::string& ours = target.spec().tokens[id];
    if (theirs == ours) continue;
    return Error(Code::kIncompatible,
                 "token %zu of the draft model '%s' is '%.40s', and that of the model is '%.40s'. %s", id,
                 draft.name.c_str(), theirs.c_str(), ours.c_str(), kAdvice);
  }
  return {};
}

}  // namespace tokenmill
