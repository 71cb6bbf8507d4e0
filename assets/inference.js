// The Inference tab: text from a checkpoint, token by token, with the experts behind each; lambda answers are judged.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state, el } = hub;
  const POLL_MS = 150;
  const KINDS = { right: "Right", "beta-equal": "The same value, but not the term that was asked for", wrong: "Wrong", divergent: "There is no normal form to find", "not a term": "Not a lambda term" };
  let checkpoints = [];
  let job = null;
  let parts = null;
  let tokens = [];
  let task = -1; // number of the held-out task in the prompt

  function number(id, label, value, options, help) {
    return el("div", { class: "mini-field" }, el("label", { for: id, title: help }, label),
      el("input", { class: "form-control", id, type: "number", value, ...options }));
  }

  function build() {
    const host = document.getElementById("panel-inference");
    if (parts) return;
    parts = {};
    parts.checkpoint = el("select", { class: "form-select", id: "checkpoint-select" });
    parts.checkpoint.addEventListener("change", hint);
    parts.prompt = el("textarea", { class: "form-control", id: "prompt-input", rows: 4, spellcheck: "false", maxlength: 100000 });
    parts.generate = el("button", { type: "button", class: "button primary", id: "generate-button", onclick: generate }, hub.icon("play"), "Generate");
    parts.stop = el("button", { type: "button", class: "button", id: "generate-stop", disabled: true, onclick: stop }, hub.icon("stop"), "Stop generating");
    parts.note = el("span", { class: "note", role: "status", id: "generate-note" });
    parts.text = el("div", { class: "generated", id: "generated-text", tabindex: 0, role: "log", "aria-label": "Generated text" });
    parts.experts = el("div", { class: "token-experts", id: "token-experts" });
    parts.verdict = el("div", { class: "verdict", id: "lambda-verdict", hidden: true });
    parts.hint = el("p", { class: "note" });
    parts.template = el("input", { type: "checkbox", class: "form-check-input", id: "prompt-template", checked: true });
    parts.around = el("code", { id: "prompt-around" });
    parts.switch = el("label", { class: "note", for: "prompt-template", hidden: true }, parts.template, " Prompt as the data wrote it: ", parts.around);
    parts.another = el("button", { type: "button", class: "quiet-button", id: "another-task", hidden: true, onclick: anotherTask }, "Another held-out task");
    parts.empty = el("p", { class: "empty-line", hidden: true }, "There is no checkpoint yet. Runs write one every ", el("em", {}, "Checkpoint every"), " steps and at their end; Save writes one now.");
    parts.form = el("div", { class: "inference" },
      el("div", { class: "inference-form" },
        el("div", { class: "mini-field wide" }, el("label", { for: "checkpoint-select" }, "Checkpoint"), parts.checkpoint),
        el("div", { class: "mini-field wide" }, el("div", { class: "label-row" }, el("label", { for: "prompt-input" }, "Prompt"), parts.another), parts.prompt, parts.hint, parts.switch),
        el("div", { class: "mini-grid" },
          number("sample-temperature", "Temperature", 0, { min: 0, max: 10, step: 0.1 }, "0 takes the most likely token"),
          number("sample-top-k", "Top-k", 0, { min: 0, step: 1 }, "only the k most likely tokens; 0: all"),
          number("sample-top-p", "Top-p", 1, { min: 0.01, max: 1, step: 0.01 }, "only the most likely tokens of this total probability"),
          number("sample-max", "New tokens", 128, { min: 1, max: 32768, step: 1 }, "at most"),
          number("sample-seed", "Seed", 0, { min: 0, step: 1 }, "of the random choice")),
        el("div", { class: "button-row" }, parts.generate, parts.stop, parts.note)),
      el("div", { class: "inference-output" }, el("h3", {}, "Text"), parts.text, parts.verdict, el("h3", {}, "Experts"), parts.experts));
    host.replaceChildren(parts.form, parts.empty);
    showExperts(null);
  }

  async function open() {
    build();
    try {
      checkpoints = await hub.request("api/checkpoints");
    } catch (error) {
      hub.setText(parts.note, error.message);
      return;
    }
    parts.form.hidden = !checkpoints.length;
    parts.empty.hidden = checkpoints.length > 0;
    const before = hub.inference.wanted || parts.checkpoint.value;
    hub.inference.wanted = "";
    parts.checkpoint.replaceChildren(...checkpoints.map((each) => el("option", { value: each.key }, `${each.title} · step ${hub.whole(each.step)}${each.best ? " · best" : ""} · ${each.run.slice(-4)}`)));
    const mine = checkpoints.find((each) => each.run === state.focus);
    if (checkpoints.some((each) => each.key === before)) parts.checkpoint.value = before;
    else if (mine) parts.checkpoint.value = mine.key;
    hint();
  }

  function chosen() {
    return checkpoints.find((each) => each.key === parts.checkpoint.value);
  }

  function hint() {
    const lambda = Boolean(chosen() && chosen().source === "lambda");
    parts.another.hidden = !lambda;
    hub.setText(parts.hint, lambda ? "A task that this model has not trained on. The evaluator reduces the term itself and judges the answer." : "");
    if (lambda && !parts.prompt.value) anotherTask();
    showTemplate();
  }

  // What stands around the prompt, with line ends and a last blank shown; hidden where blanks are all there is.
  async function showTemplate() {
    const key = parts.checkpoint.value;
    if (!key) return;
    try {
      const { template } = await hub.request(`api/prompt-template?key=${encodeURIComponent(key)}`);
      if (key !== parts.checkpoint.value) return;
      parts.switch.hidden = template.replace(/ +$/, "") === "{prompt}";
      hub.setText(parts.around, template.replaceAll("\n", "⏎").replace(/ $/, "␣"));
    } catch (error) {
      parts.switch.hidden = true;
    }
  }

  async function anotherTask() {
    task += 1;
    try {
      const found = await hub.request(`api/example?key=${encodeURIComponent(parts.checkpoint.value)}&number=${task}`);
      if (found.unreadable) parts.another.hidden = true;
      else parts.prompt.value = found.prompt;
    } catch (error) {
      hub.setText(parts.note, error.message);
    }
  }

  function read(id) {
    const value = document.getElementById(id).value;
    return value === "" ? null : Number(value);
  }

  async function generate() {
    if (job) return;
    const wrong = Array.from(parts.form.querySelectorAll("input[type=number]")).find((input) => !input.checkValidity());
    if (wrong) {
      hub.setText(parts.note, `${wrong.parentElement.querySelector("label").textContent}: ${wrong.validationMessage}`);
      return wrong.focus();
    }
    tokens = [];
    parts.text.replaceChildren();
    parts.verdict.hidden = true;
    showExperts(null);
    busy(true, "Loading the checkpoint");
    try {
      const prompt = parts.prompt.value;
      const lambda = chosen() && chosen().source === "lambda";
      const started = await hub.post("api/generate", {
        key: parts.checkpoint.value, prompt, raw: !parts.template.checked, temperature: read("sample-temperature"), top_k: read("sample-top-k"),
        top_p: read("sample-top-p"), max_new_tokens: read("sample-max"), seed: read("sample-seed"),
      });
      job = started.job;
      const last = await follow(job);
      const count = `${hub.whole(tokens.length)} tokens`;
      hub.setText(parts.note, last.state === "failed" ? last.error : last.state === "stopped" ? `Stopped after ${count}` : count);
      if (tokens.length) showExperts(Number(parts.experts.dataset.index || 0));
      if (lambda && last.state === "done") await judge(prompt);
    } catch (error) {
      hub.setText(parts.note, error.message);
    } finally {
      job = null;
      busy(false);
    }
  }

  async function follow(id) {
    let offset = 0;
    for (;;) {
      const answer = await hub.request(`api/jobs/${id}?offset=${offset}`);
      offset = answer.offset;
      for (const line of answer.text.split("\n")) {
        if (!line.trim()) continue;
        try {
          add(JSON.parse(line));
        } catch (error) { // what a library prints is no event
          continue;
        }
      }
      if (answer.state !== "running") return answer;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  function add(event) {
    if (typeof event.text !== "string") return;
    if (!tokens.length) hub.setText(parts.note, "Generating");
    const index = tokens.push(event) - 1;
    const shares = event.shares || [];
    const node = el("span", { class: "token", "data-index": index }, event.text);
    const last = shares[shares.length - 1];
    if (last && last.length > 1) node.classList.add(`part-line-${last.indexOf(Math.max(...last)) % 6}`);
    node.addEventListener("mouseenter", () => showExperts(index));
    parts.text.append(node);
    parts.text.scrollTop = parts.text.scrollHeight;
    if (index === 0) showExperts(0);
  }

  function showExperts(index) {
    const event = index === null ? null : tokens[index];
    for (const node of parts.text.querySelectorAll(".token.chosen")) node.classList.remove("chosen");
    if (!event || !event.shares || !event.shares.length) {
      parts.experts.dataset.index = "";
      parts.experts.replaceChildren(el("p", { class: "note" }, "Point at a token, or move with the arrow keys in the text, to see how much each expert of each layer contributed to it."));
      return;
    }
    parts.experts.dataset.index = index;
    const node = parts.text.querySelector(`[data-index="${index}"]`);
    if (node) node.classList.add("chosen");
    parts.experts.replaceChildren(
      el("p", { class: "note" }, `Token ${index + 1} of ${tokens.length}: `, el("code", {}, JSON.stringify(event.text))),
      ...event.shares.map((layer, number) => el("div", { class: "share-row" }, el("span", { class: "share-layer" }, `Layer ${number}`),
        el("div", { class: "share-bar", role: "img", "aria-label": layer.map((share, expert) => `expert ${expert} ${(100 * share).toFixed(0)} %`).join(", ") },
          layer.map((share, expert) => el("span", { class: `part part-${expert % 6}`, style: `flex-grow:${share}`, title: `expert ${expert}: ${(100 * share).toFixed(1)} %` }, share > 0.12 ? `${expert}` : ""))))));
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "generated-text" || !tokens.length) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const now = Number(parts.experts.dataset.index || -1);
    showExperts(Math.min(tokens.length - 1, Math.max(0, now + step)));
  });

  async function judge(prompt) {
    const answer = tokens.map((event) => event.text).join("");
    const found = await hub.post("api/judge", { prompt, answer });
    parts.verdict.hidden = false;
    if (found.unreadable) {
      parts.verdict.className = "verdict";
      parts.verdict.replaceChildren(el("p", { class: "note" }, `The evaluator cannot judge this: ${found.unreadable}`));
      return;
    }
    const partly = found.kind === "right" && !found.right; // the normal form is, but not every phase on the way
    parts.verdict.className = `verdict ${found.right ? "right" : partly ? "partly" : "wrong"}`;
    const kind = partly ? "Normal form right, not every phase" : KINDS[found.kind] || found.kind;
    const phases = Object.entries(found.phases || {});
    parts.verdict.replaceChildren(
      el("p", {}, el("strong", {}, kind), found.problem ? `: ${found.problem}` : ""),
      el("dl", { class: "verdict-facts" },
        el("div", {}, el("dt", {}, "Evaluator"), el("dd", {}, el("code", {}, found.expected || "no normal form"))),
        el("div", {}, el("dt", {}, "Normal form"), el("dd", {}, el("code", {}, found.normal_form || "none"), ` after ${found.steps} step${found.steps === 1 ? "" : "s"}`)),
        phases.length ? el("div", {}, el("dt", {}, "Phases"), el("dd", {}, phases.map(([name, right]) => `${name} ${right ? "right" : "wrong"}`).join(", "))) : null));
  }

  async function stop() {
    if (!job) return;
    try {
      await hub.post("api/jobs/stop", { job });
    } catch (error) {
      hub.setText(parts.note, error.message);
    }
  }

  function busy(on, note) {
    parts.generate.disabled = on;
    parts.stop.disabled = !on;
    if (note) hub.setText(parts.note, note);
  }

  // The contract's elements are there from the start, open or not.
  hub.whenMounted(build);
  hub.tabs.register("inference", { open });
  hub.inference = { wanted: "" };
})();
