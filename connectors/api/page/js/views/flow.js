// The pipeline as a picture, its stages as a table, and the models.

import { lines } from "../chart.js";
import { card, el, replace, setText, svg, table } from "../dom.js";
import { moment, number, percent, perSecond, seconds, t, whole } from "../text.js";

const W = 150;
const H = 66;
const NODES = {
  source: [10, 86], rows: [270, 86], labeled: [530, 86], augmented: [790, 86], tables: [1050, 86],
  replay: [270, 228], dead: [790, 228],
};
// Stage: from the first to the second, and where its words stand.
const STAGES = {
  poll: ["source", "rows"], label: ["rows", "labeled"], augment: ["labeled", "augmented"], store: ["augmented", "tables"],
};

function node(name, title, extra = "") {
  const [x, y] = NODES[name];
  const sub = svg("text", { class: "sub", x: x + W / 2, y: y + 47, "text-anchor": "middle" });
  const group = svg("g", { class: `node ${extra}` },
    svg("rect", { x, y, width: W, height: H, rx: 10 }),
    svg("text", { class: "name", x: x + W / 2, y: y + 26, "text-anchor": "middle" }, title), sub);
  return { group, sub };
}

function picture() {
  const words = {};
  const paths = {};
  const parts = [];
  for (const [stage, [from, to]] of Object.entries(STAGES)) {
    const [x, y] = NODES[from];
    const start = x + W;
    const end = NODES[to][0];
    const middle = (start + end) / 2;
    paths[stage] = svg("path", { d: `M${start} ${y + H / 2} H${end - 7}`, "marker-end": "url(#arrow)" });
    words[stage] = {
      rate: svg("text", { class: "rate", x: middle, y: y + H / 2 - 12, "text-anchor": "middle" }),
      lag: svg("text", { class: "sub", x: middle, y: y + H / 2 + 50, "text-anchor": "middle" }),
      age: svg("text", { class: "sub", x: middle, y: y + H / 2 + 67, "text-anchor": "middle" }),
    };
    parts.push(paths[stage], svg("text", { class: "sub", x: middle, y: y - 12, "text-anchor": "middle" }, t(`stage_${stage}`)),
      ...Object.values(words[stage]));
  }
  // Replays join before the label step; labels go to the tables as well; what fails is kept.
  paths.replay = svg("path", { d: "M420 261 H565 V159", "marker-end": "url(#arrow)" });
  words.replay = {
    rate: svg("text", { class: "rate", x: 432, y: 252 }),
    lag: svg("text", { class: "sub", x: 432, y: 279 }),
    age: svg("text", { class: "sub", x: 432, y: 296 }),
  };
  parts.push(paths.replay, ...Object.values(words.replay),
    svg("path", { d: "M605 86 C640 12 1060 12 1118 79", "marker-end": "url(#arrow)", class: "over" }),
    svg("path", { d: "M640 152 V261 H783", class: "thin", "marker-end": "url(#arrow)" }),
    svg("path", { d: "M940 261 H1125 V159", class: "thin", "marker-end": "url(#arrow)" }));
  const nodes = {
    source: node("source", t("source"), "key"), rows: node("rows", t("rows_topic")), labeled: node("labeled", t("labeled_topic")),
    augmented: node("augmented", t("augmented_topic")), tables: node("tables", t("tables"), "key"),
    replay: node("replay", t("replay")), dead: node("dead", t("dead")),
  };
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 10 10", refX: 8, refY: 5, markerWidth: 6, markerHeight: 6, orient: "auto-start-reverse" },
    svg("path", { d: "M0 0 L10 5 L0 10 z" }));
  const root = svg("svg", { class: "flow", viewBox: "0 0 1210 302", role: "img", "aria-label": t("flow_about") },
    svg("defs", null, arrow), parts, Object.values(nodes).map((one) => one.group));
  return { root, words, paths, nodes };
}

function endpoint(one) {
  const name = one.name === "labeler" || one.name === "augmenter" ? t(one.name) : one.name;
  const fact = (key, value, kind) => [el("dt", null, t(key)), el("dd", { class: kind }, value)];
  const meter = el("span");
  meter.style.width = `${Math.min(100, (100 * one.in_flight) / Math.max(1, one.limit))}%`;
  return card(
    t("endpoint", { name }),
    el("p", null, el("span", { class: `chip ${one.available ? "ok" : "bad"}` }, t(one.available ? "available" : "unavailable"))),
    el("div", { class: "meter", "aria-hidden": "true" }, meter),
    el("dl", { class: "facts" },
      fact("in_flight", `${whole(one.in_flight)} / ${whole(one.limit)}`), fact("reason", one.reason || "–"),
      fact("queue", whole(one.queue + one.queue_replay)), fact("endpoint_queue", whole(one.endpoint_queue)),
      fact("calls", `${whole(one.calls)} · ${perSecond(one.calls_rate)}`),
      fact("errors", `${whole(one.failures)} · ${perSecond(one.failures_rate)}`, one.failures_rate > 0 ? "bad" : ""),
      fact("tokens_in", perSecond(one.input_rate)), fact("tokens_out", perSecond(one.output_rate)),
      fact("form", one.form || "–"), fact("saved", `${whole(one.saved)} · ${percent(one.saved_share)}`)),
  );
}

