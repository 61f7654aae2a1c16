// Search of a graph in layers, as HNSW is: down from the entry by the nearest neighbour in each, and through the lowest from the best nodes met.
// It is memory that takes the time: a node's neighbours are asked for all at once, and those of several nodes together.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "scored.hpp"
#include "whole_numbers.hpp"

namespace py = pybind11;

namespace {

using lookalike::Array;
using Node = std::uint32_t;

// Nodes whose neighbours are looked at together.
constexpr std::size_t EXPANDED = 2;
constexpr std::size_t LINE = 64;

struct Shape {
    std::size_t dims, links;

    // Of a record: the vector, the same item in the layer below, how many links there are, and these.
    std::size_t below() const { return (dims * sizeof(std::int16_t) + sizeof(Node) - 1) / sizeof(Node) * sizeof(Node); }
    std::size_t size() const { return (below() + (2 + links) * sizeof(Node) + LINE - 1) / LINE * LINE; }
};

// One layer, without a copy of its records.
class Layer {
 public:
    Layer(Array<std::uint8_t> records, Shape shape) : records_(std::move(records)), shape_(shape), below_(shape.below()), size_(shape.size()) {
        if (records_.ndim() != 2 || records_.shape(0) == 0 || static_cast<std::size_t>(records_.shape(1)) != size_)
            throw std::invalid_argument("a layer must be [n, the size of a record], with a node at least");
    }

    Node count() const { return static_cast<Node>(records_.shape(0)); }
    const std::int16_t* vector(Node node) const { return reinterpret_cast<const std::int16_t*>(record(node)); }
    Node below(Node node) const { return numbers(node)[0]; }
    Node links(Node node) const { return numbers(node)[1]; }
    const Node* linked(Node node) const { return numbers(node) + 2; }

    void refuse_strays(Node nodes_below) const {
        for (Node node = 0; node < count(); ++node) {
            if (below(node) >= nodes_below || links(node) > shape_.links ||
                std::any_of(linked(node), linked(node) + links(node), [this](Node other) { return other >= count(); }))
                throw std::invalid_argument("a node leads to one that does not exist");
        }
    }

    void ask_for_vector(Node node) const {
        for (std::size_t at = 0; at < below_; at += LINE) __builtin_prefetch(record(node) + at);
    }
    void ask_for_links(Node node) const { __builtin_prefetch(record(node) + below_); }

 private:
    const std::uint8_t* record(Node node) const { return records_.data() + node * size_; }
    const Node* numbers(Node node) const { return reinterpret_cast<const Node*>(record(node) + below_); }

    Array<std::uint8_t> records_;
    Shape shape_;
    std::size_t below_, size_;
};

// The best nodes that were met, best first, and which of them were expanded.
class Beam {
 public:
    explicit Beam(std::size_t width) : width_(width), scores_(width), nodes_(width), expanded_(width) {}

    bool wants(std::int32_t score) const { return size_ < width_ || score > scores_[size_ - 1]; }

    PART_OF_CALLER void keep(std::int32_t score, Node node) {
        // Counting takes no branch that could be foretold wrongly.
        std::size_t place = 0;
        for (std::size_t each = 0; each < size_; ++each) place += scores_[each] >= score;
        size_ = std::min(size_ + 1, width_);
        insert(scores_, place, score);
        insert(nodes_, place, node);
        insert(expanded_, place, std::uint8_t{0});
        next_ = std::min(next_, place);
    }

    bool has_next() const { return next_ < size_; }

    Node expand_next() {
        const Node node = nodes_[next_];
        expanded_[next_] = 1;
        while (next_ < size_ && expanded_[next_]) ++next_;
        return node;
    }

    std::size_t size() const { return size_; }
    const Node* nodes() const { return nodes_.data(); }

 private:
    template <typename Value>
    PART_OF_CALLER void insert(std::vector<Value>& values, std::size_t place, Value value) {
        std::memmove(values.data() + place + 1, values.data() + place, (size_ - 1 - place) * sizeof value);
        values[place] = value;
    }

    std::size_t width_, size_ = 0, next_ = 0;
    std::vector<std::int32_t> scores_;
    std::vector<Node> nodes_;
    std::vector<std::uint8_t> expanded_;
};

// Nodes that were met.
class Met {
 public:
    explicit Met(std::size_t nodes) : bits_((nodes + 63) / 64) {}

    // Returns whether it is the first time.
    bool meet(Node node) {
        std::uint64_t& word = bits_[node / 64];
        const std::uint64_t before = word >> (node % 64);
        word |= std::uint64_t{1} << (node % 64);
        return !(before & 1);
    }

