"""Style sheet and script of HTML pages; both are written into the page."""

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --quiet: #5f6368; --line: #d9dce1;
  --alarm: #b3261e; --alarm-paper: #fdecea; --blue: #0060a0; --paper: #fff; --desk: #f4f5f7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --quiet: #a9adb3; --line: #3a3d42;
  --alarm: #ff9a92; --alarm-paper: #3b1512; --blue: #7cc4ff; --paper: #17191c; --desk: #0e0f11; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 3rem; }
body { margin: 0; color: var(--ink); background: var(--desk);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 2.5rem 4rem; background: var(--paper); }
header { border-bottom: 3px solid var(--blue); margin-bottom: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
nav { font-size: .85rem; max-width: 60rem; margin: 0 auto; padding: .6rem 2.5rem;
  background: var(--paper); border-bottom: 1px solid var(--line); }
nav a { color: var(--blue); margin-right: 1.1rem; text-decoration: none; display: inline-block; }
nav a:hover, nav a:focus { text-decoration: underline; }
@media (min-width: 84rem) {
  nav { position: fixed; top: 3rem; bottom: 0; left: 0; width: 14rem; padding: 1rem; margin: 0;
    overflow-y: auto; background: none; border: 0; }
  nav a { display: block; margin: 0 0 .5rem; }
  main { margin-left: max(15rem, calc(50vw - 30rem)); } }
.stamp { background: var(--alarm-paper); border-left: 4px solid var(--alarm);
  color: var(--alarm); font-weight: 600; padding: .6rem 1rem; margin: 1rem 0; }
.banner { position: sticky; top: 0; background: #b3261e; color: #fff; text-align: center;
  font-weight: 700; letter-spacing: .06em; padding: .3rem; z-index: 1; }
.scroll { overflow-x: auto; margin-top: 1.3rem; }
header + p, .stamp + p:not(.stamp) { font-size: 1.15rem; }
table { border-collapse: collapse; font-size: .88rem; border-top: 2px solid var(--ink);
  border-bottom: 2px solid var(--ink); min-width: 50%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
th { text-align: left; font-weight: 600; }
tbody th { font-weight: 400; }
th, td { padding: .3rem 1.2rem .3rem 0; white-space: pre-line; }
td, tbody th { vertical-align: top; }
td { white-space: pre; }
th button, .csv { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  text-align: left; cursor: pointer; white-space: pre-line; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.csv { color: var(--blue); font-size: .8rem; margin: .25rem 0; display: block; }
.note { color: var(--quiet); font-size: .8rem; margin: .25rem 0; }
figure { margin: 1.6rem 0 2.2rem; }
img { width: 100%; height: auto; display: block; background: #fff; }
figcaption { font-size: .88rem; margin-top: .5rem; }
figcaption span { color: var(--quiet); display: block; margin-top: .2rem; }
code { font-size: .85rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .88rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { main { padding: 1rem .8rem 3rem; } nav { padding: .6rem .8rem; }
  table { font-size: .74rem; }
  th, td { padding-right: .5rem; } td { white-space: pre-line; } dl { display: block; } }
@media print { :root { --ink: #1a1a1a; --quiet: #5f6368; --paper: #fff; --desk: #fff;
    --alarm: #b3261e; --alarm-paper: #fdecea; }
  main { max-width: none; margin: 0; padding: 0; }
  .banner { position: static; } figure, table { break-inside: avoid; }
  h2 { break-after: avoid; } nav, .csv { display: none; } }
"""
"""Style sheet: light or dark as the reader's system asks, and light in print."""

SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const text = (row, at) => row.cells[at].textContent.trim();
  const size = (cell) => parseFloat(cell.replace(/\\u2212/g, "-").replace(/,(?=\\d{3})/g, ""));
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.textContent = head.textContent || "\\u00a0";
    button.title = "sort by this column";
    head.replaceChildren(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = (one, other) => {
        const [a, b] = [text(one, at), text(other, at)], [x, y] = [size(a), size(b)];
        if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
        return (up ? 1 : -1) * (isNaN(x) ? a.localeCompare(b) : x - y);
      };
      body.append(...[...body.rows].sort(order));
    };
  });
  const save = document.createElement("button");
  save.className = "csv";
  save.textContent = "Save this table as CSV";
  save.onclick = () => {
    const plain = (cell) => {
      const said = cell.textContent.trim();
      return '"' + (/^[=+@\\t-]\\D/.test(said) ? "'" : "") + said.replace(/"/g, '""') + '"';
    };
    const lines = [...table.rows].map((row) => [...row.cells].map(plain).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\\ufeff" + lines.join("\\n")], {type: "text/csv"}));
    link.download = table.caption.textContent.slice(0, 40).replace(/[^A-Za-z0-9]+/g, "_") + ".csv";
    link.click();
  };
  table.parentElement.after(save);
}
"""
"""Script: a click on a heading sorts its table, and a button saves a table as CSV."""
