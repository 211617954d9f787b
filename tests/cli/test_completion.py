"""``completion``: scripts that shells accept, with every command and option."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ipfs_dataset.cli import COMMANDS
from tests.support.cli import run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_the_script(shell):
    done = run("completion", shell)
    assert done.status == 0
    for command in COMMANDS:
        assert command in done.out
    assert "json" in done.out
    assert run("completion", "tcsh").status == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_reads_the_script(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    option = "--no-execute" if shell == "fish" else "-n"
    done = subprocess.run(
        [shell, option],
        input=run("completion", shell).out,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ipfs-dataset", "ver"], ["verify"]),
        (["ipfs-dataset", "info", "--js"], ["--json"]),
        (["ipfs-dataset", "pin", "a"], ["add"]),
        (["ipfs-dataset", "get", "--ov"], ["--overwrite"]),
    ],
)
def test_bash_completes(words, expected):
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    quoted = " ".join(words)
    script = (
        f"{run('completion', 'bash').out}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        '_ipfs_dataset; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout.split() == expected
