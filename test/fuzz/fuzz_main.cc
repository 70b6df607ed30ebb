// A driver for fuzz targets that needs no particular compiler: NAME_fuzz COUNT [FIRST] runs the mutated
// inputs of the numbers FIRST … FIRST + COUNT - 1. Input n is the same in every run, so a failure's number
// reproduces it. NAME_fuzz --seeds FOLDER writes the seeds as files, for libFuzzer.

#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fuzz.h"

namespace {

constexpr unsigned kSecondsMax = 20;  // for 1,000 inputs; more is a hang
volatile uint64_t current_input = 0;

void PrintInput() {
  char text[64];
  const int length = std::snprintf(text, sizeof(text), "\nfailed on input %llu\n",
                                   static_cast<unsigned long long>(current_input));
  if (write(STDERR_FILENO, text, static_cast<size_t>(length)) != length) _exit(3);
}

void OnSignal(int signal) {
  PrintInput();
  std::signal(signal, SIG_DFL);
  raise(signal);
}

/// Random numbers that depend on the input's number and their position alone (SplitMix64).
class Random {
 public:
  explicit Random(uint64_t input) : state_(input * 0x9e3779b97f4a7c15u) {}

  uint64_t Next() {
    uint64_t bits = state_ += 0xd1b54a32d192ed03u;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    return bits ^ bits >> 31;
  }

  size_t Below(size_t limit) { return limit == 0 ? 0 : static_cast<size_t>(Next() % limit); }

 private:
  uint64_t state_;
};

/// A value at which a length, a count or a type may be handled wrongly.
uint64_t BoundaryValue(Random* random, uint64_t size) {
  const uint64_t near = size + random->Below(5) - 2;
  const uint64_t power = uint64_t{1} << random->Below(64);
  switch (random->Below(6)) {
    case 0:
      return near;
    case 1:
      return power;
    case 2:
      return power - 1;
    case 3:
      return ~random->Below(40);
    default:
      return random->Below(50);
  }
}

/// Where a 64-bit length or count may be: at bytes that hold a small number. Any place if there is none.
size_t LengthField(Random* random, const std::string& input) {
  for (int attempt = 0; attempt < 40 && input.size() >= 8; ++attempt) {
    const size_t at = random->Below(input.size() - 7);
    uint64_t value;
    std::memcpy(&value, input.data() + at, sizeof(value));
    if (value > 0 && value <= input.size()) return at;
  }
  return random->Below(input.size());
}

void OverwriteField(Random* random, size_t at, size_t bytes, std::string* input) {
  const uint64_t value = BoundaryValue(random, input->size());
  std::memcpy(input->data() + at, &value, std::min(bytes, input->size() - at));
}

void Mutate(Random* random, const std::vector<std::string>& seeds, std::string* input) {
  const size_t at = random->Below(input->size());
  const size_t length = 1 + random->Below(random->Below(4) == 0 ? 64 : 12);
  switch (input->empty() ? 9 : random->Below(10)) {
    case 0:
    case 1:
      (*input)[at] = static_cast<char>((*input)[at] ^ 1 << random->Below(8));
      break;
    case 2:
      (*input)[at] = static_cast<char>(random->Next());
      break;
    case 3:
    case 4:
      OverwriteField(random, LengthField(random, *input), 8, input);
      break;
    case 5:
      OverwriteField(random, at, 4, input);
      break;
    case 6:
      input->erase(at, length);
      break;
    case 7:
      input->insert(random->Below(input->size()), input->substr(at, length));
      break;
    case 8:
      input->resize(at);
      break;
    default: {
      const std::string& other = seeds[random->Below(seeds.size())];
      const size_t from = random->Below(other.size());
      const size_t to = random->Below(input->size());
      if (random->Below(2) == 0) {
        input->replace(to, length, other, from, length);
      } else {
        input->insert(to, other, from, length);
      }
    }
  }
}

std::string InputOf(uint64_t number, const std::vector<std::string>& seeds) {
  Random random(number);
  std::string input = seeds[random.Below(seeds.size())];
  const size_t mutations = 1 + random.Below(1 + random.Below(6));
  for (size_t i = 0; i < mutations; ++i) Mutate(&random, seeds, &input);
  return input;
}

void WriteSeeds(const std::string& folder) {
  int number = 0;
  for (const std::string& seed : FuzzSeeds()) {
    std::FILE* file = std::fopen((folder + "/seed-" + std::to_string(number++)).c_str(), "wb");
    if (file == nullptr) std::exit(2);
    std::fwrite(seed.data(), 1, seed.size(), file);
    std::fclose(file);
  }
}

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) {
    WriteSeeds(argv[2]);
    return 0;
  }
  const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2'000'000;
  const uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  __sanitizer_set_death_callback(PrintInput);
  for (const int signal : {SIGALRM, SIGABRT}) std::signal(signal, OnSignal);

  const auto start = std::chrono::steady_clock::now();
  const std::vector<std::string> seeds = FuzzSeeds();
  for (uint64_t number = first; number < first + count; ++number) {
    if (number % 1000 == 0) alarm(kSecondsMax);
    current_input = number;
    Run(InputOf(number, seeds));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::string report;
  const bool enough = FuzzReport(&report);
  std::printf("%llu inputs in %.1f s: %s\n", static_cast<unsigned long long>(count), seconds, report.c_str());
  return enough || count < 100'000 ? 0 : 1;
}
