#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "io/output_file.h"
#include "io/text.h"

namespace tokenmill {
namespace {

constexpr size_t kWriteBytesMax = size_t{1} << 30;
constexpr int kNamesTried = 100;

Status WriteError(const std::string& path, int error) {
  const std::string quoted = Quoted(path, PATH_MAX);
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Error(Code::kOutOfMemory, "no space left to write %s: %s; free some or write elsewhere",
                   quoted.c_str(), std::strerror(error));
    case ENOENT:
    case ENOTDIR:
      return Error(Code::kInvalidArgument, "cannot write %s: its folder does not exist", quoted.c_str());
    case EACCES:
    case EPERM:
    case EROFS:
      return Error(Code::kInvalidArgument, "cannot write %s: this user may not write there", quoted.c_str());
    default:
      return Error(Code::kInvalidArgument, "cannot write %s: %s", quoted.c_str(), std::strerror(error));
  }
}

Status ExistsError(const std::string& path) {
  return Error(Code::kInvalidArgument, "%s exists already; remove it, write elsewhere or ask to overwrite it",
               Quoted(path, PATH_MAX).c_str());
}

class PosixOutputFile final : public OutputFile {
 public:
  PosixOutputFile(std::string path, std::string temporary, int fd, bool overwrite)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd), overwrite_(overwrite) {}

  ~PosixOutputFile() override {
    if (fd_ >= 0) close(fd_);
    if (!temporary_.empty()) unlink(temporary_.c_str());
  }

  Status WriteAt(uint64_t offset, const void* data, size_t bytes) override {
    const char* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t put = pwrite(fd_, from, std::min(bytes, kWriteBytesMax), static_cast<off_t>(offset));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return WriteError(path_, errno);
      from += put;
      bytes -= static_cast<size_t>(put);
      offset += static_cast<uint64_t>(put);
    }
    return {};
  }

  Status Publish() override {
    if (fsync(fd_) != 0) return WriteError(path_, errno);
    const int failed = close(std::exchange(fd_, -1));
    if (failed != 0) return WriteError(path_, errno);
    TM_RETURN_IF_ERROR(overwrite_ ? Rename() : Link());
    SyncFolder();
    return {};
  }

 private:
  Status Rename() {
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return WriteError(path_, errno);
    temporary_.clear();
    return {};
  }

  // Unlike a rename, a link does not replace a file that has come in the meantime.
  Status Link() {
    if (link(temporary_.c_str(), path_.c_str()) == 0) return {};
    if (errno == EEXIST) return ExistsError(path_);
    struct stat info;  // file systems without links
    return lstat(path_.c_str(), &info) == 0 ? ExistsError(path_) : Rename();
  }

  /// Makes the name survive a power failure, where the platform can.
  void SyncFolder() const {
    const size_t slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int fd = open(folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
  }

  const std::string path_;
  std::string temporary_;  // empty once it is gone
  int fd_;
  const bool overwrite_;
};

}  // namespace

Result<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path, bool overwrite) {
  static constinit std::atomic<unsigned> counter{0};
  if (path.empty() || path.find('\0') != std::string::npos) {
    return Error(Code::kInvalidArgument, "cannot write %s: it is no path of a file",
                 Quoted(path, PATH_MAX).c_str());
  }
  struct stat info;
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) {
      return Error(Code::kInvalidArgument,
                   "cannot write %s: it is a directory; give the path of a file in it",
                   Quoted(path, PATH_MAX).c_str());
    }
    if (!overwrite) return ExistsError(path);
  }
  for (int i = 0; i < kNamesTried; ++i) {
    std::string temporary = Format("%s.%d-%u.tmp", path.c_str(), static_cast<int>(getpid()), counter++);
    const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      return std::unique_ptr<OutputFile>(
          std::make_unique<PosixOutputFile>(path, std::move(temporary), fd, overwrite));
    }
    if (errno != EEXIST && errno != EINTR) return WriteError(path, errno);
  }
  return WriteError(path, EEXIST);
}

}  // namespace tokenmill
