#include "io/header_cursor.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>

namespace tokenmill {
namespace {

/// Large enough to make the calls cheap, small enough to stay in a second-level cache.
constexpr size_t kBlockBytes = 256 * 1024;

}  // namespace

HeaderCursor::HeaderCursor(const File& file, uint64_t limit)
    : file_(file), limit_(std::min(limit, file.size())) {}

Status HeaderCursor::CheckRemaining(uint64_t bytes) const {
  if (bytes <= remaining()) return Status();
  if (limit_ < file_.size()) {
    return Error(Code::kCorruptFile,
                 "%s: %" PRIu64 " bytes at byte %" PRIu64 " make the header longer than %" PRIu64
                 " bytes, the most that is read",
                 file_.path().c_str(), bytes, position(), limit_);
  }
  return Error(Code::kCorruptFile,
               "%s: the file ends at byte %" PRIu64 ", within its header, where %" PRIu64
               " bytes at byte %" PRIu64 " were expected; it is incomplete or damaged: fetch it again",
               file_.path().c_str(), limit_, bytes, position());
}

Status HeaderCursor::Refill() {
  block_offset_ = position();
  at_ = 0;
  block_.resize(static_cast<size_t>(std::min<uint64_t>(kBlockBytes, limit_ - block_offset_)));
  Status status = file_.ReadAt(block_offset_, block_.data(), block_.size());
  if (!status.ok()) block_.clear();
  return status;
}

Status HeaderCursor::Read(void* out, size_t bytes) {
  TM_RETURN_IF_ERROR(CheckRemaining(bytes));
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    if (Buffered() == 0) TM_RETURN_IF_ERROR(Refill());
    const size_t part = std::min(bytes, Buffered());
    std::memcpy(to, block_.data() + at_, part);
    at_ += part;
    to += part;
    bytes -= part;
  }
  return Status();
}

Status HeaderCursor::ReadString(uint64_t bytes, std::string* out) {
  TM_RETURN_IF_ERROR(CheckRemaining(bytes));
  if (bytes <= Buffered()) {
    out->assign(block_.data() + at_, static_cast<size_t>(bytes));
    at_ += static_cast<size_t>(bytes);
    return Status();
  }
  out->resize(static_cast<size_t>(bytes));
  return Read(out->data(), out->size());
}

}  // namespace tokenmill