export function flow(app) {
  const drawn = picture();
  const tile = (key) => {
    const value = el("dd", { id: `tile-${key}` }, "–");
    return [el("div", { class: "tile" }, el("dt", null, t(key)), value), value];
  };
  const [labeledTile, labeled] = tile("labeled_rows");
  const [augmentedTile, augmented] = tile("augmented_rows");
  const [deadTile, dead] = tile("dead_rows");
  const [rateTile, rate] = tile("now_rate");
  const stages = el("div");
  const endpoints = el("div", { class: "grid" });
  const roles = el("div");
  const privacy = el("div");
  const speed = lines(t("throughput"), [[t("rows_topic"), "past"], [t("stage_label"), "one"], [t("stage_augment"), "two"], [t("stage_store"), "three"]]);
  const lag = lines(t("lags"), [[t("stage_label"), "one"], [t("stage_augment"), "two"], [t("stage_store"), "three"]], { format: whole });
  const notices = el("div", { role: "status" });
  let told = "";
  const root = el("div", null, notices,
    el("dl", { class: "tiles" }, rateTile, labeledTile, augmentedTile, deadTile),
    el("section", { class: "card" }, el("h2", null, t("flow_about")), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("flow_about") }, drawn.root)),
    el("div", { class: "grid" }, card(t("throughput"), speed.place), card(t("lags"), lag.place)),
    endpoints,
    el("div", { class: "grid" }, card(t("stages"), stages), card(t("roles"), roles), card(t("privacy"), privacy)));

  function stageWords(name, stage, words) {
    setText(words.rate, perSecond(stage.rate));
    setText(words.lag, stage.lag ? t("lag", { lag: whole(stage.lag) }) : t("up_to_date"));
    setText(words.age, stage.oldest === null ? "" : t("oldest", { age: seconds(stage.oldest) }));
    words.age.setAttribute("class", stage.oldest > 60 ? "late" : "sub");
    drawn.paths[name].setAttribute("class", stage.rate > 0 ? "moving" : "");
  }

  // Who waits for a reader that retention catches up with, and what it took.
  function retention(found) {
    const lines = [
      ...(found.waits_for ?? []).map((one) => t("waits_for", { ...one, step: t(`stage_${one.step}`) })),
      ...(found.lost ?? []).filter((one) => one.open).map((one) => t("lost", { ...one, messages: whole(one.messages), open: whole(one.open) })),
    ];
    if (lines.join("\n") === told) return;
    told = lines.join("\n");
    replace(notices, lines.map((line) => el("p", { class: "notice" }, line)));
  }

  function update(found) {
    retention(found);
    const tables = found.tables ?? {};
    setText(labeled, whole(tables.logs_labeled));
    setText(augmented, whole(tables.logs_augmented));
    setText(dead, whole(tables.dead_letters));
    dead.className = tables.dead_letters ? "bad" : "";
    const topics = found.topics;
    if (topics) {
      setText(rate, perSecond(found.stages.label.rate + found.stages.replay.rate));
      for (const [name, key] of [["rows", "rows"], ["labeled", "labeled"], ["augmented", "augmented"], ["replay", "replay"], ["dead", "dead_letter"]])
        setText(drawn.nodes[name].sub, whole(topics[key].messages));
      drawn.nodes.dead.group.classList.toggle("alarm", topics.dead_letter.rate > 0);
      for (const name of ["label", "augment", "store", "replay"]) stageWords(name, found.stages[name], drawn.words[name]);
      setText(drawn.words.poll.rate, perSecond(topics.rows.rate));
      drawn.paths.poll.setAttribute("class", topics.rows.rate > 0 ? "moving" : "");
      const rows = [["poll", { rate: topics.rows.rate, lag: null, oldest: null, done: topics.rows.messages }], ...Object.entries(found.stages)];
      replace(stages, table(t("stages"),
        [t("stage"), [t("rate"), "num"], [t("waiting"), "num"], [t("oldest_row"), "num"], [t("done"), "num"]],
        rows.map(([name, one]) => el("tr", { "data-stage": name }, el("th", { scope: "row" }, t(`stage_${name}`)), el("td", { class: "num" }, perSecond(one.rate)),
          el("td", { class: "num" }, whole(one.lag)), el("td", { class: "num" }, seconds(one.oldest)), el("td", { class: "num" }, whole(one.done))))));
    }
    const source = found.source ?? {};
    setText(drawn.nodes.source.sub, source.polled ? t("polled", { age: seconds(Math.max(0, found.at - source.polled)) }) : t("not_polled"));
    setText(drawn.words.poll.lag, source.watermark ? moment(source.watermark) : "");
    setText(drawn.nodes.tables.sub, whole((tables.logs_labeled ?? 0) + (tables.logs_augmented ?? 0)));
    replace(endpoints, found.endpoints?.length ? found.endpoints.map(endpoint) : card("", el("p", { class: "muted" }, t("no_endpoint"))));
    replace(roles, found.roles?.length
      ? table(t("roles"), [t("role"), [t("processes"), "num"], [t("ready"), "num"]], found.roles.map((one) =>
        el("tr", null, el("th", { scope: "row" }, one.role), el("td", { class: "num" }, number(one.processes)),
          el("td", { class: `num ${one.ready < one.processes ? "warn" : "ok"}` }, number(one.ready)))))
      : el("p", { class: "muted" }, t("nothing")));
    if (found.privacy) {
      const { mode, entities } = found.privacy;
      replace(privacy, mode === "off" ? el("p", { class: "muted" }, t("privacy_off"))
        : table(t("privacy"), [t("entity"), [t("masked"), "num"]], entities.map((one) =>
          el("tr", null, el("th", { scope: "row" }, t(`entity_${one}`)), el("td", { class: "num" }, whole(found.masked?.[one] ?? 0))))));
    }
    const columns = app.live.columns;
    if (columns.length > 7) {
      speed.set([columns[0], columns[1], columns[2], columns[3], columns[4]]);
      lag.set([columns[0], columns[5], columns[6], columns[7]]);
    }
  }
  return { root, update, close: () => { speed.close(); lag.close(); } };
}
