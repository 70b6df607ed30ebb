#include "kv/prefix_index.h"

#include <algorithm>

#include "core/hash64.h"

namespace tokenmill {
namespace {

// Continuations of a block that are compared with a prompt's: of a crowded one some are enough.
constexpr int kChildrenTried = 256;

size_t CommonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t most = std::min(a.size(), b.size());
  size_t common = 0;
  while (common < most && a[common] == b[common]) ++common;
  return common;
}

std::span<const int32_t> BlockOf(std::span<const int32_t> tokens, size_t block) {
  return tokens.subspan(block * kPageTokens, kPageTokens);
}

}  // namespace

void PrefixIndex::Cursor::Reset() { MoveTo(nullptr, kNone, 0); }

bool PrefixIndex::Cursor::valid() const {
  return index_ != nullptr && index_->node(node_).state == State::kLinked;
}

void PrefixIndex::Cursor::MoveTo(PrefixIndex* index, int32_t node, size_t blocks) {
  if (index != nullptr) ++index->node(node).cursors;
  PrefixIndex* const left = std::exchange(index_, index);
  const NodeId left_node = std::exchange(node_, node);
  blocks_ = blocks;
  if (left == nullptr) return;
  --left->node(left_node).cursors;
  left->RemoveIfUseless(left_node);
}

PrefixIndex::PrefixIndex(BlockPool* pool, const std::vector<KvGroup>* groups, uint64_t hash_mask)
    : pool_(pool), groups_(groups), hash_mask_(hash_mask) {
  pool_->SetCache(this);
}

void PrefixIndex::Open(const PrefixSpace& space, Cursor* cursor) {
  const NodeId next = NextNode();
  const auto [root, is_new] = roots_.try_emplace(space, next);
  if (is_new) TakeNode(next)->space = &root->first;
  cursor->MoveTo(this, root->second, 0);
}

size_t PrefixIndex::Adopt(const PrefixSpace& space, std::span<const int32_t> tokens, BlockTable* table,
                          Cursor* cursor, size_t seen_from) {
  Open(space, cursor);
  const NodeId root = cursor->node_;
  path_.clear();
  for (NodeId at = root; path_.size() < tokens.size() / kPageTokens;) {
    at = Find(at, BlockOf(tokens, path_.size()));
    if (at == kNone || !HasFullPages(node(at))) break;
    path_.push_back(at);
  }
  const size_t blocks = UsableBlocks();
  const NodeId last = blocks == 0 ? root : path_[blocks - 1];
  NodeId partial = kNone;
  const size_t within = LongestPartial(last, tokens.subspan(blocks * kPageTokens), &partial);
  path_.resize(blocks);
  if (within > 0) path_.push_back(partial);

  const size_t hit = blocks * kPageTokens + within;
  BlockTable::Pages pages;
  for (size_t g = 0; g < groups_->size(); ++g) {
    pages[g].assign(path_.size(), kNoPage);
    const int seen = static_cast<int>(std::min(hit, seen_from));
    for (size_t b = BlockTable::UnseenBlocks((*groups_)[g], seen); b < path_.size(); ++b)
      pages[g][b] = node(path_[b]).pages[g];
  }
  table->Share(std::move(pages));
  cursor->MoveTo(this, last, blocks);
  return hit;
}

// The longest beginning of path_ after which all groups have what a next token sees.
size_t PrefixIndex::UsableBlocks() const {
  std::array<size_t, kMaxKvGroups> run = {};  // consecutive blocks with pages up to here
  size_t usable = 0;
  for (size_t blocks = 1; blocks <= path_.size(); ++blocks) {
    bool all = true;
    for (size_t g = 0; g < groups_->size(); ++g) {
      run[g] = node(path_[blocks - 1]).pages[g] == kNoPage ? 0 : run[g] + 1;
      const size_t unseen = BlockTable::UnseenBlocks((*groups_)[g], static_cast<int>(blocks * kPageTokens));
      all = all && run[g] + unseen >= blocks;
    }
    if (all) usable = blocks;
  }
  return usable;
}

