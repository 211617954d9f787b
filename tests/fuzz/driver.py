"""Runs targets with numbered examples, each with a bound on its time and its memory."""

from __future__ import annotations

import faulthandler
import random
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import IPFSDatasetError
from tests.fuzz import targets
from tests.support.peak import peak_kib

if TYPE_CHECKING:
    from collections.abc import Callable

    Target = Callable[[random.Random], None]

SECONDS = 10
MIB = 400
# Then the program ends with a traceback: something waits, or loops where no signal reaches it.
_HANGING_SECONDS = 300


@attrs.define
class Outcome:
    """What became of one example.

    Attributes:
        target: The name of the target.
        number: The number of the example; with the same number it is the same again.
        refused: Whether an error of ours was raised.
        failure: Why it is a finding, "" where it is none.
        seconds: Of the processor.
        mib: By how much the peak of resident memory grew.
    """

    target: str
    number: int
    refused: bool = False
    failure: str = ""
    seconds: float = 0
    mib: int = 0


def all_targets() -> dict[str, Target]:
    """Returns every target by its name."""
    prefix = "fuzz_"
    return {
        name.removeprefix(prefix): target
        for name, target in vars(targets).items()
        if name.startswith(prefix)
    }


def run_example(name: str, number: int) -> Outcome:
    """Runs one example.

    Args:
        name: Of the target.
        number: Of the example.
    """
    outcome = Outcome(name, number)
    _reset_peak()
    before, started = peak_kib(), time.process_time()
    faulthandler.dump_traceback_later(_HANGING_SECONDS, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            all_targets()[name](random.Random(f"{name} {number}"))
    except IPFSDatasetError:
        outcome.refused = True
    except Exception:
        outcome.failure = traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
    outcome.seconds = time.process_time() - started
    outcome.mib = (peak_kib() - before) >> 10
    if outcome.seconds > SECONDS:
        outcome.failure = outcome.failure or f"took {outcome.seconds:.1f} s of the processor"
    if outcome.mib > MIB:
        outcome.failure = outcome.failure or f"took {outcome.mib} MiB of memory"
    return outcome


def _reset_peak() -> None:
    """Makes the peak of memory what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
