#pragma once

#include <atomic>
#include <utility>

namespace tokenmill {

/// Bounds the requests that wait for their first step, from their submission on. Thread-safe.
class WaitingRoom {
 public:
  /// One of the room's places, or none. It is given back when it is dropped, whatever became of its request.
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept : room_(std::exchange(other.room_, nullptr)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(room_, other.room_);
      return *this;
    }
    ~Place() { Leave(); }

    bool taken() const { return room_ != nullptr; }
    void Leave() {
      if (room_ != nullptr) std::exchange(room_, nullptr)->taken_.fetch_sub(1);
    }

   private:
    friend class WaitingRoom;
    explicit Place(WaitingRoom* room) : room_(room) {}
    WaitingRoom* room_ = nullptr;
  };

  /// Outlives its places.
  explicit WaitingRoom(int places) : places_(places) {}
  WaitingRoom(const WaitingRoom&) = delete;
  WaitingRoom& operator=(const WaitingRoom&) = delete;

  /// None when all places are taken.
  Place Enter() {
    int taken = taken_.load();
    do {
      if (taken >= places_) return {};
    } while (!taken_.compare_exchange_weak(taken, taken + 1));
    return Place(this);
  }

  int places() const { return places_; }
  int taken() const { return taken_.load(); }

 private:
  const int places_;
  std::atomic<int> taken_{0};
};

}  // namespace tokenmill
