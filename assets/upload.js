// Uploads: chunk after chunk, on through a broken connection, with cancel; what was broken off can be gone on with.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { el } = hub;
  const OVERLAP = 65536; // bytes sent again where an upload goes on, so that another file of the same name is noticed
  const CHUNK_MS = 120000; // a chunk that takes longer is a broken connection
  const WAITS_MS = [500, 1000, 2000, 4000];
  const PATIENCE_MS = 600000;
  let parts = null;
  let current = null; // {controller, id} of the upload under way
  let whenDone = null;

  class Lost extends Error {}

  function size(bytes) {
    return bytes < 1e3 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
  }

  // done(answer) is called after each file that is whole, done(null) when something else changed.
  function build(done) {
    whenDone = done;
    parts = {};
    parts.file = el("input", { type: "file", id: "upload-input", class: "visually-hidden", multiple: true, accept: ".json,.jsonl,.txt,.csv,.tsv,.parquet" });
    parts.file.addEventListener("change", () => all(Array.from(parts.file.files)));
    parts.drop = el("label", { class: "drop", for: "upload-input" }, hub.icon("upload"), el("span", {}, "Drop a JSON, JSONL, TXT, CSV or Parquet file here, or choose one"));
    for (const kind of ["dragenter", "dragover"]) parts.drop.addEventListener(kind, (event) => { event.preventDefault(); parts.drop.classList.add("over"); });
    for (const kind of ["dragleave", "drop"]) parts.drop.addEventListener(kind, (event) => { event.preventDefault(); parts.drop.classList.remove("over"); });
    parts.drop.addEventListener("drop", (event) => all(Array.from(event.dataTransfer.files)));
    parts.bar = el("div", { class: "progress-fill" });
    parts.track = el("div", { class: "progress-track", role: "progressbar", "aria-label": "Upload", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, parts.bar);
    parts.text = el("span", { class: "note", id: "upload-text" });
    parts.cancel = el("button", { type: "button", class: "button small", id: "upload-cancel", onclick: cancel }, "Cancel upload");
    parts.progress = el("div", { class: "upload-progress", hidden: true }, parts.text, parts.track, el("div", { class: "button-row" }, parts.cancel));
    parts.message = el("p", { class: "note", role: "status", id: "upload-message" });
    parts.left = el("ul", { class: "unfinished", id: "unfinished-uploads" });
    return [parts.file, parts.drop, parts.progress, parts.message, parts.left];
  }

  async function all(files) {
    if (!files.length) return;
    if (current) return hub.setText(parts.message, "An upload is under way: wait until it is done, or cancel it.");
    for (const file of files) {
      if (!(await one(file))) break;
    }
    parts.file.value = "";
  }

  // Whether the file is whole on the server.
  async function one(file) {
    const run = { controller: new AbortController(), id: null, began: Date.now(), from: 0 };
    current = run;
    hub.setText(parts.message, "");
    parts.progress.hidden = false;
    show(file, 0, run);
    let answer = null;
    try {
      answer = await send(file, run);
      hub.setText(parts.message, `${answer.name} is here.`);
    } catch (error) {
      hub.setText(parts.message, run.controller.signal.aborted ? await discarded(file, run) : error.message);
    } finally {
      current = null;
      parts.progress.hidden = true;
    }
    await whenDone(answer);
    return answer;
  }

  async function discarded(file, run) {
    try {
      if (run.id) await hub.post("api/data", { action: "discard", upload: run.id });
      return `The upload of ${file.name} is cancelled; nothing of it was kept.`;
    } catch (error) {
      return error.message;
    }
  }

  async function send(file, run) {
    const announced = JSON.stringify({ name: file.name, size: file.size, modified: file.lastModified || 0 });
    const begun = await patiently(file, run, () => ask("api/uploads", "application/json", announced, run));
    run.id = begun.upload;
    run.from = begun.received;
    let at = Math.max(0, begun.received - OVERLAP);
    for (;;) {
      const chunk = file.slice(at, at + begun.chunk);
      const address = `api/uploads/${run.id}?offset=${at}`;
      const answer = await patiently(file, run, () => ask(address, "application/octet-stream", chunk, run));
      if (answer.path) return answer;
      at = answer.received;
      show(file, at, run);
    }
  }

  // The same request again while the connection is lost: the server skips what it has.
  async function patiently(file, run, asking) {
    const began = Date.now();
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await asking();
      } catch (error) {
        if (!(error instanceof Lost) || run.controller.signal.aborted || Date.now() - began > PATIENCE_MS) throw error;
        await file.slice(0, 1).arrayBuffer().catch(() => { throw new Error(`${file.name} was changed or removed; choose it again`); });
        hub.setText(parts.text, `${file.name}: the connection is lost, trying again`);
        run.from = -1;
        await pause(WAITS_MS[Math.min(attempt, WAITS_MS.length - 1)], run.controller.signal);
      }
    }
  }

  async function ask(path, type, body, run) {
    const signals = [run.controller.signal];
    if (AbortSignal.timeout && AbortSignal.any) signals.push(AbortSignal.timeout(CHUNK_MS));
    const signal = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
    let response;
    let text;
    try {
      response = await fetch(hub.prefix + path, { method: "POST", credentials: "same-origin", headers: { "Content-Type": type }, body, signal });
      text = await response.text();
    } catch (error) {
      throw run.controller.signal.aborted ? error : new Lost(error.message);
    }
    if (response.status >= 500) throw new Lost(`the server answered ${response.status}`);
    let value = null;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new Error(`the server answered ${response.status}`);
    }
    if (!response.ok) throw new Error(value.error || `the server answered ${response.status}`);
    return value;
  }

  function pause(ms, signal) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
    });
  }

  function show(file, done, run) {
    if (run.from < 0) Object.assign(run, { from: done, began: Date.now() }); // speed since the connection came back
    const percent = (100 * done) / file.size;
    const seconds = (Date.now() - run.began) / 1000;
    const speed = seconds > 1 ? (done - run.from) / seconds : 0;
    parts.bar.style.width = `${percent}%`;
    parts.track.setAttribute("aria-valuenow", percent.toFixed(0));
    parts.track.setAttribute("aria-label", `Upload of ${file.name}`);
    hub.setText(parts.text, `${file.name}: ${size(done)} of ${size(file.size)}${speed > 0 ? `, ${size(speed)}/s, ${hub.duration((file.size - done) / speed)} left` : ""}`);
  }

  function cancel() {
    if (current) current.controller.abort();
  }

  // What was broken off: by a closed page, or by a server that ended.
  function drawUnfinished(found) {
    const others = found.filter((each) => !current || each.upload !== current.id);
    parts.left.hidden = !others.length;
    parts.left.replaceChildren(...others.map((each) => el("li", {},
      el("span", {}, `${each.name}: ${size(each.received)} of ${size(each.size)} came, ${hub.ago(each.time)}. Choose the same file to go on. `),
      el("button", { type: "button", class: "quiet-button danger", "aria-label": `Discard ${each.name}`, onclick: () => discard(each) }, "Discard"))));
  }

  async function discard(each) {
    try {
      await hub.post("api/data", { action: "discard", upload: each.upload });
    } catch (error) {
      hub.setText(parts.message, error.message);
    }
    await whenDone(null);
  }

  hub.upload = { build, drawUnfinished, size };
})();
