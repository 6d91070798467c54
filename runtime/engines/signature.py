"""Compare a graph's inputs and outputs with its card: names, shapes, types and batch.

    check_signature(card, session.get_inputs(), session.get_outputs())

ONNX Runtime describes an input or output by an object with name, shape and type. A dimension that may vary is text or
None there and -1 in the card.
"""

from collections.abc import Sequence
from typing import Any

from runtime.card.model_card import ANY_BATCH, ModelCard
from runtime.support.errors import ShrikeError

TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
SHOWN = 2  # differences that the error names

Form = tuple[list[int], str]  # shape and type
Forms = dict[str, Form]  # by name


def expected_signature(card: ModelCard) -> tuple[Forms, Forms]:
    """Return the card's inputs and outputs by name."""
    batch = card.input.shape[0]
    inputs: Forms = {card.input.name: (list(card.input.shape), "float32")}
    outputs: Forms = {card.output.name: (list(card.output.shape), "float32")}
    for tensor in card.state.tensors if card.state else ():
        inputs[tensor.input] = outputs[tensor.output] = ([batch, *tensor.shape], tensor.type)
    return inputs, outputs


def check_signature(card: ModelCard, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Raise a ShrikeError that names the first differences."""
    differences: list[str] = []
    for kind, tensors, wanted in zip(("input", "output"), (inputs, outputs), expected_signature(card), strict=True):
        found = {tensor.name: _form(tensor) for tensor in tensors}
        differences += [
            f"{kind} {name!a} is {_show(found[name]) if name in found else 'missing'}, expected {_show(form)}"
            for name, form in wanted.items()
            if name not in found or not _fits(found[name], form, card.state is not None)
        ]
        differences += [f"{kind} {name!a} is unknown to its card" for name in found if name not in wanted]
    if card.state is not None and len(expected_signature(card)[0]) != 1 + len(card.state.tensors):
        differences.append("a state has the name of the features")
    if differences:
        more = f", and {len(differences) - SHOWN} more differences" if len(differences) > SHOWN else ""
        raise ShrikeError(f"{card.name}: the graph's {'; '.join(differences[:SHOWN])}{more}; export the model again")


def _form(tensor: Any) -> Form:
    """Return shape and type; a value that is not a tensor has no shape."""
    shape = [size if isinstance(size, int) else ANY_BATCH for size in (tensor.shape or ())]
    return shape, TYPES.get(tensor.type, str(tensor.type))


def _fits(found: Form, wanted: Form, batch: bool) -> bool:
    """`batch`: compare the first dimension, too; a graph that takes any batch also takes one."""
    (shape, kind), (sizes, type_) = found, wanted
    return kind == type_ and shape[1:] == sizes[1:] and (not batch or shape[:1] in (sizes[:1], [ANY_BATCH]))


def _show(form: Form) -> str:
    return f"{form[0]} of {form[1]}"
