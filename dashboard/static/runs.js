// All runs in a table, the curves of those that are picked, and one run in detail.

import { Chart } from "./charts.js";
import { ask, colour, count, fixed, game, h, over, s, short } from "./dom.js";

const COLUMNS = [
  // key, heading, kind, how a cell is shown
  ["name", "run", "text", null],
  ["method", "method", "text", (row) => row.method ?? ""],
  ["game", "game", "text", (row) => game(row.game)],
  ["seed", "seed", "number", (row) => (row.seed === undefined ? "" : String(row.seed))],
  ["player_steps", "player steps", "number", (row) => (row.player_steps === undefined ? "" : count(row.player_steps))],
  ["return", "return", "number", (row) => (row.return === undefined ? "" : fixed(row.return))],
  ["scenarios", "scenarios", "number", (row) => (row.scenarios ? String(row.scenarios) : "")],
  ["films", "films", "number", (row) => (row.films ? String(row.films) : "")],
  ["state", "state", "text", (row) => state(row)],
];
const METRICS = [
  ["return_learning", "return, learning players"], ["return_others", "return, other players"],
  ["explained_variance", "explained variance"], ["entropy_nats", "entropy, nats"], ["policy_kl_nats", "policy KL, nats"],
  ["policy_lag_mean", "policy lag, versions"], ["player_steps_per_s", "player steps/s"],
];
const DASHES = [undefined, [6, 3], [2, 2], [8, 3, 2, 3]];
const AT_ONCE = 4;
const REDRAW_MS = 1200;

export class Runs {
  constructor(root) {
    this.rows = new Map();
    this.picked = new Set();
    this.curves = new Map();
    this.sorted = ["player_steps", -1];
    this.filter = h("input", { type: "search", placeholder: "filter: words of name, method, game", "aria-label": "Filter", oninput: () => this.draw() });
    this.metric = h("select", { "aria-label": "Curve", onchange: () => this.overlay() }, METRICS.map(([value, label]) => h("option", { value }, label)));
    this.by = h("select", { "aria-label": "Colours", onchange: () => this.overlay() }, ["run", "method", "seed"].map((value) => h("option", { value }, `a colour for each ${value}`)));
    this.smooth = h("select", { "aria-label": "Smoothing", onchange: () => this.overlay() }, [["4", "smoothed"], ["0", "as measured"], ["15", "very smooth"]].map(([value, label]) => h("option", { value }, label)));
    this.all = h("button", { disabled: true, onclick: () => this.pick(this.shown().map((row) => row.id)) }, "draw all shown");
    this.none = h("button", { disabled: true, onclick: () => this.pick([]) }, "clear");
    this.said = h("span", { class: "soft" });
    this.plot = h("div", { class: "panel overlay" });
    this.charts = [];
    this.head = h("tr", {}, h("th", { "aria-label": "drawn" }), COLUMNS.map(([key, label, kind]) =>
      h("th", { class: kind, scope: "col", "data-column": key }, h("button", { "data-key": key, onclick: () => this.sort(key) }, label))));
    this.body = h("tbody", {});
    this.detail = h("section", { class: "panel detail", hidden: true });
    this.note = h("p", { class: "soft" }, "Reading runs…");
    root.append(
      h("div", { class: "tools" }, this.filter, this.metric, this.by, this.smooth, this.all, this.none, this.said),
      this.plot, this.detail,
      h("div", { class: "panel scroll" }, h("table", { class: "runs" }, h("thead", {}, this.head), this.body)), this.note);
    this.plot.hidden = true;
  }

  update(rows, folder) {
    this.rows = rows;
    this.all.disabled = this.none.disabled = false;
    this.note.textContent = rows.size ? `${rows.size} run${rows.size === 1 ? "" : "s"} in ${folder}` : `No runs in ${folder} yet: bidist train makes one.`;
    this.draw();
    this.offer();
    const steps = [...this.picked].map((id) => rows.get(id)?.player_steps).join();
    if (steps !== this.steps && this.picked.size) this.overlay();
    this.steps = steps;
  }

  show(id) {
    if (id !== null) {
      this.open(id);
      scrollTo({ top: 0 });
    }
    else this.detail.hidden = true;
    this.draw();
    this.charts.forEach((chart) => chart.resize());
  }

