#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "harness.h"
#include "io/file.h"

namespace tokenmill {
namespace {

/// A folder for one test, removed with what is in it.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/tokenmill-file-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() {
    for (const std::string& file : files_) unlink(file.c_str());
    rmdir(path_.c_str());
  }

  const std::string& path() const { return path_; }

  /// The path of a file in the folder, to be removed with it.
  std::string Name(const char* name) { return files_.emplace_back(path_ + "/" + name); }

  std::string Write(const char* name, const std::string& bytes) {
    const std::string path = Name(name);
    std::FILE* file = std::fopen(path.c_str(), "wb");
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
    return path;
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

std::string OpenOutcome(const std::string& path) {
  const Status status = File::Open(path).status();
  return std::string(CodeName(status.code())) + ": " + status.message();
}

std::string ReadOutcome(const File& file, uint64_t offset, size_t bytes) {
  std::string buffer(bytes, '\0');
  const Status status = file.ReadAt(offset, buffer.data(), bytes);
  return status.ok() ? buffer : std::string(CodeName(status.code())) + ": " + status.message();
}

TEST(ReadsGiveTheBytesAtTheirOffsets) {
  Folder folder;
  const std::string path = folder.Write("file", "0123456789");
  const auto file = File::Open(path).value();
  EXPECT_EQ(file->path(), path);
  EXPECT_EQ(file->size(), 10u);
  EXPECT_EQ(ReadOutcome(*file, 0, 10), "0123456789");
  EXPECT_EQ(ReadOutcome(*file, 7, 2), "78");
  EXPECT_EQ(ReadOutcome(*file, 10, 0), "");
}

TEST(ReadsBeyondTheEndAreRefused) {
  Folder folder;
  const auto file = File::Open(folder.Write("file", "0123456789")).value();
  const auto refused = [&](uint64_t offset, size_t bytes) {
    return ReadOutcome(*file, offset, bytes).rfind("CorruptFile: " + file->path(), 0) == 0;
  };
  EXPECT(refused(8, 3));
  EXPECT(refused(11, 0));
  EXPECT(refused(~uint64_t{0}, 2));
  EXPECT(refused(uint64_t{1} << 63, 1));
}

TEST(AFileCutShortWhileOpenIsRefused) {
  Folder folder;
  const std::string path = folder.Write("file", std::string(10'000, 'x'));
  const auto file = File::Open(path).value();
  EXPECT_EQ(truncate(path.c_str(), 5'000), 0);
  EXPECT(ReadOutcome(*file, 4'000, 2'000).find("the file ends at byte 5000, but had 10000 bytes") !=
         std::string::npos);
  EXPECT_EQ(ReadOutcome(*file, 4'000, 3), "xxx");
}

TEST(IdentityFollowsTheFileNotThePath) {
  Folder folder;
  const std::string path = folder.Write("file", "same");
  const std::string link_path = folder.Name("link");
  EXPECT_EQ(symlink(path.c_str(), link_path.c_str()), 0);
  const FileIdentity a = File::Open(path).value()->identity();
  const FileIdentity b = File::Open(link_path).value()->identity();
  const FileIdentity other = File::Open(folder.Write("other", "same")).value()->identity();
  EXPECT(a.device == b.device && a.inode == b.inode && a.size == b.size && a.modified_ns == b.modified_ns);
  EXPECT(a.inode != other.inode);
  EXPECT(a.modified_ns > int64_t{1'500'000'000} * 1'000'000'000);
}

TEST(AbsentFilesSayWhereTheyWereLookedFor) {
  EXPECT_EQ(OpenOutcome("/nowhere/model.gguf"),
            "ModelNotFound: cannot open \"/nowhere/model.gguf\": there is no such file");
  char directory[4096];
  EXPECT(getcwd(directory, sizeof(directory)) != nullptr);
  EXPECT_EQ(OpenOutcome("nowhere.gguf"),
            "ModelNotFound: cannot open \"nowhere.gguf\": there is no such file (looked in " +
                std::string(directory) + ")");
}

TEST(WhatIsNoRegularFileIsRefused) {
  Folder folder;
  EXPECT(OpenOutcome(folder.path()).find("it is a directory") != std::string::npos);
  EXPECT(OpenOutcome("/dev/null").find("not a regular file") != std::string::npos);
  EXPECT(OpenOutcome("").find("ModelNotFound: cannot open a file: the path is empty") == 0);
  EXPECT(OpenOutcome(std::string("a\0b", 3)).find("contains a NUL character") != std::string::npos);
  EXPECT(OpenOutcome(std::string(5'000, 'x')).find("ModelNotFound: ") == 0);
  EXPECT(OpenOutcome(folder.Write("file", "") + "/below").find("there is no such file") != std::string::npos);
}

TEST(APipeWithoutAWriterDoesNotBlock) {
  Folder folder;
  const std::string path = folder.Name("pipe");
  EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT(OpenOutcome(path).find("not a regular file") != std::string::npos);
}

TEST(UnreadableFilesSaySo) {
  if (geteuid() == 0) return;  // root may read everything
  Folder folder;
  const std::string path = folder.Write("secret", "x");
  EXPECT_EQ(chmod(path.c_str(), 0), 0);
  EXPECT(OpenOutcome(path).find("this user may not read it") != std::string::npos);
}

TEST(TheDescriptorIsNotInherited) {
  Folder folder;
  const std::string path = folder.Write("file", "x");
  const int lowest = dup(0);  // the descriptor that the next open gets
  close(lowest);
  const auto file = File::Open(path).value();
  EXPECT(fcntl(lowest, F_GETFD) & FD_CLOEXEC);
}

TEST(ManyThreadsReadAtOnce) {
  Folder folder;
  std::string bytes(1 << 20, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 >> 4);
  const auto file = File::Open(folder.Write("file", bytes)).value();
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 500; ++i) {
        const size_t offset = (i * 7919 + t * 104'729) % (bytes.size() - 1000);
        if (ReadOutcome(*file, offset, 1000) != bytes.substr(offset, 1000)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
}  // namespace tokenmill

HARNESS_MAIN()
