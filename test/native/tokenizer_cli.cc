// Runs the tokenizers from a script, so that test/oracle/tokenizer_compare.py can hold them against their
// oracle, and times them. Requests come from standard input as a 32-bit length and that many bytes; each
// answer is a 32-bit count and that many 32-bit words (or bytes, for text).
//
//   tokenizer_cli encode MODEL.gguf [special]   text → ids
//   tokenizer_cli decode MODEL.gguf [special]   ids → text
//   tokenizer_cli stream MODEL.gguf             ids → text, token by token
//   tokenizer_cli split NAME                    text → bytes of each piece of this pre-tokenizer
//   tokenizer_cli nfc                           text → text
//   tokenizer_cli bench MODEL.gguf TEXT [runs]  the best of several runs, in words for people

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tokenizer/nfc.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

using namespace tokenmill;

namespace {

int Fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  return 1;
}

void Answer(const void* data, size_t count, size_t size) {
  const uint32_t words = static_cast<uint32_t>(count);
  std::fwrite(&words, sizeof(words), 1, stdout);
  std::fwrite(data, size, count, stdout);
}

void ForEachRequest(const std::function<void(const std::string&)>& serve) {
  uint32_t size;
  std::string request;
  while (std::fread(&size, sizeof(size), 1, stdin) == 1) {
    request.resize(size);
    if (std::fread(request.data(), 1, size, stdin) != size) return;
    serve(request);
  }
}

std::vector<Token> TokensOf(const std::string& request) {
  std::vector<Token> tokens(request.size() / sizeof(Token));
  std::memcpy(tokens.data(), request.data(), tokens.size() * sizeof(Token));
  return tokens;
}

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

int Bench(const GgufFile& file, const char* path, int runs) {
  std::FILE* stream = std::fopen(path, "rb");
  if (stream == nullptr) return Fail("cannot open the text");
  std::string text;
  for (char block[65536]; size_t got = std::fread(block, 1, sizeof(block), stream);) text.append(block, got);
  std::fclose(stream);
  double spec_ms = 1e9, create_ms = 1e9, encode_ms = 1e9, decode_ms = 1e9;
  std::vector<Token> tokens;
  for (int run = 0; run < runs; ++run) {
    auto start = std::chrono::steady_clock::now();
    auto spec = ReadTokenizerSpec(file);
    if (!spec.ok()) return Fail(spec.status().message());
    spec_ms = std::min(spec_ms, MillisecondsSince(start));
    start = std::chrono::steady_clock::now();
    const auto tokenizer = Tokenizer::Create(std::move(spec).value());
    if (!tokenizer.ok()) return Fail(tokenizer.status().message());
    create_ms = std::min(create_ms, MillisecondsSince(start));
    for (int repeat = 0; repeat < 3; ++repeat) {
      tokens.clear();
      start = std::chrono::steady_clock::now();
      tokenizer.value()->Encode(text, {}, &tokens);
      encode_ms = std::min(encode_ms, MillisecondsSince(start));
      start = std::chrono::steady_clock::now();
      const std::string back = tokenizer.value()->Decode(tokens.data(), tokens.size());
      decode_ms = std::min(decode_ms, MillisecondsSince(start));
    }
  }
  std::printf(
      "spec %.1f ms, create %.1f ms, %zu bytes -> %zu tokens: encode %.2f ms, %.1f MB/s, %.2f M tokens/s; "
      "decode %.1f MB/s\n",
      spec_ms, create_ms, text.size(), tokens.size(), encode_ms,
      static_cast<double>(text.size()) / encode_ms / 1e3,
      static_cast<double>(tokens.size()) / encode_ms / 1e3,
      static_cast<double>(text.size()) / decode_ms / 1e3);
  return 0;
}

int Serve(const std::string& command, const Tokenizer& tokenizer, bool special) {
  std::vector<Token> ids;
  ForEachRequest([&](const std::string& request) {
    if (command == "encode") {
      ids.clear();
      tokenizer.Encode(request, {.special = special}, &ids);
      Answer(ids.data(), ids.size(), sizeof(Token));
    } else if (command == "decode") {
      ids = TokensOf(request);
      const std::string text = tokenizer.Decode(ids.data(), ids.size(), special);
      Answer(text.data(), text.size(), 1);
    } else {
      std::string text;
      StreamDecoder decoder(&tokenizer);
      for (const Token id : TokensOf(request)) text += decoder.Push(id);
      text += decoder.Finish();
      Answer(text.data(), text.size(), 1);
    }
  });
  return 0;
}

class Lengths final : public PieceSink {
 public:
  std::vector<uint32_t> values;
  void OnPiece(std::string_view piece) override { values.push_back(static_cast<uint32_t>(piece.size())); }
};

int Split(const char* name) {
  const PreTokenizer* pre = FindPreTokenizer(name);
  if (pre == nullptr) return Fail("known are " + PreTokenizerNames());
  ForEachRequest([&](const std::string& request) {
    Lengths lengths;
    pre->Split(request, &lengths);
    Answer(lengths.values.data(), lengths.values.size(), sizeof(uint32_t));
  });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "nfc") {
    ForEachRequest([](const std::string& request) {
      const std::string text = IsPlainNfc(request) ? request : ToNfc(request);
      Answer(text.data(), text.size(), 1);
    });
    return 0;
  }
  if (argc < 3) return Fail("usage: tokenizer_cli encode|decode|stream|split|nfc|bench ...");
  if (command == "split") return Split(argv[2]);
  const auto file = GgufFile::Open(argv[2]);
  if (!file.ok()) return Fail(file.status().message());
  if (command == "bench" && argc > 3) return Bench(*file.value(), argv[3], argc > 4 ? std::atoi(argv[4]) : 5);
  auto spec = ReadTokenizerSpec(*file.value());
  if (!spec.ok()) return Fail(spec.status().message());
  const auto tokenizer = Tokenizer::Create(std::move(spec).value());
  if (!tokenizer.ok()) return Fail(tokenizer.status().message());
  return Serve(command, *tokenizer.value(), argc > 3 && std::string(argv[3]) == "special");
}
