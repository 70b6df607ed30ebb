#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/backend.h"
#include "ops/program.h"
#include "tokenizer/tokenizer.h"

namespace tokenmill {

/// A loaded model as others may guess with it. From any thread; it outlives its engine where a request refers to it.
struct DraftSource {
  std::string name;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<KvGroup> groups;
  std::shared_ptr<const Executor> executor;  // whose twins guess
  int threads = 1;
  int context_length = 0;
  bool prefix_cache = true;
  /// What keys and values of those that guess with it may take, each: as much as its own memory budget leaves for its
  /// own ones.
  std::shared_ptr<std::atomic<uint64_t>> kv_bytes = std::make_shared<std::atomic<uint64_t>>(0);
};

/// Incompatible, with what was found, when a draft's tokens are not the target's, id by id.
Status CheckVocabulary(const Tokenizer& target, const DraftSource& draft);

}  // namespace tokenmill
