// What processes that train together exchange in the middle of a step.
#pragma once

#include <cstdint>
#include <exception>

namespace sartor {

// Every process calls the same exchanges in the same order. Where one fails, training threads may be
// waiting for each other, so nothing is thrown there: the results are those of this process, no
// further exchange takes place, and `check` throws.
class Communicator {
  public:
    Communicator(int rank, int size) : rank_(rank), size_(size) {}
    virtual ~Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }

    // Each of `count` values becomes its sum over all processes, the same bits in each of them.
    void add_up(float* values, int64_t count);
    // `all` becomes [process][count].
    void gather(const double* own, int64_t count, double* all);
    // Throws what went wrong.
    void check() const;

  protected:
    // May throw.
    virtual void add_up_now(float* values, int64_t count) = 0;
    virtual void gather_now(const double* own, int64_t count, double* all) = 0;

  private:
    const int rank_, size_;
    std::exception_ptr failure_;
};

}  // namespace sartor
