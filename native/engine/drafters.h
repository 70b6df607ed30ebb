#pragma once

#include <memory>
#include <vector>

#include "engine/drafter.h"

namespace tokenmill {

/// An engine's drafters, one a draft model. They stay a while when no request has them, for the next one. Belongs to
/// the intake thread, for one is compiled when it is first asked for.
class Drafters {
 public:
  static constexpr std::chrono::seconds kLinger{30};

  /// For a target with this tokenizer; Incompatible when the draft's is another.
  Result<std::shared_ptr<Drafter>> Get(const std::shared_ptr<const DraftSource>& source,
                                       const Tokenizer& target);
  /// Lets go of those that no request has had for kLinger, or whose model is gone. Returns when to look again.
  Clock::time_point Expire(Clock::time_point now);

 private:
  struct Entry {
    std::weak_ptr<const DraftSource> source;
    std::shared_ptr<Drafter> drafter;
    Clock::time_point used;  // it was seen to be
  };

  std::vector<Entry> entries_;
};

}  // namespace tokenmill
