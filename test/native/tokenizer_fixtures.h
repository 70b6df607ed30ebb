#pragma once

// Reading test/fixtures/tokenizer (written by test/oracle/tokenizer_fixtures.py) and the real models.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "harness.h"
#include "tokenizer/tokenizer.h"

namespace tokenmill::fixtures {

inline std::string Folder() {
  const char* root = std::getenv("TOKENMILL_TEST_DIR");
  return std::string(root != nullptr ? root : "test") + "/fixtures/tokenizer/";
}

inline std::vector<std::string> Lines(const std::string& name) {
  std::ifstream stream(Folder() + name, std::ios::binary);
  if (!stream) harness::Fail(__FILE__, __LINE__, "cannot read " + Folder() + name);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// Undoes the escapes of text lines: %XX is a byte.
inline std::string Unescaped(std::string_view line) {
  std::string text;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '%') {
      text.push_back(line[i]);
      continue;
    }
    text.push_back(static_cast<char>(std::strtol(std::string(line.substr(i + 1, 2)).c_str(), nullptr, 16)));
    i += 2;
  }
  return text;
}

inline std::vector<std::string> Texts(const std::string& name = "texts.txt") {
  std::vector<std::string> texts;
  for (const std::string& line : Lines(name)) texts.push_back(Unescaped(line));
  return texts;
}

inline std::vector<Token> Numbers(const std::string& line) {
  std::istringstream stream(line);
  std::vector<Token> numbers;
  for (Token number; stream >> number;) numbers.push_back(number);
  return numbers;
}

inline std::string Shown(const std::vector<Token>& ids) {
  std::string shown;
  for (const Token id : ids) shown += std::to_string(id) + " ";
  return shown;
}

inline TokenizerSpec SpecOf(const std::string& path) {
  const auto file = GgufFile::Open(path);
  if (!file.ok()) {
    harness::Fail(__FILE__, __LINE__, file.status().message());
    return {};
  }
  auto spec = ReadTokenizerSpec(*file.value());
  if (!spec.ok()) {
    harness::Fail(__FILE__, __LINE__, spec.status().message());
    return {};
  }
  return std::move(spec).value();
}

/// Fails the test and returns nullptr when the spec is refused.
inline std::shared_ptr<const Tokenizer> Make(TokenizerSpec spec) {
  auto made = Tokenizer::Create(std::move(spec));
  if (made.ok()) return std::move(made).value();
  harness::Fail(__FILE__, __LINE__, made.status().message());
  return nullptr;
}

inline std::shared_ptr<const Tokenizer> Load(const std::string& name) {
  return Make(SpecOf(Folder() + name));
}

/// A real model's tokenizer; nullptr, loudly, when TOKENMILL_TEST_MODELS does not say where the files are.
inline std::shared_ptr<const Tokenizer> LoadReal(const std::string& name) {
  const char* folder = std::getenv("TOKENMILL_TEST_MODELS");
  if (folder == nullptr) {
    std::printf("SKIPPED: TOKENMILL_TEST_MODELS is not set, so nothing is checked against %s\n",
                name.c_str());
    return nullptr;
  }
  return Make(SpecOf(std::string(folder) + "/" + name));
}

inline std::vector<Token> Encode(const Tokenizer& tokenizer, std::string_view text,
                                 EncodeOptions options = {}) {
  std::vector<Token> ids;
  tokenizer.Encode(text, options, &ids);
  return ids;
}

/// Holds the ids of every text against the lines of a fixture.
inline void ExpectIds(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                      const std::string& name, EncodeOptions options = {}) {
  const std::vector<std::string> lines = Lines(name);
  EXPECT_EQ(lines.size(), texts.size());
  int wrong = 0;
  for (size_t i = 0; i < texts.size() && i < lines.size() && wrong < 5; ++i) {
    const std::string ours = Shown(Encode(tokenizer, texts[i], options));
    const std::string oracle = Shown(Numbers(lines[i]));
    if (ours != oracle) {
      ++wrong;
      harness::Fail(__FILE__, __LINE__,
                    name + " line " + std::to_string(i + 1) + ": " + ours + "instead of " + oracle);
    }
  }
}

/// The stream's text is the whole's, and no part of it ends in half a character.
inline void ExpectStreams(const Tokenizer& tokenizer, const std::vector<Token>& ids) {
  StreamDecoder decoder(&tokenizer);
  std::string streamed;
  for (const Token id : ids) {
    const std::string part = decoder.Push(id);
    EXPECT_EQ(ToValidUtf8(part), part);
    streamed += part;
  }
  streamed += decoder.Finish();
  EXPECT_EQ(streamed, tokenizer.Decode(ids.data(), ids.size()));
}

/// Runs `work` on about a megabyte and fails after ten seconds: what takes quadratic time would take hours.
template <class Work>
void ExpectLinear(const std::string& what, size_t bytes, const Work& work) {
  const std::clock_t start = std::clock();  // CPU time: a busy machine changes nothing
  work();
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("     %-28s %7.1f MB/s\n", what.c_str(), static_cast<double>(bytes) / seconds / 1e6);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  EXPECT_LE(seconds, 200.0);
#else
  EXPECT_LE(seconds, 10.0);
#endif
}

/// Texts of about a megabyte that trap what is not linear.
inline std::vector<std::pair<std::string, std::string>> LongTexts() {
  const auto fill = [](std::string_view unit, std::string_view front = {}) {
    std::string text(front);
    while (text.size() < (1u << 20)) text += unit;
    return text;
  };
  return {
      {"a", fill("a")},
      {"spaces", fill(" ")},
      {"newlines", fill("\n")},
      {"space, newline", fill(" \n")},
      {"emoji", fill("\U0001F600")},
      {"letter, digit", fill("a1")},
      {"digits", fill("1")},
      {"upper", fill("A")},
      {"uncased, then upper", fill("D", "\u3042")},
      {"apostrophes", fill("'")},
      {"marks", fill("\u0301\u0323", "a")},
      {"jamo", fill("\u1100\u1161\u11A8")},
      {"Han", fill("\u72D0\u72F8")},
      {"prefix of special", fill("<|im_star")},
      {"invalid", fill("\xF0\x9F\x98")},
      {"words", fill("The quick brown fox. ")},
  };
}

}  // namespace tokenmill::fixtures
