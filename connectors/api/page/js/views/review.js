// The review queue: one row at a time, one key a label.

import { clipped, el, replace, setText } from "../dom.js";
import { get } from "../net.js";
import { fixed, t, whole } from "../text.js";

const HELD = 10;
const DIGITS = 9;

// Of this tab: two tabs of one person are two desks.
function deskName() {
  let name = sessionStorage.getItem("labelstream.desk");
  if (!name) {
    name = crypto.randomUUID();
    sessionStorage.setItem("labelstream.desk", name);
  }
  return name;
}

export function review(app) {
  const headers = { "x-desk": deskName() };
  const counts = el("dl", { class: "tiles" });
  const subject = el("div", { class: "card" });
  const queue = el("ol", { class: "queue" });
  const session = el("p", { class: "muted", role: "status", id: "review-done" });
  let choices = [];
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
    replace(counts, [["human_labels", found.labeled], ["to_review", found.waiting], ["unsure", found.unsure]].map(([key, value]) =>
      el("div", { class: "tile" }, el("dt", null, t(key)), el("dd", null, whole(value)))));
    show();
  }

  async function claim() {
    if (claiming || closed || !app.may()) return;
    claiming = true;
    await sending;
    const found = await app.trying(() => post(`/claim?want=${HELD}`));
    claiming = false;
    if (found === null || closed) return;
    const have = new Set([...rows.map((one) => one.key), ...done.map((one) => one.row.key)]);
    rows.push(...found.rows.filter((one) => !have.has(one.key)));
    show();
  }

  // The most probable first, then the most frequent.
  function ordered(row) {
    const shares = new Map([[row.label, row.confidence], ...row.alternatives.map((one) => [one.label, one.confidence])]);
    const likely = [...shares.keys()].map((name) => choices.find((one) => one.name === name) ?? { name, title: name });
    return [...likely, ...choices.filter((one) => !shares.has(one.name))].map((one) => ({ ...one, share: shares.get(one.name) }));
  }

  function show() {
    setText(session, t("session_done", { n: whole(finished) }));
    at = Math.max(0, Math.min(at, rows.length - 1));
    replace(queue, rows.map((one, place) => el("li", null,
      el("button", { type: "button", "aria-current": place === at ? "true" : null, onclick: () => { at = place; show(); } },
        el("span", { dir: "auto" }, Array.from(one.text).slice(0, 60).join("")), el("span", { class: "muted" }, `${one.label} · ${fixed(one.confidence)}`)))));
    if (!app.may()) return replace(subject, el("p", { class: "muted" }, t("may_not")));
    const row = rows[at];
    if (!row) return replace(subject, el("p", { class: "muted", id: "review-empty" }, claiming ? t("loading") : t("no_rows")), back());
    const options = ordered(row);
    const rest = el("select", { "aria-label": t("other"), onchange: () => rest.value && give(rest.value) }, el("option", { value: "" }, t("other")), options.slice(DIGITS).map((one) => el("option", { value: one.name }, `${one.title} (${one.name})`)));
    return replace(subject,
      el("div", { class: "subject", "data-key": row.key, tabindex: "0", role: "region", "aria-label": t("text") }, clipped(row.text, { more: t("more"), less: t("less"), most: 700 })),
      el("p", { class: "muted" }, t("model_said", { label: row.label, confidence: fixed(row.confidence) }), " · ", el("span", { class: "mono" }, row.row_id)),
      el("ol", { class: "choices" }, options.slice(0, DIGITS).map((one, place) => el("li", null,
        el("button", { type: "button", "data-label": one.name, onclick: () => give(one.name) }, el("kbd", null, String(place + 1)),
          el("span", null, one.title, el("br"), el("span", { class: "mono muted" }, one.name)), el("span", { class: "share" }, one.share === undefined || one.share === null ? "" : fixed(one.share)))))),
      el("div", { class: "row" }, options.length > DIGITS ? rest : null, el("button", { type: "button", onclick: skip }, t("skip_row"), " ", el("kbd", null, "s")), back()));
  }

  function back() {
    return el("button", { type: "button", disabled: !done.length, onclick: undo }, t("undo"), " ", el("kbd", null, "u"));
  }

  // Decisions go out one after the other, in their order, while the next row is already looked at.
  function later(work) {
    sending = sending.then(async () => (await app.trying(work)) !== null);
    return sending;
  }

  function give(label) {
    const [row] = rows.splice(at, 1);
    if (!row) return;
    done.push({ row, label });
    if (done.length > 100) done.shift();
    finished += 1;
    show();
    later(() => post("/label", { key: row.key, label })).then((sent) => {
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
    later(() => post("/skip", { key: row.key }));
    if (rows.length < HELD / 2) claim();
  }

  function undo() {
    const last = done.pop();
    if (!last) return;
    finished -= 1;
    later(() => post("/undo", { key: last.row.key })).then((sent) => {
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
      if (chosen && app.may()) give(chosen.name);
    } else if (["ArrowDown", "ArrowRight"].includes(event.key)) { at += 1; show(); }
    else if (["ArrowUp", "ArrowLeft"].includes(event.key)) { at -= 1; show(); }
    // By the key's place as well: a Russian keyboard has other letters there.
    else if (event.code === "KeyU" || event.ctrlKey) undo();
    else if (event.code === "KeyS") skip();
    else return;
    event.preventDefault();
  }

  const leave = () => { if (rows.length && app.may()) post("/release", {}, { keepalive: true }).catch(() => {}); };
  document.addEventListener("keydown", key);
  addEventListener("pagehide", leave);
  state().then(claim);
  const timer = setInterval(state, 10000);
  show();
  return {
    root: el("div", null, el("p", { class: "muted" }, t("review_about"), " · ", el("kbd", null, "1"), "–", el("kbd", null, "9"), ` ${t("keys_help")} · `, el("kbd", null, "↑"), el("kbd", null, "↓"), ` ${t("move_help")} · `, el("kbd", null, "s"), ` ${t("skip_row").toLowerCase()} · `, el("kbd", null, "u"), ` ${t("undo").toLowerCase()}`),
      counts,
      el("div", { class: "review" }, subject, el("section", { class: "card" }, el("h2", null, t("mine")), session, queue, el("p", null, el("a", { href: "/review/gold?format=csv", download: "gold.csv" }, t("gold")), " · ", el("a", { href: "/review/gold?format=jsonl", download: "gold.jsonl" }, "JSONL"))))),
    close: () => { closed = true; clearInterval(timer); document.removeEventListener("keydown", key); removeEventListener("pagehide", leave); leave(); },
  };
}
