// What the emulator must find: small kernels with one fault each, and their correct twins, in which it must
// find none.
// backends: emu ptx

#include "emulator.h"

#include "gpu_test.h"

using namespace gpu_test;
using tokenmill::Code;
using tokenmill::cuda::EmulatorParams;
using tokenmill::cuda::EmuStats;

namespace {

constexpr int kThreads = 64;
const std::vector<std::string> kUnordered = {"race", "uninitialized"};

struct Run {
  const char* kernel;
  int fault = 0;
  int blocks = 2;
  int in = 2 * kThreads;  // elements
  int out = 2 * kThreads;
  int shared_bytes = 2 * kThreads * 4;
  bool in_undefined = false;
};

struct Outcome {
  Status status;
  std::vector<float> out;
};

/// in[i] = i.
Outcome RunKernel(const Run& run, uint64_t seed) {
  auto driver = NewTestDriver({.seed = seed});
  std::vector<float> in(static_cast<size_t>(run.in));
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  DeviceBuffer<float> x(*driver, in.size()), y(*driver, static_cast<size_t>(run.out));
  DeviceBuffer<uint32_t> counter(*driver, std::vector<uint32_t>{0});
  if (!run.in_undefined) x.Upload(in);
  const LaunchShape shape = {.grid_x = static_cast<unsigned>(run.blocks),
                             .threads = kThreads,
                             .shared_bytes = static_cast<size_t>(run.shared_bytes)};
  Outcome outcome;
  outcome.status = driver->Launch(run.kernel, shape,
                                  EmulatorParams{x.data(), y.data(), run.in, run.fault, counter.data()});
  if (outcome.status.ok()) outcome.status = driver->Synchronize(Stream::kStep);
  if (outcome.status.ok()) outcome.out = y.Download();
  return outcome;
}

uint64_t SeedCount() { return static_cast<uint64_t>(std::max(Seeds(), 5)); }

/// The run ends with a fault whose report contains one of `words`, whatever the schedule.
void ExpectFault(const Run& run, const std::vector<std::string>& words) {
  for (uint64_t seed = 1; seed <= SeedCount(); ++seed) {
    const Status status = RunKernel(run, seed).status;
    bool found = false;
    for (const std::string& word : words) found = found || status.message().find(word) != std::string::npos;
    found = found && status.code() == Code::kInternal;
    if (!found)
      std::printf("    %s fault %d seed %zu: \"%s\"\n", run.kernel, run.fault, static_cast<size_t>(seed),
                  status.message().c_str());
    EXPECT(found);
    if (std::getenv("GPU_SHOW_FAULTS") != nullptr) std::printf("    %s\n", status.message().c_str());
    if (!found) return;
  }
}

template <class Expected>
void ExpectNone(const Run& run, const Expected& expected) {
  for (uint64_t seed = 1; seed <= SeedCount(); ++seed) {
    const Outcome outcome = RunKernel(run, seed);
    if (!outcome.status.ok()) std::printf("    %s\n", outcome.status.message().c_str());
    EXPECT(outcome.status.ok());
    if (!outcome.status.ok()) return;
    for (int i = 0; i < run.out; ++i) {
      const float want = expected(i);
      if (!std::isnan(want)) EXPECT_EQ(outcome.out[static_cast<size_t>(i)], want);
    }
  }
}

float Backwards(int i) { return static_cast<float>(i / kThreads * kThreads + kThreads - 1 - i % kThreads); }
float Whatever(int) { return NAN; }

}  // namespace

TEST(finds_a_missing_block_barrier) {
  ExpectNone({"emulator_reverse"}, Backwards);
  ExpectFault({"emulator_reverse", 1}, kUnordered);
  ExpectNone({"emulator_rotate_block"}, Whatever);
  ExpectFault({"emulator_rotate_block", 1}, kUnordered);
}

TEST(finds_missing_warp_barriers) {
  ExpectNone({"emulator_rotate_warp"}, [](int i) { return static_cast<float>(i / 32 * 32 + (i + 4) % 32); });
  ExpectFault({"emulator_rotate_warp", 1}, kUnordered);
  ExpectFault({"emulator_rotate_warp", 2}, {"race"});
  ExpectNone({"emulator_load_matrix", 0, 2, 128, 128, 1024}, Whatever);
  ExpectFault({"emulator_load_matrix", 1, 2, 128, 128, 1024}, {"race"});
}

TEST(shuffles_order_no_memory) {
  ExpectNone({"emulator_shuffle_orders"}, [](int) { return 0.0f; });
  ExpectFault({"emulator_shuffle_orders", 1}, kUnordered);
}

TEST(judges_single_bytes) {
  ExpectNone({"emulator_store_bytes"}, [](int i) { return i % 64 == 9 ? NAN : static_cast<float>(i % 64); });
  ExpectFault({"emulator_store_bytes", 1}, {"race"});
}

