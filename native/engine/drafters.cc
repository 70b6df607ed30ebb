#include "engine/drafters.h"

#include <algorithm>

namespace tokenmill {

Result<std::shared_ptr<Drafter>> Drafters::Get(const std::shared_ptr<const DraftSource>& source,
                                               const Tokenizer& target) {
  for (Entry& entry : entries_) {
    if (entry.source.lock() == source) return entry.drafter;
  }
  TM_ASSIGN_OR_RETURN(std::shared_ptr<Drafter> drafter, Drafter::Open(*source, target));
  entries_.push_back({source, drafter, Clock::now()});
  return drafter;
}

Clock::time_point Drafters::Expire(Clock::time_point now) {
  std::erase_if(entries_, [now](Entry& entry) {
    if (entry.drafter.use_count() > 1) {
      entry.used = now;
      return false;
    }
    return entry.source.expired() || now - entry.used >= kLinger;
  });
  if (entries_.empty()) return Clock::time_point::max();
  return std::ranges::min_element(entries_, {}, &Entry::used)->used + kLinger;
}

}  // namespace tokenmill
