// Which type each tensor gets, the header that is written, and rows that are refused.
#include <algorithm>
#include <cmath>
#include <memory>

#include "core/float16.h"
#include "gguf_writer.h"
#include "harness.h"
#include "io/gguf_layout.h"
#include "memory_file.h"
#include "quantize/convert_rows.h"
#include "quantize/mix.h"

namespace tokenmill {
namespace {

std::shared_ptr<const GgufFile> OpenBytes(const std::string& bytes) {
  auto file = GgufFile::Open(std::make_shared<MemoryFile>(bytes));
  EXPECT_EQ(file.status().message(), "");
  return std::move(file).value();
}

struct Shape {
  std::string name;
  std::vector<uint64_t> shape;
  DType dtype = DType::kF16;
};

/// A file with these tensors, whose data do not matter.
std::shared_ptr<const GgufFile> FileOf(const std::vector<Shape>& tensors,
                                       const std::string& architecture = "llama",
                                       const std::vector<std::pair<std::string, uint32_t>>& sizes = {}) {
  GgufWriter writer;
  writer.AddString("general.architecture", architecture);
  for (const auto& [key, value] : sizes) writer.Add(key, GgufType::kUint32, value);
  for (const Shape& tensor : tensors) {
    size_t rows = 1;
    for (size_t d = 1; d < tensor.shape.size(); ++d) rows *= tensor.shape[d];
    const size_t bytes = rows * RowBytes(tensor.dtype, static_cast<int64_t>(tensor.shape[0]));
    writer.AddTensor(tensor.name, tensor.shape, static_cast<uint32_t>(tensor.dtype),
                     std::string(bytes, '\0'));
  }
  return OpenBytes(writer.Bytes());
}

/// A decoder's tensors; all rows are `cols` wide but those of ffn_down.
std::vector<Shape> Decoder(int layers, uint64_t cols, uint64_t feed_forward, bool tied) {
  std::vector<Shape> tensors = {{"token_embd.weight", {cols, 8}},
                                {"output_norm.weight", {cols}, DType::kF32}};
  if (!tied) tensors.push_back({"output.weight", {cols, 8}});
  for (int layer = 0; layer < layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    tensors.push_back({prefix + "attn_norm.weight", {cols}, DType::kF32});
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"}) {
      tensors.push_back({prefix + name + ".weight", {cols, 2}});
    }
    tensors.push_back({prefix + "ffn_down.weight", {feed_forward, 2}});
  }
  return tensors;
}

/// The types planned for tensors whose names contain `part`, in file order: "Q4_K Q6_K …".
std::string Planned(const GgufFile& file, const PlanOptions& options, const std::string& part) {
  const auto types = PlanTypes(file, options);
  if (!types.ok()) return types.status().message();
  std::string text;
  for (size_t i = 0; i < types.value().size(); ++i) {
    if (file.tensors()[i].name.find(part) == std::string::npos) continue;
    text += (text.empty() ? "" : " ") + std::string(InfoOf(types.value()[i]).name);
  }
  return text;
}

std::string Repeated(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += (i == 0 ? "" : " ") + text;
  return all;
}

// As in the file that is published of Gemma 3 270M (18 layers, 640 and 2048 wide), which llama.cpp made.
TEST(MediumMixIsThatOfPublishedFiles) {
  const auto file = FileOf(Decoder(18, 640, 2048, true), "gemma3");
  const PlanOptions plan{*FindFileType("Q4_K_M")};
  EXPECT_EQ(Planned(*file, plan, "attn_v"),
            "Q8_0 Q8_0 Q5_0 Q5_0 Q8_0 Q5_0 Q5_0 Q8_0 Q5_0 Q5_0 Q8_0 Q5_0 Q5_0 Q8_0 Q5_0 Q8_0 Q8_0 Q8_0");
  EXPECT_EQ(Planned(*file, plan, "ffn_down"),
            "Q6_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q4_K Q6_K Q6_K Q6_K");
  EXPECT_EQ(Planned(*file, plan, "attn_q"), Repeated(18, "Q5_0"));
  EXPECT_EQ(Planned(*file, plan, "ffn_gate"), Repeated(18, "Q5_0"));
  EXPECT_EQ(Planned(*file, plan, "token_embd"), "Q8_0");
  EXPECT_EQ(Planned(*file, plan, "norm"), Repeated(19, "F32"));
}

TEST(MixesOfWideModels) {
  const auto file = FileOf(Decoder(16, 256, 512, false));
  const auto planned = [&](const char* type, const char* part) {
    return Planned(*file, {*FindFileType(type)}, part);
  };
  EXPECT_EQ(planned("Q4_K_M", "token_embd"), "Q4_K");
  EXPECT_EQ(planned("Q4_K_M", "output.weight").substr(0, 4), "Q6_K");
  EXPECT_EQ(planned("Q4_K_M", "attn_v"),
            "Q6_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q6_K Q6_K");
  EXPECT_EQ(planned("Q4_K_S", "attn_v"), Repeated(4, "Q5_K") + " " + Repeated(12, "Q4_K"));
  EXPECT_EQ(planned("Q4_K_S", "ffn_down"), Repeated(2, "Q5_K") + " " + Repeated(14, "Q4_K"));
  EXPECT_EQ(planned("Q5_K_M", "ffn_down"),
            "Q6_K Q6_K Q5_K Q5_K Q6_K Q5_K Q5_K Q6_K Q5_K Q5_K Q6_K Q5_K Q5_K Q6_K Q6_K Q6_K");
  EXPECT_EQ(planned("Q5_K_S", "attn_v"), Repeated(16, "Q5_K"));
  EXPECT_EQ(planned("Q4_0", "output.weight").substr(0, 4), "Q6_K");
  EXPECT_EQ(planned("Q8_0", "output.weight").substr(0, 4), "Q8_0");
  EXPECT_EQ(planned("BF16", "blk.3."), "F32 " + Repeated(7, "BF16"));
  EXPECT_EQ(Planned(*file, {*FindFileType("Q4_K"), true}, "output.weight").substr(0, 4), "Q4_K");
  EXPECT_EQ(Planned(*file, {*FindFileType("Q4_K"), true}, "attn_v"), Repeated(16, "Q4_K"));
}

TEST(ExpertsAndSharedValuesGetMoreBits) {
  const auto experts = FileOf(Decoder(8, 256, 256, false), "llama", {{"llama.expert_count", 8}});
  EXPECT_EQ(Planned(*experts, {*FindFileType("Q4_K_M")}, "attn_k.weight"), Repeated(8, "Q8_0"));
  EXPECT_EQ(Planned(*experts, {*FindFileType("Q4_K_M")}, "attn_output"), Repeated(8, "Q5_K"));
  const auto large = FileOf(
      Decoder(80, 256, 256, false), "llama",
      {{"llama.block_count", 80}, {"llama.attention.head_count", 64}, {"llama.attention.head_count_kv", 8}});
  EXPECT_EQ(Planned(*large, {*FindFileType("Q4_K_M")}, "blk.11.attn_v"), "Q5_K");
}

TEST(RowsThatBlocksDoNotDivideFallBack) {
  const auto planned = [](uint64_t cols, const char* type, bool pure = true) {
    return Planned(*FileOf({{"blk.0.ffn_up.weight", {cols, 2}}}), {*FindFileType(type), pure}, "ffn_up");
  };
  EXPECT_EQ(planned(96, "Q4_K"), "Q5_0");
  EXPECT_EQ(planned(96, "Q5_K"), "Q5_1");
  EXPECT_EQ(planned(96, "Q6_K"), "Q8_0");
  EXPECT_EQ(planned(96, "Q4_0"), "Q4_0");
  for (const char* type : {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}) {
    EXPECT_EQ(planned(40, type), "F16");
  }
}

TEST(WhatIsNoMatrixIsKept) {
  const std::vector<Shape> tensors = {{"blk.0.attn_q.bias", {256}, DType::kF32},
                                      {"blk.0.ffn_gate_inp.weight", {256, 8}, DType::kF32},
                                      {"blk.0.attn_q_norm.weight", {256, 4}, DType::kF32},
                                      {"position_embd.weight", {256, 16}},
                                      {"rope_freqs.weight", {256}, DType::kF32},
                                      {"blk.0.ffn_up_exps.weight", {256, 2, 3}}};
  EXPECT_EQ(Planned(*FileOf(tensors), {*FindFileType("Q4_0")}, ""), "F32 F32 F32 F16 F32 Q4_0");
}

TEST(QuantizedSourcesAreRefusedUnlessAskedFor) {
  const auto file = FileOf({{"blk.0.ffn_up.weight", {256, 2}, DType::kQ8_0}});
  const auto refused = PlanTypes(*file, {*FindFileType("Q4_0")});
  EXPECT(refused.status().code() == Code::kInvalidArgument);
  EXPECT(refused.status().message().find("'blk.0.ffn_up.weight' has type Q8_0") != std::string::npos);
  EXPECT_EQ(Planned(*file, {*FindFileType("Q4_0"), false, true}, ""), "Q4_0");
  const auto unread = FileOf({{"blk.0.ffn_up.weight", {256, 2}, DType::kIQ2_XS}});
  EXPECT(PlanTypes(*unread, {*FindFileType("Q4_0"), false, true}).status().code() ==
         Code::kUnsupportedQuantization);
}

TEST(NamesOfTypesAreKnown) {
  EXPECT(FindFileType("Q4_K")->number == FindFileType("Q4_K_M")->number);
  EXPECT_EQ(FindFileType("Q4_K_M")->number, 15u);
  EXPECT_EQ(FindFileType("BF16")->number, 32u);
  EXPECT(FindFileType("q4_0") == nullptr);
  EXPECT(FindFileType("") == nullptr);
}

/// Metadata of every type, whose values do not survive widening and narrowing.
GgufWriter EveryType() {
  GgufWriter writer;
  writer.Add("a.u8", GgufType::kUint8, uint8_t{200});
  writer.Add("a.i8", GgufType::kInt8, int8_t{-100});
  writer.Add("a.u16", GgufType::kUint16, uint16_t{60000});
  writer.Add("a.i16", GgufType::kInt16, int16_t{-30000});
  writer.Add("a.u32", GgufType::kUint32, 4'000'000'000u);
  writer.Add("general.file_type", GgufType::kUint32, 1u);
  writer.Add("a.i32", GgufType::kInt32, -2'000'000'000);
  writer.Add("a.f32", GgufType::kFloat32, F32FromBits(0x7fc12345));
  writer.Add("a.bool", GgufType::kBool, uint8_t{1});
  writer.AddString("a.string", "text");
  writer.Add("a.u64", GgufType::kUint64, ~uint64_t{0});
  writer.Add("a.i64", GgufType::kInt64, std::numeric_limits<int64_t>::min());
  writer.Add("a.f64", GgufType::kFloat64, 0.1);
  writer.AddArray<double>("a.f64s", GgufType::kFloat64, {0.1, 1e300});
  writer.AddStrings("a.strings", {"", "x", std::string("\xff\0z", 3)});
  writer.AddArray<uint8_t>("a.none", GgufType::kUint8, {});
  return writer;
}

/// [[1, 2], ["x"]] as the value of a key of type array.
std::string NestedArray() {
  std::string bytes;
  const auto put = [&bytes](auto value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  put(uint32_t{9}), put(uint64_t{2});
  put(uint32_t{5}), put(uint64_t{2}), put(int32_t{1}), put(int32_t{2});
  put(uint32_t{8}), put(uint64_t{1}), put(uint64_t{1});
  return bytes + "x";
}

std::vector<GgufTensor> Retyped(const GgufFile& source, const std::vector<DType>& types) {
  std::vector<GgufTensor> tensors = source.tensors();
  for (size_t t = 0; t < tensors.size(); ++t) tensors[t].dtype = types[t];
  return tensors;
}

TEST(MetadataAreCopiedByteForByte) {
  GgufWriter writer = EveryType();
  writer.AddRaw("a.nested", GgufType::kArray, NestedArray());
  writer.AddTensor("t", {32, 2}, 1, std::string(128, '\0'));
  const auto source = OpenBytes(writer.Bytes());
  const std::vector<GgufUint> values = {{"general.quantization_version", 2}, {"general.file_type", 7}};
  const auto layout = LayOutGguf(*source, Retyped(*source, {DType::kQ8_0}), values);
  EXPECT(layout.ok());
  std::string bytes = layout.value().header;
  EXPECT_EQ(layout.value().offsets[0], bytes.size());
  EXPECT_EQ(layout.value().bytes, bytes.size() + 96);  // 68, padded
  bytes.resize(layout.value().bytes);
  const auto copy = OpenBytes(bytes);
  EXPECT_EQ(copy->metadata().size(), source->metadata().size() + 1);
  EXPECT(InfoOf(copy->FindTensor("t")->dtype).dtype == DType::kQ8_0);
  EXPECT_EQ(copy->GetUint("general.file_type").value(), 7u);
  EXPECT_EQ(copy->metadata().back().first, "general.quantization_version");
  for (size_t i = 0; i < source->metadata().size(); ++i) {
    EXPECT_EQ(copy->metadata()[i].first, source->metadata()[i].first);
    if (source->metadata()[i].first == "general.file_type") continue;
    const auto raw = [i](const GgufFile& file) {
      std::string record(file.metadata_span(i).bytes, '\0');
      EXPECT(file.file().ReadAt(file.metadata_span(i).offset, record.data(), record.size()).ok());
      return record;
    };
    EXPECT(raw(*copy) == raw(*source));
  }
}

TEST(TensorsLieAtTheFilesAlignment) {
  GgufWriter writer;
  writer.alignment = 128;
  writer.Add("general.alignment", GgufType::kUint32, 128u);
  for (const char* name : {"a", "b", "c"}) writer.AddTensor(name, {32}, 0, std::string(128, '\0'));
  const auto source = OpenBytes(writer.Bytes());
  const auto layout =
      LayOutGguf(*source, Retyped(*source, {DType::kF32, DType::kQ4_0, DType::kF16}), {}).value();
  EXPECT_EQ(layout.header.size() % 128, 0u);
  EXPECT_EQ(layout.offsets[1] - layout.offsets[0], 128u);
  EXPECT_EQ(layout.offsets[2] - layout.offsets[1], 128u);
  EXPECT_EQ(layout.bytes - layout.offsets[2], 128u);
}

Status Convert(const std::vector<float>& values, DType to) {
  std::vector<char> out(RowBytes(to, static_cast<int64_t>(values.size())));
  std::vector<float> scratch;
  return ConvertRows({"blk.7.ffn_up.weight", DType::kF32, to, static_cast<int64_t>(values.size()) / 2}, 10, 2,
                     values.data(), out.data(), &scratch);
}

TEST(ValuesThatAreNotFiniteAreRefusedByName) {
  for (const DType to : {DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) {
    for (const float bad : {NAN, HUGE_VALF, -HUGE_VALF}) {
      for (const size_t place : {size_t{0}, size_t{300}, size_t{511}}) {
        std::vector<float> values(512, 0.5f);
        EXPECT(Convert(values, to).ok());
        values[place] = bad;
        const Status status = Convert(values, to);
        EXPECT(status.code() == Code::kCorruptFile);
        EXPECT(status.message().find("'blk.7.ffn_up.weight'") != std::string::npos);
        EXPECT(status.message().find(place < 256 ? "row 10" : "row 11") != std::string::npos);
      }
    }
  }
}

TEST(ValuesBeyondATypesRangeAreRefused) {
  std::vector<float> values(512, 0.5f);
  values[5] = -70000;
  EXPECT(Convert(values, DType::kF32).ok());
  EXPECT(Convert(values, DType::kBF16).ok());
  for (const DType to : {DType::kF16, DType::kQ4_1, DType::kQ6_K}) {
    EXPECT(Convert(values, to).code() == Code::kUnsupportedQuantization);
  }
}

}  // namespace
}  // namespace tokenmill

HARNESS_MAIN()
