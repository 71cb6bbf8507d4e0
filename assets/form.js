// The form beside what Dash does: help of the field in hand, marks on wrong fields, sliders, launching, presets.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state } = hub;
  let restored = false;
  const noUpdate = () => window.dash_clientside.no_update;

  function describe(target) {
    const row = target && target.closest && target.closest("[data-help]");
    const help = document.getElementById("field-help");
    if (row && help) hub.setText(help, row.dataset.help);
  }

  // The server says which fields are wrong and which are not shown; a message stands below its field.
  function mark({ errors = {}, hidden = [] }) {
    const unread = new Set(hidden);
    const shown = (path) => !path.split(".").some((_, index, parts) => unread.has(parts.slice(0, index + 1).join(".")));
    for (const row of document.querySelectorAll("[data-path][data-field]")) {
      row.hidden = !shown(row.dataset.path);
      const message = errors[row.dataset.path];
      if (message || row.classList.contains("wrong")) markError(row, message || "");
    }
    for (const part of document.querySelectorAll("[data-part]")) part.hidden = !shown(part.dataset.part);
  }

  function markError(row, text) {
    const input = document.getElementById(row.dataset.field);
    if (!input) return;
    let message = row.querySelector(".field-error");
    if (!message) {
      message = hub.el("p", { class: "field-error", id: `error-${row.dataset.field}` });
      row.append(message);
    }
    hub.setText(message, text);
    input.setAttribute("aria-invalid", String(Boolean(text)));
    if (text) input.setAttribute("aria-describedby", message.id);
    else input.removeAttribute("aria-describedby");
    row.classList.toggle("wrong", Boolean(text));
  }

  function goToField(event) {
    const link = event.target.closest && event.target.closest(".validation-summary a[data-field]");
    if (!link) return;
    event.preventDefault();
    const input = document.getElementById(link.dataset.field);
    if (!input) return;
    for (let box = input.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    input.focus();
    input.scrollIntoView({ block: "center" });
  }

  function formValues() {
    const values = {};
    for (const row of document.querySelectorAll("[data-path][data-field]")) {
      const input = document.getElementById(row.dataset.field);
      if (input) values[row.dataset.path] = input.type === "checkbox" ? input.checked : input.value;
    }
    return values;
  }

  function say(text) {
    hub.setProps("preset-message", { children: text });
  }

  async function changePreset(body, text, value) {
    try {
      const answer = await hub.post("api/presets", body);
      if (answer.options) hub.setProps("preset-select", { options: answer.options });
      if (value) hub.setProps("preset-select", { value });
      say(text);
      return answer;
    } catch (error) {
      say(error.message);
      return null;
    }
  }

  const presetActions = {
    "preset-save": (name, base) => changePreset({ action: "save", name, base, values: formValues() }, `Saved as ${name}.`, name),
    "preset-rename": (name, base) => changePreset({ action: "rename", name, old: base }, `Renamed to ${name}.`, name),
    "preset-delete": async (name, base) => {
      if (await changePreset({ action: "delete", name: base }, `Deleted ${base}.`)) hub.setProps("preset-select", { value: "geometric_lambda" });
    },
    "preset-export": (name, base) => { location.href = `${hub.prefix}api/presets/${encodeURIComponent(base)}.yaml`; },
    "preset-import": () => {
      const input = hub.el("input", { type: "file", accept: ".yaml,.yml" });
      input.addEventListener("change", async () => {
        const file = input.files[0];
        if (!file) return;
        const name = file.name.replace(/\.ya?ml$/i, "").replace(/[^A-Za-z0-9_-]+/g, "_").slice(0, 40);
        await changePreset({ action: "import", name, text: await file.text() }, `Imported as ${name}.`, name);
      });
      input.click();
    },
    "preset-copy": async () => {
      if (!state.focus) return say("Select a run first; its config is then copied into the form.");
      const answer = await changePreset({ action: "copy", name: "", run: state.focus }, "");
      if (answer) hub.setProps("preset-load", { data: { nonce: hub.uuid(), values: answer.values, message: `Values of ${state.focus}.` } });
    },
  };

  document.addEventListener("click", (event) => {
    goToField(event);
    const button = event.target.closest && event.target.closest("button[id^=preset-]");
    if (button && presetActions[button.id]) {
      presetActions[button.id](document.getElementById("preset-name").value.trim(), document.getElementById("preset-select").value);
    }
    if (event.target.closest && event.target.closest("#copy-command")) copyCommand();
    for (const menu of document.querySelectorAll("details.menu-host[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu-host[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("focusin", (event) => describe(event.target));
  document.addEventListener("mouseover", (event) => describe(event.target));

  // What is in the form outlives a reload of this tab.
  const KEPT = "moe-hub-form";

  function keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ preset: document.getElementById("preset-select").value, values: formValues() }));
    } catch (error) {
      // Storage is blocked: the form then begins with the preset.
    }
  }

  function restore() {
    let kept = null;
    try {
      kept = JSON.parse(sessionStorage.getItem(KEPT));
    } catch (error) {
      return;
    }
    if (!kept || !kept.values || !Array.from(document.getElementById("preset-select").options).some((option) => option.value === kept.preset)) return;
    if (JSON.stringify(kept.values) === JSON.stringify(formValues())) return;
    hub.setProps("preset-load", { data: { nonce: hub.uuid(), preset: kept.preset, values: kept.values, message: "" } });
  }

  // Under the device field: what this machine has, and how much of it is free; a press chooses it.
  function showDevices() {
    const row = document.querySelector("[data-path='train.device']");
    if (!row) return;
    const choose = (value) => () => hub.setProps("field-train-device", { value });
    row.append(hub.el("ul", { class: "device-list" }, Array.from(document.getElementById("devices").options, (each) =>
      hub.el("li", {}, hub.el("button", { type: "button", class: "quiet-button", onclick: choose(each.value) }, each.value), hub.el("span", {}, each.label)))));
  }

  // The drawing library costs most of a page's start: it is read once Start can be pressed.
  let warmed = false;
  function warm() {
    if (warmed) return;
    warmed = true;
    setTimeout(() => hub.figure.load("2d").catch(hub.reportError), 0);
  }

  async function copyCommand() {
    const command = document.getElementById("command-preview");
    const button = document.getElementById("copy-command");
    try {
      await navigator.clipboard.writeText(command.textContent);
    } catch (error) { // not allowed without https: leave it selected for Ctrl-C
      getSelection().selectAllChildren(command);
      return;
    }
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1200);
  }

  hub.whenMounted(() => {
    for (const row of document.querySelectorAll("[data-field]")) {
      const slider = row.querySelector("input[type=range]");
      if (slider) slider.setAttribute("aria-label", `${row.querySelector("label").textContent}, slider`);
    }
    showDevices();
    if (window.matchMedia("(max-width: 900px)").matches) document.getElementById("configuration").open = false;
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.moeHub = Object.assign(window.dash_clientside.moeHub || {}, {
    syncSlider: (text, position) => {
      const context = window.dash_clientside.callback_context;
      const source = context.triggered_id || "";
      if (String(source).startsWith("slider-")) return [String(Number(Number(position).toFixed(4))), noUpdate()];
      const number = Number(text);
      return [noUpdate(), text === "" || Number.isNaN(number) ? noUpdate() : number];
    },
    requestLaunch: (start, queue, assessment, launching) => {
      if (!(start || queue) || launching || !assessment || !assessment.valid) return noUpdate();
      const pressed = window.dash_clientside.callback_context.triggered_id;
      return { id: hub.uuid(), action: pressed === "queue-button" ? "queue" : "start" };
    },
    launchable: (assessment, launching) => {
      mark(assessment || {});
      warm();
      if (restored) keep();
      else {
        restored = true;
        setTimeout(restore, 0);
      }
      const blocked = !(assessment && assessment.valid) || Boolean(launching);
      return [blocked, blocked];
    },
    focusLaunched: (progress) => {
      if (progress && progress.run_id && progress.stage === "starting" && progress.run_id !== state.focus) hub.runs.pick(progress.run_id, true);
      hub.live.now();
      return noUpdate();
    },
  });
})();