  shown() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [key, direction] = this.sorted;
    const value = (row) => (key === "state" ? state(row) : row[key]);
    return [...this.rows.values()]
      .filter((row) => words.every((word) => `${row.id} ${row.method} ${row.game} ${game(row.game)}`.toLowerCase().includes(word)))
      .sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const [none, other] = [x === undefined || x === null, y === undefined || y === null];
        if (none || other) return none - other || a.id.localeCompare(b.id);
        const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
        return direction * order || a.id.localeCompare(b.id, "en", { numeric: true });
      });
  }

  sort(key) {
    const [before, direction] = this.sorted;
    const first = COLUMNS.find(([name]) => name === key)[2] === "number" ? -1 : 1;
    this.sorted = [key, before === key ? -direction : first];
    this.draw();
  }

  draw() {
    for (const button of this.head.querySelectorAll("button"))
      button.parentElement.setAttribute("aria-sort", button.dataset.key === this.sorted[0] ? (this.sorted[1] > 0 ? "ascending" : "descending") : "none");
    // Whoever moves among the rows by keyboard stays where they are.
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    const [id, at] = focused ? [focused.closest("tr").dataset.id, [...focused.closest("tr").querySelectorAll("input, a")].indexOf(focused)] : [];
    this.body.replaceChildren(...this.shown().map((row) => this.line(row)));
    if (focused) this.body.querySelector(`tr[data-id="${CSS.escape(id)}"]`)?.querySelectorAll("input, a")[at]?.focus({ preventScroll: true });
  }

  line(row) {
    const box = h("input", { type: "checkbox", checked: this.picked.has(row.id), "aria-label": `draw ${row.id}`, disabled: row.error || row.id.startsWith("@"),
      onchange: () => {
        box.checked ? this.picked.add(row.id) : this.picked.delete(row.id);
        this.overlay();
      } });
    const link = row.id.startsWith("@") ? `#/live/${encodeURIComponent(row.id)}` : `#/runs/${encodeURIComponent(row.id)}`;
    const cells = COLUMNS.slice(1).map(([key, , kind, text]) =>
      h("td", { class: kind, "data-column": key }, key === "state" && row.live ? h("a", { href: `#/live/${encodeURIComponent(row.id)}`, class: over(row) ? null : "good" }, text(row)) : text(row)));
    return h("tr", { "data-id": row.id, class: row.error ? "broken" : null },
      h("td", {}, box),
      h("td", { class: "name" }, h("a", { href: link }, row.group ? h("span", { class: "soft" }, `${row.group}/`) : "", row.name), row.error ? h("div", { class: "bad" }, row.error) : ""),
      cells);
  }

  pick(ids) {
    this.picked = new Set(ids.filter((id) => !id.startsWith("@") && !this.rows.get(id)?.error));
    this.draw();
    this.overlay();
  }

  // Fetches missing curves, a few at a time, and draws those that have arrived.
  async overlay() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const ids = [...this.picked];
    const missing = ids.filter((id) => !this.curves.has(id) || this.rows.get(id)?.live);
    const fetchNext = async () => {
      for (let id = missing.shift(); id !== undefined && turn === this.turn; id = missing.shift()) {
        try {
          this.curves.set(id, await ask("api/curves", { run: id }));
        } catch (error) {
          this.said.textContent = error.message;
          this.curves.set(id, { player_steps: [] });
        }
      }
    };
    const wanted = missing.length;
    const workers = Promise.all(Array.from({ length: Math.min(AT_ONCE, wanted) }, fetchNext));
    for (let done = wanted === 0; !done && turn === this.turn; ) {
      done = await Promise.race([workers.then(() => true), new Promise((wake) => setTimeout(wake, REDRAW_MS, false))]);
      if (!done && turn === this.turn) {
        this.said.textContent = `reading ${missing.length} of ${wanted} runs`;
        this.render(ids.filter((id) => this.curves.has(id)));
      }
    }
    if (turn !== this.turn) return;
    this.render(ids);
    const empty = ids.filter((id) => !this.hasCurve(id)).length;
    this.said.textContent = ids.length ? `${ids.length - empty} drawn${empty ? `, ${empty} without data` : ""}` : "";
  }

  hasCurve(id) {
    return this.curves.get(id)?.player_steps.length > 0;
  }

  // A panel for each game, because returns of different games are not comparable.
  render(ids) {
    const by = this.by.value;
    const gameOf = (id) => game(this.rows.get(id)?.game);
    const groupOf = (id) => (by === "run" ? id : this.rows.get(id)?.[by] ?? "");
    const there = ids.filter((id) => this.hasCurve(id));
    const games = ordered(there.map(gameOf));
    const drawn = JSON.stringify([there.map((id) => [id, gameOf(id), groupOf(id)]), this.metric.value, this.smooth.value]);
    if (drawn === this.drawn) {
      // The same curves, which have grown.
      this.charts.forEach((chart, i) => chart.draw(this.table(there.filter((id) => gameOf(id) === games[i]))));
      return;
    }
    this.drawn = drawn;
    this.charts.forEach((chart) => chart.remove());
    this.charts = [];
    this.plot.replaceChildren();
    const groups = ordered(there.map(groupOf));
    const palette = colour("series").split(/\s+/);
    const style = (group) => {
      const i = groups.indexOf(group);
      return { colour: palette[i % palette.length], dash: DASHES[Math.floor(i / palette.length) % DASHES.length] };
    };
    this.plot.hidden = !there.length;
    const panels = h("div", { class: games.length > 1 ? "panels" : "" });
    this.plot.append(panels);
    for (const name of games) this.panel(panels, name, there.filter((id) => gameOf(id) === name), (id) => style(groupOf(id)));
    this.plot.append(h("div", { class: "legend" }, groups.slice(0, 40).map((group) => {
      const { colour: stroke, dash } = style(group);
      const line = s("line", { x2: 24, y1: 4, y2: 4, stroke, "stroke-width": 2, "stroke-dasharray": dash?.join(" ") });
      return h("span", {}, s("svg", { width: 24, height: 8, "aria-hidden": true }, line), group);
    }), groups.length > 40 ? `and ${groups.length - 40} more` : ""));
  }

  table(ids) {
    const [metric, smooth] = [this.metric.value, Number(this.smooth.value)];
    return uPlot.join(ids.map((id) => [this.curves.get(id).player_steps, smoothed(this.curves.get(id)[metric] ?? [], smooth)]));
  }

  panel(parent, name, ids, style) {
    const metric = this.metric.value;
    const dense = ids.length > 12;
    const chart = new Chart(parent, {
      title: METRICS.find(([value]) => value === metric)[1], unit: name, height: parent.className ? 250 : 300, sync: "runs",
      series: ids.map((id) => ({ ...style(id), name: id, width: dense ? 1 : 1.6, alpha: dense ? 0.7 : 1 })),
    });
    chart.draw(this.table(ids));
    this.charts.push(chart);
  }

  async open(id) {
    this.detail.hidden = false;
    if (this.opened === id && this.detail.children.length) return;
    this.opened = id;
    this.detail.replaceChildren(h("p", { class: "soft" }, `reading ${id}`));
    try {
      const run = await ask("api/run", { run: id });
      if (this.opened !== id) return;
      this.detail.replaceChildren(...this.parts(run));
      this.offer();
    } catch (error) {
      this.detail.replaceChildren(h("p", { class: "bad" }, error.message));
    }
  }

  // The open run may be live, which its row says; rows may arrive after the run's details, and change.
  offer() {
    const link = this.detail.querySelector(".watch");
    if (link) link.hidden = !this.rows.get(this.opened)?.live;
  }

  parts(run) {
    const path = (name) => `files/runs/${[...run.id.split("/"), name].map(encodeURIComponent).join("/")}`;
    const text = h("pre", { hidden: true });
    const read = async (name) => {
      text.hidden = false;
      text.textContent = await ask("api/log", { run: run.id, name }).catch((error) => error.message);
      text.scrollTop = text.scrollHeight;
    };
    return [
      h("header", {}, h("h2", {}, run.id), " ", h("a", { class: "watch", hidden: true, href: `#/live/${encodeURIComponent(run.id)}` }, "watch it live"), " ", h("a", { href: "#/runs", class: "close" }, "close")),
      run.error ? h("p", { class: "bad" }, run.error) : "",
      run.films.length
        ? h("div", { class: "films" }, run.films.map((name) => h("figure", {}, name.endsWith(".gif") ? h("img", { src: path(name), alt: name }) : h("video", { src: path(name), controls: true, loop: true, preload: "metadata", playsinline: true }), h("figcaption", {}, name))))
        : h("p", { class: "soft" }, "No films yet: ", h("code", { class: "command" }, run.record), " makes one."),
      run.scenarios.length
        ? h("table", { class: "scenarios" }, h("thead", {}, h("tr", {}, ["scenario", "checkpoint", "episodes", "focal return"].map((label, i) => h("th", { class: i > 1 ? "number" : "text" }, label)))),
          h("tbody", {}, run.scenarios.map((one) => h("tr", {}, h("td", {}, one.scenario), h("td", {}, one.checkpoint), h("td", { class: "number" }, count(one.episodes)), h("td", { class: "number" }, fixed(one.mean))))))
        : "",
      run.ledger ? h("p", { class: "numbers" }, `Ledger: ${run.ledger}`) : "",
      h("details", {}, h("summary", {}, "Settings"), h("dl", { class: "settings" }, run.settings.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value === "" ? '""' : value))))),
      run.logs.length ? h("details", {}, h("summary", {}, "Logs"), h("div", { class: "tools" }, run.logs.map((name) => h("button", { onclick: () => read(name) }, name))), text) : "",
    ];
  }

  recolour() {
    this.drawn = null;
    if (this.picked.size) this.render([...this.picked]);
  }
}

// A running mean over so many points on either side, fewer at the ends.
function smoothed(values, reach) {
  if (!reach) return values;
  return values.map((value, i) => {
    if (value === null) return null;
    const near = values.slice(Math.max(0, i - reach), i + reach + 1).filter((other) => other !== null);
    return near.reduce((sum, other) => sum + other, 0) / near.length;
  });
}

const ordered = (names) => [...new Set(names)].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));

function state(row) {
  if (row.error) return "unreadable";
  if (row.live && !over(row)) return "live";
  if (row.finished) return "finished";
  return row.player_steps ? `stopped at ${short((100 * row.player_steps) / row.budget)}%` : "not begun";
}
