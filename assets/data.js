// The Data tab: bring a file, see its rows, have it inspected before training, look after the token cache.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { el } = hub;
  const COLUMNS = ["text_column", "prompt_column", "input_column", "answer_column", "messages_column"];
  const COLUMN_LABELS = { text_column: "Text from", prompt_column: "Prompt from", input_column: "Input from", answer_column: "Answer from", messages_column: "Messages from" };
  const FORMATS = ["auto", "text", "question_answer", "instruction", "messages", "prompt_completion"];
  let parts = null;
  let files = [];
  let job = null;
  let columnNames = "";

  function size(bytes) {
    return bytes < 1e3 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
  }

  function field(id, label, control) {
    control.id = id;
    return el("div", { class: "mini-field" }, el("label", { for: id }, label), control);
  }

  function select(options) {
    return el("select", { class: "form-select" }, options.map(([value, label]) => el("option", { value }, label)));
  }

  function build() {
    if (parts) return;
    parts = {};
    parts.file = el("input", { type: "file", id: "upload-input", class: "visually-hidden", accept: ".json,.jsonl,.txt,.csv,.tsv,.parquet" });
    parts.file.addEventListener("change", () => { if (parts.file.files[0]) upload(parts.file.files[0]); });
    parts.drop = el("label", { class: "drop", for: "upload-input" }, hub.icon("upload"), el("span", {}, "Drop a JSON, JSONL, TXT, CSV or Parquet file here, or choose one"));
    parts.progress = el("div", { class: "upload-progress", hidden: true });
    parts.message = el("p", { class: "note", role: "status", id: "data-message" });
    parts.source = select([["", "No file chosen"]]);
    parts.source.addEventListener("change", () => { forgetMapping(); load(); });
    parts.hubName = el("input", { class: "form-control", placeholder: "owner/name", autocomplete: "off" });
    parts.hubConfig = el("input", { class: "form-control", placeholder: "default", autocomplete: "off" });
    parts.hubSplit = el("input", { class: "form-control", value: "train", autocomplete: "off" });
    parts.hub = el("div", { class: "mini-grid wide", hidden: true }, field("hub-name", "Dataset", parts.hubName), field("hub-config", "Config", parts.hubConfig), field("hub-split", "Split", parts.hubSplit));
    parts.format = select(FORMATS.map((name) => [name, name.replace("_", " ")]));
    parts.format.addEventListener("change", load);
    parts.bad = select([["refuse", "refuse the file"], ["skip", "skip them"]]);
    parts.columns = Object.fromEntries(COLUMNS.map((name) => [name, select([["", "detected"]])]));
    for (const control of Object.values(parts.columns)) control.addEventListener("change", load);
    parts.mapping = el("div", { class: "mini-grid wide" }, field("data-format", "Format", parts.format),
      COLUMNS.map((name) => field(`data-${name}`, COLUMN_LABELS[name], parts.columns[name])), field("data-bad-rows", "Bad rows", parts.bad));
    parts.preview = el("div", { class: "dataset-preview", id: "dataset-preview", role: "region", "aria-label": "Preview of the data", tabindex: 0 });
    parts.inspect = el("button", { type: "button", class: "button", id: "inspect-button", disabled: true, onclick: inspect }, "Inspect");
    parts.stop = el("button", { type: "button", class: "button", hidden: true, onclick: stop }, hub.icon("stop"), "Stop inspecting");
    parts.use = el("button", { type: "button", class: "button primary", id: "use-data-button", disabled: true, onclick: use }, "Train on it");
    parts.remove = el("button", { type: "button", class: "button small danger", disabled: true, onclick: askRemove }, "Delete file");
    parts.confirm = el("div", { class: "confirm", hidden: true });
    parts.report = el("div", { class: "data-report", id: "data-report" });
    parts.cache = el("div", { class: "data-cache" });
    document.getElementById("panel-data").replaceChildren(
      el("div", { class: "data-grid" },
        el("div", { class: "data-side" }, parts.file, parts.drop, parts.progress,
          field("data-source-select", "Source", parts.source), parts.hub, parts.mapping,
          el("div", { class: "button-row" }, parts.use, parts.inspect, parts.stop, parts.remove), parts.confirm, parts.message),
        el("div", { class: "data-main" }, el("h3", {}, "Preview"), parts.preview, parts.report)),
      el("section", { class: "compare-block cache-block" }, el("h3", {}, "Token cache"), parts.cache));
    for (const kind of ["dragenter", "dragover"]) parts.drop.addEventListener(kind, (event) => { event.preventDefault(); parts.drop.classList.add("over"); });
    for (const kind of ["dragleave", "drop"]) parts.drop.addEventListener(kind, (event) => { event.preventDefault(); parts.drop.classList.remove("over"); });
    parts.drop.addEventListener("drop", (event) => { if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]); });
    emptyPreview();
  }

  function emptyPreview() {
    parts.preview.replaceChildren(el("p", { class: "empty-line" }, "Bring a file, or choose one that is here, to see its first rows. With no file at all, runs train on lambda calculus that the hub generates."));
  }

  function forgetMapping() {
    parts.format.value = "auto";
    for (const control of Object.values(parts.columns)) control.replaceChildren(el("option", { value: "" }, "detected"));
    columnNames = "";
    parts.report.replaceChildren();
  }

  async function refresh(chosen) {
    const answer = await hub.request("api/data");
    files = answer.files;
    const before = chosen || parts.source.value;
    parts.source.replaceChildren(el("option", { value: "" }, files.length ? "Choose a file" : "No file here yet"),
      ...files.map((file) => el("option", { value: file.path }, `${file.name} · ${size(file.bytes)}`)), el("option", { value: "hub:" }, "Hugging Face Hub dataset"));
    parts.source.value = before === "hub:" || files.some((file) => file.path === before) ? before : "";
    drawCache(answer.cache);
    buttons();
  }

  function buttons() {
    const any = parts.source.value !== "";
    parts.inspect.disabled = !any || Boolean(job);
    parts.use.disabled = !any;
    parts.remove.disabled = !any || parts.source.value === "hub:";
    parts.hub.hidden = parts.source.value !== "hub:";
    parts.stop.hidden = !job;
  }

  function settings() {
    const data = { text_format: parts.format.value, bad_rows: parts.bad.value };
    if (parts.source.value === "hub:") Object.assign(data, { source: "hub", name: parts.hubName.value.trim(), config_name: parts.hubConfig.value.trim(), split: parts.hubSplit.value.trim() });
    else Object.assign(data, { source: "file", path: parts.source.value });
    for (const name of COLUMNS) if (parts.columns[name].value) data[name] = parts.columns[name].value;
    return data;
  }

  async function upload(file) {
    hub.setText(parts.message, "");
    const bar = el("div", { class: "progress-fill" });
    const track = el("div", { class: "progress-track", role: "progressbar", "aria-label": `Upload of ${file.name}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, bar);
    const text = el("span", { class: "note" }, file.name);
    parts.progress.hidden = false;
    parts.progress.replaceChildren(text, track);
    try {
      const { upload: id, chunk } = await hub.post("api/uploads", { name: file.name, size: file.size });
      let done = 0;
      let answer = null;
      while (done < file.size) {
        answer = await hub.request(`api/uploads/${id}?offset=${done}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file.slice(done, done + chunk) });
        done = answer.received;
        const percent = (100 * done) / file.size;
        bar.style.width = `${percent}%`;
        track.setAttribute("aria-valuenow", percent.toFixed(0));
        hub.setText(text, `${file.name}: ${size(done)} of ${size(file.size)}`);
      }
      hub.setText(parts.message, `${answer.name} is here.`);
      await refresh(answer.path);
      forgetMapping();
      await load();
    } catch (error) {
      hub.setText(parts.message, error.message);
    } finally {
      parts.progress.hidden = true;
      parts.file.value = "";
    }
  }

  async function load() {
    buttons();
    if (!parts.source.value || parts.source.value === "hub:") return emptyPreview();
    try {
      const found = await hub.post("api/data/preview", { data: settings() });
      if (found.unreadable) throw new Error(found.unreadable);
      showColumns(found.columns);
      drawPreview(found);
    } catch (error) {
      parts.preview.replaceChildren(el("p", { class: "field-error wide" }, error.message));
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
    parts.preview.replaceChildren(
      el("p", {}, el("strong", {}, found.kind.toUpperCase()), `  ${found.format}`),
      found.problems.length ? el("ul", { class: "problems" }, found.problems.map((text) => el("li", {}, text))) : "",
      el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "First rows" }, el("table", { class: "data-table" },
        el("thead", {}, el("tr", {}, [...(found.kind === "text" ? [] : ["line"]), ...found.columns].map((name) => el("th", { scope: "col" }, name, used.has(name) ? el("span", { class: "tag" }, used.get(name)) : null)))),
        el("tbody", {}, found.rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))))),
      found.texts.length ? el("details", {}, el("summary", { class: "quiet-button" }, "As the model reads it"), el("ol", { class: "texts" }, found.texts.slice(0, 5).map((text) => el("li", {}, el("pre", { tabindex: 0 }, text))))) : "");
  }

  async function inspect() {
    hub.setText(parts.message, "Reading all rows");
    try {
      job = (await hub.post("api/data/inspect", { data: settings() })).job;
      buttons();
      const began = Date.now();
      let text = "";
      let offset = 0;
      for (;;) {
        const answer = await hub.request(`api/jobs/${job}?offset=${offset}`);
        offset = answer.offset;
        text += answer.text;
        if (answer.state !== "running") {
          if (text.trim().startsWith("{") && answer.state !== "stopped") drawReport(JSON.parse(text));
          hub.setText(parts.message, answer.state === "stopped" ? "Stopped." : text.trim() ? "" : answer.error);
          break;
        }
        hub.setText(parts.message, `Reading all rows, ${hub.duration((Date.now() - began) / 1000)}`);
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
    } catch (error) {
      hub.setText(parts.message, error.message);
    } finally {
      job = null;
      buttons();
    }
  }

  async function stop() {
    if (job) await hub.post("api/jobs/stop", { job }).catch((error) => hub.setText(parts.message, error.message));
  }

  function drawReport(report) {
    const list = (title, kind, lines) => (lines.length ? [el("h4", {}, title), el("ul", { class: kind }, lines.map((text) => el("li", {}, text)))] : []);
    const facts = [["Rows", hub.whole(report.rows)], ["Unusable rows", hub.whole(report.bad_rows)],
      ...Object.entries(report.duplicates).filter(([name]) => name !== "rows").map(([name, count]) => [name.replaceAll("_", " "), hub.whole(count)]),
      ...("random_split" in report.leakage ? [["Held-out rows also in training, random split", `${(100 * report.leakage.random_split).toFixed(1)} %`], ["The same, as held out here", `${(100 * report.leakage.split_by_group).toFixed(1)} %`]] : []),
      ...(report.tokens.train ? [["Tokens to train on", hub.whole(report.tokens.train)], ["Tokens held out", hub.whole(report.tokens.held_out)], ["Tokenizer", `${report.tokens.tokenizer}, ${hub.whole(report.tokens.vocab_size)} tokens`], ["Padding", `${(100 * report.tokens.padding_share).toFixed(1)} %`]] : [])];
    parts.report.replaceChildren(el("h3", {}, "Report"),
      el("p", { class: report.usable ? "ready" : "wrong" }, report.verdict[0].toUpperCase() + report.verdict.slice(1)),
      ...list("Problems", "problems", report.problems), ...list("Warnings", "warnings", report.warnings), ...list("Notes", "", report.notes),
      el("dl", { class: "report-facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      badRows(report), histogram(report.tokens.histogram ? report.tokens : report.lengths));
  }

  function badRows(report) {
    if (!report.first_bad_rows.length) return "";
    return el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Unusable rows" }, el("table", { class: "data-table" },
      el("thead", {}, el("tr", {}, ["Line", "Field", "Expected", "Found", "What to do"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, report.first_bad_rows.map((row) => el("tr", {}, [row.line, row.field, row.expected, row.found, row.fix].map((cell) => el("td", {}, String(cell))))))));
  }

  function histogram(lengths) {
    if (!lengths || !lengths.histogram) return "";
    const most = Math.max(...lengths.histogram.map((bin) => bin.count));
    return el("figure", { class: "histogram" },
      el("figcaption", {}, `Length in ${lengths.unit}: median ${hub.whole(lengths.median)}, 99 % up to ${hub.whole(lengths.p99)}, largest ${hub.whole(lengths.largest)}`),
      lengths.histogram.map((bin) => el("div", { class: "bin" }, el("span", {}, bin.from === bin.to ? `${bin.from}` : `${hub.whole(bin.from)}–${hub.whole(bin.to)}`), el("span", { class: "bin-bar", style: `width:${(62 * bin.count) / most}%` }), el("span", {}, hub.whole(bin.count)))));
  }

  function use() {
    const data = settings();
    const set = (name, value) => hub.setProps(`field-data-${name}`, { value });
    for (const [name, value] of Object.entries(data)) set(name, value);
    for (const name of COLUMNS) if (!(name in data)) set(name, "");
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
    };
    if (!found.entries.length) return parts.cache.replaceChildren(el("p", { class: "note" }, "Empty. A run's tokens are kept here, so that the next run on the same bytes and options begins at once."));
    parts.cache.replaceChildren(
      el("p", { class: "note" }, `${found.entries.length} ${found.entries.length === 1 ? "entry" : "entries"}, ${size(total)}, in ${found.folder}. A run's log says whether it was a hit, and why not. `,
        el("button", { type: "button", class: "quiet-button danger", onclick: purge(null) }, "Purge all")),
      el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Token cache" }, el("table", { class: "data-table" },
        el("thead", {}, el("tr", {}, ["Source", "Tokenizer", "Key"].map((name) => el("th", { scope: "col" }, name)), ["Size", "Last used"].map((name) => el("th", { scope: "col", class: "number" }, name)), el("th", { scope: "col" }, el("span", { class: "visually-hidden" }, "Purge")))),
        el("tbody", {}, found.entries.map((entry) => el("tr", {}, el("td", {}, entry.source), el("td", {}, entry.tokenizer), el("td", {}, el("code", {}, entry.key.slice(0, 12))), el("td", { class: "number" }, size(entry.bytes)), el("td", { class: "number" }, hub.ago(entry.used)),
          el("td", { class: "number" }, el("button", { type: "button", class: "quiet-button danger", "aria-label": `Purge ${entry.key.slice(0, 12)}`, onclick: purge([entry.key]) }, "Purge"))))))));
  }

  hub.whenMounted(build);
  hub.tabs.register("data", {
    open: () => refresh().then(load).catch((error) => hub.setText(parts.message, error.message)),
  });
})();
