// Sets the theme before anything is painted: the person's choice, or the system's.
(function () {
  "use strict";
  const KEY = "moe-hub-theme";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem(KEY) || "system";
    } catch (error) {
      return "system"; // storage is blocked
    }
  }

  function apply() {
    const choice = chosen();
    const theme = choice === "system" ? (dark.matches ? "dark" : "light") : choice;
    document.documentElement.setAttribute("data-bs-theme", theme);
    for (const button of document.querySelectorAll("[data-theme]")) {
      button.setAttribute("aria-pressed", String(button.dataset.theme === choice));
    }
    document.dispatchEvent(new CustomEvent("moe-hub-theme", { detail: theme }));
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("[data-theme]");
    if (!button) return;
    try {
      localStorage.setItem(KEY, button.dataset.theme);
    } catch (error) {
      // The choice then lasts for this page only.
    }
    apply();
  });
  dark.addEventListener("change", apply);
  document.addEventListener("moe-hub-mounted", apply);
  apply();
})();
