// What Python sees of the engine: sartor._native. Everything that comes from there is checked here,
// so that no array, however wrong, is read or written beyond its end.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <mutex>
#include <new>
#include <string>

#include "checksum.h"
#include "isa.h"
#include "network.h"
#include "resampling.h"
#include "shared_memory.h"
#include "threads.h"
#include "trainer.h"

namespace nb = nanobind;

namespace {

using sartor::LayerSpec;
using sartor::Network;
using sartor::Shape;

constexpr int kAbi = 3;
constexpr int64_t kLargestSide = 1 << 24;
constexpr int64_t kLargestSize = int64_t(1) << 31;
constexpr int kMostThreads = 1024;
constexpr int kMostProcesses = 4096;

template <typename T, typename... More>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu, More...>;
using Images = Array<const float, nb::ndim<4>>;
using Bytes = Array<const uint8_t, nb::ndim<4>>;
using Rows = Array<const int64_t, nb::ndim<1>>;
using Numbers = Array<const float, nb::ndim<1>>;
using Shares = Array<const float, nb::ndim<2>>;
using Rates = Array<const double, nb::ndim<1>>;
using Seeds = Array<const uint64_t, nb::ndim<1>>;
using Sums = Array<double, nb::ndim<1>>;
using Counts = Array<int64_t, nb::ndim<1>>;
using Matrix = Array<float, nb::ndim<2>>;
using Memory = Array<uint8_t, nb::ndim<1>>;
using Written = Array<const uint8_t, nb::ndim<1>>;
using Values = Array<float, nb::ndim<1>>;

[[noreturn]] void refuse(const std::string& text) { throw std::invalid_argument(text); }

std::string shown(const nb::handle& key) { return nb::cast<std::string>(nb::str(key)); }

nb::object named(const nb::dict& given, const char* key) {
    if (!given.contains(key)) refuse(std::string("\"") + key + "\" is missing");
    return given[key];
}

int64_t whole(const nb::dict& layer, const char* key, int64_t least) {
    int64_t value = 0;
    if (!nb::try_cast<int64_t>(named(layer, key), value) || value < least || value > kLargestSide)
        refuse(std::string("\"") + key + "\" must be a whole number from " +
               std::to_string(least) + " to " + std::to_string(kLargestSide) + ", not " +
               shown(named(layer, key)));
    return value;
}

double real(const nb::dict& layer, const char* key, double least, double most) {
    double value = 0;
    if (!nb::try_cast<double>(named(layer, key), value) || !(value >= least && value <= most))
        refuse(std::string("\"") + key + "\" must be a number from " + std::to_string(least) +
               " to " + std::to_string(most) + ", not " + shown(named(layer, key)));
    return value;
}

bool truth(const nb::dict& layer, const char* key) {
    bool value = false;
    if (!nb::try_cast<bool>(named(layer, key), value))
        refuse(std::string("\"") + key + "\" must be True or False, not " +
               shown(named(layer, key)));
    return value;
}

template <size_t N>
std::array<int64_t, N> wholes(const nb::dict& layer, const char* key, int64_t least) {
    nb::object given = named(layer, key);
    std::array<int64_t, N> values{};
    bool fits = nb::isinstance<nb::sequence>(given) && nb::len(given) == N;
    for (size_t k = 0; fits && k < N; ++k)
        fits = nb::try_cast<int64_t>(given[k], values[k]) && values[k] >= least &&
               values[k] <= kLargestSide;
    if (!fits)
        refuse(std::string("\"") + key + "\" must be " + std::to_string(N) +
               " whole numbers from " + std::to_string(least) + " to " +
               std::to_string(kLargestSide) + ", not " + shown(given));
    return values;
}

// Memory that PyTorch owns; what keeps it alive is added to `kept`.
float* floats(const nb::dict& layer, const char* key, int64_t size, nb::list& kept,
              bool optional = false) {
    nb::object given = named(layer, key);
    if (given.is_none() && optional) return nullptr;
    Array<float> array;
    // Not converted: what is written has to be seen by the owner.
    if (!nb::try_cast(given, array, false))
        refuse(std::string("\"") + key + "\" must be a writable float32 array, row by row");
    if (int64_t(array.size()) != size)
        refuse(std::string("\"") + key + "\" must have " + std::to_string(size) +
               " numbers, not " + std::to_string(array.size()));
    kept.append(given);
    return array.data();
}

std::vector<LayerSpec> layers_of(const nb::sequence& given, nb::list& kept, int depth);

LayerSpec layer_of(const nb::handle& given, nb::list& kept, int depth) {
    nb::dict layer;
    if (!nb::try_cast(given, layer)) refuse("a layer must be a dict, not " + shown(given));
    LayerSpec spec;
    if (!layer.contains("kind")) refuse("a layer needs \"kind\"");
    spec.kind = shown(layer["kind"]);
    if (spec.kind == "linear") {
        spec.in = whole(layer, "in", 1);
        spec.out = whole(layer, "out", 1);
        spec.weight = floats(layer, "weight", spec.in * spec.out, kept);
        spec.bias = floats(layer, "bias", spec.out, kept, true);
    } else if (spec.kind == "conv") {
        spec.in = whole(layer, "in", 1);
        spec.out = whole(layer, "out", 1);
        spec.kernel = wholes<2>(layer, "kernel", 1);
        spec.stride = wholes<2>(layer, "stride", 1);
        spec.padding = wholes<4>(layer, "padding", 0);
        int64_t area = spec.kernel[0] * spec.kernel[1];
        if (area > kLargestSize || spec.in * spec.out > kLargestSize / area)
            refuse("a convolution has too many weights");
        spec.weight = floats(layer, "weight", spec.in * spec.out * area, kept);
        spec.bias = floats(layer, "bias", spec.out, kept, true);
    } else if (spec.kind == "max_pool" || spec.kind == "avg_pool") {
        spec.kernel = wholes<2>(layer, "kernel", 1);
        spec.stride = wholes<2>(layer, "stride", 1);
        std::array<int64_t, 2> padding = wholes<2>(layer, "padding", 0);
        spec.padding = {padding[0], padding[0], padding[1], padding[1]};
        for (int side = 0; side < 2; ++side)
            if (2 * padding[side] > spec.kernel[side])
                refuse("the padding of pooling must be at most half of its kernel");
        if (spec.kind == "avg_pool") {
            spec.ceil = truth(layer, "ceil");
            spec.count_padding = truth(layer, "count_padding");
        }
    } else if (spec.kind == "adaptive_avg_pool") {
        spec.output = wholes<2>(layer, "output", 1);
    } else if (spec.kind == "batch_norm") {
        spec.in = spec.out = whole(layer, "channels", 1);
        spec.weight = floats(layer, "weight", spec.in, kept);
        spec.bias = floats(layer, "bias", spec.in, kept);
        spec.mean = floats(layer, "mean", spec.in, kept);
        spec.variance = floats(layer, "variance", spec.in, kept);
        spec.momentum = real(layer, "momentum", 0, 1);
        spec.epsilon = real(layer, "epsilon", 0, 1e6);
        spec.frozen = truth(layer, "frozen");
    } else if (spec.kind == "dropout") {
        spec.p = real(layer, "p", 0, 1);
    } else if (spec.kind == "residual") {
        if (depth > 8) refuse("residual layers lie too deep in each other");
        nb::sequence body, shortcut;
        if (!nb::try_cast(named(layer, "body"), body) ||
            !nb::try_cast(named(layer, "shortcut"), shortcut))
            refuse("a residual layer needs lists of layers");
        spec.body = layers_of(body, kept, depth + 1);
        spec.shortcut = layers_of(shortcut, kept, depth + 1);
    } else if (spec.kind != "relu" && spec.kind != "flatten") {
        refuse("there is no layer of kind \"" + spec.kind + "\"");
    }
    return spec;
}

std::vector<LayerSpec> layers_of(const nb::sequence& given, nb::list& kept, int depth) {
    std::vector<LayerSpec> found;
    for (nb::handle layer : given) found.push_back(layer_of(layer, kept, depth));
    return found;
}

// One call at a time, without the interpreter's lock. To be made while that is held.
class Turns {
  public:
    std::unique_lock<std::mutex> next() {
        // A copy of a process has its locks as they happened to be, and none of who held them.
        if (process_ != sartor::process()) new (&mutex_) std::mutex();
        process_ = sartor::process();
        return std::unique_lock<std::mutex>(mutex_, std::defer_lock);
    }

