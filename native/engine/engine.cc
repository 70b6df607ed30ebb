#include "engine/engine.h"

#include <chrono>
#include <new>

namespace tokenmill {
namespace {

template <class Body>
Code Attempt(const Body& body) noexcept {
  try {
    body();
    return Code::kOk;
  } catch (const std::bad_alloc&) {
    return Code::kOutOfMemory;
  } catch (...) {
    return Code::kInternal;
  }
}

}  // namespace

void Engine::Channel::Push(Command&& command) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(command));
  }
  ready_.notify_one();
}

void Engine::Channel::Close() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  ready_.notify_one();
}

std::vector<Engine::Command> Engine::Channel::Take(Clock::time_point until, bool* closed) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto ready = [this] { return closed_ || !queue_.empty(); };
  if (until == kWhenever) {
    ready_.wait(lock, ready);
  } else if (until != kAtOnce) {
    ready_.wait_until(lock, until, ready);
  }
  *closed = closed_;
  return std::exchange(queue_, {});
}

Engine::~Engine() {
  stopping_.store(true);
  intake_.Close();
  if (intake_thread_.joinable()) intake_thread_.join();
  commands_.Close();
  if (step_thread_.joinable()) step_thread_.join();
  transfers_.reset();
  scheduler_.reset();
  prefix_.reset();
  pool_.reset();
}

ClientId Engine::AddClient(std::shared_ptr<EventSink> sink) {
  const std::lock_guard<std::mutex> lock(sinks_mutex_);
  sinks_[next_client_] = std::move(sink);
  return next_client_++;
}

void Engine::RemoveClient(ClientId client, Status reason) {
  Command command(Command::Kind::kRemove, client);
  command.reason = std::move(reason);
  intake_.Push(std::move(command));
}

void Engine::Submit(ClientId client, Request request) {
  WaitingRoom::Place waiting = waiting_room_->Enter();
  if (!waiting.taken()) return commands_.Push({Command::Kind::kOverloaded, client, request.id});
  Command command(Command::Kind::kSubmit, client, request.id);
  if (request.deadline) {
    // Past the intake thread: the deadline holds also while that is busy with prompts.
    Command expect(Command::Kind::kExpect, client, request.id);
    expect.deadline = command.at + *request.deadline;
    commands_.Push(std::move(expect));
  }
  command.request = std::move(request);
  command.waiting = std::move(waiting);
  intake_.Push(std::move(command));
}

void Engine::Cancel(ClientId client, RequestId id) { intake_.Push({Command::Kind::kCancel, client, id}); }

void Engine::AddCredits(ClientId client, RequestId id, int64_t credits) {
  intake_.Push({Command::Kind::kCredits, client, id, credits});
}

void Engine::SetMemoryBudget(ClientId client, RequestId id, const MemoryBudget& budget) {
  Command command(Command::Kind::kBudget, client, id);
  command.budget = budget;
  commands_.Push(std::move(command));  // past the intake thread, which may be busy with prompts
}

void Engine::ForkHold(ClientId client, HoldId hold, HoldId copy) {
  Command command(Command::Kind::kForkHold, client);
  command.hold = hold;
  command.copy = copy;
  intake_.Push(std::move(command));
}

void Engine::ReleaseHold(ClientId client, HoldId hold) {
  Command command(Command::Kind::kReleaseHold, client);
  command.hold = hold;
  intake_.Push(std::move(command));
}

void Engine::ExportHold(ClientId client, RequestId id, HoldId hold, std::string state, std::string adapters) {
  Command command(Command::Kind::kExport, client, id);
  command.hold = hold;
  command.text = std::move(state);
  command.adapter_key = std::move(adapters);
  intake_.Push(std::move(command));
}

void Engine::ImportHold(ClientId client, RequestId id, HoldId hold, std::shared_ptr<const Snapshot> snapshot,
                        std::string cache_salt, std::string adapters) {
  Command command(Command::Kind::kImport, client, id);
  command.hold = hold;
  command.snapshot = std::move(snapshot);
  command.text = std::move(cache_salt);
  command.adapter_key = std::move(adapters);
  intake_.Push(std::move(command));
}

Result<AdapterInfo> Engine::LoadAdapter(ClientId client, const AdapterSpec& spec) {
  return adapters_->Load(client, [stored = specs_.Put(spec), model = model_.get()] {
    return OpenAdapter(stored.Get(), *model);
  });
}

void Engine::ReleaseAdapter(ClientId client, AdapterId id) { adapters_->Release(client, id); }

EngineStats Engine::Stats() const {
  const AdapterStats adapters = adapters_->Stats();
  const std::lock_guard<std::mutex> lock(stats_mutex_);
  EngineStats stats = stats_;
  stats.adapters = adapters;
  return stats;
}

