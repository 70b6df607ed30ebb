#include "io/gguf_reader.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <string_view>

#include "io/text.h"

namespace tokenmill {
namespace {

// What one header may hold. The largest in use has some 10 MB, 60 keys and 20,000 tensors; decoded metadata
// takes at most eight times its bytes in the file.
constexpr uint64_t kHeaderBytesMax = uint64_t{128} << 20;
constexpr uint64_t kMetadataMax = 65'536;
constexpr uint64_t kTensorsMax = 1'048'576;

/// What a file without GGUF's magic is instead, or "" when that cannot be told.
const char* GuessFormat(std::string_view start) {
  static constexpr struct {
    std::string_view prefix;
    const char* format;
  } kFormats[] = {
      {"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"},
      {"<!DOCTYPE", "a web page, perhaps an error page that a download saved"},
      {"<!doctype", "a web page, perhaps an error page that a download saved"},
      {"<html", "a web page, perhaps an error page that a download saved"},
      {"PK\x03\x04", "a ZIP archive or a PyTorch checkpoint; convert the model to GGUF"},
      {"lmgg", "in the GGML format, which GGUF replaced; convert the model again"},
      {"fmgg", "in the GGMF format, which GGUF replaced; convert the model again"},
      {"tjgg", "in the GGJT format, which GGUF replaced; convert the model again"},
  };
  for (const auto& [prefix, format] : kFormats) {
    if (start.substr(0, prefix.size()) == prefix) return format;
  }
  if (start.size() > 8 && start[8] == '{') return "a safetensors file; convert the model to GGUF";
  return "";
}

}  // namespace

Result<std::shared_ptr<const GgufFile>> GgufReader::Read(std::shared_ptr<const File> file) {
  GgufReader reader(std::move(file));
  TM_RETURN_IF_ERROR(reader.ReadHeader());
  return std::shared_ptr<const GgufFile>(std::move(reader.gguf_));
}

GgufReader::GgufReader(std::shared_ptr<const File> file)
    : gguf_(std::make_shared<GgufFile>()), cursor_(*file, kHeaderBytesMax) {
  gguf_->file_ = std::move(file);
}

Status GgufReader::Corrupt(uint64_t position, const std::string& what) const {
  return Error(Code::kCorruptFile, "%s: %s (at byte %" PRIu64 ")", gguf_->file().path().c_str(), what.c_str(),
               position);
}

Status GgufReader::ReadHeader() {
  TM_RETURN_IF_ERROR(ReadMagic());
  TM_RETURN_IF_ERROR(ReadVersion());
  TM_RETURN_IF_ERROR(ReadCounts());
  TM_RETURN_IF_ERROR(ReadMetadata());
  TM_RETURN_IF_ERROR(RefuseSplit());
  TM_RETURN_IF_ERROR(TakeAlignment());
  TM_RETURN_IF_ERROR(ReadTensors());
  TM_RETURN_IF_ERROR(PlaceTensors());
  return RefuseOverlaps();
}

Status GgufReader::ReadMagic() {
  const File& file = gguf_->file();
  if (file.size() == 0) return Corrupt(0, "the file is empty; expected a GGUF model");
  char start[32];
  const size_t bytes = static_cast<size_t>(std::min<uint64_t>(sizeof(start), file.size()));
  TM_RETURN_IF_ERROR(file.ReadAt(0, start, bytes));
  char magic[4] = {};
  if (bytes >= sizeof(magic)) TM_RETURN_IF_ERROR(cursor_.Read(magic, sizeof(magic)));
  if (std::memcmp(magic, "GGUF", sizeof(magic)) == 0) return Status();

  const std::string_view text(start, bytes);
  const char* guess = GuessFormat(text);
  return Corrupt(0, Format("not a GGUF file: it starts with %s, expected \"GGUF\"%s%s",
                           Quoted(text.substr(0, 4)).c_str(), *guess != '\0' ? "; it is " : "", guess));
}

Status GgufReader::ReadVersion() {
  const char* path = gguf_->file().path().c_str();
  uint32_t version;
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&version));
  gguf_->version_ = version;
  if (version == 2 || version == 3) return Status();
  if (version == 0) return Corrupt(4, "GGUF version 0 does not exist; expected 2 or 3");
  if (version == 1) {
    return Error(Code::kUnsupportedModel,
                 "%s: GGUF version 1 is not supported; expected 2 or 3: convert the model again", path);
  }
  if ((version & 0xffff) == 0) {
    return Error(Code::kUnsupportedModel,
                 "%s: a big-endian GGUF file; only little-endian ones are read: convert the model again",
                 path);
  }
  return Error(Code::kUnsupportedModel,
               "%s: GGUF version %" PRIu32
               " is not supported; expected 2 or 3: a newer release of tokenmill may read it",
               path, version);
}

Status GgufReader::ReadCounts() {
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&tensor_count_));
  TM_RETURN_IF_ERROR(cursor_.ReadScalar(&metadata_count_));
  const uint64_t remaining = cursor_.remaining();
  if (tensor_count_ > kTensorsMax || tensor_count_ > remaining / kTensorBytesMin) {
    return Corrupt(8, Format("a count of %" PRIu64 " tensors, where %" PRIu64
                             " bytes remain and at most %" PRIu64 " tensors are read; %s",
                             tensor_count_, remaining, kTensorsMax, kFetchAgain));
  }
  if (metadata_count_ > kMetadataMax || metadata_count_ > remaining / kMetadataBytesMin) {
    return Corrupt(16, Format("a count of %" PRIu64 " metadata keys, where %" PRIu64
                              " bytes remain and at most %" PRIu64 " keys are read; %s",
                              metadata_count_, remaining, kMetadataMax, kFetchAgain));
  }
  return Status();
}

}  // namespace tokenmill
