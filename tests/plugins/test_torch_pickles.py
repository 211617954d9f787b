"""Pickles made to take more time or memory than they have bytes, and all that ``torch.save`` writes."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections import Counter, OrderedDict
from functools import partial

import numpy as np
import pytest
import torch

from ipfs_dataset_core import Limits
from ipfs_dataset_core.errors import FormatError, LimitError
from ipfs_dataset_plugins.original.samples import load_sample
from tests.support.bounded import outcome, run_bounded

OLD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n)R"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def number(value):
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def storage(count, key=b"0"):
    return (
        b"("
        + text(b"storage")
        + b"ctorch\nFloatStorage\n"
        + text(key)
        + text(b"cpu")
        + count
        + b"tQ"
    )


def older_storage(count, key=b"0"):
    return storage(count, key)[:-2] + b"NtQ"


def tensor(stored, size, stride=b"K\1\x85", offset=b"K\0"):
    return REBUILD + b"(" + stored + offset + size + stride + b"\x89" + ORDERED + b"tR"


def saved(value, *, old=False):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def zipped(pickled, storages=(b"",), name="data.pkl", more=()):
    """Returns a file of `torch.save` with a pickle of one's own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"archive/{name}", b"\x80\x02" + pickled + b".")
        archive.writestr("archive/byteorder", "little")
        for number_, data in enumerate(storages):
            archive.writestr(f"archive/data/{number_}", data)
        archive.writestr("archive/version", "3\n")
        for other in more:
            archive.writestr(other, b"")
    return buffer.getvalue()


def old(pickled, keys=(), data=b""):
    """Returns a file of the older form."""
    return OLD + b"\x80\x02" + pickled + b"." + pickle.dumps(list(keys), 2) + data


def load(data, **limits):
    return load_sample(data, "sample 0", allow_pickle=False, limits=Limits(**limits))


def doubled(start, levels, code=b"\x86"):
    """Returns what makes a tuple or list of the same value twice, again and again."""
    step = {b"\x86": b"q\0h\0\x86", b"e": b"q\0]h\0ah\0a"}[code]
    return start + step * levels


ONE = (bytes(4),)


