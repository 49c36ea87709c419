// The live view of one run.

import { Chart } from "./charts.js";
import { Diagram } from "./diagram.js";
import { clock, count, duration, fixed, game, h, missing as absent, over } from "./dom.js";

const TERMS = [["trained", "trained"], ["stale", "stale"], ["rejected", "rejected"], ["rewound", "rewound"], ["lost", "lost"], ["in_flight", "in flight"]];
const MAX_EVENTS = 60;
const HAIR = 1e-9;
const NAMES = ["player_steps", "updates", "return_learning", "return_others", "explained_variance", "entropy_nats", "policy_lag_mean", "player_steps_per_s"];

export class Live {
  constructor(root, choose) {
    this.root = root;
    this.select = h("select", { "aria-label": "Run", onchange: (event) => choose(event.target.value) });
    this.meta = h("p", { class: "meta" });
    this.bar = h("div", { class: "progress" }, h("div", {}));
    this.progress = h("p", { class: "numbers" });
    this.notice = h("p", { class: "notice", role: "alert", hidden: true });
    this.unsaved = h("p", { class: "notice bad unsaved", role: "alert", hidden: true });
    this.figure = h("div", {});
    this.waits = h("figcaption", {});
    this.ledger = h("section", { class: "panel ledger" });
    this.charts = h("div", { class: "charts" });
    this.log = h("ol", { class: "log" });
    this.nothing = h("section", { class: "panel nothing" });
    this.content = h("div", { class: "content", hidden: true },
      h("div", { class: "top" }, h("div", { class: "which" }, this.select, this.meta), h("div", { class: "how-far" }, this.bar, this.progress)),
      this.notice, this.unsaved,
      h("figure", { class: "panel flow" }, this.figure, this.waits),
      this.ledger,
      this.charts,
      h("section", { class: "panel" }, h("h3", {}, "Events"), this.log));
    root.append(this.nothing, this.content);
    this.diagram = new Diagram(this.figure);
    this.id = null;
    this.seen = false; // whether anything of this run has arrived
    const chart = (options) => new Chart(this.charts, { sync: "live", ...options });
    this.plots = {
      returns: chart({ title: "Return", unit: "per player", series: [
        { label: "learning θ", colour: "blue" }, { label: "others", colour: "orange", dash: [5, 3] }] }),
      explained: chart({ title: "Explained variance", series: [{ label: "share", colour: "blue" }] }),
      entropy: chart({ title: "Entropy", unit: "nats", series: [{ label: "θ", colour: "blue" }] }),
      kl: chart({ title: "KL(θ ‖ φ)", unit: "nats", digits: 3, series: [
        { colour: "soft", width: 1 }, { label: "forward", colour: "green", points: "only" }, { label: "reverse", colour: "vermillion", points: "only" }] }),
      lag: chart({ title: "Policy lag", unit: "versions", series: [{ label: "mean", colour: "blue" }] }),
      rate: chart({ title: "Rate", unit: "player steps/s", digits: 0, series: [{ label: "learner", colour: "blue" }] }),
    };
    this.forget();
  }

  forget() {
    this.curves = Object.fromEntries(NAMES.map((name) => [name, []]));
    this.distillations = [];
    this.log.replaceChildren();
  }

  // Shows a run; rows are all that are known, null before they have arrived.
  choose(id, candidates, rows) {
    const listed = candidates.some((row) => row.id === id) || id === null ? candidates : [{ id, name: id }, ...candidates];
    const wanted = listed.map((row) => `${row.id}\n${row.name}`).join("\n");
    if (wanted !== this.listed) {
      this.listed = wanted;
      this.select.replaceChildren(...listed.map((row) => h("option", { value: row.id }, row.group ? `${row.group}/${row.name}` : row.name)));
    }
    this.select.value = id ?? "";
    if (id !== this.id) {
      this.id = id;
      this.seen = this.wasAway = this.wasInTrouble = false;
      this.last = null;
      this.forget();
      this.notice.hidden = true;
    }
    this.content.hidden = !this.seen;
    this.nothing.hidden = this.seen;
    if (!this.seen) this.nothing.replaceChildren(...instead(id, rows));
  }

  // From here on, what is shown is no longer known to be so.
  lose() {
    this.seen = false;
  }

  show() {
    this.seen = true;
    this.content.hidden = false;
    this.nothing.hidden = true;
  }

  history(message) {
    this.show();
    this.forget();
    this.curves = message.curves;
    this.distillations = message.distillations;
    message.events.forEach((event) => this.addEvent(event));
    this.draw();
  }