  private:
    std::mutex mutex_;
    long process_ = sartor::process();
};

// A network for Python: checks, and one call at a time.
class PyNetwork {
  public:
    PyNetwork(const nb::sequence& layers, std::array<int64_t, 3> shape, int64_t outputs,
              int threads, const std::optional<std::string>& isa) {
        int64_t size = 1;
        for (int64_t side : shape) {
            if (side < 1 || side > kLargestSide || size > kLargestSize / side)
                refuse("images must have at least one pixel and at most 2^31 numbers");
            size *= side;
        }
        if (outputs < 0 || outputs > kLargestSide) refuse("the number of outputs is out of range");
        if (threads < 1 || threads > kMostThreads)
            refuse("threads must be from 1 to " + std::to_string(kMostThreads));
        std::vector<LayerSpec> specs = layers_of(layers, kept_, 0);
        network = std::make_unique<Network>(specs, Shape{shape[0], shape[1], shape[2]}, outputs,
                                            threads, sartor::chosen_isa(isa.value_or("")));
    }

    std::unique_ptr<Network> network;
    Turns turns;

    template <typename T>
    void check_images(const T& images) const {
        Shape input = network->input();
        if (int64_t(images.shape(1)) != input.channels || int64_t(images.shape(2)) != input.rows ||
            int64_t(images.shape(3)) != input.columns)
            refuse("images must be (N, " + std::to_string(input.channels) + ", " +
                   std::to_string(input.rows) + ", " + std::to_string(input.columns) + ")");
    }

