// Checkpoints side by side: scores on the same data, config difference, distance of the weights, rotations, samples.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { el } = hub;
  const SCORES = [
    ["loss", "Loss, nat per token"], ["loss_minus_first", "Loss minus A's, row by row"], ["perplexity", "Perplexity"],
    ["bits_per_byte", "Bits per byte of text"], ["token_accuracy", "Next token right"], ["exact_match", "Whole answer right"],
  ];
  const SHARES = new Set(["token_accuracy", "exact_match"]);
  const WIDE = new Set(["On the same data", "Sample outputs"]);
  let view = null; // {host, keys, names, titles, parts, job}

  function letter(index) {
    return "ABCDEF"[index];
  }

  function table(title, first, lines, cell, words) {
    return el("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": title },
      el("table", { class: `data-table compare-table ${words ? "in-words" : ""}` },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, first), view.titles.map((name, index) => el("th", { scope: "col", class: "number", title: name }, letter(index))))),
        el("tbody", {}, lines.map(([name, values]) => el("tr", {}, el("th", { scope: "row" }, name), values.map((value, index) => el("td", { class: "number" }, cell(value, index))))))));
  }

  function block(title, note, ...content) {
    return el("section", { class: `compare-block ${WIDE.has(title) ? "wide" : ""}` }, el("h3", {}, title), note ? el("p", { class: "note" }, note) : null, ...content);
  }

  function plain(value) {
    if (value === null || value === undefined) return "–";
    if (Array.isArray(value)) return value.join(", ");
    return typeof value === "number" ? hub.decimal(value) : String(value);
  }

  async function open(host, keys, rows) {
    await stop();
    const titles = keys.map((key) => {
      const row = rows.find((each) => each.key === key);
      return row ? `${row.title} · step ${hub.whole(row.step)}` : key;
    });
    view = { host, keys, titles, rows, job: null, parts: {} };
    const mine = view;
    host.replaceChildren(el("p", { class: "note" }, "Reading the weights"));
    try {
      const found = await hub.request(`api/checkpoints/compare?keys=${encodeURIComponent(keys.join(","))}`);
      if (view === mine) draw(found);
    } catch (error) {
      host.replaceChildren(el("p", { class: "field-error" }, error.message));
    }
  }

  function draw(found) {
    const { keys, titles } = view;
    const layers = Array.from(new Set(found.weights.flatMap((each) => Object.keys(each.layers))));
    const far = Math.max(1e-12, ...found.weights.flatMap((each) => Object.values(each.layers).filter((value) => value !== null)));
    view.host.replaceChildren(
      el("div", { class: "compare-head" }, el("h2", {}, "Side by side"),
        el("ol", { class: "compare-legend" }, keys.map((key, index) => el("li", {}, el("span", { class: `compare-letter part-${index}` }, letter(index)), el("span", { class: "cell-title" }, titles[index]), el("span", { class: "run-meta" }, key.split("@")[0]))))),
      sameData(),
      block("Config difference", found.config.length ? "" : "Their configs are equal.", found.config.length ? table("Config difference", "Field", found.config.map((line) => [line.key, line.values]), plain) : null),
      block("As each run measured it", "Each on the held-out data of its own run, so across runs these need not compare.", table("As each run measured it", "Metric", found.metrics.map((line) => [line.name, line.values]), plain)),
      block("Distance of the weights from A", "Length of the difference over the length of A's weights, layer by layer; – where the shapes differ.",
        table("Distance of the weights from A", "Layer", layers.map((layer) => [layer, [0, ...found.weights.map((each) => each.layers[layer] ?? null)]]), (value) => bar(value, far))),
      rotations(found),
      samples());
    evaluate();
  }

  function bar(value, far) {
    if (value === null) return "–";
    return [el("span", { class: "bar-track", "aria-hidden": "true" }, el("span", { class: "bar-fill", style: `width:${(100 * value / far).toFixed(1)}%` })), value ? value.toFixed(3) : "0"];
  }

  // The same evaluation data for all of them: a process of its own scores each, and can be stopped.
  function sameData() {
    const { keys, parts, rows } = view;
    parts.data = el("select", { class: "form-select", id: "compare-data" });
    const runs = new Map(keys.map((key, index) => [key.split("@")[0], [key, index]]).reverse());
    for (const [, [key, index]] of Array.from(runs).reverse()) {
      const row = rows.find((each) => each.key === key);
      parts.data.append(el("option", { value: `of:${key}` }, `Held-out data of ${letter(index)}${row && row.source ? ` (${row.source})` : ""}`));
    }
    parts.data.append(el("option", { value: "lambda" }, "Generated lambda tasks"));
    parts.data.addEventListener("change", evaluate);
    parts.evaluate = el("button", { type: "button", class: "button small", id: "evaluate-all", onclick: evaluate }, "Evaluate again");
    parts.stop = el("button", { type: "button", class: "button small", id: "evaluate-stop", disabled: true, onclick: stop }, "Stop");
    parts.said = el("p", { class: "note", role: "status", id: "evaluate-note" });
    parts.scores = el("div", { id: "compare-scores" });
    hub.request("api/data").then((answer) => {
      for (const file of answer.files) parts.data.append(el("option", { value: `file:${file.name}` }, `Held-out part of ${file.name}`));
    }).catch(() => {});
    return block("On the same data", "", el("div", { class: "button-row" }, el("label", { for: "compare-data" }, "Evaluation data"), parts.data, parts.evaluate, parts.stop), parts.said, parts.scores);
  }

  async function evaluate() {
    const mine = view;
    const { parts, keys } = mine;
    await stop();
    const [kind, ...rest] = parts.data.value.split(":");
    const place = rest.join(":");
    const body = { keys, data_of: kind === "of" ? place : keys[0], data: kind === "of" ? "" : kind === "file" ? place : "lambda" };
    parts.evaluate.disabled = true;
    parts.stop.disabled = false;
    parts.scores.replaceChildren();
    const began = Date.now();
    try {
      const started = await hub.post("api/evaluate", body);
      mine.job = started.job;
      const text = await follow(started.job, () => hub.setText(parts.said, `Every held-out row goes through each model: ${Math.round((Date.now() - began) / 1000)} s`));
      if (view !== mine || mine.job !== started.job) return;
      if (text === null) hub.setText(parts.said, "Stopped.");
      else showScores(JSON.parse(text), started.command);
    } catch (error) {
      hub.setText(parts.said, error.message);
    }
    mine.job = null;
    parts.evaluate.disabled = false;
    parts.stop.disabled = true;
  }

  function showScores(found, command) {
    const { parts } = view;
    const first = found.checkpoints[0];
    const lines = SCORES.filter(([name]) => found.checkpoints.some((each) => each[name] !== null)).map(([name, label]) => [label, found.checkpoints.map((each) => [name, each[name]])]);
    const many = (count, word) => `${hub.whole(count)} ${word}${count === 1 ? "" : "s"}`;
    hub.setText(parts.said, `${found.data}: ${many(first.tokens, "token")} to predict in ${many(first.rows, "row")}${first.samples ? `, ${many(first.samples, "task")} with an answer` : ""}. Small print: 95 % intervals.${first.loss ? "" : " Loss and perplexity do not compare, because the models read different tokens."}`);
    parts.scores.replaceChildren(table("On the same data", "Score", lines, score, true), el("details", { class: "in-a-shell" }, el("summary", {}, "The same in a shell"), el("pre", { tabindex: 0, "aria-label": "Shell command" }, command)));
  }

  function score([name, value]) {
    if (value === null) return "–";
    const shown = (number) => minus(SHARES.has(name) ? `${(100 * number).toFixed(1)} %` : number.toFixed(name === "perplexity" ? 3 : 4));
    if (!Array.isArray(value)) return shown(value);
    return [shown(value[0]), Number.isFinite(value[1]) ? el("span", { class: "interval" }, `${shown(value[1])} to ${shown(value[2])}`) : null];
  }

  function minus(text) {
    return text.replace("-", "\u2212");
  }

  async function stop() {
    if (!view || !view.job) return;
    const { job } = view;
    view.job = null;
    view.parts.stop.disabled = true;
    view.parts.evaluate.disabled = false;
    hub.setText(view.parts.said, "Stopped.");
    try {
      await hub.post("api/jobs/stop", { job });
    } catch (error) {
      hub.setText(view.parts.said, error.message);
    }
  }

  function rotations(found) {
    const places = Array.from(new Set(found.rotations.flatMap((each) => Object.keys(each))));
    if (!places.length) return "";
    const lines = [];
    places.forEach((place, layer) => {
      const experts = Math.max(...found.rotations.map((each) => (each[place] || []).length));
      for (let expert = 0; expert < experts; expert += 1) {
        lines.push([`layer ${layer}, expert ${expert}`, found.rotations.map((each) => ((each[place] || [])[expert] || []).map((angle) => angle.toFixed(3).replace(/^-(?=0\.000$)/, "")).join("  ") || null)]);
      }
    });
    return block("Rotation angles", "In rad, one for each plane.", table("Rotation angles", "Expert", lines, plain));
  }

  function samples() {
    const { keys, parts } = view;
    parts.samples = el("div", { class: "samples" });
    parts.prompt = el("input", { class: "form-control", id: "compare-prompt", value: "", placeholder: "Prompt for all of them", "aria-label": "Prompt for all of them" });
    parts.sample = el("button", { type: "button", class: "button small", id: "sample-all", onclick: sampleAll }, "Generate with all");
    hub.request(`api/example?key=${encodeURIComponent(keys[0])}&number=0`).then((task) => { if (!parts.prompt.value) parts.prompt.value = task.prompt || ""; }).catch(() => {});
    return block("Sample outputs", "The most likely token each time, at most 96 of them.", el("div", { class: "button-row" }, parts.prompt, parts.sample), parts.samples);
  }

  async function sampleAll() {
    const { keys, titles, parts } = view;
    parts.sample.disabled = true;
    const places = titles.map((name) => el("pre", { tabindex: 0, "aria-label": `Text of ${name}` }, "…"));
    parts.samples.replaceChildren(...titles.map((name, index) => el("div", { class: "sample" }, el("h4", {}, `${letter(index)}  ${name}`), places[index])));
    for (const [index, key] of keys.entries()) {
      try {
        const { job } = await hub.post("api/generate", { key, prompt: parts.prompt.value, max_new_tokens: 96 });
        const text = await follow(job, () => {});
        places[index].textContent = (text || "").split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line).text).join("");
      } catch (error) {
        places[index].textContent = error.message;
      }
    }
    parts.sample.disabled = false;
  }

  // The whole output of a job once it is done, null where it was stopped.
  async function follow(job, tell) {
    let offset = 0;
    let text = "";
    for (;;) {
      const answer = await hub.request(`api/jobs/${job}?offset=${offset}`);
      offset = answer.offset;
      text += answer.text;
      if (answer.state === "failed") throw new Error(answer.error);
      if (answer.state === "stopped") return null;
      if (answer.state !== "running") return text;
      tell();
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }

  hub.compare = { open, stop };
})();
