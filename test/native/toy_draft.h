#pragma once

// A draft model whose guesses are known, beside toy_model.h.

#include "toy_model.h"

namespace tokenmill {

/// How a toy draft behaves, and what it was asked for.
struct ToyDraft {
  std::vector<KvGroup> groups = {{0, 1}};
  std::function<Token(std::span<const Token>)> next = NextToken;
  std::function<void(size_t rows)> passes = [](size_t) {};  // its time
  bool fails = false;
  bool refuses_memory = false;
  std::set<Token> poisoned;  // a sequence that begins so gives NaN
  size_t steps = 0, rows_most = 0, sequences_most = 0;
};

class ToyExecutor final : public Executor {
 public:
  explicit ToyExecutor(ToyDraft* draft) : draft_(draft), model_(&draft->groups) {}

  Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource&) const override {
    return Status(Code::kInternal, "a draft has no adapters");
  }
  Status LoadWeights(const WeightSource&) override { return {}; }
  Result<std::unique_ptr<Executor>> Twin(int max_rows) const override {
    return std::unique_ptr<Executor>(std::make_unique<ToyExecutor>(draft_));
  }
  Status Run(const StepInput& input, StepResult* result) override {
    ++draft_->steps;
    draft_->rows_most = std::max(draft_->rows_most, input.tokens.size());
    draft_->sequences_most = std::max(draft_->sequences_most, input.sequences.size());
    model_.next = draft_->next;
    model_.poisoned = draft_->poisoned;
    model_.fails = draft_->fails;
    model_.Run(input, result);
    draft_->passes(input.tokens.size());
    return draft_->fails ? Error(Code::kInternal, "a step of the draft failed") : Status();
  }
  size_t PageBytes(int group) const override { return model_.PageBytes(group); }
  Status AddSlab(int group, int slab, int pages) override {
    if (draft_->refuses_memory) return Status(Code::kOutOfMemory, "refused");
    return model_.AddSlab(group, slab, pages);
  }
  void RemoveSlab(int group, int slab) override { model_.RemoveSlab(group, slab); }
  void CopyPage(int group, PageId from, PageId to) override { model_.CopyPage(group, from, to); }
  void ReadPage(int, PageId, int, std::byte*) const override {}
  void WritePage(int, PageId, const std::byte*) override {}
  size_t weight_bytes() const override { return 0; }
  size_t scratch_bytes() const override { return 0; }

 private:
  ToyDraft* const draft_;
  ToyModel model_;
};

/// A draft with so many pages of its last group, for a rig's sequences.
struct DraftRig {
  DraftRig(ToyDraft* toy, Rig* rig, size_t pages = 4096, int context = 400) {
    source.name = "toy";
    source.tokenizer = rig->tokenizer;
    source.groups = toy->groups;
    source.executor = std::make_shared<ToyExecutor>(toy);
    source.context_length = context;
    SetPages(pages);
    rig->drafter = Drafter::Open(source, *rig->tokenizer, [rig] { return rig->now; }).value();
  }

  void SetPages(size_t pages) const {
    source.kv_bytes->store(pages * source.executor->PageBytes(static_cast<int>(source.groups.size()) - 1));
  }

  DraftSource source;
};

}  // namespace tokenmill
