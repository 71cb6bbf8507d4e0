// What all scripts of the page share: state, requests, small DOM builders, number formats. Text is always set as text.
window.moeHub = (function () {
  "use strict";

  const root = document.documentElement;
  const prefix = root.dataset.prefix;
  const listeners = {};

  // ids and choices only; what runs do is in their files and comes with each live answer
  const state = {
    runs: new Map(),
    order: [],
    focus: null,
    selected: [],
    following: true, // shows the newest run until the person picks one
    status: null,
    figure: "",
    figures: [],
    offer: { metrics: [], groups: [], layers: 0 },
    view: { x: "step", log_x: false, log_y: false, smoothing: 0, layer: 0, metric: "", group_by: "", threshold: "" },
    range: null,
    tab: "",
    clockOffset: 0,
  };

  function on(name, listener) {
    (listeners[name] = listeners[name] || []).push(listener);
  }

  function emit(name, value) {
    for (const listener of listeners[name] || []) listener(value);
  }

  function theme() {
    return root.getAttribute("data-bs-theme") === "dark" ? "dark" : "light";
  }

  async function request(path, options) {
    const response = await fetch(prefix + path, { credentials: "same-origin", ...options });
    const text = await response.text();
    let value = null;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new Error(response.ok ? "the server's answer is not JSON" : `the server answered ${response.status}`);
    }
    if (!response.ok) throw new Error((value && value.error) || `the server answered ${response.status}`);
    return value;
  }

  function post(path, body) {
    return request(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  }

  // el("button", {class: "x", onclick: f, "aria-label": "..."}, child, "text")
  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "class") node.className = value;
      else if (name === "value") node.value = value;
      else if (value === true) node.setAttribute(name, "");
      else node.setAttribute(name, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  }

  function icon(name) {
    return el("span", { class: `icon icon-${name}`, "aria-hidden": "true" });
  }

  function setText(node, text) {
    if (node && node.textContent !== text) node.textContent = text;
  }

  function setProps(id, props) {
    if (window.dash_clientside && window.dash_clientside.set_props) window.dash_clientside.set_props(id, props);
  }

  const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

  function whole(value) {
    return numbers.format(value);
  }

  function decimal(value) {
    if (typeof value !== "number") return String(value); // "NaN", "Infinity"
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : short.format(value);
  }

  function duration(seconds) {
    if (!(seconds >= 0)) return "";
    if (seconds < 90) return `${Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
    return `${(seconds / 86400).toFixed(1)} days`;
  }

  function now() {
    return Date.now() / 1000 + state.clockOffset;
  }

  function ago(time) {
    return time > 0 ? `${duration(Math.max(0, now() - time))} ago` : "";
  }

  function uuid() {
    // crypto.randomUUID needs https or this machine
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // React mounts the page after the scripts ran.
  function whenMounted(start) {
    const ready = () => document.getElementById("live-figure") && document.getElementById("run-table");
    const begin = () => {
      start();
      document.dispatchEvent(new CustomEvent("moe-hub-mounted"));
    };
    if (ready()) return begin();
    const observer = new MutationObserver(() => {
      if (!ready()) return;
      observer.disconnect();
      begin();
    });
    observer.observe(document.body, { childList: true, subtree: true });
  }

  function runTitle(run) {
    return run.label || run.name || run.id;
  }

  return {
    prefix, state, on, emit, theme, request, post, el, icon, setText, setProps, whole, decimal, duration, now, ago,
    uuid, whenMounted, runTitle,
  };
})();
