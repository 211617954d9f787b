"""What a distribution requires of ours, judged where it is certain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ipfs_dataset_core.registry.requirements import normalized, unmet


@pytest.mark.parametrize(
    ("requirement", "version", "meets"),
    [
        ("ipfs-dataset<0.2,>=0.1", "0.1.0", True),
        ("ipfs-dataset<0.2,>=0.1", "0.1.9.post1", True),
        ("ipfs-dataset<0.2,>=0.1", "0.2.0", False),
        ("ipfs-dataset<0.2,>=0.1", "0.2.0.dev1", False),
        ("ipfs-dataset<0.2,>=0.1", "0.0.9", False),
        ("IPFS_Dataset [zstd] (>=0.1, <0.2)", "0.3", False),
        ("ipfs.dataset==0.1.*", "0.1.7", True),
        ("ipfs.dataset==0.1.*", "0.10", False),
        ("ipfs-dataset!=0.1", "0.1.0", False),
        ("ipfs-dataset~=0.1.2", "0.1.3", True),
        ("ipfs-dataset~=0.1.2", "0.1.1", False),
        ("ipfs-dataset~=0.1.2", "0.2", False),
        # None of these says anything that is certain, or about us.
        ("ipfs-dataset", "0.1", True),
        ("ipfs-dataset-mat>=7", "0.1", True),
        ("ipfs-dataset>=7; extra == 'all'", "0.1", True),
        ("ipfs-dataset>=7; python_version < '3'", "0.1", True),
        ("ipfs-dataset @ file:///somewhere>=7", "0.1", True),
        ("ipfs-dataset>=7.0rc1", "0.1", True),
        ("ipfs-dataset>=7", "unknown", True),
        ("ipfs-dataset>=7", "1!0.1", True),
        ("", "0.1", True),
        (">>>", "0.1", True),
    ],
)
def test_a_requirement_is_met_or_not(requirement, version, meets):
    found = unmet(["torch>=2", requirement], "ipfs-dataset", version)
    assert (found is None) is meets
    assert meets or found == requirement


@given(
    st.text(alphabet="ipfs-dataset<>=!~.,*0123456789 ;()[]@\n"),
    st.text("0123456789.a!", max_size=9),
)
def test_no_text_is_too_odd(requirement, version):
    unmet([f"ipfs-dataset{requirement}"], "ipfs-dataset", version)


RELEASES = st.lists(st.integers(0, 3), min_size=2, max_size=4).map(
    lambda ns: ".".join(map(str, ns))
)
CLAUSES = st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "~="]), RELEASES).map(
    "".join
)
PREFIXES = st.tuples(st.sampled_from(["==", "!="]), RELEASES).map(lambda pair: "".join(pair) + ".*")


@given(st.lists(CLAUSES | PREFIXES, min_size=1, max_size=3), RELEASES)
def test_releases_are_compared_as_pip_compares_them(clauses, version):
    specifiers = ",".join(clauses)
    expected = Version(version) in SpecifierSet(specifiers)
    assert (unmet([f"ipfs-dataset{specifiers}"], "ipfs-dataset", version) is None) is expected


def test_names_are_compared_as_pip_compares_them():
    assert normalized("My_Plugin.For--IPFS") == "my-plugin-for-ipfs"