 private:
    std::vector<std::uint64_t> bits_;
};

FOR_EACH_PROCESSOR_OF_INTEGERS
Node nearest_by_steps(const Layer& layer, Node node, const std::int16_t* query, std::size_t dims) {
    std::int32_t best = lookalike::whole_product(layer.vector(node), query, dims);
    for (bool nearer = true; nearer;) {
        nearer = false;
        const Node* const linked = layer.linked(node);
        const Node links = layer.links(node);
        for (Node each = 0; each < links; ++each) layer.ask_for_vector(linked[each]);
        for (Node each = 0; each < links; ++each) {
            const std::int32_t score = lookalike::whole_product(layer.vector(linked[each]), query, dims);
            if (score > best) {
                best = score;
                node = linked[each];
                nearer = true;
            }
        }
    }
    return node;
}

FOR_EACH_PROCESSOR_OF_INTEGERS
void search(const Layer& layer, Node entry, const std::int16_t* query, Shape shape, Beam& beam) {
    Met met(layer.count());
    std::vector<Node> linked(EXPANDED * shape.links);
    std::vector<std::int32_t> scores(linked.size());
    met.meet(entry);
    beam.keep(lookalike::whole_product(layer.vector(entry), query, shape.dims), entry);
    while (beam.has_next()) {
        std::size_t count = 0;
        for (std::size_t each = 0; each < EXPANDED && beam.has_next(); ++each) {
            const Node node = beam.expand_next();
            for (const Node *other = layer.linked(node), *const end = other + layer.links(node); other < end; ++other) {
                layer.ask_for_vector(*other);
                linked[count] = *other;
                count += met.meet(*other);
            }
        }
        // All before any is kept: whether one is kept cannot be foretold, and a product begun would be begun again.
        for (std::size_t each = 0; each < count; ++each)
            scores[each] = lookalike::whole_product(layer.vector(linked[each]), query, shape.dims);
        for (std::size_t each = 0; each < count; ++each) {
            if (beam.wants(scores[each])) {
                beam.keep(scores[each], linked[each]);
                layer.ask_for_links(linked[each]);
            }
        }
    }
}

// A query of length one; one without a direction stays nothing.
FOR_EACH_PROCESSOR_OF_INTEGERS
void round_direction(const float* query, std::size_t dims, std::int16_t* rounded) {
    float squares;
    lookalike::inner_products<1>(&query, query, dims, &squares);
    lookalike::round(query, dims, squares > 0 ? lookalike::query_one / std::sqrt(squares) : 0, rounded);
}

class Graph {
 public:
    Graph(const std::vector<Array<std::uint8_t>>& layers, Node entry, std::size_t dims, std::size_t links) : shape_{dims, links}, entry_(entry) {
        if (layers.empty()) throw std::invalid_argument("there must be a layer");
        for (const Array<std::uint8_t>& records : layers) {
            layers_.emplace_back(records, shape_);
            layers_.back().refuse_strays(layers_[layers_.size() < 2 ? 0 : layers_.size() - 2].count());
        }
        if (entry >= layers_.back().count()) throw std::invalid_argument("the entry does not exist");
    }

    // Returns the rows of the best `depth` of the `width` nodes that are kept in sight for each query, best first.
    py::list nearest(const Array<float>& queries, std::size_t width, std::size_t depth) const {
        if (queries.ndim() != 2 || static_cast<std::size_t>(queries.shape(1)) != shape_.dims) throw std::invalid_argument("queries must be [q, d]");
        if (width == 0 || depth == 0) throw std::invalid_argument("width and depth must be at least 1");
        std::vector<std::vector<Node>> found(static_cast<std::size_t>(queries.shape(0)));
        {
            const float* const query = queries.data();
            py::gil_scoped_release released;
            for (std::size_t each = 0; each < found.size(); ++each) found[each] = search_one(query + each * shape_.dims, width, depth);
        }
        return lookalike::rows_of(found, [](Node row) { return row; });
    }

 private:
    std::vector<Node> search_one(const float* query, std::size_t width, std::size_t depth) const {
        std::vector<std::int16_t> rounded(shape_.dims);
        round_direction(query, shape_.dims, rounded.data());
        Node node = entry_;
        for (std::size_t layer = layers_.size() - 1; layer > 0; --layer)
            node = layers_[layer].below(nearest_by_steps(layers_[layer], node, rounded.data(), shape_.dims));
        Beam beam(std::min<std::size_t>(width, layers_.front().count()));
        search(layers_.front(), node, rounded.data(), shape_, beam);
        return {beam.nodes(), beam.nodes() + std::min(depth, beam.size())};
    }

    Shape shape_;
    Node entry_;
    // From the lowest, which has all rows.
    std::vector<Layer> layers_;
};

}  // namespace

PYBIND11_MODULE(_graph, module) {
    py::class_<Graph>(module, "Graph")
        .def(py::init<const std::vector<Array<std::uint8_t>>&, Node, std::size_t, std::size_t>(), py::arg("layers"), py::arg("entry"),
             py::arg("dims"), py::arg("links"))
        .def("nearest", &Graph::nearest, py::arg("queries"), py::arg("width"), py::arg("depth"));
}
