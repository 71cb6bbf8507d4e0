"""A run as one HTML file that works offline: config, final values, alarms and every figure that it has data for."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import orjson
import plotly

from moe_hub.figures import tables, theme
from moe_hub.figures.alarms import alarms
from moe_hub.figures.drawing import to_json
from moe_hub.figures.lines import run_label
from moe_hub.figures.registry import available, compose, find
from moe_hub.figures.spec import FigureSpec
from moe_hub.figures.view import Theme, View
from moe_hub.runs.history import RunHistory

_STYLE = """
:root { color-scheme: %(theme)s; }
body { margin: 0 auto; max-width: 1180px; padding: 1rem; font-family: %(font)s; background: %(paper)s;
  color: %(text)s; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-size: .85rem; } .scroll { overflow-x: auto; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid %(grid)s; vertical-align: top; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.help { color: %(muted)s; font-size: .85rem; max-width: 75ch; }
.figure { width: 100%%; min-height: 420px; } .alarm { color: %(alarm)s; } summary { cursor: pointer; }
"""

# Figures are drawn when they come near the screen, and 3D ones are let go when they leave it: a browser has only
# so many WebGL contexts.
_SCRIPT = """
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const place = entry.target;
    const deep = place.dataset.deep === "1";
    if (entry.isIntersecting && !place.dataset.drawn) {
      const figure = read(place.dataset.source);
      place.dataset.drawn = "1";
      Plotly.newPlot(place, figure.data, figure.layout, {
        responsive: true, displaylogo: false, modeBarButtonsToRemove: ["sendChartToCloud"],
      });
    } else if (!entry.isIntersecting && place.dataset.drawn && deep) {
      Plotly.purge(place);
      delete place.dataset.drawn;
    }
  }
}, {rootMargin: "400px"});
document.querySelectorAll(".figure").forEach((place) => watcher.observe(place));
window.addEventListener("beforeprint", () => document.querySelectorAll(".figure").forEach((place) => {
  if (!place.dataset.drawn) {
    const figure = read(place.dataset.source);
    place.dataset.drawn = "1";
    Plotly.newPlot(place, figure.data, figure.layout, {staticPlot: true});
  }
}));
"""


def report_html(history: RunHistory, chosen: Theme = "light") -> bytes:
    """The report of one run, UTF-8. Plotly.js is inside, so it needs no network; about 5 MB."""
    view = View(theme=chosen, width_px=1140)
    title = run_label(history)
    body = [f"<h1>{html.escape(title)}</h1>", _facts(history), _alarms(history), _final(history)]
    body += [_figure(spec, [history], view, spec.key) for spec in available([history]) if spec.group != "Compare"]
    body.append(_config(history))
    return _page(title, body, chosen)


def comparison_html(
    title: str,
    question: str,
    histories: Sequence[RunHistory],
    views: Sequence[View],
    text: str,
    chosen: Theme = "light",
) -> bytes:
    """Runs against each other: the overlay once for each view, the settings in which they differ, and a text as it is.

    Offline like the report of a run.
    """
    body = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(question)}</p>"]
    if histories:
        overlay = find("overlay-of-runs")
        body += [_figure(overlay, histories, view, f"overlay-{number}") for number, view in enumerate(views)]
        whole = View(theme=chosen, width_px=1140)
        body += [
            _figure(spec, histories, whole, spec.key)
            for spec in available(histories)
            if spec.group == "Compare" and spec is not overlay
        ]
    body.append(f'<h2>Numbers</h2><div class="scroll"><pre>{html.escape(text)}</pre></div>')
    return _page(title, body, chosen)


def _page(title: str, body: Sequence[str], chosen: Theme) -> bytes:
    colours = theme.PALETTES[chosen]
    style = _STYLE % {"theme": chosen, "font": theme.FONT, **{name: getattr(colours, name) for name in (
        "paper", "text", "grid", "muted", "alarm")}}  # fmt: skip
    return "\n".join([
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">', f"<title>{html.escape(title)}</title>",
        f"<style>{style}</style><script>{_plotly_js()}</script></head><body><main>", *body,
        f"</main><script>{_SCRIPT}</script></body></html>",
    ]).encode()  # fmt: skip


def _plotly_js() -> str:
    text = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _facts(history: RunHistory) -> str:
    status, steps = history.status, history.snapshot.steps
    facts = [("Run", history.run_id), ("Steps", f"{int(steps[-1]):,}" if len(steps) else "none")]
    facts.append(("Rows", f"{history.total_rows:,}"))
    if status is not None:
        facts += [("State", status.state), ("Ended because", status.exit_reason), ("Device", status.device)]
    return _table(("", ""), [(name, value) for name, value in facts if value])


def _alarms(history: RunHistory) -> str:
    found = alarms(history)
    if not found:
        return "<p>No alarm: no dead expert, no value that is not finite, no loss spike.</p>"
    items = "".join(f'<li class="alarm">{html.escape(alarm.text)}</li>' for alarm in found)
    return f"<h2>Alarms</h2><ul>{items}</ul>"


def _final(history: RunHistory) -> str:
    table = tables.final_metrics([history])
    if not table.rows:
        return ""
    rows = [
        (name, value) for name, value in zip(table.columns[3:], table.rows[0][3:], strict=True) if value is not None
    ]
    return "<h2>Final values</h2>" + _table(("metric", "value"), [(name, f"{value:.6g}") for name, value in rows])


def _figure(spec: FigureSpec, histories: Sequence[RunHistory], view: View, place: str) -> str:
    figure = compose(spec.key, histories, view)
    deep = any(trace["type"].endswith("3d") for trace in figure["data"])
    height = figure["layout"]["meta"]["height_px"]
    content = to_json(figure).decode().replace("<", "\\u003c")  # text in it must not end the script element
    source = f"data-{place}"
    return (
        f"<section><h2>{html.escape(spec.title)}</h2><details><summary>{html.escape(spec.question)}</summary>"
        f'<p class="help">{html.escape(spec.help)}</p></details>'
        f'<div class="figure" style="height:{max(420, height)}px" data-source="{source}" data-deep="{int(deep)}" '
        f'role="img" aria-label="{html.escape(spec.title)}: {html.escape(spec.question)}"></div>'
        f'<script type="application/json" id="{source}">{content}</script></section>'
    )


def _config(history: RunHistory) -> str:
    values = tables.flat_config(history)
    if not values:
        return ""
    rows = [(key, value if isinstance(value, str) else orjson.dumps(value).decode()) for key, value in values.items()]
    return (
        f"<h2>Config</h2><details><summary>{len(rows)} settings</summary>{_table(('setting', 'value'), rows)}</details>"
    )


def _table(columns: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    lines = "".join(f'<tr><th scope="row">{html.escape(a)}</th><td>{html.escape(b)}</td></tr>' for a, b in rows)
    return (
        f'<div class="scroll"><table>{f"<thead><tr>{head}</tr></thead>" if any(columns) else ""}{lines}</table></div>'
    )
