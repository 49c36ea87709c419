// Which view is shown, and the one stream of events that all of them share.

import { over } from "./dom.js";
import { Live } from "./live.js";
import { Results } from "./results.js";
import { Runs } from "./runs.js";

const RETRY_MS = 2000;
const rows = new Map();
const element = (id) => document.getElementById(id);
const live = new Live(element("live"), (id) => (location.hash = `#/live/${encodeURIComponent(id)}`));
const runs = new Runs(element("runs"));
const results = new Results(element("results"));
let stream = null;
let arrived = false;
let watched = null;
let opening = null;

function route() {
  const [, view = "live", argument = ""] = location.hash.split("/");
  const known = ["live", "runs", "results"].includes(view) ? view : "live";
  for (const name of ["live", "runs", "results"]) element(name).hidden = name !== known;
  for (const link of document.querySelectorAll("nav a"))
    link.toggleAttribute("aria-current", link.dataset.view === known);
  const name = argument ? decoded(argument) : null;
  if (known === "live") follow(name);
  if (known === "runs") runs.show(name);
  if (known === "results") results.show(name);
}

// A link that somebody has cut in the middle of a letter names nothing that is known, and the view says so.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// The requested run, or else the newest that is running, or else one that Redis still has, if there is any.
function follow(wanted) {
  const candidates = [...rows.values()].filter((row) => row.live);
  const newest = candidates.sort((a, b) => over(a) - over(b) || (b.time_s ?? Infinity) - (a.time_s ?? Infinity))[0];
  const id = wanted ?? watched ?? newest?.id ?? null;
  live.choose(id, candidates, arrived ? rows : null);
  const next = rows.get(id)?.live || id === watched ? id : null;
  if (next !== watched) {
    watched = next;
    open();
  }
}

function open() {
  clearTimeout(opening);
  stream?.close();
  stream = new EventSource(watched === null ? "events" : `events?run=${encodeURIComponent(watched)}`);
  const on = (name, act) => stream.addEventListener(name, (event) => act(JSON.parse(event.data)));
  stream.addEventListener("open", () => say("connected", "good"));
  stream.addEventListener("error", () => {
    say("dashboard away, retrying", "bad");
    live.disconnected();
    // The browser retries by itself unless the server refused; the run may be gone then.
    if (stream.readyState === EventSource.CLOSED) {
      watched = null;
      live.lose();
      opening = setTimeout(open, RETRY_MS);
    }
  });
  on("runs", (message) => {
    arrived = true;
    for (const row of message.changed) rows.set(row.id, row);
    for (const id of message.gone) rows.delete(id);
    element("run-count").textContent = rows.size || "";
    runs.update(rows, message.folder);
    if (!element("live").hidden) route();
  });
  on("history", (message) => live.history(message));
  on("frame", (message) => live.frame(message));
  on("away", (message) => live.away(message, rows.get(watched)));
}

function say(text, kind) {
  element("link").textContent = text;
  element("link").className = `pill ${kind}`;
}

// A page that nobody sees costs its run nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.close();
    say("paused", "");
  } else {
    open();
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  live.recolour();
  runs.recolour();
});
addEventListener("hashchange", route);
open();
route();