std::vector<Token> Engine::Encode(const std::vector<PromptPiece>& pieces, bool bos) const {
  const Tokenizer& tokenizer = *model_->tokenizer;
  std::vector<Token> tokens;
  if (bos && tokenizer.spec().bos >= 0) tokens.push_back(tokenizer.spec().bos);
  for (const PromptPiece& piece : pieces) {
    const Token special = piece.special ? tokenizer.Find(piece.text) : -1;
    if (special >= 0) {
      tokens.push_back(special);
    } else {
      tokenizer.Encode(piece.text, {}, &tokens);
    }
  }
  return tokens;
}

// Turns a request's text into tokens. Text that must exceed the context whatever its tokens are is refused unread:
// cancels and credits wait behind it.
void Engine::Tokenize(Command* command) const {
  const size_t limit = static_cast<size_t>(context_length_);
  if (command->request.tokens) {
    command->prompt = *std::exchange(command->request.tokens, std::nullopt);
    if (command->prompt.size() > limit) {
      command->reason = Error(Code::kContextOverflow, "the prompt has %zu tokens; the context has %d",
                              command->prompt.size(), context_length_);
    }
    return;
  }
  size_t bytes = 0;
  for (const PromptPiece& piece : command->request.pieces) bytes += piece.text.size();
  if (bytes / token_bytes_max_ > limit) {
    command->reason = Error(Code::kContextOverflow, "the prompt has at least %zu tokens; the context has %d",
                            bytes / token_bytes_max_, context_length_);
    return;
  }
  command->prompt = Encode(command->request.pieces, command->request.bos);
  command->request.pieces.clear();
}

// A request has the drafter from here on, not the draft model, whose end it does not hold up.
Status Engine::FindDrafter(Request* request) {
  const auto source = std::exchange(request->draft, nullptr);
  if (source == nullptr) return {};
  TM_ASSIGN_OR_RETURN(request->drafter, drafters_.Get(source, *model_->tokenizer));
  return {};
}

Status Engine::OpenAdapters(Command* command) {
  if (command->request.adapters.empty()) return {};
  TM_ASSIGN_OR_RETURN(command->adapters, adapters_->Open(command->client, command->request.adapters));
  return {};
}

// What may take long or read files: not on the event loop, nor on the loop thread.
void Engine::Prepare(Command* command) {
  if (command->kind == Command::Kind::kSubmit) Tokenize(command);
  if (command->kind == Command::Kind::kExport) command->reason = IdentifySnapshots().status();
  if (command->reason.ok()) command->reason = FindDrafter(&command->request);
  if (command->reason.ok()) command->reason = OpenAdapters(command);
}

// Prepares commands and passes them on in order.
void Engine::IntakeLoop() {
  Clock::time_point until = kWhenever;
  for (bool closed = false; !closed; until = drafters_.Expire(Clock::now())) {
    for (Command& command : intake_.Take(until, &closed)) {
      if (stopping_.load()) return;
      const Code failure = Attempt([&] { Prepare(&command); });
      if (failure != Code::kOk)
        Insist([&] { command.reason = Error(failure, "the request was not prepared"); });
      Insist([&] { commands_.Push(std::move(command)); });
    }
  }
}

void Engine::StepLoop() {
  std::optional<StepPlan> plan;
  Insist([&] { plan.emplace(threads_); });
  StepResult result;
  Clock::time_point until = kWhenever;
  for (bool closed = false;;) {
    for (Command& command : commands_.Take(until, &closed)) {
      if (stopping_.load()) return;
      const Code failure = Attempt([&] { Apply(&command); });
      if (failure != Code::kOk) Insist([&] { Answer(&command, failure); });
    }
    if (stopping_.load()) return;
    const Code failure = Attempt([&] {
      until = kAtOnce;
      const auto deadline = scheduler_->Expire();
      const bool copied = transfers_->Advance();
      if (!RunStep(&*plan, &result) && !copied) until = deadline.value_or(kWhenever);
    });
    if (failure == Code::kOk) {
      Insist([&] { DeliverEvents(); });  // events stay until there is memory for them
      continue;
    }
    Insist([&] {
      scheduler_->EndAll(Error(failure, failure == Code::kOutOfMemory
                                            ? "the system refused memory that a step needed"
                                            : "a step failed"));
      DeliverEvents();
    });
  }
}

