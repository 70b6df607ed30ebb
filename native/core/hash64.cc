#include "core/hash64.h"

#include <cstring>

namespace tokenmill {
namespace {

constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;  // the golden ratio's bits
constexpr int kLanes = 8;                       // independent, so that multiplications overlap
__extension__ using Product = unsigned __int128;

uint64_t Mix(uint64_t x) {  // every bit of x reaches every bit of the result
  x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
  x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
  return x ^ x >> 32;
}

// Both halves of the product: what one changed bit makes of them depends on all bits. Of the lower half alone, changes
// of top bits are the same whatever the rest, so that the next word could take them back.
uint64_t Step(uint64_t state, uint64_t word) {
  const Product product = Product{state ^ word} * kOdd;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace

uint64_t Hash64(const void* data, size_t bytes, uint64_t seed) {
  uint64_t lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = Mix(seed + kOdd * static_cast<uint64_t>(i + 1));
  const char* p = static_cast<const char*>(data);
  size_t left = bytes;
  for (; left >= sizeof(lanes); left -= sizeof(lanes), p += sizeof(lanes)) {
    for (int i = 0; i < kLanes; ++i) {
      uint64_t word;
      std::memcpy(&word, p + 8 * i, sizeof(word));
      lanes[i] = Step(lanes[i], word);
    }
  }
  uint64_t rest[kLanes] = {};
  if (left > 0) std::memcpy(rest, p, left);
  uint64_t hash = Mix(seed ^ bytes);
  for (int i = 0; i < kLanes; ++i) hash = Mix(Step(hash, Step(lanes[i], rest[i])));
  return hash;
}

}  // namespace tokenmill
