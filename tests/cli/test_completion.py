"""``completion``: scripts that shells accept, with every command and option."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import time

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
    found = json.loads(run("completion", shell, "--json").out)
    assert found == {"shell": shell, "script": done.out.rstrip("\n")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_reads_the_script(shell):
    needs(shell)
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
        (["ipfs-dataset", "publish", "x", "--as", "d"], ["dataset"]),
        (["ipfs-dataset", "new-plugin", "x", "--kind", "tr"], ["transport"]),
        (["ipfs-dataset", "new-plugin", "x", "--kind=tr"], ["transport"]),
        (["ipfs-dataset", "cid", "x", "--profile", "ku"], ["kubo-cidv1"]),
        (["ipfs-dataset", "pin", "rm", "bafy"], ["bafyone"]),
        (["ipfs-dataset", "pin", "ls", "--j"], ["--json"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes(shell, words, expected, tmp_path, monkeypatch):
    needs(shell)
    # For `pin rm` the shell lists pins; this stands for the command, which takes longer.
    stub = tmp_path / "bin" / "ipfs-dataset"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nprintf '%s\\n' 'bafyone  a name' 'bafkother'\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}{os.pathsep}{os.environ['PATH']}")
    {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}[shell](words, expected, tmp_path)


@pytest.mark.parametrize("words", [["pin", "ls", "--st"], ["cache", "verify", "--ag"]])
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_an_action_is_not_the_command_of_the_same_name(shell, words, tmp_path):
    needs(shell)
    {"bash": in_bash, "fish": in_fish}[shell](["ipfs-dataset", *words], [], tmp_path)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_after_an_action_files_are_completed(shell, tmp_path, monkeypatch):
    needs(shell)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["ipfs-dataset", "cache", "verify", "fol"]
    # bash completes names of files itself, where the function has no answer.
    expected = [] if shell == "bash" else ["folder/"]
    {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}[shell](words, expected, tmp_path)


def needs(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"NOT TESTED: completion in {shell}, which is not installed")


def in_fish(words, expected, folder):
    script = folder / "completion.fish"
    script.write_text(run("completion", "fish").out)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}; complete -C '{' '.join(words)}'"],
        text=True,
        capture_output=True,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    start = start_of_value(words)
    found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert found == [start + word for word in expected]


def in_zsh(words, expected, folder):
    """Presses the tabulator key: completion in zsh works nowhere but on a terminal."""
    script = folder / "completion.zsh"
    script.write_text(run("completion", "zsh").out)
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "> "})
    try:
        shown = f"autoload -Uz compinit; compinit -u -D; source {script}; echo READY''"
        written_behind(terminal, f"{shown}\n", "READY\r")
        line = " ".join((*words[:-1], start_of_value(words) + expected[0]))
        end = "" if line.endswith("/") else " "
        written_behind(terminal, " ".join(words) + "\t", line + end)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def written_behind(terminal, text, expected):
    """Writes text to a terminal, and reads until what is expected is shown."""
    os.write(terminal, text.encode())
    shown, end = "", time.monotonic() + 30
    while expected not in shown:
        readable, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        assert readable, f"{expected!r} is not in {shown!r}"
        shown += os.read(terminal, 65536).decode(errors="replace")


def start_of_value(words):
    """Returns what stands before the value in `--option=value`."""
    return "".join(words[-1].rpartition("=")[:2])


def in_bash(words, expected, folder):
    # Where a line is cut into words, "=" is one.
    words = " ".join(words).replace("=", " = ").split()
    quoted = " ".join(words)
    script = (
        f"{run('completion', 'bash').out}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        '_ipfs_dataset; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout.split() == expected
