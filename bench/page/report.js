// The report, and its cells in families: what differs in one number only goes into one plot.
const report = JSON.parse(document.getElementById("report").textContent);
const metrics = new Map(report.metrics.map((metric) => [metric.name, metric]));
const subjects = [...new Set(report.cells.flatMap((cell) => cell.series.map((series) => series.subject)))];

const SCALES = {
  "1/s": [1000, "/s", "k/s", "M/s", "G/s"],
  ns: [1000, "ns", "us", "ms", "s"],
  us: [1000, "us", "ms", "s"],
  B: [1024, "B", "KiB", "MiB", "GiB"],
  "%": [1000, "%"],
  calls: [1000, ""],
  "": [1000, "", "k", "M", "G"],
};

// 1.23 M/s, as the tables of the program have it
function show(value, unit, digits = (scaled) => scaled.toFixed(scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0)) {
  const [step, ...names] = SCALES[unit] ?? [1000, unit];
  let name = 0;
  for (; value >= step - 0.5 && name + 1 < names.length; name++) value /= step;
  return `${digits(value)} ${names[name]}`.trim();
}

const showTick = (unit) => (value) => (value === 0 ? "0" : show(value, unit, (scaled) => `${+scaled.toPrecision(3)}`));
const showRatio = (value) => value.toFixed(value < 0.1 ? 3 : 2);

// What grows from cell to cell, in a table: 10,000 or 16 KiB
const GROWTH_UNITS = { size: "B", rate_target: "1/s" };
const growthUnit = (family) => GROWTH_UNITS[family.sweep] ?? "";
const showGrown = (family, value) => (growthUnit(family) ? showTick(growthUnit(family))(value) : d3.format(",")(value));

// A metric in words: "processor time of the server, a delivery"
function describe(name, cell) {
  const unit = cell.unit ?? "message";
  if (name === "rate") return `${unit === "delivery" ? "deliveries" : `${unit}s`} a second`;
  return metrics.get(name).text.replace(/\ba message\b/, `${/^[aeiou]/.test(unit) ? "an" : "a"} ${unit}`);
}

const numberNames = (cells) => [...new Set(cells.flatMap((cell) => cell.numbers.map((number) => number.name)))];
const numberOf = (cell, name) => cell.numbers.find((number) => number.name === name);
// "100 active" is left unsaid in a cell that has 100 connections.
const textOf = (cell, name) => numberOf(cell, name)?.text ?? (cell.job[name] > 0 ? `${cell.job[name]} ${name}` : "");

// The number that the cells of a workload differ in most: its name, or undefined if they don't differ.
function sweepOf(cells) {
  const differing = (name) => new Set(cells.map((cell) => cell.job[name]).filter((value) => value > 0)).size;
  const most = d3.greatest(numberNames(cells).reverse(), differing);
  return most !== undefined && differing(most) > 1 ? most : undefined;
}

// -> [{workload, title, cells}], and of several cells: {sweep: name of the number, label: in words}
function familiesOf(workload, cells) {
  const sweep = sweepOf(cells);
  const others = numberNames(cells).filter((name) => name !== sweep);
  const families = d3.groups(cells, (cell) => {
    const rest = others.map((name) => textOf(cell, name)).filter((text) => text !== "").join(", ");
    return sweep === undefined ? cell : cell.job[sweep] > 0 ? rest : `without: ${rest}`;
  });
  return families.map(([rest, own]) => {
    if (own.length === 1) return { workload, cells: own, title: own[0].title };
    const label = own.map((cell) => numberOf(cell, sweep)?.label).find(Boolean);
    return { workload, cells: own, sweep, label, title: `${workload}: by ${label}${rest && `, ${rest}`}` };
  });
}

// What a plot shows: a row for every subject of every cell that has the metric. kind: "values" or "ratios"
function rowsOf(family, name, kind) {
  const rows = [];
  for (const cell of family.cells) {
    cell.series.forEach((series, index) => {
      const spread = series[kind][name];
      if (spread === undefined || (kind === "ratios" && index === 0)) return;
      rows.push({ subject: series.subject, x: cell.job[family.sweep], ...spread });
    });
  }
  return rows;
}
