// What is refused of an adapter's specification, whoever has checked it before, and what is read of its factors.

#include "adapter/adapter_file.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>

#include "adapter/gguf_adapter.h"
#include "harness.h"
#include "quant/encode.h"
#include "quant/quant.h"

namespace tokenmill {
namespace {

constexpr char kModel[] = "test/fixtures/model/tiny/llama-tied.gguf";
constexpr char kAdapter[] = "test/fixtures/adapter/tiny/llama-all-f32.gguf";

std::shared_ptr<const ModelFile> Model() {
  static const auto& model = *new std::shared_ptr<const ModelFile>(OpenModelFile(kModel).value());
  return model;
}

AdapterSpec Spec() { return ReadGgufAdapter(*GgufFile::Open(kAdapter).value()).value(); }

/// What a specification that was changed is refused with.
Status Refusal(const std::function<void(AdapterSpec*)>& change) {
  AdapterSpec spec = Spec();
  change(&spec);
  return OpenAdapter(spec, *Model()).status();
}

/// The entry of a matrix.
AdapterEntry& EntryOf(AdapterSpec* spec, const std::string& target) {
  for (AdapterEntry& entry : spec->entries) {
    if (entry.target == target) return entry;
  }
  return spec->entries.front();
}

constexpr char kQuery[] = "blk.1.attn_q.weight";

void ExpectRefused(Code code, const std::string& part, const std::function<void(AdapterSpec*)>& change) {
  const Status status = Refusal(change);
  EXPECT_EQ(std::string(CodeName(status.code())), std::string(CodeName(code)));
  EXPECT(status.message().find(part) != std::string::npos);
  if (status.message().find(part) == std::string::npos) std::printf("    %s\n", status.message().c_str());
}

TEST(AnAdaptersMatricesAreFound) {
  const auto adapter = OpenAdapter(Spec(), *Model());
  EXPECT(adapter.ok());
  EXPECT_EQ(adapter.value()->factors().size(), 15u);  // seven a layer, and the head
  for (const AdapterFactors& factors : adapter.value()->factors()) {
    EXPECT_EQ(factors.rank, 8);
    EXPECT_EQ(factors.scale, 1.5f);
    EXPECT(factors.dtype == DType::kF32);
  }
}

TEST(PlacesBeyondTheFileAreRefused) {
  const std::string tensor = std::string(kQuery) + ".lora_b";
  const uint64_t largest = std::numeric_limits<uint64_t>::max();
  const uint64_t size = Spec().file_bytes;
  for (const uint64_t offset : {size, size - 1, largest, largest - 2047, uint64_t{1} << 63}) {
    ExpectRefused(Code::kCorruptFile, tensor,
                  [&](AdapterSpec* spec) { EntryOf(spec, kQuery).b.offset = offset; });
  }
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{2044}, largest, uint64_t{1} << 40}) {
    ExpectRefused(Code::kCorruptFile, tensor,
                  [&](AdapterSpec* spec) { EntryOf(spec, kQuery).b.bytes = bytes; });
  }
  ExpectRefused(Code::kCorruptFile, "has changed", [](AdapterSpec* spec) { --spec->file_bytes; });
}

TEST(ShapesThatDoNotFitAreRefused) {
  const std::string a = std::string(kQuery) + ".lora_a", b = std::string(kQuery) + ".lora_b";
  const int64_t largest = std::numeric_limits<int64_t>::max();
  for (const int64_t rank : {int64_t{0}, int64_t{-1}, -largest}) {
    ExpectRefused(Code::kCorruptFile, a, [&](AdapterSpec* spec) { EntryOf(spec, kQuery).a.rows = rank; });
  }
  for (const int64_t rank : {int64_t{257}, largest}) {
    ExpectRefused(Code::kUnsupportedModel, a,
                  [&](AdapterSpec* spec) { EntryOf(spec, kQuery).a.rows = rank; });
  }
  for (const int64_t length : {int64_t{63}, int64_t{0}, int64_t{-64}, largest}) {
    ExpectRefused(Code::kIncompatible, a, [&](AdapterSpec* spec) { EntryOf(spec, kQuery).a.cols = length; });
    ExpectRefused(Code::kIncompatible, b, [&](AdapterSpec* spec) { EntryOf(spec, kQuery).b.rows = length; });
  }
  ExpectRefused(Code::kIncompatible, b, [](AdapterSpec* spec) { EntryOf(spec, kQuery).b.cols = 9; });
}