// Tries again until there is memory: what waits for an answer must get one.
template <class Body>
void Engine::Insist(Body body) const {
  while (Attempt(body) != Code::kOk && !stopping_.load())
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

bool Engine::RunStep(StepPlan* plan, StepResult* result) {
  if (!scheduler_->Plan(plan)) return false;
  const Status status = executor_->Run(plan->Input(), result);
  scheduler_->Finish(*plan, *result, status);
  pool_->TrimCached();
  if (!integrity_) return true;
  if (const std::string finding = CheckIntegrity(); !finding.empty())
    scheduler_->EndAll(Error(Code::kInternal, "the KV cache is inconsistent: %s", finding.c_str()));
  return true;
}

std::string Engine::CheckIntegrity() const {
  std::string finding = pool_->CheckIntegrity();
  if (finding.empty()) finding = scheduler_->CheckIntegrity();
  if (finding.empty() && prefix_) finding = prefix_->CheckIntegrity();
  return finding;
}

void Engine::Apply(Command* command) {
  switch (command->kind) {
    case Command::Kind::kExpect:
      scheduler_->Expect(command->client, command->id, command->deadline);
      break;
    case Command::Kind::kSubmit:
      if (command->reason.ok()) {
        scheduler_->Submit(command->client, std::move(command->request), std::move(command->prompt),
                           command->at, std::move(command->waiting), std::move(command->adapters));
      } else {
        scheduler_->Refuse(command->client, command->id, command->reason);
      }
      break;
    case Command::Kind::kOverloaded:
      scheduler_->Refuse(
          command->client, command->id,
          Error(Code::kOverloaded,
                "%d requests wait already, as many as maxQueue allows. Try again later, or load "
                "the model with a larger maxQueue",
                waiting_room_->places()));
      break;
    case Command::Kind::kCancel:
      scheduler_->Cancel(command->client, command->id);
      transfers_->End(command->client, command->id, Error(Code::kAborted, "it was cancelled"));
      break;
    case Command::Kind::kCredits:
      scheduler_->AddCredits(command->client, command->id, command->credits);
      break;
    case Command::Kind::kBudget:
      scheduler_->Answer(command->client, command->id, ApplyBudget(command->budget));
      break;
    case Command::Kind::kForkHold:
      scheduler_->held().Fork({command->client, command->hold}, {command->client, command->copy});
      break;
    case Command::Kind::kReleaseHold:
      scheduler_->held().Release({command->client, command->hold});
      break;
    case Command::Kind::kExport:
    case Command::Kind::kImport:
      StartTransfer(command);
      break;
    case Command::Kind::kRemove: {
      transfers_->End(command->client, std::nullopt, command->reason);
      scheduler_->EndAll(command->client, command->reason);
      scheduler_->held().ReleaseAll(command->client);
      adapters_->ReleaseAll(command->client);
      DeliverEvents();
      const std::lock_guard<std::mutex> lock(sinks_mutex_);
      sinks_.erase(command->client);
      break;
    }
  }
}

void Engine::StartTransfer(Command* command) {
  const auto identity =
      command->reason.ok() ? IdentifySnapshots() : Result<SnapshotIdentity>(command->reason);
  if (!identity.ok()) return scheduler_->Refuse(command->client, command->id, identity.status());
  if (command->kind == Command::Kind::kExport) {
    transfers_->Export(command->client, command->id, command->hold, identity.value(),
                       std::move(command->text), std::move(command->adapter_key));
  } else {
    transfers_->Import(command->client, command->id, command->hold, std::move(command->snapshot),
                       identity.value(), {std::move(command->text), std::move(command->adapter_key)});
  }
}

// Settles what a command that failed was about.
void Engine::Answer(Command* command, Code failure) {
  if (command->kind == Command::Kind::kExpect) return;  // its request is yet to come
  if (command->kind == Command::Kind::kForkHold) return;  // the copy is computed anew
  // What is to end is not told twice: it has ended, or it is there yet.
  if (command->kind == Command::Kind::kRemove || command->kind == Command::Kind::kCancel)
    return Apply(command);
  if (command->kind == Command::Kind::kBudget) {
    return scheduler_->Answer(command->client, command->id,
                              Error(failure, "the system refused memory to change the budget with"));
  }
  scheduler_->Refuse(command->client, command->id,
                     Error(failure, "the system refused memory that a request needed"));
}

// One call a client, whatever the number of its sequences.
void Engine::DeliverEvents() {
  PublishStats();
  scheduler_->HandOver([this](ClientId client, std::vector<Event>&& events) {
    std::shared_ptr<EventSink> sink;
    {
      const std::lock_guard<std::mutex> lock(sinks_mutex_);
      const auto found = sinks_.find(client);
      if (found != sinks_.end()) sink = found->second;
    }
    if (sink) sink->Deliver(std::move(events));
  });
}

void Engine::PublishStats() {
  EngineStats stats;
  stats.scheduler = scheduler_->Stats();
  for (int g = 0; g < pool_->groups(); ++g) {
    stats.pages_used += pool_->used(g);
    stats.pages_cached += pool_->cached(g);
    stats.pages_free += pool_->free(g);
  }
  stats.pages_evicted = pool_->evicted();
  stats.pages_maximum = pool_->Maximum();
  stats.weight_bytes = executor_->weight_bytes();
  stats.kv_bytes = pool_->committed_bytes();
  stats.scratch_bytes = executor_->scratch_bytes();
  stats.budget_bytes = budget_bytes_;
  const std::lock_guard<std::mutex> lock(stats_mutex_);
  stats_ = stats;
}

}  // namespace tokenmill
