// The quality report of a data source, as nodes.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { el } = hub;

  function draw(report) {
    const list = (title, kind, lines) => (lines.length ? [el("h4", {}, title), el("ul", { class: kind }, lines.map((text) => el("li", {}, text)))] : []);
    const facts = [["Rows", hub.whole(report.rows)], ["Unusable rows", hub.whole(report.bad_rows)],
      ...Object.entries(report.duplicates).filter(([name]) => name !== "rows").map(([name, count]) => [name.replaceAll("_", " "), hub.whole(count)]),
      ...("random_split" in report.leakage ? [["Held-out rows also in training, random split", `${(100 * report.leakage.random_split).toFixed(1)} %`], ["The same, as held out here", `${(100 * report.leakage.split_by_group).toFixed(1)} %`]] : []),
      ...(report.tokens.train ? [["Tokens to train on", hub.whole(report.tokens.train)], ["Tokens held out", hub.whole(report.tokens.held_out)], ["Tokenizer", `${report.tokens.tokenizer}, ${hub.whole(report.tokens.vocab_size)} tokens`], ["Padding", `${(100 * report.tokens.padding_share).toFixed(1)} %`]] : [])];
    return [el("h3", {}, "Report"),
      el("p", { class: report.usable ? "ready" : "wrong" }, report.verdict[0].toUpperCase() + report.verdict.slice(1)),
      ...list("Problems", "problems", report.problems), ...list("Warnings", "warnings", report.warnings), ...list("Notes", "", report.notes),
      el("dl", { class: "report-facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      badRows(report), histogram(report.tokens.histogram ? report.tokens : report.lengths)];
  }

  function badRows(report) {
    if (!report.first_bad_rows.length) return "";
    return el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Unusable rows" }, el("table", { class: "data-table" },
      el("thead", {}, el("tr", {}, ["Line", "Field", "Expected", "Found", "What to do"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, report.first_bad_rows.map((row) => el("tr", {}, [row.line, row.field, row.expected, row.found, row.fix].map((cell) => el("td", {}, String(cell))))))));
  }

  function histogram(lengths) {
    if (!lengths || !lengths.histogram) return "";
    const most = Math.max(...lengths.histogram.map((bin) => bin.count));
    return el("figure", { class: "histogram" },
      el("figcaption", {}, `Length in ${lengths.unit}: median ${hub.whole(lengths.median)}, 99 % up to ${hub.whole(lengths.p99)}, largest ${hub.whole(lengths.largest)}`),
      lengths.histogram.map((bin) => el("div", { class: "bin" }, el("span", {}, bin.from === bin.to ? `${bin.from}` : `${hub.whole(bin.from)}–${hub.whole(bin.to)}`), el("span", { class: "bin-bar", style: `width:${(62 * bin.count) / most}%` }), el("span", {}, hub.whole(bin.count)))));
  }

  hub.report = { draw };
})();
