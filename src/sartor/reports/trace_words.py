"""What the usual operations do, forward and back, in a sentence each."""

from __future__ import annotations

_SPATIAL = ("1d", "2d", "3d")

_FORWARD = {
    "conv": "Every filter slides over its input and writes down, place by place, how well the "
    "pattern fits: one map a filter.",
    "linear": "Every output is a weighted sum of all inputs, plus its bias: a row of the weight "
    "matrix times the input.",
    "relu": "What is negative becomes 0; what is positive passes unchanged.",
    "maxpool": "Of every small window the largest number stays: the picture shrinks, what stood "
    "out is kept.",
    "avgpool": "Every window is replaced by its mean.",
    "flatten": "The same numbers in one row; nothing is computed.",
    "shape": "The same numbers in another arrangement; nothing is computed.",
    "batchnorm": "Every channel is shifted and scaled to a mean near 0 and a spread near 1, then "
    "by two numbers that are learnt.",
    "norm": "The numbers are shifted and scaled to a mean near 0 and a spread near 1.",
    "dropout": "In training a share of the numbers, drawn anew each time, becomes 0; otherwise "
    "all pass.",
    "softmax": "Each number becomes its share of the sum of all exponentials: all between 0 and "
    "1, together 1.",
    "sigmoid": "Every number is squeezed between 0 and 1.",
    "tanh": "Every number is squeezed between -1 and 1.",
    "sum": "Two tensors are added, number by number.",
    "product": "Two tensors are multiplied, number by number.",
    "matmul": "A product of two matrices.",
    "attention": "Every place looks at all places and takes from each as much as it attends to it.",
    "identity": "Everything passes as it is.",
}
_BACKWARD = {
    "conv": "The weights' gradient says how each pattern should change; the filters, turned round, "
    "carry the gradient on to the input.",
    "linear": "The weights' gradient is the gradient of each output times each input; the matrix, "
    "turned on its side, carries it on to the input.",
    "relu": "Where the output is 0 nothing goes back; elsewhere all of it.",
    "maxpool": "Only the number that won its window gets the gradient.",
    "avgpool": "Every number of a window gets an equal part.",
    "flatten": "The same numbers in the old arrangement.",
    "shape": "The same numbers in the old arrangement.",
    "dropout": "What was set to 0 gets nothing.",
    "sigmoid": "Times s(1-s), at most a quarter: through many of them it vanishes.",
    "tanh": "Times 1-t\u00b2: next to nothing where the output is close to -1 or 1.",
    "sum": "Both get the whole gradient: the short way by which deep networks learn.",
}
_KINDS = {
    "relu": ("relu", "relu6", "threshold"),
    "flatten": ("flatten",),
    "shape": (
        *(
            "view",
            "reshape",
            "permute",
            "transpose",
            "squeeze",
            "unsqueeze",
            "unflatten",
            "t",
            "mt",
        ),
        *("getitem", "chunk", "split", "cat", "concat", "stack", "pixelshuffle"),
    ),
    "linear": ("linear", "bilinear"),
    "dropout": ("dropout", "alphadropout", "featuredropout"),
    "softmax": ("softmax", "logsoftmax"),
    "sigmoid": ("sigmoid", "hardsigmoid"),
    "tanh": ("tanh", "hardtanh"),
    "sum": ("add", "iadd", "radd"),
    "product": ("mul", "imul", "rmul"),
    "matmul": ("matmul", "mm", "bmm", "einsum"),
    "attention": ("multiheadattention", "scaleddotproductattention"),
    "identity": ("identity",),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}


def kind_of(operation: str) -> str:
    """The family of an operation, such as "conv" for Conv2d; empty for one that is not known."""
    name = operation.lower().replace("_", "")
    for suffix in _SPATIAL:
        name = name.removesuffix(suffix)
    name = name.removeprefix("adaptive")
    return _KIND_OF.get(name) or next(
        (kind for kind in ("maxpool", "avgpool", "batchnorm", "conv", "norm") if kind in name), ""
    )


def forward_words(operation: str) -> str:
    """What it does; empty for one that is not known."""
    return _FORWARD.get(kind_of(operation), "")


def backward_words(operation: str) -> str:
    """What it does to a gradient; empty for one of which there is nothing special to say."""
    return _BACKWARD.get(kind_of(operation), "")
