// sources: kernels/cuda/*.cu quant/quant.cc core/dtype.cc
// backends: emu

// What docs/cuda.md's tables are made of, asked of the launchers themselves: how each kernel is launched
// (scripts/cuda-kernels.tsv) and what the launches of a model's steps move and compute (scripts/cuda-work.tsv).
// The committed files must say the same; with TOKENMILL_UPDATE set they are written.

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "harness.h"
#include "kernels/cuda/adapter.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/gated.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/pages.h"
#include "kernels/cuda/rope.h"
#include "paper_driver.h"

using namespace tokenmill;
using namespace tokenmill::cuda;
using gpu_test::PaperDriver;
using gpu_test::PaperLaunch;

namespace {

constexpr int kHeadDims[] = {16, 32, 64, 80, 96, 128, 256};

/// llama-1b, whose shapes the second table is for.
constexpr int kLayers = 16, kHidden = 2048, kFfn = 8192, kQueryHeads = 32, kKvHeads = 8, kHeadDim = 64;
constexpr int kVocabulary = 128256, kRank = 16, kHeadList = 64;
constexpr int kQueryWidth = kQueryHeads * kHeadDim, kKvWidth = kKvHeads * kHeadDim;

MatmulArgs ProductOf(WeightForm form, MatmulPrecision precision, int rows, int features, int k) {
  MatmulArgs args;
  args.form = form;
  args.precision = precision;
  args.rows_max = rows;
  args.params.in.k = k;
  args.params.features = features;
  args.params.stride = features;
  return args;
}

AttentionParams AttentionOf(int query_heads, int kv_heads, int head_dim, bool int8) {
  AttentionParams params = {};
  params.kv.query_heads = query_heads;
  params.kv.kv_heads = kv_heads;
  params.kv.head_dim = head_dim;
  params.kv.int8 = int8 ? 1 : 0;
  return params;
}

NormParams NormOf(int width) {
  NormParams params;
  params.width = width;
  return params;
}

GatedParams GatedOf(int width) {
  GatedParams params = {};
  params.width = width;
  params.stride = width;
  return params;
}

template <class Params>
Params TableOf(int width) {
  Params params = {};
  params.width = width;
  return params;
}

AdapterParams AdapterOf(int features, int width) {
  AdapterParams params = {};
  params.targets[0].features = features;
  params.target_count = 1;
  params.width = width;
  params.levels = 1;
  return params;
}

HeadParams HeadOf(int vocabulary) {
  HeadParams params = {};
  params.vocabulary = vocabulary;
  params.list_max = kHeadList;
  return params;
}

/// A file's text against what it should be; written where that is wanted.
void ExpectFile(const char* path, const std::string& text) {
  if (std::getenv("TOKENMILL_UPDATE") != nullptr) std::ofstream(path) << text;
  std::ifstream file(path);
  const std::string found((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT(found == text);
  if (found != text) std::printf("    %s is not what launches say: TOKENMILL_UPDATE=1 writes it\n", path);
}

// --- How each kernel is launched

void LaunchProducts(PaperDriver& driver) {
  for (int form = 0; form < kWeightForms; ++form) {
    for (const MatmulPrecision precision : {MatmulPrecision::kFast, MatmulPrecision::kHigh}) {
      for (const int rows : {1, 16, 32, 512}) {
        EXPECT(LaunchMatmul(driver, ProductOf(WeightForm{form}, precision, rows, kFfn, kHidden)).ok());
      }
    }
    EXPECT(LaunchEmbedPacked(driver, WeightForm{form}, TableOf<EmbedPackedParams>(kHidden), 1).ok());
    PackParams pack = {};
    pack.feature_count = kFfn;
    pack.k = kHidden;
    EXPECT(LaunchPack(driver, Stream::kCopy, WeightForm{form}, pack).ok());
  }
}

void LaunchRows(PaperDriver& driver) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                            DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K})
    EXPECT(LaunchEmbed(driver, dtype, TableOf<EmbedParams>(kHidden), 1).ok());
  for (const int width : {kHidden, 4096, 8192, 16384}) {
    EXPECT(LaunchNorm(driver, NormOf(width), 1).ok());
    EXPECT(LaunchGated(driver, GatedOf(width), 1).ok());
  }
  EXPECT(LaunchGated(driver, GatedOf(16384 + 32), 1).ok());
  EXPECT(LaunchAdapter(driver, AdapterOf(kFfn, kHidden), 1, 1, kRank).ok());
  EXPECT(LaunchHead(driver, HeadOf(kVocabulary), 1).ok());
  CopyPagesParams copy = {};
  copy.count = 1;
  copy.page_bytes = 4096;
  EXPECT(LaunchCopyPages(driver, Stream::kCopy, copy).ok());
}