  frame(frame) {
    this.show();
    this.last = frame;
    if (frame.trouble) {
      this.tell(sentence(frame.trouble), "bad");
      this.wasInTrouble = true;
    } else if (this.wasAway) {
      this.tell(`Redis at ${frame.server} is back, as of ${clock(frame.now)}.`, "good");
      setTimeout(() => (this.notice.hidden = true), 8000);
    } else if (this.wasInTrouble) this.notice.hidden = true;
    if (!frame.trouble) this.wasAway = this.wasInTrouble = false;
    const { updates = [], distillations = [], events = [] } = frame.new;
    for (const update of updates) for (const name of NAMES) this.curves[name].push(update[name]);
    this.distillations.push(...distillations);
    events.forEach((event) => this.addEvent(event));
    if (updates.length || distillations.length) this.draw();
    this.content.classList.remove("stale");
    this.meta.textContent = [frame.method, game(frame.game), frame.seed === null ? null : `seed ${frame.seed}`, frame.state].filter(Boolean).join(" · ");
    this.drawProgress(frame, frame.rate !== null);
    this.unsaved.hidden = !frame.unsaved.length;
    this.unsaved.textContent = frame.unsaved.map(sentence).join(" ");
    this.drawWaits(frame);
    this.diagram.update(frame);
    this.drawLedger(frame.ledger, frame.queue.malformed_messages);
  }

  drawProgress(frame, moving) {
    const share = frame.budget ? frame.player_steps / frame.budget : 0;
    this.bar.firstChild.style.width = `${Math.min(100, 100 * share)}%`;
    const part = (value, unit) => h("span", {}, h("b", {}, value), unit);
    this.progress.replaceChildren(
      part(count(frame.player_steps), ` of ${count(frame.budget)} player steps`),
      ...(moving ? [part(count(frame.rate), " per s"), part(duration(frame.seconds_left), " left")] : []),
      ...(over(frame) ? [part(frame.state === "finished" ? "done" : "stopped", "")] : []),
      part(count(frame.episodes), " episodes"));
  }

  drawWaits(frame) {
    const { halted, missing, bottleneck } = frame;
    if (frame.trouble || over(frame)) {
      this.waits.replaceChildren(frame.trouble ? "" : `The run is ${frame.state}.`);
      return;
    }
    const [learner, until] = halted === "missing" ? ["away", "back"] : ["starting", "ready"];
    const away = missing.filter((role) => role !== "learner").map((role) => absent(role, frame)).join(". ");
    this.waits.replaceChildren(
      halted
        ? h("span", { class: "bad" }, `The learner is ${learner}: nothing is trained until it is ${until}.`)
        : h("span", { class: "waits" }, bottleneck ? sentence(bottleneck) : "Nobody waits yet."),
      away ? h("span", { class: "bad" }, ` ${away}; the run goes on without, as far as it can.`) : "");
  }

  away(message, row) {
    this.show();
    this.wasAway = true;
    const state = row?.finished ? "finished" : message.ended;
    if (this.last) this.drawProgress({ ...this.last, state: state || this.last.state }, false);
    if (state) {
      this.waits.replaceChildren(`The run is ${state}.`);
      this.tell(state === "finished"
        ? "This run is finished, and its Redis server has stopped. This is its final state; its curves are under Runs."
        : "This run was stopped, and its Redis server with it. This is its last state; bidist train --resume continues it.", "good");
      return;
    }
    this.content.classList.add("stale");
    if (message.trouble) this.tell(sentence(message.trouble), "bad");
    else this.tell(`Redis at ${message.server} is away, for ${duration(message.now - message.since)} so far. This is the last known state. (${message.reason})`, "bad");
  }

  disconnected() {
    this.content.classList.add("stale");
  }

  tell(text, kind) {
    this.notice.textContent = text;
    this.notice.className = `notice ${kind}`;
    this.notice.hidden = false;
  }

