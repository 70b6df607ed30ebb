#pragma once

#include <algorithm>
#include <chrono>
#include <compare>
#include <memory>
#include <optional>
#include <vector>

#include "engine/adapters.h"
#include "engine/clock.h"
#include "engine/fair_queue.h"
#include "engine/guess_odds.h"
#include "engine/penalties.h"
#include "engine/prompt_lookup.h"
#include "engine/request.h"
#include "engine/stop_matcher.h"
#include "engine/waiting_room.h"
#include "kv/block_table.h"
#include "kv/prefix_index.h"

namespace tokenmill {

/// Who may take pages from whom: the smaller one from the greater. It is settled when a sequence first takes pages
/// and stays, so that two never take them from each other in turn.
struct Seniority {
  Clock::time_point since = Clock::time_point::max();  // that start, earlier by what its priority is worth
  uint64_t arrival = 0;

  auto operator<=>(const Seniority&) const = default;
};

/// A request under way: its tokens, how many of them have their keys and values in pages, and how its text
/// stands. Belongs to the loop thread.
struct Sequence {
  Sequence(ClientId client, Request submitted, std::vector<Token> prompt, AdapterStack stack,
           Clock::time_point submitted_at, const Tokenizer* tokenizer, BlockPool* pool,
           const std::vector<KvGroup>* groups)
      : client(client),
        request(std::move(submitted)),
        adapters(std::move(stack)),
        prompt_tokens(prompt.size()),
        tokens(std::move(prompt)),
        table(pool, groups),
        decoder(tokenizer),
        stops(request.stop),
        penalties(request.sampling),
        credits(request.credits),
        submitted_at(submitted_at) {
    if (request.deadline) deadline = submitted_at + *request.deadline;
    for (const Token token : tokens) penalties.Count(token, false);
  }

  const ClientId client;
  const Request request;
  const AdapterStack adapters;
  const size_t prompt_tokens;
  uint64_t origin = 0;  // of its prefix space
  std::vector<Token> tokens;  // prompt and reply, without an end token
  size_t computed = 0;  // tokens whose keys and values are in pages
  size_t adopted = 0;  // of these, what came from the prefix index when it was admitted
  size_t cached = 0;  // of the prompt, what came from there when it started
  size_t alone_until = 0;  // tokens that it gave up itself, and computes anew without company; 0: none
  BlockTable table;
  PrefixIndex::Cursor prefix;
  StreamDecoder decoder;
  StopMatcher stops;
  Penalties penalties;
  std::vector<float> score;  // of tokens[1] on
  int64_t credits;  // parts that may be sent; a reply without any is paused
  Clock::time_point submitted_at;
  std::optional<Clock::time_point> deadline;
  WaitingRoom::Place waiting;  // until its first step
  FairQueue::Membership place;  // among those that wait for rows
  Seniority seniority;
  int planned = 0;  // rows of the step that is being planned
  std::vector<Token> guesses;  // more rows of it: how the reply may go on after `tokens`
  std::vector<GuessOdds::Evidence> evidence;  // for each of them
  PromptLookup lookup;
  GuessOdds odds;
  Clock::time_point started_at{};  // its first step
  Clock::time_point first_token_at{};
  Clock::time_point last_token_at{};
  bool stop_found = false;
  bool ended = false;
  bool observed = false;  // its first step has been counted

  void DropGuesses() {
    guesses.clear();
    evidence.clear();
  }
  bool guesses_ahead() const { return request.prompt_lookup || request.drafter != nullptr; }
  /// Tokens that have to be computed: a score does not need its last one.
  size_t wanted() const { return tokens.size() - (request.score ? 1 : 0); }
  size_t remaining() const { return wanted() - computed; }
  size_t replied() const { return tokens.size() - prompt_tokens; }
  bool paused() const { return credits <= 0 && !request.score; }
  bool started() const { return started_at != Clock::time_point{}; }
  bool decoding() const { return !request.score && computed + 1 == tokens.size() && computed > 0; }
};

}  // namespace tokenmill
