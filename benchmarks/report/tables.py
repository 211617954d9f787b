"""Tables of results in Markdown."""

from __future__ import annotations

from typing import Any

_KINDS = {"ratio": "{:.2f} x", "above": "{:.0f} ms", "peak_mb": "{:.0f} MB"}
_SIGNS = {"ratio": "≥", "above": "≤", "peak_mb": "≤"}
_VERDICTS = {True: "yes", False: "**no**", None: "not measured"}
_HUNDRED = 100
_TASKS_INTRO = """
This page has the figures of every benchmark task. [Benchmarks](index.md) explains how they were measured,
what limits each task, and why some targets are not met.

- "Median" and "best" are the speed, or the time in ms, over all rounds. "Seconds" and "CPU s" are medians.
- "CPU s" is the CPU time of the client with all its child processes, and of the node.
- "Peak MB" is the memory of the client above what its imports take. "Tree MB" is that of all its processes,
  with shared pages counted once; "shared MB" is shared memory without a name. Both are from an untimed run.
- "Requests" and "MB moved" are from the untimed run, through a proxy. If that run read fewer samples, their
  number follows.
- A row with "(limit)" does the same work without verification. "absent" gives the reason why a contestant did
  not take part.
"""
_TARGETS_INTRO = """
A ratio target ("x") compares the speed of a contestant with that of another one. A target in ms is the
difference of the two. A target in MB is the peak memory. Whether a target is met is decided by the median.
Rows without a task belong to the task above.
"""
_CURVES_INTRO = """
This page shows how speed and memory depend on latency, size, members and workers.
[Benchmarks](index.md#the-curves) explains the curves. "Relative" is the speed divided by that without an
added delay.
"""
_COLUMNS = {
    "mb_per_second": "MB/s",
    "relative": "relative speed",
    "first_ms": "first sample, ms",
    "peak_mb": "peak MB",
    "tree_peak_mb": "peak MB of all processes",
    "rate": "samples/s",
    "requests_per_gib": "requests per GiB",
    "refused": "refused requests",
}


def tasks_page(results: dict[str, Any]) -> str:
    """Returns the page of all tasks."""
    parts = ["# Results", _TASKS_INTRO.strip(), _machine(results), "![All tasks](results.png)"]
    parts += ["## Targets", _TARGETS_INTRO.strip(), _targets(results)]
    for task in results["tasks"].values():
        parts += [f"## {_capital(task['title'])}", _table(task)]
        parts += [f"Failed: {task['failed']}"] if "failed" in task else []
    return "\n\n".join(parts) + "\n"


def curves_page(results: dict[str, Any]) -> str:
    """Returns the page of all curves."""
    parts = ["# Scaling", _CURVES_INTRO.strip(), _machine(results)]
    for name, curve in results["curves"].items():
        parts += [f"## {curve['title']}", f"![{curve['title']}](scaling-{name}.png)"]
        parts.append(curve_table(curve))
    return "\n\n".join(parts) + "\n"


def curve_table(curve: dict[str, Any]) -> str:
    """Returns the points of one curve."""
    heads = ["", curve["x"], *(_COLUMNS.get(name, name) for name in curve["figures"])]
    rows = [
        [point["series"], _place(curve, point["x"])]
        + [shown(point.get(name)) for name in curve["figures"]]
        for point in curve["points"]
    ]
    return _markdown(heads, rows)


def _place(curve: dict[str, Any], x: float) -> str:
    return curve["kinds"][int(x) - 1] if curve["kinds"] else shown(x)


def summary(results: dict[str, Any]) -> str:
    """Returns the tables that are printed after a run."""
    tables = [f"{task['title']}\n{_table(task)}\n" for task in results["tasks"].values()]
    return "\n".join([*tables, _targets(results)])


def _machine(results: dict[str, Any]) -> str:
    of = results["machine"]
    scale = (
        "" if results["scale"] == 1 else f" **Amounts are {results['scale']:g} of the real ones.**"
    )
    return (
        f"{of['date']}: {of['cpu']}, {of['cores']} cores, {of['memory_gib']} GiB, {of['system']}, "
        f"Python {of['python']}, Kubo {of['kubo']}; node and client share the machine. "
        f"{results['rounds']} rounds; load at the start {of['load_at_start']}.{scale}"
    )


def _targets(results: dict[str, Any]) -> str:
    rows = [
        ["" if number else _capital(task["title"]), *_contestants(task, target), *_measured(target)]
        for task in results["tasks"].values()
        for number, target in enumerate(task["targets"])
    ]
    heads = ["task", "contestant", "compared with", "target", "median", "best run", "met"]
    return _markdown(heads, rows)


def _contestants(task: dict[str, Any], target: dict[str, Any]) -> list[str]:
    """Returns the labels of the two contestants of a target; the second is empty without comparison."""
    labels: dict[str | None, str] = {None: ""}
    for label, one in task["contestants"].items():
        labels.setdefault(f"{one['adapter']}.{one['function']}", label)
    return [labels.get(name, name) for name in (target["of"], target["against"])]


def _measured(target: dict[str, Any]) -> list[str]:
    form = _KINDS[target["kind"]]
    figures = [
        "" if target[key] is None else form.format(target[key])
        for key in ("measured", "measured_best")
    ]
    wanted = f"{_SIGNS[target['kind']]} {form.format(target['value'])}"
    return [wanted, *figures, _VERDICTS[target["met"]]]


def _table(task: dict[str, Any]) -> str:
    unit = task["unit"]
    heads = ["", f"median {unit}", f"best {unit}", "seconds", "CPU s: client", "node",
             "peak MB", "tree MB", "shared MB", "requests", "MB moved"]  # fmt: skip
    return _markdown(heads, [_row(name, one) for name, one in task["contestants"].items()])


def _row(name: str, one: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{k} {v}" for k, v in one["versions"].items() if one["environment"] in k)
    label = f"{name} ({versions})" if versions and one["environment"] != "ours" else name
    if not one["runs"]:
        return [label, f"absent: {one['absent']}", *[""] * 9]
    checked = one["checked"]
    return [
        label,
        *(shown(one[key]) for key in ("median", "best", "seconds", "client_cpu", "node_cpu")),
        shown(one["peak_mb"]),
        shown(checked.get("tree_peak_mb")),
        shown(checked.get("shared_peak_mb")),
        _requests(one),
        shown((checked["sent"] + checked["received"]) / 1e6),
    ]


def _requests(one: dict[str, Any]) -> str:
    """Returns the number of requests, with that of samples if the untimed run read fewer than a timed one."""
    checked = one["checked"]
    whole = checked["count"] == one["runs"][0]["count"]
    return f"{checked['requests']}" if whole else f"{checked['requests']} for {checked['count']}"


def shown(value: float | None) -> str:
    """Returns a figure with three digits, or as a whole number from 100."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= _HUNDRED else f"{value:.3g}"


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
