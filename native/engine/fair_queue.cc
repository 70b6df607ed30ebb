#include "engine/fair_queue.h"

#include <algorithm>

namespace tokenmill {

FairQueue::Membership::~Membership() {
  if (flow_ != nullptr) Leave(flow_);
}

FairQueue::Membership FairQueue::Join(int priority, const std::string& tenant) {
  Level& level = levels_.try_emplace(priority, this, priority).first->second;
  const auto flow = level.flows.try_emplace(tenant, &level).first;
  flow->second.tenant = &flow->first;
  ++flow->second.members;
  return Membership(&flow->second);
}

void FairQueue::Leave(Flow* flow) {
  if (--flow->members > 0) return;
  Level* const level = flow->level;
  FairQueue* const queue = level->queue;
  if (queue->turn_ == flow) queue->turn_ = nullptr;
  level->flows.erase(level->flows.find(*flow->tenant));
  if (level->flows.empty()) queue->levels_.erase(level->priority);
}

void FairQueue::Begin(Time now) {
  now_ = now;
  turn_ = nullptr;
  for (auto& [priority, level] : levels_) {
    level.was_contended = std::exchange(level.contended, false);
    for (auto& [tenant, flow] : level.flows) {
      flow.was_on_offer = !flow.items.empty();
      flow.items.clear();
      flow.head = 0;
    }
  }
}

void FairQueue::Offer(const Membership& member, size_t item) {
  Flow* const flow = member.flow_;
  Level* const level = flow->level;
  if (!std::exchange(level->contended, true) && !level->was_contended) level->passed_since = now_;
  if (flow->items.empty() && !flow->was_on_offer) flow->rows = std::max(flow->rows, level->floor);
  flow->items.push_back(item);
}

void FairQueue::Charge(const Membership& member, int rows) {
  if (member.flow_->level->contended) member.flow_->rows += rows;
}

double FairQueue::AgedPriority(const Level& level) const {
  using Levels = std::chrono::duration<double, std::ratio<kAgeing.count()>>;
  return level.priority + std::chrono::duration_cast<Levels>(now_ - level.passed_since).count();
}

FairQueue::Flow* FairQueue::Poorest(Level* level) const {
  Flow* poorest = nullptr;
  for (auto& [tenant, flow] : level->flows) {
    if (flow.on_offer() && (poorest == nullptr || flow.rows < poorest->rows)) poorest = &flow;
  }
  return poorest;
}

std::optional<FairQueue::Turn> FairQueue::Next() {
  turn_ = nullptr;
  for (auto& [priority, level] : levels_) {
    Flow* const flow = Poorest(&level);
    if (flow == nullptr) continue;
    if (turn_ == nullptr || AgedPriority(level) > AgedPriority(*turn_->level)) turn_ = flow;
  }
  if (turn_ == nullptr) return std::nullopt;
  return Turn{turn_->items[turn_->head], kQuantum};
}

void FairQueue::Served(int rows, bool more) {
  Level* const level = turn_->level;
  turn_->rows += rows;
  level->floor = std::max(level->floor, turn_->rows);
  level->passed_since = now_;
  if (!more) ++turn_->head;
}

void FairQueue::Skip() { ++turn_->head; }

void FairQueue::Withdraw(const std::function<bool(size_t)>& named) {
  for (auto& [priority, level] : levels_) {
    for (auto& [tenant, flow] : level.flows) {
      const auto head = flow.items.begin() + static_cast<std::ptrdiff_t>(flow.head);
      flow.items.erase(std::remove_if(head, flow.items.end(), named), flow.items.end());
    }
  }
}

}  // namespace tokenmill