void LaunchHeads(PaperDriver& driver) {
  for (const int head_dim : kHeadDims) {
    for (const bool int8 : {false, true}) {
      const AttentionParams params = AttentionOf(kQueryHeads, kKvHeads, head_dim, int8);
      EXPECT(LaunchAttentionPrefill(driver, params, 1).ok());
      EXPECT(LaunchAttentionDecode(driver, params, 1, 1).ok());
    }
  }
  RopeParams rope = {};
  rope.kv = AttentionOf(kQueryHeads, kKvHeads, kHeadDim, false).kv;
  EXPECT(LaunchRope(driver, rope, 1).ok());
}

/// kernel, threads of a block, dynamic shared memory of a block in bytes; the most of each that it is launched with.
std::string KernelTable() {
  PaperDriver driver;
  LaunchProducts(driver);
  LaunchRows(driver);
  LaunchHeads(driver);
  std::map<std::string, LaunchShape> kernels;
  for (const PaperLaunch& launch : driver.Take()) {
    LaunchShape& shape = kernels[launch.kernel];
    shape.threads = std::max(shape.threads, launch.shape.threads);
    shape.shared_bytes = std::max(shape.shared_bytes, launch.shape.shared_bytes);
  }
  std::string text = "kernel\tthreads\tshared\n";
  for (const auto& [name, shape] : kernels)
    text += Format("%s\t%u\t%zu\n", name.c_str(), shape.threads, shape.shared_bytes);
  return text;
}

// --- What the launches of a step move and compute

/// Of one launch: bytes that have to be read and written once, and additions and multiplications.
struct Work {
  int64_t bytes = 0;
  int64_t operations = 0;
};

class WorkTable {
 public:
  /// A line for each launch since the last call; `work` of each in turn. `times`: in a step.
  void Add(const char* step, const char* op, int times, const char* unit, const std::vector<Work>& work) {
    const std::vector<PaperLaunch> launches = driver.Take();
    EXPECT_EQ(launches.size(), work.size());
    for (size_t i = 0; i < std::min(launches.size(), work.size()); ++i) {
      const LaunchShape& shape = launches[i].shape;
      text_ += Format("%s\t%s\t%s\t%d\t%u\t%lld\t%lld\t%s\n", step, op, launches[i].kernel.c_str(), times,
                      shape.grid_x * shape.grid_y * shape.grid_z, static_cast<long long>(work[i].bytes),
                      static_cast<long long>(work[i].operations), unit);
    }
  }
  std::string text() const {
    return "step\top\tkernel\ttimes\tblocks\tbytes\toperations\tunit\n" + text_;
  }
  PaperDriver driver;

 private:
  std::string text_;
};

/// Bytes of a row of activations in the form that products of these weights read.
int64_t ActivationBytes(WeightForm form, MatmulPrecision precision, int k) {
  const bool high = precision == MatmulPrecision::kHigh;
  if (form == WeightForm::kF32) return int64_t{k} * 4;
  if (form == WeightForm::kBF16) return int64_t{k} * (high ? 4 : 2);
  if (form == WeightForm::kF16) return int64_t{k} * 2 + 4;
  if (form == WeightForm::kQ8_0 && !high) return k + int64_t{k} / 32 * 4;
  return int64_t{k} * 2 + int64_t{k} / 32 * 4 + 4;
}

const char* UnitOf(WeightForm form, MatmulPrecision precision) {
  if (form == WeightForm::kF32) return "f32";
  return form == WeightForm::kQ8_0 && precision == MatmulPrecision::kFast ? "int8" : "f16";
}

void AddProduct(WorkTable& table, const char* step, const char* op, int times, WeightForm form, int rows,
                int features, int k, MatmulPrecision precision = MatmulPrecision::kFast) {
  EXPECT(LaunchMatmul(table.driver, ProductOf(form, precision, rows, features, k)).ok());
  const int terms = form == WeightForm::kBF16 && precision == MatmulPrecision::kHigh ? 2 : 1;
  const Work work = {WeightBytes(LayoutOf(form), features, k) +
                         rows * (ActivationBytes(form, precision, k) + int64_t{features} * 4),
                     int64_t{2} * terms * rows * features * k};
  table.Add(step, op, times, UnitOf(form, precision), {work});
}

