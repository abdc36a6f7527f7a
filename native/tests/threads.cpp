// A team of threads: every part of every phase is done once, also after a fork.
#include "threads.h"

#include <cstdio>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace {

// Phases that write what the next one reads, without locks: the team alone orders them.
bool counts_right(sartor::Threads& team, int phases) {
    int threads = team.threads();
    std::vector<long> counts(threads), before(threads);
    for (int phase = 0; phase < phases; ++phase) {
        team.each([&](int part) { before[part] = counts[(part + 1) % threads]; });
        team.each([&](int part) { counts[part] = before[(part + threads - 1) % threads] + 1; });
    }
    for (long count : counts)
        if (count != phases) return false;
    return true;
}

bool meet(sartor::Threads& team) {
    int threads = team.threads();
    std::vector<int> arrived(threads), seen(threads);
    team.together([&](int thread) {
        arrived[thread] = 1;
        team.wait();
        for (int one : arrived) seen[thread] += one;
        team.wait();
    });
    for (int count : seen)
        if (count != threads) return false;
    return true;
}

bool works(sartor::Threads& team) { return counts_right(team, 300) && meet(team) && meet(team); }

}  // namespace

int main() {
    for (int threads : {1, 2, 3, 8}) {
        sartor::Threads team(threads);
        if (!works(team)) return std::printf("%d threads\n", threads), 1;
#if !defined(__SANITIZE_THREAD__)
        pid_t child = fork();
        if (child == 0) _exit(works(team) ? 0 : 1);
        int status = 1;
        waitpid(child, &status, 0);
        if (status != 0) return std::printf("%d threads, after a fork\n", threads), 1;
#endif
    }
    return 0;
}
