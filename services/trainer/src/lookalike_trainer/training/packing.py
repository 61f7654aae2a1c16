"""Nested state (dicts, lists, numbers, tensors) as a JSON document beside a flat set of tensors, and back, to the bit."""

from typing import Any

from torch import Tensor

_TENSOR, _ITEMS, _TUPLE = "tensor", "items", "tuple"


def pack(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """A document for JSON, in which each tensor is a name, and the tensors by these names: copies on the CPU.

    Raises:
        TypeError: there is something in it that is none of dict, list, tuple, str, number, bool, None, tensor.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(value, tensors), tensors


def unpack(document: Any, tensors: dict[str, Tensor]) -> Any:
    """What `pack` was given, with each tensor as it lay in memory.

    Raises:
        KeyError: a tensor is missing.
    """
    if isinstance(document, list):
        return [unpack(item, tensors) for item in document]
    if not isinstance(document, dict):
        return document
    if _TENSOR in document:
        return _as_it_lay(tensors[document[_TENSOR]], document["order"])
    if _TUPLE in document:
        return tuple(unpack(item, tensors) for item in document[_TUPLE])
    return {key: unpack(item, tensors) for key, item in document[_ITEMS]}


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            order = _order(value)
            name = str(len(tensors))
            # A copy: tensors that share memory are kept apart, and the next step writes into the original.
            tensors[name] = value.detach().permute(order).to("cpu", copy=True).contiguous()
            return {_TENSOR: name, "order": order}
        case dict():
            return {_ITEMS: [[_key(key), _packed(item, tensors)] for key, item in value.items()]}
        case list():
            return [_packed(item, tensors) for item in value]
        case tuple():
            return {_TUPLE: [_packed(item, tensors) for item in value]}
    raise TypeError(f"a {type(value).__name__} cannot be kept in a checkpoint")


def _key(key: Any) -> str | int:
    if isinstance(key, str | int):
        return key
    raise TypeError(f"a key of {type(key).__name__} cannot be kept in a checkpoint")


def _order(tensor: Tensor) -> list[int]:
    """Dimensions from the widest stride to the narrowest. Where a tensor lies otherwise, its values are summed in another order."""
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def _as_it_lay(packed: Tensor, order: list[int]) -> Tensor:
    back = [0] * len(order)
    for position, dimension in enumerate(order):
        back[dimension] = position
    return packed.permute(back) if order else packed
