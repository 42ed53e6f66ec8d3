// Diagrams of shares: points with their intervals, and curves. The numbers stand in a table beside each.

import { el, svg } from "./dom.js";
import { fixed } from "./text.js";

const LEFT = 60;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 40;

// Axes from `x[0]` to `x[1]` and `y[0]` to `y[1]`; `marks`: [place, words] below the first one.
function axes(label, { width, height, x, y, marks, below, beside }) {
  const across = (value) => LEFT + ((value - x[0]) / (x[1] - x[0])) * (width - LEFT - RIGHT);
  const up = (value) => height - BOTTOM - ((value - y[0]) / (y[1] - y[0])) * (height - TOP - BOTTOM);
  const step = y[1] - y[0] > 0.5 ? 0.2 : y[1] - y[0] > 0.2 ? 0.1 : 0.05;
  const lines = [];
  for (let number = Math.round(Math.ceil(y[0] / step - 1e-9)); number * step <= y[1] + 1e-9; number += 1) {
    const at = Math.abs(number * step);
    lines.push(svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: up(at), y2: up(at) }),
      svg("text", { x: LEFT - 6, y: up(at) + 4, "text-anchor": "end" }, fixed(at)));
  }
  for (const [at, words] of marks) lines.push(svg("text", { x: across(at), y: height - BOTTOM + 17, "text-anchor": "middle" }, words));
  const root = svg("svg", { class: "diagram", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, lines,
    svg("text", { class: "axis", x: (LEFT + width - RIGHT) / 2, y: height - 5, "text-anchor": "middle" }, below),
    beside ? svg("text", { class: "axis", x: 12, y: (height - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(height - BOTTOM) / 2})` }, beside) : null);
  return { root, across, up, y };
}

// A point with its interval; `words` are shown where the pointer rests.
function interval({ across, up, y }, x, value, low, high, words, radius = 4) {
  const inside = (one) => up(Math.min(y[1], Math.max(y[0], one)));
  const place = across(x);
  return svg("g", { class: "interval" }, svg("title", null, words),
    svg("line", { x1: place, x2: place, y1: inside(low), y2: inside(high) }),
    [low, high].map((one) => svg("line", { x1: place - 4, x2: place + 4, y1: inside(one), y2: inside(one) })),
    svg("circle", { cx: place, cy: inside(value), r: radius }));
}

const tenths = (start, end) => Array.from({ length: 11 }, (_, index) => index / 10).filter((one) => one >= start - 1e-9 && one <= end + 1e-9);
const floor = (values) => Math.max(0, Math.floor((Math.min(1, ...values) - 0.02) * 10) / 10);

// Points in order; each: [name, value, low, high, words], the value null where there is none.
export function series(label, points, { below, beside }) {
  const known = points.map((one, place) => [place, ...one]).filter((one) => one[2] !== null);
  const every = Math.ceil(points.length / 9);
  const marks = points.map((one, place) => [place, one[0]]).filter(([place]) => (points.length - 1 - place) % every === 0);
  const frame = axes(label, { width: 760, height: 250, x: [-0.5, points.length - 0.5], y: [floor(known.map((one) => one[3])), 1], marks, below, beside });
  const path = known.map(([place, , value]) => `${frame.across(place)} ${frame.up(value)}`).join(" L");
  frame.root.append(svg("path", { class: "thread", d: path ? `M${path}` : "" }), ...known.map(([place, , value, low, high, words]) => interval(frame, place, value, low, high, words)));
  return frame.root;
}

// What was found against what was said, both 0 to 1. Each: [said, found, low, high, words, weight 0 to 1].
export function against(label, points, { below, beside }) {
  const frame = axes(label, { width: 420, height: 340, x: [0, 1], y: [0, 1], marks: tenths(0, 1).filter((_, place) => place % 2 === 0).map((one) => [one, fixed(one)]), below, beside });
  frame.root.append(svg("line", { class: "ideal", x1: frame.across(0), y1: frame.up(0), x2: frame.across(1), y2: frame.up(1) }),
    ...points.map(([said, found, low, high, words, weight]) => interval(frame, said, found, low, high, words, 3 + 4 * Math.sqrt(weight))));
  return frame.root;
}

// Two lines over the same places, both 0 to 1, and a cross that can be moved: `root` and `point(place)`.
export function curve(label, places, upper, lower, { below, beside, wanted }) {
  const frame = axes(label, { width: 420, height: 340, x: [0, 1], y: [floor([wanted, ...lower.slice(Math.min(4, lower.length - 1))]), 1], marks: tenths(0, 1).filter((_, place) => place % 2 === 0).map((one) => [one, fixed(one)]), below, beside });
  const inside = (value) => frame.up(Math.max(frame.y[0], value));
  const line = (values) => `M${places.map((one, index) => `${frame.across(one)} ${inside(values[index])}`).join(" L")}`;
  const rule = svg("line", { class: "cross", y1: TOP, y2: 340 - BOTTOM });
  const dot = svg("circle", { class: "dot", r: 5 });
  frame.root.append(
    svg("line", { class: "ideal", x1: LEFT, x2: 420 - RIGHT, y1: frame.up(wanted), y2: frame.up(wanted) }),
    svg("path", { class: "curve", d: line(upper) }), svg("path", { class: "curve low", d: line(lower) }), rule, dot);
  return {
    root: frame.root,
    point(index) {
      for (const name of ["x1", "x2"]) rule.setAttribute(name, frame.across(places[index]));
      dot.setAttribute("cx", frame.across(places[index]));
      dot.setAttribute("cy", inside(upper[index]));
    },
  };
}

// An interval in a line of a table, on a scale that all lines share.
export function bar(low, value, high, least) {
  const across = (one) => 4 + ((Math.max(least, one) - least) / (1 - least)) * 132;
  return svg("svg", { class: "diagram bar", viewBox: "0 0 140 16", width: 140, height: 16, "aria-hidden": "true" },
    svg("line", { class: "rule", x1: 4, x2: 136, y1: 8, y2: 8 }),
    svg("g", { class: "interval" }, svg("line", { x1: across(low), x2: across(high), y1: 8, y2: 8 }), svg("circle", { cx: across(value), cy: 8, r: 4 })));
}

// A diagram with its numbers below it, which can be opened.
export function withNumbers(diagram, words, numbers) {
  return [diagram, el("details", null, el("summary", null, words), numbers)];
}
