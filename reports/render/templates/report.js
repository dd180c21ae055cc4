for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const text = (row, at) => row.cells[at].textContent.trim();
  const points = (cell) => cell.replace(/(\d)\u00b7(?=\d)/g, "$1.");
  const size = (cell) => parseFloat(points(cell).replace(/\u2212/g, "-").replace(/,(?=\d{3})/g, ""));
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.textContent = head.textContent || "\u00a0";
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
      const said = points(cell.textContent.trim());
      return '"' + (/^[=+@\t-]\D/.test(said) ? "'" : "") + said.replace(/"/g, '""') + '"';
    };
    const lines = [...table.rows].map((row) => [...row.cells].map(plain).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff" + lines.join("\n")], {type: "text/csv"}));
    link.download = table.caption.textContent.slice(0, 40).replace(/[^A-Za-z0-9]+/g, "_") + ".csv";
    link.click();
  };
  table.parentElement.after(save);
}
