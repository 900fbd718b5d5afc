"""Names of classes in a state dict: weights saved in another order are put in order by name."""

import json
from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from labelassemble import _extension
from labelassemble.errors import LabelAssembleError

_KEY = "_extra_state"  # where torch keeps what `get_extra_state` gives
_AT_MOST = 5  # names in a message


class NamedClasses(nn.Module):
    """A module whose state dict holds the names of its classes, and which loads weights by them.

    The names are JSON in a uint8 tensor, so that whatever holds the weights holds them too, files of safetensors and
    means of several state dicts included. A state without names, as of an earlier version, is taken as it stands, and
    so are names made of a number (class0, class1, ...), on either side.

    Attributes:
        classes: the names, in the order of the columns.
    """

    classes: list[str]
    _weights_with_rows: ClassVar[tuple[str, ...]] = ()  # the weights that have one row for each name

    def get_extra_state(self) -> Tensor:
        """Return the names as they are kept in the state dict, uint8."""
        return torch.tensor(list(json.dumps(self._saved_names()).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Keep the names that the module was made with: the weights have been put in their order."""

    def _saved_names(self) -> list[str]:
        return list(self.classes)

    def _put_in_order(self, state: MutableMapping[str, Any], prefix: str, order: list[int]) -> None:
        """Bring the rows of the state's weights into `order`; raise LabelAssembleError if that is not possible."""
        for name in self._weights_with_rows:
            value = state.get(prefix + name)
            if isinstance(value, Tensor) and len(value) == len(order):  # else torch says what does not fit
                if _extension.is_distributed(value):
                    from labelassemble.ops.sharded import rows

                    value = rows(value, order)
                else:
                    value = value[order]
                state[prefix + name] = value

    def _load_from_state_dict(
        self,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = self._saved_names()
        try:
            saved = saved_names(state_dict, prefix)
            if saved is not None and saved != own and not (_is_number(saved) or _is_number(own)):
                _check_same(type(self).__name__, saved, own)
                self._put_in_order(state_dict, prefix, [saved.index(name) for name in own])
        except LabelAssembleError as error:
            error_msgs.append(str(error))
            return
        state_dict[prefix + _KEY] = self.get_extra_state()  # a state without names lacks nothing
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def saved_names(state_dict: Mapping[str, Any], prefix: str) -> list[str] | None:
    """Return the names of a `NamedClasses` in a state dict, None if that has none.

    Raises:
        LabelAssembleError: there is something else in their place.
    """
    state = state_dict.get(prefix + _KEY)
    if state is None:
        return None
    try:
        names = json.loads(bytes(state.round().to(torch.uint8).tolist()))
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise LabelAssembleError(
            f"the state dict's '{_KEY}' does not hold names of classes: take it out to load the weights as they stand"
        ) from None
    return [str(name) for name in names]


def _is_number(names: list[str]) -> bool:
    """Return whether the names were made of the number of classes."""
    return names == [f"class{index}" for index in range(len(names))]


def _check_same(module: str, saved: list[str], own: list[str]) -> None:
    missing = [name for name in own if name not in saved]
    unknown = [name for name in saved if name not in own]
    if missing or unknown:
        lacks = f"lack {_listed(missing)}" if missing else ""
        has = f"are for {_listed(unknown)} as well" if unknown else ""
        raise LabelAssembleError(
            f"the weights were saved for other classes than those of this {module}: they "
            f"{' and '.join(filter(None, (lacks, has)))}; make it with the classes {_listed(saved)}, in any order, "
            "load, and add classes afterwards"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _AT_MOST} more" if len(names) > _AT_MOST else ""
    return ", ".join(repr(name) for name in names[:_AT_MOST]) + more
