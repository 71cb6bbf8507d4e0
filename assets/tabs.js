// The tabs under the figure: one is open, the address says which, arrow keys move between them.
(function () {
  "use strict";
  const hub = window.moeHub;
  const { state } = hub;
  const panels = {}; // key -> {open, close}

  function tabs() {
    return Array.from(document.querySelectorAll("[role=tab][data-tab]"));
  }

  function show(key, remember) {
    const known = tabs().map((tab) => tab.dataset.tab);
    const wanted = known.includes(key) ? key : known[0];
    for (const tab of tabs()) {
      const chosen = tab.dataset.tab === wanted;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      const panel = document.getElementById(`panel-${tab.dataset.tab}`);
      if (!chosen && !panel.hidden && panels[tab.dataset.tab] && panels[tab.dataset.tab].close) panels[tab.dataset.tab].close();
      panel.hidden = !chosen;
    }
    state.tab = remember || state.tab ? wanted : "";
    state.openTab = wanted;
    const help = document.getElementById("help-link");
    if (help && help.dataset[wanted]) help.href = help.dataset[wanted];
    if (remember) hub.address.write(false);
    if (panels[wanted] && panels[wanted].open) panels[wanted].open();
  }

  document.addEventListener("click", (event) => {
    const tab = event.target.closest && event.target.closest("[role=tab][data-tab]");
    if (tab) show(tab.dataset.tab, true);
  });
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest && event.target.closest("[role=tab][data-tab]");
    if (!tab) return;
    const all = tabs();
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -all.indexOf(tab), End: all.length - 1 - all.indexOf(tab) }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = all[(all.indexOf(tab) + step + all.length) % all.length];
    next.focus();
    show(next.dataset.tab, true);
  });

  hub.whenMounted(() => show(state.tab, false));
  hub.on("address", () => show(state.tab, false));

  hub.tabs = { register: (key, panel) => { panels[key] = panel; }, show, isOpen: (key) => state.openTab === key };
})();
