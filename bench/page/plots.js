// A family's plots: a dot a subject where there is one cell, a line a subject where there are several.

// Never by colour alone: subjects differ in shape, in being filled or hollow, and in the dashes of their lines.
const SHAPES = ["circle", "square", "triangle", "diamond", "star", "cross", "wye"];
const DASHES = ["none", "7 3", "2 3", "9 3 2 3", "12 4"];

function styleOf(subject) {
  const index = subjects.indexOf(subject);
  const turn = Math.floor(index / SHAPES.length);
  const color = `var(--c${index % 7})`;
  const symbol = SHAPES[(index + turn) % SHAPES.length];
  const fill = turn % 2 === 1 ? "var(--paper)" : color;
  return { color, symbol, fill, dash: DASHES[(index + turn) % DASHES.length] };
}

const dot = (rows, subject, channels) => {
  const { color, symbol, fill } = styleOf(subject);
  return Plot.dot(rows, { ...channels, symbol, fill, stroke: color, strokeWidth: 1.5, r: 4, className: "median" });
};

// Round numbers from low to high that a logarithmic axis has room for.
function logTicks(low, high, most) {
  if (high / low < 10) return ticksAtMost(low, high, most);
  const decades = d3.range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1).map((power) => 10 ** power);
  const within = (ticks) => ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  const stepped = (steps) => within(decades.flatMap((ten) => steps.map((step) => step * ten)));
  const candidates = [[1, 2, 5], [1, 3], [1]].map(stepped);
  for (let every = 2; every <= 4; every++) candidates.push(within(decades.filter((_, i) => i % every === 0)));
  return candidates.find((ticks) => ticks.length <= most) ?? candidates.at(-1);
}

// d3 takes a number of ticks for a hint. Here it is the most, and there are two at least.
function ticksAtMost(low, high, most) {
  const candidates = d3.range(most, 0, -1).map((count) => d3.ticks(low, high, count));
  const found = candidates.find((ticks) => ticks.length >= 2 && ticks.length <= most);
  return found ?? d3.extent(d3.ticks(low, high, 4));
}

// Round numbers of bytes are powers of 1024 times round numbers.
function linearTicks(high, most, unit) {
  const step = unit === "B" ? 1024 ** Math.floor(Math.log(high) / Math.log(1024)) : 1;
  return ticksAtMost(0, high / step, most).map((tick) => tick * step);
}

// Of the values themselves, those that leave room for the next one, on a logarithmic axis.
function ticksAt(values, most) {
  const sorted = d3.sort(new Set(values)), apart = Math.log(sorted.at(-1) / sorted[0]) / most;
  const kept = [];
  for (const value of sorted) if (kept.length === 0 || Math.log(value / kept.at(-1)) >= apart) kept.push(value);
  return kept;
}

// A scale's options without the text at its ticks, and how that is written. (Plot would leave out some of it.)
// Ratios are on a logarithmic scale, where half and twice are equally far from 1.
function valueScale(rows, { kind, unit, log }, most) {
  const low = d3.min(rows, (row) => row.min), high = d3.max(rows, (row) => row.max);
  const text = kind === "ratios" ? (value) => `${+value.toPrecision(3)}` : showTick(unit);
  if ((kind === "ratios" || log) && low > 0) {
    const [first, last] = kind === "ratios" ? [Math.min(low, 1), Math.max(high, 1)] : [low, high];
    const domain = [first / 1.04, last * 1.04];
    return [{ type: "log", domain, ticks: logTicks(...domain, most), grid: true }, text];
  }
  const top = high > 0 ? high * 1.04 : 1;
  return [{ type: "linear", domain: [Math.min(0, low), top], ticks: linearTicks(top, most, unit), grid: true }, text];
}

const tipText = ({ kind, unit }) => (row) => {
  const text = (value) => (kind === "ratios" ? showRatio(value) : show(value, unit));
  const spread = row.count > 1 ? `\n${text(row.min)} to ${text(row.max)}, ${row.count} rounds` : "\none round";
  return `${row.subject}: ${text(row.median)}${spread}${row.wide ? "\nwide" : ""}`;
};

function sameAsBase(mark, { kind }) {
  if (kind !== "ratios") return [];
  return [mark([1], { stroke: "var(--faint)", strokeDasharray: "4 3", className: "same" })];
}

