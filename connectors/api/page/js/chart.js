// uPlot in the page's colours, as wide as its place.

import uPlot from "../vendor/uPlot.esm.js";
import { el } from "./dom.js";
import { number, percent, t } from "./text.js";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function axes(format, bottom) {
  const stroke = colour("muted");
  const grid = { stroke: colour("line"), width: 1 };
  const font = "12px system-ui, sans-serif";
  return [
    { stroke, grid: { show: false }, ticks: { stroke: colour("line") }, font, ...bottom },
    { stroke, grid, ticks: { show: false }, font, size: 58, values: (_, values) => values.map(format) },
  ];
}

class Chart {
  constructor(label, options, height) {
    this.place = el("div", { class: "plot", role: "img", "aria-label": label });
    this.options = options;
    this.height = height;
    this.plot = null;
    this.data = null;
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.place);
  }

  set(data) {
    this.data = data;
    if (this.plot) this.plot.setData(data);
    else this.fit();
  }

  fit() {
    const width = Math.floor(this.place.clientWidth);
    if (!width || !this.data) return;
    if (this.plot) this.plot.setSize({ width, height: this.height });
    else this.plot = new uPlot({ width, height: this.height, ...this.options }, this.data, this.place);
  }

  close() {
    this.observer.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
}

const cursor = { drag: { x: false, y: false }, points: { size: 6 } };

// Lines over the last minutes. `lines`: [label, colour].
export function lines(label, names, { height = 190, format = number } = {}) {
  return new Chart(
    label,
    {
      cursor,
      legend: { live: true },
      scales: { x: { time: true }, y: { range: (_, least, most) => [0, Math.max(1, (most ?? 1) * 1.08)] } },
      axes: axes(format, { values: (plot, values) => values.map((at) => clock(at)), space: 70 }),
      series: [
        { label: t("time"), value: (_, at) => (at === null ? "" : clock(at)) },
        ...names.map(([name, shade]) => ({
          label: name,
          stroke: colour(shade),
          width: 1.8,
          points: { show: false },
          value: (_, value) => (value === null || value === undefined ? "" : format(value)),
        })),
      ],
    },
    height,
  );
}

function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("ru-RU", { hour12: false });
}

// Bars beside each other over named places.
export function bars(label, places, names, { height = 260, format = percent, rotate = -40, size = 96, first = t("label"), right = 70 } = {}) {
  const half = names.length > 1;
  return new Chart(
    label,
    {
      padding: [10, right, 0, 0],
      cursor: { ...cursor, points: { show: false } },
      legend: { show: true, live: true },
      scales: {
        x: { time: false, range: [-0.6, places.length - 0.4] },
        y: { range: (_, least, most) => [0, Math.max(0.01, (most ?? 0) * 1.1)] },
      },
      axes: axes(format, {
        splits: () => places.map((_, index) => index),
        values: (_, splits) => splits.map((index) => places[index]),
        rotate,
        size,
        space: 1,
        gap: 4,
      }),
      series: [
        { label: first, value: (_, index) => places[index] ?? "" },
        ...names.map(([name, shade], index) => ({
          label: name,
          stroke: colour(shade),
          fill: colour(shade),
          width: 0,
          points: { show: false },
          paths: uPlot.paths.bars({ size: [half ? 0.36 : 0.86, 60], align: half ? (index ? 1 : -1) : 0, gap: 1 }),
          value: (_, value) => (value === null || value === undefined ? "" : format(value)),
        })),
      ],
    },
    height,
  );
}
