// The system's data flow with its numbers: actors, Redis, learner, distiller, and what passes between them.

import { bytes, count, duration, fixed, s, short } from "./dom.js";

// Boxes are [x, y, width, height]; links are paths with the position of their label.
const WIDE = {
  size: [1080, 330],
  redis: [0, 2, 1080, 40], actors: [0, 104, 330, 160], learner: [460, 104, 250, 160], distiller: [830, 104, 250, 160],
  disk: [460, 294, 250, 34],
  links: {
    pull: ["M165 42V98", 177, 76, "start"], publish: ["M585 104V48", 597, 76, "start"],
    observe: ["M890 42V98", 880, 76, "end"], distil: ["M1000 104V48", 1012, 76, "start"],
    unrolls: ["M330 152H454", 392, 142, "middle"], credit: ["M460 216H336", 398, 234, "middle"],
    save: ["M585 264V288", 597, 280, "start"],
  },
  gauge: [352, 159, 80], bars: 64,
};
const NARROW = {
  size: [380, 818],
  redis: [10, 4, 360, 62], actors: [10, 124, 290, 160], learner: [10, 366, 290, 160], distiller: [10, 650, 290, 160],
  disk: [10, 566, 290, 34],
  links: {
    pull: ["M155 66V118", 167, 98, "start"], publish: ["M300 440H314V72", 306, 98, "end"],
    observe: ["", 0, 0, "start"], distil: ["M300 730H328V72", 336, 98, "start"],
    unrolls: ["M40 284V360", 52, 306, "start"], credit: ["M170 366V290", 182, 336, "start"],
    save: ["M155 526V560", 167, 548, "start"],
  },
  gauge: [52, 316, 82], bars: 64,
};

export class Diagram {
  constructor(parent) {
    this.parent = parent;
    this.narrow = matchMedia("(max-width: 700px)");
    this.narrow.addEventListener("change", () => this.build());
    this.build();
  }

