// What a report's page does: filters, hovering, the keyboard, and tables beside the plots.
// The charts are drawn by Vega; nothing here draws.
"use strict";
(() => {
  const given = JSON.parse(document.getElementById("lithowatt-plots").textContent);
  const rows = Object.fromEntries(Object.entries(given.rows).map(([name, set]) => [name, unpacked(set)]));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const form = document.querySelector("form.filters");
  const fields = [
    ["stage", "stage"], ["arch", "architecture"], ["mb", "memory, MB"],
    ["workers", "workers"], ["cpu", "processor (of repetitions)"],
  ];
  const chosen = {};
  const figures = [];

  // Rows come as columns, with texts by number: that takes a third of the room.
  function unpacked(set) {
    const names = Object.keys(set.columns);
    const made = new Array(set.length);
    for (let at = 0; at < set.length; at += 1) {
      const row = { id: at };
      for (const name of names) {
        const value = set.columns[name][at];
        row[name] = set.texts.includes(name) ? textOf(value) : value;
      }
      made[at] = row;
    }
    return made;
  }
  function textOf(value) {
    if (Array.isArray(value)) return value.map(textOf);
    return value === null ? null : given.texts[value];
  }

  function holds(row, field, value) {
    // A mean over several processors is of none of them: it stays.
    return !(field in row) || Array.isArray(row[field]) || String(row[field]) === value;
  }
  function filtered(name) {
    return rows[name].filter((row) =>
      fields.every(([field]) => !chosen[field] || holds(row, field, chosen[field])));
  }
  function number(value) {
    if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
    if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en");
    return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  }
  function withUnit(row, [field, title, unit]) {
    let text = Array.isArray(row[field]) ? row[field].join(", ") : number(row[field]);
    const low = row[`${field}_low`], high = row[`${field}_high`];
    if (typeof low === "number" && typeof high === "number" && low !== high) {
      text += ` [${number(low)}, ${number(high)}]`;
    }
    return `${text}${unit && row[field] !== null ? ` ${unit}` : ""}`;
  }
  function told(plot, row) {
    return plot.told.map((one) => `${one[1]} ${withUnit(row, one)}`);
  }

  // --- one plot ---

  class Figure {
    constructor(element, plot) {
      this.plot = plot;
      this.element = element;
      this.frame = element.querySelector(".plot");
      this.readout = element.querySelector(".readout");
      this.at = -1;
      this.data = [];
      const twin = element.querySelector(".twin");
      this.twin = twin;
      twin.addEventListener("toggle", () => this.table());
      this.frame.addEventListener("keydown", (event) => this.key(event));
      const select = element.querySelector('[data-role="configuration"]');
      this.select = select;
      if (select) select.addEventListener("change", () => this.show());
    }
    points() {
      const some = filtered(this.plot.rows);
      if (!this.select) return some;
      return some.filter((row) => String(row.config) === this.select.value);
    }
    // The dots that are drawn, in the order in which the keyboard visits them.
    visited() {
      const quantity = this.plot.name === "ratios";
      const known = this.data.filter((row) =>
        (!quantity || row.quantity === "compute_s") &&
        this.plot.order.every((name) => row[name] !== null && row[name] !== undefined) &&
        this.plot.needs.every((name) => row[name] > 0));
      return known.sort((a, b) => {
        for (const name of this.plot.order) {
          if (a[name] < b[name]) return -1;
          if (a[name] > b[name]) return 1;
        }
        return a.id - b.id;
      });
    }
    configurations() {
      const seen = new Map();
      for (const row of filtered(this.plot.rows)) {
        if (!seen.has(row.config)) {
          const text = `${row.stage}, ${row.arch}, ${row.mb} MB, ${row.workers} workers`;
          const again = [...seen.values()].includes(text);
          seen.set(row.config, again ? `${text} (${row.file})` : text);
        }
      }
      const before = this.select.value;
      this.select.replaceChildren(...[...seen].map(([config, text]) => {
        const option = document.createElement("option");
        option.value = config;
        option.textContent = text;
        return option;
      }));
      if (seen.has(Number(before)) && before !== "") this.select.value = before;
    }
    async draw() {
      const turn = (this.turn || 0) + 1;
      this.turn = turn;
      if (this.made) this.made.finalize();
      const inner = document.createElement("div");
      this.frame.replaceChildren(inner);
      const colour = getComputedStyle(document.documentElement);
      const fore = colour.getPropertyValue("--fore").trim();
      const line = colour.getPropertyValue("--line").trim();
      const config = {
        background: null,
        axis: { labelColor: fore, titleColor: fore, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12 },
        legend: { labelColor: fore, titleColor: fore, labelFontSize: 12 },
        style: { cell: { stroke: line }, rule: { stroke: fore } },
      };
      // Lines have rows of their own, whose numbers are those of other rows.
      const dot = (item) => item && item.datum && item.datum.id !== undefined &&
        ["symbol", "rect"].includes(item.mark.marktype);
      if (this.select) this.configurations();
      const first = { points: this.points() };
      for (const [name, set] of Object.entries(this.plot.more)) first[name] = filtered(set);
      const data = this.plot.spec.data.map((one) =>
        (one.name in first ? { ...one, values: first[one.name] } : one));
      // Vega-Lite writes black into reference lines and into legends of shapes.
      const black = JSON.stringify({ value: "black" });
      const spec = JSON.parse(
        JSON.stringify({ ...this.plot.spec, data: [] }).replaceAll(black, JSON.stringify({ value: fore })));
      const made = await vegaEmbed(inner, { ...spec, data }, {
        // Errors only: a filter that leaves nothing is said below the plot.
        mode: "vega", logLevel: 1, actions: false, config, renderer: "canvas", defaultStyle: false,
        tooltip: (handler, event, item) => tip(event, dot(item) ? told(this.plot, item.datum) : null),
      });
      if (turn !== this.turn) {
        made.finalize(); // drawn again meanwhile
        return;
      }
      this.made = made;
      this.view = made.view;
      this.view.addEventListener("click", (event, item) => {
        if (dot(item)) this.focus(item.datum);
      });
      this.show();
    }
    show() {
      if (this.select) this.configurations();
      this.data = this.points();
      this.at = -1;
      if (!this.view) return;
      this.view.data("points", this.data);
      for (const [name, set] of Object.entries(this.plot.more)) this.view.data(name, filtered(set));
      this.view.signal("focused", -1).resize().runAsync();
      const many = this.visited().length;
      this.readout.textContent = many ? `${many.toLocaleString("en")} ${many === 1 ? this.plot.mark : `${this.plot.mark}s`} shown.` : "Nothing is left by this filter.";
      if (this.twin.open) this.table();
    }
    focus(row) {
      this.at = this.visited().findIndex((one) => one.id === row.id);
      this.view.signal("focused", row.id).runAsync();
      this.readout.textContent = told(this.plot, row).join(", ");
    }
    key(event) {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const some = this.visited();
      const last = some.length - 1;
      const to = {
        ArrowRight: Math.min(this.at + 1, last), ArrowLeft: Math.max(this.at - 1, 0), Home: 0, End: last,
      }[event.key];
      if (event.key === "Escape") this.show();
      if (to === undefined || last < 0) return;
      event.preventDefault();
      this.focus(some[to]);
    }
    // All digits there are, and the ends of intervals in columns of their own.
    plain(some) {
      const columns = this.plot.told.flatMap(([field, title, unit]) => {
        const head = unit ? `${title}, ${unit}` : title;
        const ends = some.length && `${field}_low` in some[0];
        return [[field, head], ...(ends ? [[`${field}_low`, `${head}, from`], [`${field}_high`, `${head}, to`]] : [])];
      });
      const cell = (value) => (value === null || value === undefined ? "" : String(Array.isArray(value) ? value.join("; ") : value));
      return [columns.map(([, head]) => head), ...some.map((row) => columns.map(([field]) => cell(row[field])))];
    }
    table() {
      const place = this.twin.querySelector(".wide");
      if (!this.twin.open) return;
      const some = this.visited();
      const most = 5000;
      const heads = this.plot.told.map(([, title, unit]) => (unit ? `${title}, ${unit}` : title));
      const cells = some.map((row) => this.plot.told.map((one) => withUnit(row, [one[0], one[1], ""])));
      const table = element("table", {}, [
        element("caption", {}, `${this.plot.title}: ${Math.min(most, some.length)} of ${some.length} rows`),
        element("thead", {}, [element("tr", {}, heads.map((text) => element("th", { scope: "col" }, text)))]),
        element("tbody", {}, cells.slice(0, most).map((row) => element("tr", {}, row.map((text) => element("td", {}, text))))),
      ]);
      const button = element("button", { type: "button" }, "Save all these rows as CSV");
      button.addEventListener("click", () => save(`${this.plot.name}.csv`, csv(this.plain(some))));
      place.replaceChildren(table, element("p", {}, [button]));
    }
  }

  function element(name, attributes, inside) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (Array.isArray(inside)) made.replaceChildren(...inside);
    else made.textContent = inside;
    return made;
  }

  // --- hovering ---

  let box = null;
  function tip(event, lines) {
    if (!lines) {
      if (box) box.remove();
      box = null;
      return;
    }
    if (!box) {
      box = element("div", { class: "tip" }, []);
      document.body.append(box);
    }
    box.replaceChildren(...lines.map((text) => element("div", {}, text)));
    const right = Math.min(event.clientX + 14, window.innerWidth - box.offsetWidth - 4);
    const below = event.clientY + 14 + box.offsetHeight < window.innerHeight;
    box.style.left = `${Math.max(4, right)}px`;
    box.style.top = `${below ? event.clientY + 14 : event.clientY - box.offsetHeight - 14}px`;
  }

  // --- files ---

  function csv(lines) {
    // A cell that begins like a formula would be one in a spreadsheet.
    const cell = (text) => {
      const safe = /^[=+@\t\r-]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
      return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return `${lines.map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
  }
  const latexOf = new Map(Object.entries({
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#",
    "^": "\\textasciicircum{}", "_": "\\_", "~": "\\textasciitilde{}", "%": "\\%",
    "×": "$\\times$", "±": "$\\pm$", "σ": "$\\sigma$", "κ": "$\\kappa$", "–": "--", "·": "$\\cdot$",
  }));
  function latex(lines, right) {
    const text = (cell) => [...cell].map((one) => latexOf.get(one) || one).join("");
    const line = (cells) => `${cells.map(text).join(" & ")} \\\\`;
    const columns = lines[0].map((_, at) => (right.includes(at) ? "r" : "l")).join("");
    return [
      `\\begin{tabular}{${columns}}`, "\\hline", line(lines[0]), "\\hline",
      ...lines.slice(1).map(line), "\\hline", "\\end{tabular}", "",
    ].join("\n");
  }
  function save(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  }
  for (const details of document.querySelectorAll("details.table")) {
    details.querySelector(".save").hidden = false;
    for (const button of details.querySelectorAll("[data-save]")) {
      button.addEventListener("click", () => {
        const table = details.querySelector("table");
        const lines = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
        const right = [...table.rows[0].cells].flatMap((cell, at) => (cell.classList.contains("n") ? [at] : []));
        const kind = button.dataset.save;
        save(`${table.dataset.name}.${kind}`, kind === "csv" ? csv(lines) : latex(lines, right));
      });
    }
  }

  // --- filters ---

  function options(field) {
    const found = new Set();
    for (const set of [rows.configurations, rows.repetitions]) {
      for (const row of set) for (const one of [row[field]].flat()) found.add(one);
    }
    return [...found].sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b))));
  }
  for (const [field, title] of fields) {
    const values = options(field);
    const select = element("select", { name: field }, [
      element("option", { value: "" }, "all"),
      ...values.map((one) => element("option", { value: one }, String(one))),
    ]);
    // Unlike workloads say nothing of each other: the first is shown first.
    if (field === "stage" && values.length > 1) select.value = values[0];
    chosen[field] = select.value;
    select.disabled = values.length < 2;
    select.addEventListener("change", () => {
      chosen[field] = select.value;
      for (const one of figures) one.show();
      count();
    });
    form.append(element("label", {}, [document.createTextNode(title), select]));
  }
  const reset = element("button", { type: "button" }, "Reset");
  reset.addEventListener("click", () => choose({}));
  form.append(reset);
  function choose(values) {
    for (const select of form.elements) {
      if (!select.name) continue;
      select.value = values[select.name] || "";
      chosen[select.name] = select.value;
    }
    for (const one of figures) one.show();
    count();
  }
  for (const link of document.querySelectorAll("a[data-stage]")) {
    link.addEventListener("click", () => choose({ stage: link.dataset.stage }));
  }
  const status = element("span", { role: "status" }, "");
  function count() {
    status.textContent = `${filtered("configurations").length} of ${rows.configurations.length} configurations`;
  }
  form.append(status);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  count();
  for (const plot of given.plots) {
    const figure = document.querySelector(`figure[data-plot="${plot.name}"]`);
    figures.push(new Figure(figure, plot));
  }
  // One after another, those at the top first.
  const ready = figures.reduce((before, one) => before.then(() => one.draw()).catch((error) => {
    one.readout.textContent = `This plot cannot be drawn: ${error}`;
    console.error(error);
  }), Promise.resolve());
  dark.addEventListener("change", () => figures.forEach((one) => one.draw()));
  window.addEventListener("scroll", () => tip(null, null), { passive: true });
  window.lithowatt = { figures, rows, ready };
})();
