// Elements and numbers. Text from runs only ever becomes text nodes, never markup.

export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const DASH = "–";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => (known(value) ? Math.round(value).toLocaleString("en-US") : DASH);

export const fixed = (value, digits = 2) => (known(value) ? value.toFixed(digits).replace("-", "−") : DASH);

export function short(value) {
  if (!known(value)) return DASH;
  const size = Math.abs(value);
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= limit) return trim(value / limit) + unit;
  return trim(value);
}

const trim = (value) => String(Number(value.toPrecision(3))).replace("-", "−");

export function bytes(value) {
  if (!known(value)) return DASH;
  const units = ["B", "kB", "MB", "GB"];
  let i = 0;
  while (value >= 1000 && i < units.length - 1) [value, i] = [value / 1000, i + 1];
  return `${value < 10 && i ? value.toFixed(1) : Math.round(value)} ${units[i]}`;
}

export function duration(seconds) {
  if (!known(seconds)) return DASH;
  const total = Math.max(0, Math.round(seconds));
  if (total < 100) return `${total} s`;
  const minutes = Math.round(total / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

// Whether a run that Redis has, a row or a frame, trains no more.
export const over = (run) => ["finished", "stopped"].includes(run.state);

// What is said of a role that is missing: a learner that has just come waits for the others to come, too.
const ARRIVAL_S = 60;
export function missing(role, { workers, now }) {
  const [learner] = workers.filter((worker) => worker.role === "learner");
  return learner && now - learner.started < ARRIVAL_S ? `No ${role} has come yet` : `The ${role} is away`;
}

export const clock = (time) => new Date(time * 1000).toLocaleTimeString("en-GB");

export async function ask(path, parameters = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.headers.get("content-type").startsWith("application/json") ? answer.json() : answer.text();
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// A game's name as people say it: the suffix that all arenas share is left out.
export const game = (name) => (name ?? "").replaceAll("_in_the_matrix__", " ").replaceAll("_", " ");

// Inline code, bold and links: all that reports use within a line. A link without an address is just its text.
export function prose(text, address = () => null) {
  return text
    .split(/(`[^`]*`|!?\[(?:`[^`]*`|[^\]])*\]\([^)]*\)|\*\*[^*]+\*\*)/)
    .filter(Boolean)
    .map((part) => {
      if (/^`.*`$/.test(part)) return h("code", {}, part.slice(1, -1));
      if (/^\*\*.*\*\*$/.test(part)) return h("strong", {}, prose(part.slice(2, -2), address));
      const [, label, target] = /^!?\[(.*)\]\(([^)]*)\)$/.exec(part) ?? [];
      if (target === undefined) return part;
      const href = address(target);
      return href ? h("a", href.startsWith("#") ? { href } : { href, target: "_blank", rel: "noopener" }, prose(label)) : prose(label);
    });
}
