// The canary: a share of the live rows under another version too, and what it has found so far.

import { card, el, table } from "../dom.js";
import { fixed, moment, percent, t, whole } from "../text.js";

const KIND = { running: "on", stopped: "", paused: "warn", interrupted: "bad", waiting: "" };
const ENDED = { loss: "bad", failures: "bad", promoted: "ok", asked: "", live: "" };

// The one that runs, else the last one. The jobs come newest first.
export function newest(jobs) {
  const known = jobs.filter((one) => one.source === "live" && one.state !== "dropped");
  return known.find((one) => one.state !== "stopped") ?? known[0] ?? null;
}

export function canary(job) {
  const found = job.figures;
  const stopped = job.stopped;
  const judged = found?.judged;
  const facts = found ? [
    ["canary_pairs", whole(found.pairs)],
    ["canary_agree", found.agreement === null ? "–" : percent(found.agreement)],
    ["canary_failed", whole(found.failed)],
    ["canary_judged", judged ? whole(judged.rows) : "0"],
    ["canary_won", judged ? `${whole(judged.won)} / ${whole(judged.lost)}` : "–"],
    ["canary_evidence", judged ? `${fixed(judged.evidence, 2)} / ${whole(judged.limit)}` : "–"],
  ] : [];
  const moved = found?.moved ?? [];
  return card(t("canary"), el("div", { "data-canary": job.version },
    el("p", null, el("span", { class: `chip ${KIND[job.state] ?? ""}`, "data-state": job.state }, t(`state_${job.state}`)), " ",
      t("canary_of", { version: job.version, share: percent(job.share), since: moment(job.begun_at) }), job.promote && !stopped ? `. ${t("canary_promotes")}` : ""),
    stopped ? el("p", null, el("span", { class: `chip ${ENDED[stopped.why] ?? ""}`, "data-why": stopped.why }, t(`canary_why_${stopped.why}`)), " ", stopped.text) : null,
    found ? el("dl", { class: "tiles" }, facts.map(([key, value]) => el("div", { class: "tile" }, el("dt", null, t(key)), el("dd", { id: key.replace("_", "-") }, value)))) : el("p", { class: "muted" }, t("canary_waits")),
    el("p", { class: "muted" }, t("canary_about")),
    found?.gate ? el("p", null, `${t("gate")}: `, found.gate.text) : null,
    moved.length ? el("h3", null, t("canary_moved", { n: whole(found.compared) })) : null,
    moved.length ? table(t("canary_moved", { n: whole(found.compared) }), [t("from_version"), t("to_version"), [t("rows"), "num"]], moved.map((one) =>
      el("tr", null, el("td", null, one.from), el("td", null, one.to), el("td", { class: "num" }, whole(one.rows))))) : null));
}
