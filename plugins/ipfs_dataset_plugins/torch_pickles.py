"""Checks pickles of ``torch.save`` without creating their objects, before ``torch.load`` runs them.

``torch.load(weights_only=True)`` runs no code of the author of a file, but sets no limits: a tuple that
contains another one twice, nested forty times, takes hours to hash or compare, one number creates a tensor or
a bytearray of any size, and a storage may be longer than the file. Here each instruction is interpreted with
placeholders for the values that it would create, in time and memory proportional to the file. Accepted are
tensors, numbers, text, bytes, tuples, lists, dicts, sets and what the user allowed with
`torch.serialization.add_safe_globals`.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import LimitError
from ipfs_dataset_plugins.tar_shards.codecs import scalars

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ipfs_dataset_core import Limits

_MOST_DEPTH = 500
_MOST_DIMENSIONS = 64
_MOST_NUMBER = 1 << 62
# Maximum number of values in a key of a dict, and in total, each counted as often as it is reached.
_MOST_KEY_PARTS = 64
_ALWAYS_PARTS = 1 << 20
_PARTS_PER_BYTE = 16
_BYTES_PER_BYTE = 64
# Approximate size of Python objects; of a number or a text, in addition to its bytes.
_BYTES_OF_VALUE, _BYTES_OF_CONTAINER, _BYTES_OF_TENSOR, _BYTES_OF_MEMO = 32, 256, 1024, 128

_ITEM_BYTES = {
    **dict.fromkeys(("Byte", "Char", "Bool", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float", "QInt32"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
    "Untyped": 1,
}
_STORAGES = {
    **{f"torch.{name}Storage": size for name, size in _ITEM_BYTES.items()},
    "torch.storage.UntypedStorage": 1,
}
_KEYED = frozenset({"dict", "set"})
_LATIN1 = frozenset({"latin1", "latin-1"})
_BUILTINS = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_SCALARS = frozenset({int, float, bool, str, bytes, type(None)})


class NotPlainError(ValueError):
    """A pickle contains something other than tensors and plain values."""


@attrs.frozen(eq=False)
class _Global:
    """An object that is looked up by name, such as a function or a dtype."""

    name: str


@attrs.frozen(eq=False)
class _Storage:
    size: int
    item_bytes: int


@attrs.frozen(eq=False)
class _Container:
    """A list, a set, a dict, or an object made from values; a list or dict may still grow.

    Attributes:
        kind: Its kind.
        parts: The values in it, including keys.
        keys: The keys of a dict or set.
    """

    kind: str
    parts: list[Any]
    keys: list[Any] = attrs.field(factory=list)


@attrs.frozen(eq=False)
class _Tuple:
    """A tuple, and the number of values in it, each counted as often as it is reached."""

    parts: tuple[Any, ...]
    weight: int


@attrs.define
class Budget:
    """Limits on what the pickles of one file may create.

    Attributes:
        what: Name of the file in messages.
        file_bytes: Size of the file in bytes.
        limits: Limits of the object that contains it.
        objects: Approximate size in bytes of the objects made so far.
        tensors: Total size of all tensors in bytes, without regard to shared storage.
        copied: Number of bytes made from text.
    """

    what: str
    file_bytes: int
    limits: Limits
    objects: int = 0
    tensors: int = 0
    copied: int = 0
    _most: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._most = max(self.limits.expansion_bytes, _BYTES_PER_BYTE * self.file_bytes)

    def add(self, size: int) -> None:
        """Counts the bytes of objects.

        Raises:
            LimitError: They exceed `limits.expansion_bytes`, and are far more than the file.
        """
        self.objects += size
        if self.objects > self._most:
            raise LimitError(
                f"{self.what} has {self.file_bytes} bytes, but its objects take more than "
                f"{self._most}: if you trust it, give limits=Limits(expansion_bytes=…)"
            )

    def add_tensor(self, size: int) -> None:
        """Counts the bytes of a tensor; raises LimitError as `limits.check_expansion` does."""
        self.tensors += size
        self.limits.check_expansion(self.file_bytes, self.tensors, self.what)

    def key(self, value: Any) -> Any:
        """Returns the Python value of a dict key, which will be hashed.

        Raises:
            NotPlainError: It is neither a number nor text, nor a short tuple of these.
        """
        if type(value) in _SCALARS:
            return value
        if type(value) is _Tuple and value.weight <= _MOST_KEY_PARTS:
            self.add(8 * value.weight)
            return tuple(map(self.key, value.parts))
        if type(value) is _Global:
            return value.name
        raise NotPlainError(
            "it has a key that is neither a number nor text, nor a short tuple of them"
        )


def read_pickle(file: io.BytesIO, storage_bytes: Callable[[str, int], int], budget: Budget) -> Any:
    """Interprets one pickle, and leaves the file at the byte after it.

    Args:
        file: Positioned at the pickle.
        storage_bytes: Returns the size of the storage with a key, for which the pickle claims a size; raises
            ValueError if there is no such storage.
        budget: Counts the objects that the pickle would create.

    Returns:
        A placeholder for its value; numbers and text as they are.

    Raises:
        NotPlainError: It contains something other than tensors and plain values.
        ValueError: It is damaged, or designed to take more time or memory than its size justifies.
    """
    machine = _Machine(file, storage_bytes, budget)
    try:
        value = machine.run()
        for found in machine.keyed:
            scalars.unique_keys(found.keys)
    except (LookupError, struct.error, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"its pickle is damaged at byte {file.tell()}") from error
    _check_whole(value, budget)
    return value


class _Machine:
    def __init__(
        self, file: io.BytesIO, storage_bytes: Callable[[str, int], int], budget: Budget
    ) -> None:
        self._file = file
        self._storage_bytes = storage_bytes
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._safe: frozenset[str] | None = None
        # Includes objects that are not part of the final value.
        self.keyed: list[_Container] = []

    def run(self) -> Any:
        read, run = self._file.read, _INSTRUCTIONS.get
        while (code := read(1)) != b".":
            if not code:
                raise ValueError("its pickle is cut off")
            instruction = run(code)
            if instruction is None:
                raise NotPlainError(f"it has the instruction {code!r}")
            instruction(self)
        return self._stack.pop()

    def _push(self, value: Any, size: int = _BYTES_OF_VALUE) -> None:
        self._budget.add(size)
        self._stack.append(value)
        if type(value) is _Container and value.kind in _KEYED:
            self.keyed.append(value)

    def _bytes(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ValueError("its pickle is cut off")
        return data

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _line(self) -> str:
        line = self._file.readline(1 << 10)
        if not line.endswith(b"\n"):
            raise ValueError("its pickle has a name that is too long")
        return line[:-1].decode()

    def push_number(self, form: str) -> None:
        self._push(self._number(form))

    def push_long(self) -> None:
        data = self._bytes(self._number("<B"))
        self._push(int.from_bytes(data, "little", signed=True))

    def push_text(self, form: str) -> None:
        data = self._bytes(self._number(form))
        self._push(data.decode("utf-8", "surrogatepass"), _BYTES_OF_VALUE + len(data))

    def push_constant(self, value: Any) -> None:
        self._push(value)

    def push_container(self, kind: str) -> None:
        self._push(_Container(kind, []), _BYTES_OF_CONTAINER)

    def push_tuple(self, count: int) -> None:
        parts = tuple(self._stack[len(self._stack) - count :]) if count else ()
        if len(parts) < count:
            raise IndexError("the stack is too short")
        if count:
            del self._stack[-count:]
        self._push_tuple(parts)

    def push_marked_tuple(self) -> None:
        self._push_tuple(tuple(self._marked()))

    def _push_tuple(self, parts: tuple[Any, ...]) -> None:
        weight = 1 + sum(part.weight if type(part) is _Tuple else 1 for part in parts)
        # A number of any size would be slow to add.
        self._push(_Tuple(parts, min(weight, _MOST_NUMBER)), 64 + 8 * len(parts))

    def mark(self) -> None:
        self._budget.add(_BYTES_OF_CONTAINER)
        self._marks.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        found, self._stack = self._stack, self._marks.pop()
        return found

    def append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def append_marked(self) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        self._budget.add(16 * len(values))
        self._top("list").parts.extend(values)

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def set_marked(self) -> None:
        self._set(self._marked())

    def _set(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise ValueError("a key has no value")
        self._budget.add(64 * len(values))
        target = self._top("dict")
        target.parts.extend(values)
        target.keys.extend(map(self._budget.key, values[::2]))

    def _top(self, kind: str) -> _Container:
        target = self._stack[-1]
        if type(target) is not _Container or target.kind != kind:
            raise NotPlainError(f"it treats something else as a {kind}")
        return target

    def keep(self, form: str) -> None:
        self._budget.add(_BYTES_OF_MEMO)
        self._memo[self._number(form)] = self._stack[-1]

    def recall(self, form: str) -> None:
        self._push(self._memo[self._number(form)], 8)

    def protocol(self) -> None:
        self._bytes(1)

    def look_up(self) -> None:
        module, name = self._line(), self._line()
        self._push(_Global(f"{_BUILTINS.get(module, module)}.{name}"))

    def load_storage(self) -> None:
        found = self._stack.pop()
        parts = found.parts if type(found) is _Tuple else ()
        if len(parts) == 6 and parts[5] is None:  # noqa: PLR2004 - the older form
            parts = parts[:5]
        kind, storage, key, location, count = parts if len(parts) == 5 else (None,) * 5  # noqa: PLR2004
        if kind != "storage" or type(storage) is not _Global or storage.name not in _STORAGES:
            raise NotPlainError("it refers to something that is not a storage")
        if type(key) is not str or type(location) is not str or type(count) is not int:
            raise ValueError("it refers to a storage by unusable values")
        if not _is_size(count):
            raise ValueError("it refers to a storage of an unusable size")
        item_bytes = _STORAGES[storage.name]
        size = self._storage_bytes(key, count * item_bytes)
        self._push(_Storage(size, item_bytes), _BYTES_OF_TENSOR)

    def call(self) -> None:
        arguments = self._stack.pop()
        function = self._stack.pop()
        if type(function) is not _Global or type(arguments) is not _Tuple:
            raise NotPlainError("it calls something that is not a function")
        made = _FUNCTIONS.get(function.name)
        if made is not None:
            value, size = made(self._budget, *arguments.parts)
        elif function.name in self._safe_names():
            value, size = _Container("other", [arguments]), _BYTES_OF_TENSOR
        else:
            raise NotPlainError(f"it calls {function.name}")
        self._push(value, size)

    def make(self) -> None:
        arguments, made = self._stack.pop(), self._stack.pop()
        if type(made) is not _Global or made.name not in self._safe_names():
            raise NotPlainError(f"it makes a {getattr(made, 'name', 'value of another type')}")
        self._push(_Container("other", [arguments]), _BYTES_OF_TENSOR)

    def build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if type(target) is not _Container or target.kind not in ("other", "dict"):
            raise NotPlainError("it changes the state of an object")
        if target.kind == "dict" and (type(state) is not _Container or state.kind != "dict"):
            raise NotPlainError("it changes the state of a dict")
        target.parts.append(state)

    def _safe_names(self) -> frozenset[str]:
        if self._safe is None:
            self._safe = frozenset(_allowed_by_user())
        return self._safe


def _allowed_by_user() -> Iterable[str]:
    from torch.serialization import get_safe_globals  # noqa: PLC0415 - plugins are listed without torch

    for allowed in get_safe_globals():
        if isinstance(allowed, tuple):
            yield allowed[1]
        else:
            yield f"{allowed.__module__}.{allowed.__qualname__}"
            yield f"{allowed.__module__}.{allowed.__name__}"


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_NUMBER


def _sizes(value: Any) -> Sequence[int]:
    parts: Sequence[int] | None = value.parts if type(value) in (_Tuple, _Container) else None
    if parts is None or len(parts) > _MOST_DIMENSIONS or not all(map(_is_size, parts)):
        raise ValueError("it has a tensor whose shape is unusable")
    return parts


def _tensor(
    budget: Budget, storage: Any, offset: Any, size: Any, stride: Any, *_: Any
) -> tuple[Any, int]:
    return _view(budget, storage, offset, size, stride, getattr(storage, "item_bytes", 1))


def _tensor_of_dtype(  # noqa: PLR0917 - as torch writes them
    budget: Budget,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    _: Any = None,
    __: Any = None,
    dtype: Any = None,
    *___: Any,
) -> tuple[Any, int]:
    import torch  # noqa: PLC0415 - as above

    found = getattr(torch, dtype.name.removeprefix("torch."), None) if dtype else None
    if not isinstance(found, torch.dtype):
        raise NotPlainError("it has a tensor of an unknown type")
    return _view(budget, storage, offset, size, stride, found.itemsize)


def _quantized(
    budget: Budget, storage: Any, offset: Any, size: Any, stride: Any, *_: Any
) -> tuple[Any, int]:
    made = _tensor(budget, storage, offset, size, stride)
    # torch allocates memory for all elements first.
    if math.prod(_sizes(size)) * storage.item_bytes > storage.size:
        raise ValueError("it has a tensor that is larger than its storage")
    return made


def _view(  # noqa: PLR0917 - what a tensor is
    budget: Budget, storage: Any, offset: Any, size: Any, stride: Any, item_bytes: int
) -> tuple[Any, int]:
    lengths, steps = _sizes(size), _sizes(stride)
    if type(storage) is not _Storage or not _is_size(offset) or len(lengths) != len(steps):
        raise ValueError("it has a tensor without a storage or shape")
    last = offset + sum((n - 1) * step for n, step in zip(lengths, steps, strict=True))
    count = math.prod(lengths)
    if count and (last + 1) * item_bytes > storage.size:
        # torch.load would extend the storage to that size.
        raise ValueError("it has a tensor that exceeds its storage")
    budget.add_tensor(count * item_bytes)
    return _Container("tensor", []), _BYTES_OF_TENSOR


def _encoded(budget: Budget, text: Any, encoding: Any = "latin1") -> tuple[bytes, int]:
    if type(text) is bytes:
        data = text
    elif type(text) is str and encoding in _LATIN1:
        data = text.encode("latin1", "replace")
    else:
        raise NotPlainError("it encodes text")
    # One text may be encoded any number of times.
    budget.copied += len(data)
    if budget.copied > budget.file_bytes:
        raise ValueError("it has more bytes than the file")
    return data, _BYTES_OF_VALUE + len(data)


def _encode(budget: Budget, text: Any, encoding: Any) -> tuple[bytes, int]:
    if type(text) is not str:
        raise NotPlainError("it encodes something that is not text")
    return _encoded(budget, text, encoding)


def _bytearray(budget: Budget, *arguments: Any) -> tuple[Any, int]:
    size = _encoded(budget, *arguments)[1] if arguments else 0
    return _Container("bytearray", []), _BYTES_OF_CONTAINER + size


def _dict(budget: Budget, pairs: Any = None) -> tuple[Any, int]:
    made = _Container("dict", [])
    for pair in pairs.parts if type(pairs) is _Container and pairs.kind == "list" else ():
        key, value = pair.parts
        made.parts.extend((key, value))
        made.keys.append(budget.key(key))
    if pairs is not None and (type(pairs) is not _Container or pairs.kind != "list"):
        raise NotPlainError("it makes a dict from something other than a list")
    budget.add(128 * len(made.keys))
    return made, 2 * _BYTES_OF_CONTAINER


def _counter(budget: Budget, counts: Any = None) -> tuple[Any, int]:
    if counts is not None and (type(counts) is not _Container or counts.kind != "dict"):
        raise NotPlainError("it makes a counter from something other than a dict")
    made = _Container("dict", []) if counts is None else _copy(counts)
    budget.add(128 * len(made.keys))
    return made, 2 * _BYTES_OF_CONTAINER


def _copy(counts: _Container) -> _Container:
    return _Container("dict", list(counts.parts), list(counts.keys))


def _set(budget: Budget, values: Any = None) -> tuple[Any, int]:
    parts = [] if values is None else values.parts
    budget.add(64 * len(parts))
    return _Container("set", list(parts), list(map(budget.key, parts))), _BYTES_OF_CONTAINER


def _complex(_: Budget, real: Any, imaginary: Any) -> tuple[Any, int]:
    if not {type(real), type(imaginary)} <= {float, int}:
        raise NotPlainError("it makes a complex number from something other than numbers")
    # A container, which `key` rejects, because the hashes of complex numbers are predictable.
    return _Container("complex", []), _BYTES_OF_VALUE


def _shape(_: Budget, size: Any = None) -> tuple[Any, int]:
    lengths = [] if size is None else _sizes(size)
    return _Tuple(tuple(lengths), 1 + len(lengths)), 64 + 8 * len(lengths)


def _opaque(_: Budget, *arguments: Any) -> tuple[Any, int]:
    return _Container("tensor", list(arguments)), _BYTES_OF_TENSOR


def _name_of(_: Budget, *arguments: Any) -> tuple[Any, int]:
    if not all(type(argument) in (str, int) for argument in arguments):
        raise NotPlainError("it has a device or layout whose name is not text")
    return _Container("name", []), _BYTES_OF_VALUE


_FUNCTIONS: Mapping[str, Callable[..., tuple[Any, int]]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_parameter": _opaque,
    "torch._utils._rebuild_sparse_tensor": _opaque,
    "torch.serialization._get_layout": _name_of,
    "torch.device": _name_of,
    "torch.Size": _shape,
    "collections.OrderedDict": _dict,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "builtins.complex": _complex,
    "builtins.bytearray": _bytearray,
    "_codecs.encode": _encode,
}


def _check_whole(value: Any, budget: Budget) -> None:
    """Checks the size of a value for code that visits all of it, and the keys of its dicts.

    Raises:
        ValueError: It contains itself, is too deep, or reaches few values in too many ways.
    """
    most = max(_ALWAYS_PARTS, _PARTS_PER_BYTE * budget.file_bytes)
    # By identity: the number of values and the depth of each; None while its parts are being visited.
    known: dict[int, tuple[int, int] | None] = {}
    waiting = [value]
    while waiting:
        found = waiting[-1]
        if type(found) not in (_Tuple, _Container) or known.get(id(found)):
            waiting.pop()
            continue
        parts = [part for part in found.parts if type(part) in (_Tuple, _Container)]
        if id(found) not in known:
            known[id(found)] = None
            unseen = [part for part in parts if not known.get(id(part))]
            if any(id(part) in known for part in unseen):
                raise ValueError("it has a value that contains itself")
            waiting += unseen
            continue
        inside = [known[id(part)] or (1, 1) for part in parts]
        count = 1 + len(found.parts) - len(parts) + sum(part[0] for part in inside)
        depth = 1 + max((part[1] for part in inside), default=0)
        if count > most or depth > _MOST_DEPTH:
            raise ValueError(
                f"it has values nested more than {_MOST_DEPTH} deep"
                if depth > _MOST_DEPTH
                else "it reaches the same few values in more than a million ways"
            )
        known[id(found)] = count, depth
        waiting.pop()


def _instructions() -> dict[bytes, Callable[[_Machine], None]]:
    machine = _Machine

    def bound(method: Callable[..., None], *arguments: Any) -> Callable[[_Machine], None]:
        return lambda running: method(running, *arguments)

    return {
        b"\x80": machine.protocol,
        b"c": machine.look_up,
        b"\x81": machine.make,
        b"R": machine.call,
        b"b": machine.build,
        b"Q": machine.load_storage,
        b"(": machine.mark,
        b"a": machine.append,
        b"e": machine.append_marked,
        b"s": machine.set_item,
        b"u": machine.set_marked,
        b"t": machine.push_marked_tuple,
        **{code: bound(machine.push_tuple, n) for n, code in enumerate((b")", b"\x85", b"\x86", b"\x87"))},
        b"]": bound(machine.push_container, "list"),
        b"}": bound(machine.push_container, "dict"),
        b"\x8f": bound(machine.push_container, "set"),
        b"N": bound(machine.push_constant, None),
        **{code: bound(machine.push_constant, code == b"\x88") for code in (b"\x88", b"\x89")},
        b"J": bound(machine.push_number, "<i"),
        b"K": bound(machine.push_number, "<B"),
        b"M": bound(machine.push_number, "<H"),
        b"G": bound(machine.push_number, ">d"),
        b"\x8a": machine.push_long,
        b"X": bound(machine.push_text, "<I"),
        b"U": bound(machine.push_text, "<B"),
        b"h": bound(machine.recall, "<B"),
        b"j": bound(machine.recall, "<I"),
        b"q": bound(machine.keep, "<B"),
        b"r": bound(machine.keep, "<I"),
    }  # fmt: skip


_INSTRUCTIONS = _instructions()
