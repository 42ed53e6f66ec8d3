// A row's history in a dialog, where its label can be corrected; and the whole of a text that was clipped.

import { clipped, el, replace, table } from "../dom.js";
import { desk, get } from "../net.js";
import { fixed, moment, t } from "../text.js";

const words = () => ({ more: t("more"), less: t("less") });

// The text of a row; `characters`: how long it is, where only its beginning came.
export function rowText(one) {
  const cut = one.characters !== undefined && one.characters > Array.from(one.text).length;
  return clipped(one.text, { ...words(), whole: cut ? async () => (await get(`/rows/${encodeURIComponent(one.row_id)}`)).text ?? one.text : null });
}

export function labelChip(one) {
  const kind = one.confidence === null || one.confidence === undefined ? "on" : one.confidence < 0.4 ? "bad" : one.confidence < 0.7 ? "warn" : "";
  return el("span", { class: `chip ${kind}` }, one.label);
}

// Time in microseconds, which a Date does not have, and id in hexadecimal.
function keyOf(row) {
  const [, seconds, fraction = ""] = /^(.{19})(?:\.(\d+))?/.exec(row.created_at);
  const id = Array.from(new TextEncoder().encode(row.row_id), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${1000 * Date.parse(`${seconds}Z`) + Number(fraction.padEnd(6, "0"))}.${id}`;
}

function correction(app, row) {
  const place = el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); give(); } });
  const told = el("span", { role: "status" });
  const right = el("select", { name: "right", required: true });
  const failed = (error) => replace(told, t("failed", { detail: error.message }));
  const post = (path, more = {}) => app.trying(() => app.send(`/review/${path}`, { key: keyOf(row), queue: "search", ...more }, { headers: desk() }), failed);

  async function ask() {
    const found = await app.trying(() => get("/review"), failed);
    if (found === null) return;
    replace(right, el("option", { value: "" }, t("choose")), found.choices.map((one) => el("option", { value: one.name }, `${one.title} (${one.name})`)), el("option", { value: "no-label" }, t("no_label")));
    replace(place, el("label", null, t("right_label"), right), el("button", { type: "submit", class: "primary" }, t("correct")), told);
    right.focus();
  }

  async function give() {
    const label = right.value;
    const sent = label === "no-label" ? await post("answer", { answer: label }) : await post("label", { label });
    if (sent === null) return;
    replace(told, t("corrected", { label: label === "no-label" ? t("no_label") : label }), " ", el("button", { type: "button", class: "link", onclick: back }, t("undo")));
  }

  async function back() {
    if ((await post("undo")) !== null) replace(told, t("undone", { row: row.row_id }));
  }

  replace(place, el("button", { type: "button", onclick: ask }, t("correct_label")), told);
  return place;
}

// ``row``: with its time, where that is known: an older row may have the same id.
export async function showRow(app, row) {
  const rowId = row.row_id;
  const newest = await app.trying(() => get(`/rows/${encodeURIComponent(rowId)}`));
  if (newest === null) return;
  const known = (one) => Boolean(one.created_at);
  const found = [newest, ...newest.namesakes].find((one) => known(row) && known(one) && keyOf(one) === keyOf(row)) ?? newest;
  const dialog = el("dialog", { "aria-label": t("row", { id: rowId }) },
    el("h2", null, t("row", { id: rowId })),
    el("p", null, clipped(found.text ?? "", { ...words(), most: 600 })),
    table(t("labels"), [t("label"), [t("confidence"), "num"], t("version"), t("model"), t("time"), ""],
      found.labels.map((one) => el("tr", null, el("td", null, labelChip(one)), el("td", { class: "num" }, fixed(one.confidence)), el("td", { class: "mono" }, one.label_version),
        el("td", { class: "mono" }, one.model), el("td", { class: "narrow" }, moment(one.labeled_at)), el("td", null, one.current ? el("span", { class: "chip ok" }, t("current")) : "")))),
    found.variants.length ? [el("h3", null, t("variants")), el("ul", null, found.variants.flatMap((one) => one.variants).slice(0, 20).map((one) => el("li", null, clipped(one, words()))))] : null,
    app.may("review") && found.labels.length ? correction(app, found) : null,
    el("form", { method: "dialog", class: "row end" }, el("button", { type: "submit" }, t("close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
