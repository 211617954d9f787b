"""The command line: what it prints, and the status it ends with."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from ipfs_dataset.cli import COMMANDS, build_parser, main
from ipfs_dataset.cli.plugins import describe
from ipfs_dataset_core.registry.discovery import Discovery
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.registry.provenance import Failure, Origin
from tests.support import builders
from tests.support.builders import noise
from tests.support.stores import Store


def run(capsys, *arguments):
    """Returns status, output and errors."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "kubo-cidv1", "unixfs-v1-2025"])
def test_cid_of_a_file_is_the_one_that_is_published(capsys, tmp_path, profile):
    data = noise(2_500_000)
    (tmp_path / "file").write_bytes(data)
    expected, _ = builders.one_file(data, profile)
    arguments = ("cid", tmp_path / "file", "--profile", profile)
    assert run(capsys, *arguments) == (0, f"{expected}\n", "")


def test_cid_of_a_folder_leaves_hidden_files_out_by_default(capsys, tmp_path):
    files = {"a.txt": b"a", "sub/größe b.txt": b"b"}
    hidden = {".hidden": b"h", "sub/.deep/x": b"x"}
    for path, data in {**files, **hidden}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    assert run(capsys, "cid", tmp_path)[1] == f"{builders.tree(files)[0]}\n"
    with_hidden = run(capsys, "cid", "--hidden", tmp_path)[1]
    assert with_hidden == f"{builders.tree({**files, **hidden})[0]}\n"


