// The live path: each tick asks for what is new, one request at a time; an idle tab gets one byte, a hidden one asks nothing.
// A tick of dcc.Interval runs through all of Dash's page and takes 50 to 80 ms of CPU time. It beats while a run lives;
// while none does, a plain timer asks as often for a tenth of that, and the interval slows down.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state } = hub;
  const LIVE = new Set(["running", "starting", "paused", "stopping"]);
  const TICK_MS = 1000;
  const SLOW_MS = 30000;
  const versions = { runs: "", status: "", figure: "", offer: "" };
  let busy = false;
  let again = false;
  let generation = 0;
  let failures = 0;
  let mounted = false;
  let resting = false; // the interval is slow, and the plain timer asks
  let timer = 0;

  function viewQuery() {
    const query = new URLSearchParams();
    query.set("runs", state.selected.length ? [state.focus, ...state.selected.filter((id) => id !== state.focus)].filter(Boolean).join(",") : "");
    if (state.figure) query.set("figure", state.figure);
    const { view } = state;
    query.set("x", view.x);
    if (view.log_x) query.set("log_x", "1");
    if (view.log_y) query.set("log_y", "1");
    if (view.smoothing) query.set("smoothing", view.smoothing);
    if (view.layer) query.set("layer", view.layer);
    for (const name of ["metric", "group_by", "threshold"]) if (view[name]) query.set(name, view[name]);
    if (state.range) {
      query.set("x0", state.range[0]);
      query.set("x1", state.range[1]);
    }
    query.set("width_px", Math.max(200, Math.min(4000, Math.round(document.getElementById("live-figure").clientWidth / 20) * 20)));
    query.set("theme", hub.theme());
    return query;
  }

  async function ask() {
    const query = viewQuery();
    const number = generation;
    query.set("g", number);
    query.set("focus", state.focus || "");
    query.set("runs_v", versions.runs);
    query.set("status_v", versions.status);
    query.set("figure_v", versions.figure);
    query.set("offer_v", versions.offer);
    const answer = await hub.request(`api/live?${query}`);
    if (answer === 0) return;
    state.clockOffset = answer.now - Date.now() / 1000;
    if (answer.runs) {
      versions.runs = answer.runs.v;
      hub.runs.update(answer.runs);
    }
    if (number !== generation) { // the person went on to another view meanwhile
      again = true;
      return;
    }
    if (answer.status) {
      versions.status = answer.status.v;
      state.status = answer.status.line;
      hub.status.show(state.status);
    }
    if (answer.offer) {
      state.offer = answer.offer.offer;
      state.figures = state.offer.figures;
      versions.offer = answer.offer.v;
      hub.figure.fillSelect();
      hub.emit("figures");
      again = true;
    }
    if (answer.figure) {
      versions.figure = answer.figure.v;
      await hub.figure.draw(answer.figure);
    }
  }

  function emptyState() {
    const run = state.runs.get(state.focus);
    if (!versions.runs) return hub.figure.showEmpty("");
    if (!state.order.length) {
      return hub.figure.showEmpty("Train your first model", "The preset under Configuration trains a small geometric mixture of experts on generated lambda calculus, in a few minutes on this machine.", startButton);
    }
    if (!state.focus) return hub.figure.showEmpty("No run selected", "Pick one in the list of runs, or several to compare them.");
    if (!state.figures.length) {
      const waiting = run && ["starting", "running", "queued"].includes(run.state);
      return hub.figure.showEmpty(waiting ? "Waiting for the first rows" : "No measurements", waiting ? "The figure begins with the run's first logged step." : "This run has logged no rows. Its log, under the controls, may say why.");
    }
    if (!state.figures.some((spec) => spec.key === state.figure)) {
      return hub.figure.showEmpty("Not measured in this run", "The selected runs have no data for this figure; choose another one above.");
    }
    hub.figure.showEmpty("");
  }

  function startButton() {
    return hub.el("button", { type: "button", class: "button primary", onclick: start }, hub.icon("play"), "Start with this preset");
  }

  // A form that is wrong cannot start: then this leads to what is wrong.
  function start() {
    const button = document.getElementById("start-button");
    const wrong = document.querySelector(".validation-summary a[data-field]");
    if (button.disabled && wrong) wrong.click();
    else button.click();
  }

  async function now() {
    if (!mounted) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      do {
        again = false;
        await ask();
      } while (again);
      connection(true);
    } catch (error) {
      connection(false, error);
    } finally {
      busy = false;
    }
    hub.status.ages();
    emptyState();
    pace();
  }

  function pace() {
    const idle = !Array.from(state.runs.values()).some((run) => LIVE.has(run.state));
    if (idle === resting) return;
    resting = idle;
    hub.setProps("tick", { interval: idle ? SLOW_MS : TICK_MS });
    clearInterval(timer);
    if (idle) timer = setInterval(tick, TICK_MS);
  }

  function tick() {
    if (!document.hidden) now();
  }

  function connection(works, error) {
    failures = works ? 0 : failures + 1;
    const text = failures < 2 ? "" : error instanceof TypeError ? "The server does not answer; runs go on. Trying again." : error.message;
    hub.setText(document.getElementById("connection"), text);
  }

  hub.reportError = (error) => connection(false, error);

  hub.on("view", () => {
    generation += 1;
    versions.figure = "";
    now();
  });
  hub.on("selection", () => {
    versions.status = "";
    versions.offer = "";
    if (state.focus) drawsSoon();
    if (!state.focus) {
      state.figures = [];
      hub.status.show(null);
      hub.figure.clear();
      hub.figure.fillSelect();
    }
  });
  document.addEventListener("moe-hub-theme", () => { if (mounted) hub.emit("view"); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) now(); });
  let resizing = 0;
  window.addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => hub.emit("view"), 250);
  });

  // The drawing library is read while the server prepares the figure, and not at all where there is nothing to draw.
  function drawsSoon() {
    hub.figure.load("2d").catch(hub.reportError);
  }

  hub.whenMounted(() => {
    mounted = true;
    if (state.focus) drawsSoon();
    hub.status.show(null);
    now();
  });

  hub.live = { now, viewQuery };
  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.moeHub = Object.assign(window.dash_clientside.moeHub || {}, {
    tick: () => {
      tick();
      return window.dash_clientside.no_update;
    },
  });
})();
