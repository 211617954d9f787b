import attrs
import pytest

from ipfs_dataset_core.errors import ExportError
from ipfs_dataset_core.ipld import (
    PROFILES,
    Built,
    build_directory,
    build_symlink,
    build_tree,
    entries,
    node_kind,
)
from tests.ipld.blocks import CIDV1, Blocks, child, pattern

EMPTY_CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def numbered(count: int, letter: str, length: int, last: int = 0) -> dict[str, bytes]:
    """Returns files of one byte; their names are equally long but for the last one."""
    names = [f"{i:05d}" + letter * (length - 5) for i in range(count)]
    names[-1] += letter * last
    return dict.fromkeys(names, b"1")


def blocky(last: int) -> dict[str, bytes]:
    return {**numbered(2787, "y", 50), "z" * last: b"1"}


# What a real node says, for the profiles in their order.
GOLDEN = {
    "none": (
        {},
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
        EMPTY_CID,
        EMPTY_CID,
    ),
    "three": (
        {"a.bin": b"a\n", "b.bin": pattern(1000), "ü c%20d.bin": pattern(262145)},
        "QmcV46ZksXGYuSjpuLqZeiMYFVLZ8yGcKY3mLSdbWHwTeS",
        "bafybeidzjujhv4snk5zmvpolutawlleickmr5lgixe5xolugncx6xpirui",
        "bafybeif2atox4lx6u6zq65dlq4e2jbehy77y6p4k7if2dvhynavirfutby",
    ),
    "ten thousand": (
        {f"{i:05d}.bin": b"%d\n" % i for i in range(10000)},
        "QmPvWCGV62Qpc1oR3WTGP8sHohX4HwFKh457PoUX1SArcC",
        "bafybeihujbajccxhvd6qtwgoudzarakg2ryufnt76uwdjdujy66zczl45u",
        "bafybeihujbajccxhvd6qtwgoudzarakg2ryufnt76uwdjdujy66zczl45u",
    ),
    "as many link bytes as version 0 takes": (
        numbered(4096, "x", 30),
        "QmU4VpHWEPDKRjajDha3A4AhqzedK46RCmxwWFkyaeFGnw",
        "bafybeicmhggj72xitnrmqaeaarerc2bifwr6cwxqd3komkfir7umi7jjy4",
        "bafybeicmhggj72xitnrmqaeaarerc2bifwr6cwxqd3komkfir7umi7jjy4",
    ),
    "one more than version 0 takes": (
        numbered(4096, "x", 30, last=1),
        "QmRedhdhWocjtqhWj8uMJ94TYVznLCqYdEE5XayKrZ4AvN",
        "bafybeicc2v7wxkjxswko5ltdrfhjxely3vhpao5pllvecx2r5c3rmjijsu",
        "bafybeicc2v7wxkjxswko5ltdrfhjxely3vhpao5pllvecx2r5c3rmjijsu",
    ),
    "as many link bytes as version 1 takes": (
        numbered(4096, "x", 28),
        "QmXTgd4zfYu6G7t8bctNovF5P2WYUTLsXWP4JjnRQmGVxW",
        "bafybeicgc2m6spr7aeti6odojnbiaue2fnwmv43pqxpsbiif4ljazkcade",
        "bafybeibggldr4yzubv4vglt7olqtzqbhfg66q4e75ezjnqoau6fkamwttq",
    ),
    "one more than version 1 takes": (
        numbered(4096, "x", 28, last=1),
        "QmfAntaGsXbHCtxPS1CpvZN1Gd9StXQRFqyvrWZHiqygkh",
        "bafybeihda2x7jidcx24myvih5rqdf3r4anwlo6dpshwnxedks6nk4yysny",
        "bafybeihda2x7jidcx24myvih5rqdf3r4anwlo6dpshwnxedks6nk4yysny",
    ),
    "a block of just the threshold": (
        blocky(117),
        "QmawdVg9ug3QKDZM3wNGawBSWFK9CcZC1RViJe2LmU644K",
        "bafybeicwg43zmj5jx4kqbe3vgyiowpeqhxuxe2b2tjmt24z5uir2lcvxha",
        "bafybeicwg43zmj5jx4kqbe3vgyiowpeqhxuxe2b2tjmt24z5uir2lcvxha",
    ),
    "a block above the threshold": (
        blocky(118),
        "QmTZkEt6XhJ6wLbiM3GczDYhHqKHwbAtgzrdgwHqUoWpvi",
        "bafybeihb3wahb2fawvhdn53h3ik6sgnsoafedrz5lvxjnutjxidcwhqple",
        "bafybeig7vitkqswzvirb2gg2xscujc5aqnc264gdcn7gh3hfwozzrjrypa",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_cids_are_those_of_a_real_node(case):
    files, *cids = GOLDEN[case]
    for profile, cid in zip(PROFILES.values(), cids, strict=True):
        blocks = Blocks()
        built = [(name, blocks.add(data, profile)) for name, data in files.items()]
        made = build_directory(reversed(built), profile, blocks.emit)
        assert str(made.cid) == cid
        assert made.size == sum(map(len, files.values()))
        assert made.tsize == total(made, blocks)


def total(made: Built, blocks: Blocks) -> int:
    """Returns what the blocks of a directory and the DAGs of its files add up to."""
    files = list(entries(made.cid, blocks.load))
    below = {entry.cid for entry in files}
    directories = [block for cid, block in blocks.items() if is_part(cid, block, below)]
    return sum(map(len, directories)) + sum(entry.tsize for entry in files)


def is_part(cid, block, files) -> bool:
    return cid not in files and node_kind(cid, block) in ("directory", "hamt")


def test_a_block_of_just_the_threshold_has_that_many_bytes():
    profile, blocks = PROFILES["unixfs-v1-2025"], Blocks()
    built = [(name, blocks.add(data, profile)) for name, data in blocky(117).items()]
    made = build_directory(built, profile, blocks.emit)
    assert len(blocks[made.cid]) == profile.hamt_threshold


def test_whole_trees_are_those_of_a_real_node():
    files = {"a/b/c.bin": b"c", "a/x": b"x", "a.b": b"dot", "ü": pattern(300000)}
    golden = [
        "QmZMJzUcu34629U8u5zwMdvKmxoYK5Hj8xviUUuJfj5NDY",
        "bafybeibvp5lu6geprbps6i26egzh6qbkqrxgkmdel6fjmd3ogctf32hzue",
        "bafybeieplmgt3y67h2ehufytnqdlx7fasmp5h7bs63bn6qznyxpxv6wdmm",
    ]
    for profile, cid in zip(PROFILES.values(), golden, strict=True):
        blocks = Blocks()
        built = [(path, blocks.add(data, profile)) for path, data in files.items()]
        built.append(("empty", build_directory([], profile, blocks.emit)))
        built.append(("link", build_symlink("../somewhere", profile, blocks.emit)))
        made = build_tree(built, profile, blocks.emit)
        assert str(made.cid) == cid
        assert made.size == sum(map(len, files.values()))
        below = child(child(made.cid, "a", blocks.load), "b", blocks.load)
        assert child(below, "c.bin", blocks.load) == blocks.add(b"c", profile).cid


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0", "\ud800"])
def test_unusable_names_are_refused(name):
    blocks = Blocks()
    with pytest.raises(ExportError, match="cannot be the name"):
        build_directory([(name, blocks.add(b""))], CIDV1, blocks.emit)


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["a", "a"], "occurs twice"),
        (["a/b", "a/b"], "occurs twice"),
        (["a", "a/b"], "file and a directory"),
        (["a/b", "a"], "also a directory"),
        (["/a"], "cannot be the name"),
        (["a//b"], "cannot be the name"),
        (["a/../b"], "cannot be the name"),
        (["a/" * 300 + "b"], "200 directories deep"),
    ],
)
def test_unusable_paths_are_refused(paths, reason):
    blocks = Blocks()
    with pytest.raises(ExportError, match=reason):
        build_tree([(path, blocks.add(b"")) for path in paths], CIDV1, blocks.emit)


def test_duplicate_names_are_refused():
    blocks = Blocks()
    with pytest.raises(ExportError, match="'a' occurs twice"):
        build_directory([("a", blocks.add(b"")), ("a", blocks.add(b"1"))], CIDV1, blocks.emit)


def test_shards_come_after_the_shards_below_them():
    order = []
    file = Blocks().add(b"x")
    profile = attrs.evolve(CIDV1, hamt_threshold=0)
    made = build_directory(
        ((str(i), file) for i in range(400)), profile, lambda cid, _: order.append(cid)
    )
    assert order[-1] == made.cid
    assert len(set(order)) == len(order) > 10