    void check_rows(const Rows& rows, int64_t images) const {
        for (size_t k = 0; k < rows.size(); ++k)
            if (rows.data()[k] < 0 || rows.data()[k] >= images)
                refuse("row " + std::to_string(rows.data()[k]) + " is not one of " +
                       std::to_string(images) + " images");
    }

    void check_pixels(const Numbers& scale, const Numbers& shift) const {
        if (int64_t(scale.size()) != network->input().channels || scale.size() != shift.size())
            refuse("scale and shift must have a number for each channel");
    }

    void check_results(int64_t count, const Matrix& out,
                       const std::optional<Matrix>& features) const {
        if (int64_t(out.shape(0)) != count || int64_t(out.shape(1)) != network->classes())
            refuse("the logits must be (" + std::to_string(count) + ", " +
                   std::to_string(network->classes()) + ")");
        if (features && (int64_t(features->shape(0)) != count ||
                         int64_t(features->shape(1)) != network->features()))
            refuse("the features must be (" + std::to_string(count) + ", " +
                   std::to_string(network->features()) + ")");
    }

    void refresh() {
        std::unique_lock<std::mutex> turn = turns.next();
        nb::gil_scoped_release released;
        turn.lock();
        network->refresh();
    }

    void forward(const Images& images, const Matrix& out, const std::optional<Matrix>& features) {
        check_images(images);
        check_results(images.shape(0), out, features);
        float* seen = features ? features->data() : nullptr;
        std::unique_lock<std::mutex> turn = turns.next();
        nb::gil_scoped_release released;
        turn.lock();
        network->forward(images.data(), images.shape(0), out.data(), seen);
    }

    void forward_bytes(const Bytes& images, const Rows& rows, const Numbers& scale,
                       const Numbers& shift, const Matrix& out,
                       const std::optional<Matrix>& features) {
        check_images(images);
        check_rows(rows, images.shape(0));
        check_pixels(scale, shift);
        check_results(rows.size(), out, features);
        float* seen = features ? features->data() : nullptr;
        std::unique_lock<std::mutex> turn = turns.next();
        nb::gil_scoped_release released;
        turn.lock();
        network->forward_bytes(images.data(), rows.data(), rows.size(), scale.data(), shift.data(),
                               out.data(), seen);
    }

  private:
    nb::list kept_;
};

// Memory that processes share, for Python.
class PySharedMemory {
  public:
    PySharedMemory(const Memory& memory, int rank, const std::vector<int>& processes, double seconds)
        : memory_(memory),
          shared(memory.data(), int64_t(memory.size()), rank, processes, seconds, see_to_signals) {}