  drawLedger(ledger, malformed) {
    const total = Math.max(ledger.produced, ledger.accounted, 1);
    const reasons = Object.entries(ledger.reasons).map(([name, value]) => `${name} ${count(value)}`);
    if (malformed) reasons.push(`malformed messages ${count(malformed)}`);
    this.ledger.className = `panel ledger ${ledger.holds ? "" : "broken"}`;
    this.ledger.replaceChildren(
      h("h3", {}, "Ledger ", h("small", {}, "unrolls")),
      h("div", { class: "sides" },
        h("div", { class: "side" }, h("b", {}, count(ledger.produced)), h("span", {}, "produced")),
        h("div", { class: "equals" }, ledger.holds ? "=" : "≠"),
        TERMS.map(([key, label], i) => [
          i ? h("div", { class: "plus" }, "+") : null,
          h("div", { class: `side ${ledger.terms[key] ? key : "none"}` }, h("b", {}, count(ledger.terms[key])), h("span", {}, label))])),
      h("div", { class: "stack" }, TERMS.map(([key]) => {
        const part = h("div", { class: key, title: `${key.replace("_", " ")}: ${count(ledger.terms[key])}` });
        part.style.width = `${(100 * ledger.terms[key]) / total}%`;
        return part;
      })),
      ledger.holds ? "" : h("p", { class: "bad" }, `The two sides differ by ${count(ledger.produced - ledger.accounted)} unrolls: please report it with the output of bidist status.`),
      ledger.unrecorded ? h("p", { class: "bad" }, `Redis has lost the outcomes of ${count(ledger.unrecorded)} unrolls that theta was trained on.`) : "",
      reasons.length ? h("p", { class: "reasons" }, reasons.join(" · ")) : "");
  }

  draw() {
    const c = this.curves;
    const x = c.player_steps;
    this.plots.returns.draw([x, c.return_learning, c.return_others]);
    this.plots.explained.draw([x, c.explained_variance]);
    this.plots.entropy.draw([x, c.entropy_nats]);
    this.plots.lag.draw([x, c.policy_lag_mean]);
    this.plots.rate.draw([x, c.player_steps_per_s]);
    const columns = sawTooth(this.distillations, c);
    this.plots.kl.root.hidden = !columns[0].length;
    this.plots.kl.draw(columns);
  }

  addEvent(event) {
    const what = Object.entries(event.details ?? {}).map(([key, value]) => `${key} ${value}`).join(", ");
    const who = event.role === event.name ? event.role : `${event.role} ${event.name}`;
    this.log.prepend(h("li", { class: ["error", "restart"].includes(event.event) ? "bad" : null },
      h("time", {}, clock(event.time_s)), h("span", {}, who), h("b", {}, event.event), h("span", { class: "details" }, what)));
    while (this.log.children.length > MAX_EVENTS) this.log.lastChild.remove();
  }

  recolour() {
    for (const plot of Object.values(this.plots)) plot.recolour();
  }
}

// What the page says while it has nothing of a run.
function instead(id, rows) {
  if (rows === null) return [h("p", {}, "Reading runs…")];
  if (id === null)
    return [h("h2", {}, "No run is live"),
      h("p", {}, "Start one with ", h("code", {}, "bidist train"), ", or name a Redis server elsewhere with ", h("code", {}, "bidist dashboard --redis URL"),
        ". It appears here by itself; finished runs are under ", h("a", { href: "#/runs" }, "Runs"), ".")];
  const row = rows.get(id);
  if (row?.live) return [h("p", {}, `Reading ${id}…`)];
  return [h("h2", {}, `${id} is not live`),
    row
      ? h("p", {}, "Its curves, settings and logs are ", h("a", { href: `#/runs/${encodeURIComponent(id)}` }, "under Runs"), ".")
      : h("p", {}, "No such run is known here; ", h("a", { href: "#/runs" }, "Runs"), " lists those that are.")];
}

// Each event is two points: KL before, then KL after. Between events theta moves and the KL drifts. The two are a hair
// apart, because uPlot draws no further than the first of several points at the end of its axis.
export function sawTooth(events, curves) {
  const [x, line, forward, reverse] = [[], [], [], []];
  for (const event of events) {
    const place = stepsAt(event.update, curves);
    if (place === null || event.kl_after_nats === null) continue;
    x.push(Math.max(place * (1 - HAIR), x.at(-1) ?? 0), place);
    line.push(event.kl_before_nats, event.kl_after_nats);
    forward.push(null, event.direction === "forward" ? event.kl_after_nats : null);
    reverse.push(null, event.direction === "reverse" ? event.kl_after_nats : null);
  }
  const columns = [x, line, forward, reverse];
  if (x.length) cover(columns, curves.player_steps);
  return columns;
}

// Empty points at either end give the axis the range of the other charts.
function cover(columns, steps) {
  const [x, ...values] = columns;
  const nothing = values.map(() => null);
  const add = (where, place) => [place, ...nothing].forEach((value, i) => columns[i][where](value));
  if (steps[0] < x[0]) add("unshift", steps[0]);
  if (steps.at(-1) > x.at(-1)) add("push", steps.at(-1));
}

function stepsAt(update, { updates, player_steps: steps }) {
  if (!updates.length || update === null) return null;
  let [low, high] = [0, updates.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (updates[middle] < update) low = middle + 1;
    else high = middle;
  }
  return steps[low];
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