/// Rows of one sequence each behind `depth` positions (decode), or one sequence's rows behind them.
void AddAttention(WorkTable& table, const char* step, const char* op, int rows, int depth, bool decode, bool int8,
                  int times = kLayers) {
  const AttentionParams params = AttentionOf(kQueryHeads, kKvHeads, kHeadDim, int8);
  const int64_t bytes_of_position = int64_t{kKvHeads} * KvHeadBytes(kHeadDim, int8) / kKvPageTokens;
  int64_t read = 0, seen = 0;  // positions, and positions of all rows
  for (int row = 0; row < rows; ++row) seen += decode ? depth : depth + row + 1;
  if (decode) {
    read = seen;
    constexpr int kMultiprocessors = 108;  // of an A100: they decide into how many blocks segments go
    const int segments = AttentionSegments(depth - 1, 1, 0);
    const int splits = std::clamp(2 * kMultiprocessors / (rows * kKvHeads), 1, segments);
    EXPECT(LaunchAttentionDecode(table.driver, params, rows, splits).ok());
  } else {
    const int tile = AttentionPrefillRows(kQueryHeads, kKvHeads);
    read = depth + rows;
    EXPECT(LaunchAttentionPrefill(table.driver, params, (rows + tile - 1) / tile).ok());
  }
  const Work work = {read * bytes_of_position + int64_t{rows} * kQueryWidth * 8,
                     int64_t{4} * kQueryWidth * seen};
  table.Add(step, op, times, "f16", {work});
}

/// A norm without a sum before it.
void AddNorm(WorkTable& table, const char* step, const char* op, int rows) {
  const int64_t form = ActivationBytes(WeightForm::kQ4_K, MatmulPrecision::kFast, kHidden);
  EXPECT(LaunchNorm(table.driver, NormOf(kHidden), rows).ok());
  table.Add(step, op, 1, "f32", {{rows * (kHidden * 4 + form), int64_t{rows} * kHidden * 4}});
}

/// The row-wise operations of a layer, and how often a step has them.
void AddRowOps(WorkTable& table, const char* step, int rows) {
  const int64_t r = rows;
  const int64_t form = ActivationBytes(WeightForm::kQ4_K, MatmulPrecision::kFast, kHidden);
  EXPECT(LaunchNorm(table.driver, NormOf(kHidden), rows).ok());
  table.Add(step, "sum and norm", 2 * kLayers, "f32", {{r * (kHidden * 12 + form), r * kHidden * 5}});
  RopeParams rope = {};
  rope.kv = AttentionOf(kQueryHeads, kKvHeads, kHeadDim, false).kv;
  rope.dims = kHeadDim;
  EXPECT(LaunchRope(table.driver, rope, rows).ok());
  table.Add(step, "rope and KV write", kLayers, "f32",
            {{r * (kQueryWidth * 8 + kKvWidth * 12), r * (kQueryWidth + kKvWidth) * 3}});
  EXPECT(LaunchNorm(table.driver, NormOf(kQueryWidth), rows).ok());
  table.Add(step, "attention's rows to f16", kLayers, "f32", {{r * (kQueryWidth * 4 + form), r * kQueryWidth * 2}});
  EXPECT(LaunchGated(table.driver, GatedOf(kFfn), rows).ok());
  const int64_t gated = ActivationBytes(WeightForm::kQ4_K, MatmulPrecision::kFast, kFfn);
  table.Add(step, "gate", kLayers, "f32", {{r * (kFfn * 8 + gated), r * kFfn * 8}});
}

