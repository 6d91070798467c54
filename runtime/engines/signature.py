"""Whether a graph's inputs and outputs are what its card says: names, shapes, types, and whether any batch goes.

    check_signature(card, session.get_inputs(), session.get_outputs())

Whatever ONNX Runtime gives stands in for a port: an object with name, shape and type. A dimension that may vary is a
text or None there, -1 in the card.
"""

from collections.abc import Sequence
from typing import Any

from runtime.card.model_card import ANY_BATCH, ModelCard
from runtime.support.errors import ShrikeError

TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
SHOWN = 2  # differences that the error names

Form = tuple[list[int], str]  # shape and type


def expected_signature(card: ModelCard) -> tuple[dict[str, Form], dict[str, Form]]:
    """Inputs and outputs by name, as the card has them."""
    batch = card.input.shape[0]
    inputs: dict[str, Form] = {card.input.name: (list(card.input.shape), "float32")}
    outputs: dict[str, Form] = {card.output.name: (list(card.output.shape), "float32")}
    for tensor in card.state.tensors if card.state else ():
        inputs[tensor.input] = outputs[tensor.output] = ([batch, *tensor.shape], tensor.type)
    return inputs, outputs


def check_signature(card: ModelCard, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """A ShrikeError that names the first differences."""
    differences: list[str] = []
    for kind, ports, wanted in zip(("input", "output"), (inputs, outputs), expected_signature(card), strict=True):
        there = {port.name: _form(port) for port in ports}
        differences += [
            f"{kind} {name!a} is {_said(there[name]) if name in there else 'missing'}, its card says {_said(form)}"
            for name, form in wanted.items()
            if name not in there or not _fits(there[name], form, card.state is not None)
        ]
        differences += [f"{kind} {name!a} is not in its card" for name in there if name not in wanted]
    if card.state is not None and len(expected_signature(card)[0]) != 1 + len(card.state.tensors):
        differences.append("a state has the name of the features")
    if differences:
        more = f", and {len(differences) - SHOWN} more differences" if len(differences) > SHOWN else ""
        raise ShrikeError(f"{card.name}: the graph's {'; '.join(differences[:SHOWN])}{more}; export the model again")


def _form(port: Any) -> Form:
    """A port that is no tensor has no shape."""
    shape = [size if isinstance(size, int) else ANY_BATCH for size in (port.shape or ())]
    return shape, TYPES.get(port.type, str(port.type))


def _fits(there: Form, wanted: Form, batch: bool) -> bool:
    """`batch`: hold the first dimension to the card, too; a graph that takes any number also takes one."""
    (shape, kind), (sizes, type_) = there, wanted
    return kind == type_ and shape[1:] == sizes[1:] and (not batch or shape[:1] in (sizes[:1], [ANY_BATCH]))


def _said(form: Form) -> str:
    return f"{form[0]} of {form[1]}"
