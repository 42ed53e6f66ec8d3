// The review queues: one row at a time, one key a label.

import { clipped, el, replace, setText } from "../dom.js";
import { desk, get } from "../net.js";
import { fixed, t, whole } from "../text.js";

const HELD = 10;
const DIGITS = 9;
// Answers without a label, by the key's place: a Russian keyboard has other letters there.
const ANSWERS = [["no-label", "Digit0", "0"], ["not-sure", "KeyN", "n"]];
const QUEUES = { audit: "audit", unsure: "waiting", disagreements: "disagreements" };

export function review(app) {
  const headers = desk();
  const counts = el("dl", { class: "tiles" });
  const about = el("p", { class: "muted", id: "review-about" });
  const queues = el("div", { class: "row bar", role: "group", "aria-label": t("queues") });
  const subject = el("div", { class: "card" });
  const queue = el("ol", { class: "queue" });
  const session = el("p", { class: "muted", role: "status", id: "review-done" });
  let mode = sessionStorage.getItem("labelstream.queue") in QUEUES ? sessionStorage.getItem("labelstream.queue") : "unsure";
  let choices = [];
  const waiting = {};
  let rows = [];
  let at = 0;
  let done = [];
  let finished = 0;
  let claiming = false;
  let closed = false;
  let sending = Promise.resolve();

  const post = (path, body = {}, options = {}) => app.send(`/review${path}`, body, { headers, ...options });

  async function state() {
    const found = await app.trying(() => get("/review"));
    if (found === null || closed) return;
    choices = found.choices;
    const tiles = [["human_labels", whole(found.labeled)], ["to_review", whole(found.waiting)], ["unsure", whole(found.unsure)]];
    if (found.kappa !== null) tiles.push(["kappa", `${fixed(found.kappa)} (${whole(found.doubled)})`]);
    replace(counts, tiles.map(([key, value]) => el("div", { class: "tile", "data-count": key }, el("dt", null, t(key)), el("dd", null, value))));
    for (const [name, count] of Object.entries(QUEUES)) waiting[name] = found[count];
    offer();
    show();
  }

  function offer() {
    setText(about, t(`about_${mode}`));
    // In place: a button that is focused stays so.
    if (!queues.childElementCount) replace(queues, Object.keys(QUEUES).map((name) => el("button", { type: "button", "data-queue": name, onclick: () => turn(name) })));
    for (const one of queues.children) {
      setText(one, `${t(`queue_${one.dataset.queue}`)} · ${waiting[one.dataset.queue] === undefined ? "…" : whole(waiting[one.dataset.queue])}`);
      one.setAttribute("aria-pressed", String(one.dataset.queue === mode));
    }
  }

  // The rows of the other queue go back.
  function turn(name) {
    if (name === mode) return;
    mode = name;
    sessionStorage.setItem("labelstream.queue", mode);
    rows = [];
    done = [];
    offer();
    show();
    later(() => post("/release")).then(claim);
  }

  async function claim() {
    if (claiming || closed || !app.may("review")) return;
    claiming = true;
    await sending;
    const asked = mode;
    const found = await app.trying(() => post(`/claim?want=${HELD}&queue=${asked}`));
    claiming = false;
    if (closed) return;
    if (asked !== mode) return void claim();
    if (found === null) return;
    const have = new Set([...rows.map((one) => one.key), ...done.map((one) => one.row.key)]);
    rows.push(...found.rows.filter((one) => !have.has(one.key)).map((one) => ({ ...one, queue: asked })));
    show();
  }

  // The most probable first, then the most frequent. Without the model's answer, or others', one order for all.
  function ordered(row) {
    if (row.queue !== "unsure") return choices;
    const shares = new Map([[row.label, row.confidence], ...row.alternatives.map((one) => [one.label, one.confidence])]);
    const likely = [...shares.keys()].map((name) => choices.find((one) => one.name === name) ?? { name, title: name });
    return [...likely, ...choices.filter((one) => !shares.has(one.name))].map((one) => ({ ...one, share: shares.get(one.name) }));
  }

  function show() {
    setText(session, t("session_done", { n: whole(finished) }));
    at = Math.max(0, Math.min(at, rows.length - 1));
    replace(queue, rows.map((one, place) => el("li", null,
      el("button", { type: "button", "aria-current": place === at ? "true" : null, onclick: () => { at = place; show(); } },
        el("span", { dir: "auto" }, Array.from(one.text).slice(0, 60).join("")), one.queue === "unsure" ? el("span", { class: "muted" }, `${one.label} · ${fixed(one.confidence)}`) : null))));
    if (!app.may("review")) return replace(subject, el("p", { class: "muted" }, t("may_not")));
    const row = rows[at];
    if (!row) return replace(subject, el("p", { class: "muted", id: "review-empty" }, claiming ? t("loading") : t(mode === "unsure" ? "no_rows" : `none_${mode}`)), back());
    const options = ordered(row);
    const rest = el("select", { "aria-label": t("other"), onchange: () => rest.value && give(rest.value) }, el("option", { value: "" }, t("other")), options.slice(DIGITS).map((one) => el("option", { value: one.name }, `${one.title} (${one.name})`)));
    return replace(subject,
      el("div", { class: "subject", "data-key": row.key, tabindex: "0", role: "region", "aria-label": t("text") }, clipped(row.text, { more: t("more"), less: t("less"), most: 700 })),
      el("p", { class: "muted" }, said(row), el("span", { class: "mono" }, row.row_id)),
      el("ol", { class: "choices" }, options.slice(0, DIGITS).map((one, place) => el("li", null,
        el("button", { type: "button", "data-label": one.name, onclick: () => give(one.name) }, el("kbd", null, String(place + 1)),
          el("span", null, one.title, el("br"), el("span", { class: "mono muted" }, one.name)), el("span", { class: "share" }, one.share === undefined || one.share === null ? "" : fixed(one.share)))))),
      el("div", { class: "row" }, options.length > DIGITS ? rest : null, ANSWERS.map(([answer, , name]) => el("button", { type: "button", "data-answer": answer, onclick: () => give(null, answer) }, t(answer.replace("-", "_")), " ", el("kbd", null, name))),
        el("button", { type: "button", onclick: skip }, t("skip_row"), " ", el("kbd", null, "s")), back()));
  }

  // What the reviewer may know of other answers.
  function said(row) {
    if (row.queue === "unsure") return `${t("model_said", { label: row.label, confidence: fixed(row.confidence) })} · `;
    if (!row.answers) return null;
    const named = (one) => (one === "no-label" ? t("no_label") : choices.find((choice) => choice.name === one)?.title ?? one);
    return el("span", { id: "review-answers" }, t("people_said", { answers: row.answers.map(named).join(" / ") }), " · ");
  }

  function back() {
    return el("button", { type: "button", disabled: !done.length, onclick: undo }, t("undo"), " ", el("kbd", null, "u"));
  }

  // Decisions go out one after the other, in their order, while the next row is already looked at.
  function later(work) {
    sending = sending.then(async () => (await app.trying(work)) !== null);
    return sending;
  }

  function give(label, answer = null) {
    const [row] = rows.splice(at, 1);
    if (!row) return;
    done.push({ row });
    if (done.length > 100) done.shift();
    finished += 1;
    show();
    const about = { key: row.key, queue: row.queue };
    later(() => (answer ? post("/answer", { ...about, answer }) : post("/label", { ...about, label }))).then((sent) => {
      if (sent || closed) return;
      done = done.filter((one) => one.row !== row);
      finished -= 1;
      show();
    });
    if (rows.length < HELD / 2) claim();
  }

  function skip() {
    const [row] = rows.splice(at, 1);
    if (!row) return;
    show();
    later(() => post("/skip", { key: row.key, queue: row.queue }));
    if (rows.length < HELD / 2) claim();
  }

  function undo() {
    const last = done.pop();
    if (!last) return;
    finished -= 1;
    later(() => post("/undo", { key: last.row.key, queue: last.row.queue })).then((sent) => {
      if (!sent || closed) return;
      rows.splice(0, 0, last.row);
      at = 0;
      app.toast(t("undone", { row: last.row.row_id }));
      show();
    });
  }

  function key(event) {
    const field = event.target.closest?.("input, textarea, select, dialog");
    if (field || event.altKey || event.metaKey) return;
    const name = event.key.toLowerCase();
    if (event.ctrlKey && name !== "z" && event.code !== "KeyZ") return;
    const row = rows[at];
    if (/^[1-9]$/.test(event.key) && !event.ctrlKey && row) {
      const chosen = ordered(row)[Number(event.key) - 1];
      if (chosen && app.may("review")) give(chosen.name);
    } else if (["ArrowDown", "ArrowRight"].includes(event.key)) { at += 1; show(); }
    else if (["ArrowUp", "ArrowLeft"].includes(event.key)) { at -= 1; show(); }
    else if (event.code === "KeyU" || event.ctrlKey) undo();
    else if (event.code === "KeyS") skip();
    else if (event.code === "KeyQ") { const names = Object.keys(QUEUES); turn(names[(names.indexOf(mode) + 1) % names.length]); }
    else if (ANSWERS.some(([, code]) => code === event.code) && row && app.may("review")) give(null, ANSWERS.find(([, code]) => code === event.code)[0]);
    else return;
    event.preventDefault();
  }

  const leave = () => { if (rows.length && app.may("review")) post("/release", {}, { keepalive: true }).catch(() => {}); };
  document.addEventListener("keydown", key);
  addEventListener("pagehide", leave);
  offer();
  state().then(claim);
  const timer = setInterval(state, 10000);
  show();
  return {
    root: el("div", null, queues, about, el("p", { class: "muted" }, el("kbd", null, "1"), "–", el("kbd", null, "9"), ` ${t("keys_help")} · `, el("kbd", null, "↑"), el("kbd", null, "↓"), ` ${t("move_help")} · `, el("kbd", null, "0"), ` ${t("no_label").toLowerCase()} · `, el("kbd", null, "n"), ` ${t("not_sure").toLowerCase()} · `, el("kbd", null, "s"), ` ${t("skip_row").toLowerCase()} · `, el("kbd", null, "u"), ` ${t("undo").toLowerCase()} · `, el("kbd", null, "q"), ` ${t("next_queue")}`),
      counts,
      el("div", { class: "review" }, subject, el("section", { class: "card" }, el("h2", null, t("mine")), session, queue, el("p", null, el("a", { href: "/review/gold?format=csv", download: "gold.csv" }, t("gold")), " · ", el("a", { href: "/review/gold?format=jsonl", download: "gold.jsonl" }, "JSONL"))))),
    close: () => { closed = true; clearInterval(timer); document.removeEventListener("keydown", key); removeEventListener("pagehide", leave); leave(); },
  };
}
