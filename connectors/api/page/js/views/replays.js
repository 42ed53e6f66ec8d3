// Replays with their progress, and the label versions: compared, promoted, retired.

import { card, clipped, confirmed, el, replace, setText, table } from "../dom.js";
import { get } from "../net.js";
import { fixed, perSecond, percent, seconds, t, whole } from "../text.js";

const KIND = { done: "ok", running: "on", publishing: "on", working: "on", paused: "warn", interrupted: "bad", cancelled: "", waiting: "", dropped: "" };
const GOING = new Set(["publishing", "running", "working", "waiting"]);
const STOPPED = new Set(["paused", "interrupted", "cancelled", "stopped"]);

export function replays(app) {
  const jobs = el("div", null, el("p", { class: "muted" }, t("nothing")));
  const versions = el("div", null, el("p", { class: "muted" }, t("loading")));
  const compared = el("div");
  const lines = new Map();
  let body = null;
  let known = "";

  async function steer(id, wish) {
    if (wish === "cancel" && !(await confirmed(t("cancel_sure", { id }), t("yes"), t("no")))) return;
    await app.trying(() => app.send("/page/replays/steer", { id, wish }));
  }

  function made(id) {
    const button = (wish, key) => el("button", { type: "button", "data-wish": wish, onclick: () => steer(id, wish) }, t(key), el("span", { class: "hidden" }, ` ${id}`));
    const one = {
      state: el("span", { class: "chip" }), bar: el("progress", { max: "1", "aria-label": t("progress") }), done: el("td", { class: "num" }), rate: el("td", { class: "num" }), left: el("td", { class: "num" }),
      what: el("td"), pause: button("pause", "pause"), resume: button("resume", "resume"), cancel: button("cancel", "cancel"), problem: el("div", { class: "bad" }),
    };
    one.row = el("tr", { "data-job": id }, el("td", { class: "mono" }, id, one.problem), one.what, el("td", null, one.state), el("td", null, one.bar), one.done, one.rate, one.left,
      el("td", { class: "narrow" }, one.pause, " ", one.resume, " ", one.cancel));
    return one;
  }

  function showJobs(found) {
    if (!found.length) return;
    if (body === null) {
      body = el("tbody");
      const place = table(t("jobs"), [t("job"), t("source"), t("state"), t("progress"), [t("rows"), "num"], [t("rate"), "num"], [t("remaining"), "num"], t("actions")], []);
      place.querySelector("tbody").replaceWith(body);
      replace(jobs, place);
    }
    const ids = found.map((one) => one.job_id ?? one.id);
    for (const id of lines.keys()) if (!ids.includes(id)) { lines.get(id).row.remove(); lines.delete(id); }
    found.forEach((job, place) => {
      const id = ids[place];
      if (!lines.has(id)) lines.set(id, made(id));
      const one = lines.get(id);
      if (body.children[place] !== one.row) body.insertBefore(one.row, body.children[place] ?? null);
      setText(one.state, t(`state_${job.state}`));
      one.state.className = `chip ${KIND[job.state] ?? ""}`;
      one.state.dataset.state = job.state;
      one.bar.value = job.progress ?? 0;
      setText(one.what, `${t(`source_${job.source}`)}${job.version ? ` → ${job.version}` : ""}`);
      setText(one.done, `${whole((job.rows ?? 0) - (job.rows_remaining ?? 0))} / ${whole(job.rows)}`);
      setText(one.rate, job.rate === null || job.rate === undefined ? "–" : perSecond(job.rate));
      setText(one.left, seconds(job.seconds_remaining));
      setText(one.problem, job.problem ?? "");
      one.pause.hidden = !GOING.has(job.state);
      one.resume.hidden = !STOPPED.has(job.state);
      one.cancel.hidden = !GOING.has(job.state) && job.state !== "paused";
      for (const button of [one.pause, one.resume, one.cancel]) button.disabled = !app.may();
    });
  }

  async function change(verb, version) {
    if (!(await confirmed(t(`${verb}_sure`, { version }), t("yes"), t("no")))) return;
    let reason = "";
    const refused = (error) => { if (error.code === "refused-by-gate") reason = error.message; };
    let done = await app.trying(() => app.send(`/page/versions/${verb}`, { version }), refused);
    if (done === null && reason && (await confirmed(t("force_sure", { version, reason }), t("force"), t("no")))) {
      done = await app.trying(() => app.send("/page/versions/promote", { version, force: true }));
    }
    if (done === null) return;
    const found = done.verdict?.text;
    app.toast(t("promoted", { version: done.current ?? "–" }) + (found ? ` (${found})` : ""));
    loadVersions();
  }

  function choose(name, found, value) {
    const select = el("select", { name }, found.map((one) => el("option", { value: one.version }, one.version)));
    if (value) select.value = value;
    return select;
  }

  async function loadVersions() {
    const told = await app.trying(() => get("/page/versions"));
    if (told === null) return;
    const found = told.versions;
    known = key(found);
    const now = found.find((one) => one.current);
    const other = found.find((one) => !one.current);
    const a = choose("a", found, now?.version);
    const b = choose("b", found, other?.version);
    replace(versions,
      found.length ? table(t("versions"), [t("version"), t("model"), t("state"), [t("rows"), "num"], t("actions")], found.map((one) =>
        el("tr", { "data-version": one.version }, el("th", { scope: "row", class: "mono" }, one.version), el("td", { class: "mono" }, one.model),
          el("td", null, el("span", { class: `chip ${one.current ? "ok" : one.status === "trial" ? "on" : ""}` }, one.current ? t("current") : t(one.live ? "status_live_trial" : `status_${one.status}`))),
          el("td", { class: "num" }, whole(one.rows)),
          el("td", { class: "narrow" },
            el("button", { type: "button", "data-verb": "promote", disabled: one.current || !app.may(), onclick: () => change("promote", one.version) }, t("promote"), el("span", { class: "hidden" }, ` ${one.version}`)), " ",
            el("button", { type: "button", "data-verb": "retire", disabled: one.status === "retired" || !app.may(), onclick: () => change("retire", one.version) }, t("retire"), el("span", { class: "hidden" }, ` ${one.version}`)))))) : el("p", { class: "muted" }, t("nothing")),
      found.length > 1 ? el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); compare(a.value, b.value); } },
        el("label", null, t("from_version"), a), el("label", null, t("to_version"), b), el("button", { type: "submit" }, t("compare"))) : null);
  }

  async function compare(a, b) {
    replace(compared, el("p", { class: "muted" }, t("loading")));
    const found = await app.trying(() => get("/page/versions/diff", { a, b }));
    replace(compared);
    if (found === null) return;
    const moves = Object.entries(found.matrix).flatMap(([from, to]) => Object.entries(to).map(([label, rows]) => [from, label, rows])).filter(([from, label]) => from !== label).sort((x, y) => y[2] - x[2]).slice(0, 30);
    const words = { more: t("more"), less: t("less") };
    replace(compared, card(`${a} → ${b}`,
      el("p", null, t("agreement", { share: percent(found.agreement), rows: whole(found.rows) }), "; ", t("only", { version: a, n: whole(found.only_a) }), "; ", t("only", { version: b, n: whole(found.only_b) })),
      el("div", { class: "grid" },
        el("div", null, el("h3", null, t("changes")), table(t("changes"), [t("from_version"), t("to_version"), [t("rows"), "num"]], moves.map(([from, to, rows]) =>
          el("tr", null, el("td", null, from), el("td", null, to), el("td", { class: "num" }, whole(rows)))))),
        el("div", null, el("h3", null, t("examples")), table(t("examples"), [t("text"), t("from_version"), t("to_version")], found.examples.slice(0, 10).map((one) =>
          el("tr", null, el("td", { class: "wide" }, clipped(one.text, words)), el("td", null, `${one.label_a} ${fixed(one.confidence_a)}`), el("td", null, `${one.label_b} ${fixed(one.confidence_b)}`))))))));
  }

  const key = (found) => found.map((one) => [one.version, one.status, one.live, one.current].join()).join(";");
  function update(found) {
    showJobs(found.jobs ?? []);
    if (found.versions && key(found.versions) !== known && !versions.contains(document.activeElement)) {
      known = key(found.versions);
      loadVersions();
    }
  }
  loadVersions();
  return { root: el("div", null, card(t("jobs"), jobs), card(t("versions"), versions), compared), update };
}
