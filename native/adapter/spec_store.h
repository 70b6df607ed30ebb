#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "adapter/adapter_spec.h"

namespace tokenmill {

/// An adapter's specification in few bytes: thousands are kept, to be opened again.
class StoredSpec {
 public:
  AdapterSpec Get() const;

 private:
  friend class SpecStore;

  std::string path_, architecture_;
  uint64_t file_bytes_ = 0;
  uint64_t start_ = 0;  // of the first factor in the file
  TargetNames names_ = TargetNames::kTensors;
  std::shared_ptr<const std::string> layout_;  // the entries, with offsets from there
};

/// Stores specifications. Those of adapters of one shape, saved by one program, have the same layout, which is
/// kept once as long as one of them is. Any thread.
class SpecStore {
 public:
  StoredSpec Put(const AdapterSpec& spec);

 private:
  std::mutex mutex_;
  std::map<uint64_t, std::weak_ptr<const std::string>> layouts_;  // by their hashes
};

}  // namespace tokenmill
