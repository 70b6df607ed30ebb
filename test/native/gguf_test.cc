#include "io/gguf.h"

#include <limits>

#include "gguf_writer.h"
#include "harness.h"
#include "io/text.h"
#include "memory_file.h"

namespace tokenmill {
namespace {

using FileResult = Result<std::shared_ptr<const GgufFile>>;

FileResult Open(const std::string& bytes) { return GgufFile::Open(std::make_shared<MemoryFile>(bytes)); }

std::shared_ptr<const GgufFile> OpenValid(const GgufWriter& writer) {
  FileResult file = Open(writer.Bytes());
  EXPECT_EQ(file.status().message(), "");
  return file.ok() ? file.value() : nullptr;
}

/// "Code: message" of a failure; "Ok: " for none.
template <class T>
std::string Outcome(const Result<T>& result) {
  const Status status = result.status();
  return std::string(CodeName(status.code())) + ": " + status.message();
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// One of every kind of record.
GgufWriter SmallModel() {
  GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.Add<uint32_t>("llama.block_count", GgufType::kUint32, 2);
  writer.Add<float>("llama.epsilon", GgufType::kFloat32, 1e-5f);
  writer.Add<uint8_t>("tokenizer.add_bos", GgufType::kBool, 1);
  writer.AddStrings("tokenizer.tokens", {"a", "", "bc"});
  writer.AddArray<int32_t>("tokenizer.types", GgufType::kInt32, {1, 3, -1});
  writer.AddTensor("weight", {32, 2}, 2, std::string(36, 'w'));
  writer.AddTensor("norm", {5}, 0, std::string(20, 'n'));
  return writer;
}

TEST(EveryScalarTypeIsWidenedAndKeepsItsStoredType) {
  GgufWriter writer;
  writer.Add<uint8_t>("u8", GgufType::kUint8, 0xff);
  writer.Add<int8_t>("i8", GgufType::kInt8, -128);
  writer.Add<uint16_t>("u16", GgufType::kUint16, 0xffff);
  writer.Add<int16_t>("i16", GgufType::kInt16, -32768);
  writer.Add<uint32_t>("u32", GgufType::kUint32, 0xffffffff);
  writer.Add<int32_t>("i32", GgufType::kInt32, std::numeric_limits<int32_t>::min());
  writer.Add<uint64_t>("u64", GgufType::kUint64, ~0ull);
  writer.Add<int64_t>("i64", GgufType::kInt64, std::numeric_limits<int64_t>::min());
  writer.Add<float>("f32", GgufType::kFloat32, 0.1f);
  writer.Add<double>("f64", GgufType::kFloat64, 0.1);
  writer.Add<uint8_t>("bool", GgufType::kBool, 1);
  writer.AddString("string", std::string("\xff\0 any", 6));
  const auto file = OpenValid(writer);

  EXPECT_EQ(std::get<uint64_t>(file->Find("u8")->value), 0xffu);
  EXPECT_EQ(std::get<int64_t>(file->Find("i8")->value), -128);
  EXPECT_EQ(std::get<uint64_t>(file->Find("u16")->value), 0xffffu);
  EXPECT_EQ(std::get<int64_t>(file->Find("i16")->value), -32768);
  EXPECT_EQ(std::get<uint64_t>(file->Find("u32")->value), 0xffffffffu);
  EXPECT_EQ(std::get<int64_t>(file->Find("i32")->value), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(std::get<uint64_t>(file->Find("u64")->value), ~0ull);
  EXPECT_EQ(std::get<int64_t>(file->Find("i64")->value), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(std::get<double>(file->Find("f32")->value), static_cast<double>(0.1f));
  EXPECT_EQ(std::get<double>(file->Find("f64")->value), 0.1);
  EXPECT(std::get<bool>(file->Find("bool")->value));
  EXPECT_EQ(std::get<std::string>(file->Find("string")->value), std::string("\xff\0 any", 6));

  EXPECT_EQ(file->metadata().size(), 12u);
  EXPECT_EQ(file->metadata()[3].first, "i16");
  EXPECT(file->metadata()[3].second.type == GgufType::kInt16);
  EXPECT(file->metadata()[3].second.element_type == GgufType::kInt16);
  EXPECT(file->Find("absent") == nullptr);
}

TEST(ArraysKeepTheirOrderAndElementType) {
  GgufWriter writer;
  writer.AddArray<uint8_t>("u8", GgufType::kUint8, {0, 255});
  writer.AddArray<int8_t>("i8", GgufType::kInt8, {-128, 127});
  writer.AddArray<uint16_t>("u16", GgufType::kUint16, {65535});
  writer.AddArray<int16_t>("i16", GgufType::kInt16, {-1});
  writer.AddArray<uint32_t>("u32", GgufType::kUint32, {0xffffffff});
  writer.AddArray<int32_t>("i32", GgufType::kInt32, {-1, 1});
  writer.AddArray<uint64_t>("u64", GgufType::kUint64, {0, 1ull << 62});
  writer.AddArray<int64_t>("i64", GgufType::kInt64, {-1});
  writer.AddArray<uint8_t>("bool", GgufType::kBool, {1, 0});
  writer.AddArray<float>("f32", GgufType::kFloat32, {0.5f, -2});
  writer.AddArray<double>("f64", GgufType::kFloat64, {0.1});
  writer.AddStrings("strings", {"", "\xf0\x9f", "token"});
  writer.AddArray<int32_t>("empty", GgufType::kInt32, {});
  const auto file = OpenValid(writer);

  using Integers = GgufValue::Integers;
  const auto integers = [&](const char* key) { return *file->GetIntegers(key).value(); };
  EXPECT(integers("u8") == Integers({0, 255}));
  EXPECT(integers("i8") == Integers({-128, 127}));
  EXPECT(integers("u16") == Integers({65535}));
  EXPECT(integers("i16") == Integers({-1}));
  EXPECT(integers("u32") == Integers({0xffffffff}));
  EXPECT(integers("i32") == Integers({-1, 1}));
  EXPECT(integers("u64") == Integers({0, int64_t{1} << 62}));
  EXPECT(integers("i64") == Integers({-1}));
  EXPECT(integers("bool") == Integers({1, 0}));
  EXPECT(integers("empty").empty());
  EXPECT(*file->GetFloats("f32").value() == GgufValue::Floats({0.5f, -2}));
  EXPECT(*file->GetFloats("f64").value() == GgufValue::Floats({0.1f}));
  EXPECT(*file->GetStrings("strings").value() == GgufValue::Strings({"", "\xf0\x9f", "token"}));
  EXPECT(file->Find("bool")->type == GgufType::kArray);
  EXPECT(file->Find("bool")->element_type == GgufType::kBool);
}

TEST(TensorsHaveAbsoluteOffsetsWithinTheFile) {
  const std::string bytes = SmallModel().Bytes();
  const auto file = OpenValid(SmallModel());
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->alignment(), 32u);
  EXPECT_EQ(file->tensors().size(), 2u);

  const GgufTensor& weight = *file->FindTensor("weight");
  EXPECT(weight.dtype == DType::kQ4_0);
  EXPECT_EQ(weight.rank, 2);
  EXPECT(weight.shape == (std::array<uint64_t, 4>{32, 2, 1, 1}));
  EXPECT_EQ(weight.bytes, 36u);
  EXPECT_EQ(bytes.substr(weight.offset, weight.bytes), std::string(36, 'w'));
  const GgufTensor& norm = *file->FindTensor("norm");
  EXPECT_EQ(norm.offset, weight.offset + 64);
  EXPECT_EQ(bytes.substr(norm.offset, norm.bytes), std::string(20, 'n'));
  EXPECT(file->FindTensor("absent") == nullptr);
}

TEST(WithoutArraysKeepsAllElse) {
  const auto whole = OpenValid(SmallModel());
  const auto rest = whole->WithoutArrays();
  EXPECT_EQ(rest->metadata().size(), 4u);
  EXPECT(rest->Find("tokenizer.tokens") == nullptr && rest->Find("tokenizer.types") == nullptr);
  EXPECT_EQ(rest->GetString("general.architecture").value(), "llama");
  EXPECT_EQ(rest->GetUint("llama.block_count").value(), 2u);
  EXPECT(rest->GetBool("tokenizer.add_bos", false).value());
  for (size_t i = 0; i < rest->metadata().size(); ++i) {
    EXPECT_EQ(rest->metadata()[i].first, whole->metadata()[i].first);
    EXPECT_EQ(rest->metadata_span(i).offset, whole->metadata_span(i).offset);
  }
  EXPECT_EQ(rest->tensors().size(), 2u);
  EXPECT_EQ(rest->FindTensor("norm")->offset, whole->FindTensor("norm")->offset);
  EXPECT(&rest->file() == &whole->file() && rest->alignment() == whole->alignment());
}

TEST(AlignmentComesFromTheMetadata) {
  for (const uint32_t alignment : {8u, 64u, 4096u}) {
    GgufWriter writer;
    writer.alignment = alignment;
    writer.Add<uint32_t>("general.alignment", GgufType::kUint32, alignment);
    writer.AddTensor("a", {1}, 0, "aaaa");
    writer.AddTensor("b", {1}, 0, "bbbb");
    const auto file = OpenValid(writer);
    EXPECT_EQ(file->alignment(), alignment);
    EXPECT_EQ(file->tensors()[0].offset % alignment, 0u);
    EXPECT_EQ(file->tensors()[1].offset, file->tensors()[0].offset + alignment);
    EXPECT_EQ(writer.Bytes().substr(file->tensors()[1].offset, 4), "bbbb");
  }
}

TEST(VersionTwoAndFilesWithoutTensorsAreRead) {
  GgufWriter writer;
  writer.version = 2;
  writer.AddStrings("tokenizer.ggml.tokens", {"a"});
  const auto file = OpenValid(writer);
  EXPECT_EQ(file->version(), 2u);
  EXPECT(file->tensors().empty());
  OpenValid(GgufWriter());
}

TEST(OtherPartCountsThanOneAreRefused) {
  for (const uint16_t parts : {0, 1}) {
    GgufWriter writer;
    writer.Add<uint16_t>("split.count", GgufType::kUint16, parts);
    OpenValid(writer);
  }
  GgufWriter writer;
  writer.Add<uint16_t>("split.count", GgufType::kUint16, 3);
  EXPECT_EQ(
      Outcome(Open(writer.Bytes())),
      "UnsupportedModel: memory: one of 3 parts of a split model, which are not read; merge them into one "
      "file first");
}

// The reader's blocks are of 256 KiB: strings and arrays that cross their borders, or are longer than one.
TEST(ValuesMayCrossTheReadersBlocks) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < 40'000; ++i) texts.push_back(std::string(i % 23, static_cast<char>('a' + i % 26)));
  texts.push_back(std::string(600'000, 'x'));
  texts.push_back("last");
  std::vector<int32_t> integers;
  for (int i = 0; i < 200'000; ++i) integers.push_back(i * 7919 - 50'000);
  std::vector<float> floats(integers.begin(), integers.end());

  GgufWriter writer;
  writer.AddStrings("texts", texts);
  writer.AddArray("integers", GgufType::kInt32, integers);
  writer.AddArray("floats", GgufType::kFloat32, floats);
  writer.AddString("after", "end");
  const auto file = OpenValid(writer);
  EXPECT(*file->GetStrings("texts").value() == texts);
  EXPECT(*file->GetIntegers("integers").value() == GgufValue::Integers(integers.begin(), integers.end()));
  EXPECT(*file->GetFloats("floats").value() == floats);
  EXPECT_EQ(file->GetString("after").value(), "end");
}

TEST(TypedAccessNamesWhatItFound) {
  GgufWriter writer;
  writer.Add<int32_t>("negative", GgufType::kInt32, -4);
  writer.Add<int32_t>("positive", GgufType::kInt32, 4);
  writer.Add<float>("nan", GgufType::kFloat32, std::numeric_limits<float>::quiet_NaN());
  writer.Add<double>("infinite", GgufType::kFloat64, HUGE_VAL);
  writer.Add<uint8_t>("flag", GgufType::kBool, 1);
  writer.AddString("text", "hello");
  writer.AddArray<uint32_t>("array", GgufType::kUint32, {1});
  const auto file = OpenValid(writer);

  EXPECT_EQ(file->GetUint("positive").value(), 4u);
  EXPECT_EQ(file->GetUint("absent", 9).value(), 9u);
  EXPECT_EQ(file->GetFloat("absent", 0.5).value(), 0.5);
  EXPECT_EQ(file->GetBool("flag", false).value(), true);
  EXPECT_EQ(file->GetBool("absent", true).value(), true);
  EXPECT_EQ(file->GetString("text").value(), "hello");
  EXPECT_EQ(file->GetString("absent", "fallback").value(), "fallback");

  const std::string prefix = "CorruptFile: memory: metadata ";
  EXPECT_EQ(Outcome(file->GetUint("absent")), prefix + "\"absent\" is absent; expected an integer");
  EXPECT_EQ(Outcome(file->GetUint("negative")),
            prefix + "\"negative\" is -4; expected an integer that is not negative");
  EXPECT_EQ(Outcome(file->GetUint("text", 1)),
            prefix + "\"text\" is a string; expected an integer that is not negative");
  EXPECT_EQ(Outcome(file->GetFloat("nan")), prefix + "\"nan\" is nan; expected a finite float");
  EXPECT_EQ(Outcome(file->GetFloat("infinite", 1)), prefix + "\"infinite\" is inf; expected a finite float");
  EXPECT_EQ(Outcome(file->GetFloat("positive")),
            prefix + "\"positive\" is an int32; expected a finite float");
  EXPECT_EQ(Outcome(file->GetBool("text", true)), prefix + "\"text\" is a string; expected a bool");
  EXPECT_EQ(Outcome(file->GetString("flag")), prefix + "\"flag\" is a bool; expected a string");
  EXPECT_EQ(Outcome(file->GetString("array", "")),
            prefix + "\"array\" is an array of uint32; expected a string");
  EXPECT_EQ(Outcome(file->GetStrings("array")),
            prefix + "\"array\" is an array of uint32; expected an array of strings");
  EXPECT_EQ(Outcome(file->GetIntegers("text")),
            prefix + "\"text\" is a string; expected an array of integers");
  EXPECT_EQ(Outcome(file->GetFloats("absent")), prefix + "\"absent\" is absent; expected an array of floats");
}

TEST(EveryTruncationIsRefused) {
  const std::string bytes = SmallModel().Bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string outcome = Outcome(Open(bytes.substr(0, size)));
    EXPECT(outcome.rfind("CorruptFile: memory: ", 0) == 0);
  }
  EXPECT_EQ(Outcome(Open(bytes)), "Ok: ");
  EXPECT_EQ(Outcome(Open(bytes + "more")), "Ok: ");
}

TEST(AFileThatShrinksWhileReadIsRefused) {
  const std::string bytes = SmallModel().Bytes();
  for (const size_t size : {size_t{10}, size_t{100}}) {
    const auto file =
        std::make_shared<MemoryFile>(bytes.substr(0, size), bytes.size(), MemoryFile::Rest::kMissing);
    EXPECT(Contains(Outcome(GgufFile::Open(file)), "beyond the file's end"));
  }
}

// One bit off anywhere gives a file or a refusal; never a crash, and never a tensor outside the file.
TEST(EveryFlippedBitIsSurvived) {
  const std::string bytes = SmallModel().Bytes();
  size_t refused = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
    const FileResult file = Open(damaged);
    if (!file.ok()) {
      ++refused;
      EXPECT(Contains(file.status().message(), "memory: "));
      continue;
    }
    for (const GgufTensor& tensor : file.value()->tensors()) {
      EXPECT(tensor.offset <= damaged.size() && tensor.bytes <= damaged.size() - tensor.offset);
    }
  }
  EXPECT(refused > 1000);
}

// A sparse file of terabytes costs its author nothing: what one header may take is bounded whatever its size.
TEST(CountsThatOnlyAHugeFileCouldHoldAreRefused) {
  const auto outcome = [](const std::string& start) {
    const uint64_t size = uint64_t{1} << 50;
    return Outcome(GgufFile::Open(std::make_shared<MemoryFile>(start, size, MemoryFile::Rest::kZeros)));
  };
  const auto stored = [](uint64_t count) {
    return std::string(reinterpret_cast<char*>(&count), sizeof(count));
  };
  EXPECT_EQ(outcome(SmallModel().Bytes()), "Ok: ");

  const std::string preamble = GgufWriter().Bytes().substr(0, 8);
  EXPECT(Contains(outcome(preamble + stored(1 << 21) + stored(0)), "a count of 2097152 tensors"));
  EXPECT(Contains(outcome(preamble + stored(0) + stored(65'537)), "a count of 65537 metadata keys"));

  GgufWriter writer;
  writer.AddArray<uint64_t>("numbers", GgufType::kUint64, {});
  const std::string bytes = writer.Bytes();
  const std::string before_count = bytes.substr(0, bytes.size() - 8);
  EXPECT(Contains(outcome(before_count + stored(uint64_t{1} << 40)),
                  "an array of 1099511627776 values of type uint64"));
  const uint64_t most = ((uint64_t{128} << 20) - bytes.size()) / 8;  // that fit in the longest header
  EXPECT_EQ(outcome(before_count + stored(most)), "Ok: ");
  EXPECT(Contains(outcome(before_count + stored(most + 1)), "an array of"));
}

TEST(Utf8IsCheckedAsTheStandardHasIt) {
  for (const char* valid : {"", "plain", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                            "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "a\xe2\x82\xac z"}) {
    EXPECT(IsValidUtf8(valid));
  }
  for (const char* invalid : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf",
                              "\xe1\x80", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80",
                              "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "ab\xe2\x82"}) {
    EXPECT(!IsValidUtf8(invalid));
  }
}

TEST(QuotedTextIsPrintable) {
  EXPECT_EQ(Quoted("blk.0"), "\"blk.0\"");
  EXPECT_EQ(Quoted("a\n\x7f\xff\"\\"), "\"a\\x0a\\x7f\\xff\\\"\\\\\"");
  EXPECT_EQ(Quoted("héé", 3), "\"hé…\"");
  EXPECT_EQ(Quoted(std::string_view("\0", 1)), "\"\\x00\"");
}

}  // namespace
}  // namespace tokenmill

HARNESS_MAIN()