TEST(WhatTheModelDoesNotHaveIsRefused) {
  const auto retarget = [](const char* target) {
    return [target](AdapterSpec* spec) { EntryOf(spec, kQuery).target = target; };
  };
  ExpectRefused(Code::kIncompatible, "blk.9.attn_q.weight", retarget("blk.9.attn_q.weight"));
  ExpectRefused(Code::kIncompatible, "blk.0.attn_norm.weight", retarget("blk.0.attn_norm.weight"));
  ExpectRefused(Code::kUnsupportedModel, "token_embd.weight", retarget("token_embd.weight"));
  ExpectRefused(Code::kCorruptFile, "another one does too", retarget("blk.0.attn_q.weight"));
  ExpectRefused(Code::kIncompatible, "'gemma3'", [](AdapterSpec* spec) { spec->architecture = "gemma3"; });
  ExpectRefused(Code::kCorruptFile, "no factors", [](AdapterSpec* spec) { spec->entries.clear(); });
  ExpectRefused(Code::kModelNotFound, "absent", [](AdapterSpec* spec) { spec->path = "absent.safetensors"; });
}

TEST(TypesAndScalesThatDoNotRunAreRefused) {
  ExpectRefused(Code::kUnsupportedQuantization, "Q8_1",
                [](AdapterSpec* spec) { EntryOf(spec, kQuery).a.dtype = DType::kQ8_1; });
  ExpectRefused(Code::kUnsupportedQuantization, "Q4_K",
                [](AdapterSpec* spec) { EntryOf(spec, kQuery).a.dtype = DType::kQ4_K; });
  ExpectRefused(Code::kCorruptFile, "scale", [](AdapterSpec* spec) {
    EntryOf(spec, kQuery).scale = std::numeric_limits<float>::quiet_NaN();
  });
}

/// A file with an adapter of one matrix, A [8, 64] in Q8_0 and B [64, 8] in F16, removed with this.
class MixedAdapter {
 public:
  MixedAdapter() {
    std::vector<float> row(64);
    std::string bytes;
    const auto put = [&](DType dtype, size_t cols) {
      std::string encoded(RowBytes(dtype, static_cast<int64_t>(cols)), '\0');
      for (size_t i = 0; i < cols; ++i) row[i] = std::sin(static_cast<float>(++count_));
      EncodeRow(dtype, row.data(), encoded.data(), static_cast<int64_t>(cols));
      bytes += encoded;
    };
    for (int i = 0; i < 8; ++i) put(DType::kQ8_0, 64);
    const uint64_t a_bytes = bytes.size();
    for (int i = 0; i < 64; ++i) put(DType::kF16, 8);
    char name[] = "/tmp/tokenmill-adapter-XXXXXX";
    std::FILE* file = fdopen(mkstemp(name), "wb");
    path_ = name;
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
    spec_ = {path_, bytes.size(), TargetNames::kModules, "", {}};
    spec_.entries.push_back({"model.layers.0.self_attn.q_proj",
                             0.5f,
                             {"a", DType::kQ8_0, 8, 64, 0, a_bytes},
                             {"b", DType::kF16, 64, 8, a_bytes, bytes.size() - a_bytes}});
    bytes_ = bytes;
  }
  ~MixedAdapter() { std::remove(path_.c_str()); }

  const AdapterSpec& spec() const { return spec_; }
  /// A row of a factor, dequantized.
  std::vector<float> Row(const StoredFactor& factor, int64_t row) const {
    std::vector<float> values(static_cast<size_t>(factor.cols));
    const size_t row_bytes = RowBytes(factor.dtype, factor.cols);
    DequantizeRow(factor.dtype, bytes_.data() + factor.offset + static_cast<size_t>(row) * row_bytes,
                  values.data(), factor.cols);
    return values;
  }

 private:
  std::string path_;
  int count_ = 0;
  std::string bytes_;
  AdapterSpec spec_;
};

TEST(FactorsOfTwoTypesBecomeF32AndRowsOfHeadsComeInPairs) {
  const MixedAdapter mixed;
  const auto adapter = OpenAdapter(mixed.spec(), *Model());
  EXPECT(adapter.ok());
  EXPECT(adapter.value()->factors()[0].dtype == DType::kF32);
  const AdapterEntry& entry = mixed.spec().entries[0];
  std::vector<float> a(8 * 64), b(64 * 8);
  EXPECT(adapter.value()->Read(0, AdapterFactor::kA, a.data()).ok());
  EXPECT(adapter.value()->Read(0, AdapterFactor::kB, b.data()).ok());
  for (int64_t r = 0; r < 8; ++r) {
    EXPECT(std::equal(a.begin() + r * 64, a.begin() + (r + 1) * 64, mixed.Row(entry.a, r).begin()));
  }
  // Four heads of 16: rows 2i and 2i + 1 of a head are i and i + 8 of the checkpoint's.
  for (int64_t head = 0; head < 4; ++head) {
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t from = head * 16 + (i % 2 == 0 ? i / 2 : i / 2 + 8);
      const auto row = b.begin() + (head * 16 + i) * 8;
      EXPECT(std::equal(row, row + 8, mixed.Row(entry.b, from).begin()));
    }
  }
}

}  // namespace
}  // namespace tokenmill

HARNESS_MAIN()
