#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tokenmill {

namespace hashing {

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;

inline uint64_t Mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kMultiplier;
  return hash ^ hash >> 32;
}

/// Reads eight bytes a step; the tail overlaps what was read before. Not for untrusted floods: a vocabulary's
/// keys are checked once, and lookups of absent keys end at the first empty slot of a half-empty table.
inline uint64_t Bytes(const char* p, size_t size) {
  uint64_t hash = size * kMultiplier;
  uint64_t word = 0;
  if (size >= 8) {
    const char* const last = p + size - 8;
    for (; p < last; p += 8) {
      std::memcpy(&word, p, 8);
      hash = Mix(hash, word);
    }
    std::memcpy(&word, last, 8);
  } else if (size >= 4) {
    uint32_t low, high;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + size - 4, 4);
    word = low | static_cast<uint64_t>(high) << 32;
  } else if (size > 0) {
    const auto byte = [&](size_t i) { return static_cast<uint64_t>(static_cast<uint8_t>(p[i])); };
    word = byte(0) | byte(size / 2) << 8 | byte(size - 1) << 16;
  }
  return Mix(Mix(hash, word), 0);
}

}  // namespace hashing

/// The byte strings of all tokens by id, in one block of memory.
class TokenArena {
 public:
  void Reserve(size_t tokens, size_t bytes) {
    starts_.reserve(tokens + 1);
    bytes_.reserve(bytes);
  }
  void Append(std::string_view bytes) {
    bytes_.append(bytes);
    starts_.push_back(bytes_.size());
  }
  std::string_view operator[](Token id) const {
    const size_t i = static_cast<size_t>(id);
    return std::string_view(bytes_).substr(starts_[i], starts_[i + 1] - starts_[i]);
  }

 private:
  std::string bytes_;
  std::vector<size_t> starts_{0};
};

/// Byte string → token: open addressing with linear probing, at most half full. A slot is eight bytes; the
/// strings are compared in the arena, and only where 32 bits of hash agree.
class TokenIndex {
 public:
  /// Makes room for `tokens` entries and forgets those there were. `arena` must outlive the index.
  void Reset(const TokenArena* arena, size_t tokens) {
    arena_ = arena;
    slots_.assign(std::bit_ceil(tokens * 2 + 2), Slot{0, -1});
  }

  /// Adds a token under its bytes; when they are taken, changes nothing and returns the token that has them.
  Token Insert(Token id) {
    Slot* slot = Locate((*arena_)[id]);
    if (slot->id >= 0) return slot->id;
    *slot = {static_cast<uint32_t>(hashing::Bytes((*arena_)[id].data(), (*arena_)[id].size()) >> 32), id};
    return -1;
  }

  /// The token with these bytes, or -1.
  Token Find(std::string_view bytes) const { return const_cast<TokenIndex*>(this)->Locate(bytes)->id; }

 private:
  struct Slot {
    uint32_t fingerprint;
    Token id;  // -1: empty
  };

  Slot* Locate(std::string_view bytes) {
    const uint64_t hash = hashing::Bytes(bytes.data(), bytes.size());
    const uint32_t fingerprint = static_cast<uint32_t>(hash >> 32);
    const size_t mask = slots_.size() - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
      Slot& slot = slots_[i];
      if (slot.id < 0 || (slot.fingerprint == fingerprint && (*arena_)[slot.id] == bytes)) return &slot;
    }
  }

  const TokenArena* arena_ = nullptr;
  std::vector<Slot> slots_;
};

}  // namespace tokenmill
