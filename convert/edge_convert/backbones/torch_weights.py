"""PyTorch's legacy weight files read without PyTorch, by an unpickler that admits tensors and nothing else.

The format (torch.serialization, before 1.6): four pickles (magic number, protocol, system, the state dict), a pickle
with the list of storage keys, then each storage as an int64 element count and its raw little-endian elements.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge.errors import RecipeError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGE_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


@dataclass(frozen=True, kw_only=True)
class _Storage:
    key: str
    dtype: str
    elements: int


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """A view of a storage: offset, shape and strides, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage=storage, offset=offset, shape=tuple(shape), strides=tuple(strides))


class _TensorsOnly(pickle.Unpickler):
    """Admits an OrderedDict of tensors. Any other class or function named in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, elements, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("it has a storage of an unknown kind")
        return _Storage(key=str(key), dtype=str(dtype), elements=int(elements))


class _NothingNamed(pickle.Unpickler):
    """Admits numbers, text, lists and dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no number")


def read_state_dict(path: Path) -> dict[str, NDArray[np.generic]]:
    """The tensors of a legacy PyTorch state dict, by name. Raises RecipeError for any other file."""
    try:
        with path.open("rb") as stream:
            return _read(stream, path.stat().st_size)
    except FileNotFoundError:
        raise RecipeError(f"there is no weight file at {path}", remedy="check network.weights") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise RecipeError(
            f"{path} is not a legacy PyTorch state dict: {error}", remedy="use the file from the package"
        ) from None


def _read(stream: BinaryIO, size: int) -> dict[str, NDArray[np.generic]]:
    if _NothingNamed(stream).load() != MAGIC or _NothingNamed(stream).load() != PROTOCOL:
        raise ValueError("wrong magic number")
    if _NothingNamed(stream).load().get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    tensors = _TensorsOnly(stream).load()
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise ValueError("it holds something other than tensors")
    wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    storages = {}
    for key in _NothingNamed(stream).load():
        storage = wanted[key]
        count = int.from_bytes(stream.read(8), "little")
        if count != storage.elements or count * np.dtype(storage.dtype).itemsize > size:
            raise ValueError(f"storage {key} has {count} elements, {storage.elements} were promised")
        storages[key] = np.frombuffer(stream.read(count * np.dtype(storage.dtype).itemsize), storage.dtype, count)
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _view(tensor: _Tensor, storage: NDArray[np.generic]) -> NDArray[np.generic]:
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or min((*tensor.shape, *tensor.strides, 1)) < 0 or last >= max(1, len(storage)):
        raise ValueError("a tensor reaches outside its storage")
    item = storage.dtype.itemsize
    strides = tuple(step * item for step in tensor.strides)
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view)
