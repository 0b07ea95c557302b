// What only the browser can do: digits, tints, the Back button, keys, the remembered choice of light or dark.
window.debuggerPage = {
  number: (x) => (x === null || x === undefined ? "" : (x < 0 ? "−" : "") + Math.abs(x).toFixed(3)),
  tint(p) {
    const largest = p.context.largest[p.column.getColDef().context.group];
    if (p.node.rowPinned || !largest || p.value === null || p.value === undefined) return { background: "none" };
    return { background: `rgba(var(--${p.value > 0 ? "for" : "against"}-rgb), ${(0.55 * Math.abs(p.value)) / largest})` };
  },
  sorted(e) {
    if (e.source !== "uiColumnSorted") return;
    const column = e.api.getColumnState().find((each) => each.sort);
    emitEvent(`sorted-${e.context.mark}`, column ? column.colId : "direct");
  },
  key(e) {
    if (e.event.key === "Enter" && !e.node.rowPinned) emitEvent(`chosen-${e.context.mark}`, e.node.data.node);
  },
  find: (name) => document.querySelector(`[data-testid="${name}"]`),
  click(name) {
    this.find(name)?.click();
  },
  table() {
    this.find("node-grid")?.querySelector(".ag-row .ag-cell")?.focus();
  },
  reveal(name) {
    setTimeout(() => this.find(name)?.scrollIntoView({ behavior: "smooth", block: "start" }), 350);
  },
  copy() {
    navigator.clipboard?.writeText(location.href);
    Quasar.Notify.create({ message: "The link to this view is copied.", timeout: 1500 });
  },
  turn() {
    const dark = !document.body.classList.contains("body--dark");
    localStorage.setItem("dark", dark ? "yes" : "no");
    emitEvent("dark", dark);
  },
};
window.addEventListener("popstate", () => emitEvent("address", location.search));
window.addEventListener("load", () => localStorage.getItem("dark") && setTimeout(() => emitEvent("dark", localStorage.getItem("dark") === "yes"), 200));
