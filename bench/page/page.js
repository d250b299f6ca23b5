// The page: its head, a section a workload, and what it does when it is resized, printed or coloured otherwise.

// What is plotted if it was measured; the tables have the rest. With ratios for those that are compared most.
const PLOTTED = ["rate", "cpu", "p50", "p99", "syscalls", "bytes", "add", "restart", "cancel", "fire"];
const COMPARED = ["rate", "cpu"];
const AXES = { "1/s": "a second", ns: "time", us: "time", B: "memory", calls: "number" };

const redraws = [];

function addPlot(plots, family, name, kind) {
  const rows = rowsOf(family, name, kind);
  if (rows.length === 0) return;
  const { unit, more_is_better: more } = metrics.get(name);
  const base = family.cells[0].series[0].subject, what = describe(name, family.cells[0]);
  const wanted = more ? "more is better" : "less is better";
  const ratio = kind === "ratios";
  const plot = {
    kind, unit, label: family.label, growthUnit: growthUnit(family),
    axis: ratio ? `${name}, ratio to ${base}` : `${name}, ${AXES[unit] ?? unit}`,
    caption: ratio ? `${name}: ratio to ${base}` : `${name}: ${what}`,
  };
  const wide = rows.filter((row) => row.wide).length;
  const figure = plots.append("figure").attr("data-metric", name).attr("data-kind", kind);
  const caption = figure.append("figcaption").text(plot.caption);
  const about = caption.append("span").text(ratio ? `in each round; at 1 it is the same; ${wanted}` : wanted);
  if (wide > 0) about.append(() => document.createTextNode("; "));
  if (wide > 0) about.append("strong").attr("class", "wide").text(`wide: ${wide} of ${rows.length}`);
  redraws.push(() => drawPlot(figure.node(), rows, plot));
}

function addFamily(section, family) {
  const part = section.append("section").attr("data-workload", family.workload).attr("class", "family");
  part.append("h3").text(family.title);
  if (family.sweep !== undefined) {
    const { seconds } = family.cells[0].job;
    const rounds = d3.max(family.cells.flatMap((cell) => cell.series), (series) => series.round_count);
    part.append("p").attr("class", "about")
      .text(`${rounds} round${rounds === 1 ? "" : "s"} of ${seconds} s. `
        + "Both axes are logarithmic, unless a value is 0. "
        + "Points that belong to the same place are drawn side by side, so that their bars can be seen.");
    const measured = family.cells.flatMap((cell) => cell.series.filter((series) => series.round_count > 0));
    part.node().append(legendOf([...new Set(measured.map((series) => series.subject))]));
  }
  const plots = part.append("div").attr("class", "plots");
  for (const name of PLOTTED) {
    addPlot(plots, family, name, "values");
    if (COMPARED.includes(name)) addPlot(plots, family, name, "ratios");
  }
  part.node().append(tableOf(family));
}

function addHead() {
  const head = d3.select("#head");
  const add = (name, text) => {
    head.append("dt").text(name);
    return head.append("dd").append(name === "command" ? "code" : "span").text(text);
  };
  for (const name of ["command", "started", "machine", "kernel", "compiler", "library"]) add(name, report[name] ?? "");
  const all = report.cells.flatMap((cell) => cell.series);
  const versions = new Map(all.map(({ subject, version }) => [subject, version]));
  add("subjects", [...versions].map(([subject, version]) => (version ? `${subject} ${version}` : subject)).join(", "));
  document.title = `p2p-bench, ${report.started}, ${report.machine}`;
  d3.select("#wide").text(`${Math.round(report.wide_above * 100)} %`);
  if (report.notes.length === 0) d3.select("#notes").remove();
  d3.select("#notes ul").selectAll("li").data(report.notes).join("li").text((note) => note);
}

function addWorkloads() {
  const all = d3.select("#workloads"), contents = d3.select("#contents");
  for (const [workload, cells] of d3.groups(report.cells, (cell) => cell.job.workload)) {
    const section = all.append("section").attr("id", `workload-${workload}`);
    section.append("h2").text(workload);
    contents.append("li").append("a").attr("href", `#workload-${workload}`).text(workload);
    for (const family of familiesOf(workload, cells)) addFamily(section, family);
  }
}

// The system's choice, until the button was used.
function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)"), button = document.getElementById("theme");
  let chosen;
  const show = () => {
    const dark = chosen ?? system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light colours" : "Dark colours";
  };
  button.addEventListener("click", () => {
    chosen = !(chosen ?? system.matches);
    show();
  });
  system.addEventListener("change", show);
  show();
}

function startDrawing() {
  let width;
  const draw = () => {
    if (width === document.body.clientWidth) return;
    width = document.body.clientWidth;
    redraws.forEach((redraw) => redraw());
  };
  draw();
  addEventListener("resize", () => requestAnimationFrame(draw));
}

startTheme();
addHead();
addWorkloads();
startDrawing();
