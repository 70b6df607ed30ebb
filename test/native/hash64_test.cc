#include "core/hash64.h"

#include <set>
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

HARNESS_MAIN()
