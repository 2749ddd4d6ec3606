// A formula wider than its column scrolls; then, and only then, it can be reached by keyboard.
(() => {
  const mark = () => {
    for (const formula of document.querySelectorAll("mjx-container[display]")) {
      if (formula.scrollWidth > formula.clientWidth) {
        formula.tabIndex = 0;
        formula.setAttribute("role", "group");
        formula.setAttribute("aria-label", "Formula, wider than the column");
      } else {
        formula.removeAttribute("tabindex");
      }
    }
  };
  window.addEventListener("load", () => {
    const ready = window.MathJax && window.MathJax.startup ? window.MathJax.startup.promise : Promise.resolve();
    ready.then(mark);
    new ResizeObserver(mark).observe(document.body);
  });
})();
