"""``ipfs-dataset serve [SOURCE]``: serves the pages of a store or ``.car`` file on this machine."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import complain, output, print_line, whole_number

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset serve digits.car"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument(
        "source",
        nargs="?",
        help="a folder of blocks, a .car file, or a node's API (default: the node that runs here, else the "
        "embedded store)",
    )
    parser.add_argument(
        "--cid",
        action="append",
        default=[],
        metavar="CID",
        help="a root that the first page links to; may be repeated (default: all roots or pins)",
    )
    parser.add_argument(
        "--port",
        type=whole_number(0, (1 << 16) - 1, called="port"),
        default=8081,
        metavar="PORT",
        help="port on 127.0.0.1; 0 chooses any free port (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the URL and the CIDs as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    from ipfs_dataset.operations.local_gateway import LocalGateway, roots_at  # noqa: PLC0415
    from ipfs_dataset_core.publishing.pins import parse_root  # noqa: PLC0415

    here = roots_at(arguments.source)
    given = tuple(str(parse_root(cid)) for cid in arguments.cid)
    roots = given or here
    try:
        gateway = LocalGateway(arguments.source, port=arguments.port, roots=roots)
    except OSError as error:
        complain(
            f"port {arguments.port} of 127.0.0.1: {error.strerror}; --port 0 takes any free port"
        )
        return 1
    with gateway:
        gateway.connections.fetcher()  # a damaged .car file is an error here, not in each response
        if given:
            gateway.check_roots()
        if arguments.json:
            print(json.dumps({"url": gateway.url, "cids": list(roots)}), file=output(), flush=True)
        else:
            for root in roots[:10]:
                print_line(f"{gateway.url}/ipfs/{root}/")
            print(f"{gateway.url} serves until Ctrl-C", file=sys.stderr)
            output().flush()
        gateway.serve_forever()
    return 0
