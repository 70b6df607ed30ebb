#pragma once

#include <map>
#include <span>
#include <vector>

#include "engine/request.h"
#include "ops/step.h"

namespace tokenmill {

/// The logit edits that a sequence's penalties amount to, kept up to date token by token. The repetition
/// penalty looks at prompt and reply, the frequency and presence penalties at the reply alone.
class Penalties {
 public:
  explicit Penalties(const SamplingOptions& options) : options_(options) {}

  bool active() const {
    return options_.repetition_penalty != 1 || options_.frequency_penalty != 0 ||
           options_.presence_penalty != 0;
  }
  void Count(Token token, bool in_reply) {
    if (!active()) return;
    int& count = replies_[token];
    if (in_reply) ++count;
  }
  /// Ascending tokens; valid until the next call.
  std::span<const LogitEdit> Edits() {
    edits_.clear();
    for (const auto& [token, count] : replies_) {
      const double subtract =
          options_.frequency_penalty * count + (count > 0 ? options_.presence_penalty : 0);
      edits_.push_back(
          {token, static_cast<float>(options_.repetition_penalty), static_cast<float>(subtract)});
    }
    return edits_;
  }

 private:
  SamplingOptions options_;
  std::map<Token, int> replies_;  // seen tokens and how often the reply has them
  std::vector<LogitEdit> edits_;
};

}  // namespace tokenmill
