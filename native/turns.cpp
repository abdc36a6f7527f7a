#include "turns.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sartor {

#if defined(__linux__) && defined(SYS_sched_setattr) && defined(SYS_sched_getattr)

namespace {

// The shortest that the kernel grants.
constexpr uint64_t NANOSECONDS = 100000;
constexpr uint32_t ORDINARY = 0;  // SCHED_OTHER

// struct sched_attr, version 0; of an ordinary thread `runtime` is the length of a turn.
struct Attributes {
    uint32_t size = sizeof(Attributes), policy = ORDINARY;
    uint64_t flags = 0;
    int32_t nice = 0;
    uint32_t priority = 0;
    uint64_t runtime = 0, deadline = 0, period = 0;
};

bool get(Attributes& found) {
    return syscall(SYS_sched_getattr, 0, &found, sizeof(found), 0) == 0 && found.policy == ORDINARY;
}

}  // namespace

ShortTurns::ShortTurns() {
    Attributes attributes;
    if (!get(attributes)) return;
    before_ = attributes.runtime;
    attributes.runtime = NANOSECONDS;
    asked_ = syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

ShortTurns::~ShortTurns() {
    Attributes attributes;
    if (!asked_ || !get(attributes)) return;
    attributes.runtime = before_;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

#else

ShortTurns::ShortTurns() = default;
ShortTurns::~ShortTurns() = default;

#endif

}  // namespace sartor
