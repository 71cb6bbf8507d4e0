// The Models tab: the checkpoints of all runs; compare, load, download, delete, resume, fork.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state, el } = hub;
  const COLUMNS = [
    ["title", "Run", "text"], ["architecture", "Architecture", "text"], ["step", "Step", "number"],
    ["loss", "Held-out loss", "number"], ["exact_match", "Exact match", "number"], ["bytes", "Size", "number"], ["time", "Written", "number"],
  ];
  let rows = [];
  let chosen = [];
  let order = { column: "time", down: true };
  let parts = null;

  function build() {
    if (parts) return;
    parts = {};
    parts.filter = el("input", { class: "form-control", id: "model-filter", type: "search", placeholder: "Run, architecture, step", "aria-label": "Filter checkpoints" });
    parts.filter.addEventListener("input", draw);
    parts.message = el("p", { class: "note", role: "status", id: "models-message" });
    parts.actions = el("div", { class: "button-row", id: "model-actions" });
    parts.dialog = el("div", { class: "confirm", id: "model-confirm", hidden: true });
    parts.table = el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Checkpoints" });
    parts.comparison = el("div", { class: "comparison", id: "model-comparison" });
    document.getElementById("panel-models").replaceChildren(
      el("div", { class: "tab-bar" }, parts.filter, parts.actions), parts.dialog, parts.message, parts.table, parts.comparison);
  }

  async function open() {
    build();
    try {
      rows = await hub.request("api/checkpoints");
      chosen = chosen.filter((key) => rows.some((row) => row.key === key));
      draw();
    } catch (error) {
      hub.setText(parts.message, error.message);
    }
  }

  function size(bytes) {
    return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
  }

  function draw() {
    const words = parts.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = rows.filter((row) => words.every((word) => `${row.title} ${row.run} ${row.architecture} ${row.step}`.toLowerCase().includes(word)));
    const sign = order.down ? -1 : 1;
    shown.sort((one, other) => {
      const [a, b] = [one[order.column], other[order.column]];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
    actions();
    if (!rows.length) return parts.table.replaceChildren(el("p", { class: "empty-line" }, "No checkpoints yet. A run writes them while it trains and at its end; Save, under the figure, writes one now."));
    parts.table.replaceChildren(el("table", { class: "data-table cards" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, el("span", { class: "visually-hidden" }, "Choose")), COLUMNS.map(header))),
      el("tbody", {}, shown.map(tableRow))));
  }

  function header([column, label, kind]) {
    const sorted = order.column === column;
    return el("th", { scope: "col", class: kind === "number" ? "number" : "", "aria-sort": sorted ? (order.down ? "descending" : "ascending") : null },
      el("button", { type: "button", class: "sort", onclick: () => { order = { column, down: sorted ? !order.down : kind === "number" }; draw(); } }, label, sorted ? (order.down ? " ↓" : " ↑") : ""));
  }

  function tableRow(row) {
    const box = el("input", { type: "checkbox", class: "form-check-input", "aria-label": `Choose ${row.title} at step ${row.step}` });
    box.checked = chosen.includes(row.key);
    box.addEventListener("change", () => {
      chosen = box.checked ? [...chosen, row.key] : chosen.filter((key) => key !== row.key);
      actions();
    });
    const number = (label, text) => el("td", { class: "number", "data-label": label }, text);
    return el("tr", {}, el("td", { class: "cell-box" }, box),
      el("td", { class: "cell-run" }, el("span", { class: "cell-title" }, row.title), row.best ? el("span", { class: "tag" }, "best") : null, el("span", { class: "run-meta" }, row.run)),
      el("td", { "data-label": "Architecture" }, row.architecture), number("Step", hub.whole(row.step)), number("Held-out loss", row.loss === null ? "–" : row.loss.toFixed(4)),
      number("Exact match", row.exact_match === null ? "–" : `${(100 * row.exact_match).toFixed(1)} %`), number("Size", size(row.bytes)),
      number("Written", new Date(row.time * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" })));
  }

  function actions() {
    const one = chosen.length === 1 ? rows.find((row) => row.key === chosen[0]) : null;
    const button = (text, enabled, action, kind) => el("button", { type: "button", class: `button small ${kind || ""}`, disabled: !enabled, onclick: action }, text);
    parts.actions.replaceChildren(
      el("span", { class: "note" }, chosen.length ? `${chosen.length} chosen` : "Choose checkpoints"),
      button("Load", one, () => { hub.inference.wanted = one.key; hub.tabs.show("inference", true); }),
      button("Compare", chosen.length > 1 && chosen.length <= 6, () => hub.compare.open(parts.comparison, [...chosen], rows)),
      button("Download", one, () => askDownload(one)),
      button("Resume run", one, () => act("resume", one)),
      button("Fork", one, () => askFork(one)),
      button("Delete", chosen.length > 0, askDelete, "danger"));
  }

  function ask(...content) {
    parts.dialog.hidden = false;
    parts.dialog.replaceChildren(...content.flat(), el("button", { type: "button", class: "button small", onclick: closeDialog }, "Cancel"));
    (parts.dialog.querySelector("input, button, a") || parts.dialog).focus();
  }

  function closeDialog() {
    parts.dialog.hidden = true;
    parts.dialog.replaceChildren();
  }

  async function act(action, row, more) {
    try {
      const answer = await hub.post("api/checkpoints", { action, key: row.key, ...more });
      closeDialog();
      if (action !== "delete") {
        hub.runs.pick(answer.run, true);
        hub.setText(parts.message, action === "fork" ? `Forked as ${answer.run}.` : `${answer.run} goes on from its last checkpoint.`);
      }
      hub.live.now();
      return true;
    } catch (error) {
      hub.setText(parts.message, error.message);
      return false;
    }
  }

  function askDelete() {
    const doomed = rows.filter((row) => chosen.includes(row.key));
    const total = size(doomed.reduce((sum, row) => sum + row.bytes, 0));
    ask(el("p", {}, `Delete ${doomed.length === 1 ? `${doomed[0].title} at step ${hub.whole(doomed[0].step)}` : `${doomed.length} checkpoints`} (${total})? This cannot be undone.`),
      el("button", { type: "button", class: "button small danger", onclick: async () => {
        let gone = 0;
        for (const row of doomed) if (await act("delete", row)) gone += 1;
        if (gone === doomed.length) hub.setText(parts.message, `Deleted ${gone} ${gone === 1 ? "checkpoint" : "checkpoints"}.`);
        closeDialog();
        open();
      } }, "Delete for good"));
  }

  function askDownload(row) {
    const address = `${hub.prefix}api/checkpoints/${encodeURIComponent(row.key)}.zip`;
    ask(el("p", {}, `Download ${row.title} at step ${hub.whole(row.step)}:`),
      el("a", { class: "button small primary", href: address, download: "", onclick: closeLater }, "Model for transformers (safetensors)"),
      el("a", { class: "button small", href: `${address}?whole=1`, download: "", onclick: closeLater }, "With the trainer's state"));
  }

  function closeLater() {
    const content = parts.dialog.firstChild;
    setTimeout(() => { if (parts.dialog.firstChild === content) closeDialog(); }, 100); // after the link was followed
  }

  function askFork(row) {
    const steps = el("input", { class: "form-control", type: "number", id: "fork-steps", min: row.step + 1, step: 1, value: Math.max(row.max_steps || 0, 2 * row.step) });
    ask(el("label", { for: "fork-steps" }, "A new run that begins here and trains to step"), steps,
      el("button", { type: "button", class: "button small primary", onclick: () => act("fork", row, { max_steps: Number(steps.value) }) }, "Start the fork"));
  }

  hub.tabs.register("models", { open });
})();
