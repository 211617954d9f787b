"""The names of the built-in formats."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from ipfs_dataset.types import RemoteFileType


def test_a_misspelt_format_is_an_error_that_lists_the_formats():
    kind: Any = RemoteFileType
    expected = r"RemoteFileType has no ZAP\. Did you mean ZIP\? It has PLAIN, FOLDER, TAR, ZIP, PLAIN_STREAM"
    with pytest.raises(AttributeError, match=expected):
        kind.ZAP  # noqa: B018 - it is looked up
    with pytest.raises(KeyError, match=expected):
        kind["ZAP"]
    with pytest.raises(ValueError, match=r"has no zap\. Did you mean ZIP"):
        kind("zap")
    with pytest.raises(AttributeError, match=r"has no MAT\. .*filetype='mat'"):
        kind.MAT  # noqa: B018


def test_the_enum_behaves_like_an_ordinary_enum():
    assert RemoteFileType.ZIP is RemoteFileType("zip") is RemoteFileType["ZIP"]
    assert not hasattr(RemoteFileType, "__no_such__")
    assert pickle.loads(pickle.dumps(RemoteFileType.TAR)) is RemoteFileType.TAR
    assert copy.deepcopy(RemoteFileType.TAR) is RemoteFileType.TAR
    assert next(item.value for item in RemoteFileType) == "plain"
    assert "ZIP" in dir(RemoteFileType)
