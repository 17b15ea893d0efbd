
"use strict";
// The page of a run: draws its charts and, where a controller serves it, keeps up with the run.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const plots = new Map(); // box of the page -> {plot, chart}
  const SILENT_MS = 10000; // the controller tells something every two seconds
  const RETRY_MS = 3000;

  // ---- numbers as people read them, as actors/report/units.py has them

  const number = (value) => {
    const size = Math.abs(value);
    for (const [limit, letter] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]])
      if (size >= limit * 10 || (size >= limit && limit > 1e3)) return +(value / limit).toPrecision(3) + letter;
    return size && size < 1e-4 ? value.toExponential(1) : String(+value.toPrecision(size >= 1000 ? 4 : 3));
  };
  const duration = (value) =>
    Math.abs(value) < 1 ? +(value * 1000).toPrecision(3) + " ms"
      : value < 60 ? +value.toPrecision(3) + " s" : +(value / 60).toPrecision(3) + " min";
  const share = (value) => +(value * 100).toPrecision(3) + "%";
  const clock = (seconds) => {
    const two = (n) => String(n).padStart(2, "0"), all = Math.round(seconds), minutes = Math.floor(all / 60);
    const rest = two(all % 60);
    return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
  };
  const units = { number, duration, share };
  const place = (chart, x) => (chart.x === "time" ? clock(x) : String(Math.round(x)));

  // ---- charts

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const FONT = '11.5px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
  const COUNTS = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1e3, 2e3, 2500, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6];

  // Shares that add up: each line stands on those after it.
  const piled = (lines) => lines.map((line, i) => line.ys.map((_, at) =>
    lines.slice(i).reduce((sum, each) => sum + (each.ys[at] ?? 0), 0)));
  const columns = (chart) => chart.kind === "pile" ? [chart.xs, ...piled(chart.lines)]
    : [chart.xs, ...chart.lines.flatMap((line) => [line.ys, ...(line.band || [])])];
  const shape = (chart) => JSON.stringify([chart.kind, chart.marks, chart.lines.map((l) => [l.label, !!l.band])]);

  function series(chart) {
    // Without a cursor the legend says the latest value.
    const told = (text) => (u, value, i, at) => {
      if (at == null && chart.kind !== "bars") value = u.data[i].findLast((each) => each != null);
      return value == null ? "–" : text(value);
    };
    const found = [{ label: chart.x, value: told((x) => place(chart, x)) }];
    const bands = [], pile = chart.kind === "pile";
    const own = (text) => (u, value, i, at) => {
      const ys = chart.lines[i - 1].ys, said = at == null ? ys.findLast((each) => each != null) : ys[at];
      return said == null ? "–" : text(said);
    };
    const single = chart.xs.length === 1;
    for (const line of chart.lines) {
      const colour = css(`--c${line.colour}`), bars = chart.kind === "bars", at = found.length;
      const last = line === chart.lines[chart.lines.length - 1];
      const filled = bars ? colour : chart.kind === "area" ? colour + "55" : pile && last ? colour + "aa" : undefined;
      found.push({
        label: line.label, stroke: colour, width: chart.kind === "area" || pile ? 1 : 2, spanGaps: true, fill: filled,
        value: (pile ? own : told)(units[chart.unit]),
        paths: bars ? uPlot.paths.bars({ size: [0.7, 72], radius: 0.05 }) : undefined,
        points: { show: !bars && (chart.kind === "dots" || single), size: 7, fill: colour },
      });
      if (pile && !last) bands.push({ series: [at, at + 1], fill: colour + "aa" });
      if (pile || !line.band) continue;
      const edge = { class: "edge", width: 0, spanGaps: true, stroke: "transparent", points: { show: false } };
      found.push({ ...edge, label: "low" }, { ...edge, label: "high" });
      bands.push({ series: [at + 2, at + 1], fill: colour + "26" });
    }
    return { found, bands };
  }

  function vertical(chart, low, high) {
    if (low == null) [low, high] = [0, 1];
    if (high <= low) high = low + (Math.abs(low) || 1);
    const pad = (high - low) * 0.08;
    const bottom = chart.low ?? low - pad;
    return [bottom, chart.high ?? Math.max(high + pad, bottom + 1e-9)];
  }

  function horizontal(chart, low, high) {
    if (chart.kind === "bars") return [chart.xs[0] - 0.5, chart.xs[chart.xs.length - 1] + 0.5];
    return low == null ? [0, 1] : high > low ? [low, high] : [low - 1, low + 1];
  }

  function drawMarks(plot, chart) {
    const { ctx, bbox } = plot, dense = devicePixelRatio;
    let line = 0; // each text has a line of its own: rules may stand close
    ctx.save();
    for (const [x, text] of chart.marks) {
      const left = Math.round(plot.valToPos(x, "x", true));
      if (left < bbox.left || left > bbox.left + bbox.width) continue;
      const restart = text.startsWith("restart"), bound = text.startsWith("bound");
      ctx.strokeStyle = ctx.fillStyle = restart || bound ? css("--limit") : css("--ink");
      ctx.globalAlpha = restart || bound ? 1 : 0.5;
      ctx.lineWidth = (restart ? 2 : 1) * dense;
      ctx.setLineDash(restart ? [] : [4 * dense, 3 * dense]);
      ctx.beginPath();
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bbox.top + bbox.height);
      ctx.stroke();
      if (chart.x === "time") continue; // as many as there are evaluations: they are told where one points
      ctx.font = FONT.replace("11.5", String(11.5 * dense));
      ctx.globalAlpha = 1;
      const before = left - bbox.left > bbox.width / 2;
      ctx.textAlign = before ? "right" : "left";
      ctx.fillText(text, left + (before ? -5 : 5) * dense, bbox.top + (12 + 14 * line++) * dense);
    }
    ctx.restore();
  }

  function nearMark(plot, chart, box) {
    const near = chart.marks.filter(([x]) => Math.abs(plot.valToPos(x, "x") - plot.cursor.left) < 6);
    box.title = near.map(([x, text]) => (chart.x === "time" ? `${clock(x)} ${text}` : text)).join(", ");
  }

  function options(box, chart) {
    const { found, bands } = series(chart), bars = chart.kind === "bars";
    const axis = { stroke: css("--soft"), font: FONT, ticks: { show: false } };
    const wide = (plot, values) => 14 + 7 * Math.max(3, ...(values || []).map((text) => String(text ?? "").length));
    return {
      width: box.clientWidth, height: +box.dataset.height, series: found, bands, padding: [10, 14, 0, 0],
      scales: {
        x: { time: false, range: (u, low, high) => horizontal(chart, low, high) },
        y: { range: (u, low, high) => vertical(chart, low, high) },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 26, space: 60, incrs: chart.x === "time" ? TIMES : COUNTS,
          values: (u, splits) => splits.map((x) => (Number.isInteger(x) ? place(chart, x) : "")) },
        { ...axis, grid: { stroke: css("--line"), width: 1 }, size: wide, space: 36,
          values: (u, splits) => splits.map(units[chart.unit]) },
      ],
      cursor: {
        // Charts of one axis share the cursor, and each is zoomed by itself: what is dragged is as wide as its chart.
        sync: { key: chart.x, scales: ["x", null], filters: { pub: (type) => /^mouse(move|leave)$/.test(type) } },
        y: false, drag: { x: !bars, y: false }, points: { size: 8 },
      },
      legend: { markers: { width: 0, fill: (u, i) => found[i].stroke } },
      hooks: {
        draw: [(u) => drawMarks(u, chart)],
        setCursor: [(u) => nearMark(u, chart, box)],
        setSeries: [(u, i, change) => {
          if (i == null || change.show == null || !found[i + 1] || found[i].class === "edge") return;
          for (const edge of [i + 1, i + 2])
            if (found[edge] && found[edge].class === "edge") u.setSeries(edge, { show: change.show });
        }],
      },
    };
  }

  function draw(box) {
    plots.get(box)?.plot.destroy();
    plots.delete(box);
    box.replaceChildren();
    const chart = JSON.parse(data[`chart/${box.dataset.chart}`]);
    if (!chart.xs.length) {
      box.textContent = "No values yet.";
      box.classList.add("empty");
      return;
    }
    box.classList.remove("empty");
    const plot = new uPlot(options(box, chart), columns(chart), box);
    plots.set(box, { plot, chart });
    for (const head of box.querySelectorAll(".u-series:not(.edge) th")) head.tabIndex = 0;
  }

  function redraw(box) {
    const drawn = plots.get(box), chart = JSON.parse(data[`chart/${box.dataset.chart}`]);
    if (!drawn || shape(drawn.chart) !== shape(chart)) return draw(box);
    const { min, max } = drawn.plot.scales.x, old = drawn.chart.xs;
    const zoomed = chart.kind !== "bars" && old.length > 1 && min != null && (min > old[0] || max < old[old.length - 1]);
    Object.assign(drawn.chart, chart);
    drawn.plot.batch(() => {
      drawn.plot.setData(columns(chart), !zoomed);
      if (zoomed) drawn.plot.setScale("x", { min, max });
    });
  }

  const sizes = new ResizeObserver((entries) => {
    for (const { target: box } of entries) {
      if (!box.clientWidth || !box.isConnected) continue; // in a part that is closed, or gone
      const drawn = plots.get(box);
      if (!drawn) draw(box);
      else if (drawn.plot.width !== box.clientWidth)
        drawn.plot.setSize({ width: box.clientWidth, height: +box.dataset.height });
    }
  });

  // A policy that forbids style attributes leaves widths to the script.
  function settle(part) {
    for (const each of part.querySelectorAll("[data-grow]")) each.style.flexGrow = each.dataset.grow;
    for (const box of part.querySelectorAll("[data-chart]")) sizes.observe(box);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...plots.keys()].forEach(draw));

  // ---- keyboard

  function zoom(plot, xs, factor) {
    const { min, max } = plot.scales.x, at = xs[plot.cursor.idx] ?? (min + max) / 2;
    plot.setScale("x", {
      min: Math.max(xs[0], at - (at - min) * factor), max: Math.min(xs[xs.length - 1], at + (max - at) * factor),
    });
  }

  function move(plot, chart, by) {
    const { min, max } = plot.scales.x;
    let at = plot.cursor.idx == null ? (by > 0 ? -1 : chart.xs.length) : plot.cursor.idx;
    do at += by; while (chart.xs[at] < min);
    if (!(chart.xs[at] <= max)) return;
    plot.setCursor({ left: plot.valToPos(chart.xs[at], "x"), top: plot.over.clientHeight / 2 });
    const values = chart.lines.filter((l) => l.ys[at] != null).map((l) => `${l.label} ${units[chart.unit](l.ys[at])}`);
    document.getElementById("readout").textContent = `${chart.x} ${place(chart, chart.xs[at])}: ${values.join(", ")}`;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches(".u-series th") && (event.key === "Enter" || event.key === " ")) {
      event.target.click();
      event.preventDefault();
    }
    const drawn = plots.get(event.target);
    if (!drawn) return;
    const { plot, chart } = drawn, still = chart.kind === "bars" || chart.xs.length < 2;
    const keys = {
      ArrowLeft: () => move(plot, chart, -1), ArrowRight: () => move(plot, chart, 1),
      "+": () => still || zoom(plot, chart.xs, 0.6), "=": () => still || zoom(plot, chart.xs, 0.6),
      "-": () => still || zoom(plot, chart.xs, 1 / 0.6),
      Escape: () => still || plot.setScale("x", { min: chart.xs[0], max: chart.xs[chart.xs.length - 1] }),
    };
    if (!keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
  });

  // ---- a run that goes on

  function replace(name, markup) {
    const part = document.querySelector(`[data-part="${name}"]`);
    const open = [...part.querySelectorAll("details[open]")].map((each) => each.id);
    const focused = part.contains(document.activeElement) ? document.activeElement.dataset.chart : undefined;
    for (const box of part.querySelectorAll("[data-chart]")) {
      sizes.unobserve(box);
      plots.get(box)?.plot.destroy();
      plots.delete(box);
    }
    part.innerHTML = markup; // the template that made it escapes
    for (const id of open) part.querySelector(`#${id}`)?.setAttribute("open", "");
    settle(part);
    if (focused) part.querySelector(`[data-chart="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  function update(changed) {
    for (const [name, text] of Object.entries(changed)) if (!name.startsWith("part/")) data[name] = text;
    for (const [name, text] of Object.entries(changed)) if (name.startsWith("part/")) replace(name.slice(5), text);
    for (const box of [...plots.keys()]) if (`chart/${box.dataset.chart}` in changed) redraw(box);
    for (const box of document.querySelectorAll(".chart.empty"))
      if (`chart/${box.dataset.chart}` in changed) draw(box);
  }

  function follow(link) {
    let source, heard = Date.now(), away = false;
    const tell = (state, text) => {
      if (link.textContent === text) return;
      link.className = state;
      link.textContent = text;
    };
    const lost = () => {
      if (away) return;
      away = true;
      const since = new Date(heard).toLocaleTimeString([], { hour12: false });
      tell("away", JSON.parse(data.ended)
        ? "The run has ended and its controller is gone. This is how it ended; report.html in the run folder shows the same."
        : `The controller has not answered since ${since}. This is what it said last; the page goes on by itself once it is back.`);
    };
    const listen = () => {
      source?.close();
      source = new EventSource("events");
      source.onmessage = (event) => {
        heard = Date.now();
        away = false;
        update(JSON.parse(event.data));
        tell("live", JSON.parse(data.ended) ? "The run has ended." : "Live: this page keeps up with the run.");
      };
      source.onerror = lost;
    };
    listen();
    let tried = Date.now();
    setInterval(() => {
      const silent = Date.now() - heard > SILENT_MS;
      if (silent) lost();
      // A browser gives up for good where it was refused, and never notices a connection that is cut without a word.
      if ((source.readyState === EventSource.CLOSED || silent) && Date.now() - tried > SILENT_MS) {
        tried = Date.now();
        listen();
      }
    }, RETRY_MS);
  }

  document.querySelectorAll("[data-part]").forEach(settle);
  const link = document.getElementById("link");
  if (link) follow(link);
})();
