"""HTML page about LoRA files with a heat map and histogram of singular values.

The page contains the data as JSON and a script that plots them. It does not load
external resources.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

from .inspection import LoraReport
from .inspection_facts import SUMMARY_HEADS, defects_of, facts_of, summary_cells

__all__ = ["inspection_page"]

_DIGITS = 4

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fff; --soft: #6b6b70;
  --line: #dcdce0; --mark: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --paper: #17181a;
  --soft: #9a9aa2; --line: #36373b; --mark: #f2857c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 24px; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 28px 0 8px; }
p { margin: 4px 0; color: var(--soft); } .mark { color: var(--mark); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 12px 3px 0; border-bottom: 1px solid
  var(--line); } th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
.facts td { text-align: left; }
.plot { position: relative; overflow-x: auto; }
canvas { display: block; image-rendering: pixelated; }
#tip { position: fixed; pointer-events: none; background: var(--ink); color:
  var(--paper); padding: 3px 7px; border-radius: 4px; font-size: 13px; display: none;
  max-width: 70ch; }
.legend { display: flex; gap: 8px; align-items: center; color: var(--soft); }
.legend span { width: 160px; height: 12px; display: inline-block; }
"""

_SCRIPT = """
const files = JSON.parse(document.getElementById("numbers").textContent);
const tip = document.getElementById("tip");
// Black to red to yellow to white, even in lightness.
const stops = [[10, 7, 34], [74, 12, 107], [165, 44, 96], [229, 92, 48],
  [251, 180, 26], [252, 255, 164]];
function color(t) {
  const x = Math.max(0, Math.min(1, t)) * (stops.length - 1), i = Math.min(4, x | 0);
  return stops[i].map((v, k) => Math.round(v + (x - i) * (stops[i + 1][k] - v)));
}
function css(t) { return `rgb(${color(t)})`; }
document.querySelectorAll(".legend span").forEach(e => {
  e.style.background = "linear-gradient(90deg," +
    [0, .2, .4, .6, .8, 1].map(css).join(",") + ")";
});
function ink() { return getComputedStyle(document.body).color; }
function heat(canvas, file) {
  const rows = file.layers, most = Math.max(...rows.map(r => r.s.length));
  const top = Math.max(...rows.flatMap(r => r.s.slice(0, 1)));
  const tall = Math.max(2, Math.min(14, Math.floor(1400 / rows.length)));
  const wide = Math.max(3, Math.min(40, Math.floor(760 / most)));
  const left = 190, scale = window.devicePixelRatio || 1;
  canvas.width = (left + most * wide) * scale;
  canvas.height = (rows.length * tall + 22) * scale;
  canvas.style.width = `${left + most * wide}px`;
  canvas.style.height = `${rows.length * tall + 22}px`;
  const g = canvas.getContext("2d");
  g.scale(scale, scale); g.font = "12px system-ui, sans-serif";
  const level = s => s > 0 ? 1 + Math.log10(s / top) / 3 : 0;
  let section = "", last = -99;
  rows.forEach((row, y) => {
    row.s.forEach((s, x) => {
      g.fillStyle = s === null ? "#888" : css(level(s));
      g.fillRect(left + x * wide, y * tall, wide, tall);
    });
    if (row.section !== section) {
      section = row.section;
      if (y * tall - last >= 13) {
        g.fillStyle = ink(); g.fillText(section, 0, y * tall + 11); last = y * tall;
        g.fillRect(left - 8, y * tall, 6, 1);
      }
    }
  });
  g.fillStyle = ink(); g.textAlign = "center";
  for (let x = 0; x < most; x += Math.max(1, Math.ceil(most / 8)))
    g.fillText(x + 1, left + (x + .5) * wide, rows.length * tall + 16);
  canvas.onmousemove = e => {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor((e.clientX - box.left - left) / wide);
    const row = rows[Math.floor((e.clientY - box.top) / tall)];
    tip.style.display = row && x >= 0 && x < row.s.length ? "block" : "none";
    if (tip.style.display === "none") return;
    tip.textContent = row.s[x] === null ? `${row.name}: NaN or infinity`
      : `${row.name}: sigma_${x + 1} = ${row.s[x]}`;
    tip.style.left = `${Math.min(e.clientX + 14, innerWidth - 420)}px`;
    tip.style.top = `${e.clientY + 14}px`;
  };
  canvas.onmouseleave = () => tip.style.display = "none";
}
function histogram(canvas, file) {
  const found = file.layers.flatMap(r => r.s).filter(s => s > 0).map(Math.log10);
  const width = 760, height = 170, bins = 60, base = height - 22;
  const scale = window.devicePixelRatio || 1, g = canvas.getContext("2d");
  canvas.width = width * scale; canvas.height = height * scale;
  canvas.style.width = `${width}px`; g.scale(scale, scale);
  if (!found.length) return;
  let low = Infinity, high = -Infinity;
  found.forEach(v => { low = Math.min(low, v); high = Math.max(high, v); });
  if (high - low < 1e-9) { low -= .5; high += .5; }
  const counts = new Array(bins).fill(0);
  found.forEach(v => counts[Math.min(bins - 1, (v - low) / (high - low) * bins | 0)]++);
  const most = Math.max(...counts);
  counts.forEach((n, i) => {
    g.fillStyle = css(.35 + .3 * i / bins);
    const tall = n / most * (base - 14);
    g.fillRect(i * width / bins, base - tall, width / bins - 1, tall);
  });
  g.fillStyle = ink(); g.font = "12px system-ui, sans-serif";
  for (let k = 0; k <= 4; k++) {
    g.textAlign = k === 0 ? "left" : k === 4 ? "right" : "center";
    const value = 10 ** (low + k / 4 * (high - low));
    g.fillText(value.toPrecision(3), k / 4 * width, height - 6);
  }
  g.textAlign = "left"; g.fillText(`${most} singular values`, 0, 11);
}
files.forEach((file, i) => {
  histogram(document.getElementById(`histogram-${i}`), file);
  heat(document.getElementById(`heat-${i}`), file);
});
"""


