// Drift: what differs from the reference, and whether the model is still the same.

import { card, el, replace, table } from "../dom.js";
import { get } from "../net.js";
import { fixed, moment, percent, t, whole } from "../text.js";
import { rowText, showRow } from "./row.js";

// A mean other than a share of n-grams is no share.
const value = (series, one) => (["confidence", "length"].includes(series) ? fixed(one, 3) : percent(one));

function name(series) {
  const [kind, ...rest] = series.split(":");
  return rest.length ? `${t(`drift_${kind}`)}: ${rest.join(":")}` : t(`drift_${series}`);
}

function window_(words) {
  const [count, unit] = words.split(" ");
  return unit === "rows" ? t("drift_rows", { n: whole(Number(count)) }) : `${count} ${t("unit_h")}`;
}

function model(found) {
  if (!found) return el("p", { class: "muted" }, t("drift_model_waits"));
  const chip = found.since ? el("span", { class: "chip bad", "data-model": "changed" }, t("drift_model_changed")) : el("span", { class: "chip ok", "data-model": "same" }, t("drift_model_same"));
  const figures = found.differs === null ? t("drift_model_learns") : t("drift_model_told", { n: whole(found.texts), now: percent(found.differs), usual: percent(found.usual) });
  return el("p", null, chip, " ", found.since ? `${t("drift_since", { at: moment(found.since) })} ` : "", figures);
}

function accuracy(found) {
  if (!found || found.wrong === null) return null;
  return el("p", null, el("span", { class: `chip ${found.alarm ? "bad" : "ok"}`, "data-accuracy": found.alarm ? "falls" : "same" }, t(found.alarm ? "drift_accuracy_falls" : "drift_accuracy_same")), " ",
    t("drift_accuracy_told", { now: found.now === null ? "–" : percent(found.now), usual: percent(found.wrong), n: whole(found.rows) }));
}

async function open(app, place, series) {
  const told = await app.trying(() => get("/quality/drift/rows", { series }));
  if (told === null) return;
  replace(place, el("h3", null, t("drift_examples", { series: name(series) })),
    table(t("rows"), [t("text"), t("label"), [t("confidence"), "num"], ""], told.rows.map((one) =>
      el("tr", { "data-drift-row": one.row_id }, el("td", { class: "wide" }, rowText(one)), el("td", null, one.label), el("td", { class: "num" }, fixed(one.confidence)),
        el("td", { class: "narrow" }, el("button", { type: "button", class: "link", onclick: () => showRow(app, one) }, t("details"), el("span", { class: "hidden" }, ` ${one.row_id}`)))))));
}

function traffic(app, found) {
  if (!found.at) return el("p", { class: "muted", "data-drift": "waits" }, t("drift_waits"));
  const until = t("drift_until", { at: moment(found.at), days: whole(Math.floor(found.reference_hours / 24)), version: found.version });
  if (!found.judged) return el("p", { class: "muted", "data-drift": "learns" }, t("drift_learns"), " ", until);
  if (!found.alarms.length) return el("p", null, el("span", { class: "chip ok", "data-drift": "none" }, t("drift_none")), " ", until);
  const rows = el("div", { id: "drift-rows", "aria-live": "polite" });
  return [el("p", null, el("span", { class: "chip bad", "data-drift": "found" }, t("drift_found", { n: whole(found.alarms.length) })), " ", until),
    table(t("drift"), [t("drift_what"), [t("drift_now"), "num"], [t("drift_expected"), "num"], t("drift_window"), t("drift_begun"), ""], found.alarms.map((one) =>
      el("tr", { "data-series": one.series }, el("th", { scope: "row" }, name(one.series)), el("td", { class: "num" }, value(one.series, one.found)), el("td", { class: "num" }, value(one.series, one.expected)),
        el("td", null, window_(one.window)), el("td", null, moment(one.since)),
        el("td", { class: "narrow" }, el("button", { type: "button", class: "link", onclick: () => open(app, rows, one.series) }, t("drift_rows_open"), el("span", { class: "hidden" }, ` ${name(one.series)}`)))))), rows];
}

// `load()` fetches it anew.
export function drift(app) {
  const root = el("div");
  return {
    root,
    async load() {
      try {
        const found = await get("/quality/drift");
        replace(root, card(t("drift"), el("p", { class: "muted" }, t("drift_about")), traffic(app, found), model(found.model), accuracy(found.accuracy)));
      } catch {
        replace(root);
      }
    },
  };
}
