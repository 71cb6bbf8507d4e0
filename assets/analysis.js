// The Analysis tab: every figure that the selected runs have data for, drawn when it comes near the screen.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state, el } = hub;
  const LIVE_MS = 5000;
  const MOST_3D = 2; // a browser has only so many WebGL contexts
  const cards = new Map(); // key -> {card, place, memory, version, visible}
  let shown = "";
  let timer = 0;
  let table = null; // the table of several runs
  let drawing = Promise.resolve();

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const card = cards.get(entry.target.dataset.key);
      if (!card) continue;
      card.visible = entry.isIntersecting;
      if (card.visible) request(card);
      else if (card.memory && card.deep) purge(card);
    }
  }, { rootMargin: "200px" });

  function purge(card) {
    if (card.memory) card.memory.plotly.purge(card.place);
    card.memory = null;
    card.version = "";
  }

  function query(key, card) {
    const asked = hub.live.viewQuery();
    asked.delete("x0");
    asked.delete("x1");
    asked.set("figure", key);
    asked.set("width_px", Math.max(240, Math.round(card.place.clientWidth / 20) * 20));
    asked.set("v", card.version);
    return asked;
  }

  // One figure at a time, so that the live figure is never kept waiting.
  function request(card) {
    drawing = drawing.then(() => draw(card)).catch((error) => hub.setText(card.problem, error.message));
  }

  async function draw(card) {
    if (!card.visible || !hub.tabs.isOpen("analysis") || cards.get(card.key) !== card) return;
    const deep = Array.from(cards.values()).filter((each) => each.deep && each.memory);
    if (card.deep && !card.memory && deep.length >= MOST_3D) purge(deep[0]);
    const answer = await hub.request(`api/figure?${query(card.key, card)}`);
    hub.setText(card.problem, "");
    if (answer === 0 || cards.get(card.key) !== card) return;
    card.version = answer.v;
    card.deep = answer.figure.data.some((trace) => /3d$/.test(trace.type || ""));
    const { meta } = answer.figure.layout;
    card.place.style.minHeight = meta.height_px > 360 ? `${meta.height_px}px` : ""; // panels, notes and names need it
    card.memory = await hub.figure.drawInto(card.place, answer, card.memory);
  }

  function build() {
    const host = document.getElementById("panel-analysis");
    const ids = state.selected;
    const wanted = `${ids.join(",")}|${state.figures.map((spec) => spec.key).join(",")}`;
    if (wanted === shown && host.childNodes.length) return;
    shown = wanted;
    table = null;
    clear();
    fill(host, ids);
    hub.sweeps.mount(host).catch(() => {}); // a server that is away is told elsewhere
  }

  function fill(host, ids) {
    if (!ids.length || !state.figures.length) {
      host.replaceChildren(el("p", { class: "empty-line" }, ids.length ? "The selected runs have logged nothing yet." : "Select a run in the list to see all of its figures here; tick several to compare them."));
      return;
    }
    const run = state.focus;
    host.replaceChildren(
      el("div", { class: "tab-bar" },
        el("p", { class: "note" }, ids.length === 1 ? "All figures of the selected run, with the axis and smoothing chosen above." : `All figures of ${ids.length} selected runs, with the axis and smoothing chosen above.`),
        el("span", { class: "button-row" },
          link(`api/runs/${run}/report.html`, "Report (HTML)", () => `?theme=${hub.theme()}`),
          link(`api/runs/${run}/metrics.csv`, "Metrics (CSV)"), link(`api/runs/${run}/config.yaml`, "Config (YAML)"))),
      ids.length > 1 ? tableOf(ids) : "",
      el("div", { class: "figure-grid" }, state.figures.map(cardOf)));
  }

  // The runs side by side: where their configs differ and where their metrics ended, sortable by each column.
  function tableOf(ids) {
    const place = el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Selected runs side by side" });
    const all = el("button", { type: "button", class: "quiet-button", id: "beside-all", "aria-pressed": "false", hidden: true, onclick: () => { table.whole = !table.whole; showTable(); } });
    table = { ids, place, all, whole: false, sort: null, descending: false, found: null };
    fetchTable(table);
    return el("section", { class: "runs-beside" },
      el("div", { class: "grid-head" }, el("h3", {}, `${ids.length} runs side by side`), all,
        el("a", { class: "quiet-button", href: `${hub.prefix}api/compare.csv?runs=${ids.join(",")}`, download: "" }, hub.icon("download"), "Table (CSV)")),
      place);
  }

  async function fetchTable(asked) {
    try {
      asked.found = await hub.request(`api/compare?runs=${asked.ids.join(",")}`);
      if (asked === table) showTable();
    } catch (error) {
      asked.place.replaceChildren(el("p", { class: "field-error" }, error.message));
    }
  }

  function showTable() {
    const { columns, main, rows } = table.found;
    const shown = table.whole ? columns.map((_, index) => index) : main;
    table.all.hidden = main.length === columns.length;
    table.all.setAttribute("aria-pressed", String(table.whole));
    hub.setText(table.all, table.whole ? "Main columns" : `All ${columns.length} columns`);
    const ordered = [...rows];
    if (table.sort !== null) ordered.sort((one, other) => compareCells(one.cells[table.sort], other.cells[table.sort], table.descending));
    const head = shown.map((index) => {
      const direction = table.sort !== index ? "none" : table.descending ? "descending" : "ascending";
      const numbers = rows.some((row) => typeof row.cells[index] === "number");
      return el("th", { scope: "col", class: numbers ? "number" : "", "aria-sort": direction }, el("button", { type: "button", class: "sort-button", "data-column": index, onclick: () => sortBy(index) }, columns[index], direction === "none" ? "" : table.descending ? " ▾" : " ▴"));
    });
    table.place.replaceChildren(el("table", { class: "data-table cards long beside-table" },
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, ordered.map((row) => el("tr", {}, shown.map((index) => besideCell(row, columns[index], index)))))));
  }

  function besideCell(row, name, index) {
    const value = row.cells[index];
    if (index) return el("td", { class: typeof value === "number" ? "number" : "", "data-label": name }, cell(value));
    return el("th", { scope: "row" }, el("button", { type: "button", class: "run-name", title: row.id, onclick: () => hub.runs.focus(row.id) }, String(value)));
  }

  function sortBy(index) {
    table.descending = table.sort === index ? !table.descending : false;
    table.sort = index;
    showTable();
    table.place.querySelector(`[data-column="${index}"]`).focus();
  }

  // Numbers by size, what is missing or not a number last.
  function compareCells(one, other, descending) {
    const rank = (value) => (value === null ? 2 : typeof value === "number" ? 0 : 1);
    if (rank(one) !== rank(other)) return rank(one) - rank(other);
    const order = rank(one) === 0 ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
    return descending ? -order : order;
  }

  function cell(value) {
    if (value === null) return "";
    return typeof value === "number" ? (Number.isInteger(value) ? hub.whole(value) : hub.decimal(value)) : String(value);
  }

  function link(path, text, query) {
    const node = el("a", { class: "button small", href: hub.prefix + path, download: "" }, hub.icon("download"), text);
    if (query) node.addEventListener("click", () => { node.href = hub.prefix + path + query(); });
    return node;
  }

  function cardOf(spec) {
    const place = el("div", { class: "grid-figure", role: "group", "aria-label": `${spec.title}: ${spec.question}` });
    const problem = el("p", { class: "field-error" });
    const node = el("section", { class: "grid-card", "data-key": spec.key },
      el("div", { class: "grid-head" }, el("h3", {}, spec.title),
        el("button", { type: "button", class: "quiet-button", "aria-label": `Enlarge ${spec.title}`, onclick: () => { hub.figure.choose(spec.key); document.getElementById("figure-select").value = spec.key; document.getElementById("centre").scrollIntoView(); } }, "Enlarge")),
      el("p", { class: "note" }, spec.question), place, problem);
    const card = { key: spec.key, place, problem, memory: null, version: "", visible: false, deep: /3d/.test(spec.key) };
    cards.set(spec.key, card);
    observer.observe(node);
    return node;
  }

  function clear() {
    observer.disconnect();
    for (const card of cards.values()) purge(card);
    cards.clear();
  }

  function refresh() {
    if (!hub.tabs.isOpen("analysis") || document.hidden) return;
    build();
    for (const card of cards.values()) if (card.visible) request(card);
    if (table && table.found && state.selected.length > 1) fetchTable(table);
  }

  hub.tabs.register("analysis", {
    open: () => {
      build();
      clearInterval(timer);
      timer = setInterval(() => {
        const live = state.selected.some((id) => ["running", "starting", "paused", "stopping"].includes((state.runs.get(id) || {}).state));
        if (live) refresh();
      }, LIVE_MS);
    },
    close: () => {
      clearInterval(timer);
      clear();
      hub.sweeps.clear();
      shown = "";
      document.getElementById("panel-analysis").replaceChildren();
    },
  });
  hub.on("view", () => { if (hub.tabs.isOpen("analysis")) refresh(); });
  hub.on("figures", () => { if (hub.tabs.isOpen("analysis")) refresh(); });
})();
