"use strict";
/* Tables: a click on a column name sorts, text in the field above filters. Sounds: one plays at a time. */
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell ? (cell.dataset.value ?? cell.textContent.trim()) : "";
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === ""); /* undefined values last, in both directions */
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [value(row, column), row]);
        const sign = descending ? -1 : 1;
        rows.sort(([a], [b]) => (a === "" || b === "" ? compare(a, b) : sign * compare(a, b)));
        body.append(...rows.map(([, row]) => row));
      });
    });
    const tools = document.createElement("p");
    tools.className = "tools";
    const labeled = (text, field) => {
      const label = document.createElement("label");
      label.append(`${text} `, field);
      tools.append(label);
    };
    const choice = document.createElement("select"); /* where the column names are not shown */
    heads.forEach((head, column) => {
      if (head.textContent.trim()) choice.append(new Option(head.textContent.trim(), String(column)));
    });
    choice.addEventListener("change", () => heads[Number(choice.value)].querySelector("button").click());
    labeled("Sort by", choice);
    choice.parentElement.className = "narrow";
    if (body.rows.length > 8) {
      const field = document.createElement("input");
      field.type = "search";
      labeled("Filter", field);
      const count = document.createElement("span");
      count.setAttribute("role", "status");
      tools.append(count);
      field.addEventListener("input", () => {
        const wanted = field.value.trim().toLowerCase();
        let n = 0;
        for (const row of body.rows) {
          row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
          n += !row.hidden;
        }
        count.textContent = wanted ? `${n} of ${body.rows.length}` : "";
      });
    }
    table.before(tools);
  }
  document.addEventListener("play", (event) => {
    for (const sound of document.querySelectorAll("audio")) if (sound !== event.target) sound.pause();
  }, true);
})();
