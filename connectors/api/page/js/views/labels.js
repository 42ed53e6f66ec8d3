// Which labels there are now, against the week before, and how sure the model is.

import { bars } from "../chart.js";
import { card, el, replace, table } from "../dom.js";
import { moment, number, percent, t, whole } from "../text.js";
import { cascade } from "./cascade.js";

export function labels() {
  const root = el("div", null, el("p", { class: "muted" }, t("loading")));
  let drawn = "";
  let charts = [];

  function close() {
    for (const one of charts) one.close();
    charts = [];
  }

  function update(found) {
    if (!("labels" in found)) return;
    const key = JSON.stringify([found.labels, found.cascade]);
    if (key === drawn) return;
    drawn = key;
    close();
    const told = found.labels;
    if (!told) {
      replace(root, el("p", { class: "muted" }, t("nothing")));
      return;
    }
    const day = told.labels.reduce((sum, one) => sum + one[1], 0);
    const week = told.labels.reduce((sum, one) => sum + one[2], 0);
    const shares = told.labels.map(([name, recent, before]) => [name, recent, day ? recent / day : 0, before, week ? before / week : 0]);
    const top = shares.slice(0, 24);
    const spread = bars(t("distribution"), top.map((one) => one[0]), [[t("last_day"), "one"], [t("last_week"), "past"]]);
    spread.set([top.map((_, index) => index), top.map((one) => one[2]), top.map((one) => one[4])]);
    const steps = told.confidence.map((_, index) => (index % 2 ? "" : (index / told.confidence.length).toFixed(1)));
    const sure = bars(t("histogram"), steps, [[t("rows"), "two"]], { format: whole, rotate: 0, size: 34, height: 220, first: t("confidence"), right: 10 });
    sure.set([steps.map((_, index) => index), told.confidence]);
    charts = [spread, sure];
    const change = (one) => (week ? one[2] - one[4] : null);
    replace(root,
      card(t("distribution"), el("p", { class: "muted" }, t("until", { at: moment(told.until) })), spread.place),
      el("div", { class: "grid" },
        card(t("label"), table(t("distribution"),
          [t("label"), [`${t("rows")}, ${t("last_day")}`, "num"], [t("share"), "num"], [t("last_week"), "num"], [t("change"), "num"]],
          shares.map((one) => el("tr", null, el("th", { scope: "row" }, one[0]), el("td", { class: "num" }, whole(one[1])), el("td", { class: "num" }, percent(one[2])),
            el("td", { class: "num" }, percent(one[4])),
            el("td", { class: `num ${Math.abs(change(one) ?? 0) > 0.05 ? "warn" : ""}` },
              change(one) === null ? "–" : t("points", { n: (change(one) > 0 ? "+" : "") + number(100 * change(one)) })))))),
        card(t("histogram"), sure.place)),
      cascade(told.decided, found.cascade));
  }
  return { root, update, close };
}
