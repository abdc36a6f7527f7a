// How the kernel shares a core between a thread and other programs.
#pragma once

#include <cstdint>

namespace sartor {

// While it lives, the thread that made it asks for short turns. Where other programs compute as
// well, it gets as much of a core as before, but sooner after it was woken and in smaller pieces: so
// the threads of a team wait less for one that has no core at the moment.
//
// Linux from 6.12 on lets every thread ask; elsewhere nothing happens.
class ShortTurns {
  public:
    ShortTurns();
    ~ShortTurns();
    ShortTurns(const ShortTurns&) = delete;
    ShortTurns& operator=(const ShortTurns&) = delete;

  private:
    bool asked_ = false;
    // Nanoseconds, as the thread had it.
    uint64_t before_ = 0;
};

}  // namespace sartor
