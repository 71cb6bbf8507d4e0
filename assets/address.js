// The address holds run, figure, axis and tab, so that a link shows the same page; back and forward work.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state } = hub;

  function read() {
    const asked = new URLSearchParams(location.search);
    const runs = (asked.get("run") || "").split(",").filter(Boolean);
    state.following = runs.length === 0;
    state.selected = runs;
    state.focus = runs[0] || null;
    state.figure = asked.get("figure") || "";
    state.tab = asked.get("tab") || "";
    state.view = {
      x: ["step", "tokens", "active_time", "time"].includes(asked.get("x")) ? asked.get("x") : "step",
      log_x: asked.get("log_x") === "1",
      log_y: asked.get("log_y") === "1",
      smoothing: Math.min(0.99, Math.max(0, Number(asked.get("smoothing")) || 0)),
      layer: Math.max(0, Math.floor(Number(asked.get("layer")) || 0)),
      metric: asked.get("metric") || "",
      group_by: asked.get("group_by") || "",
      threshold: Number.isFinite(Number(asked.get("threshold"))) ? asked.get("threshold") || "" : "",
    };
  }

  function write(replace) {
    const parts = [];
    const add = (name, value) => parts.push(`${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`);
    if (!state.following && state.selected.length) add("run", [state.focus, ...state.selected.filter((id) => id !== state.focus)].join(","));
    if (state.figure && state.figureChosen) add("figure", state.figure);
    if (state.view.x !== "step") add("x", state.view.x);
    if (state.view.log_x) add("log_x", 1);
    if (state.view.log_y) add("log_y", 1);
    if (state.view.smoothing) add("smoothing", state.view.smoothing);
    if (state.view.layer) add("layer", state.view.layer);
    for (const name of ["metric", "group_by", "threshold"]) if (state.view[name]) add(name, state.view[name]);
    if (state.tab) add("tab", state.tab);
    const address = location.pathname + (parts.length ? `?${parts.join("&")}` : "");
    if (address === location.pathname + location.search) return;
    history[replace ? "replaceState" : "pushState"](null, "", address);
  }

  window.addEventListener("popstate", () => {
    read();
    state.figureChosen = Boolean(state.figure);
    hub.emit("address");
  });

  read();
  state.figureChosen = Boolean(state.figure);
  hub.address = { write };
})();
