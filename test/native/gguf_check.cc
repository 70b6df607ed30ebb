// Opens every GGUF file named on the command line and prints one line for each: the outcome's code, then the
// message of a failure. The exit status is 0 whatever the outcomes are.

#include <cstdio>

#include "io/gguf.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const auto file = tokenmill::GgufFile::Open(std::string(argv[i]));
    const tokenmill::Status status = file.status();
    std::printf("%s %s\n", tokenmill::CodeName(status.code()), status.message().c_str());
  }
  return 0;
}
