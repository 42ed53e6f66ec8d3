// Whether the labels are right: figures from the rows that people judged.

import { against, bar, curve, series, withNumbers } from "../diagrams.js";
import { card, el, replace, setText, table } from "../dom.js";
import { get, Refused } from "../net.js";
import { date, fixed, percent, t, whole } from "../text.js";
import { canary, newest } from "./canary.js";
import { confusion } from "./confusion.js";
import { drift } from "./drift.js";

const WEEKS = 26;
// A label's recall is known to some 0.15 by so many rows.
const FEW = 30;
const KIND = { better: "ok", "not worse": "ok", worse: "bad", undecided: "warn" };

const exact = (value) => fixed(value, 3);
const span = (low, high) => (low === null || low === undefined ? "" : `${exact(low)}–${exact(high)}`);
const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${exact(Math.abs(value))}`;
const day = (name) => (/^\d{4}-/.test(name) ? date(name) : t("unknown_week"));

// The review opens the queue that this tab had last.
function toQueue(name) {
  return el("a", { href: "#/review", onclick: () => sessionStorage.setItem("labelstream.queue", name) }, t(`to_${name}`));
}

function tiles(found) {
  const facts = [
    ["accuracy", found.accuracy, found.accuracy_low, found.accuracy_high],
    ["macro_f1", found.macro_f1, found.macro_f1_low, found.macro_f1_high],
    ["ece", found.ece, found.ece_low, found.ece_high],
    ["brier", found.brier], ["kappa", found.kappa],
  ];
  return el("dl", { class: "tiles", "data-version": found.version },
    facts.map(([key, value, low, high]) => el("div", { class: "tile" }, el("dt", null, t(key)),
      el("dd", { id: `quality-${key}`, "data-value": value }, exact(value), low === null || low === undefined ? null : el("small", { class: "muted" }, ` ${span(low, high)}`)))),
    el("div", { class: "tile" }, el("dt", null, t("gold_rows")), el("dd", { id: "quality-gold" }, whole(found.gold), el("small", { class: "muted" }, ` ${t("of_them_drawn", { n: whole(found.drawn) })}`))));
}

function weeks(found) {
  const known = found.groups ?? [];
  const shown = known.slice(-WEEKS);
  const words = (one) => `${day(one.name)}: ${exact(one.accuracy)} (${span(one.accuracy_low, one.accuracy_high)}), ${t("rows")}: ${whole(found.biased ? one.labeled : one.drawn)}`;
  return card(t("by_week"), withNumbers(
    series(t("by_week"), shown.map((one) => [day(one.name), one.accuracy, one.accuracy_low, one.accuracy_high, words(one)]), { below: t("week_of"), beside: t("accuracy") }),
    t("numbers"),
    table(t("by_week"), [t("week_of"), [t("gold_rows"), "num"], [t("drawn"), "num"], [t("accuracy"), "num"], [t("interval"), "num"]], shown.map((one) =>
      el("tr", { "data-week": one.name }, el("th", { scope: "row" }, day(one.name)), el("td", { class: "num" }, whole(one.gold)), el("td", { class: "num" }, whole(one.drawn)),
        el("td", { class: "num" }, exact(one.accuracy)), el("td", { class: "num" }, span(one.accuracy_low, one.accuracy_high)))))));
}

function reliability(found) {
  const most = Math.max(1, ...found.reliability.map((one) => one.rows));
  const range = (one) => `${fixed(one.low)}–${fixed(one.high)}`;
  const words = (one) => `${t("confidence")} ${range(one)}: ${exact(one.accuracy)} (${span(one.accuracy_low, one.accuracy_high)}), ${t("rows")}: ${whole(one.rows)}`;
  return card(t("reliability"), el("p", { class: "muted" }, t("reliability_about")),
    found.reliability.length ? withNumbers(
      against(t("reliability"), found.reliability.map((one) => [one.confidence, one.accuracy, one.accuracy_low, one.accuracy_high, words(one), one.rows / most]), { below: t("confidence"), beside: t("accuracy") }),
      t("numbers"),
      table(t("reliability"), [t("confidence"), [t("rows"), "num"], [t("mean_confidence"), "num"], [t("accuracy"), "num"], [t("interval"), "num"]], found.reliability.map((one) =>
        el("tr", null, el("th", { scope: "row", class: "narrow" }, range(one)), el("td", { class: "num" }, whole(one.rows)), el("td", { class: "num" }, exact(one.confidence)),
          el("td", { class: "num" }, exact(one.accuracy)), el("td", { class: "num" }, span(one.accuracy_low, one.accuracy_high)))))) : el("p", { class: "muted" }, t("no_confidence")));
}

function risk(found) {
  const points = found.coverage;
  if (!points.length) return card(t("risk"), el("p", { class: "muted" }, t("no_confidence")));
  const picture = curve(t("risk"), points.map((one) => one.coverage), points.map((one) => one.accuracy), points.map((one) => one.accuracy_low), { below: t("covered"), beside: t("accuracy"), wanted: found.wanted });
  const told = el("p", { id: "risk-told", role: "status" });
  const least = found.least ? points.findIndex((one) => one.threshold === found.least.threshold) : -1;
  const slider = el("input", { type: "range", id: "risk-threshold", min: "0", max: String(points.length - 1), step: "1", oninput: () => show() });
  function show() {
    const one = points[Number(slider.value)];
    picture.point(Number(slider.value));
    const words = t("risk_told", { threshold: exact(one.threshold), covered: percent(one.coverage), accuracy: exact(one.accuracy), low: exact(one.accuracy_low) });
    slider.setAttribute("aria-valuetext", words);
    setText(told, words);
  }
  slider.value = String(least >= 0 ? least : points.length - 1);
  show();
  return card(t("risk"), el("p", { class: "muted" }, t("risk_about")),
    withNumbers([picture.root, el("label", { class: "slide" }, t("threshold"), slider), told,
      el("p", { id: "risk-least" }, found.least ? t("least", { wanted: fixed(found.wanted), threshold: exact(found.least.threshold), covered: percent(found.least.coverage) }) : t("no_least", { wanted: fixed(found.wanted) }))],
    t("numbers"),
    table(t("risk"), [[t("threshold"), "num"], [t("covered"), "num"], [t("accuracy"), "num"], [t("at_least"), "num"]], points.map((one) =>
      el("tr", null, ...[exact(one.threshold), percent(one.coverage), exact(one.accuracy), exact(one.accuracy_low)].map((cell) => el("td", { class: "num" }, cell)))))));
}

// Each column: [words, value of a line, cells of a line].
function labels(found) {
  const figure = (one, name) => [el("td", { class: "num" }, exact(one[name])), el("td", { class: "num muted" }, span(one[`${name}_low`], one[`${name}_high`]))];
  const columns = [["label", (one) => one.label], ["should_have", (one) => one.support], ["have", (one) => one.given], ["precision", (one) => one.precision], null, ["recall", (one) => one.recall], null, ["f1", (one) => one.f1]];
  const body = el("tbody");
  const heads = columns.map((one, place) => (one === null ? [t("interval"), "num"]
    : [el("button", { type: "button", class: "link", "data-sort": one[0], onclick: () => sort(place) }, t(one[0])), place ? "num" : null]));
  const place = table(t("by_label"), heads, []);
  place.querySelector("tbody").replaceWith(body);
  let by = null;
  let down = true;
  function sort(column) {
    down = by === column ? !down : column > 0;
    by = column;
    const value = columns[column][1];
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    const lines = [...found.labels].sort((a, b) => {
      // Labels without a value stay at the end.
      if (value(a) === null || value(b) === null) return (value(a) === null) - (value(b) === null);
      return (down ? -1 : 1) * order(value(a), value(b));
    });
    place.querySelectorAll("th[scope=col]").forEach((head, number) => {
      if (columns[number] === null) return;
      head.setAttribute("aria-sort", number === column ? (down ? "descending" : "ascending") : "none");
    });
    replace(body, lines.map((one) => el("tr", { "data-label": one.label }, el("th", { scope: "row" }, one.label),
      el("td", { class: "num" }, whole(one.support)), el("td", { class: "num" }, whole(one.given)), figure(one, "precision"), figure(one, "recall"), el("td", { class: "num" }, exact(one.f1)))));
  }
  sort(1);
  return card(t("by_label"), place);
}

function versions(found) {
  const known = found.versions ?? [];
  if (!known.length) return null;
  const lows = known.map((one) => one.accuracy_low).filter((one) => one !== null);
  const least = Math.max(0, Math.floor(10 * Math.min(1, ...lows)) / 10 - 0.1);
  const verdict = (one) => {
    if (!one.verdict?.answer) return el("span", { class: "muted" }, one.current ? t("is_current") : one.verdict ? t("not_compared") : "–");
    const words = t("difference", { difference: signed(one.verdict.difference), low: signed(one.verdict.low), high: signed(one.verdict.high) });
    const more = one.verdict.answer === "undecided" && one.verdict.more ? `; ${t("label_more", { n: whole(one.verdict.more) })}` : "";
    return [el("span", { class: `chip ${KIND[one.verdict.answer]}` }, t(`verdict_${one.verdict.answer.replace(" ", "_")}`)), ` ${words}${more}`];
  };
  return card(t("side_by_side"), el("p", { class: "muted" }, t("side_about")),
    table(t("side_by_side"), [t("version"), t("state"), [t("accuracy"), "num"], t("interval"), [t("rows"), "num"], t("gate")], known.map((one) =>
      el("tr", { "data-quality-version": one.version }, el("th", { scope: "row", class: "mono" }, one.version),
        el("td", null, el("span", { class: `chip ${one.current ? "ok" : one.status === "trial" ? "on" : ""}` }, one.current ? t("current") : t(`status_${one.status}`))),
        el("td", { class: "num" }, exact(one.accuracy)),
        el("td", { class: "narrow" }, one.accuracy === null ? "–" : [bar(one.accuracy_low, one.accuracy, one.accuracy_high, least), " ", span(one.accuracy_low, one.accuracy_high)]),
        el("td", { class: "num" }, whole(one.labeled)), el("td", { class: "wide" }, verdict(one))))));
}

function variants(found) {
  const one = found.variants;
  if (!one?.rows) return null;
  const cells = (part) => [el("td", { class: "num" }, whole(part.verified)), el("td", { class: "num" }, whole(part.variants)), el("td", { class: "num" }, whole(part.rejected)),
    el("td", { class: "num" }, part.changed === null ? "–" : percent(part.changed)), el("td", { class: "num muted" }, part.changed === null ? "" : `${percent(part.changed_low)}–${percent(part.changed_high)}`)];
  const heads = (name) => [t(name), [t("verified_rows"), "num"], [t("variants"), "num"], [t("rejected"), "num"], [t("changed_share"), "num"], [t("interval"), "num"]];
  return card(t("kept_labels"), el("p", { class: "muted" }, t("kept_about")),
    one.verified ? [el("p", { id: "quality-variants", "data-verified": one.verified, "data-rejected": one.rejected },
      t("kept_told", { changed: percent(one.changed ?? 0), low: percent(one.changed_low ?? 0), high: percent(one.changed_high ?? 0), verified: whole(one.verified), rows: whole(one.rows), calls: whole(one.calls), since: date(one.since.slice(0, 10)) })),
    table(t("kept_labels"), heads("augment_model"), one.models.map((part) => el("tr", null, el("th", { scope: "row", class: "mono" }, part.model), cells(part)))),
    table(t("kept_labels"), heads("label"), one.labels.map((part) => el("tr", { "data-variants-of": part.label }, el("th", { scope: "row" }, part.label), cells(part))))]
      : el("p", null, t("none_verified", { rows: whole(one.rows) })));
}

// Groups of rows that no label fits: looked for when somebody wants to see them, as that takes seconds.
function fresh(app) {
  const place = el("div", null);
  const look = el("button", { type: "button", id: "new-look", onclick: () => load(true) }, t("new_look"));

  async function make(group, name, told) {
    const made = await app.trying(() => get("/quality/new/entry", { group, name }));
    if (made) replace(told, el("p", null, t("new_entry")), el("pre", { class: "mono", "data-entry": group }, made.yaml), el("p", null, t("new_replay")), el("pre", { class: "mono" }, made.replay));
  }

  function line(one) {
    const told = el("div", null);
    const name = el("input", { name: `name-${one.id}`, "aria-label": t("label_name"), placeholder: "sim_replacement", pattern: "[A-Za-z0-9_.\\-]{1,64}", required: true });
    const labels = Object.entries(one.labels).map(([label, count]) => `${label} ${whole(count)}`).join(", ");
    return el("tr", { "data-group": one.id }, el("td", { class: "num" }, whole(one.size)), el("td", { class: "num" }, one.growth === null ? t("new_growth") : `×${fixed(one.growth, 1)}`), el("td", null, labels),
      el("td", { class: "wide" }, el("ul", null, one.examples.slice(0, 4).map((example) => el("li", null, example.text))),
        el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); make(one.id, name.value, told); } }, name, el("button", { type: "submit" }, t("make_label"))), told));
  }

  async function load(anew) {
    look.disabled = true;
    replace(place, el("p", { class: "muted" }, t("loading")));
    const found = await app.trying(() => get("/quality/new", { anew }));
    look.disabled = false;
    if (!found) return replace(place);
    return replace(place, el("p", { id: "new-told" }, t("new_told", { rows: whole(found.rows), doubtful: whole(found.doubtful), days: whole(found.days) })),
      found.groups.length ? table(t("new_rows"), [[t("rows"), "num"], [t("growth"), "num"], t("labels"), t("examples")], found.groups.slice(0, 10).map(line)) : el("p", null, t("new_none")));
  }
  return card(t("new_rows"), el("p", { class: "muted" }, t("new_about")), look, place);
}

function next(found) {
  const few = found.labels.filter((one) => one.support < FEW).sort((a, b) => a.support - b.support);
  const waits = found.disagreements ?? 0;
  return card(t("label_next"),
    el("ul", null,
      el("li", { id: "quality-more" }, found.more === 0 ? t("enough") : t("more_rows", { n: whole(found.more) }), " ", toQueue("audit")),
      waits ? el("li", null, t("disagreements_wait", { n: whole(waits) }), " ", toQueue("disagreements")) : null,
      found.not_sure ? el("li", null, t("not_sure_rows", { n: whole(found.not_sure) })) : null),
    few.length ? [el("p", null, t("few_rows", { n: FEW })), table(t("label_next"), [t("label"), [t("gold_rows"), "num"], [t("recall"), "num"], [t("interval"), "num"]], few.slice(0, 20).map((one) =>
      el("tr", null, el("th", { scope: "row" }, one.label), el("td", { class: "num" }, whole(one.support)), el("td", { class: "num" }, exact(one.recall)), el("td", { class: "num" }, span(one.recall_low, one.recall_high)))))] : null);
}

function begin() {
  return card(t("quality_begin"), el("p", null, t("begin_why")),
    el("ol", null, el("li", null, t("begin_audit"), " ", toQueue("audit")), el("li", null, t("begin_look")), el("li", null, t("begin_file"), " ", el("code", { class: "mono" }, "labelstream gold import gold.csv"))));
}

export function quality(app) {
  const place = el("div", null, el("p", { class: "muted" }, t("loading")));
  const trial = el("div");
  const moved = drift(app);
  let drawn = "";
  const chosen = el("select", { name: "version", onchange: () => load(chosen.value) });
  const again = el("button", { type: "button", onclick: () => load(chosen.value) }, t("refresh"));
  let closed = false;

  function show(found) {
    const names = (found.versions ?? []).map((one) => one.version);
    replace(chosen, (names.includes(found.version) ? names : [found.version, ...names]).map((name) => el("option", { value: name }, name)));
    chosen.value = found.version;
    if (!found.labeled) return replace(place, found.gold ? el("p", { class: "notice" }, t("none_labeled", { version: found.version, n: whole(found.gold) })) : null, begin(), versions(found), variants(found));
    return replace(place,
      found.biased ? el("p", { class: "notice", id: "quality-biased" }, t("biased"), " ", toQueue("audit")) : null,
      tiles(found), weeks(found),
      el("div", { class: "grid" }, reliability(found), risk(found)),
      labels(found), card(t("confusion"), confusion(app, found)), versions(found), variants(found), next(found));
  }

  async function load(version = "") {
    moved.load();
    try {
      const found = await get("/quality", { version, by: "week" });
      if (!closed) show(found);
    } catch (error) {
      if (closed) return;
      if (error instanceof Refused && error.code === "unknown-version") replace(place, begin());
      else replace(place, el("p", { class: "notice", role: "alert" }, t("failed", { detail: error.message })));
    }
  }
  load();
  const topics = fresh(app);
  return {
    root: el("div", null, el("div", { class: "row bar" }, el("label", null, t("version"), chosen), again, el("span", { class: "muted" }, t("quality_about"))), trial, moved.root, place),
    update: (picture) => {
      const job = newest(picture.jobs ?? []);
      const now = JSON.stringify([job?.id, job?.state, job?.stopped, job?.figures]);
      if (now === drawn) return;
      drawn = now;
      replace(trial, job ? canary(job) : null);
    },
    close: () => { closed = true; },
  };
}
