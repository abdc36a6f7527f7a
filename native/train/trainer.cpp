// A stretch of steps: prepare, pass, update, and the same again.
#include "trainer.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "schedule.h"

namespace sartor {

namespace {

// As torch.nn.utils.clip_grad_norm_.
constexpr double CLIP_EPSILON = 1e-6;

}  // namespace

Range share_of(int64_t total, int part, int parts, int64_t grain) {
    int64_t grains = (total + grain - 1) / grain;
    return {std::min(grains * part / parts * grain, total),
            std::min(grains * (part + 1) / parts * grain, total)};
}

Range share_of_process(int64_t images, const Communicator* communicator) {
    if (communicator == nullptr) return {0, images};
    int64_t rank = communicator->rank(), size = communicator->size();
    return {images * rank / size, images * (rank + 1) / size};
}

int Plan::index_of(const float* value) const {
    for (size_t k = 0; k < trained.size(); ++k)
        if (trained[k].value == value) return int(k);
    return -1;
}

class Trainer::Run {
  public:
    Run(Network& network, const LossSpec& loss, const OptimizerSpec& optimizer,
        std::vector<Trained> trained, int parts, double clip, Communicator* communicator)
        : loss_(loss),
          optimizer_(optimizer),
          trained_(std::move(trained)),
          parts_(parts),
          clip_(clip),
          communicator_(communicator),
          threads_(network.threads()),
          kernels_(train_kernels_of(network.isa())),
          plan_{network, kernels_, threads_, loss_, trained_, communicator,
                parts > 1 || clip > 0 || communicator != nullptr},
          norms_(network.threads()) {
        if (parts < 1) throw std::invalid_argument("a step needs a part or more");
        if (!(clip >= 0)) throw std::invalid_argument("gradients need a norm above 0 to be clipped to");
        for (const Trained& one : trained_) check(one);
        int64_t classes = network.classes();
        if (loss_.class_weights) {
            class_weights_.assign(loss_.class_weights, loss_.class_weights + classes);
            loss_.class_weights = class_weights_.data();
        }
    }

    void steps(const Data& data, int64_t batch, int64_t count, const double* learning_rates,
               const uint64_t* seeds, Report* reports) {
        if (count < 1) return;
        if (batch < 1 || (count - 1) * batch >= data.images)
            throw std::invalid_argument("every step needs an image or more");
        if (data.own_only && count > 1) throw std::invalid_argument("own images are of one step");
        reserve(std::min(batch, data.images));
        Stretch stretch{data, batch, count, learning_rates, seeds, reports};
        spread_scales(data);
        for (int64_t step = 0; step < count; ++step) {
            begin(stretch, step);
            for (Place place = place_of(stretch, step, 0);; place = place_of(stretch, step, place.part + 1)) {
                prepare(stretch, place);
                schedule_->pass(batch_);
                report(reports[step]);
                if (place.last) break;
            }
            if (communicator_) exchange();
            if (!trained_.empty() && !schedule_->gradients(0).empty()) update();
        }
    }

  private:
    // What is asked for.
    struct Stretch {
        const Data& data;
        int64_t batch, count;
        const double* learning_rates;
        const uint64_t* seeds;
        Report* reports;
    };
    // Of a step's images, those whose gradients are added up at a time.
    struct Place {
        int64_t step;
        int part;
        // This process's share, where `data` has them.
        Range images;
        int64_t whole, before;
        bool last;
    };

    void check(const Trained& one) const {
        bool adam = optimizer_.kind == Optimizer::adam || optimizer_.kind == Optimizer::adamw;
        bool squares = adam || optimizer_.kind == Optimizer::rmsprop;
        bool momentum = optimizer_.momentum > 0 && !adam;
        if (one.value == nullptr || one.size < 0 || (one.first != nullptr) != (adam || momentum) ||
            (one.second != nullptr) != squares || (squares && one.count == nullptr))
            throw std::invalid_argument(
                "the optimizer needs each parameter with the averages that it keeps");
    }

    // Room for batches of that many images.
    void reserve(int64_t images) {
        if (!schedule_) schedule_ = make_mlp(plan_);
        if (!schedule_) schedule_ = make_by_blocks(plan_);
        int64_t whole = (images + parts_ - 1) / parts_;
        if (whole <= room_) return;
        int processes = communicator_ ? communicator_->size() : 1;
        int64_t most = (whole + processes - 1) / processes;
        schedule_->reserve(most);
        batch_.bytes.resize(most);
        batch_.floats.resize(most);
        batch_.labels.resize(most);
        batch_.judged.resize((most + LANES - 1) / LANES);
        batch_.words.resize(schedule_->words(whole));
        room_ = whole;
    }

