"use strict";
(() => {
  const root = document.documentElement;
  for (const part of document.querySelectorAll(".script")) part.hidden = false;

  const theme = document.getElementById("theme");
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const label = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  preferred.addEventListener("change", label);
  label();

  // Paper has no clicks: what is closed opens for printing and closes again.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; opened = []; });

  const text = (cell) => (cell.querySelector("summary") || cell).textContent.trim();

  function compare(a, b, numbers, direction) {
    if (numbers) {
      const [x, y] = [a.dataset.key, b.dataset.key];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return direction * (Number(x) - Number(y));
    }
    return direction * text(a).localeCompare(text(b), "en", { numeric: true });
  }

  function setUp(box) {
    const body = box.querySelector("tbody");
    const rows = [...body.rows];
    const heads = [...box.querySelectorAll("thead th")];
    const status = box.querySelector(".status");
    const search = box.querySelector("input");
    const lists = [...box.querySelectorAll("select")];
    const link = box.querySelector("a.download");
    const all = link.href;
    const comma = all.indexOf(",");
    // one record a line, unless a quoted field holds a line end
    const records = decodeURIComponent(all.slice(comma + 1)).match(/(?:[^"\n]|"[^"]*")*\n/g);
    let sorted = "";

    const report = () => {
      const shown = rows.filter((row) => !row.hidden).length;
      status.textContent = `${shown} of ${rows.length} rows${sorted}`;
    };

    const filter = () => {
      const words = (search ? search.value : "").toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const content = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => content.includes(word)) ||
          !lists.every((list) => !list.value || text(row.cells[list.dataset.column]) === list.value);
      }
      const kept = rows.flatMap((row, index) => (row.hidden ? [] : [records[index + 1]]));
      link.href = kept.length === rows.length ? all
        : all.slice(0, comma + 1) + encodeURIComponent([records[0], ...kept].join(""));
      report();
    };

    const sort = (column) => {
      const head = heads[column];
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const numbers = head.classList.contains("number");
      const direction = descending ? -1 : 1;
      body.append(...[...rows].sort((a, b) => compare(a.cells[column], b.cells[column], numbers, direction)));
      sorted = `, by ${text(head)}, ${descending ? "descending" : "ascending"}`;
      report();
    };

    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));
    if (search) search.addEventListener("input", filter);
    for (const list of lists) list.addEventListener("change", filter);
    report();
  }

  for (const box of document.querySelectorAll("div.table")) setUp(box);
})();