// The child that agrees with `rest` in the most tokens, less than a whole block.
size_t PrefixIndex::LongestPartial(NodeId parent, Block rest, NodeId* found) const {
  rest = rest.first(std::min<size_t>(rest.size(), kPageTokens - 1));
  size_t longest = 0;
  int tried = 0;  // the newest children come first
  for (NodeId id = node(parent).first_child; id != kNone && tried < kChildrenTried; id = node(id).next) {
    ++tried;
    const size_t common = CommonPrefix(rest, Block(node(id).tokens).first(node(id).size));
    if (common <= longest || !HasAllPages(node(id))) continue;
    longest = common;
    *found = id;
  }
  return longest;
}

bool PrefixIndex::Knows(const Cursor& cursor, std::span<const int32_t> block) const {
  const NodeId id = Find(cursor.node_, block);
  return id != kNone && HasAllPages(node(id));
}

void PrefixIndex::Enter(std::span<const int32_t> tokens, size_t computed, BlockTable* table, Cursor* cursor) {
  while (cursor->valid() && (cursor->blocks_ + 1) * kPageTokens <= computed) {
    const Block block = BlockOf(tokens, cursor->blocks_);
    MakeRoomFor(*table, cursor->blocks_);
    NodeId id = Find(cursor->node_, block);
    if (id == kNone) id = Create(cursor->node_, block);
    TakePages(id, cursor->blocks_, table);
    cursor->MoveTo(this, id, cursor->blocks_ + 1);
  }
}

// What nodes are made of after this takes no memory.
void PrefixIndex::MakeRoomFor(const BlockTable& table, size_t block) {
  for (int g = 0; g < pool_->groups(); ++g) MakeRoom(g, static_cast<size_t>(table.pages(g)[block] + 1));
}

void PrefixIndex::MakeRoom(int group, size_t pages) {
  std::vector<NodeId>& owner = owner_[static_cast<size_t>(group)];
  if (owner.size() < pages) owner.resize(pages, kNone);
}

void PrefixIndex::Renumber(const PageMoves& moves) noexcept {
  for (int g = 0; g < pool_->groups(); ++g) {
    std::vector<NodeId>& owner = owner_[static_cast<size_t>(g)];
    for (size_t from = 0; from < moves[static_cast<size_t>(g)].size(); ++from) {
      const PageId to = moves[static_cast<size_t>(g)][from];
      if (static_cast<size_t>(to) == from || owner[from] == kNone) continue;
      owner[static_cast<size_t>(to)] = std::exchange(owner[from], kNone);
      node(owner[static_cast<size_t>(to)]).pages[static_cast<size_t>(g)] = to;
    }
  }
}

// The pages of a block that another sequence computed too have the same bits: one of them is enough.
void PrefixIndex::TakePages(NodeId id, size_t block, BlockTable* table) {
  for (int g = 0; g < pool_->groups(); ++g) {
    const PageId own = table->pages(g)[block], known = node(id).pages[static_cast<size_t>(g)];
    if (own == kNoPage || own == known) continue;
    if (known == kNoPage) {
      SetPage(id, g, own);
    } else {
      table->Replace(g, block, known);
    }
  }
}

void PrefixIndex::EnterPartial(std::span<const int32_t> tokens, size_t computed, const BlockTable& table,
                               const Cursor& cursor) {
  const size_t block = computed / kPageTokens, size = computed % kPageTokens;
  if (!cursor.valid() || size == 0 || cursor.blocks_ != block) return;
  const Block own = tokens.subspan(block * kPageTokens, size);
  NodeId covering = kNone;
  if (LongestPartial(cursor.node_, own, &covering) == size) return;
  for (int g = 0; g < pool_->groups(); ++g) {
    if (table.blocks(g) <= block || pool_->kept(g, table.pages(g)[block])) return;
  }
  if (Find(cursor.node_, own) != kNone) return;  // one that lacks pages
  MakeRoomFor(table, block);
  const NodeId id = Create(cursor.node_, own);
  for (int g = 0; g < pool_->groups(); ++g) SetPage(id, g, table.pages(g)[block]);
}

