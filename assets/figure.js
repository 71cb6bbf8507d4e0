// Draws the live figure and keeps zoom, legend and camera while it grows. It knows how to draw, not what.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state, el } = hub;
  const AXES = { step: "Steps", tokens: "Tokens", active_time: "Training time", time: "Wall time" };
  // What can be chosen in one figure alone.
  const OWN_OPTIONS = { "overlay-of-runs": ["metric", "group_by"], "activation-threshold-tuning": ["threshold"] };
  const NARROW_PX = 700;
  const TITLE_PX = 24;
  const loading = {};
  let drawn = null; // {key, plotly}
  let dragging = false;
  let waiting = null; // the newest figure that came during a 3D drag
  let rangeTimer = 0;
  let rangeAt = -Infinity;

  function load(kind) {
    loading[kind] = loading[kind] || new Promise((resolve, reject) => {
      const before = window.Plotly;
      const script = el("script", { src: document.documentElement.getAttribute(`data-plotly-${kind}`) });
      script.onload = () => {
        const plotly = window.Plotly;
        if (before) window.Plotly = before; // the first bundle keeps the global name
        resolve(plotly);
      };
      script.onerror = () => {
        delete loading[kind];
        reject(new Error("the drawing library could not be loaded"));
      };
      document.head.append(script);
    });
    return loading[kind];
  }

  function needs3d(figure) {
    return figure.data.some((trace) => /3d$|^surface$|^cone$|^streamtube$|^isosurface$|^volume$/.test(trace.type || ""));
  }

  function config(name) {
    return {
      responsive: true,
      displaylogo: false,
      toImageButtonOptions: { filename: name, scale: 2 },
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toImage", "tableRotation", "resetCameraLastSave3d", "sendChartToCloud"],
    };
  }

  async function drawInto(host, answer, memory) {
    const kind = needs3d(answer.figure) ? "3d" : "2d";
    const plotly = await load(kind);
    const { data, layout } = answer.figure;
    layout.autosize = true;
    hideTitle(layout, host.clientWidth);
    layout.font = { ...layout.font, family: getComputedStyle(document.body).fontFamily };
    if (memory && (memory.key !== answer.key || memory.plotly !== plotly)) {
      memory.plotly.purge(host);
      memory = null;
    }
    if (memory) await plotly.react(host, data, layout, config(answer.key));
    else await plotly.newPlot(host, data, layout, config(answer.key));
    return { key: answer.key, plotly, fresh: !memory };
  }

  // The selector above the live figure says its title already; a saved image gets it back. Where notes stand on the
  // left and the buttons of Plotly on the right of a narrow figure, the line of the title is left to the buttons.
  function hideTitle(layout, width) {
    const title = layout.title || {};
    const crowded = width < NARROW_PX && ((layout.meta || {}).notes || []).length > 0;
    layout.meta = { ...layout.meta, title: title.text, titleLine: crowded ? 0 : TITLE_PX };
    layout.title = { ...title, text: (title.text || "").replace(/^<b>.*?<\/b>(<br>)?/, "") };
    layout.margin = { ...layout.margin, t: Math.max(24, ((layout.margin || {}).t || 64) - layout.meta.titleLine) };
  }

  function image(format) {
    if (!drawn) return;
    const host = document.getElementById("live-figure");
    const layout = { ...host.layout, title: { ...host.layout.title, text: (host.layout.meta || {}).title } };
    layout.margin = { ...layout.margin, t: layout.margin.t + (layout.meta || {}).titleLine };
    drawn.plotly.downloadImage({ data: host.data, layout }, {
      format, filename: `moe-hub-${drawn.key}`, width: 1200, height: 640, scale: format === "png" ? 2 : 1,
    });
  }

  async function draw(answer) {
    if (dragging) {
      waiting = answer;
      return;
    }
    const host = document.getElementById("live-figure");
    const { meta } = answer.figure.layout;
    host.style.minHeight = meta.height_px > 360 ? `${meta.height_px}px` : ""; // a table with many rows
    const result = await drawInto(host, answer, drawn);
    drawn = result;
    if (result.fresh) host.on("plotly_relayout", relayout);
    showLayers(meta.notes || []);
    showRuns(meta.run);
    host.dataset.drawn = String(Number(host.dataset.drawn || 0) + 1);
    const spec = state.figures.find((each) => each.key === answer.key);
    if (spec) host.setAttribute("aria-label", `${spec.title}: ${spec.question}`);
  }

  // react fires no relayout, so asking for the range that the person zoomed to cannot loop
  function relayout(event) {
    let range;
    if (event["xaxis.range[0]"] !== undefined) range = [event["xaxis.range[0]"], event["xaxis.range[1]"]];
    else if (event["xaxis.range"]) range = event["xaxis.range"];
    else if (event["xaxis.autorange"]) range = null;
    else return;
    if (range && range.some((bound) => typeof bound !== "number")) return;
    state.range = range;
    clearTimeout(rangeTimer);
    const soon = performance.now() - rangeAt < 300; // one of several in a row: the last one counts
    rangeAt = performance.now();
    if (soon) rangeTimer = setTimeout(() => hub.emit("view"), 120);
    else hub.emit("view");
  }

  function clear() {
    if (!drawn) return;
    drawn.plotly.purge(document.getElementById("live-figure"));
    drawn = null;
  }

  function showEmpty(title, text, action) {
    const empty = document.getElementById("figure-empty");
    empty.hidden = !title;
    const wanted = title + text;
    if (title && empty.dataset.shown !== wanted) {
      empty.replaceChildren(el("h3", {}, title), el("p", {}, text), action ? action() : "");
      empty.dataset.shown = wanted;
    }
    document.getElementById("live-figure").classList.toggle("covered", Boolean(title));
    document.getElementById("figure-downloads").hidden = Boolean(title); // nothing to save
  }

  function fillSelect() {
    const select = document.getElementById("figure-select");
    const groups = new Map();
    for (const spec of state.figures) {
      if (!groups.has(spec.group)) groups.set(spec.group, []);
      groups.get(spec.group).push(el("option", { value: spec.key }, spec.title));
    }
    select.replaceChildren(...Array.from(groups, ([name, options]) => el("optgroup", { label: name }, options)));
    if (!state.figures.length) select.append(el("option", { value: "" }, "No figure yet"));
    select.disabled = !state.figures.length;
    if (!state.figures.some((spec) => spec.key === state.figure)) {
      if (!state.figureChosen) state.figure = state.figures.length ? state.figures[0].key : "";
    }
    select.value = state.figure;
    describe();
  }

  function describe() {
    const spec = state.figures.find((each) => each.key === state.figure);
    hub.setText(document.getElementById("figure-question"), spec ? spec.question : "");
    const help = document.getElementById("figure-help");
    help.replaceChildren(...(spec ? spec.help.split("\n\n").slice(1).map((part) => el("p", {}, part.replace(/\s+/g, " "))) : []));
    if (spec) help.append(el("p", {}, el("a", { href: `${hub.prefix}help/figures.md#${spec.title.toLowerCase().replace(/ /g, "-")}`, target: "_blank" }, "In the guide: units and null values")));
    document.getElementById("figure-help-toggle").disabled = !help.childNodes.length;
    if (!help.childNodes.length) help.hidden = true;
    showOwnOptions();
  }

  function choose(key) {
    state.figure = key;
    state.figureChosen = true;
    state.range = null;
    document.getElementById("figure-select").value = key;
    hub.address.write(false);
    describe();
    hub.emit("view");
  }

  function changeView(change) {
    Object.assign(state.view, change);
    if ("x" in change || "log_x" in change) state.range = null;
    hub.address.write(false);
    hub.emit("view");
  }

  function toggle(id, label, name) {
    const input = el("input", { type: "checkbox", id, class: "form-check-input" });
    input.addEventListener("change", () => changeView({ [name]: input.checked }));
    return el("label", { class: "check", for: id }, input, label);
  }

  function buildOptions() {
    const axis = el("select", { id: "axis-select", class: "form-select form-select-sm" },
      Object.entries(AXES).map(([value, label]) => el("option", { value }, label)));
    axis.addEventListener("change", () => changeView({ x: axis.value }));
    const smooth = el("input", { type: "range", id: "smoothing", class: "form-range", min: 0, max: 0.99, step: 0.01 });
    smooth.addEventListener("change", () => changeView({ smoothing: Number(smooth.value) }));
    smooth.addEventListener("input", () => hub.setText(shown, smooth.value));
    const shown = el("output", { for: "smoothing", id: "smoothing-value" }, "0");
    const layer = el("select", { id: "layer-select", class: "form-select form-select-sm" });
    layer.addEventListener("change", () => changeView({ layer: Number(layer.value) }));
    const run = el("select", { id: "run-select", class: "form-select form-select-sm" });
    run.addEventListener("change", () => hub.runs.focus(run.value));
    const choice = (name, label) => {
      const select = el("select", { id: `${name}-select`, class: "form-select form-select-sm" });
      select.addEventListener("change", () => changeView({ [name]: select.value }));
      return el("span", { class: "option", id: `${name}-option`, hidden: true }, el("label", { for: select.id }, label), select);
    };
    const threshold = el("input", { id: "threshold-input", class: "form-control", type: "number", step: "any" });
    threshold.addEventListener("change", () => changeView({ threshold: threshold.value }));
    const help = el("button", { type: "button", class: "quiet-button", id: "figure-help-toggle", "aria-expanded": "false", "aria-controls": "figure-help" }, "How to read it");
    help.addEventListener("click", () => {
      const panel = document.getElementById("figure-help");
      panel.hidden = !panel.hidden;
      help.setAttribute("aria-expanded", String(!panel.hidden));
    });
    document.getElementById("figure-options").replaceChildren(
      el("span", { class: "option" }, el("label", { for: "axis-select" }, "By"), axis),
      el("span", { class: "option", id: "layer-option", hidden: true }, el("label", { for: "layer-select" }, "Layer"), layer),
      el("span", { class: "option", id: "run-option", hidden: true }, el("label", { for: "run-select" }, "Run"), run),
      choice("metric", "Metric"), choice("group_by", "Group by"),
      el("span", { class: "option", id: "threshold-option", hidden: true }, el("label", { for: "threshold-input" }, "Try threshold"), threshold),
      toggle("log-x", "Log x", "log_x"), toggle("log-y", "Log y", "log_y"),
      el("span", { class: "option" }, el("label", { for: "smoothing" }, "Smooth"), smooth, shown),
      help, downloads(),
    );
    showView();
  }

  function downloads() {
    const menu = el("details", { class: "menu-host", id: "figure-downloads" },
      el("summary", { class: "quiet-button" }, hub.icon("download"), "Save"),
      el("div", { class: "menu narrow" },
        el("button", { type: "button", class: "menu-item", onclick: () => image("png") }, "PNG image"),
        el("button", { type: "button", class: "menu-item", onclick: () => image("svg") }, "SVG image"),
        el("button", { type: "button", class: "menu-item", onclick: () => { location.href = `${hub.prefix}api/figure.csv?${hub.live.viewQuery()}`; } }, "Data as CSV")));
    menu.addEventListener("click", (event) => {
      if (event.target.closest(".menu-item")) menu.open = false;
    });
    return menu;
  }

  function showView() {
    const { view } = state;
    document.getElementById("axis-select").value = view.x;
    document.getElementById("log-x").checked = view.log_x;
    document.getElementById("log-y").checked = view.log_y;
    document.getElementById("smoothing").value = view.smoothing;
    hub.setText(document.getElementById("smoothing-value"), String(view.smoothing));
  }

  // A figure of one layer says so in its notes; others have no layer to choose.
  function showLayers(notes) {
    const said = notes.map((note) => /^layer \d+ of (\d+|each run)/.exec(note)).find(Boolean);
    const count = said ? Number(said[1]) || state.offer.layers : 0;
    document.getElementById("layer-option").hidden = !(count > 1);
    fill(document.getElementById("layer-select"), Array.from({ length: count }, (_, index) => [String(index), String(index)]), String(Math.min(state.view.layer, Math.max(0, count - 1))));
  }

  // A figure of one run, where several are selected, says which; another one can be chosen.
  function showRuns(shown) {
    document.getElementById("run-option").hidden = !shown;
    if (!shown) return;
    const runs = state.selected.map((id) => state.runs.get(id)).filter(Boolean);
    fill(document.getElementById("run-select"), runs.map((run) => [run.id, `${hub.runTitle(run)} ${run.id.slice(-4)}`]), shown);
  }

  function fill(select, options, value) {
    const wanted = JSON.stringify(options);
    if (select.dataset.options !== wanted) {
      select.replaceChildren(...options.map(([key, label]) => el("option", { value: key }, label)));
      select.dataset.options = wanted;
    }
    select.value = value;
  }

  function showOwnOptions() {
    const own = OWN_OPTIONS[state.figure] || [];
    for (const name of ["metric", "group_by", "threshold"]) document.getElementById(`${name}-option`).hidden = !own.includes(name);
    const { metrics, groups } = state.offer;
    fill(document.getElementById("metric-select"), [["", "val/loss or the nearest"], ...metrics.map((name) => [name, name])], state.view.metric);
    fill(document.getElementById("group_by-select"), [["", "no group"], ...groups.map((name) => [name, name])], state.view.group_by);
    document.getElementById("threshold-input").value = state.view.threshold;
  }

  hub.whenMounted(() => {
    buildOptions();
    const select = document.getElementById("figure-select");
    select.addEventListener("change", () => choose(select.value));
    const host = document.getElementById("live-figure");
    host.addEventListener("pointerdown", () => { dragging = true; });
    window.addEventListener("pointerup", () => {
      if (!dragging) return;
      dragging = false;
      if (waiting) {
        const answer = waiting;
        waiting = null;
        draw(answer).catch(hub.reportError);
      }
    });
    fillSelect();
  });
  hub.on("address", () => { showView(); fillSelect(); });

  hub.figure = { draw, drawInto, clear, fillSelect, showEmpty, choose, load };
})();
