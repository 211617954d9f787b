"""The tables in Markdown."""

from __future__ import annotations

from typing import Any

_KINDS = {"ratio": "{:.2f} x", "above": "{:.0f} ms", "peak_mb": "{:.0f} MB"}
_SIGNS = {"ratio": "≥", "above": "≤", "peak_mb": "≤"}
_VERDICTS = {True: "yes", False: "**no**", None: "not measured"}
_HUNDRED = 100


def tasks_page(results: dict[str, Any]) -> str:
    """Returns the page of all tasks."""
    parts = ["# Results", _machine(results), "![All tasks](results.png)"]
    parts += ["## Targets", _targets(results)]
    for task in results["tasks"].values():
        parts += [f"## {_capital(task['title'])}", _table(task)]
        parts += [f"Failed: {task['failed']}"] if "failed" in task else []
    return "\n\n".join(parts) + "\n"


def curves_page(results: dict[str, Any]) -> str:
    """Returns the page of all curves."""
    parts = ["# Scaling", _machine(results)]
    for name, curve in results["curves"].items():
        parts += [f"## {curve['title']}", f"![{curve['title']}](scaling-{name}.png)"]
        parts.append(curve_table(curve))
    return "\n\n".join(parts) + "\n"


def curve_table(curve: dict[str, Any]) -> str:
    """Returns the points of one curve."""
    heads = ["", curve["x"], *(name.replace("_", " ") for name in curve["figures"])]
    rows = [
        [point["series"], _place(curve, point["x"])]
        + [shown(point.get(name)) for name in curve["figures"]]
        for point in curve["points"]
    ]
    return _markdown(heads, rows)


def _place(curve: dict[str, Any], x: float) -> str:
    return curve["kinds"][int(x) - 1] if curve["kinds"] else shown(x)


def summary(results: dict[str, Any]) -> str:
    """Returns what a terminal shows after a run."""
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
        [name, target["of"], target["against"] or "itself", *_measured(target)]
        for name, task in results["tasks"].items()
        for target in task["targets"]
    ]
    heads = ["task", "of", "against", "target", "median", "best run", "met"]
    return _markdown(heads, rows)


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
    """A checked run may have read fewer samples than a timed one; then it says of how many."""
    checked = one["checked"]
    whole = checked["count"] == one["runs"][0]["count"]
    return f"{checked['requests']}" if whole else f"{checked['requests']} for {checked['count']}"


def shown(value: float | None) -> str:
    """Returns a figure as it is shown: three digits, or whole ones from a hundred on."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= _HUNDRED else f"{value:.3g}"


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
