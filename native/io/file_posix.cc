#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <climits>
#include <cstring>

#include "io/file.h"
#include "io/text.h"

namespace tokenmill {
namespace {

/// One pread moves at most this much: Linux stops at 2 GiB less a page, macOS refuses more than INT_MAX.
constexpr size_t kReadBytesMax = size_t{1} << 30;

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

class PosixFile final : public File {
 public:
  PosixFile(std::string path, Descriptor descriptor, const FileIdentity& identity)
      : path_(std::move(path)), descriptor_(std::move(descriptor)), identity_(identity) {}

  const std::string& path() const override { return path_; }
  const FileIdentity& identity() const override { return identity_; }

  Status ReadAt(uint64_t offset, void* out, size_t bytes) const override {
    if (offset > identity_.size || bytes > identity_.size - offset) {
      return Error(Code::kCorruptFile,
                   "%s: %zu bytes at byte %" PRIu64 " lie beyond the file's end at %" PRIu64, path_.c_str(),
                   bytes, offset, identity_.size);
    }
    char* to = static_cast<char*>(out);
    while (bytes > 0) {
      const ssize_t got =
          pread(descriptor_.get(), to, std::min(bytes, kReadBytesMax), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return Error(Code::kCorruptFile, "%s: reading at byte %" PRIu64 " failed: %s", path_.c_str(), offset,
                     std::strerror(errno));
      }
      if (got == 0) {
        return Error(Code::kCorruptFile,
                     "%s: the file ends at byte %" PRIu64 ", but had %" PRIu64
                     " bytes when it was opened; it was changed while in use",
                     path_.c_str(), offset, identity_.size);
      }
      to += got;
      bytes -= static_cast<size_t>(got);
      offset += static_cast<uint64_t>(got);
    }
    return Status();
  }

 private:
  const std::string path_;
  const Descriptor descriptor_;
  const FileIdentity identity_;
};

FileIdentity IdentityOf(const struct stat& info) {
#if defined(__APPLE__)
  const struct timespec& modified = info.st_mtimespec;
#else
  const struct timespec& modified = info.st_mtim;
#endif
  FileIdentity identity;
  identity.device = static_cast<uint64_t>(info.st_dev);
  identity.inode = static_cast<uint64_t>(info.st_ino);
  identity.size = static_cast<uint64_t>(info.st_size);
  identity.modified_ns = static_cast<int64_t>(modified.tv_sec) * 1'000'000'000 + modified.tv_nsec;
  return identity;
}

/// Why `path` did not open, with the working directory where a relative path may mean another file.
Status OpenError(const std::string& path, int error) {
  std::string where;
  char directory[PATH_MAX];
  if (path[0] != '/' && getcwd(directory, sizeof(directory)) != nullptr) {
    where = Format(" (looked in %s)", directory);
  }
  const char* reason = std::strerror(error);
  if (error == ENOENT || error == ENOTDIR) reason = "there is no such file";
  if (error == EACCES || error == EPERM) reason = "this user may not read it";
  if (error == EMFILE || error == ENFILE) reason = "too many files are open";
  return Error(Code::kModelNotFound, "cannot open %s: %s%s", Quoted(path, PATH_MAX).c_str(), reason,
               where.c_str());
}

}  // namespace

Result<std::shared_ptr<File>> File::Open(const std::string& path) {
  if (path.empty()) return Error(Code::kModelNotFound, "cannot open a file: the path is empty");
  if (path.find('\0') != std::string::npos) {
    return Error(Code::kModelNotFound, "cannot open %s: the path contains a NUL character",
                 Quoted(path, PATH_MAX).c_str());
  }
  int fd;
  do {
    fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);  // a pipe must not block here
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return OpenError(path, errno);
  Descriptor descriptor(fd);

  struct stat info;
  if (fstat(fd, &info) != 0) return OpenError(path, errno);
  if (S_ISDIR(info.st_mode)) {
    return Error(Code::kModelNotFound, "cannot open %s: it is a directory; give the path of a file in it",
                 Quoted(path, PATH_MAX).c_str());
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(Code::kModelNotFound, "cannot open %s: it is not a regular file (a pipe, socket or device)",
                 Quoted(path, PATH_MAX).c_str());
  }
  return std::shared_ptr<File>(std::make_shared<PosixFile>(path, std::move(descriptor), IdentityOf(info)));
}

}  // namespace tokenmill
