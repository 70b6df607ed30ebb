#include "kernels/cuda/emu/banks.h"

#include <algorithm>
#include <utility>

namespace tokenmill::cuda::emu {
namespace {

constexpr int kLanes = 32;
constexpr int kBanks = 32;

}  // namespace

void BankLog::Flush(BankCounts* counts) {
  if (empty_) return;
  empty_ = true;
  for (auto& lane : lanes_) MergeVectors(&lane);
  size_t next[kLanes] = {};
  for (;;) {
    int begun = -1;
    bool alike = true;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (next[lane] == lanes_[lane].size()) continue;
      if (begun < 0) begun = lane;
      alike = alike && lanes_[lane][next[lane]].site == lanes_[begun][next[begun]].site;
    }
    if (begun < 0) break;
    const uint32_t site = alike ? lanes_[begun][next[begun]].site : FirstSite(next);
    const Request* requests[kLanes] = {};
    for (int lane = 0; lane < kLanes; ++lane) {
      if (next[lane] == lanes_[lane].size() || lanes_[lane][next[lane]].site != site) continue;
      requests[lane] = &lanes_[lane][next[lane]++];
    }
    Count(requests, counts);
  }
  for (auto& lane : lanes_) lane.clear();
}

uint32_t BankLog::FirstSite(const size_t (&next)[kLanes]) const {
  // Lanes that went round a loop once more come to where the others are sooner than the other way about.
  std::pair<size_t, uint32_t> first = {SIZE_MAX, UINT32_MAX};
  for (int lane = 0; lane < kLanes; ++lane) {
    if (next[lane] == lanes_[lane].size()) continue;
    first = std::min(first, {StepsToOthers(lane, next), lanes_[lane][next[lane]].site});
  }
  return first.second;
}

size_t BankLog::StepsToOthers(int lane, const size_t (&next)[kLanes]) const {
  constexpr size_t kStepsMax = 64;
  const std::vector<Request>& own = lanes_[lane];
  const size_t begin = next[lane];
  for (size_t steps = 1; steps < kStepsMax && begin + steps < own.size(); ++steps) {
    for (int other = 0; other < kLanes; ++other) {
      if (next[other] == lanes_[other].size()) continue;
      const uint32_t site = lanes_[other][next[other]].site;
      if (site != own[begin].site && site == own[begin + steps].site) return steps;
    }
  }
  return kStepsMax;
}

/// The host's compiler cuts a vector's load into loads of its elements, which follow each other.
void BankLog::MergeVectors(std::vector<Request>* requests) {
  size_t kept = 0;
  for (size_t i = 0; i < requests->size();) {
    Request whole = (*requests)[i];
    size_t n = 1;
    const size_t unit = whole.bytes;
    for (size_t wide = 16; wide > unit && unit >= 4 && n == 1; wide /= 2) {
      if (whole.offset % wide != 0 || i + wide / unit > requests->size()) continue;
      size_t fits = 1;
      for (; fits < wide / unit; ++fits) {
        const Request& next = (*requests)[i + fits];
        if (next.bytes != unit || next.write != whole.write || next.site == (*requests)[i + fits - 1].site ||
            next.offset != whole.offset + fits * unit)
          break;
      }
      if (fits == wide / unit) n = fits, whole.bytes = static_cast<uint8_t>(wide);
    }
    (*requests)[kept++] = whole;
    i += n;
  }
  requests->resize(kept);
}

void BankLog::Count(const Request* const (&requests)[kLanes], BankCounts* counts) {
  int bytes = 4;
  uint32_t site = 0;
  for (const Request* request : requests) {
    if (request == nullptr) continue;
    bytes = std::max<int>(bytes, request->bytes);
    site = request->site;
  }
  const int together = kLanes * 4 / bytes;
  BankCount& count = (*counts)[site];
  for (int first = 0; first < kLanes; first += together) {
    uint32_t words[kBanks][kLanes];  // different ones of each bank
    int used[kBanks] = {};
    int busiest = 0;
    for (int lane = first; lane < first + together; ++lane) {
      if (requests[lane] == nullptr) continue;
      const uint32_t begin = requests[lane]->offset / 4;
      const uint32_t end = (requests[lane]->offset + requests[lane]->bytes + 3) / 4;
      for (uint32_t word = begin; word < end; ++word) {
        uint32_t* in_bank = words[word % kBanks];
        int& n = used[word % kBanks];
        if (std::find(in_bank, in_bank + n, word) != in_bank + n) continue;
        in_bank[n++] = word;
        busiest = std::max(busiest, n);
      }
    }
    if (busiest == 0) continue;
    ++count.groups;
    count.wavefronts += static_cast<uint64_t>(busiest);
  }
}

}  // namespace tokenmill::cuda::emu