def inspection_page(reports: Sequence[LoraReport]) -> str:
    """Create an HTML page about one or more files."""
    parts = [_file(report, place) for place, report in enumerate(reports)]
    numbers = json.dumps([_numbers(report) for report in reports], allow_nan=False)
    # Escape "</", so that no name can close the script element.
    numbers = numbers.replace("<", "\\u003c")
    names = ", ".join(report.file.path.name for report in reports)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(names)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{''.join(parts)}<div id='tip'></div>\n"
        f'<script id="numbers" type="application/json">{numbers}</script>\n'
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _file(report: LoraReport, place: int) -> str:
    facts = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{html.escape(text)}</td></tr>"
        for label, text in facts_of(report).items()
    )
    gray = "Layers with NaN or infinity are gray." if report.not_finite else ""
    return (
        f"<h1>{html.escape(report.file.path.name)}</h1>\n"
        f"<table class='facts'>{facts}</table>\n{_faults(report)}"
        "<h2>Sections</h2>\n" + _sections(report) + "<h2>Singular values</h2>\n"
        f"<canvas id='histogram-{place}' role='img' aria-label='histogram'></canvas>\n"
        "<h2>Spectrum of each layer</h2>\n"
        "<p>A row for each layer, a column for each singular value, largest first. "
        f"{gray}</p>"
        "<div class='legend'>1/1000 of the largest <span></span> largest</div>\n"
        f"<div class='plot'><canvas id='heat-{place}' role='img' "
        "aria-label='heat map'></canvas></div>\n"
    )


def _sections(report: LoraReport) -> str:
    rows = ["".join(f"<th>{head}</th>" for head in ("Section", *SUMMARY_HEADS))]
    for name, part in (*report.sections.items(), ("all", report.total)):
        cells = [html.escape(name), *summary_cells(part)]
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>\n"


def _faults(report: LoraReport) -> str:
    lines = [html.escape(remark) for remark in report.remarks]
    for label, names in defects_of(report).items():
        lines.append(f"{label}: {html.escape(', '.join(names))}")
    return "".join(f"<p class='mark'>{line}</p>\n" for line in lines)


def _numbers(report: LoraReport) -> dict[str, Any]:
    return {
        "layers": [
            {
                "name": layer.name,
                "section": layer.section,
                "s": [_short(x) for x in layer.spectrum],
            }
            for layer in report.layers
        ]
    }


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
