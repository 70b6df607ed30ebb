#include "core/keyed_hash.h"

#include <cstring>
#include <random>

namespace tokenmill {
namespace {

constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;
__extension__ using Product = unsigned __int128;

// Of values below 2^122 + 2^94.
uint64_t Modulo(Product value) {
  const uint64_t sum = static_cast<uint64_t>(value & kPrime) + static_cast<uint64_t>(value >> 61);
  return sum >= kPrime ? sum - kPrime : sum;
}

uint64_t DrawKey() {
  std::random_device device;
  std::uniform_int_distribution<uint64_t> keys(uint64_t{1} << 32, kPrime - 1);
  return keys(device);
}

constexpr size_t kLanes = 4;  // independent, so that multiplications overlap

// One lane's key and its square.
struct Key {
  uint64_t once = DrawKey();
  uint64_t twice = Modulo(Product{once} * once);

  uint64_t Add(uint64_t hash, uint64_t word) const {
    return Modulo(Product{hash} * twice + Product{word >> 32} * once + static_cast<uint32_t>(word));
  }
};

}  // namespace

// The sum of a polynomial a lane, of the lane's own key modulo the prime. Its coefficients are the lane's words, 32
// bits each, and the number of bytes; the constant ones are 0. Two that differ agree for as small a part of the keys
// as their degree is of the prime, at most (J. L. Carter, M. N. Wegman, 1979).
uint64_t KeyedHash(const void* data, size_t bytes) {
  static const Key keys[kLanes];
  uint64_t lanes[kLanes] = {1, 1, 1, 1};
  uint64_t words[kLanes] = {};
  const char* p = static_cast<const char*>(data);
  size_t left = bytes;
  const auto add = [&] {
    for (size_t i = 0; i < kLanes; ++i) lanes[i] = keys[i].Add(lanes[i], words[i]);
  };
  for (; left >= sizeof(words); left -= sizeof(words), p += sizeof(words)) {
    std::memcpy(words, p, sizeof(words));
    add();
  }
  std::memset(words, 0, sizeof(words));
  if (left > 0) std::memcpy(words, p, left);
  add();
  lanes[0] = keys[0].Add(lanes[0], bytes);
  uint64_t hash = 0;
  for (size_t i = 0; i < kLanes; ++i) hash = Modulo(Product{lanes[i]} * keys[i].once + hash);
  return hash;
}

}  // namespace tokenmill
