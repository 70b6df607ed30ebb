#include "core/keyed_hash.h"

#include <set>
#include <vector>

#include "harness.h"

using namespace tokenmill;

TEST(every_changed_bit_and_every_length_changes_the_hash) {
  for (const size_t count : {1u, 7u, 8u, 9u, 64u, 200u}) {
    std::vector<uint8_t> bytes(count);
    for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + 3);
    std::set<uint64_t> hashes = {KeyedHash(bytes.data(), count)};
    for (size_t bit = 0; bit < 8 * count; ++bit) {
      bytes[bit / 8] ^= 1u << bit % 8;
      hashes.insert(KeyedHash(bytes.data(), count));
      bytes[bit / 8] ^= 1u << bit % 8;
    }
    EXPECT_EQ(hashes.size(), 8 * count + 1);
    EXPECT(hashes.contains(KeyedHash(bytes.data(), count)));
  }
  const std::vector<uint8_t> zeros(200), ones(200, 0xff);
  std::set<uint64_t> hashes;
  for (size_t count = 1; count <= zeros.size(); ++count) {
    hashes.insert(KeyedHash(zeros.data(), count));
    hashes.insert(KeyedHash(ones.data(), count));
  }
  EXPECT_EQ(hashes.size(), 400u);
  EXPECT(*hashes.rbegin() < (uint64_t{1} << 61) - 1);
}

TEST(the_address_does_not_count) {
  std::vector<uint8_t> bytes(301, 5);
  EXPECT_EQ(KeyedHash(bytes.data(), 300), KeyedHash(bytes.data() + 1, 300));
}

HARNESS_MAIN()
