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

  function markErrors(errors) {
    for (const row of document.querySelectorAll("[data-field]")) {
      if (!row.dataset.path) continue;
      const input = document.getElementById(row.dataset.field);
      if (!input) continue;
      const message = row.querySelector(".field-error");
      message.id = message.id || `error-${row.dataset.field}`;
      const wrong = Boolean(errors[row.dataset.path]);
      input.setAttribute("aria-invalid", String(wrong));
      if (wrong) input.setAttribute("aria-describedby", message.id);
      else input.removeAttribute("aria-describedby");
      row.classList.toggle("wrong", wrong);
    }
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
      markErrors((assessment && assessment.errors) || {});
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
