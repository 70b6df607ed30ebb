#pragma once

#include <array>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "ops/program.h"

namespace tokenmill {

/// What keys and values depend on besides the tokens up to them, and who may share them: prefixes are shared within
/// one space alone. Compared field by field.
struct PrefixSpace {
  std::string salt;
  std::string adapters;  // AdapterStack::key
  /// 0: what was computed here; else of one restored conversation, and what goes on from it.
  uint64_t origin = 0;

  auto operator<=>(const PrefixSpace&) const = default;
};

/// The pages of prefixes that were computed before. Each block of kPageTokens tokens that continues a prefix is a
/// node below the prefix's node, with the page that holds it in each KV group or none: a tree whose edges are found
/// by hash and compared by tokens. The pages stay cached in the pool when no sequence uses them any more.
///
/// A node with its page of a full-attention group has ancestors with theirs: evicting such a page takes along what
/// is below it. A leaf may hold less than a whole block; sequences that take it over copy its page when they write.
class PrefixIndex final : public PageCache {
 public:
  /// Where a sequence stands: its last whole block. Keeps the node alive.
  class Cursor {
   public:
    Cursor() = default;
    ~Cursor() { Reset(); }
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;

    void Reset();
    /// Whole blocks that the sequence has in the index.
    size_t blocks() const { return blocks_; }
    /// Whether blocks of the sequence can be entered.
    bool valid() const;

   private:
    friend class PrefixIndex;
    void MoveTo(PrefixIndex* index, int32_t node, size_t blocks);

    PrefixIndex* index_ = nullptr;
    int32_t node_ = -1;
    size_t blocks_ = 0;
  };

  /// Tests make hashes collide by masking them.
  PrefixIndex(BlockPool* pool, const std::vector<KvGroup>* groups, uint64_t hash_mask = UINT64_MAX);

  /// A sequence of this space without any block.
  void Open(const PrefixSpace& space, Cursor* cursor);
  /// Fills an empty table with the longest known prefix of `tokens`, which may end within a page. Returns its
  /// tokens; `cursor` is then behind its whole blocks.
  /// With `seen_from`, also pages of windowed groups that no token after the prefix sees but those from there on saw,
  /// where they are known: for who may go on from an earlier token.
  size_t Adopt(const PrefixSpace& space, std::span<const int32_t> tokens, BlockTable* table, Cursor* cursor,
               size_t seen_from = SIZE_MAX);
  /// Whether the block that goes on from a valid cursor has all its pages.
  bool Knows(const Cursor& cursor, std::span<const int32_t> block) const;
  /// Enters the whole blocks among the first `computed` tokens that are not yet behind the cursor. Blocks that are
  /// known already give the table their pages for its own.
  void Enter(std::span<const int32_t> tokens, size_t computed, BlockTable* table, Cursor* cursor);
  /// Enters what is in the table's last page, when that is not whole, for a sequence that writes no more.
  void EnterPartial(std::span<const int32_t> tokens, size_t computed, const BlockTable& table,
                    const Cursor& cursor);
  /// Forgets the blocks behind the cursor from `block` on, and all that continue them.
  void Reject(size_t block, Cursor* cursor) noexcept;

  void Evict(int group, PageId page) noexcept override;
  void MakeRoom(int group, size_t pages) override;
  void Renumber(const PageMoves& moves) noexcept override;

  size_t nodes() const { return nodes_.size() - unused_.size(); }

  /// Empty when nodes, hashes and pages agree with each other and with the pool; else what is wrong.
  std::string CheckIntegrity() const;

 private:
  using NodeId = int32_t;
  static constexpr NodeId kNone = -1;

  enum class State : uint8_t { kUnused, kLinked, kDetached };  // detached: rejected, but a cursor is there

  struct Node {
    State state = State::kUnused;
    uint8_t size = 0;  // tokens; 0 for a space's root
    NodeId parent = kNone, first_child = kNone, next = kNone, previous = kNone;  // siblings in any order
    uint32_t cursors = 0;
    uint64_t hash = 0;
    const PrefixSpace* space = nullptr;  // of a root
    std::array<int32_t, kPageTokens> tokens = {};
    std::array<PageId, kMaxKvGroups> pages = {};
  };
  using Block = std::span<const int32_t>;

  Node& node(NodeId id) { return nodes_[static_cast<size_t>(id)]; }
  const Node& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  uint64_t HashOf(NodeId parent, Block block) const;
  NodeId Find(NodeId parent, Block block) const;
  NodeId Create(NodeId parent, Block block);
  NodeId NextNode();
  Node* TakeNode(NodeId next) noexcept;
  void MakeRoomFor(const BlockTable& table, size_t block);
  void TakePages(NodeId id, size_t block, BlockTable* table);
  void SetPage(NodeId id, int group, PageId page) noexcept;
  bool HasAllPages(const Node& node) const;
  bool HasFullPages(const Node& node) const;
  size_t UsableBlocks() const;
  size_t LongestPartial(NodeId parent, Block rest, NodeId* found) const;

  void ForgetPage(NodeId id, int group) noexcept;
  void Drop(NodeId top) noexcept;
  void Unlink(NodeId id) noexcept;
  void RemoveIfUseless(NodeId id) noexcept;
  std::string CheckNode(NodeId id) const;

  BlockPool* const pool_;
  const std::vector<KvGroup>* const groups_;
  const uint64_t hash_mask_;
  std::vector<Node> nodes_;
  std::vector<NodeId> unused_;
  std::unordered_multimap<uint64_t, NodeId> by_hash_;
  std::map<PrefixSpace, NodeId> roots_;
  std::array<std::vector<NodeId>, kMaxKvGroups> owner_;  // by page: the node that keeps it
  std::vector<NodeId> path_;  // scratch of Adopt
};

}  // namespace tokenmill
