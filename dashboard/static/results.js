// Reports, pictures and tables below the folder of results, each with the command that made it.

import { ask, h, prose } from "./dom.js";

const ROWS = 40;

export class Results {
  constructor(root) {
    this.list = h("nav", { class: "panel folders", "aria-label": "Folders" });
    this.choice = h("select", { class: "folder", "aria-label": "Folder", onchange: () => (location.hash = link(this.choice.value)) });
    this.page = h("article", { class: "report" });
    root.append(h("div", { class: "results" }, this.list, this.choice, this.page));
  }

  async show(folder) {
    try {
      const found = await ask("api/results");
      const names = found.folders.map((one) => one.folder);
      this.folders = new Set(names);
      const chosen = folder ?? names.find((name) => name === ".") ?? names[0];
      const title = (name) => (name === "." ? "overview" : name);
      this.choice.replaceChildren(...names.map((name) => h("option", { value: name }, title(name))));
      this.choice.value = chosen ?? "";
      this.choice.hidden = !names.length;
      this.list.replaceChildren(
        h("p", { class: "soft" }, found.root),
        ...found.folders.map((one) => h("a", { href: link(one.folder), "aria-current": one.folder === chosen },
          h("span", {}, title(one.folder)), h("small", {}, one.pictures ? `${one.pictures} picture${one.pictures > 1 ? "s" : ""}` : ""))));
      if (chosen === undefined) this.page.replaceChildren(h("section", { class: "panel nothing" }, h("h2", {}, "No results yet"),
        h("p", {}, h("code", {}, "bidist report RUNS --out FOLDER"), " writes tables and pictures; name that folder with ", h("code", {}, "bidist dashboard --results FOLDER"), ".")));
      else await this.open(chosen);
    } catch (error) {
      this.page.replaceChildren(h("p", { class: "bad" }, error.message));
    }
  }

  async open(folder) {
    const report = await ask("api/report", { folder });
    this.prose = (text) => prose(text, (target) => address(target, folder, this.folders));
    const shown = new Set();
    const documents = report.documents.flatMap(({ blocks }) => blocks.map((block) => this.block(block, shown)));
    const pictures = report.pictures.filter((picture) => !shown.has(picture.path));
    this.page.replaceChildren(
      ...(documents.length ? documents : [h("h2", {}, folder)]),
      ...(pictures.length && documents.length ? [h("h2", {}, "More pictures")] : []),
      ...pictures.map((picture) => this.picture(picture.name, picture)),
      ...(report.tables.length ? [h("h2", {}, "Numbers")] : []),
      ...report.tables.map((table) => h("details", {}, h("summary", {}, `${table.name} `, h("span", { class: "soft" }, `${table.total} rows`)), this.command(table.command), this.table(table.head, table.rows))));
    this.page.scrollTop = 0;
  }

  block(block, shown) {
    if (block.kind === "heading") return h(`h${Math.min(4, block.level + 1)}`, {}, this.prose(block.text));
    if (block.kind === "text") return h("p", {}, this.prose(block.text));
    if (block.kind === "list") return h("ul", {}, block.items.map((item) => h("li", {}, this.prose(item))));
    if (block.kind === "code") return h("pre", {}, block.text);
    if (block.kind === "table") return this.table(block.head, block.rows);
    shown.add(block.path);
    return block.path ? this.picture(block.text, block) : h("p", { class: "soft" }, `(picture ${block.text} is outside of this folder)`);
  }

  picture(alt, { path, command }) {
    const address = `files/results/${path.split("/").map(encodeURIComponent).join("/")}`;
    return h("figure", { class: "picture" }, h("a", { href: address, target: "_blank", rel: "noopener" }, h("img", { src: address, alt, loading: "lazy" })),
      h("figcaption", {}, h("span", {}, path), this.command(command)));
  }

  command(text) {
    return text ? h("code", { class: "command" }, text) : h("span", { class: "soft" }, "its command was not recorded");
  }

  table(head, rows) {
    const numeric = head.map((_, i) => rows.some((row) => row[i]) && rows.every((row) => !row[i] || /^[*`~]*[-−+]?[\d.,]+\s*(%|\(|s\b|$|[*`])/.test(row[i])));
    const line = (row) => h("tr", {}, head.map((_, i) => h("td", { class: numeric[i] ? "number" : "text" }, this.prose(row[i] ?? ""))));
    const body = h("tbody", {}, rows.slice(0, ROWS).map(line));
    const more = rows.length > ROWS ? h("button", { onclick: (event) => { body.append(...rows.slice(ROWS).map(line)); event.target.remove(); } }, `show ${rows.length - ROWS} more rows`) : null;
    return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, head.map((text, i) => h("th", { class: numeric[i] ? "number" : "text" }, this.prose(text))))), body), more);
  }
}

// Where a link in a folder's document leads: to the web, or to the folder, below that of all results, of what it names.
export function address(target, folder, folders) {
  if (/^https?:\/\//.test(target)) return target;
  const path = folder === "." ? [] : folder.split("/");
  for (const step of target.replace(/[?#].*/, "").split("/")) {
    if (step === ".." && !path.length) return null;
    if (step === "..") path.pop();
    else if (step && step !== ".") path.push(step);
  }
  const found = [path, path.slice(0, -1)].map((steps) => steps.join("/") || ".").find((name) => folders.has(name));
  return found === undefined || found === folder ? null : link(found);
}

const link = (folder) => `#/results/${encodeURIComponent(folder)}`;