def test_cid_of_a_symlink_is_not_that_of_its_target(capsys, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    found = [run(capsys, "cid", tmp_path / name) for name in ("file", "link", "broken", "loop")]
    assert [status for status, _, _ in found] == [0, 0, 0, 0]
    assert len({out for _, out, _ in found}) == 4


def test_a_missing_file_is_an_error_in_one_line(capsys, tmp_path):
    status, out, err = run(capsys, "cid", tmp_path / "none")
    assert (status, out) == (1, "")
    assert err == f"ipfs-dataset: {str(tmp_path / 'none')!r} is neither a file nor a folder\n"


def test_plugins_lists_every_kind_with_its_distribution(capsys):
    status, out, _ = run(capsys, "plugins")
    assert status == 0
    lines = out.splitlines()
    kinds = [line.split()[0] for line in lines]
    assert kinds == sorted(kinds, key=["transport", "reader", "exporter"].index)
    [line] = [line for line in lines if line.split()[:2] == ["reader", "zip"]]
    assert "ipfs-dataset " in line
    assert "[.zip]" in line


def test_plugins_prints_the_same_as_json(capsys):
    status, out, _ = run(capsys, "plugins", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["failures"] == []
    [found] = [plugin for plugin in report["plugins"] if plugin["name"] == "tar"]
    assert found["kind"] == "reader"
    assert found["entry_point"] == "tar"
    assert found["distribution"] == "ipfs-dataset"
    assert ".tar.gz" in found["matches"]


@pytest.fixture
def broken(monkeypatch):
    failure = Failure(
        Origin("ipfs-dataset-mat", "0.3", "mat"), "ImportError: scipy", "Traceback: x"
    )
    monkeypatch.setattr(default_registry(), "_discovery", Discovery((), (failure,)))


def test_a_plugin_that_failed_is_shown_and_makes_the_status_one(capsys, broken):
    status, out, _ = run(capsys, "plugins")
    assert status == 1
    assert out == "failed: ipfs-dataset-mat 0.3 (mat): ImportError: scipy\n"
    status, out, _ = run(capsys, "plugins", "--verbose")
    assert out.endswith("Traceback: x\n")
    status, out, _ = run(capsys, "plugins", "--json")
    assert status == 1
    assert json.loads(out)["failures"][0]["reason"] == "ImportError: scipy"


def test_config_describes_each_option(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("IPFS_DATASET_MEMORY", "128M")
    monkeypatch.setenv("IPFS_GATEWAY", "http://127.0.0.1:8080 http://127.0.0.1:8081")
    status, out, _ = run(capsys, "config")
    assert status == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert rows["memory"] == "134,217,728 bytes ($IPFS_DATASET_MEMORY)"
    assert rows["limits.redirects"] == "3 (default)"
    assert rows["limits.listing_line_bytes"] == "4,096 bytes (default)"
    assert rows["cache_dir"] == "none (default)"
    assert rows["verify"] == "yes (default)"
    assert "gateway+http://127.0.0.1:8080 gateway+http://127.0.0.1:8081" in rows["gateways"] + out
    status, out, _ = run(capsys, "config", "--json")
    assert status == 0
    assert json.loads(out)["limits"]["value"]["redirects"] == 3


def test_nothing_installed_is_an_empty_report():
    assert describe(Discovery((), ())) == {"plugins": [], "failures": []}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["cid"],
        ["plugins", "--no-such"],
        ["cid", "file", "--profile", "latest"],
        ["publish", "file", "--profile", "latest"],
    ],
)
def test_a_wrong_command_line_ends_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: ipfs-dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [(["ls", "--nonsense", "x"], "ipfs-dataset ls "), (["cid", "a", "b"], "ipfs-dataset cid ")],
)
def test_unknown_arguments_are_reported_with_the_usage_of_the_command(arguments, usage, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    message = capsys.readouterr().err
    assert message.startswith(f"usage: {usage}")
    assert "unrecognized arguments: " in message


def test_a_current_folder_that_was_deleted_is_named(capsys, tmp_path, monkeypatch):
    place = tmp_path / "gone"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    status, out, message = run(capsys, "publish", ".", "--to", tmp_path / "store")
    assert (status, out) == (1, "")
    assert "the current folder does not exist any more" in message


def test_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"ipfs-dataset {importlib.metadata.version('ipfs-dataset')}\n"


def test_every_command_has_help(capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "cid" in out
    assert "plugins" in out


def test_help_of_every_command_has_an_example_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from ipfs_dataset.cli import COMMANDS, main\n"
        "for command in COMMANDS:\n"
        "    try:\n"
        "        main([command, '--help'])\n"
        "    except SystemExit as ended:\n"
        "        assert ended.code == 0, command\n"
        "heavy = {'torch', 'numpy', 'PIL', 'requests', 'tqdm'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    helps = done.stdout.split("usage: ")[1:]
    assert len(helps) == len(COMMANDS)
    for shown, (command, summary) in zip(helps, COMMANDS.items(), strict=True):
        assert f"{summary[1:]}." in shown, command
        _, head, examples = shown.partition("\nexample")
        assert head, command
        for line in examples.splitlines()[1:]:
            assert f"ipfs-dataset {command}" in line, command
        assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_help_names_every_default():
    parser = build_parser()
    [below] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for command in below.choices.values():
        command.format_help()  # which adds its arguments
        for action in command._actions:
            if action.default not in (None, False, "", [], argparse.SUPPRESS):
                shown = action.help.replace("%(default)s", str(action.default))
                assert f"(default: {action.default})" in shown, (command.prog, action.dest)


def test_a_hanging_command_ends_when_it_is_interrupted(tmp_path):
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = subprocess.Popen(
            [*(sys.executable, "-m", "ipfs_dataset", "info", str(builders.one_file(b"x")[0])),
             *("--gateway", f"http://127.0.0.1:{port}")],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        silent.settimeout(60)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        connection.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_pipe_that_closes_early_causes_no_message(tmp_path):
    store = Store(tmp_path / "store")
    cid = store.file(builders.zip_bytes({f"{number:06}": b"" for number in range(20_000)}))
    process = subprocess.Popen(
        [sys.executable, "-m", "ipfs_dataset", "ls", cid, "--from", store.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def command(*arguments, **options):
    # Buffered as users have it: what cannot be written shows only at the end.
    return subprocess.run(
        [sys.executable, "-m", "ipfs_dataset", *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        check=False,
        timeout=60,
        **options,
    )


def test_the_module_runs_as_a_command(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    done = command("cid", str(tmp_path / "a"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(builders.one_file(b"x")[0])


def test_a_reader_that_closes_the_pipe_early_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    try:
        done = command("plugins", "--json", stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1


def test_names_that_are_not_utf8_are_printed(capsys, tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    try:
        (tmp_path / name).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such name")
    status, out, _ = run(capsys, "cid", tmp_path)
    assert status == 0
    assert out == f"{builders.tree({name: b'x'})[0]}\n"


@pytest.mark.parametrize("option", [("--timeout", "0"), ("--timeout", "-1"), ("--timeout", "nan"),
                                    ("--timeout", "soon"), ("--blocks", "-3")])  # fmt: skip
def test_doctor_refuses_numbers_out_of_range(capsys, option):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "ipfs://bafkqaaa", *option])
    assert ended.value.code == 2
    assert f"argument {option[0]}: invalid positive number" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors as POSIX shells do")
@pytest.mark.parametrize(
    ("redirect", "status", "complaint"),
    [
        (">&-", 1, "Bad file descriptor"),
        ("2>&-", 0, ""),
        ("<&-", 0, ""),
        pytest.param(
            ">/dev/full",
            1,
            "No space left on device",
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full"),  # noqa: PTH110
        ),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["config", "--help", "ls --help"])
def test_output_that_cannot_be_written_is_an_error_in_one_line(
    command, unbuffered, redirect, status, complaint
):
    line = f'"$0" -m ipfs_dataset {command} {redirect}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert done.returncode == status
    assert complaint in done.stderr
    assert done.stderr.count("\n") == (1 if complaint else 0)


def test_characters_that_the_output_cannot_encode_are_escaped():
    done = subprocess.run(
        [sys.executable, "-m", "ipfs_dataset", "config"],
        check=False,
        timeout=60,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "IPFS_DATASET_CACHE_DIR": "größe\x1b[2J\n"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr\\xf6\\xdfe\\x1b[2J\\n" in done.stdout


def test_a_warning_is_one_line_without_control_characters():
    code = (
        "import warnings\n"
        "from ipfs_dataset.cli import process\n"
        "process.prepare_streams()\n"
        "warnings.warn('member \\x1b[2J is left out')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, timeout=60, capture_output=True
    )
    assert done.stderr == b"ipfs-dataset: warning: member \\x1b[2J is left out\n"
