#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "tokenizer/tokenizer.h"

// What crosses between a client and its engine: plain values, so that the queue could lead to another process.

namespace tokenmill {

struct DraftSource;
class Drafter;

using ClientId = uint64_t;
using RequestId = uint64_t;
using HoldId = uint64_t;
using AdapterId = uint64_t;

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  int top_k = 0;  // 0: all
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  double frequency_penalty = 0;
  double presence_penalty = 0;
  uint64_t seed = 0;
};

/// A stretch of prompt text; a special one is exactly one control token's text.
struct PromptPiece {
  std::string text;
  bool special = false;
};

/// An adapter that a client has loaded, with a weight.
struct AdapterChoice {
  AdapterId id = 0;
  float scale = 1;
};

struct Request {
  RequestId id = 0;  // unique within its client
  std::vector<PromptPiece> pieces;  // or, when `tokens` is set, nothing
  std::optional<std::vector<Token>> tokens;
  bool bos = false;  // put the BOS token before the pieces
  bool score = false;  // log-probabilities of the prompt instead of a continuation
  int max_tokens = -1;  // -1: to the context's end
  SamplingOptions sampling;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  int logprobs = -1;  // alternatives reported a token; -1: none and no log-probabilities
  std::string cache_salt;  // only requests with the same one share prefixes
  std::vector<AdapterChoice> adapters;  // their changes add up
  bool prompt_lookup = false;  // guess tokens from those before, and check several in one step
  std::shared_ptr<const DraftSource> draft;  // guess with this model, likewise
  std::shared_ptr<Drafter> drafter;  // of that model for this engine, which fills it in
  int credits = 0;  // parts that may be sent before the reader asks for more
  bool notices = false;  // tell of what happens to it besides its results
  int priority = 0;  // higher first
  std::string tenant;  // tenants of one priority share evenly
  std::optional<std::chrono::nanoseconds> deadline;  // from its submission
  HoldId hold =
      0;  // the name that its pages are held under when it ends well, unique within its client; 0: none
};

struct TokenLogprob {
  Token token = 0;
  float logprob = 0;
  std::vector<std::pair<Token, float>> top;
};

enum class FinishReason : uint8_t { kStop, kLength, kAborted };

/// How a request ended: with a failure, or a reason.
struct Outcome {
  Status status;
  FinishReason reason = FinishReason::kAborted;
  int prompt_tokens = 0;
  int cached_tokens = 0;
  int completion_tokens = 0;
  double queue_ms = 0;
  double ttft_ms = 0;
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
  std::vector<Token> score_tokens;
  std::vector<float> score_logprobs;
};

/// What happened to a request that asked for notices, and the number that goes with it.
enum class Notice : uint8_t {
  kNone,
  kPrefill,  // its first step has run; milliseconds that it waited for it
  kPreempted,  // it gave its pages up; tokens that have to be computed again
  kEvicted,  // cached pages were given up, for whichever request; pages
};

/// What one step made of one request, or a notice.
struct Event {
  RequestId id = 0;
  std::string text;
  std::vector<Token> tokens;
  std::vector<TokenLogprob> logprobs;
  std::optional<Outcome> outcome;  // the last event of a request
  Notice notice = Notice::kNone;  // then the rest is empty
  double notice_value = 0;
  std::shared_ptr<const SystemBuffer> snapshot = nullptr;  // with the outcome of a request for one
  size_t snapshot_bytes = 0;
};

}  // namespace tokenmill