TEST(finds_stray_accesses) {
  const Run run = {"emulator_stray_access", 0, 1};
  const auto faulty = [&](int fault) {
    Run wrong = run;
    wrong.fault = fault;
    return wrong;
  };
  ExpectNone(run, Whatever);
  ExpectFault(faulty(1), {"read outside of any allocation"});
  ExpectFault(faulty(2), {"read outside of any allocation"});
  ExpectFault(faulty(3), {"write outside of any allocation"});
  ExpectFault(faulty(4), {"outside of the block's"});
  ExpectFault(faulty(5), {"write of 4 bytes at", "race"});
  // nvcc may leave out what is undefined.
  if (Backend() == "emu") ExpectFault(faulty(6), {"neither device nor shared memory"});
  for (int fault : {7, 8}) ExpectFault(faulty(fault), {"misaligned"});
}

TEST(finds_uninitialized_memory) {
  ExpectNone({"emulator_read_undefined", 0, 1, 64, 64}, Whatever);
  ExpectFault({"emulator_read_undefined", 1, 1, 64, 64}, {"uninitialized"});
  ExpectFault({"emulator_read_undefined", 2, 1, 64, 64, 512, true}, {"uninitialized"});
}

TEST(finds_wrong_asynchronous_copies) {
  ExpectNone({"emulator_copy_async", 0, 1}, [](int i) { return static_cast<float>(2 * kThreads - 1 - i); });
  for (int fault : {1, 2, 3})
    ExpectFault({"emulator_copy_async", fault, 1}, {"under way", "uninitialized", "race"});
  ExpectFault({"emulator_copy_async", 4, 1}, {"under way", "uninitialized", "race"});
  ExpectFault({"emulator_copy_async", 5, 1}, {"misaligned"});
  ExpectFault({"emulator_copy_async", 6, 1}, {"under way"});
  ExpectFault({"emulator_copy_async", 7, 1}, {"under way"});
  ExpectFault({"emulator_copy_async", 8, 1}, {"the source of a cp.async changed"});
  ExpectFault({"emulator_copy_async", 0, 1, 128, 128, 512, true}, {"uninitialized"});
}

TEST(finds_a_buffer_filled_too_early) {
  const Run run = {"emulator_double_buffer", 0, 1, 5 * kThreads, kThreads};
  ExpectNone(run, [](int i) { return static_cast<float>(5 * ((i + 33) % 64) + 640); });
  ExpectFault({"emulator_double_buffer", 1, 1, 5 * kThreads, kThreads}, {"race", "under way"});
}

TEST(finds_divergence) {
  ExpectNone({"emulator_diverge", 0, 1, 64, 64}, [](int i) { return static_cast<float>(i ^ 1); });
  const auto expect = [](int fault, const std::vector<std::string>& words) {
    ExpectFault({"emulator_diverge", fault, 1, 64, 64}, words);
  };
  expect(1, {"exits while", "has exited"});
  expect(2, {"sync_block while others wait at another one", "exits while", "has exited"});
  expect(3, {"exits while", "has exited"});
  expect(4, {"at another collective"});
  expect(5, {"wait for each other", "another one", "exits while"});
  expect(6, {"shuffle_xor while others wait at another one", "shuffle while others wait at another one"});
}

TEST(finds_missing_fences_between_blocks) {
  for (int right : {0, 7}) {
    const Run run = {"emulator_sum_blocks", right, 5, 5 * kThreads, 5 * kThreads + 1, 128};
    ExpectNone(run, [](int i) { return i == 0 ? 320.0f * 319 : static_cast<float>(2 * (i - 1)); });
  }
  for (int fault : {1, 2, 3, 4, 5, 6}) {
    ExpectFault({"emulator_sum_blocks", fault, 5, 5 * kThreads, 5 * kThreads + 1, 128},
                {"race", "uninitialized"});
  }
}

TEST(finds_races_between_blocks) {
  ExpectNone({"emulator_share_global"}, [](int) { return 1.0f; });
  ExpectFault({"emulator_share_global", 1}, {"race"});
  ExpectFault({"emulator_share_global", 2}, {"race"});
}

TEST(counts_bank_conflicts) {
  if (Backend() != "emu") return;  // nvcc joins loads into wider ones
  for (int fault : {0, 1}) {
    auto driver = NewTestDriver();
    DeviceBuffer<float> y(*driver, 32);
    if (!GPU_OK(*driver, driver->Launch("emulator_read_columns", {.threads = 32, .shared_bytes = 13 * 1024},
                                        EmulatorParams{nullptr, y.data(), 0, fault, nullptr})))
      return;
    const EmuStats stats = EmuStatsOf(*driver, "emulator_read_columns");
    EXPECT_EQ(stats.launches, 1u);
    // 32 reads of a column of 32 rows that start in one bank, and four matrices of 8 such rows.
    EXPECT_EQ(stats.bank_conflicts, fault == 1 ? 32u * 31 + 4 * 7 : 0u);
  }
}

TEST(reports_where) {
  if (!Emulated()) return;
  const std::string message = RunKernel({"emulator_rotate_warp", 2}, 1).status.message();
  EXPECT(message.find("emulator_rotate_warp: race: ") == 0);
  EXPECT(message.find(Backend() == "ptx" ? ".ptx:" : "emulator.cu:") != std::string::npos);
}

HARNESS_MAIN()
