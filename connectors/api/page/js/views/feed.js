// Labels as they go by, and a search over those that are stored.

import { el, replace, table } from "../dom.js";
import { get } from "../net.js";
import { clock, fixed, moment, t } from "../text.js";
import { labelChip, rowText, showRow } from "./row.js";

const MOST = 100;

export function feed(app) {
  let paused = false;
  let searching = false;
  const body = el("tbody");
  const place = table(t("feed_about"), [t("time"), t("label"), [t("confidence"), "num"], t("text"), t("model"), ""], []);
  place.querySelector("tbody").replaceWith(body);
  const note = el("p", { class: "muted", role: "status" }, t("feed_about"));
  const more = el("div", { class: "row" });
  const stop = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    stop.setAttribute("aria-pressed", String(paused));
    stop.textContent = t(paused ? "go_on" : "pause");
    if (!paused && !searching) fill();
  } }, t("pause"));

  const text = el("input", { type: "search", name: "text", maxlength: "200" });
  const label = el("select", { name: "label" }, el("option", { value: "" }, t("any")));
  const most = el("input", { type: "number", name: "most", min: "0", max: "1", step: "0.05" });
  const back = el("button", { type: "button", hidden: true, onclick: () => { searching = false; back.hidden = true; replace(more); note.textContent = t("feed_about"); fill(); } }, t("back_live"));
  const form = el("form", { class: "row bar card", role: "search", "aria-label": t("search"), onsubmit: (event) => { event.preventDefault(); search(null); } },
    el("label", null, t("text"), text), el("label", null, t("label"), label), el("label", null, t("at_most"), most),
    el("button", { type: "submit", class: "primary" }, t("find")), back, stop);

  function line(one, at) {
    return el("tr", { "data-row": one.row_id }, el("td", { class: "narrow muted" }, at), el("td", null, labelChip(one)), el("td", { class: "num" }, fixed(one.confidence)),
      el("td", { class: "wide" }, rowText(one)), el("td", { class: "mono muted narrow" }, one.model),
      el("td", { class: "narrow" }, el("button", { type: "button", class: "link", onclick: () => showRow(app, one) }, t("details"), el("span", { class: "hidden" }, ` ${one.row_id}`))));
  }

  function fill() {
    replace(body, app.live.feed.slice(0, MOST).map((one) => line(one, clock(one.labeled_at))));
    if (!app.live.feed.length) body.append(el("tr", null, el("td", { colspan: "6", class: "muted" }, t("nothing"))));
  }

  async function search(cursor) {
    const found = await app.trying(() => get("/labels", { text: text.value, label: label.value, max_confidence: most.value, limit: 50, cursor }));
    if (found === null) return;
    if (cursor === null) replace(body);
    searching = true;
    back.hidden = false;
    body.append(...found.labels.map((one) => line(one, moment(one.created_at))));
    while (body.childElementCount > 500) body.firstElementChild.remove();
    note.textContent = t("found", { n: body.childElementCount });
    replace(more, found.next ? el("button", { type: "button", onclick: () => search(found.next) }, t("next")) : null);
  }

  let known = "";
  function update(found, fresh) {
    const names = (found.labels?.labels ?? []).map((one) => one[0]);
    if (names.join() !== known) {
      known = names.join();
      const chosen = label.value;
      replace(label, el("option", { value: "" }, t("any")), names.map((name) => el("option", { value: name }, name)));
      label.value = names.includes(chosen) ? chosen : "";
    }
    if (paused || searching || !fresh.length) return;
    // What somebody reads open, or stands on, is not moved away.
    if (body.contains(document.activeElement) || body.querySelector(".open")) return;
    fill();
  }
  fill();
  return { root: el("div", null, form, note, el("div", { class: "card" }, place, more)), update };
}
