"""Follows the tutorials, and the READMEs of new plugins, where only what they name is installed.

The environment is made by the commands of docs/tutorial/first-dataset.md, with the pip that comes with
Python. Everything that the pages show is run in it; a warning of PyTorch about NumPy, or anything else
on standard error, fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.markdown import blocks  # noqa: E402
from tests.support.tutorial import Follower  # noqa: E402

if TYPE_CHECKING:
    from tests.support.markdown import Block

TUTORIAL = ROOT / "docs" / "tutorial"
KINDS = ("reader", "transport", "exporter")
UNWANTED = ("PYTHONPATH", "VIRTUAL_ENV", "CI")


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TUTORIAL_FOLDER")) as name:
        folder = Path(name)
        environment = {k: v for k, v in os.environ.items() if k not in UNWANTED}
        environment |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
        install(folder, environment)
        environment["PATH"] = f"{folder / 'environment' / 'bin'}{os.pathsep}{environment['PATH']}"
        first_dataset(folder, environment)
        format_plugin(folder, environment)
        for kind in KINDS:
            new_plugin(kind, folder, environment)
    print("The tutorials and the READMEs of new plugins run with what they install.")


def run(*command: str | Path, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def install(folder: Path, environment: dict[str, str]) -> None:
    (folder / "ipfs-dataset").symlink_to(ROOT)
    (block,) = blocks(TUTORIAL / "first-dataset.md", "sh")
    print(block.code, end="")
    make, rest = block.code.split("\n", 1)
    run("bash", "-euc", make, cwd=folder, environment=environment)
    # pip would install the same, but keeps a cache of its own: PyTorch would be fetched a second time.
    uv, python = Path(sys.executable).with_name("uv"), folder / "environment" / "bin" / "python"
    run(
        uv,
        "pip",
        "install",
        "--python",
        python,
        "torch>=2.4",
        cwd=folder,
        environment=dict(os.environ),
    )
    run("bash", "-euc", rest, cwd=folder, environment=environment)


def first_dataset(folder: Path, environment: dict[str, str]) -> None:
    print("first-dataset.md")
    code = "\n".join(block.code for block in blocks(TUTORIAL / "first-dataset.md", "python"))
    # Beneath the line that the page advises for scripts.
    script = (
        f"def main():\n{textwrap.indent(code, '    ')}\n\nif __name__ == '__main__':\n    main()\n"
    )
    (folder / "first_dataset.py").write_text(script)
    printed = run("python", "first_dataset.py", cwd=folder, environment=environment)
    if "NumPy" in printed or "Warning" in printed:
        sys.exit(f"first-dataset.md printed a warning: {printed}")


def ordered(page: Path) -> list[Block]:
    found = [block for language in ("python", "sh", "text") for block in blocks(page, language)]
    return sorted(found, key=lambda block: block.line)


def format_plugin(folder: Path, environment: dict[str, str]) -> None:
    print("format-plugin.md")
    page = TUTORIAL / "format-plugin.md"
    with_a_node = page.read_text().split("\n## Read it from a node\n")[0].count("\n")
    follower = Follower(folder, environment)
    for block in ordered(page):
        if block.line < with_a_node:
            follower.do(block)
    if "streamed: 40" not in follower.printed:
        sys.exit(f"format-plugin.md ended with: {follower.printed}")


def new_plugin(kind: str, folder: Path, environment: dict[str, str]) -> None:
    print(f"README.md of a new {kind}")
    at = folder / kind
    run(
        "ipfs-dataset",
        "new-plugin",
        f"my-{kind}",
        "--kind",
        kind,
        "--directory",
        at,
        cwd=folder,
        environment=environment,
    )
    follower = Follower(at, environment)
    for block in blocks(at / "README.md", "sh"):
        follower.do(block)
    if f"my_{kind}" not in follower.printed:
        sys.exit(f"`ipfs-dataset plugins` does not list my_{kind}: {follower.printed}")


if __name__ == "__main__":
    main()
