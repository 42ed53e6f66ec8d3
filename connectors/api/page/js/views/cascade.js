// The cascade: who labelled the rows of the last day, and what is certified for the current version.

import { card, el, table } from "../dom.js";
import { fixed, percent, t, whole } from "../text.js";

const KIND = { certified: "ok", revoked: "bad", learning: "", off: "" };

export function cascade(decided, state) {
  const rows = ["cache", "proxy", "llm", "human"].map((key) => [key, decided[key] ?? 0]);
  const all = rows.reduce((sum, one) => sum + one[1], 0);
  const facts = state?.threshold != null ? [
    ["threshold", fixed(state.threshold, 3)],
    ["coverage", state.coverage === null ? "–" : percent(state.coverage)],
    ["bound", state.bound === null ? "–" : percent(state.bound)],
    ["audits", `${whole(state.audits)} (${percent(state.audit_rate)})`],
    ["saved", whole(state.calls_saved)],
  ] : [];
  return card(t("cascade"), el("div", { "data-cascade": state?.state ?? "" },
    state ? el("p", null, el("span", { class: `chip ${KIND[state.state] ?? ""}` }, t(`cascade_${state.state}`)), " ",
      t("cascade_of", { version: state.version, generation: state.generation }), state.mode === "shadow" ? ` ${t("cascade_shadow")}` : "",
      state.state === "certified" && state.certified_against ? ` ${t(`cascade_${state.certified_against}`)}` : "") : null,
    facts.length ? el("dl", { class: "tiles" }, facts.map(([key, value]) => el("div", { class: "tile" }, el("dt", null, t(`cascade_${key}`)), el("dd", null, value)))) : null,
    table(t("cascade"), [t("cascade_who"), [`${t("rows")}, ${t("last_day")}`, "num"], [t("share"), "num"], ""], rows.map(([key, count]) =>
      el("tr", { "data-decided": key }, el("th", { scope: "row" }, t(`decided_${key}`)), el("td", { class: "num" }, whole(count)),
        el("td", { class: "num" }, all ? percent(count / all) : "–"),
        el("td", null, meter(all ? count / all : 0)))).concat(audits(state)))));
}

// The trainer counts them, and not by day.
function audits(state) {
  if (state?.threshold == null) return [];
  return [el("tr", { "data-decided": "audit" }, el("th", { scope: "row" }, t("decided_audit")),
    el("td", { class: "num" }, whole(state.audits)), el("td", { class: "num" }, "–"), el("td"))];
}

function meter(share) {
  const filled = el("span");
  filled.style.width = `${100 * share}%`;
  return el("div", { class: "meter", "aria-hidden": "true" }, filled);
}