void PrefixIndex::Reject(size_t block, Cursor* cursor) noexcept {
  if (cursor->valid() && cursor->blocks_ > block) {
    NodeId top = cursor->node_;
    for (size_t blocks = cursor->blocks_; blocks > block + 1; --blocks) top = node(top).parent;
    Drop(top);
  }
  cursor->Reset();
}

void PrefixIndex::Evict(int group, PageId page) noexcept {
  const NodeId id = owner_[static_cast<size_t>(group)][static_cast<size_t>(page)];
  if ((*groups_)[static_cast<size_t>(group)].window == 0) return Drop(id);
  ForgetPage(id, group);
  RemoveIfUseless(id);
}

// Takes a node and all below it out of the index, leaves first.
void PrefixIndex::Drop(NodeId top) noexcept {
  const NodeId above = node(top).parent;
  for (NodeId at = top;;) {
    while (node(at).first_child != kNone) at = node(at).first_child;
    const NodeId parent = node(at).parent;
    for (int g = 0; g < pool_->groups(); ++g) ForgetPage(at, g);
    Unlink(at);
    if (at == top) break;
    at = parent;
  }
  RemoveIfUseless(above);
}

void PrefixIndex::ForgetPage(NodeId id, int group) noexcept {
  const PageId page = std::exchange(node(id).pages[static_cast<size_t>(group)], kNoPage);
  if (page == kNoPage) return;
  owner_[static_cast<size_t>(group)][static_cast<size_t>(page)] = kNone;
  pool_->Forget(group, page);
}

// Takes a node without children and pages out of the tree; it is unused then, unless a cursor is there.
void PrefixIndex::Unlink(NodeId id) noexcept {
  Node& gone = node(id);
  if (gone.parent == kNone) {
    roots_.erase(roots_.find(*gone.space));
  } else {
    auto [entry, end] = by_hash_.equal_range(gone.hash);
    while (entry != end && entry->second != id) ++entry;
    by_hash_.erase(entry);
    (gone.previous == kNone ? node(gone.parent).first_child : node(gone.previous).next) = gone.next;
    if (gone.next != kNone) node(gone.next).previous = gone.previous;
  }
  gone.parent = gone.next = gone.previous = kNone;
  gone.state = State::kDetached;
  RemoveIfUseless(id);
}

// Removes a node that nothing needs, and what was there for its sake.
void PrefixIndex::RemoveIfUseless(NodeId id) noexcept {
  while (id != kNone) {
    Node& candidate = node(id);
    const auto has_page = [](PageId page) { return page != kNoPage; };
    if (candidate.cursors > 0 || candidate.first_child != kNone ||
        std::any_of(candidate.pages.begin(), candidate.pages.end(), has_page)) {
      return;
    }
    if (candidate.state == State::kDetached) {
      candidate.state = State::kUnused;
      unused_.push_back(id);  // never beyond the capacity that NextNode reserved
      return;
    }
    if (candidate.state == State::kUnused) return;
    const NodeId parent = candidate.parent;
    Unlink(id);
    id = parent;
  }
}

uint64_t PrefixIndex::HashOf(NodeId parent, Block block) const {
  return Hash64(block.data(), block.size_bytes(), static_cast<uint64_t>(parent)) & hash_mask_;
}

PrefixIndex::NodeId PrefixIndex::Find(NodeId parent, Block block) const {
  const auto [begin, end] = by_hash_.equal_range(HashOf(parent, block));
  for (auto entry = begin; entry != end; ++entry) {
    const Node& found = node(entry->second);
    if (found.parent == parent && std::ranges::equal(Block(found.tokens).first(found.size), block))
      return entry->second;
  }
  return kNone;
}

// A node to be had by TakeNode. All that takes memory comes before that, so that nothing is left half done.
PrefixIndex::NodeId PrefixIndex::NextNode() {
  if (unused_.empty()) {
    if (nodes_.size() == nodes_.capacity()) nodes_.reserve(2 * nodes_.size() + 64);
    unused_.reserve(nodes_.capacity());
    unused_.push_back(static_cast<NodeId>(nodes_.size()));
    nodes_.emplace_back();
  }
  return unused_.back();
}

