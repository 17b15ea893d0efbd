"""The style sheet of the report: light and dark, screen and print, no web fonts."""

THEME = """
:root {
  color-scheme: light dark;
  --page: #f6f6f4; --card: #fff; --ink: #1b1c1e; --soft: #5d6168; --line: #e3e3df; --axis: #a9abae;
  --c1: #2563c4; --c2: #0b8474; --c3: #c4590c; --c4: #8a46b8; --c5: #6c7078;
  --warn: #8a5000; --warnbg: #fff6e3; --warnline: #ecc878; --track: #efefec; --limit: #b3261e;
}
@media (prefers-color-scheme: dark) { :root {
  --page: #131416; --card: #1c1e21; --ink: #e9e9e6; --soft: #a2a6ad; --line: #303338; --axis: #63676d;
  --c1: #6ea3f7; --c2: #3dbfa9; --c3: #ea9857; --c4: #c99bf0; --c5: #9a9fa8;
  --warn: #f2c66d; --warnbg: #2b2414; --warnline: #6b561f; --track: #27292d; --limit: #ff8a80;
} }
"""

TEXT = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 25px; line-height: 1.25; margin: 2px 0 8px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 38px 0 2px; }
h3 { font-size: 14px; margin: 0; font-weight: 600; }
p { margin: 4px 0 10px; max-width: 78ch; }
pre, code { font: 12.5px/1.45 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { margin: 0; white-space: pre-wrap; unicode-bidi: plaintext; max-height: 16em; overflow-y: auto; }
summary { cursor: pointer; color: var(--soft); }
details { margin-top: 10px; }
.soft, .note, .over, .empty { color: var(--soft); }
.note, .over, .empty { font-size: 13px; }
.note { margin: 0 0 6px; }
.over { margin: 0; }
.empty { padding: 26px 0; }
"""

BOXES = """
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 250px), 1fr)); gap: 12px;
  margin-top: 18px; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; min-width: 0; }
.tile { padding: 10px 14px; }
.tile .name, .tile .more { color: var(--soft); font-size: 12.5px; }
.tile .big { font-size: 20px; font-weight: 600; line-height: 1.4; font-variant-numeric: tabular-nums; }
.card { padding: 12px 16px 10px; }
.card.wide { margin-top: 10px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px;
  margin-top: 10px; }
.cards.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px;
  background: currentColor; vertical-align: -1px; }
.legend b { font-weight: 400; color: var(--soft); }
.warnings { margin-top: 18px; }
.warnings > div { background: var(--warnbg); border: 1px solid var(--warnline); border-left-width: 4px;
  border-radius: 6px; padding: 8px 14px; margin-bottom: 8px; }
.warnings b { color: var(--warn); font-weight: 600; }
.flow { display: flex; height: 26px; border-radius: 5px; overflow: hidden; background: var(--track);
  margin: 8px 0; gap: 1px; }
.flow span { background: currentColor; min-width: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: var(--soft); font-weight: 500; white-space: nowrap; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; width: 7em; }
table.samples { min-width: 760px; table-layout: fixed; }
table.samples th:nth-child(1), table.samples th:nth-child(4) { width: 16%; }
table.samples th:nth-child(2) { width: 26%; }
table.samples td { overflow-wrap: anywhere; }
@media print { body { background: #fff; } .card, .tile, tr { break-inside: avoid; } pre { max-height: none; } }
"""

CHARTS = """
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.small svg text { font-size: 16px; }
svg text.value { fill: var(--ink); font-size: 12.5px; }
svg text.readout { fill: var(--ink); font-weight: 600; }
.c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); }
line.grid { stroke: var(--line); }
line.axis { stroke: var(--axis); }
line.guide { stroke: var(--axis); stroke-dasharray: 2 3; }
line.limit { stroke: var(--limit); stroke-dasharray: 5 4; }
line.error { stroke: currentColor; stroke-width: 1.5; }
line.evaluation { stroke: var(--ink); stroke-dasharray: 2 3; opacity: .55; }
line.restart { stroke: var(--limit); stroke-width: 2; }
svg text.limit { fill: var(--limit); }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.band { fill: currentColor; opacity: .15; }
.bar { fill: var(--c1); }
.track { fill: var(--track); }
.fill { fill: currentColor; shape-rendering: crispEdges; }
.hit, .hover rect { fill: transparent; }
circle { fill: currentColor; stroke: var(--card); stroke-width: 1; }
.hover > g, .span .readout { visibility: hidden; pointer-events: none; }
.hover:hover > g, .span:hover .readout { visibility: visible; }
.span:hover .fill { opacity: .7; }
"""

CSS = THEME + TEXT + BOXES + CHARTS