    void gather(const Written& own, const Memory& out) {
        if (out.size() != own.size() * shared.size())
            refuse("there must be room for " + std::to_string(shared.size()) + " times " +
                   std::to_string(own.size()) + " bytes");
        nb::gil_scoped_release released;
        shared.gather_bytes(own.data(), int64_t(own.size()), out.data());
    }

    void add_up(const Values& values) {
        nb::gil_scoped_release released;
        shared.add_up_floats(values.data(), int64_t(values.size()));
    }

  private:
    // Who waits for others can be interrupted.
    static void see_to_signals() {
        nb::gil_scoped_acquire acquired;
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
    }

    Memory memory_;

  public:
    sartor::SharedMemory shared;
};

// What Python exchanges with other processes: `add_up` changes an array, `gather` fills one.
class PyCommunicator final : public sartor::Communicator {
  public:
    explicit PyCommunicator(const nb::object& given)
        : Communicator(number(given, "rank"), number(given, "size")), given_(given) {
        if (size() < 1 || rank() < 0 || rank() >= size())
            refuse("rank " + std::to_string(rank()) + " is not one of " + std::to_string(size()) +
                   " processes");
    }

  private:
    static int number(const nb::object& given, const char* name) {
        const nb::object found = given.attr(name);
        int value = 0;
        if (!nb::try_cast<int>(found, value))
            refuse(std::string(name) + " must be a whole number, not " + shown(found));
        return value;
    }

    template <typename T>
    static nb::object array_of(T* data, int64_t count) {
        using Found = nb::ndarray<nb::numpy, T, nb::ndim<1>, nb::c_contig>;
        // With an owner, though none that matters: without one the memory would be copied.
        return nb::cast(Found(data, {size_t(count)}, nb::none()), nb::rv_policy::reference);
    }

    void add_up_now(float* values, int64_t count) override {
        nb::gil_scoped_acquire acquired;
        given_.attr("add_up")(array_of(values, count));
    }

    void gather_now(const double* own, int64_t count, double* all) override {
        nb::gil_scoped_acquire acquired;
        given_.attr("gather")(array_of(const_cast<double*>(own), count),
                              array_of(all, count * size()));
    }

    nb::object given_;
};

// Training for Python: checks, and one call at a time, the network's own calls included.
class PyTrainer {
  public:
    // `communicator` is a PySharedMemory, an object of Python that exchanges, or None.
    PyTrainer(PyNetwork& network, const nb::dict& loss, const nb::dict& optimizer, int parts,
              double clip, const nb::object& communicator)
        : network_(network), parts_(parts) {
        if (parts < 1 || parts > kLargestSide) refuse("parts must be 1 or more");
        if (!(clip >= 0)) refuse("clip must not be negative");
        kept_.append(nb::find(&network));
        sartor::OptimizerSpec rule = optimizer_of(optimizer);
        trainer_ = std::make_unique<sartor::Trainer>(*network.network, loss_of(loss), rule,
                                                     trained_of(optimizer, rule), parts, clip,
                                                     communicator_of(communicator));
    }

    void refresh() { network_.refresh(); }

    void steps_of_bytes(const Bytes& images, const Rows& labels, const Rows& rows,
                        const Numbers& scale, const Numbers& shift, int64_t batch,
                        const Rates& rates, const Seeds& seeds, const Sums& losses,
                        const Sums& weights, const Counts& correct) {
        network_.check_images(images);
        network_.check_rows(rows, images.shape(0));
        network_.check_pixels(scale, shift);
        if (labels.size() != images.shape(0)) refuse("there must be a label for each image");
        for (size_t k = 0; k < rows.size(); ++k) check_label(labels.data()[rows.data()[k]]);
        sartor::Data data;
        data.bytes = images.data();
        data.rows = rows.data();
        data.labels = labels.data();
        data.scale = scale.data();
        data.shift = shift.data();
        data.images = rows.size();
        steps(data, batch, rates, seeds, losses, weights, correct);
    }