    void spread_scales(const Data& data) {
        batch_.of_bytes = data.bytes != nullptr;
        if (!batch_.of_bytes) return;
        Shape shape = plan_.network.input();
        int64_t size = shape.size(), filled = (size + LANES - 1) / LANES * LANES;
        batch_.scales.assign(filled, 0);
        batch_.shifts.assign(filled, 0);
        for (int64_t f = 0; f < size; ++f) {
            batch_.scales[f] = data.scale[f / shape.pixels()];
            batch_.shifts[f] = data.shift[f / shape.pixels()];
        }
        batch_.channel_scales = data.scale;
        batch_.channel_shifts = data.shift;
    }

    // What the parts of a step have in common.
    void begin(const Stretch& stretch, int64_t step) {
        double own = weight_of(stretch, step);
        batch_.scale = float(1 / whole_weight(stretch, step, own));
        stretch.reports[step] = {0, own, 0};
        count_updates(stretch.learning_rates[step]);
    }

    Place place_of(const Stretch& stretch, int64_t step, int part) const {
        int64_t begin = step * stretch.batch;
        int64_t end = std::min(begin + stretch.batch, stretch.data.images);
        int64_t size = (end - begin + parts_ - 1) / parts_;
        int64_t from = begin + part * size, to = std::min(from + size, end);
        Range own = share_of_process(to - from, communicator_);
        int64_t first = from;
        if (stretch.data.own_only) {
            // The shares of the parts lie one after the other.
            first = -own.begin;
            for (int k = 0; k < part; ++k) first += share_of_process(size, communicator_).size();
        }
        return {step, part, {first + own.begin, first + own.end}, to - from, own.begin, to == end};
    }


    void prepare(const Stretch& stretch, const Place& place) {
        const Data& data = stretch.data;
        batch_.images = place.images.size();
        batch_.whole = place.whole;
        batch_.before = place.before;
        batch_.first = place.part == 0;
        batch_.shares = data.shares
                            ? data.shares + place.images.begin * plan_.network.classes()
                            : nullptr;
        threads_.each([&](int part) {
            fetch(data, place, share_of(batch_.blocks(), part, plan_.parts()));
            if (part == plan_.parts() - 1) draw(stretch, place);
        });
    }

    void fetch(const Data& data, const Place& place, Range blocks) {
        int64_t size = plan_.network.input().size();
        for (int64_t k = blocks.begin * LANES; k < std::min(blocks.end * LANES, batch_.images);
             ++k) {
            int64_t number = place.images.begin + k;
            int64_t row = data.rows ? data.rows[number] : number;
            if (data.bytes)
                batch_.bytes[k] = data.bytes + row * size;
            else
                batch_.floats[k] = data.floats + number * size;
            if (data.labels) batch_.labels[k] = data.labels[data.bytes ? row : number];
        }
        if (blocks.size() > 0) schedule_->gather(batch_, batch_.images, blocks);
    }

    void draw(const Stretch& stretch, const Place& place) {
        int64_t count = schedule_->words(batch_.whole);
        if (count == 0) return;
        if (place.part == 0) kernels_.seed(generator_, stretch.seeds[place.step]);
        kernels_.draw(generator_, batch_.words.data(), count);
    }

    // The weight of this process's images of a step.
    double weight_of(const Stretch& stretch, int64_t step) const {
        double total = 0;
        for (Place place = place_of(stretch, step, 0);; place = place_of(stretch, step, place.part + 1)) {
            if (class_weights_.empty())
                total += double(place.images.size());
            else
                add_class_weights(stretch.data, place.images, total);
            if (place.last) return class_weights_.empty() ? total : double(float(total));
        }
    }

    void add_class_weights(const Data& data, Range images, double& total) const {
        int64_t classes = int64_t(class_weights_.size());
        for (int64_t k = images.begin; k < images.end; ++k) {
            if (data.shares)
                for (int64_t c = 0; c < classes; ++c)
                    total += double(data.shares[k * classes + c]) * double(class_weights_[c]);
            else
                total += double(class_weights_[data.labels[data.rows ? data.rows[k] : k]]);
        }
    }

    // What a step's losses are divided by.
    double whole_weight(const Stretch& stretch, int64_t step, double own) {
        if (!communicator_) return own;
        if (class_weights_.empty())
            return double(std::min(stretch.batch, stretch.data.images - step * stretch.batch));
        std::vector<double> all(communicator_->size());
        communicator_->gather(&own, 1, all.data());
        double total = 0;
        for (double one : all) total += one;
        return double(float(total));
    }

    void count_updates(double learning_rate) {
        std::vector<Rule>& rules = batch_.rules;
        rules.resize(trained_.size());
        double counted = -1;
        for (size_t k = 0; k < trained_.size(); ++k) {
            const Trained& one = trained_[k];
            double count = 0;
            if (one.count && optimizer_.kind != Optimizer::sgd) count = *one.count += 1;
            // Powers take longer than the rest; most parameters have the same.
            bool same = k > 0 && count == counted && one.decay == trained_[k - 1].decay &&
                        one.factor == trained_[k - 1].factor;
            rules[k] = same ? rules[k - 1]
                            : rule_of(optimizer_, learning_rate * one.factor, one.decay, count);
            counted = count;
        }
    }

