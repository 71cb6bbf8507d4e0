// The list of runs: search, filter, sort, pick one, compare several, rename, tag, archive, delete with undo.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state, el } = hub;
  const LIVE = ["running", "starting", "paused", "stopping"];
  const STATES = [...LIVE, "queued", "interrupted", "failed", "stopped", "finished"];
  const FILTERS = {
    current: (run) => !run.archived,
    live: (run) => LIVE.includes(run.state),
    queued: (run) => run.state === "queued",
    finished: (run) => !run.archived && run.state === "finished",
    ended: (run) => !run.archived && ["stopped", "failed", "interrupted"].includes(run.state),
    archived: (run) => run.archived,
  };
  const ORDERS = {
    newest: null, // as the server gives them
    oldest: (one, other) => (one.id < other.id ? -1 : 1),
    name: (one, other) => hub.runTitle(one).localeCompare(hub.runTitle(other), "en", { numeric: true }),
    loss: (one, other) => lossOf(one) - lossOf(other),
    state: (one, other) => STATES.indexOf(one.state) - STATES.indexOf(other.state),
  };
  const PART = 150; // rows drawn at once; more come as one scrolls
  const MOST_COMPARED = 200;
  const rows = new Map(); // id -> {node, content}
  const texts = new WeakMap(); // run -> what a search looks through
  let part = PART;
  let found = []; // the runs that fit search and filter
  let table = null;
  let editing = null;

  function pick(id, explicit) {
    state.focus = id;
    state.selected = id ? [id] : [];
    if (explicit) state.following = false;
    changed(!explicit);
  }

  // Another one of the selected runs comes first.
  function focus(id) {
    if (id === state.focus || !state.selected.includes(id)) return;
    state.focus = id;
    changed(false);
  }

  function toggle(id) {
    state.following = false;
    state.selected = state.selected.includes(id) ? state.selected.filter((each) => each !== id) : [...state.selected, id];
    if (!state.selected.includes(state.focus)) state.focus = state.selected[0] || null;
    if (!state.focus && state.selected.length) state.focus = state.selected[0];
    changed(false);
  }

  function changed(automatic) {
    state.range = null;
    state.status = null;
    hub.address.write(automatic);
    hub.setProps("selection", { data: { focus: state.focus, selected: state.selected } });
    mark();
    actions();
    hub.emit("selection");
    hub.emit("view");
  }

  function row(run) {
    const box = el("input", { type: "checkbox", class: "form-check-input", "aria-label": `Compare ${hub.runTitle(run)}` });
    box.addEventListener("change", () => toggle(run.id));
    const name = el("button", { type: "button", class: "run-name", title: run.id, onclick: () => pick(run.id, true) }, hub.runTitle(run));
    const loss = run.metrics["val/loss"] ?? run.metrics["train/loss"];
    const what = "val/loss" in run.metrics ? "held-out loss" : "loss";
    const done = run.max_steps ? Math.round((100 * run.step) / run.max_steps) : 0;
    // The whole row chooses the run; its name is the button for the keyboard.
    const choose = (event) => {
      if (!event.target.closest("input, button") && !window.getSelection().toString()) pick(run.id, true);
    };
    return el("tr", { "data-run": run.id, onclick: choose },
      el("td", { class: "cell-box" }, box),
      el("td", { class: "cell-name" }, name,
        el("span", { class: "run-meta" }, [run.architecture, run.id.slice(-4), new Date(run.created * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).replace(",", "")].filter(Boolean).join(" · ")),
        run.tags.length ? el("span", { class: "tags" }, run.tags.map((tag) => el("span", { class: "tag" }, tag))) : null),
      el("td", { class: "cell-state" }, el("span", { class: `state-word state-${run.state}` }, run.state),
        el("span", { class: "run-meta" }, run.state === "finished" ? `${hub.whole(run.step)} steps` : `${done} %`)),
      el("td", { class: "cell-loss", title: what }, loss === undefined ? "" : hub.decimal(loss)));
  }

  // A run without a finite loss stands last.
  function lossOf(run) {
    const loss = run.metrics["val/loss"] ?? run.metrics["train/loss"];
    return typeof loss === "number" ? loss : Infinity;
  }

  function matches(run, words) {
    if (!words.length) return true;
    if (!texts.has(run)) texts.set(run, [run.id, run.name, run.label, run.state, run.architecture, ...run.tags].join(" ").toLowerCase());
    return words.every((word) => texts.get(run).includes(word));
  }

  function fitting() {
    const words = document.getElementById("run-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const filter = FILTERS[document.getElementById("run-filter").value] || FILTERS.current;
    const order = ORDERS[document.getElementById("run-sort").value];
    const fit = state.order.map((id) => state.runs.get(id)).filter((run) => run && filter(run) && matches(run, words));
    if (order) fit.sort((one, other) => order(one, other) || (one.id < other.id ? 1 : -1));
    return fit;
  }

  function restart() {
    part = PART;
    draw();
    document.getElementById("run-table").scrollTop = 0;
  }

  function draw() {
    if (!table) return;
    found = fitting();
    const shown = found.slice(0, part);
    const all = state.order.length;
    hub.setText(document.getElementById("run-count"), !all ? "" : found.length === all ? String(all) : `${found.length} of ${all}`);
    const body = table.tBodies[0];
    const wanted = shown.map((run) => {
      const entry = rows.get(run.id);
      const content = JSON.stringify(run);
      if (entry && entry.content === content) return entry.node;
      const node = row(run);
      if (entry && entry.node.contains(document.activeElement)) restoreFocus(entry.node, node);
      rows.set(run.id, { node, content });
      return node;
    });
    for (const id of rows.keys()) if (!state.runs.has(id)) rows.delete(id);
    if (wanted.length !== body.rows.length || wanted.some((node, index) => body.rows[index] !== node)) body.replaceChildren(...wanted);
    const empty = document.getElementById("run-empty");
    empty.hidden = shown.length > 0;
    const more = document.getElementById("run-more");
    more.hidden = shown.length === found.length;
    hub.setText(more, `Show more (${found.length - shown.length})`);
    hub.setText(empty, all ? "No run fits the search and the filter." : "No runs yet. Start one, or train from a shell with the command under the form: it appears here by itself.");
    table.hidden = shown.length === 0;
    mark();
    actions();
  }

  function showMore() {
    part += PART;
    draw();
  }

  function restoreFocus(from, to) {
    const selector = document.activeElement.tagName === "INPUT" ? "input" : "button";
    requestAnimationFrame(() => to.querySelector(selector)?.focus({ preventScroll: true }));
  }

  function mark() {
    const selected = new Set(state.selected);
    for (const node of table.tBodies[0].rows) {
      const id = node.dataset.run;
      node.classList.toggle("focused", id === state.focus);
      node.querySelector("input").checked = selected.has(id);
      const button = node.querySelector(".run-name");
      if (id === state.focus) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  function actions() {
    const host = document.getElementById("run-actions");
    if (!host || editing) return;
    const run = state.runs.get(state.focus);
    const together = Math.min(found.length, MOST_COMPARED);
    const shown = `${state.focus}|${state.selected.length}|${Boolean(run)}|${run && run.archived}|${together}`;
    if (host.dataset.shown === shown) return;
    host.dataset.shown = shown;
    const compare = together > 1 && el("button", { type: "button", class: "quiet-button", title: "Compare all runs that fit the search and the filter", onclick: compareFound }, `Compare ${together}`);
    if (!run) return host.replaceChildren(...(compare ? [compare] : []));
    const several = state.selected.length > 1;
    host.replaceChildren(
      el("span", { class: "actions-title" }, several ? `${state.selected.length} runs compared` : "Selected run"),
      compare || "",
      el("button", { type: "button", class: "quiet-button", onclick: () => edit("rename") }, "Rename"),
      el("button", { type: "button", class: "quiet-button", onclick: () => edit("tag") }, "Tag"),
      el("button", { type: "button", class: "quiet-button", onclick: () => archive(!run.archived) }, run.archived ? "Unarchive" : "Archive"),
      el("button", { type: "button", class: "quiet-button danger", onclick: remove }, "Delete"));
  }

  function compareFound() {
    const ids = found.slice(0, MOST_COMPARED).map((run) => run.id);
    state.following = false;
    state.selected = ids;
    if (!ids.includes(state.focus)) state.focus = ids[0];
    changed(false);
  }

  function chosen() {
    return state.selected.length > 1 ? [...state.selected] : [state.focus];
  }

  // Out of sight, or back into the list; nothing is deleted.
  async function archive(away) {
    const ids = chosen();
    const send = async (action) => {
      for (const id of ids) await hub.post("api/runs", { run: id, action });
      hub.live.now();
    };
    try {
      await send(away ? "archive" : "unarchive");
    } catch (error) {
      return message(error.message);
    }
    const title = ids.length === 1 ? hub.runTitle(state.runs.get(ids[0]) || { id: ids[0] }) : `${ids.length} runs`;
    message(`${away ? "Archived" : "Back in the list:"} ${title}.`, async () => {
      await send(away ? "unarchive" : "archive");
      message("");
    });
  }

  function edit(kind) {
    const run = state.runs.get(state.focus);
    if (!run) return;
    editing = kind;
    const label = kind === "rename" ? "New name of the run" : "Tags, separated by commas";
    const input = el("input", { class: "form-control form-control-sm", id: "run-edit", value: kind === "rename" ? run.label || run.name : run.tags.join(", "), maxlength: 200 });
    const close = () => {
      editing = null;
      document.getElementById("run-actions").dataset.shown = "";
      actions();
    };
    const save = async (event) => {
      event.preventDefault();
      const body = { run: run.id, action: kind };
      if (kind === "rename") body.label = input.value;
      else body.tags = input.value.split(",").map((tag) => tag.trim()).filter(Boolean);
      try {
        await hub.post("api/runs", body);
        close();
        hub.live.now();
      } catch (error) {
        message(error.message);
      }
    };
    document.getElementById("run-actions").replaceChildren(el("form", { class: "inline-form", onsubmit: save },
      el("label", { for: "run-edit" }, label), input,
      el("span", { class: "button-row" }, el("button", { class: "button small primary", type: "submit" }, "Save"),
        el("button", { class: "button small", type: "button", onclick: close }, "Cancel"))));
    input.focus();
    input.select();
    input.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  }

  async function remove() {
    const ids = chosen();
    const gone = [];
    try {
      for (const id of ids) {
        await hub.post("api/runs", { run: id, action: "delete" });
        gone.push(id);
      }
    } catch (error) {
      message(error.message);
    }
    if (!gone.length) return;
    const title = gone.length === 1 ? hub.runTitle(state.runs.get(gone[0]) || { id: gone[0] }) : `${gone.length} runs`;
    message(`Deleted ${title}.`, async () => {
      for (const id of gone) await hub.post("api/runs", { run: id, action: "undelete" });
      message("");
      pick(gone[0], true);
      hub.live.now();
    });
    const left = state.order.filter((id) => !gone.includes(id));
    pick(left[0] || null, true);
    hub.live.now();
  }

  function message(text, undo) {
    const host = document.getElementById("run-undo");
    host.replaceChildren(...(text ? [el("span", {}, text)] : []),
      ...(undo ? [el("button", { type: "button", class: "quiet-button", onclick: () => undo().catch((error) => message(error.message)) }, "Undo")] : []));
  }

  // A live answer with the rows that changed and, where runs came or went, the order of all.
  function update(answer) {
    for (const run of answer.rows) state.runs.set(run.id, run);
    if (answer.order) {
      state.order = answer.order;
      const there = new Set(answer.order);
      for (const id of state.runs.keys()) if (!there.has(id)) state.runs.delete(id);
    }
    if (answer.queue) queue(answer.queue);
    follow();
    draw();
  }

  function queue({ waiting, worked }) {
    const host = document.getElementById("run-queue");
    host.hidden = !waiting.length;
    if (!waiting.length) return host.replaceChildren();
    const change = (action, run) => async () => {
      try {
        await hub.post("api/queue", { action, run: run || "" });
        message("");
        hub.live.now();
      } catch (error) {
        message(error.message);
      }
    };
    const button = (action, name, icon, id, title, blocked) => el("button", { type: "button", class: "icon-button small", "aria-label": `${name} ${title}`, title: name, disabled: blocked, onclick: change(action, id) }, hub.icon(icon));
    host.replaceChildren(
      el("div", { class: "queue-head" }, el("h3", {}, "Queue"), el("span", { class: "note" }, worked ? "begins when no other run is alive" : "nobody works on it"),
        worked ? null : el("button", { type: "button", class: "button small", onclick: change("start") }, "Start the queue")),
      el("ol", {}, waiting.map((id, index) => {
        const title = hub.runTitle(state.runs.get(id) || { id });
        return el("li", {}, el("span", { class: "queue-place" }, `${index + 1}`), el("button", { type: "button", class: "run-name", title: id, onclick: () => pick(id, true) }, title),
          button("up", "Move up", "up", id, title, index === 0), button("down", "Move down", "down", id, title, index === waiting.length - 1), button("remove", "Remove from the queue", "close", id, title, false));
      })));
  }

  function follow() {
    if (!state.following) return;
    const there = state.order.filter((id) => !(state.runs.get(id) || {}).archived);
    const live = there.find((id) => LIVE.includes((state.runs.get(id) || {}).state));
    const newest = live || there[0] || null;
    const current = state.runs.get(state.focus);
    if (current && (newest === state.focus || (!live && current))) return;
    if (newest !== state.focus) pick(newest, false);
  }

  hub.whenMounted(() => {
    table = el("table", { class: "runs" }, el("caption", { class: "visually-hidden" }, "Runs, newest first"),
      el("thead", { class: "visually-hidden" }, el("tr", {}, ["Compare", "Run", "State", "Loss"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}));
    document.getElementById("run-table").replaceChildren(table, el("p", { class: "empty-line", id: "run-empty", hidden: true }),
      el("button", { type: "button", class: "quiet-button run-more", id: "run-more", hidden: true, onclick: showMore }));
    new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) showMore(); }, { root: document.getElementById("run-table"), rootMargin: "300px" }).observe(document.getElementById("run-more"));
    document.getElementById("run-search").addEventListener("input", restart);
    for (const id of ["run-filter", "run-sort"]) document.getElementById(id).addEventListener("change", restart);
    draw();
    hub.setProps("selection", { data: { focus: state.focus, selected: state.selected } });
  });
  hub.on("address", () => {
    follow(); // an address without a run shows the newest one, also when no answer brings news
    changed(true);
  });

  hub.runs = { update, pick, focus, draw, message };
})();