    void steps_of_floats(const Images& images, const nb::object& truth, int64_t batch,
                         const Rates& rates, const Seeds& seeds, const Sums& losses,
                         const Sums& weights, const Counts& correct) {
        network_.check_images(images);
        sartor::Data data;
        data.floats = images.data();
        data.images = images.shape(0);
        if (communicator_ != nullptr) {
            if (batch < 1 || own_of(batch) != data.images)
                refuse("of " + std::to_string(batch) + " images this process has " +
                       std::to_string(own_of(batch)) + ", not " + std::to_string(data.images));
            data.images = batch;
            data.own_only = true;
        }
        Rows labels;
        Shares shares;
        if (nb::try_cast(truth, labels, false)) {
            if (labels.size() != images.shape(0)) refuse("there must be a label for each image");
            for (size_t k = 0; k < labels.size(); ++k) check_label(labels.data()[k]);
            data.labels = labels.data();
        } else if (nb::try_cast(truth, shares, false)) {
            if (shares.shape(0) != images.shape(0) ||
                int64_t(shares.shape(1)) != network_.network->classes())
                refuse("there must be a share of each class for each image");
            data.shares = shares.data();
        } else {
            refuse("labels must be int64 (N,), or shares float32 (N, K)");
        }
        steps(data, batch, rates, seeds, losses, weights, correct);
    }

  private:
    void check_label(int64_t label) const {
        if (label < 0 || label >= network_.network->classes())
            refuse("label " + std::to_string(label) + " is not one of " +
                   std::to_string(network_.network->classes()) + " classes");
    }

    void steps(const sartor::Data& data, int64_t batch, const Rates& rates, const Seeds& seeds,
               const Sums& losses, const Sums& weights, const Counts& correct) {
        size_t count = rates.size();
        if (seeds.size() != count || losses.size() != count || weights.size() != count ||
            correct.size() != count)
            refuse("each step needs a rate, a seed, and room for what is reported");
        if (batch < 1 || (data.images + batch - 1) / batch != int64_t(count))
            refuse(std::to_string(data.images) + " images in batches of " +
                   std::to_string(batch) + " are not " + std::to_string(count) + " steps");
        if (count == 0) return;
        std::vector<sartor::Report> reports(count);
        {
            std::unique_lock<std::mutex> turn = network_.turns.next();
            nb::gil_scoped_release released;
            turn.lock();
            trainer_->steps(data, batch, count, rates.data(), seeds.data(), reports.data());
        }
        for (size_t k = 0; k < count; ++k) {
            losses.data()[k] = reports[k].loss;
            weights.data()[k] = reports[k].weight;
            correct.data()[k] = reports[k].correct;
        }
    }

    sartor::Communicator* communicator_of(const nb::object& given) {
        if (given.is_none()) return nullptr;
        PySharedMemory* memory = nullptr;
        if (nb::try_cast(given, memory)) {
            kept_.append(given);
            return communicator_ = &memory->shared;
        }
        own_communicator_ = std::make_unique<PyCommunicator>(given);
        return communicator_ = own_communicator_.get();
    }

    // How many of a batch's images this process has.
    int64_t own_of(int64_t batch) const {
        int64_t size = (batch + parts_ - 1) / parts_, total = 0;
        for (int64_t from = 0; from < batch; from += size) {
            sartor::Range own =
                sartor::share_of_process(std::min(size, batch - from), communicator_);
            total += own.size();
        }
        return total;
    }

    sartor::LossSpec loss_of(const nb::dict& given) {
        sartor::LossSpec spec;
        std::string kind = shown(named(given, "kind"));
        if (kind == "cross-entropy") spec.kind = sartor::Loss::cross_entropy;
        else if (kind == "mse") spec.kind = sartor::Loss::mse;
        else if (kind == "bce") spec.kind = sartor::Loss::bce;
        else refuse("there is no loss \"" + kind + "\"");
        spec.smoothing = float(real(given, "smoothing", 0, 1));
        spec.class_weights = floats(given, "weights", network_.network->classes(), kept_, true);
        return spec;
    }

