#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tokenmill {

/// Whose turn it is among requests that want rows. A higher priority goes first, but a priority that is passed
/// over gains a level every kAgeing until it has had a turn, so that none waits for ever. Within one priority the
/// tenant that has been given the fewest rows goes next, at most a quantum at a time (deficit round-robin with the
/// rounds left out); within a tenant the oldest. Rows count while somebody of that priority waits, and who had
/// nothing to do meanwhile saves nothing up. A turn costs the logarithm of the tenants. Not thread-safe.
class FairQueue {
  struct Flow;
  struct Level;

 public:
  using Time = std::chrono::steady_clock::time_point;

  static constexpr int kQuantum = 128;
  /// What a level of priority is worth.
  static constexpr std::chrono::seconds kAgeing{10};

  /// A request's place: its tenant at its priority, which is forgotten with its last member.
  class Membership {
   public:
    Membership() = default;
    Membership(Membership&& other) noexcept : flow_(std::exchange(other.flow_, nullptr)) {}
    Membership& operator=(Membership&& other) noexcept {
      std::swap(flow_, other.flow_);
      return *this;
    }
    ~Membership();

   private:
    friend class FairQueue;
    explicit Membership(Flow* flow) : flow_(flow) {}
    Flow* flow_ = nullptr;
  };

  struct Turn {
    size_t item;
    int rows;  // at most
  };

  FairQueue() = default;
  FairQueue(const FairQueue&) = delete;
  FairQueue& operator=(const FairQueue&) = delete;

  Membership Join(int priority, const std::string& tenant);

  /// Begins a step, with nothing on offer. Then come the offers, the charges, and the turns.
  void Begin(Time now);
  /// A request that wants rows; those of one member's tenant oldest first.
  void Offer(const Membership& member, size_t item);
  /// Rows that a member is given out of turn.
  void Charge(const Membership& member, int rows);

  /// The item whose turn it is, until Served or Skip; nothing when nothing is on offer any more.
  std::optional<Turn> Next();
  /// Counts the rows that the item was given, at most the turn's; `more`: it stays on offer.
  void Served(int rows, bool more);
  /// The item cannot use its turn in this step; the next step begins with it again.
  void Skip();
  /// Takes the items from the offer that the function names.
  void Withdraw(const std::function<bool(size_t)>& named);

  /// How often two tenants or two priorities have been compared, for tests.
  uint64_t comparisons() const { return comparisons_; }

 private:
  struct Flow {
    explicit Flow(Level* at) : level(at) {}
    bool on_offer() const { return head < items.size(); }

    Level* const level;
    const std::string* tenant = nullptr;  // its key
    size_t members = 0;
    int64_t rows = 0;  // given while others of its level waited
    bool was_on_offer = false;  // in the step before
    std::vector<size_t> items;
    size_t head = 0;
  };

  // All tenants of one priority.
  struct Level {
    Level(FairQueue* owner, int value) : queue(owner), priority(value) {}

    FairQueue* const queue;
    const int priority;
    std::map<std::string, Flow> flows;
    int64_t floor = 0;  // rows of the flow that had the last turn; who joins later starts there
    Time passed_since{};  // its last turn, or the beginning of its wait
    bool contended = false;  // somebody has had something on offer in this step
    bool was_contended = false;
    std::vector<Flow*> order;  // a heap of the flows on offer, the one whose turn is next first
  };

  double AgedPriority(const Level& level) const;
  bool FlowAfter(const Flow* a, const Flow* b);
  bool LevelAfter(const Level* a, const Level* b);
  void Arrange();
  void TakeOut();
  void PutBack();
  static void Leave(Flow* flow);

  std::map<int, Level, std::greater<>> levels_;
  Time now_{};
  Flow* turn_ = nullptr;
  std::vector<Level*> order_;  // a heap of the levels with flows on offer, the one whose turn is next first
  bool arranged_ = false;  // order_ and the levels' are those of this step's offers
  uint64_t comparisons_ = 0;
};

}  // namespace tokenmill
