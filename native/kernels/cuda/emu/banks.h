#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

// Bank conflicts of shared memory. Lanes of a warp run one after the other here; what they would have done
// together is found afterwards, between two collectives, by bringing the lanes' sequences of instructions
// into line. 32 banks of 4 bytes; a request of 4 bytes a lane is served for 32 lanes at once, of 8 for 16, of
// 16 for 8 (a matrix of ldmatrix is such a group). A group takes as many wavefronts as the busiest bank has
// different words.

namespace tokenmill::cuda::emu {

struct BankCount {
  uint64_t groups = 0;  // the wavefronts without any conflict
  uint64_t wavefronts = 0;
};

/// By instruction, as PackSite gives it.
using BankCounts = std::unordered_map<uint32_t, BankCount>;

class BankLog {
 public:
  void Add(int lane, uint32_t site, size_t offset, size_t bytes, bool write) {
    if (bytes > 16 || lanes_[lane].size() >= kRequestsMax) return;
    empty_ = false;
    lanes_[lane].push_back({site, static_cast<uint32_t>(offset), static_cast<uint8_t>(bytes), write});
  }
  /// Counts what the lanes did since the last time.
  void Flush(BankCounts* counts);

 private:
  static constexpr size_t kRequestsMax = 1 << 16;
  struct Request {
    uint32_t site, offset;
    uint8_t bytes;
    bool write;
  };

  static void MergeVectors(std::vector<Request>* requests);
  /// Of the instructions at which lanes are, each `next[lane]` requests on, the one that is done first.
  uint32_t FirstSite(const size_t (&next)[32]) const;
  /// How many requests of a lane come before one at an instruction where another lane is.
  size_t StepsToOthers(int lane, const size_t (&next)[32]) const;
  static void Count(const Request* const (&requests)[32], BankCounts* counts);

  bool empty_ = true;
  std::vector<Request> lanes_[32];
};

}  // namespace tokenmill::cuda::emu