def attacks():
    big = b"J\xff\xff\xff\x7f"
    yield "tuples of the same tuple twice", doubled(b")", 60), ()
    yield "lists of the same list twice", doubled(b"]", 60, b"e"), ()
    yield "as the key of a dict", b"}" + doubled(b")", 60) + b"Ns", ()
    yield (
        "as the key of a dict that is dropped",
        b"(}" + doubled(b")", 60) + b"NstN",
        (),
    )
    yield "in a set", b"c__builtin__\nset\n]" + doubled(b")", 60) + b"a\x85R", ()
    yield (
        "as the key of a counter",
        b"ccollections\nCounter\n}" + doubled(b")", 60) + b"K\1s\x85R",
        (),
    )
    yield "as pairs", b"ccollections\nOrderedDict\n]" + doubled(b")", 60) + b"N\x86a\x85R", ()
    yield (
        "as the key of a storage",
        tensor(storage(b"K\1").replace(text(b"0"), doubled(b")", 60)), b")", b")"),
        ONE,
    )
    yield "a list that contains itself", b"]q\0h\0a", ()
    yield "tuples in tuples without end", b")" + b"\x85" * 300_000, ()
    keys = b"".join(number(((1 << 61) - 1) * n) + b"N" for n in range(1, 20_000))
    yield "keys with the same hash", b"}(" + keys + b"u", ()
    yield "keys with the same hash in a dict that is dropped", b"(}(" + keys + b"u" + b"tN", ()
    yield "a bytearray by its size", b"c__builtin__\nbytearray\n" + number(1 << 34) + b"\x85R", ()
    yield "a tensor by its size", b"ctorch\nFloatTensor\n" + big + b"\x85R", ()
    yield (
        "a storage by its size",
        b"ctorch.storage\nUntypedStorage\n" + number(1 << 34) + b"\x85R",
        (),
    )
    yield (
        "a storage larger than its record",
        tensor(storage(number(1 << 33)), b")", b")"),
        ONE,
    )
    yield "a tensor larger than its storage", tensor(storage(b"K\1"), big + b"\x85"), ONE
    yield (
        "a tensor behind its storage",
        tensor(storage(b"K\1"), b"K\1\x85", offset=big),
        ONE,
    )
    yield (
        "a tensor with a negative stride",
        tensor(storage(b"K\1"), b"K\1\x85", b"J\xff\xff\xff\xff\x85"),
        ONE,
    )
    yield (
        "a tensor of the same number again and again",
        tensor(storage(b"K\1"), b"(" + big * 3 + b"t", b"(K\0K\0K\0t"),
        ONE,
    )
    quantized = tensor(storage(b"K\1"), big + b"\x85", b"K\0\x85").replace(
        b"_tensor_v2", b"_qtensor"
    )
    yield "a quantized tensor of the same number", quantized, ONE
    encode = b"c_codecs\nencode\nh\0" + text(b"latin1") + b"\x86R"
    many = text(bytes(1 << 20)) + b"q\0(" + encode * 5000 + b"t"
    yield "one text as bytes again and again", many, ()
    yield (
        "text by a slow encoding",
        b"c_codecs\nencode\n" + text(b"a" * 1000) + text(b"idna") + b"\x86R",
        (),
    )
    yield (
        "a list copied again and again",
        b"](" + b"K\1" * 200_000 + b"eq\0" + b"(" + b"c__builtin__\nset\nh\0\x85R" * 3000 + b"t",
        (),
    )
    yield (
        "a function called through another one",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(c__builtin__\nbytearray\nc__builtin__\nbytearray\n"
        + number(1 << 34)
        + b"\x85}tR",
        (),
    )
    yield "sets without end", b"(" + b"\x8f" * 1_100_000 + b"t", ()
    yield "text longer than the file", b"X\xff\xff\xff\xff", ()
    yield "a name without end", b"c" + b"a" * 100_000, ()
    yield "a mark too few", b"t", ()
    yield "an empty stack", b"", ()
    yield "a memo that is missing", b"h\7", ()


def read_attacks():
    found = {}
    for name, pickled, storages in attacks():
        found[name] = outcome(partial(load, zipped(pickled, storages)))
        older = old(pickled.replace(b"tQ", b"NtQ"), ["0"][: len(storages)], bytes(12))
        found[f"{name}, older"] = outcome(partial(load, older))
    return found


def test_pickles_of_few_bytes_become_no_gigabytes_and_take_no_minutes():
    found = run_bounded(read_attacks, seconds=60, mib=700)
    assert len(found) > 60
    for name, said in found.items():
        assert said.startswith(("FormatError: ", "LimitError: ")), name
        # By our own check, not by torch.
        assert "cannot be loaded" not in said, name


@pytest.mark.parametrize(
    "data",
    [
        zipped(b"N", more=["other/data.pkl"]),
        zipped(b"N", more=["archive/DATA.PKL"]),
        zipped(b"N", more=["archive/Version"]),
        zipped(b"N", name="other.pkl"),
        zipped(b"N", more=["archive/constants.pkl"]),
        pickle.dumps([1, 2], 2),
        pickle.dumps([1, 2], 5),
        OLD,
        OLD[:-1],
        OLD + b"N.K\1.",
        OLD + b"N.](K\1e.",
        OLD.replace(b"\x6c", b"\x6d"),
        b"",
    ],
)
def test_files_that_torch_would_not_save_are_refused(data):
    with pytest.raises(FormatError):
        load(data)


def test_older_storages_have_no_more_bytes_than_the_file():
    made = tensor(older_storage(number(1 << 32)), b")", b")")
    with pytest.raises(FormatError, match="more bytes than the file"):
        load(old(made, ["0"]))
    many = b"]" + b"".join(
        tensor(older_storage(b"M\0\1", b"%d" % n), b")", b")") + b"a" for n in range(100)
    )
    with pytest.raises(FormatError, match="more bytes than the file"):
        load(old(many, ["0"]))


def values():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    yield from (torch.arange(4), torch.zeros(3, 3).t(), torch.ones(5)[1:3], torch.ones(4)[::2])
    yield from (
        torch.zeros(1).expand(1000),
        torch.zeros(0),
        torch.zeros(2, 0, 3),
        torch.tensor(3.5),
    )
    yield from (
        torch.tensor([1.5], dtype=torch.bfloat16),
        torch.tensor([True]),
        torch.tensor(1 + 2j),
    )
    yield from (torch.nn.Parameter(torch.ones(2)), torch.zeros(2, requires_grad=True))
    yield from (model.state_dict(), OrderedDict(a=1), Counter("hello"), {1, 2}, set())
    yield from (
        {"a": 1, (1, 2): 3, 1.5: 2, None: 1, True: 2},
        [b"x" * 300, None],
        bytearray(b"abc"),
    )
    yield from (
        True,
        1 << 70,
        -5,
        70_000,
        1.5,
        "é\ud800",
        [[]] * 1000,
        list(range(10_000)),
        {},
        (),
        1j,
    )
    yield from (torch.Size([1, 2]), torch.float32, torch.device("cpu"))
    yield [torch.arange(3), torch.arange(3)] * 2
    yield {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "label": 3, "name": "cat"}


@pytest.mark.parametrize("older", [False, True])
def test_whatever_torch_saves_and_loads_is_read(older):
    for value in values():
        data = saved(value, old=older)
        expected = torch.load(io.BytesIO(data), weights_only=True)
        read = load(data)
        assert type(read) is type(expected)
        assert str(read) == str(expected)


def test_sparse_and_quantized_tensors_are_read():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparse = torch.sparse_coo_tensor(torch.tensor([[0, 1]]), torch.ones(2), (3,))
        compressed = torch.sparse_csr_tensor([0, 1, 2], [0, 1], [1.0, 2.0])
        quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        for value in (sparse, compressed, quantized):
            assert str(load(saved(value))) == str(value)


@pytest.mark.parametrize("value", [frozenset([1]), np.arange(3), np.float64(1), print, range(3)])
def test_other_values_name_the_way_to_read_them(value):
    with pytest.raises(FormatError, match="allow_pickle=True"):
        load(saved(value))


class Point:
    def __init__(self):
        self.x = 1


def test_classes_that_the_user_allows_are_read():
    data = saved([Point(), torch.ones(2)])
    with pytest.raises(FormatError, match="Point"):
        load(data)
    with torch.serialization.safe_globals([Point]):
        assert load(data)[0].x == 1


def test_the_limit_of_what_a_file_becomes_can_be_raised():
    data = saved(torch.zeros(1).expand(100_000))
    with pytest.raises(LimitError, match="expansion_bytes"):
        load(data, expansion_bytes=1000)
    assert load(data).shape == (100_000,)
