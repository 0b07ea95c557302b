// What only the browser can do: digits, tints, the Back button, keys, the remembered choice of light or dark.
document.documentElement.lang = "en";
window.debuggerPage = {
  number(x) {
    if (x === null || x === undefined) return "";
    return Math.abs(x) < 0.0005 ? "0.000" : (x < 0 ? "−" : "") + Math.abs(x).toFixed(3);
  },
  tint(p) {
    const { group, signed } = p.column.getColDef().context;
    const largest = p.context.largest[group];
    if (p.node.rowPinned || !largest || p.value === null || p.value === undefined) return { background: "none" };
    const colour = !signed ? "plain" : p.value * p.context.helps > 0 ? "for" : "against";
    return { background: `rgba(var(--${colour}-rgb), ${(0.55 * Math.abs(p.value)) / largest})` };
  },
  page(p) {
    if (!p.data.href) return "";
    const link = Object.assign(document.createElement("a"), { href: p.data.href, textContent: p.value });
    link.addEventListener("click", (event) => event.stopPropagation());
    return link;
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
  edit() {
    const shown = this.find("edit");
    shown?.offsetParent ? shown.click() : document.querySelector("#form textarea").focus();
  },
  ready(name) {
    // Once it is visible, and not where someone already types in another field.
    setTimeout(() => {
      if (!document.activeElement?.matches("#form input, #form textarea")) this.find(name)?.focus();
    }, 80);
  },
  look(at) {
    // The lens is wider than its place: show the column that is asked about.
    setTimeout(() => {
      const column = document.querySelector(`.lens th[data-position="${at}"]`);
      if (column) this.find("lens-table").scrollLeft = column.offsetLeft - 300;
    }, 100);
  },
  reach() {
    // A long prompt is one row: show the selected token, or the last.
    setTimeout(() => {
      const row = document.querySelector(".strip.long");
      const token = row?.querySelector(".selected") ?? row?.querySelector(".answer-position");
      if (token) row.scrollLeft = token.offsetLeft - row.clientWidth / 2;
    }, 60);
  },
  narrow(e) {
    const few = e.clientWidth < 480;
    const two = e.api.getColumn("change.write");
    const kept = ["address", "lost", "exact", two ? "change.write" : "direct"];
    for (const column of e.api.getColumns() ?? []) e.api.setColumnsVisible([column], !few || kept.includes(column.getColId()));
  },
  fit() {
    // How high the strip is: what stays beside it, and the tables below, get the rest.
    const strip = document.querySelector(".strip-place");
    const height = strip ? strip.getBoundingClientRect().height : 0;
    document.documentElement.style.setProperty("--strip", `${height + 8}px`);
    document.documentElement.style.setProperty("--room", `calc(100vh - ${height + 196}px)`);
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
document.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && e.target.matches?.("[data-position]")) e.target.click();
});
window.addEventListener("load", () => {
  const strip = document.querySelector(".strip-place");
  if (strip) new ResizeObserver(() => debuggerPage.fit()).observe(strip);
});
window.addEventListener("popstate", () => emitEvent("address", location.search));
window.addEventListener("load", () => localStorage.getItem("dark") && setTimeout(() => emitEvent("dark", localStorage.getItem("dark") === "yes"), 200));
