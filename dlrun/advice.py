"""Known messages of PyTorch, each as one line on what usually causes it: printed below the error, and the cause a check names.

Imports no torch: only the text of an error is read. Source: Isola's Hacker's Guide (errors everybody meets), torch's own messages.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Known(NamedTuple):
    """A pattern of messages and what it means; numbers that the pattern names can stand in the text."""

    pattern: str
    says: str


KNOWN = (
    Known(
        r"a (leaf Variable|view of a leaf Variable) that requires grad is being used in an in-place operation",
        "a parameter is changed in place while gradients are recorded: write w = w + x, or change it under torch.no_grad()",
    ),
    Known(
        r"backward through the graph a second time",
        "a tensor of an earlier step or loss is used again together with its graph: detach() whatever is kept from step to step",
    ),
    Known(
        r"needed for gradient computation has been modified by an inplace operation",
        "+=, relu(inplace=True) or x[...] = overwrote a value that the gradient needs: write the result to a new tensor",
    ),
    Known(
        r"element 0 of tensors does not require grad",
        "the loss hangs on no trainable parameter: detach(), .data, .item(), argmax or no_grad() lies on the way, or all is frozen",
    ),
    Known(r"grad can be implicitly created only for scalar outputs", "the loss is not one number: take its mean()"),
    Known(
        r"mat1 and mat2 shapes cannot be multiplied \(\d+x(?P<has>\d+) and (?P<wants>\d+)x\d+\)",
        "a linear layer of {wants} inputs got rows of {has} numbers: flatten(1) before it, or change its in_features",
    ),
    Known(
        r"expected input\[.*?\] to have (?P<wants>\d+) channels, but got (?P<has>\d+) channels",
        "a convolution for {wants} channels got {has}: pictures are [rows, channels, height, width], in this order",
    ),
    Known(
        r"Expected input batch_size \((?P<has>\d+)\) to match target batch_size \((?P<wants>\d+)\)",
        "{has} rows of outputs against {wants} targets: a reshape or view moved numbers between rows, or [B, T] was not flattened alike",
    ),
    Known(
        r"The size of tensor a \((?P<a>\d+)\) must match the size of tensor b \((?P<b>\d+)\) at non-singleton dimension (?P<axis>\d+)",
        "two tensors differ on axis {axis} ({a} and {b}): print both shapes on the line named above",
    ),
    Known(
        r"shape '\[.*\]' is invalid for input of size",
        "a view or reshape asks for another number of elements than there are: the sizes were made for another input or batch",
    ),
    Known(r"view size is not compatible with input tensor's size and stride", "view() after a transpose or permute: use reshape()"),
    Known(
        r"(Target \d+ is out of bounds|t >= 0 && t < n_classes|device-side assert)",
        "a class number is as large as the number of outputs, or below 0: classes count from 0",
    ),
    Known(r"index out of range in self", "a token is as large as the embedding has rows: vocabulary and tokens do not belong together"),
    Known(
        r"0D or 1D target tensor expected, multi-target not supported",
        "class numbers have one axis too many: squeeze(1), or argmax(1) if they are one-hot",
    ),
    Known(
        r"(expected scalar type Long but found|expected target.* to be.*Long|argument #1 'indices' to have one of .* scalar types: Long"
        r"|not implemented for '(Int|Float|Double|Half)'.*|\"nll_loss\w*\" not implemented for)",
        "class numbers and tokens have to be integers of 64 bits: say .long()",
    ),
    Known(
        r"(mat1 and mat2 must have the same dtype|expected scalar type \w+ but found|Found dtype \w+ but expected"
        r"|Input type \(.*\) and (weight|bias) type \(.*\) should be the same|expected m1 and m2 to have the same dtype)",
        "two types of number meet, often float64 from NumPy and the float32 of weights: say .float() where the tensor is made",
    ),
    Known(
        r"(Expected all tensors to be on the same device|is not on the expected device)",
        "a tensor made inside the network or loss lies elsewhere: make it with device=x.device, or keep it by register_buffer",
    ),
    Known(
        r"Expected more than 1 value per channel when training",
        "a batch norm cannot take the statistics of a batch of 1: another train.batch_size, or a layer or group norm",
    ),
    Known(r"Can't call numpy\(\) on Tensor that requires grad", "say .detach() before .numpy()"),
    Known(
        r"Boolean value of Tensor with more than one value is ambiguous",
        "a tensor of several numbers stands where True or False is asked for: use torch.where, .any() or .all()",
    ),
    Known(
        r"all elements of (input|target) should be between 0 and 1",
        "this loss takes probabilities: use the one that takes logits, or a sigmoid before it; targets are 0 and 1",
    ),
    Known(r"stack expects each tensor to be equal size", "rows have different sizes: cut or pad them in the dataset, or give a collate"),
)


def advice(error: BaseException | str) -> str:
    """What usually causes `error`; "" where its message is none that is known."""
    text = " ".join(str(error).split())
    for known in KNOWN:
        if found := re.search(known.pattern, text):
            return known.says.format(**found.groupdict())
    return ""