    void report(Report& report) const {
        for (int64_t block = 0; block < batch_.blocks(); ++block) {
            report.loss += batch_.judged[block].loss;
            report.correct += batch_.judged[block].correct;
        }
    }

    // Makes this process's gradients those of all. Whatever failed in this step, no weight is
    // changed by it.
    void exchange() {
        std::vector<int64_t> places(trained_.size());
        int64_t total = 0;
        for (size_t k = 0; k < trained_.size(); ++k) {
            places[k] = total;
            total += trained_[k].size;
        }
        gradients_.resize(total);
        threads_.each([&](int part) {
            for (int k = 0; k < int(trained_.size()); ++k) {
                add_up(k, part);
                Range slice = slice_of(k, part);
                std::copy_n(schedule_->gradients(k)[0] + slice.begin, slice.size(),
                            gradients_.data() + places[k] + slice.begin);
            }
        });
        communicator_->add_up(gradients_.data(), total);
        communicator_->check();
        threads_.each([&](int part) {
            for (int k = 0; k < int(trained_.size()); ++k) {
                Range slice = slice_of(k, part);
                std::copy_n(gradients_.data() + places[k] + slice.begin, slice.size(),
                            schedule_->gradients(k)[0] + slice.begin);
            }
        });
    }

    // Each thread adds up the gradients of its slice of each parameter, and updates it.
    void update() {
        if (clip_ == 0) {
            threads_.each([&](int part) {
                for (int k = 0; k < int(trained_.size()); ++k) {
                    add_up(k, part);
                    update(k, part, 1);
                }
            });
        } else {
            threads_.each([&](int part) {
                norms_[part].squares = 0;
                for (int k = 0; k < int(trained_.size()); ++k)
                    norms_[part].squares += add_up(k, part);
            });
            double total = 0;
            for (const Norm& norm : norms_) total += norm.squares;
            double wanted = clip_ / (std::sqrt(total) + CLIP_EPSILON);
            // Not min: a norm that is not a number makes all gradients so, as in PyTorch.
            float factor = wanted > 1 ? 1 : float(wanted);
            threads_.each([&](int part) {
                for (int k = 0; k < int(trained_.size()); ++k) update(k, part, factor);
            });
        }
        schedule_->refresh();
    }

    Range slice_of(int k, int part) const {
        return share_of(trained_[k].size, part, plan_.parts(), LANES);
    }

    double add_up(int k, int part) const {
        const std::vector<float*>& arrays = schedule_->gradients(k);
        Range slice = slice_of(k, part);
        return kernels_.add_up(arrays.data(), int(arrays.size()), slice.begin, slice.end, clip_ > 0);
    }

    void update(int k, int part, float factor) const {
        const Trained& one = trained_[k];
        Range slice = slice_of(k, part);
        float* gradient = schedule_->gradients(k)[0];
        kernels_.update(batch_.rules[k], one.value + slice.begin, gradient + slice.begin, factor,
                        one.first ? one.first + slice.begin : nullptr,
                        one.second ? one.second + slice.begin : nullptr, slice.size());
        if (schedule_->accumulates())
            std::fill(gradient + slice.begin, gradient + slice.end, 0.0f);
    }

    // On a line of its own for each thread.
    struct alignas(64) Norm {
        double squares = 0;
    };

    LossSpec loss_;
    const OptimizerSpec optimizer_;
    const std::vector<Trained> trained_;
    const int parts_;
    const double clip_;
    Communicator* const communicator_;
    Threads threads_;
    const TrainKernels& kernels_;
    const Plan plan_;
    std::vector<Norm> norms_;
    std::vector<float> class_weights_;
    // Of all trained parameters, one after the other, for the other processes.
    std::vector<float> gradients_;
    std::unique_ptr<Schedule> schedule_;
    int64_t room_ = 0;
    Batch batch_;
    Mersenne generator_;
};

Trainer::Trainer(Network& network, const LossSpec& loss, const OptimizerSpec& optimizer,
                 std::vector<Trained> trained, int parts, double clip, Communicator* communicator)
    : run_(std::make_unique<Run>(network, loss, optimizer, std::move(trained), parts, clip,
                                 communicator)) {}

Trainer::~Trainer() = default;

void Trainer::steps(const Data& data, int64_t batch, int64_t count, const double* learning_rates,
                    const uint64_t* seeds, Report* reports) {
    run_->steps(data, batch, count, learning_rates, seeds, reports);
}

}  // namespace sartor
