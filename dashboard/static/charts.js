// Line charts by uPlot, with their values in the heading instead of a legend below.

import { colour, fixed, h, short } from "./dom.js";

const HEIGHT = 168;

export class Chart {
  // series: [{label, colour, dash, points, digits, name}]; colours are names of custom properties, or colours. The curve
  // near the cursor is identified by its name, where curves have names.
  constructor(parent, { title, unit = "", series, sync, height = HEIGHT, digits = 2 }) {
    this.options = { series, sync, height, digits };
    this.values = series.map((one) =>
      one.label ? h("span", { class: "value" }, h("i", {}), `${one.label} `, h("b", {}, "–")) : null,
    );
    this.place = h("div", { class: "plot" });
    this.empty = h("p", { class: "empty" }, "no data yet");
    this.near = series.some((one) => one.name) ? h("span", { class: "near" }) : null;
    const heading = title
      ? h("header", {}, h("h3", {}, title, unit ? h("small", {}, ` ${unit}`) : null), h("div", { class: "values" }, this.values), this.near)
      : null;
    this.root = h("section", { class: "chart" }, heading, this.place, this.empty);
    parent.append(this.root);
    this.data = [[], ...series.map(() => [])];
    new ResizeObserver(() => this.resize()).observe(this.place);
  }

  draw(data) {
    this.data = data;
    this.empty.hidden = data[0].length > 0;
    if (this.plot) this.plot.setData(data);
    else this.make();
    this.read(null);
  }

  // The values under the cursor, or the newest of each series.
  read(index) {
    this.values.forEach((place, i) => {
      if (!place) return;
      const column = this.data[i + 1];
      let value = index === null ? undefined : column[index];
      for (let k = column.length - 1; index === null && k >= 0 && (value === null || value === undefined); k--) value = column[k];
      place.hidden = index === null && (value === null || value === undefined) && this.options.series.length > 1;
      place.querySelector("b").textContent = fixed(value, this.options.series[i].digits ?? this.options.digits);
    });
  }

  make() {
    const width = this.place.clientWidth;
    if (!width || !this.data[0].length) return;
    this.plot?.destroy();
    const paint = (name) => (name.startsWith("#") ? name : colour(name));
    this.options.series.forEach((one, i) => this.values[i]?.querySelector("i").style.setProperty("background", paint(one.colour)));
    const axis = {
      stroke: colour("soft"), font: "11px system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 },
      ticks: { stroke: colour("line"), width: 1, size: 4 }, gap: 4,
    };
    this.plot = new uPlot(
      {
        width, height: this.options.height, legend: { show: false }, padding: [8, 20, 0, 0],
        scales: { x: { time: false }, y: { range: (_, low, high) => span(low, high) } },
        cursor: { sync: this.options.sync ? { key: this.options.sync } : undefined, points: { size: 6 }, drag: { x: true, y: false }, focus: { prox: this.near ? 24 : -1 } },
        focus: { alpha: this.near ? 0.25 : 1 },
        axes: [
          { ...axis, size: 24, space: 64, values: (_, ticks) => ticks.map(short) },
          { ...axis, size: 46, space: 30, values: (_, ticks) => ticks.map(short) },
        ],
        series: [
          {},
          ...this.options.series.map((one) => ({
            stroke: one.points === "only" ? undefined : paint(one.colour), width: one.width ?? 1.5, dash: one.dash, spanGaps: true,
            alpha: one.alpha ?? 1,
            points: one.points === "only"
              ? { show: true, size: 6, fill: paint(one.colour), stroke: paint(one.colour), width: 0 }
              : { show: this.data[0].length < 3 },
          })),
        ],
        hooks: {
          setCursor: [(plot) => this.read(plot.cursor.idx ?? null)],
          setSeries: [(plot, i) => this.tell(plot, i)],
        },
      },
      this.data,
      this.place,
    );
  }

  tell(plot, i) {
    if (!this.near) return;
    const one = i ? this.options.series[i - 1] : null;
    const value = one ? nearest(this.data[i], plot.cursor.idx) : null;
    this.near.textContent = one ? `${fixed(value, this.options.digits)}  ${one.name}` : "";
  }

  resize() {
    const width = this.place.clientWidth;
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: this.options.height });
    else this.make();
  }

  recolour() {
    this.make();
  }

  remove() {
    this.plot?.destroy();
    this.root.remove();
  }
}

// Overlaid curves share the x values of all of them, so most of a curve's own values are empty.
function nearest(column, index) {
  for (let reach = 0; reach < column.length; reach++)
    for (const i of [index - reach, index + reach]) if (column[i] !== null && column[i] !== undefined) return column[i];
  return null;
}

function span(low, high) {
  if (low === null || high === null) return [0, 1];
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.5;
  return [low - margin, high + margin];
}
