// What was given up: why, with its bytes, and another try.

import { clipped, el, replace, table } from "../dom.js";
import { get } from "../net.js";
import { moment, t, whole } from "../text.js";

export function letters(app) {
  const place = el("div", null, el("p", { class: "muted" }, t("loading")));
  const reason = el("select", { onchange: load }, el("option", { value: "" }, t("all")));
  const open = el("input", { type: "checkbox", onchange: load });
  const total = el("span", { class: "muted" });
  const sent = new Set();
  let seen = null;
  let loading = false;

  function chips(found) {
    const chosen = reason.value;
    const known = found.counts.map((one) => `${one.step}|${one.reason}`);
    if (chosen === "") replace(reason, el("option", { value: "" }, t("all")), found.counts.map((one) => el("option", { value: `${one.step}|${one.reason}` }, `${one.step}: ${one.reason} (${whole(one.count)})`)));
    reason.value = known.includes(chosen) ? chosen : "";
  }

  function line(one) {
    const words = { more: t("more"), less: t("less"), most: 160 };
    const state = el("span", { class: `chip ${one.resolved ? "ok" : sent.has(one.id) ? "on" : "bad"}` }, t(one.resolved ? "resolved" : sent.has(one.id) ? "retrying" : "open"));
    const retry = el("button", { type: "button", disabled: one.resolved || !app.may(), "data-retry": one.id, onclick: async () => {
      retry.disabled = true;
      const done = await app.trying(() => app.send("/page/letters/retry", { id: one.id }));
      retry.disabled = false;
      if (done === null) return;
      const left = Object.keys(done.left).join(", ");
      app.toast(left ? t("left", { why: left }) : t("retried"));
      if (!left) sent.add(one.id);
      load();
    } }, t("retry"), el("span", { class: "hidden" }, ` ${one.row_id}`));
    return el("tr", { "data-letter": one.id },
      el("td", { class: "narrow muted" }, moment(one.failed_at)), el("td", null, state), el("td", null, one.step), el("td", null, el("span", { class: "chip warn" }, one.reason)),
      el("td", { class: "mono" }, clipped(one.row_id || "–", { ...words, most: 40 })), el("td", { class: "wide" }, clipped(one.error, words)),
      el("td", { class: "wide" }, one.payload !== undefined ? clipped(one.payload, words) : [el("span", { class: "muted" }, t("bytes"), " "), clipped(one.payload_base64 ?? "", { ...words, most: 60 })]),
      el("td", { class: "narrow" }, retry));
  }

  async function load() {
    if (loading) return;
    loading = true;
    const [step, why] = reason.value.split("|");
    const found = await app.trying(() => get("/page/letters", { step, reason: why, only_open: open.checked, limit: 100 }));
    loading = false;
    if (found === null) return;
    chips(found);
    total.textContent = whole(found.total);
    replace(place, found.dead_letters.length
      ? table(t("letters_about"), [t("time"), t("state"), t("step"), t("why"), t("row", { id: "" }), t("error"), t("payload"), ""], found.dead_letters.map(line))
      : el("p", { class: "muted" }, t("nothing")));
  }

  function update(found) {
    const now = `${found.tables?.dead_letters}|${found.stages?.replay?.done}|${found.stages?.store?.done}`;
    // While somebody reads a payload nothing is moved.
    if (now !== seen && !place.querySelector(".open") && !place.contains(document.activeElement)) {
      seen = now;
      load();
    }
  }
  load();
  return {
    root: el("div", null,
      el("div", { class: "row bar card" }, el("label", null, t("why"), reason), el("label", { class: "check" }, open, t("only_open")),
        el("button", { type: "button", onclick: load }, t("refresh")), total),
      el("div", { class: "card" }, place)),
    update,
  };
}
