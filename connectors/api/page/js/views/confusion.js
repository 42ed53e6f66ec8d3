// Which labels are taken for which: a table whose cells open the rows.

import { el, replace, table } from "../dom.js";
import { get } from "../net.js";
import { fixed, t, whole } from "../text.js";
import { rowText, showRow } from "./row.js";

const MOST = 14;
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// Right label -> given label -> rows, of the labels with the most errors.
function counted(matrix) {
  const wrong = new Map();
  const add = (name, count) => wrong.set(name, (wrong.get(name) ?? 0) + count);
  for (const [gold, given] of Object.entries(matrix)) {
    for (const [label, rows] of Object.entries(given)) {
      add(gold, gold === label ? 0 : rows);
      add(label, gold === label ? 0 : rows);
    }
  }
  const names = [...wrong.keys()].sort((a, b) => wrong.get(b) - wrong.get(a) || a.localeCompare(b));
  return { shown: names.slice(0, MOST).sort(), all: names.length };
}

export function confusion(app, found) {
  const { shown, all } = counted(found.confusion);
  const opened = el("div", { id: "confused-rows", "aria-live": "polite" });
  const name = (label) => (label === "no-label" ? t("no_label_fits") : label);
  const golds = shown.filter((one) => found.confusion[one]);
  const givens = shown.filter((one) => golds.some((gold) => found.confusion[gold][one]));

  async function open(gold, given) {
    const told = await app.trying(() => get("/quality/rows", { version: found.version, right: gold, given }));
    if (told === null) return;
    replace(opened, el("h3", null, t("confused", { gold: name(gold), given: name(given), n: whole(found.confusion[gold][given]) })),
      table(t("rows"), [t("text"), [t("confidence"), "num"], ""], told.rows.map((one) =>
        el("tr", { "data-gold-row": one.row_id }, el("td", { class: "wide" }, rowText(one)), el("td", { class: "num" }, fixed(one.confidence)),
          el("td", { class: "narrow" }, el("button", { type: "button", class: "link", onclick: () => showRow(app, one) }, t("details"), el("span", { class: "hidden" }, ` ${one.row_id}`)))))));
  }

  function cell(gold, given) {
    const rows = found.confusion[gold]?.[given] ?? 0;
    if (!rows) return el("td", { class: "num muted" }, el("span", { class: "hidden" }, "0"));
    const total = Object.values(found.confusion[gold]).reduce((sum, one) => sum + one, 0);
    const heat = `${gold === given ? "right" : "wrong"}${Math.max(1, Math.ceil((4 * rows) / total))}`;
    return el("td", { class: `num ${heat}` },
      el("button", { type: "button", class: "cell", tabindex: "-1", "data-gold": gold, "data-given": given, "aria-label": t("confused", { gold: name(gold), given: name(given), n: rows }), onclick: () => open(gold, given) }, whole(rows)));
  }

  const lines = golds.map((gold) => el("tr", null, el("th", { scope: "row" }, name(gold)), givens.map((given) => cell(gold, given))));
  const place = table(t("confusion"), [t("right_given"), ...givens.map((one) => [el("span", null, name(one)), "up"])], lines, { class: "heat" });
  // One stop of the Tab key; the arrows move inside.
  const buttons = [...place.querySelectorAll("button")];
  buttons[0]?.setAttribute("tabindex", "0");
  place.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const here = event.target.closest?.("td");
    if (!step || !here) return;
    event.preventDefault();
    let line = here.parentElement.rowIndex - 1;
    let column = here.cellIndex;
    let next = null;
    while (!next) {
      line += step[0];
      column += step[1];
      if (!lines[line]?.cells[column]) return;
      next = lines[line].cells[column].querySelector("button");
    }
    for (const one of buttons) one.setAttribute("tabindex", one === next ? "0" : "-1");
    next.focus();
  });
  return [el("p", { class: "muted" }, t("confusion_about"), all > shown.length ? ` ${t("most_confused", { n: shown.length, all })}` : ""), place, opened];
}
