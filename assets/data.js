// The Data tab: bring a file, see its rows, have it inspected and prepared, mix sources, look after the token cache.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { el } = hub;
  const COLUMNS = ["text_column", "prompt_column", "input_column", "answer_column", "messages_column"];
  const COLUMN_LABELS = { text_column: "Text from", prompt_column: "Prompt from", input_column: "Input from", answer_column: "Answer from", messages_column: "Messages from" };
  const TEMPLATES = { prompt_template: "Prompt template", answer_template: "Answer template", message_template: "Message template" };
  const FORMATS = ["auto", "text", "question_answer", "instruction", "messages", "prompt_completion"];
  const POLL_MS = 300;
  let parts = null;
  let files = [];
  let job = null;
  let columnNames = "";
  let lastAsked = 0; // number of the latest question for a preview

  function field(id, label, control) {
    control.id = id;
    return el("div", { class: "mini-field" }, el("label", { for: id }, label), control);
  }

  function select(options) {
    return el("select", { class: "form-select" }, options.map(([value, label]) => el("option", { value }, label)));
  }

  function input(attributes) {
    return el("input", { class: "form-control", autocomplete: "off", ...attributes });
  }

  function build() {
    if (parts) return;
    parts = {};
    const upload = hub.upload.build(uploaded);
    parts.message = el("p", { class: "note", role: "status", id: "data-message" });
    parts.source = select([["", "No file chosen"]]);
    parts.source.addEventListener("change", () => { forgetMapping(); load(); });
    parts.hubName = input({ placeholder: "owner/name" });
    parts.hubConfig = input({ placeholder: "default" });
    parts.hubSplit = input({ value: "train" });
    parts.hubRevision = input({ placeholder: "main" });
    parts.hub = el("div", { class: "mini-grid wide", hidden: true }, field("hub-name", "Dataset", parts.hubName), field("hub-config", "Config", parts.hubConfig), field("hub-split", "Split", parts.hubSplit), field("hub-revision", "Revision", parts.hubRevision));
    parts.mixed = el("div", { class: "mixture-rows" });
    parts.mixture = el("div", { class: "mixture", id: "data-mixture", hidden: true }, parts.mixed,
      el("button", { type: "button", class: "button small", id: "mixture-add", onclick: () => { addMixed(1, ""); load(); } }, "Add a source"));
    buildMapping();
    parts.preview = el("div", { class: "dataset-preview", id: "dataset-preview", role: "region", "aria-label": "Preview of the data", tabindex: 0 });
    parts.inspect = el("button", { type: "button", class: "button", id: "inspect-button", disabled: true, onclick: inspect }, "Inspect");
    parts.prepare = el("button", { type: "button", class: "button", id: "prepare-button", disabled: true, onclick: prepare, title: "Fills the token cache now, with the tokenizer of the configuration; otherwise the run does it first." }, "Prepare tokens");
    parts.stop = el("button", { type: "button", class: "button", id: "data-stop", hidden: true, onclick: stop }, hub.icon("stop"), "Cancel");
    parts.use = el("button", { type: "button", class: "button primary", id: "use-data-button", disabled: true, onclick: use }, "Train on it");
    parts.remove = el("button", { type: "button", class: "button small danger", id: "delete-data-button", disabled: true, onclick: askRemove }, "Delete file");
    parts.confirm = el("div", { class: "confirm", hidden: true });
    parts.bar = el("div", { class: "progress-fill" });
    parts.track = el("div", { class: "progress-track", id: "data-progress", hidden: true, role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, parts.bar);
    parts.cached = el("p", { class: "note", id: "cache-outlook" });
    parts.report = el("div", { class: "data-report", id: "data-report" });
    parts.cache = el("div", { class: "data-cache" });
    document.getElementById("panel-data").replaceChildren(
      el("div", { class: "data-grid" },
        el("div", { class: "data-side" }, upload, field("data-source-select", "Source", parts.source), parts.hub, parts.mixture, parts.mapping,
          el("div", { class: "button-row" }, parts.use, parts.inspect, parts.prepare, parts.stop, parts.remove), parts.confirm, parts.track, parts.message),
        el("div", { class: "data-main" }, el("h3", {}, "Preview"), parts.preview, parts.report)),
      el("section", { class: "compare-block cache-block" }, el("h3", {}, "Token cache"), parts.cached, parts.cache));
    emptyPreview();
  }

  function buildMapping() {
    parts.format = select(FORMATS.map((name) => [name, name.replace("_", " ")]));
    parts.bad = select([["refuse", "refuse the file"], ["skip", "skip them"]]);
    parts.columns = Object.fromEntries(COLUMNS.map((name) => [name, select([["", "detected"]])]));
    parts.templates = Object.fromEntries(Object.keys(TEMPLATES).map((name) => [name, el("textarea", { class: "form-control", rows: 2, spellcheck: "false", placeholder: "of the format" })]));
    for (const control of [parts.format, parts.bad, ...Object.values(parts.columns), ...Object.values(parts.templates)]) control.addEventListener("change", load);
    parts.mapping = el("div", { class: "mapping" },
      el("div", { class: "mini-grid wide" }, field("data-format", "Format", parts.format),
        COLUMNS.map((name) => field(`data-${name}`, COLUMN_LABELS[name], parts.columns[name])), field("data-bad-rows", "Bad rows", parts.bad)),
      el("details", {}, el("summary", { class: "quiet-button" }, "Templates"),
        Object.entries(TEMPLATES).map(([name, label]) => field(`data-${name}`, label, parts.templates[name]))));
  }

  function emptyPreview() {
    parts.preview.replaceChildren(el("p", { class: "empty-line" }, "Bring a file, or choose one that is here, to see its first rows. With no file at all, runs train on lambda calculus that the hub generates."));
    hub.setText(parts.cached, "");
  }

  function forgetMapping() {
    parts.format.value = "auto";
    for (const control of Object.values(parts.columns)) control.replaceChildren(el("option", { value: "" }, "detected"));
    for (const control of Object.values(parts.templates)) control.value = "";
    columnNames = "";
    parts.report.replaceChildren();
  }

  async function uploaded(answer) {
    try {
      await refresh(answer ? answer.path : "");
    } catch (error) {
      return hub.setText(parts.message, error.message);
    }
    if (!answer) return;
    forgetMapping();
    await load();
  }

  async function refresh(chosen) {
    const answer = await hub.request("api/data");
    files = answer.files;
    const before = chosen || parts.source.value;
    const used = files.reduce((sum, file) => sum + file.bytes, 0);
    parts.source.replaceChildren(el("option", { value: "" }, files.length ? `Choose: ${files.length} here, ${hub.upload.size(used)}` : "No file here yet"),
      ...files.map((file) => el("option", { value: file.path }, `${file.name} · ${hub.upload.size(file.bytes)}`)),
      el("option", { value: "hub:" }, "Hugging Face Hub dataset"), el("option", { value: "mixture:" }, "Several sources, mixed by weight"));
    parts.source.value = before.endsWith(":") || files.some((file) => file.path === before) ? before : "";
    for (const row of parts.mixed.children) offer(row.querySelector("select"));
    hub.upload.drawUnfinished(answer.unfinished);
    drawCache(answer.cache);
    buttons();
  }

  function buttons() {
    const kind = parts.source.value;
    parts.inspect.disabled = parts.prepare.disabled = !kind || Boolean(job);
    parts.use.disabled = !kind;
    parts.remove.disabled = !kind || kind.endsWith(":");
    parts.hub.hidden = kind !== "hub:";
    parts.mapping.hidden = !kind;
    parts.mixture.hidden = kind !== "mixture:";
    parts.stop.hidden = !job;
  }

  // Rows of the mixture: a weight, and the generator, a file that is here, or a Hub dataset by name.
  function offer(control) {
    const before = control.value;
    control.replaceChildren(el("option", { value: "lambda" }, "Lambda calculus (generated)"),
      ...files.map((file) => el("option", { value: `file:${file.path}` }, file.name)), el("option", { value: "hub:" }, "Hub dataset"));
    if (before) control.value = before;
  }

  function addMixed(weight, source) {
    const control = el("select", { class: "form-select", "aria-label": "Source" });
    const name = input({ placeholder: "owner/name", "aria-label": "Hub dataset", hidden: true });
    const amount = input({ type: "number", min: 0, step: "any", value: weight, "aria-label": "Weight" });
    const row = el("div", { class: "mixture-row" }, amount, control, name,
      el("button", { type: "button", class: "quiet-button danger", "aria-label": "Remove this source", onclick: () => { row.remove(); load(); } }, "Remove"));
    offer(control);
    if (source) control.value = source;
    control.addEventListener("change", () => { name.hidden = control.value !== "hub:"; load(); });
    for (const each of [amount, name]) each.addEventListener("change", load);
    parts.mixed.append(row);
  }

  function mixture() {
    return Array.from(parts.mixed.children, (row) => {
      const [amount, name] = row.querySelectorAll("input");
      const source = row.querySelector("select").value;
      return `${amount.value} ${source === "hub:" ? `hub:${name.value.trim()}` : source}`;
    }).join("; ");
  }

  function settings() {
    const kind = parts.source.value;
    const data = { text_format: parts.format.value, bad_rows: parts.bad.value };
    const place = kind === "hub:" ? { source: "hub", name: parts.hubName.value.trim(), config_name: parts.hubConfig.value.trim(), split: parts.hubSplit.value.trim(), revision: parts.hubRevision.value.trim() }
      : kind === "mixture:" ? { source: "mixture", mixture: mixture() } : { source: "file", path: kind };
    Object.assign(data, place);
    for (const name of COLUMNS) if (parts.columns[name].value) data[name] = parts.columns[name].value;
    for (const name of Object.keys(TEMPLATES)) if (parts.templates[name].value) data[name] = parts.templates[name].value;
    return data;
  }

  // What a run would be started with: the form's other settings of the data, and its sequence length.
  function asked() {
    const data = {};
    for (const control of document.querySelectorAll("[id^='field-data-']")) if ("value" in control && control.value !== "") data[control.id.slice(11)] = control.value;
    if (data.tokenizer === "lambda") data.tokenizer = "auto"; // that one knows no other data
    for (const name of ["path", "name", "mixture", "config_name", "revision", ...COLUMNS, ...Object.keys(TEMPLATES)]) delete data[name];
    const width = document.getElementById("field-model-max_seq_len");
    return { data: { ...data, ...settings() }, ...(width && width.value ? { max_seq_len: Number(width.value) } : {}) };
  }

  // Answers may come in another order than they were asked for: the last one that was asked for is shown.
  async function load() {
    const mine = ++lastAsked;
    buttons();
    if (parts.source.value === "mixture:") {
      if (!parts.mixed.children.length) [["lambda", 0.5], [files.length ? `file:${files[0].path}` : "hub:", 0.5]].forEach(([source, weight]) => addMixed(weight, source));
      if (parts.mixed.children.length < 2) return emptyPreview();
    } else if (!parts.source.value || parts.source.value === "hub:") return emptyPreview();
    try {
      const found = await hub.post("api/data/preview", asked());
      if (mine !== lastAsked) return;
      if (found.unreadable) throw new Error(found.unreadable);
      if (found.kind !== "mixture") showColumns(found.columns);
      drawPreview(found);
    } catch (error) {
      if (mine !== lastAsked) return;
      parts.preview.replaceChildren(el("p", { class: "field-error wide" }, error.message));
      hub.setText(parts.cached, "");
    }
  }

  function showColumns(names) {
    if (names.join("\n") === columnNames) return;
    columnNames = names.join("\n");
    for (const control of Object.values(parts.columns)) {
      const before = control.value;
      control.replaceChildren(el("option", { value: "" }, "detected"), ...names.map((name) => el("option", { value: name }, name)));
      control.value = names.includes(before) ? before : "";
    }
  }

  function drawPreview(found) {
    const used = new Map(Object.entries(found.mapping || {}).map(([role, column]) => [column, role]));
    const bare = found.kind === "text" || found.kind === "mixture";
    for (const [name, control] of Object.entries(parts.templates)) control.placeholder = (found.templates || {})[name] || "of the format";
    parts.preview.replaceChildren(
      el("p", {}, el("strong", {}, found.kind.toUpperCase()), `  ${found.format}`),
      found.problems.length ? el("ul", { class: "problems" }, found.problems.map((text) => el("li", {}, text))) : "",
      el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "First rows" }, el("table", { class: "data-table cards long" },
        el("thead", {}, el("tr", {}, [...(bare ? [] : ["line"]), ...found.columns].map((name) => el("th", { scope: "col" }, name, used.has(name) ? el("span", { class: "tag" }, used.get(name)) : null)))),
        el("tbody", {}, found.rows.map((row) => el("tr", {}, row.map((cell, index) => el("td", { "data-label": (bare ? found.columns : ["line", ...found.columns])[index] }, cell))))))),
      found.texts.length ? el("details", {}, el("summary", { class: "quiet-button" }, "As the model reads it"), el("ol", { class: "texts" }, found.texts.slice(0, 5).map((text) => el("li", {}, el("pre", { tabindex: 0 }, text))))) : "");
    hub.setText(parts.cached, found.cached || "");
  }

  // Runs a job to its end; each line that it writes is an event. The last event, or null.
  async function follow(path, what) {
    hub.setText(parts.message, what);
    progress(0);
    let last = null;
    try {
      job = (await hub.post(path, asked())).job;
      buttons();
      for (let offset = 0; ;) {
        const answer = await hub.request(`api/jobs/${job}?offset=${offset}`);
        offset = answer.offset;
        for (const line of answer.text.split("\n").filter((each) => each.trim())) {
          last = JSON.parse(line);
          if (last.phase) {
            progress(last.share);
            hub.setText(parts.message, `${last.phase}, ${Math.floor(100 * last.share)} %`);
          }
        }
        if (answer.state !== "running") {
          hub.setText(parts.message, answer.state === "stopped" ? "Cancelled; nothing of it was kept." : last && !last.phase ? "" : answer.error);
          return answer.state === "stopped" || (last && last.phase) ? null : last;
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    } catch (error) {
      hub.setText(parts.message, error.message);
      return null;
    } finally {
      job = null;
      parts.track.hidden = true;
      buttons();
    }
  }

  function progress(share) {
    parts.track.hidden = false;
    parts.bar.style.width = `${100 * share}%`;
    parts.track.setAttribute("aria-valuenow", Math.round(100 * share));
  }

  async function inspect() {
    const event = await follow("api/data/inspect", "Reading all rows");
    if (event && event.report) parts.report.replaceChildren(...hub.report.draw(event.report));
  }

  async function prepare() {
    const event = await follow("api/data/prepare", "Preparing tokens");
    if (!event || !event.prepared) return;
    const { hit, reason, tokens, seconds } = event.prepared;
    const said = `${hit ? "Cache hit" : "Prepared"}: ${hub.whole(tokens)} tokens in ${seconds.toFixed(1)} s (${hit ? "" : "a miss: "}${reason}).`;
    await refresh("").catch((error) => hub.setText(parts.message, error.message));
    await load();
    hub.setText(parts.message, said);
  }

  async function stop() {
    if (job) await hub.post("api/jobs/stop", { job }).catch((error) => hub.setText(parts.message, error.message));
  }

  function use() {
    const data = settings();
    const set = (name, value) => hub.setProps(`field-data-${name}`, { value });
    for (const [name, value] of Object.entries(data)) set(name, value);
    for (const name of [...COLUMNS, ...Object.keys(TEMPLATES)]) if (!(name in data)) set(name, "");
    const tokenizer = document.getElementById("field-data-tokenizer");
    if (tokenizer && tokenizer.value === "lambda") set("tokenizer", "auto");
    hub.setProps("field-train-lambda_cognitive-enabled", { value: false });
    hub.setText(parts.message, "The form trains on it now; Start when the rest is right.");
    const panel = document.getElementById("configuration");
    panel.open = true;
  }

  function askRemove() {
    const file = files.find((each) => each.path === parts.source.value);
    if (!file) return;
    const close = () => { parts.confirm.hidden = true; };
    parts.confirm.hidden = false;
    parts.confirm.replaceChildren(el("p", {}, `Delete ${file.name}? Runs that trained on it stay, but cannot be resumed.`),
      el("button", { type: "button", class: "button small danger", onclick: async () => {
        try {
          await hub.post("api/data", { action: "delete", name: file.name });
          hub.setText(parts.message, `Deleted ${file.name}.`);
        } catch (error) {
          hub.setText(parts.message, error.message);
        }
        close();
        forgetMapping();
        await refresh("");
        emptyPreview();
      } }, "Delete for good"), el("button", { type: "button", class: "button small", onclick: close }, "Cancel"));
    parts.confirm.querySelector("button").focus();
  }

  function drawCache(found) {
    const total = found.entries.reduce((sum, entry) => sum + entry.bytes, 0);
    const purge = (keys) => async () => {
      try {
        drawCache((await hub.post("api/data", keys ? { action: "purge", keys } : { action: "purge" })).cache);
      } catch (error) {
        hub.setText(parts.message, error.message);
      }
      await load();
    };
    if (!found.entries.length) return parts.cache.replaceChildren(el("p", { class: "note" }, "Empty. A run's tokens are kept here, so that the next run on the same bytes and options begins at once."));
    parts.cache.replaceChildren(
      el("p", { class: "note" }, `${found.entries.length} ${found.entries.length === 1 ? "entry" : "entries"}, ${hub.upload.size(total)}, in ${found.folder}. A run's log says whether it was a hit, and why not. `,
        el("button", { type: "button", class: "quiet-button danger", onclick: purge(null) }, "Purge all")),
      el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Token cache" }, el("table", { class: "data-table" },
        el("thead", {}, el("tr", {}, ["Source", "Tokenizer", "Key"].map((name) => el("th", { scope: "col" }, name)), ["Size", "Last used"].map((name) => el("th", { scope: "col", class: "number" }, name)), el("th", { scope: "col" }, el("span", { class: "visually-hidden" }, "Purge")))),
        el("tbody", {}, found.entries.map((entry) => el("tr", {}, el("td", {}, entry.source), el("td", {}, entry.tokenizer), el("td", {}, el("code", {}, entry.key.slice(0, 12))), el("td", { class: "number" }, hub.upload.size(entry.bytes)), el("td", { class: "number" }, hub.ago(entry.used)),
          el("td", { class: "number" }, el("button", { type: "button", class: "quiet-button danger", "aria-label": `Purge ${entry.key.slice(0, 12)}`, onclick: purge([entry.key]) }, "Purge"))))))));
  }

  hub.whenMounted(build);
  hub.tabs.register("data", {
    open: () => refresh().then(load).catch((error) => hub.setText(parts.message, error.message)),
  });
})();
