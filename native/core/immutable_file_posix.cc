#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/immutable_file.h"

namespace tokenmill {
namespace {

constexpr size_t kWriteBytesMax = size_t{1} << 30;  // what one pwrite may move everywhere

Status SystemError(const char* what, const std::string& path) {
  return Error(Code::kInternal, "%s '%s' failed: %s", what, path.c_str(), std::strerror(errno));
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// A file without a name: the system drops it when the process ends, however it ends.
int OpenUnnamed([[maybe_unused]] const std::string& folder) {
#if defined(O_TMPFILE)
  return open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
#else
  return -1;
#endif
}

Status Link(int descriptor, const std::string& temporary, const std::string& path) {
  int failed;
  if (temporary.empty()) {
    const std::string unnamed = "/proc/self/fd/" + std::to_string(descriptor);
    failed = linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
  } else {
    failed = link(temporary.c_str(), path.c_str());
  }
  if (failed != 0 && errno != EEXIST) return SystemError("naming", path);
  return {};
}

}  // namespace

ImmutableFile::ImmutableFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  struct stat info;
  if (fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
      info.st_size > 0) {
    const size_t bytes = static_cast<size_t>(info.st_size);
    void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (memory != MAP_FAILED) {
      data_ = static_cast<const std::byte*>(memory);
      size_ = bytes;
      madvise(memory, bytes, MADV_HUGEPAGE);
      futimens(descriptor, nullptr);  // the time of last use, by which files are kept
    }
  }
  close(descriptor);
}

ImmutableFile::~ImmutableFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

Status ImmutableFileWriter::Open(const std::string& path, uint64_t bytes) {
  path_ = path;
  const std::string folder = FolderOf(path);
  struct statvfs disk;
  if (statvfs(folder.c_str(), &disk) != 0) return SystemError("looking at", folder);
  if (static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize / 2 < bytes) {
    return Error(Code::kInternal, "'%s' has too little room for %llu MiB", folder.c_str(),
                 static_cast<unsigned long long>(bytes >> 20));
  }
  descriptor_ = OpenUnnamed(folder);
  if (descriptor_ >= 0) return {};
  temporary_ = path + ".XXXXXX";
  descriptor_ = mkstemp(temporary_.data());
  if (descriptor_ >= 0) return {};
  temporary_.clear();
  return SystemError("writing to", folder);
}

ImmutableFileWriter::~ImmutableFileWriter() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
  if (descriptor_ >= 0) close(descriptor_);
}

Status ImmutableFileWriter::WriteAt(uint64_t offset, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put =
        pwrite(descriptor_, from, std::min(bytes, kWriteBytesMax), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return SystemError("writing", path_);
    from += put;
    bytes -= static_cast<size_t>(put);
    offset += static_cast<uint64_t>(put);
  }
  return {};
}

Status ImmutableFileWriter::Publish() { return Link(descriptor_, temporary_, path_); }

void RemoveImmutableFile(const std::string& path) { unlink(path.c_str()); }

}  // namespace tokenmill