function dotPlot(rows, plot, width) {
  const names = rows.map((row) => row.subject);
  const shortened = (name) => (name.length > 20 ? `${name.slice(0, 19)}\u2026` : name);
  const marginLeft = 16 + 6.4 * d3.max(names, (name) => shortened(name).length);
  const tickWidth = plot.kind === "ratios" ? 36 : 45;
  const [x, text] = valueScale(rows, plot, Math.min(8, Math.floor((width - marginLeft) / tickWidth)));
  return Plot.plot({
    width, height: 48 + 26 * names.length, marginTop: 8, marginBottom: 38, marginRight: 24, marginLeft, x,
    y: { domain: names, label: null, tickFormat: shortened },
    ariaLabel: plot.caption,
    marks: [
      Plot.axisX(x.ticks, { text, label: plot.axis, labelAnchor: "center", labelArrow: "none" }),
      ...sameAsBase(Plot.ruleX, plot),
      ...rows.flatMap((row) => {
        const stroke = styleOf(row.subject).color;
        return [
          Plot.ruleY([row], { y: "subject", x1: "min", x2: "max", stroke, strokeWidth: 2, className: "spread" }),
          dot([row], row.subject, { x: "median", y: "subject" }),
        ];
      }),
      Plot.tip(rows, Plot.pointerY({ x: "median", y: "subject", title: tipText(plot), fill: "var(--paper)" })),
    ],
  });
}

function linePlot(rows, plot, width) {
  const groups = d3.groups(rows, (row) => row.subject);
  const [y, text] = valueScale(rows, { ...plot, log: true }, 7);
  const x = { type: "log", domain: d3.extent(rows, (row) => row.x), inset: 14 };
  const xTicks = ticksAt(rows.map((row) => row.x), width < 400 ? 6 : 9);
  const xText = showTick(plot.growthUnit);
  return Plot.plot({
    width, height: 300, marginLeft: 62, marginTop: 26, marginBottom: 38, marginRight: 16, x, y,
    ariaLabel: plot.caption,
    marks: [
      Plot.axisX(xTicks, { text: xText, label: plot.label, labelAnchor: "center", labelArrow: "none" }),
      Plot.axisY(y.ticks, { text, label: plot.axis, labelArrow: "none" }),
      ...sameAsBase(Plot.ruleY, plot),
      ...groups.flatMap(([subject, own], index) => {
        const { color: stroke, dash: strokeDasharray } = styleOf(subject);
        const dx = (index - (groups.length - 1) / 2) * Math.min(4, 20 / groups.length); // so that bars can be seen
        const sorted = d3.sort(own, (row) => row.x);
        return [
          Plot.ruleX(sorted, { x: "x", y1: "min", y2: "max", dx, stroke, strokeWidth: 1.5, className: "spread" }),
          Plot.line(sorted, { x: "x", y: "median", dx, stroke, strokeDasharray, strokeWidth: 1.5 }),
          dot(sorted, subject, { x: "x", y: "median", dx }),
        ];
      }),
      Plot.tip(rows, Plot.pointer({ x: "x", y: "median", title: tipText(plot), fill: "var(--paper)" })),
    ],
  });
}

function drawPlot(figure, rows, plot) {
  const width = Math.max(240, Math.floor(figure.clientWidth));
  const svg = (plot.label === undefined ? dotPlot : linePlot)(rows, plot, width);
  svg.setAttribute("role", "img");
  figure.querySelector("svg")?.remove();
  figure.append(svg);
}

// Shape, colour and dashes of each subject, where they are not named at an axis.
function legendOf(names) {
  const list = d3.create("ul").attr("class", "legend");
  for (const name of names) {
    const { color, symbol, fill, dash } = styleOf(name);
    const item = list.append("li");
    const svg = item.append("svg").attr("width", 44).attr("height", 14).attr("aria-hidden", "true");
    svg.append("line").attr("x1", 0).attr("x2", 44).attr("y1", 7).attr("y2", 7).attr("stroke", color)
      .attr("stroke-width", 1.5).attr("stroke-dasharray", dash);
    svg.append("path").attr("transform", "translate(22,7)").attr("fill", fill).attr("stroke", color)
      .attr("stroke-width", 1.5)
      .attr("d", d3.symbol(d3[`symbol${symbol[0].toUpperCase()}${symbol.slice(1)}`], 50)());
    item.append("span").text(name);
  }
  return list.node();
}
