#include "engine/fair_queue.h"

#include <algorithm>
#include <functional>

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
  queue->arranged_ = false;
  level->flows.erase(level->flows.find(*flow->tenant));
  if (level->flows.empty()) queue->levels_.erase(level->priority);
}

void FairQueue::Begin(Time now) {
  now_ = now;
  turn_ = nullptr;
  arranged_ = false;
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
  arranged_ = false;
}

void FairQueue::Charge(const Membership& member, int rows) {
  if (member.flow_->level->contended) member.flow_->rows += rows;
  arranged_ = false;
}

double FairQueue::AgedPriority(const Level& level) const {
  using Levels = std::chrono::duration<double, std::ratio<kAgeing.count()>>;
  return level.priority + std::chrono::duration_cast<Levels>(now_ - level.passed_since).count();
}

// Whether `a` has its turn after `b`: it was given more rows, or as many and has the greater name.
bool FairQueue::FlowAfter(const Flow* a, const Flow* b) {
  ++comparisons_;
  return a->rows != b->rows ? a->rows > b->rows : *a->tenant > *b->tenant;
}

// Likewise: it is less urgent, or as urgent and has the lower priority.
bool FairQueue::LevelAfter(const Level* a, const Level* b) {
  ++comparisons_;
  const double urgency = AgedPriority(*a), other = AgedPriority(*b);
  return urgency != other ? urgency < other : a->priority < b->priority;
}

// What is compared only changes for the flow and the level that have the turn, so heaps hold for a step.
void FairQueue::Arrange() {
  if (arranged_) return;
  order_.clear();
  for (auto& [priority, level] : levels_) {
    level.order.clear();
    for (auto& [tenant, flow] : level.flows) {
      if (flow.on_offer()) level.order.push_back(&flow);
    }
    std::ranges::make_heap(level.order, std::bind_front(&FairQueue::FlowAfter, this));
    if (!level.order.empty()) order_.push_back(&level);
  }
  std::ranges::make_heap(order_, std::bind_front(&FairQueue::LevelAfter, this));
  arranged_ = true;
}

// Takes the turn's flow and level out of the heaps, before what they are compared by changes.
void FairQueue::TakeOut() {
  std::ranges::pop_heap(order_, std::bind_front(&FairQueue::LevelAfter, this));
  order_.pop_back();
  std::vector<Flow*>& flows = turn_->level->order;
  std::ranges::pop_heap(flows, std::bind_front(&FairQueue::FlowAfter, this));
  flows.pop_back();
}

// Puts back those of them that still have something on offer.
void FairQueue::PutBack() {
  std::vector<Flow*>& flows = turn_->level->order;
  if (turn_->on_offer()) {
    flows.push_back(turn_);
    std::ranges::push_heap(flows, std::bind_front(&FairQueue::FlowAfter, this));
  }
  if (flows.empty()) return;
  order_.push_back(turn_->level);
  std::ranges::push_heap(order_, std::bind_front(&FairQueue::LevelAfter, this));
}

std::optional<FairQueue::Turn> FairQueue::Next() {
  Arrange();
  turn_ = order_.empty() ? nullptr : order_.front()->order.front();
  if (turn_ == nullptr) return std::nullopt;
  return Turn{turn_->items[turn_->head], kQuantum};
}

void FairQueue::Served(int rows, bool more) {
  TakeOut();
  Level* const level = turn_->level;
  turn_->rows += rows;
  level->floor = std::max(level->floor, turn_->rows);
  level->passed_since = now_;
  if (!more) ++turn_->head;
  PutBack();
}

void FairQueue::Skip() {
  ++turn_->head;
  if (turn_->on_offer()) return;  // its place among the others is as before
  TakeOut();
  PutBack();
}

void FairQueue::Withdraw(const std::function<bool(size_t)>& named) {
  arranged_ = false;
  for (auto& [priority, level] : levels_) {
    for (auto& [tenant, flow] : level.flows) {
      const auto head = flow.items.begin() + static_cast<std::ptrdiff_t>(flow.head);
      flow.items.erase(std::remove_if(head, flow.items.end(), named), flow.items.end());
    }
  }
}

}  // namespace tokenmill
