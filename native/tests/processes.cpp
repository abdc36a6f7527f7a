// Exchanges through shared memory, by threads in place of processes: sums in order, pieces larger
// than a slot, and what is thrown where somebody has left. Then a network that three train together
// must come to the losses of one.
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include "shared_memory.h"
#include "trainer.h"

namespace {

constexpr int kSize = 3;
constexpr int64_t kMany = (int64_t(1) << 20) + 5;

template <typename Body>
void each(Body body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < kSize; ++rank) threads.emplace_back([=] { body(rank); });
    for (std::thread& thread : threads) thread.join();
}

struct Memory {
    std::vector<uint64_t> words =
        std::vector<uint64_t>(sartor::SharedMemory::bytes(kSize) / sizeof(uint64_t) + 16);

    void* data() {
        uintptr_t first = reinterpret_cast<uintptr_t>(words.data());
        return reinterpret_cast<void*>((first + 63) / 64 * 64);
    }
    sartor::SharedMemory joined(int rank, double seconds = 60) {
        return {data(), sartor::SharedMemory::bytes(kSize), rank, std::vector<int>(kSize, -1),
                seconds, [] {}};
    }
};

float value(int rank, int64_t k) { return float((k * 7919 + rank * 104729) % 1000) / 7; }

int sums() {
    Memory memory;
    std::vector<int> failures(kSize);
    each([&](int rank) {
        sartor::SharedMemory shared = memory.joined(rank);
        for (int64_t count : {int64_t(1), int64_t(1000), kMany}) {
            std::vector<float> values(count);
            for (int64_t k = 0; k < count; ++k) values[k] = value(rank, k);
            shared.add_up(values.data(), count);
            for (int64_t k = 0; k < count; ++k)
                failures[rank] += values[k] != (value(0, k) + value(1, k)) + value(2, k);
        }
        for (int round = 0; round < 1000; ++round) {
            double own[2] = {double(rank), double(round)}, all[2 * kSize];
            shared.gather(own, 2, all);
            for (int other = 0; other < kSize; ++other)
                failures[rank] += all[2 * other] != other || all[2 * other + 1] != round;
        }
        shared.check();
    });
    return failures[0] + failures[1] + failures[2];
}

// Whether the others learn of it when one leaves, or says nothing.
int endings(bool leaves) {
    Memory memory;
    std::vector<int> failures(kSize);
    each([&](int rank) {
        sartor::SharedMemory shared = memory.joined(rank, leaves ? 60 : 0.2);
        if (rank == 1) {
            if (leaves) shared.leave();
            return;
        }
        double own = rank, all[kSize];
        shared.gather(&own, 1, all);
        // As if all had what this process has.
        for (double one : all) failures[rank] += one != rank;
        try {
            shared.check();
            ++failures[rank];
        } catch (const std::runtime_error&) {
        }
    });
    return failures[0] + failures[1] + failures[2];
}

// The losses of a small network with batch normalisation and dropout; of each process its share.
std::vector<double> losses(sartor::Communicator* communicator) {
    constexpr int kImages = 41, kSteps = 5, kClasses = 4;
    std::vector<float> weight(6 * 10), bias(6), scale(6, 1), shift(6), mean(6), variance(6, 1);
    std::vector<float> last(6 * kClasses), last_bias(kClasses), images(kImages * 10);
    std::vector<int64_t> labels(kImages);
    for (size_t k = 0; k < weight.size(); ++k) weight[k] = value(1, k) / 150 - 0.5f;
    for (size_t k = 0; k < last.size(); ++k) last[k] = value(2, k) / 150 - 0.5f;
    for (size_t k = 0; k < images.size(); ++k) images[k] = value(0, k) / 50 - 1;
    for (int k = 0; k < kImages; ++k) labels[k] = k % kClasses;
    sartor::LayerSpec first, norm, relu, dropout, second;
    first.kind = second.kind = "linear";
    first.in = 10;
    first.out = second.in = norm.in = norm.out = 6;
    second.out = kClasses;
    first.weight = weight.data();
    first.bias = bias.data();
    second.weight = last.data();
    second.bias = last_bias.data();
    norm.kind = "batch_norm";
    norm.weight = scale.data();
    norm.bias = shift.data();
    norm.mean = mean.data();
    norm.variance = variance.data();
    relu.kind = "relu";
    dropout.kind = "dropout";
    dropout.p = 0.3;
    sartor::Network network({first, norm, relu, dropout, second}, {10, 1, 1}, kClasses, 2,
                            sartor::chosen_isa(""));
    std::vector<sartor::Trained> trained;
    for (auto* each : {&weight, &bias, &scale, &shift, &last, &last_bias}) {
        sartor::Trained one;
        one.value = each->data();
        one.size = int64_t(each->size());
        trained.push_back(one);
    }
    sartor::Trainer trainer(network, {}, {}, trained, 2, 1.0, communicator);
    std::vector<int64_t> rows(kImages);
    std::vector<uint8_t> bytes(images.size());
    for (size_t k = 0; k < bytes.size(); ++k) bytes[k] = uint8_t(value(0, k));
    for (int k = 0; k < kImages; ++k) rows[k] = (k * 17) % kImages;
    std::vector<float> by(10, 0.02f), plus(10, -1);
    sartor::Data data;
    data.bytes = bytes.data();
    data.rows = rows.data();
    data.labels = labels.data();
    data.scale = by.data();
    data.shift = plus.data();
    data.images = kImages;
    std::vector<double> found;
    for (int round = 0; round < kSteps; ++round) {
        // The last batch is smaller.
        double rates[] = {0.1, 0.1, 0.1};
        uint64_t seeds[] = {uint64_t(round), uint64_t(round + 50), uint64_t(round + 99)};
        sartor::Report reports[3];
        trainer.steps(data, 20, 3, rates, seeds, reports);
        for (const sartor::Report& report : reports) found.push_back(report.loss);
    }
    return found;
}

int trainings() {
    Memory memory;
    std::vector<double> expected = losses(nullptr);
    std::vector<std::vector<double>> found(kSize);
    each([&](int rank) {
        sartor::SharedMemory shared = memory.joined(rank);
        found[rank] = losses(&shared);
    });
    int failures = 0;
    for (size_t k = 0; k < expected.size(); ++k) {
        double sum = found[0][k] + found[1][k] + found[2][k];
        failures += !(std::abs(sum - expected[k]) < 1e-4 * expected[k]);
    }
    return failures + !(expected.back() < expected[2]);
}

}  // namespace

int main() {
    int failures[] = {sums(), endings(true), endings(false), trainings()};
    for (int each : failures) std::printf("%d\n", each);
    return failures[0] + failures[1] + failures[2] + failures[3] ? 1 : 0;
}
