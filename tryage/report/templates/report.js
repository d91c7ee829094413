"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const tooltip = document.getElementById("tooltip");
  const MOST_ROWS = 20;
  const views = new Map(); // element → vega view
  const filters = data.tasks.map(() => ({ group: "", expert: "", ood: false }));
  const colours = data.tasks.map(() => "map");

  function config() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const text = { labelColor: colour("--ink"), titleColor: colour("--ink") };
    return {
      background: "transparent",
      font: 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif',
      view: { stroke: colour("--line") },
      axis: {
        ...text, gridColor: colour("--line"), domainColor: colour("--quiet"), gridOpacity: 0.7,
        tickColor: colour("--quiet"), labelLimit: 210, titleFontWeight: 500, labelFontSize: 11,
      },
      legend: { ...text, labelLimit: 220, titleFontWeight: 500 },
      text: { fill: colour("--ink"), color: colour("--ink") },
    };
  }

  function show(handler, event, item, value) {
    if (value === null || value === undefined || value === "") {
      tooltip.hidden = true;
      return;
    }
    const rows = typeof value === "object" ? Object.entries(value) : [["", String(value)]];
    tooltip.replaceChildren(...rows.filter(([, text]) => text !== "" && text !== null).map(([name, text]) => {
      const row = document.createElement("div");
      row.dir = "auto";
      if (name && name !== "prompt") {
        const label = document.createElement("b");
        label.textContent = name + " ";
        row.append(label);
      }
      row.append(document.createTextNode(String(text)));
      return row;
    }));
    tooltip.hidden = false;
    const box = tooltip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const below = event.clientY + 16;
    tooltip.style.left = Math.max(8, left) + "px";
    tooltip.style.top = (below + box.height > window.innerHeight ? event.clientY - box.height - 12 : below) + "px";
  }

  function passes(filter, group, expert, ood) {
    return (filter.group === "" || group === Number(filter.group)) &&
      (filter.expert === "" || expert === Number(filter.expert)) && (!filter.ood || ood);
  }

  function regretRows(place) {
    const rows = data.tasks[place].rows, strange = new Set(rows.ood);
    const kept = [];
    rows.regret.forEach((regret, i) => {
      if (passes(filters[place], rows.group[i], rows.chosen[i], strange.has(i))) kept.push({ regret });
    });
    return kept;
  }

  function mapRows(place) {
    const map = data.tasks[place].map, kept = [];
    const column = map.predicted[Number(colours[place].split(":")[1] || 0)];
    map.x.forEach((x, i) => {
      if (!passes(filters[place], map.group[i], map.chosen[i], map.ood[i] === 1)) return;
      kept.push({
        x, y: map.y[i], regret: map.regret[i], prompt: map.prompt[i],
        group: map.group_names[map.group[i]],
        expert: map.chosen[i] < 0 ? "nobody" : map.expert_names[map.chosen[i]],
        group_colour: map.group_colour[i], expert_colour: map.expert_colour[i],
        predicted: column ? column[i] : null,
      });
    });
    return kept;
  }

  function rowsOf(place, name) {
    return name === "regret" ? regretRows(place) : mapRows(place);
  }

  function usesPrompts(name) {
    return name === "regret" || name === "map";
  }

  async function draw(element) {
    const place = Number(element.closest("article").dataset.place);
    const name = element.dataset.plot;
    const chosen = name === "map" ? colours[place].split(":")[0] : name;
    const spec = structuredClone(data.tasks[place].specs[chosen]);
    // As wide as the page lets it be; wide heat maps scroll.
    const room = element.closest("figure").clientWidth;
    const heat = name === "mean" || name === "chosen";
    element.style.width = (heat ? Math.max(room, spec.width + 150) : Math.max(room, 300)) + "px";
    if (heat && spec.width + 150 > room) element.style.width = spec.width + 150 + "px";
    spec.width = "container";
    spec.autosize = { type: "fit-x", contains: "padding" };
    if (room < 560) narrow(spec);
    if (usesPrompts(name)) spec.datasets = { ...spec.datasets, prompts: rowsOf(place, name) };
    if (views.has(element)) views.get(element).finalize();
    const result = await window.vegaEmbed(element, spec, {
      actions: false, ast: true, logLevel: 1, config: config(), defaultStyle: false,
      renderer: name === "map" ? "canvas" : "svg", tooltip: show, loader: { load: refuse },
    });
    views.set(element, result);
    element.dataset.drawn = chosen;
  }

  function narrow(spec) {
    const text = JSON.stringify(spec);
    const smaller = JSON.parse(text.replace(/"columns":\d/g, '"columns":2'));
    Object.assign(spec, smaller);
    // Names of points have no room on a phone; a tap on a point shows its name.
    if (spec.layer && spec.layer.length > 8) spec.layer = spec.layer.filter((one) => one.mark.type !== "text");
    if (spec.height === 460) spec.height = 360;
  }

  function refuse() {
    return Promise.reject(new Error("a report loads nothing"));
  }

  function plots(within) {
    return [...within.querySelectorAll("[data-plot]")];
  }

  async function drawAll() {
    document.body.dataset.state = "drawing";
    for (const element of plots(document)) await draw(element);
    document.body.dataset.state = "drawn";
  }

  async function refresh(article) {
    const place = Number(article.dataset.place);
    for (const element of plots(article).filter((one) => usesPrompts(one.dataset.plot))) {
      const view = views.get(element).view;
      view.data("prompts", rowsOf(place, element.dataset.plot));
      await view.runAsync();
    }
    filterTable(article, place);
    report(article, place);
  }

  function filterTable(article, place) {
    const table = article.querySelector('table[id$="-worst"]');
    if (!table) return;
    const button = article.querySelector(".more");
    const all = button.dataset.all === "yes";
    let shown = 0, passing = 0;
    for (const row of table.tBodies[0].rows) {
      const inside = passes(filters[place], Number(row.dataset.group), Number(row.dataset.expert), row.dataset.ood === "yes");
      passing += inside;
      row.hidden = !inside || (!all && shown >= MOST_ROWS);
      shown += !row.hidden;
    }
    button.hidden = passing === shown;
    button.textContent = `Show all ${passing} rows`;
  }

  function report(article, place) {
    const rows = regretRows(place), measured = rows.filter((row) => row.regret !== null);
    const sum = measured.reduce((total, row) => total + row.regret, 0);
    const best = measured.filter((row) => row.regret <= 1e-9).length;
    const held = data.tasks[place].rows.regret.length, total = data.tasks[place].rows.total;
    let text = `${rows.length.toLocaleString("en")} of ${held.toLocaleString("en")} prompts`;
    if (held < total) text += ` (drawn at random from ${total.toLocaleString("en")})`;
    if (measured.length) text += `; mean regret over these prompts ${(sum / measured.length).toFixed(4)}; best expert chosen for ${(100 * best / measured.length).toFixed(1)} %`;
    article.querySelector(".filters output").textContent = text + ".";
  }

  function sortTable(table, column) {
    const head = table.tHead.rows[0].cells[column];
    const down = head.getAttribute("aria-sort") === "none" ? head.classList.contains("number") : head.getAttribute("aria-sort") === "ascending";
    for (const cell of table.tHead.rows[0].cells) if (cell.hasAttribute("aria-sort")) cell.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    };
    const order = (a, b) => {
      const numbers = (typeof a === "number") - (typeof b === "number");
      if (numbers) return -numbers; // cells without a number come last, both ways
      const compared = typeof a === "number" ? a - b : a.localeCompare(b);
      return down ? -compared : compared;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
  }

  function listen(article) {
    const place = Number(article.dataset.place);
    const form = article.querySelector("form.filters");
    if (!form) return;
    const read = () => {
      filters[place] = { group: form.group.value, expert: form.expert.value, ood: form.ood.checked };
      return refresh(article);
    };
    form.addEventListener("change", read);
    form.addEventListener("reset", () => setTimeout(read));
    form.addEventListener("submit", (event) => event.preventDefault());
    const colour = article.querySelector("form.colours");
    if (colour) {
      colour.reset();
      colour.addEventListener("change", () => {
        colours[place] = colour.colour.value;
        draw(article.querySelector('[data-plot="map"]'));
      });
    }
    const more = article.querySelector(".more");
    if (more) more.addEventListener("click", () => { more.dataset.all = "yes"; filterTable(article, place); });
    form.reset();
    filterTable(article, place);
    report(article, place);
  }

  for (const article of document.querySelectorAll("article")) listen(article);
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = cell.querySelector("button");
      if (button) button.addEventListener("click", () => {
        sortTable(table, column);
        const article = table.closest("article");
        if (article && table.id.endsWith("-worst")) filterTable(article, Number(article.dataset.place));
      });
    });
  }
  let width = window.innerWidth, waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 200);
  });
  document.addEventListener("scroll", () => { tooltip.hidden = true; }, { passive: true });
  dark.addEventListener("change", drawAll);
  drawAll();
})();
