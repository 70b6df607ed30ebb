#include "core/hash64.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "harness.h"

using namespace tokenmill;

namespace {

std::vector<uint8_t> Bytes(size_t count) {
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + 3);
  return bytes;
}

}  // namespace

TEST(every_single_changed_bit_changes_the_hash) {
  for (const size_t count : {1u, 7u, 8u, 63u, 64u, 65u, 200u}) {
    std::vector<uint8_t> bytes = Bytes(count);
    std::set<uint64_t> hashes = {Hash64(bytes.data(), count)};
    for (size_t bit = 0; bit < 8 * count; ++bit) {
      bytes[bit / 8] ^= 1u << bit % 8;
      hashes.insert(Hash64(bytes.data(), count));
      bytes[bit / 8] ^= 1u << bit % 8;
    }
    EXPECT_EQ(hashes.size(), 8 * count + 1);
  }
}

TEST(length_seed_and_order_count_and_the_address_does_not) {
  const std::vector<uint8_t> zeros(200);
  std::set<uint64_t> hashes;
  for (size_t count = 0; count <= zeros.size(); ++count) hashes.insert(Hash64(zeros.data(), count));
  for (uint64_t seed = 1; seed <= 100; ++seed) hashes.insert(Hash64(zeros.data(), zeros.size(), seed));
  EXPECT_EQ(hashes.size(), 301u);

  std::vector<uint8_t> bytes = Bytes(256), swapped = bytes;
  std::swap_ranges(swapped.begin(), swapped.begin() + 64, swapped.begin() + 64);
  EXPECT(Hash64(bytes.data(), 256) != Hash64(swapped.data(), 256));
  std::vector<uint8_t> shifted(bytes.begin(), bytes.end());
  shifted.insert(shifted.begin(), 0);
  EXPECT_EQ(Hash64(bytes.data(), 256), Hash64(shifted.data() + 1, 256));
}

// Flips a few bits of words that one lane takes in one after the other.
TEST(changed_bits_are_not_taken_back_by_few_in_the_next_word_of_the_lane) {
  constexpr size_t kLaneBytes = 64;
  std::vector<uint8_t> bytes = Bytes(4 * kLaneBytes + 24);
  const auto flip = [&](size_t word, int bit) {
    bytes[8 * word + static_cast<size_t>(bit / 8)] ^= static_cast<uint8_t>(1u << bit % 8);
  };
  for (const size_t word : {0u, 7u, 8u, 19u, 24u, 26u}) {
    const uint64_t sound = Hash64(bytes.data(), bytes.size());
    const size_t next = word + kLaneBytes / 8;
    for (int first = 0; first < 64; ++first) {
      flip(word, first);
      for (int second = 0; second < 64; ++second) {
        flip(next, second);
        EXPECT(Hash64(bytes.data(), bytes.size()) != sound);
        for (int third = 0; third < second; ++third) {
          flip(next, third);
          if (Hash64(bytes.data(), bytes.size()) == sound) EXPECT_EQ(third, -1);
          flip(next, third);
        }
        flip(next, second);
      }
      flip(word, first);
    }
  }
}

TEST(two_changed_bits_of_a_word_are_not_taken_back_by_one_in_the_next) {
  std::vector<uint8_t> bytes = Bytes(128);
  const auto flip = [&](size_t word, int bit) {
    bytes[8 * word + static_cast<size_t>(bit / 8)] ^= static_cast<uint8_t>(1u << bit % 8);
  };
  const uint64_t sound = Hash64(bytes.data(), bytes.size());
  for (int first = 0; first < 64; ++first) {
    for (int second = 0; second < first; ++second) {
      for (int third = 0; third < 64; ++third) {
        for (const auto [word, bit] : {std::pair{2u, first}, {2u, second}, {10u, third}}) flip(word, bit);
        if (Hash64(bytes.data(), bytes.size()) == sound) EXPECT_EQ(third, -1);
        for (const auto [word, bit] : {std::pair{2u, first}, {2u, second}, {10u, third}}) flip(word, bit);
      }
    }
  }
}

HARNESS_MAIN()
