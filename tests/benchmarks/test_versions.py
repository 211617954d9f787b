"""The comparison of new versions with Xet: the changes are those that it names, and shares are measured."""

from __future__ import annotations

import pytest

from benchmarks import versions


@pytest.mark.parametrize(
    ("change", "differ", "more"),
    [
        ("unchanged", 0, 0),
        ("1 % together", 2, 0),
        ("one in front", 0, 1),
        ("1 % appended", 0, 2),
        ("1 % scattered", 2, 0),
    ],
)
def test_each_change_is_of_the_kind_in_its_name(change, differ, more):
    samples = [(b"%3d" % number, 0) for number in range(200)]
    new = versions.changed(samples, change)
    assert len(new) == 200 + more
    assert len([sample for sample in samples if sample not in new]) == differ
    assert versions.changed(samples, change) == new


def test_a_table_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(versions, "SIZES", {1000: 60_000})
    monkeypatch.setattr(versions, "CHANGES", ("unchanged", "one in front"))
    monkeypatch.setattr(versions, "xet", lambda folder, _: None if "files" in str(folder) else 0.5)
    versions.main()
    lines = capsys.readouterr().out.splitlines()
    assert "  1,000, unchanged: 0.0%; 50.0%; -" in lines
