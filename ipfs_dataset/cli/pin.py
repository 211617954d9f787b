"""``ipfs-dataset pin ls|add|rm``: manages the pins of a node or an embedded store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import add_json, complain, print_json, print_line

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset pin add CID --name cifar10 --at /ip4/127.0.0.1/tcp/5001"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument(
        "action",
        choices=("ls", "add", "rm"),
        help="ls: list the pins; add: keep a CID, fetching it if need be; rm: stop keeping it",
    )
    parser.add_argument("cid", nargs="?", help="for add and rm: the root CID to pin or unpin")
    parser.add_argument(
        "--name",
        default="",
        metavar="NAME",
        help="for add: name of the pin (default: none)",
    )
    parser.add_argument(
        "--at",
        metavar="ADDRESS",
        help="a node's API or the folder of a store (default: the node that runs here, else the embedded "
        "store)",
    )
    parser.add_argument(
        "--node",
        metavar="ADDRESS",
        help="for add, with --at pinning+https://…: the API of a node that has the data, from which the "
        "service fetches them",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the action, and prints the pins or the pin."""
    from ipfs_dataset_core.publishing.pins import add_pin, list_pins, remove_pin  # noqa: PLC0415

    if (arguments.cid is None) != (arguments.action == "ls"):
        complain(f"pin {arguments.action} takes {'no' if arguments.cid else 'a'} CID")
        return 2
    if arguments.action != "add" and (arguments.name or arguments.node):
        complain(f"{'--name' if arguments.name else '--node'} can only be used with pin add")
        return 2
    if arguments.action == "rm":
        remove_pin(arguments.cid, arguments.at)
        if arguments.json:
            print_json({"removed": arguments.cid})
        else:
            print_line(f"removed {arguments.cid}")
        return 0
    if arguments.action == "add":
        pins = [add_pin(arguments.cid, arguments.at, name=arguments.name, node=arguments.node)]
    else:
        pins = list_pins(arguments.at)
    if arguments.json:
        print_json([{"cid": str(pin.cid), "name": pin.name, "kind": pin.kind} for pin in pins])
    else:
        for pin in pins:
            alone = "  (blocks alone)" if pin.kind == "direct" else ""
            print_line(f"{pin.cid}  {pin.name}".rstrip() + alone)
    return 0
