// A family's table: a line for every subject of every cell, sorted by a click on a heading.

// -> [{heading, text: (row) => string, key: (row) => what to sort by, descending: what the first click does}]
function columnsOf(family) {
  const columns = [];
  const add = (heading, text, key, options = {}) => columns.push({ heading, text, key, ...options });
  const isText = { isText: true };
  if (family.sweep !== undefined) {
    const value = ({ cell }) => cell.job[family.sweep];
    add(family.label, (row) => showGrown(family, value(row)), value);
  }
  add("subject", ({ series }) => series.subject, ({ series }) => series.subject, isText);
  add("version", ({ series }) => series.version ?? "", ({ series }) => series.version, isText);
  for (const [name, { unit, more_is_better: descending }] of metrics) {
    const all = family.cells.flatMap((cell) => cell.series);
    if (!all.some((series) => series.values[name])) continue;
    const value = ({ series }) => series.values[name];
    add(name, (row) => (value(row) ? show(value(row).median, unit) : ""), (row) => value(row)?.median, { descending });
    if (name !== "rate" && name !== "cpu") continue;
    const ratio = ({ series, cell }) => (series === cell.series[0] ? undefined : series.ratios[name]);
    if (!family.cells.some((cell) => cell.series.some((series) => ratio({ series, cell })))) continue;
    const bases = new Set(family.cells.map((cell) => cell.series[0].subject));
    const of = bases.size === 1 ? [...bases][0] : "base";
    const options = { descending, isText: true, name };
    add(`${name} / ${of}`, (row) => ratioText(row, name), (row) => ratio(row)?.median, options);
  }
  return columns;
}

function ratioText({ series, cell }, name) {
  const ratio = series.ratios[name];
  if (ratio === undefined) return "";
  if (series === cell.series[0]) return "base";
  if (ratio.count === 1) return `${showRatio(ratio.median)} (one round)`;
  return `${showRatio(ratio.median)} (${showRatio(ratio.min)} to ${showRatio(ratio.max)})`;
}

// A base has no ratios: its own rounds are what can be too far apart.
function isWide({ series, cell }, name) {
  return Boolean((series === cell.series[0] ? series.values : series.ratios)[name]?.wide);
}

function lineOf(columns, row) {
  const line = d3.create("tr");
  for (const column of columns) {
    const field = line.append("td").classed("text", column.isText).text(column.text(row));
    if (column.name && isWide(row, column.name)) field.append("span").attr("class", "wide").text(" wide");
    if (column.heading === "version" && row.series.refused !== null) {
      field.attr("class", "refused").attr("colspan", columns.length - columns.indexOf(column))
        .text(`refused: ${row.series.refused}`);
      break;
    }
  }
  return line.node();
}

// What has no value is last in either order.
function compare(key, descending) {
  return (a, b) => {
    const [x, y] = [key(a.row), key(b.row)];
    const missing = (x === undefined || x === null) - (y === undefined || y === null);
    return missing || (descending ? d3.descending(x, y) : d3.ascending(x, y));
  };
}

function tableOf(family) {
  const columns = columnsOf(family);
  const rows = family.cells.flatMap((cell) => cell.series.map((series) => ({ cell, series })));
  const lines = rows.map((row) => ({ row, line: lineOf(columns, row) }));
  const box = d3.create("div").attr("class", "box").attr("tabindex", 0).attr("role", "region")
    .attr("aria-label", `Table: ${family.title}`);
  const table = box.append("table");
  table.append("caption").text("Medians. A click on a heading sorts by it.");
  const head = table.append("thead").append("tr");
  const body = table.append("tbody");
  const put = () => body.node().append(...lines.map(({ line }) => line));
  for (const column of columns) {
    const heading = head.append("th").attr("scope", "col").classed("text", column.isText);
    heading.append("button").attr("type", "button").text(column.heading).on("click", () => {
      const sorted = heading.attr("aria-sort");
      const descending = sorted === null ? Boolean(column.descending) : sorted === "ascending";
      head.selectAll("th").attr("aria-sort", null);
      heading.attr("aria-sort", descending ? "descending" : "ascending");
      lines.sort(compare(column.key, descending));
      put();
    });
  }
  put();
  return box.node();
}
