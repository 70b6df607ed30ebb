#pragma once

// A small test runner: one executable a subject, TEST(name) { EXPECT… }, a line per test, exit status 1 when
// any failed. `executable FILTER` runs the tests whose names contain FILTER. With TOKENMILL_SHORT_TESTS set,
// tests that would take minutes under an emulator leave their largest cases out.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace harness {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

inline int& Failures() {
  static int failures = 0;
  return failures;
}

struct Registrar {
  Registrar(const char* name, void (*body)()) { Tests().push_back({name, body}); }
};

template <class T>
std::string Show(const T& value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

inline void Fail(const char* file, int line, const std::string& what) {
  std::printf("    %s:%d: %s\n", file, line, what.c_str());
  ++Failures();
}

inline bool Short() { return std::getenv("TOKENMILL_SHORT_TESTS") != nullptr; }

inline int Main(int argc, char** argv) {
  int passed = 0, failed = 0;
  for (const Test& test : Tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    const int before = Failures();
    test.body();
    const bool ok = Failures() == before;
    std::printf("%s %s\n", ok ? "ok  " : "FAIL", test.name);
    ++(ok ? passed : failed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace harness

#define TEST(name)                                               \
  static void name();                                            \
  static const harness::Registrar name##_registrar(#name, name); \
  static void name()

#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) harness::Fail(__FILE__, __LINE__, "expected " #condition); \
  } while (false)

#define EXPECT_EQ(a, b)                                                                                 \
  do {                                                                                                  \
    const auto& expect_a = (a);                                                                         \
    const auto& expect_b = (b);                                                                         \
    if (!(expect_a == expect_b))                                                                        \
      harness::Fail(                                                                                    \
          __FILE__, __LINE__,                                                                           \
          std::string(#a " == " #b ": ") + harness::Show(expect_a) + " vs " + harness::Show(expect_b)); \
  } while (false)

#define EXPECT_LE(a, b)                                                                                 \
  do {                                                                                                  \
    const auto& expect_a = (a);                                                                         \
    const auto& expect_b = (b);                                                                         \
    if (!(expect_a <= expect_b))                                                                        \
      harness::Fail(                                                                                    \
          __FILE__, __LINE__,                                                                           \
          std::string(#a " <= " #b ": ") + harness::Show(expect_a) + " vs " + harness::Show(expect_b)); \
  } while (false)

#define HARNESS_MAIN() \
  int main(int argc, char** argv) { return harness::Main(argc, argv); }