    sartor::OptimizerSpec optimizer_of(const nb::dict& given) {
        sartor::OptimizerSpec spec;
        std::string kind = shown(named(given, "kind"));
        if (kind == "sgd") spec.kind = sartor::Optimizer::sgd;
        else if (kind == "adam") spec.kind = sartor::Optimizer::adam;
        else if (kind == "adamw") spec.kind = sartor::Optimizer::adamw;
        else if (kind == "rmsprop") spec.kind = sartor::Optimizer::rmsprop;
        else refuse("there is no optimizer \"" + kind + "\"");
        spec.momentum = real(given, "momentum", 0, 1);
        spec.nesterov = truth(given, "nesterov");
        spec.beta1 = real(given, "beta1", 0, 1);
        spec.beta2 = real(given, "beta2", 0, 1);
        spec.epsilon = real(given, "epsilon", 0, 1);
        spec.alpha = real(given, "alpha", 0, 1);
        return spec;
    }

    std::vector<sartor::Trained> trained_of(const nb::dict& given,
                                            const sartor::OptimizerSpec& rule) {
        nb::sequence entries;
        if (!nb::try_cast(named(given, "parameters"), entries))
            refuse("\"parameters\" must be a list");
        bool sgd = rule.kind == sartor::Optimizer::sgd;
        bool adam = !sgd && rule.kind != sartor::Optimizer::rmsprop;
        std::vector<sartor::Trained> found;
        for (nb::handle each : entries) {
            nb::dict one;
            if (!nb::try_cast(each, one)) refuse("a parameter must be a dict, not " + shown(each));
            sartor::Trained trained;
            Array<float> parameter;
            if (!nb::try_cast(named(one, "parameter"), parameter, false))
                refuse("\"parameter\" must be a writable float32 array, row by row");
            kept_.append(one["parameter"]);
            trained.value = parameter.data();
            trained.size = parameter.size();
            trained.decay = real(one, "decay", 0, 1e9);
            trained.factor = real(one, "factor", 0, 1e9);
            if (adam) trained.first = floats(one, "mean", trained.size, kept_);
            if (!adam && rule.momentum > 0) trained.first = floats(one, "momentum", trained.size, kept_);
            if (!sgd) {
                trained.second = floats(one, "square", trained.size, kept_);
                trained.count = floats(one, "step", 1, kept_);
            }
            found.push_back(trained);
        }
        return found;
    }