  build() {
    const layout = (this.layout = this.narrow.matches ? NARROW : WIDE);
    const [width, height] = layout.size;
    this.texts = {};
    this.boxes = {};
    this.svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "diagram", role: "img", "aria-label": "Data flow of the run" });
    this.svg.append(s("defs", {}, s("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
      s("path", { d: "M0 0L8 4L0 8z", class: "head" }))));
    for (const [name, [d, x, y, anchor]] of Object.entries(layout.links)) {
      if (d) this.svg.append(s("path", { d, class: `link ${name}`, "marker-end": "url(#head)" }));
      this.text(this.svg, name, x, y, "label", anchor);
    }
    this.box("redis", "Redis");
    this.box("actors", "actors");
    this.box("learner", "learner");
    this.box("distiller", "distiller");
    this.box("disk", "");
    this.lines("redis", [["versions", layout === NARROW ? 16 : 76, layout === NARROW ? 46 : 25, "soft"]]);
    this.text(this.boxes.redis, "memory", layout.redis[2] - 16, 25, "soft", "end");
    this.lines("actors", [["rate", 16, 58, "big"], ["rateNote", 16, 78, "soft"]]);
    this.bars = s("g", { transform: "translate(16 92)" });
    this.boxes.actors.append(this.bars);
    this.lines("learner", [["updates", 16, 58, "big"], ["learnerNote", 16, 78, "soft"], ["share", 16, 128, "soft"], ["share2", 16, 146, "soft"]]);
    this.waiting = this.meter(this.boxes.learner, 16, 98, layout.learner[2] - 32, 10);
    this.lines("distiller", [["kl", 16, 58, "big"], ["klNote", 16, 78, "soft"], ["phi", 16, 128, "soft"], ["phiNote", 16, 146, "soft"]]);
    this.lines("disk", [["checkpoint", 16, 22, "soft"]]);
    const [x, y, size] = layout.gauge;
    this.queue = this.meter(this.svg, x, y, size, 6);
    this.text(this.svg, "queueNote", x + (layout === WIDE ? size / 2 : 0), y + 20, "label", layout === WIDE ? "middle" : "start");
    this.text(this.svg, "lagNote", layout.links.credit[1], layout.links.credit[2] + 16, "label", layout.links.credit[3]);
    this.parent.replaceChildren(this.svg);
    if (this.last) this.update(this.last);
  }

  box(name, title) {
    const [x, y, width, height] = this.layout[name];
    const group = s("g", { class: `box ${name}`, transform: `translate(${x} ${y})` });
    group.append(s("rect", { width, height, rx: 5 }));
    this.boxes[name] = group;
    this.svg.append(group);
    if (title) this.text(group, `${name}Title`, 16, 24, "title").textContent = title;
  }

  lines(box, lines) {
    for (const [name, x, y, kind] of lines) this.text(this.boxes[box], name, x, y, kind);
  }

  text(parent, name, x, y, kind, anchor = "start") {
    const element = s("text", { x, y, class: kind, "text-anchor": anchor });
    parent.append(element);
    this.texts[name] = element;
    return element;
  }

  meter(parent, x, y, width, height) {
    const part = s("rect", { x, y, width: 0, height, class: "part" });
    parent.append(s("rect", { x, y, width, height, class: "whole" }), part);
    return (share) => part.setAttribute("width", Math.max(0, Math.min(1, share || 0)) * width);
  }

  update(frame) {
    this.last = frame;
    const say = (name, text) => {
      if (this.texts[name].textContent !== text) this.texts[name].textContent = text;
    };
    const of = (role) => frame.workers.filter((worker) => worker.role === role);
    const [actors, [learner], [distiller]] = [of("actor"), of("learner"), of("distiller")];
    const distillation = frame.distillation;
    const missing = new Set(frame.missing);
    for (const [box, role] of [["actors", "actor"], ["learner", "learner"], ["distiller", "distiller"]])
      this.boxes[box].classList.toggle("missing", missing.has(role));
    this.svg.classList.toggle("alone", !frame.distils);

    const phi = distiller?.phi_version ?? Math.max(-1, ...actors.map((actor) => actor.phi_version ?? -1));
    say("versions", [`θ ${count(frame.version)}`, frame.distils ? `φ ${phi >= 0 ? count(phi) : "–"}` : null].filter(Boolean).join(" · "));
    say("memory", bytes(frame.redis_bytes));
    say("pull", frame.distils ? "θ, φ" : "θ");
    say("publish", `θ ${count(frame.version)}`);
    say("observe", frame.distils && this.layout === WIDE ? "θ, observations D" : "");
    say("distil", frame.distils ? (phi >= 0 ? `φ ${count(phi)}` : "φ") : "");

    say("actorsTitle", missing.has("actor") ? "no actors" : `${actors.length} actor${actors.length === 1 ? "" : "s"}`);
    say("rate", count(actors.reduce((sum, actor) => sum + (actor.player_steps_per_s ?? 0), 0)));
    say("rateNote", "player steps/s played");
    this.drawActors(actors, frame);

    const { capacity_unrolls: capacity } = frame.queue;
    const unrolls = frame.halted ? null : frame.queue.unrolls; // its last word, and the queue went with it
    say("unrolls", "unrolls");
    say("queueNote", `queue ${count(unrolls)} of ${count(capacity)}`);
    this.queue(capacity ? unrolls / capacity : 0);
    say("credit", "credit");
    say("lagNote", frame.lag.mean === null ? "policy lag –" : `lag ${fixed(frame.lag.mean, 1)}, max ${count(frame.lag.max)}`);

    say("learnerTitle", missing.has("learner") ? "learner is away" : "learner");
    say("updates", count(frame.updates));
    say("learnerNote", `updates${learner?.state ? `, ${learner.state}` : ""}`);
    const cycle = frame.halted ? 0 : (frame.wait_s ?? 0) + (frame.update_s ?? 0);
    const share = !cycle ? 0 : frame.starvation_percent !== null ? frame.starvation_percent / 100 : (frame.wait_s ?? 0) / cycle;
    this.waiting(share);
    say("share", cycle > 0 ? `waits ${Math.round(100 * share)}% of its time` : frame.updates ? "" : "no update yet");
    say("share2", cycle > 0 ? `${fixed(frame.update_s, frame.update_s < 0.1 ? 3 : 2)} s an update` : "");

    say("distillerTitle", missing.has("distiller") ? "distiller is away" : "distiller");
    if (!frame.distils) {
      for (const name of ["kl", "klNote", "phi"]) say(name, "");
      say("phiNote", "");
      say("klNote", "this method has none");
    } else {
      say("kl", distillation ? `${fixed(distillation.kl_before_nats, 3)} → ${fixed(distillation.kl_after_nats, 3)}` : "–");
      say("klNote", distillation ? `nats of KL, ${distillation.direction} event ${count(distillation.events)}` : "no event yet");
      say("phi", distillation ? `from θ of update ${count(distillation.update)}` : "");
      say("phiNote", distillation ? `entropy of φ ${fixed(distillation.phi_entropy_after_nats)} nats` : "");
    }
    say("save", "");
    const saved = frame.checkpoint;
    say("checkpoint", saved ? `checkpoint ${count(Number(saved.updates))}, ${duration(frame.now - saved.time_s)} ago` : "no checkpoint yet");
  }

  // One bar per actor: its rate relative to the fastest. Redrawn as a whole, since there are never more than a few hundred.
  drawActors(actors, frame) {
    const width = this.layout.actors[2] - 32;
    const columns = Math.max(1, Math.min(actors.length, this.layout.bars));
    const rows = Math.ceil(actors.length / columns) || 1;
    const pitch = Math.min(width / columns, 26);
    const height = Math.floor(56 / rows) - 2;
    const gap = pitch > 8 ? 2 : 1;
    const fastest = Math.max(1, ...actors.map((actor) => actor.player_steps_per_s ?? 0));
    this.bars.replaceChildren(
      ...actors.map((actor, i) => {
        const rate = actor.player_steps_per_s ?? 0;
        const size = Math.max(1, (height * rate) / fastest);
        const x = (i % columns) * pitch;
        const y = Math.floor(i / columns) * (height + 2);
        const behind = (frame.version ?? 0) - (actor.theta_version ?? frame.version ?? 0);
        return s("g", {},
          s("title", {}, `actor ${actor.name} on ${actor.host}: ${count(rate)} player steps/s, θ ${short(actor.theta_version)} (${behind} behind), ${actor.state}`),
          s("rect", { x, y, width: pitch - gap, height, class: "whole" }),
          s("rect", { x, y: y + height - size, width: pitch - gap, height: size, class: rate ? "part" : "part idle" }));
      }),
    );
  }
}
