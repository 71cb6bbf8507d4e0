// The controls' line: state, progress, loss, speed, heartbeat; which buttons can be pressed; what went wrong.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state, el } = hub;
  const RESUMABLE = new Set(["paused", "interrupted", "stopped", "failed"]);
  const STAGES = {
    requested: "asked to stop, SIGTERM follows",
    terminated: "SIGTERM sent, SIGKILL follows",
    killed: "SIGKILL sent",
  };
  const MOST_ALARMS = 4;
  let disabled = {};
  let parts = null;

  function buttons(line) {
    const now = line && !line.gone ? line.state : "";
    const live = ["running", "paused", "starting", "stopping"].includes(now);
    const wanted = {
      "pause-button": now !== "running",
      "resume-button": !(RESUMABLE.has(now) && (now === "paused" || line.checkpoints > 0)),
      "stop-button": !live || Boolean(line.stop && line.stop.stage === "killed"),
      "save-button": !(now === "running" || now === "paused"),
    };
    for (const [id, value] of Object.entries(wanted)) {
      if (disabled[id] !== value) hub.setProps(id, { disabled: value });
    }
    disabled = wanted;
  }

  function build() {
    const item = (name, label) => {
      const value = el("dd", {});
      parts[name] = value;
      return el("div", { class: `stat stat-${name}` }, el("dt", {}, label), value);
    };
    parts = {};
    parts.badge = el("span", { class: "badge-state" });
    parts.name = el("span", { class: "run-title" });
    parts.note = el("span", { class: "status-note" });
    parts.head = el("div", { class: "status-head" }, parts.badge, parts.name, parts.note);
    parts.list = el("dl", { class: "stats" }, item("step", "Step"), item("loss", "Loss"), item("val", "Held-out loss"),
      item("speed", "Tokens/s"), item("eta", "Left"), item("heartbeat", "Heartbeat"), item("device", "Device"));
    document.getElementById("run-status").replaceChildren(parts.head, parts.list);
    parts.fill = el("div", { class: "progress-fill" });
    parts.bar = el("div", { class: "progress-track", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "Progress of the run" }, parts.fill);
    document.getElementById("run-progress").replaceChildren(parts.bar);
  }

  function show(line) {
    if (!parts) build();
    buttons(line);
    if (!line || line.gone) {
      hub.setText(parts.badge, "");
      parts.badge.className = "badge-state none";
      hub.setText(parts.name, "No run selected");
      hub.setText(parts.note, line && line.gone ? "This run is not here any more; pick another in the list." : "Start trains the configuration.");
      parts.list.hidden = true;
      progress(0, false);
      failure(null);
      setting(null);
      alarms([]);
      return;
    }
    parts.list.hidden = false;
    hub.setText(parts.badge, line.state);
    parts.badge.className = `badge-state state-${line.state}`;
    const run = state.runs.get(line.id);
    hub.setText(parts.name, run ? hub.runTitle(run) : line.label || line.id);
    parts.name.title = line.id;
    const metrics = line.metrics || {};
    const shown = (name) => (name in metrics ? hub.decimal(metrics[name]) : "–");
    hub.setText(parts.step, `${hub.whole(line.step)} / ${hub.whole(line.max_steps)}`);
    hub.setText(parts.loss, shown("train/loss"));
    hub.setText(parts.val, shown("val/loss"));
    const speed = metrics["time/tokens_per_s"];
    hub.setText(parts.speed, typeof speed === "number" ? hub.whole(speed) : "–");
    hub.setText(parts.eta, line.eta_s === null ? "–" : hub.duration(line.eta_s));
    hub.setText(parts.device, line.device || "–");
    progress(line.max_steps ? line.step / line.max_steps : 0, line.state === "running");
    document.title = line.state === "running" && line.max_steps ? `${Math.floor((100 * line.step) / line.max_steps)} % ${parts.name.textContent} · MoE Hub` : "MoE Hub";
    failure(line.failure);
    setting(line);
    alarms(line.alarms || []);
    ages();
  }

  // What is wrong with the run, each with the figure that shows it.
  function alarms(found) {
    const host = document.getElementById("run-alarms");
    host.hidden = !found.length;
    const wanted = JSON.stringify(found);
    if (host.dataset.shown === wanted) return;
    host.dataset.shown = wanted;
    const shown = found.slice(0, MOST_ALARMS);
    host.replaceChildren(
      ...shown.map((alarm) => el("li", { class: `alarm alarm-${alarm.kind}` }, el("span", {}, alarm.text),
        alarm.figure ? el("button", { type: "button", class: "quiet-button", "aria-label": `Show the figure of: ${alarm.text}`, onclick: () => hub.figure.choose(alarm.figure) }, "Show") : null)),
      found.length > shown.length ? el("li", { class: "alarm" }, `and ${found.length - shown.length} more`) : "");
  }

  // The threshold of a run with ghosts can be changed while it goes on.
  function setting(line) {
    const host = document.getElementById("run-setting");
    const now = line && line.metrics ? line.metrics["ghost/threshold"] : undefined; // what the trainer last said it uses
    const value = line && line.settings && "ghost_threshold" in line.settings ? now ?? line.settings.ghost_threshold : undefined;
    host.hidden = value === undefined;
    if (value === undefined) return;
    if (host.dataset.run === line.id) {
      followSetting(host, String(value));
      return;
    }
    host.dataset.run = line.id;
    host.dataset.told = value;
    const input = el("input", { class: "form-control", id: "ghost-threshold", type: "number", min: 0, max: 1, step: "any", value });
    const said = el("span", { class: "note", role: "status" });
    const apply = async () => {
      if (input.value === "" || !input.checkValidity()) return hub.setText(said, "a number from 0 to 1 is needed");
      try {
        const answer = await hub.post("api/runs/setting", { run: line.id, ghost_threshold: Number(input.value) });
        hub.setText(said, `${answer.ghost_threshold} from the next step on`);
      } catch (error) {
        hub.setText(said, error.message);
      }
    };
    host.replaceChildren(el("label", { for: "ghost-threshold" }, "Ghost activation threshold"), input,
      el("button", { type: "button", class: "button small", onclick: apply }, "Apply"), said);
  }

  // The trainer's word may come later than the page: the field follows it, unless a person has changed it meanwhile.
  function followSetting(host, value) {
    const input = document.getElementById("ghost-threshold");
    if (input.value === host.dataset.told) input.value = value;
    host.dataset.told = value;
  }

  function progress(share, moving) {
    const percent = Math.min(100, Math.max(0, 100 * share));
    parts.fill.style.width = `${percent}%`;
    parts.bar.setAttribute("aria-valuenow", percent.toFixed(0));
    parts.bar.classList.toggle("moving", moving);
  }

  // What changes with the clock alone.
  function ages() {
    const line = state.status;
    if (!parts || !line || line.gone) return;
    const live = ["running", "paused", "starting", "stopping"].includes(line.state);
    hub.setText(parts.heartbeat, live ? hub.ago(line.heartbeat) || "–" : "–");
    let note = line.reason && line.reason !== "launched" ? line.reason : "";
    if (line.stop) {
      const waited = Math.max(0, hub.now() - line.stop.since);
      const left = (line.stop.stage === "requested" ? 1 : 2) * line.stop.patience - waited;
      if (line.stop.stage === "killed") note = STAGES.killed;
      else if (line.state === "stopping") note = "writing its last checkpoint";
      else note = `${STAGES[line.stop.stage]} in ${hub.duration(Math.max(0, left))}`;
    } else if (line.state === "starting" && !note) note = "loading the trainer and the data";
    else if (line.exit_reason && !line.failure) note = line.exit_reason;
    hub.setText(parts.note, note);
  }

  function failure(found) {
    const card = document.getElementById("failure-card");
    card.hidden = !found;
    const wanted = found ? JSON.stringify(found) : "";
    if (card.dataset.shown === wanted) return;
    card.dataset.shown = wanted;
    if (!found) return card.replaceChildren();
    card.replaceChildren(
      el("h3", {}, found.cause), found.advice ? el("p", {}, found.advice) : "",
      found.log ? el("details", { open: true }, el("summary", {}, "End of the log"), el("pre", { tabindex: 0, "aria-label": "End of the log" }, found.log)) : "");
  }

  hub.status = { show, ages };
})();
