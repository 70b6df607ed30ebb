#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "peak_kernels.h"
#include "read_kernels.h"
#include "team.h"

// The machine's own limits, with so many threads at once: the best of many short trials, for other processes
// interrupt the long ones.

namespace tokenmill::bench {

/// One kind of arithmetic, all threads together.
struct ArithmeticLimit {
  std::string kernel;
  double operations_per_second = 0;
  double per_cycle = 0;  // counted instructions a cycle and thread
  double issue_rate = 0;  // per_cycle to the nearest half; 0: this is no peak
  double clock_ghz = 0;
};

struct ReadLimit {
  std::string kernel;
  size_t ahead = 0;  // bytes
  size_t bytes = 0;
  double bytes_per_second = 0;
  double plain_bytes_per_second = 0;  // without software prefetch
};

inline constexpr double kTrialSeconds = 0.001;

/// Repetitions of a loop that counts `length` that take a trial's time.
inline int64_t IterationsOf(int length) { return static_cast<int64_t>(kTrialSeconds * 3e9 / length); }

/// The most that `run` counts in a second of a thread, of the trials so far; 0 without one of all threads together.
class BestRate {
 public:
  BestRate(void (*run)(int64_t), int length) : run_(run), length_(length) {}

  void Try(Team& team) {
    const int64_t iterations = IterationsOf(length_);
    const Trial trial = team.Run([&](int) { run_(iterations); });
    if (trial.together) rate_ = std::max(rate_, static_cast<double>(iterations * length_) / trial.seconds);
  }

  double rate() const { return rate_; }

 private:
  void (*run_)(int64_t);
  int length_;
  double rate_ = 0;
};

/// The fastest of the kernels. The clock may change while it is measured: the chain of additions that tells it and
/// the kernels take turns. Where the threads do not run together for long, the result is zero.
inline ArithmeticLimit MeasureArithmetic(Team& team, const std::vector<PeakKernel>& kernels, double seconds) {
  BestRate chain(RunAddChain, kChainAdds);
  std::vector<BestRate> rates;
  for (const PeakKernel& kernel : kernels) rates.emplace_back(kernel.run, kernel.per_iteration);
  const auto complete = [&] {
    return chain.rate() > 0 &&
           std::all_of(rates.begin(), rates.end(), [](auto& rate) { return rate.rate() > 0; });
  };
  const double begin = Seconds();
  for (int trial = 0; trial < 5 || Seconds() < begin + (complete() ? seconds : 5 * seconds); ++trial) {
    chain.Try(team);
    for (BestRate& rate : rates) rate.Try(team);
  }
  ArithmeticLimit best;
  best.kernel = kernels[0].name;
  best.clock_ghz = chain.rate() / 1e9;
  if (!complete()) return best;
  for (size_t i = 0; i < kernels.size(); ++i) {
    const double operations = rates[i].rate() * kernels[i].operations * team.threads();
    if (operations <= best.operations_per_second) continue;
    best.kernel = kernels[i].name;
    best.operations_per_second = operations;
    best.per_cycle = rates[i].rate() / chain.rate();
    best.issue_rate = kernels[i].is_peak ? std::round(best.per_cycle * 2) / 2 : 0;
  }
  return best;
}

/// Memory in large pages where the system gives them, written once. Aligned for every kernel; freed at the end.
class ReadMemory {
 public:
  explicit ReadMemory(size_t bytes) : bytes_(std::max<size_t>(bytes / kChunk, 1) * kChunk) {
    data_ = static_cast<uint8_t*>(std::aligned_alloc(kChunk, bytes_));
    if (!data_) return;
#if defined(__linux__)
    (void)madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
    std::memset(data_, 1, bytes_);
  }

  ~ReadMemory() { std::free(data_); }
  ReadMemory(const ReadMemory&) = delete;
  ReadMemory& operator=(const ReadMemory&) = delete;

  const uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  size_t chunks() const { return bytes_ / kChunk; }

  static constexpr size_t kChunk = size_t{1} << 18;

 private:
  const size_t bytes_;
  uint8_t* data_ = nullptr;
};

/// Chunks are claimed, so that a thread that is interrupted does not hold up the others.
inline double ReadSeconds(Team& team, const ReadMemory& memory, const ReadVariant& variant) {
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> sum{0};
  const Trial trial = team.Run([&](int) {
    uint64_t own = 0;
    for (size_t chunk; (chunk = next.fetch_add(1)) < memory.chunks();) {
      own += variant.run(memory.data() + chunk * ReadMemory::kChunk, ReadMemory::kChunk, variant.ahead);
    }
    sum.fetch_add(own);
  });
  return trial.seconds;
}

/// The best of all variants, tried in turn so that each sees the memory in every state.
inline ReadLimit MeasureRead(Team& team, const ReadMemory& memory, double seconds) {
  ReadLimit best;
  best.bytes = memory.bytes();
  const double end = Seconds() + seconds;
  for (int pass = 0; pass < 3 || Seconds() < end; ++pass) {
    for (const ReadVariant& variant : ReadVariants()) {
      const double speed = static_cast<double>(memory.bytes()) / ReadSeconds(team, memory, variant);
      if (pass == 0) continue;
      if (variant.ahead == 0) best.plain_bytes_per_second = std::max(best.plain_bytes_per_second, speed);
      if (speed <= best.bytes_per_second) continue;
      best.bytes_per_second = speed;
      best.kernel = variant.name;
      best.ahead = variant.ahead;
    }
  }
  return best;
}

inline void PrintArithmetic(const char* name, const ArithmeticLimit& limit) {
  std::printf(
      "\"%s\":{\"kernel\":\"%s\",\"operationsPerSecond\":%.4g,\"perCycle\":%.3f,\"issueRate\":%.1f,"
      "\"clockGhz\":%.3f}",
      name, limit.kernel.c_str(), limit.operations_per_second, limit.per_cycle, limit.issue_rate,
      limit.clock_ghz);
}

/// One line of JSON.
inline void PrintLimits(int threads, const ArithmeticLimit& integer, const ArithmeticLimit& real,
                        const ReadLimit& read) {
  std::printf("{\"threads\":%d,", threads);
  PrintArithmetic("integer", integer);
  std::printf(",");
  PrintArithmetic("float", real);
  std::printf(
      ",\"read\":{\"kernel\":\"%s\",\"ahead\":%zu,\"bytes\":%zu,\"bytesPerSecond\":%.4g,"
      "\"plainBytesPerSecond\":%.4g}}\n",
      read.kernel.c_str(), read.ahead, read.bytes, read.bytes_per_second, read.plain_bytes_per_second);
}

}  // namespace tokenmill::bench
