#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tokenmill {

/// Finds stop strings in text that comes in pieces. Text that may be the beginning of a stop string is held
/// back, so that none is ever given out in part.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Appends to `out` what is certain not to belong to a stop string; true when one is complete, with the text
  /// before the earliest. Stop strings are not empty.
  bool Push(std::string_view piece, std::string* out);

  /// What is still held back when the text ends without a stop string.
  std::string Finish();

 private:
  const std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace tokenmill
