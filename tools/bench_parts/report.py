"""The output of the results: lines of text, and a page with tables and a plot."""

import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench_parts.measure import Result
from bench_parts.real import ONE_EVENT_WITH

FLOOR = "bare calls"

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def host() -> str:
    """Return a description of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} CPUs of {model}, {python}"


def text(result: Result) -> str:
    """Format a result for a terminal: each subject, its ratio, and its cost above the floor."""
    lines = [f"\n{result.case} (per {result.unit})"]
    for name, value in result.values.items():
        ratio = result.ratios.get(name)
        beside = "" if ratio is None else f"  {ratio:8.2f}"
        lines.append(f"  {name:24} {value:12.2f} {result.measure}{beside}{_over(result, name)}")
    return "\n".join(lines)


def write_page(page: Path, machine: str, results: Sequence[Result]) -> None:
    """Write the results between the marks of a Markdown page, and their plot beside it.

    Args:
        page: the page.
        machine: the machine that they are from.
        results: the results.
    """
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    body = [f"Made on {machine}.", ""]
    # Comparisons with the C library on a real device come first.
    for result in sorted(results, key=lambda result: next(iter(result.values)) != "C library"):
        if not result.case.startswith(ONE_EVENT_WITH):
            body += _table(result)
    growth = [result for result in results if result.case.startswith(ONE_EVENT_WITH)]
    if growth:
        page.with_name("growth.svg").write_text(_plot(growth))
        body += [
            "### one event, by the number of ports bound",
            "",
            "![The time of one event by the number of ports bound](growth.svg)",
            "",
        ]
    page.write_text("\n".join([before + BEGIN, "", *body, END + after]))


def _over(result: Result, name: str) -> str:
    floor = result.values.get(FLOOR)
    if floor is None or not name.startswith("this"):
        return ""
    return f"  {result.values[name] - floor:+.2f} over the {FLOOR}"


def _table(result: Result) -> Iterable[str]:
    first = next(iter(result.values))
    yield f"### {result.case}"
    yield ""
    yield f"| | {result.measure} per {result.unit} | {first} / it |"
    yield "|---|---:|---:|"
    for name, value in result.values.items():
        ratio = result.ratios.get(name)
        yield f"| {name} | {value:,.2f} | {'' if ratio is None else f'{ratio:.2f}'} |"
    yield ""


_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 50
_CLASSES = {"C library": "one", "this": "two"}

_STYLE = """\
  <style>
    text { font: 14px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2937; }
    .card { fill: #ffffff; stroke: #d0d7de; }
    .grid { stroke: #d0d7de; }
    .one { fill: none; stroke: #5b7290; stroke-width: 2; }
    .two { fill: none; stroke: #3c7a55; stroke-width: 2; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .card { fill: #161b22; stroke: #3d444d; }
      .grid { stroke: #3d444d; }
      .one { stroke: #8aa4cc; }
      .two { stroke: #6fbf8d; }
    }
  </style>"""


def _plot(growth: Sequence[Result]) -> str:
    """Draw the subjects' values over the number of ports, which is on a logarithmic scale."""
    ports = [_number(result.case) for result in growth]
    top = _round_up(max(max(result.values.values()) for result in growth))

    def x(count: int) -> float:
        share = math.log(count / ports[0]) / math.log(ports[-1] / ports[0])
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM), 1)

    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {size}>',
        "  <title>The time of a round trip by the number of ports bound</title>",
        _STYLE,
        f'  <rect class="card" {size} rx="10"/>',
    ]
    for step in range(5):
        value = top * step / 4
        lines += [
            f'  <path class="grid" d="M{_LEFT} {y(value)}H{_WIDTH - _RIGHT}"/>',
            f'  <text x="{_LEFT - 8}" y="{y(value) + 5}" text-anchor="end">{value:g} us</text>',
        ]
    for count in ports:
        anchor = "end" if count == ports[-1] else "middle"
        lines.append(
            f'  <text x="{x(count)}" y="{_HEIGHT - _BOTTOM + 22}" text-anchor="{anchor}">'
            f"{count:,}</text>"
        )
    lines.append(
        f'  <text x="{_WIDTH / 2:g}" y="{_HEIGHT - 8}" text-anchor="middle">ports bound</text>'
    )
    for name, kind in _CLASSES.items():
        values = [result.values[name] for result in growth]
        points = " ".join(f"{x(c)},{y(v)}" for c, v in zip(ports, values, strict=True))
        end = f'x="{_WIDTH - _RIGHT}" y="{y(values[-1]) - 8}"'
        lines += [
            f'  <polyline class="{kind}" points="{points}"/>',
            f'  <text {end} text-anchor="end">{name}</text>',
        ]
    return "\n".join([*lines, "</svg>\n"])


def _number(case: str) -> int:
    return int(case.removeprefix(ONE_EVENT_WITH).split()[0].replace(",", ""))


def _round_up(value: float) -> float:
    step = 10.0 ** math.floor(math.log10(value))
    return math.ceil(value / step) * step
