// Sorting and filtering of the tables.  Without it, every row is there in a sensible order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th").forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) => a - b || String(a).localeCompare(String(b));
      const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
  });
}

for (const form of document.querySelectorAll("form.filters")) {
  const rows = [...form.parentElement.querySelectorAll("tbody tr")];
  const wanted = (row, { name, value }) => value === "" || row.dataset[name].split(" ").includes(value);
  const filter = () => {
    const selects = [...form.querySelectorAll("select")];
    for (const row of rows) row.hidden = !selects.every((select) => wanted(row, select));
  };
  form.addEventListener("change", filter);
  filter();
}
