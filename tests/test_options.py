"""Options: arguments before environment before defaults; what cannot be used is said at once."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import attrs
import pytest

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset_core.errors import AddressError
from ipfs_dataset_core.options import _ELSEWHERE, MIB, VARIABLES, Limits, Options, parse_size


def test_defaults_verify_and_never_wait_for_ever():
    options = Options.from_arguments({}, {})
    assert options.verify
    assert 0 < options.timeout < 3600
    assert options.memory == 64 * MIB
    assert options.gateways == ()


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.VerificationWarning")
def test_arguments_come_before_the_environment():
    environment = {
        "IPFS_DATASET_GATEWAYS": "https://a.example  https://b.example",
        "IPFS_DATASET_VERIFY": "no",
        "IPFS_DATASET_TIMEOUT": "2.5",
        "IPFS_DATASET_RETRIES": "0",
        "IPFS_DATASET_MEMORY": "1000",
        "IPFS_DATASET_WORKER_MEMORY": "1M",
        "IPFS_DATASET_ROUTERS": "https://r.example",
        "IPFS_DATASET_BOOTSTRAP": "default /ip4/192.0.2.1/tcp/4001/p2p/12D3KooWA",
        "IPFS_DATASET_DEADLINE": "60",
        "IPFS_DATASET_HANDLER": "skip",
        "IPFS_DATASET_MAX_FAILURES": "3",
        "IPFS_DATASET_CACHE_DIR": "cache",
        "IPFS_DATASET_CACHE_SIZE": "2G",
        "IPFS_DATASET_OFFLINE": "yes",
        "IPFS_DATASET_MAX_REQUESTS": "4",
        "IPFS_DATASET_MAX_RATE": "3.5",
        "IPFS_DATASET_NODE_GATEWAY": "0",
    }
    assert set(environment) == set(VARIABLES.values())
    from_environment = Options.from_arguments({}, environment)
    assert from_environment == Options(
        gateways=("https://a.example", "https://b.example"),
        verify=False,
        timeout=2.5,
        retries=0,
        memory=1000,
        worker_memory=MIB,
        routers=("https://r.example",),
        bootstrap=("default", "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWA"),
        deadline=60.0,
        handler="skip",
        max_failures=3,
        cache_dir=Path("cache"),
        cache_size=2 << 30,
        offline=True,
        max_requests=4,
        max_rate=3.5,
        node_gateway=False,
    )
    both = Options.from_arguments({"timeout": 9, "verify": True}, environment)
    assert (both.timeout, both.verify, both.retries) == (9, True, 0)


@pytest.mark.parametrize("given", ["https://a.example", ["https://a.example"]])
def test_one_gateway_or_a_list(given):
    assert Options(gateways=given).gateways == ("https://a.example",)


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="unknown option timeuot"):
        Options.from_arguments({"timeuot": 3}, {})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("IPFS_DATASET_TIMEOUT", "soon"),
        ("IPFS_DATASET_TIMEOUT", "0"),
        ("IPFS_DATASET_TIMEOUT", "inf"),
        ("IPFS_DATASET_TIMEOUT", "nan"),
        ("IPFS_DATASET_RETRIES", "-1"),
        ("IPFS_DATASET_RETRIES", "2.5"),
        ("IPFS_DATASET_MEMORY", "64 parsec"),
        ("IPFS_DATASET_MEMORY", "-5"),
        ("IPFS_DATASET_VERIFY", "perhaps"),
    ],
)
def test_an_unusable_variable_is_named_with_its_value(variable, text):
    with pytest.raises(AddressError, match=f"{variable}='{text}' cannot be used"):
        Options.from_arguments({}, {variable: text})


@pytest.mark.parametrize(
    "argument",
    [{"timeout": 0}, {"timeout": float("inf")}, {"deadline": 1e12}, {"memory": 0}, {"retries": -1}],
)
def test_unusable_arguments_are_refused(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        Options(**argument)


def test_options_pickle_and_do_not_show_secrets():
    options = Options(auth="bearer:secret", headers={"X-Token": "secret"})
    assert pickle.loads(pickle.dumps(options)) == options
    assert "secret" not in repr(options)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("2k", 2048),
        ("1.5 GiB", 3 << 29),
        ("100MB", 100 << 20),
        ("1T", 1 << 40),
    ],
)
def test_sizes_are_written_with_units(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "much", "1 parsec", "nan", "inf", "1e999", "1kg", "5mm", 1e9, None]
)
def test_what_is_no_size_says_so(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_a_handler_is_a_policy_or_a_callable():

    def skip_all(_: Exception) -> bool:
        return True

    assert Options(handler=skip_all).handler == skip_all
    with pytest.raises(ValueError, match="handler must be one of"):
        Options(handler="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"timeout": "30"}, "timeout must be a number, not '30'"),
        ({"deadline": None}, "deadline must be a number, not None"),
        ({"max_rate": "5"}, "max_rate must be a number, not '5'"),
        ({"timeout": True}, "timeout must be a number, not True"),
        ({"retries": "4"}, "retries must be a whole number, not '4'"),
        ({"retries": 2.5}, r"retries must be a whole number, not 2\.5"),
        ({"max_requests": True}, "max_requests must be a whole number, not True"),
        ({"max_failures": "10"}, "max_failures must be a whole number"),
        ({"verify": "no"}, "verify must be True or False, not 'no'"),
        ({"offline": "false"}, "offline must be True or False"),
        ({"node_gateway": None}, "node_gateway must be True or False"),
        ({"overwrite": "no"}, "overwrite must be True or False"),
        ({"gateways": 8080}, "gateways must be an address, or a list of them, not 8080"),
        ({"routers": 1.5}, "routers must be an address"),
        ({"cache_dir": 5}, "cache_dir must be the path of a folder, not 5"),
        ({"headers": "X-Token: secret"}, "headers must map the names of headers"),
        ({"auth": 12345}, "auth must be text such as 'bearer:TOKEN'"),
        ({"limits": {"members": 5}}, "limits"),
    ],
    ids=str,
)
def test_an_option_of_another_type_is_named_with_what_it_takes(argument, words):
    with pytest.raises(TypeError, match=words) as caught:
        Options(**argument)
    assert "secret" not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    np = pytest.importorskip("numpy")
    options = Options(
        timeout=np.float32(5), retries=np.int64(2), verify=np.bool_(False), memory=1 << 20
    )
    assert (options.timeout, options.retries, bool(options.verify)) == (5, 2, False)


@pytest.mark.parametrize("value", ["4G", 1.5, True, 0])
def test_a_limit_that_is_no_number_is_named(value):
    with pytest.raises((TypeError, ValueError), match="limit member_bytes must be"):
        Limits(member_bytes=value)


def test_an_unknown_option_comes_with_the_one_that_was_meant():
    with pytest.raises(TypeError, match=r"unknown option timeuot \(did you mean timeout\?\), zzz"):
        Options.from_arguments({"timeuot": 3, "zzz": 1}, {})


def test_an_option_that_stands_elsewhere_or_is_another_librarys_comes_with_what_to_write():
    for name, words in {
        "num_workers": "argument of the DataLoader",
        "shuffle": "shuffle_blocks=True, or a ShuffleDataset",
        "filetype": r"IPFSObject\(url, filetype\)",
        "cache_limit": "did you mean cache_size",
        "local": "did you mean cache_dir",
    }.items():
        for kind in (IPFSDataset, IPFSIterableDataset):
            with pytest.raises(TypeError, match=rf"unknown option {name} \(.*{words}"):
                kind([], **{name: 1})  # type: ignore[arg-type]
    accepted = {field.name for field in attrs.fields(Options)}
    assert not accepted & set(_ELSEWHERE)
    # Where a hint names the class that takes it, the class does.
    of_stream = inspect.signature(IPFSIterableDataset).parameters
    for name, hint in _ELSEWHERE.items():
        if hint.startswith("it is an argument of IPFSIterableDataset"):
            assert name in of_stream
        for meant in re.findall(r"did you mean (\w+)\?", hint):
            assert meant in accepted | set(of_stream)
