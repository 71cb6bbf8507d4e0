// Sweeps, under the figures of the Analysis tab: the trials over parallel axes, what mattered, and a table.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { el } = hub;
  const FIGURES = {
    trials: ["Trials", "Which values do the good trials have in common?"],
    importance: ["What mattered", "Which keys tell good trials from all?"],
  };
  const EVERY_MS = 5000;
  let chosen = "";
  let section = null;
  let drawn = {}; // key -> what drawInto remembers
  let last = "";
  let timer = 0;

  function clear() {
    clearInterval(timer);
    for (const [key, memory] of Object.entries(drawn)) memory.plotly.purge(section.querySelector(`[data-figure="${key}"]`));
    drawn = {};
    last = "";
    section = null;
  }

  // Puts the sweeps at the end of `host`; nothing where there is none.
  async function mount(host) {
    clear();
    const names = await hub.request("api/sweeps");
    if (!names.length || !host.isConnected || !hub.tabs.isOpen("analysis") || host.querySelector(".sweep-section")) return;
    if (!names.includes(chosen)) chosen = names[0];
    const select = el("select", { id: "sweep-select", class: "form-select form-select-sm", "aria-label": "Sweep", onchange: () => { chosen = select.value; last = ""; refresh(); } },
      names.map((name) => el("option", { value: name, selected: name === chosen }, name)));
    section = el("section", { class: "sweep-section", "aria-label": "Sweep" },
      el("div", { class: "tab-bar" }, el("h3", {}, "Sweep"), select),
      el("p", { class: "note", id: "sweep-question" }),
      el("div", { class: "figure-grid" }, Object.entries(FIGURES).map(([key, [title, question]]) => el("section", { class: "grid-card" },
        el("div", { class: "grid-head" }, el("h3", {}, title)), el("p", { class: "note" }, question),
        el("div", { class: "grid-figure", "data-figure": key, role: "group", "aria-label": `${title}: ${question}` })))),
      el("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Trials" }, el("table", { class: "data-table", id: "sweep-table" })),
      el("p", { class: "field-error", id: "sweep-problem" }));
    host.append(section);
    await refresh();
    timer = setInterval(() => { if (!document.hidden && hub.tabs.isOpen("analysis")) refresh(); }, EVERY_MS);
  }

  async function refresh() {
    if (!section) return;
    const problem = section.querySelector("#sweep-problem");
    try {
      const width = Math.max(240, Math.round(section.querySelector(".grid-figure").clientWidth / 20) * 20);
      const sweep = await hub.request(`api/sweeps/${encodeURIComponent(chosen)}?theme=${hub.theme()}&width_px=${width}`);
      const text = JSON.stringify(sweep);
      if (!section || text === last) return;
      last = text;
      hub.setText(problem, "");
      hub.setText(section.querySelector("#sweep-question"), `${sweep.question} ${sweep.tried} of ${sweep.total} trials.`);
      fillTable(sweep);
      for (const key of Object.keys(FIGURES)) {
        const place = section.querySelector(`[data-figure="${key}"]`);
        drawn[key] = await hub.figure.drawInto(place, { key: `sweep-${key}`, figure: sweep.figures[key] }, drawn[key] || null);
      }
    } catch (error) {
      hub.setText(problem, error.message);
    }
  }

  function fillTable(sweep) {
    const keys = Object.keys((sweep.trials[0] || { params: {} }).params);
    const head = ["Trial", "State", sweep.metric, ...keys, "Run"];
    const rows = sweep.trials.map((trial) => el("tr", { title: trial.reason || null },
      el("td", {}, String(trial.number)), el("td", {}, trial.state), el("td", {}, trial.value === null ? "" : hub.decimal(trial.value)),
      keys.map((key) => el("td", {}, typeof trial.params[key] === "number" ? hub.decimal(trial.params[key]) : String(trial.params[key]))),
      el("td", {}, trial.run_ids.map((id) => el("a", { class: "run-link", href: `?run=${encodeURIComponent(id)}`, title: id }, id.slice(-4))))));
    section.querySelector("#sweep-table").replaceChildren(
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows));
  }

  hub.sweeps = { mount, clear };
})();
