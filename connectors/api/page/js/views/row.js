// A row's history in a dialog, and the whole of a text that was clipped.

import { clipped, el, table } from "../dom.js";
import { get } from "../net.js";
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

export async function showRow(app, rowId) {
  const found = await app.trying(() => get(`/rows/${encodeURIComponent(rowId)}`));
  if (found === null) return;
  const dialog = el("dialog", { "aria-label": t("row", { id: rowId }) },
    el("h2", null, t("row", { id: rowId })),
    el("p", null, clipped(found.text ?? "", { ...words(), most: 600 })),
    table(t("labels"), [t("label"), [t("confidence"), "num"], t("version"), t("model"), t("time"), ""],
      found.labels.map((one) => el("tr", null, el("td", null, labelChip(one)), el("td", { class: "num" }, fixed(one.confidence)), el("td", { class: "mono" }, one.label_version),
        el("td", { class: "mono" }, one.model), el("td", { class: "narrow" }, moment(one.labeled_at)), el("td", null, one.current ? el("span", { class: "chip ok" }, t("current")) : "")))),
    found.variants.length ? [el("h3", null, t("variants")), el("ul", null, found.variants.flatMap((one) => one.variants).slice(0, 20).map((one) => el("li", null, clipped(one, words()))))] : null,
    el("form", { method: "dialog", class: "row end" }, el("button", { type: "submit" }, t("close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
