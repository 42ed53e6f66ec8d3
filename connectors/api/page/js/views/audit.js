// Who did what.

import { clipped, el, replace, table } from "../dom.js";
import { get } from "../net.js";
import { moment, t } from "../text.js";

export function audit(app) {
  const place = el("div", null, el("p", { class: "muted" }, t("loading")));
  async function load() {
    const found = await app.trying(() => get("/page/audit", { limit: 200 }));
    if (found === null) return;
    const words = { more: t("more"), less: t("less"), most: 80 };
    replace(place, found.entries.length
      ? table(t("audit_about"), [t("time"), t("who"), t("action"), t("target"), t("result"), t("detail"), t("address")], found.entries.map((one) =>
        el("tr", null, el("td", { class: "narrow muted" }, moment(one.at)), el("td", null, one.who), el("td", { class: "narrow" }, one.action), el("td", { class: "mono" }, clipped(one.target, words)),
          el("td", null, el("span", { class: `chip ${one.result === "done" ? "ok" : "bad"}` }, one.result)), el("td", null, clipped(one.detail, words)), el("td", { class: "mono muted" }, one.address))))
      : el("p", { class: "muted" }, t("nothing")));
  }
  load();
  return { root: el("div", null, el("div", { class: "row bar" }, el("span", { class: "muted" }, t("audit_about")), el("button", { type: "button", onclick: load }, t("refresh"))), el("div", { class: "card" }, place)) };
}