PrefixIndex::Node* PrefixIndex::TakeNode(NodeId next) noexcept {
  unused_.pop_back();
  node(next) = Node();
  node(next).state = State::kLinked;
  node(next).pages.fill(kNoPage);
  return &node(next);
}

PrefixIndex::NodeId PrefixIndex::Create(NodeId parent, Block block) {
  const uint64_t hash = HashOf(parent, block);
  const NodeId id = NextNode();
  by_hash_.emplace(hash, id);
  Node& created = *TakeNode(id);
  created.hash = hash;
  created.size = static_cast<uint8_t>(block.size());
  std::ranges::copy(block, created.tokens.begin());
  created.parent = parent;
  created.next = std::exchange(node(parent).first_child, id);
  if (created.next != kNone) node(created.next).previous = id;
  return id;
}

void PrefixIndex::SetPage(NodeId id, int group, PageId page) noexcept {
  owner_[static_cast<size_t>(group)][static_cast<size_t>(page)] = id;
  node(id).pages[static_cast<size_t>(group)] = page;
  pool_->Keep(group, page);
}

bool PrefixIndex::HasAllPages(const Node& node) const {
  return std::none_of(node.pages.begin(), node.pages.begin() + pool_->groups(),
                      [](PageId page) { return page == kNoPage; });
}

bool PrefixIndex::HasFullPages(const Node& node) const {
  for (size_t g = 0; g < groups_->size(); ++g) {
    if ((*groups_)[g].window == 0 && node.pages[g] == kNoPage) return false;
  }
  return true;
}

std::string PrefixIndex::CheckIntegrity() const {
  size_t linked = 0, keeping = 0, kept = 0;
  for (size_t id = 0; id < nodes_.size(); ++id) {
    if (nodes_[id].state != State::kLinked) continue;
    if (std::string problem = CheckNode(static_cast<NodeId>(id)); !problem.empty()) return problem;
    ++linked;
    for (const PageId page : nodes_[id].pages) keeping += page != kNoPage;
  }
  for (int g = 0; g < pool_->groups(); ++g) kept += pool_->CountKept(g);
  if (kept != keeping) return Format("the prefix index has %zu pages, %zu are kept", keeping, kept);
  if (linked != by_hash_.size() + roots_.size())
    return Format("the prefix index has %zu nodes, %zu are found", linked, by_hash_.size() + roots_.size());
  return "";
}

std::string PrefixIndex::CheckNode(NodeId id) const {
  const Node& checked = node(id);
  const bool root = checked.parent == kNone;
  const Block block = Block(checked.tokens).first(checked.size);
  const auto found = root ? roots_.find(*checked.space) : roots_.end();
  if (root ? found == roots_.end() || found->second != id : Find(checked.parent, block) != id)
    return Format("prefix node %d is not found", id);
  bool has_page = false;
  for (int g = 0; g < pool_->groups(); ++g) {
    const PageId page = checked.pages[static_cast<size_t>(g)];
    if (page == kNoPage) continue;
    has_page = true;
    if (owner_[static_cast<size_t>(g)][static_cast<size_t>(page)] != id || !pool_->kept(g, page))
      return Format("prefix node %d: page %d of group %d is not kept for it", id, page, g);
    const bool full = (*groups_)[static_cast<size_t>(g)].window == 0;
    if (full && node(checked.parent).parent != kNone &&
        node(checked.parent).pages[static_cast<size_t>(g)] == kNoPage) {
      return Format("prefix node %d has a page that its parent lacks", id);
    }
  }
  for (NodeId child = checked.first_child; child != kNone; child = node(child).next) {
    if (node(child).parent != id || node(child).state != State::kLinked || checked.size % kPageTokens != 0)
      return Format("prefix node %d: node %d should not be below it", id, child);
  }
  if (!has_page && checked.first_child == kNone && checked.cursors == 0)
    return Format("prefix node %d serves nothing", id);
  return "";
}

}  // namespace tokenmill