    PyNetwork& network_;
    nb::list kept_;
    const int64_t parts_;
    std::unique_ptr<sartor::Communicator> own_communicator_;
    sartor::Communicator* communicator_ = nullptr;
    std::unique_ptr<sartor::Trainer> trainer_;
};

uint64_t checksum_of(const Array<const uint8_t, nb::ndim<1>>& content) {
    nb::gil_scoped_release released;
    return sartor::checksum(content.data(), int64_t(content.size()));
}

using Draws = Array<const uint64_t, nb::ndim<2>>;
using Drawn = Array<const double, nb::ndim<2>>;
using Found = Array<double, nb::ndim<2>>;

void count_draws_of(const Draws& words, const Found& counts) {
    if (words.shape(0) != counts.shape(0) || words.shape(1) != counts.shape(1))
        refuse("words and counts differ in shape");
    nb::gil_scoped_release released;
    sartor::count_draws(words.data(), int64_t(words.shape(0)), int64_t(words.shape(1)),
                        counts.data());
}

void risks_of(const Drawn& counts, const Rows& order, const Rates& wrong, const Rows& ends,
              const Found& out) {
    int64_t places = int64_t(counts.shape(1));
    if (counts.shape(0) != out.shape(0) || places != int64_t(out.shape(1)))
        refuse("counts and risks differ in shape");
    for (size_t size : {order.shape(0), wrong.shape(0), ends.shape(0)})
        if (int64_t(size) != places) refuse("each place needs an order, an end, and right or wrong");
    for (int64_t k = 0; k < places; ++k)
        if (order.data()[k] < 0 || order.data()[k] >= places || ends.data()[k] < k ||
            ends.data()[k] >= places)
            refuse("there is no such place");
    nb::gil_scoped_release released;
    sartor::risks(counts.data(), int64_t(counts.shape(0)), places, order.data(), wrong.data(),
                  ends.data(), out.data());
}

int64_t memory_bytes(int size) {
    if (size < 1 || size > kMostProcesses)
        refuse("processes must be from 1 to " + std::to_string(kMostProcesses));
    return sartor::SharedMemory::bytes(size);
}

nb::dict build() {
    nb::list isas;
    for (sartor::Isa isa : sartor::usable_isas()) isas.append(sartor::name_of(isa));
    nb::list bfloat16;
    for (sartor::Isa isa : sartor::usable_bfloat16()) bfloat16.append(sartor::name_of(isa));
    nb::dict found;
    found["isas"] = isas;
    found["bfloat16"] = bfloat16;
    found["chosen"] = sartor::name_of(sartor::chosen_isa(""));
    found["compiler"] = __VERSION__;
    found["abi"] = kAbi;
    return found;
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "The engine native: training steps and forward passes of chains of layers.";
    m.def("build", &build, "What this module was built with, and what it uses here.");

    m.def("checksum", &checksum_of, nb::arg("content").noconvert(),
          "64 bits that say whether memory is what it was.");
    m.def("count_draws", &count_draws_of, nb::arg("words").noconvert(),
          nb::arg("counts").noconvert(), "How often each place is drawn in each resample.");
    m.def("risks", &risks_of, nb::arg("counts").noconvert(), nb::arg("order").noconvert(),
          nb::arg("wrong").noconvert(), nb::arg("ends").noconvert(), nb::arg("out").noconvert(),
          "The risk-coverage curve of each resample.");

    nb::class_<PyNetwork>(m, "Network")
        .def(nb::init<const nb::sequence&, std::array<int64_t, 3>, int64_t, int,
                      const std::optional<std::string>&>(),
             nb::arg("layers"), nb::arg("input_shape"), nb::arg("outputs"), nb::arg("threads"),
             nb::arg("isa").none())
        .def_prop_ro("outputs", [](const PyNetwork& self) { return self.network->classes(); })
        .def_prop_ro("multiplies_bfloat16",
                     [](const PyNetwork& self) { return self.network->multiplies_bfloat16(); })
        .def_prop_ro("features", [](const PyNetwork& self) { return self.network->features(); })
        .def("refresh", &PyNetwork::refresh)
        .def("forward", &PyNetwork::forward, nb::arg("images").noconvert(), nb::arg("out").noconvert(),
             nb::arg("features").noconvert().none() = nb::none())
        .def("forward_bytes", &PyNetwork::forward_bytes, nb::arg("images").noconvert(), nb::arg("rows").noconvert(),
             nb::arg("scale").noconvert(), nb::arg("shift").noconvert(), nb::arg("out").noconvert(),
             nb::arg("features").noconvert().none() = nb::none());

    nb::class_<PySharedMemory>(m, "SharedMemory")
        .def(nb::init<const Memory&, int, const std::vector<int>&, double>(),
             nb::arg("memory").noconvert(), nb::arg("rank"), nb::arg("processes"),
             nb::arg("seconds"))
        .def_static("bytes", &memory_bytes, nb::arg("size"))
        .def("gather", &PySharedMemory::gather, nb::arg("own").noconvert(),
             nb::arg("out").noconvert())
        .def("add_up", &PySharedMemory::add_up, nb::arg("values").noconvert())
        .def("leave", [](PySharedMemory& self) { self.shared.leave(); });

    nb::class_<PyTrainer>(m, "Trainer")
        .def(nb::init<PyNetwork&, const nb::dict&, const nb::dict&, int, double,
                      const nb::object&>(),
             nb::arg("network"), nb::arg("loss"), nb::arg("optimizer"), nb::arg("parts"),
             nb::arg("clip"), nb::arg("communicator").none() = nb::none())
        .def("refresh", &PyTrainer::refresh)
        .def("steps_of_bytes", &PyTrainer::steps_of_bytes, nb::arg("images").noconvert(),
             nb::arg("labels").noconvert(), nb::arg("rows").noconvert(),
             nb::arg("scale").noconvert(), nb::arg("shift").noconvert(), nb::arg("batch"),
             nb::arg("rates").noconvert(), nb::arg("seeds").noconvert(),
             nb::arg("losses").noconvert(), nb::arg("weights").noconvert(),
             nb::arg("correct").noconvert())
        .def("steps_of_floats", &PyTrainer::steps_of_floats, nb::arg("images").noconvert(),
             nb::arg("labels"), nb::arg("batch"), nb::arg("rates").noconvert(),
             nb::arg("seeds").noconvert(), nb::arg("losses").noconvert(),
             nb::arg("weights").noconvert(), nb::arg("correct").noconvert());
}
