"""What common operations do, forward and backward, in one sentence each."""

from __future__ import annotations

_SPATIAL = ("1d", "2d", "3d")

_FORWARD = {
    "conv": "Every filter slides over the input and measures how well its pattern matches at each "
    "position: one map per filter.",
    "linear": "Every output is a weighted sum of all inputs, plus its bias: a row of the weight "
    "matrix times the input.",
    "relu": "Negative numbers become 0; positive numbers pass unchanged.",
    "maxpool": "Of every small window only the largest number is kept: the map shrinks, its peaks "
    "remain.",
    "avgpool": "Every window is replaced by its mean.",
    "flatten": "The same numbers in one row; nothing is computed.",
    "shape": "The same numbers in another arrangement; nothing is computed.",
    "batchnorm": "Every channel is shifted and scaled to mean 0 and standard deviation 1, then "
    "by two learned numbers.",
    "norm": "The numbers are shifted and scaled to mean 0 and standard deviation 1.",
    "dropout": "In training, a random share of the numbers is set to 0, a different one each time; "
    "otherwise all pass.",
    "softmax": "The exponential of each number is divided by the sum of all exponentials: every "
    "result lies between 0 and 1, and they sum to 1.",
    "sigmoid": "Every number is squeezed between 0 and 1.",
    "tanh": "Every number is squeezed between -1 and 1.",
    "sum": "Two tensors are added, number by number.",
    "product": "Two tensors are multiplied, number by number.",
    "matmul": "A product of two matrices.",
    "attention": "Every position takes a weighted mean over all positions; the weights are "
    "computed "
    "from the input.",
    "identity": "Everything passes unchanged.",
}
_BACKWARD = {
    "conv": "The weights' gradient says how each pattern should change; the filters, rotated by "
    "180 degrees, carry the gradient on to the input.",
    "linear": "The weights' gradient is the gradient of each output times each input; the "
    "transposed matrix carries it on to the input.",
    "relu": "Where the output is 0, the gradient is 0; elsewhere it passes unchanged.",
    "maxpool": "Only the largest number of each window gets the gradient.",
    "avgpool": "Every number of a window gets an equal share of the gradient.",
    "flatten": "The same numbers in the old arrangement.",
    "shape": "The same numbers in the old arrangement.",
    "dropout": "Numbers that were set to 0 get no gradient.",
    "sigmoid": "The gradient is multiplied by s(1-s), at most 1/4: through many sigmoids it "
    "vanishes.",
    "tanh": "The gradient is multiplied by 1-t\u00b2, which is near 0 where the output is close "
    "to -1 or 1.",
    "sum": "Both get the whole gradient: the shortcut that lets deep networks learn.",
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
    """What it does to a gradient; empty where there is nothing special to say."""
    return _BACKWARD.get(kind_of(operation), "")