/// All launches of a step: weights Q4_K, table and head Q6_K, a head row for each of `head_rows`.
void AddStep(WorkTable& table, const char* step, int rows, int head_rows, int depth, bool decode) {
  const WeightForm form = WeightForm::kQ4_K;
  const int64_t table_row = WeightBytes(LayoutOf(WeightForm::kQ6_K), kVocabulary, kHidden) / kVocabulary;
  EXPECT(LaunchEmbedPacked(table.driver, WeightForm::kQ6_K, TableOf<EmbedPackedParams>(kHidden), rows).ok());
  table.Add(step, "embedding", 1, "f32", {{rows * (table_row + kHidden * 4), int64_t{rows} * kHidden}});
  AddNorm(table, step, "first norm", rows);
  AddRowOps(table, step, rows);
  AddProduct(table, step, "product q, o", 2 * kLayers, form, rows, kQueryWidth, kHidden);
  AddProduct(table, step, "product k, v", 2 * kLayers, form, rows, kKvWidth, kHidden);
  AddProduct(table, step, "product gate, up", 2 * kLayers, form, rows, kFfn, kHidden);
  AddProduct(table, step, "product down", kLayers, form, rows, kHidden, kFfn);
  AddAttention(table, step, "attention", rows, depth, decode, false);
  AddNorm(table, step, "head's norm", head_rows);
  AddProduct(table, step, "product head", 1, WeightForm::kQ6_K, head_rows, kVocabulary, kHidden);
  EXPECT(LaunchHead(table.driver, HeadOf(kVocabulary), head_rows).ok());
  const int64_t logits = int64_t{head_rows} * kVocabulary;
  const int64_t parts = int64_t{head_rows} * HeadChunks(kVocabulary) * (sizeof(HeadPart) + 2 * kHeadList * 8);
  table.Add(step, "head's sums and lists", 1, "f32", {{logits * 4 + parts, logits * 4}, {parts, parts / 8}});
}

/// An adapter of rank 16 on gate, for all rows: not a part of the steps above.
void AddAdapter(WorkTable& table, const char* step, int rows) {
  const int groups = (rows + kAdapterGroupRows - 1) / kAdapterGroupRows;
  EXPECT(LaunchAdapter(table.driver, AdapterOf(kFfn, kHidden), groups, groups, kRank).ok());
  const int64_t r = rows, inner = r * kRank * 4;
  table.Add(step, "adapter of rank 16 on gate", 0, "f32",
            {{kRank * kHidden * 2 + r * kHidden * 4 + inner, 2 * r * kRank * kHidden},
             {kRank * kFfn * 2 + inner + r * kFfn * 8, 2 * r * kRank * kFfn}});
}

/// The product of up in every form.
void AddForms(WorkTable& table, const char* step, int rows) {
  static constexpr const char* kNames[kWeightForms] = {"Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K",
                                                       "Q6_K", "Q8_0", "F16",  "BF16", "F32"};
  for (int form = 0; form < kWeightForms; ++form) {
    const std::string name = std::string("product up, ") + kNames[form];
    AddProduct(table, step, name.c_str(), 0, WeightForm{form}, rows, kFfn, kHidden);
    if (WeightForm{form} != WeightForm::kQ8_0 && WeightForm{form} != WeightForm::kBF16) continue;
    AddProduct(table, step, (name + ", high").c_str(), 0, WeightForm{form}, rows, kFfn, kHidden,
               MatmulPrecision::kHigh);
  }
}

std::string WorkOfModel() {
  WorkTable table;
  AddStep(table, "decode 1 row at 1024", 1, 1, 1024, true);
  AddStep(table, "decode 1 row at 8192", 1, 1, 8192, true);
  AddStep(table, "decode 16 rows at 1024", 16, 16, 1024, true);
  AddStep(table, "decode 16 rows at 8192", 16, 16, 8192, true);
  AddStep(table, "prefill 512 rows at 0", 512, 1, 0, false);
  AddStep(table, "prefill 512 rows at 7680", 512, 1, 7680, false);
  for (const int rows : {1, 16, 512}) {
    const std::string step = Format("%d row%s", rows, rows == 1 ? "" : "s");
    AddForms(table, step.c_str(), rows);
    AddAdapter(table, step.c_str(), rows);
  }
  AddAttention(table, "1 row", "attention at 8192, INT8", 1, 8192, true, true, 0);
  AddAttention(table, "16 rows", "attention at 8192, INT8", 16, 8192, true, true, 0);
  AddAttention(table, "512 rows", "attention at 7680, INT8", 512, 7680, false, true, 0);
  return table.text();
}

}  // namespace

TEST(LaunchesOfKernels) { ExpectFile("scripts/cuda-kernels.tsv", KernelTable()); }
TEST(WorkOfLlama1b) { ExpectFile("scripts/cuda-work.tsv", WorkOfModel()); }

HARNESS_MAIN()
