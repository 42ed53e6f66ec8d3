// A file of rows: what is understood of it, what has to be answered, its job, its result.

import { card, clipped, el, replace, setText, table } from "../dom.js";
import { get, session, upload } from "../net.js";
import { currentLanguage, moment, percent, seconds, t, whole } from "../text.js";

const ROLES = ["text", "timestamp", "id", "user", "session", "domain"];
const ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic", "cp1252"];
const DELIMITERS = [",", ";", "\t", "|", "^", "~", "\u001f"];
// Each may depend on those before it.
const ORDER = ["encoding", "sheet", "delimiter", "header", "text", "timestamp", "dates"];
const UNFINISHED = new Set(["publishing", "working", "waiting"]);

// What is open: the file, what is asked of it, and what somebody chose instead. It stays when the page is drawn anew.
let file = null;
let asked = new Map();
let chosen = {};
let answers = {};
let roles = {};
let job = null;
let running = null;
let opener = null;
let language = null;
let turns = 0;
// Of the view that is shown.
let draw = null;

export function files(app) {
  const input = el("input", { type: "file", name: "file", disabled: !app.may(), onchange: () => input.files[0] && receive(input.files[0]) });
  const drop = el("label", { class: "drop" }, el("span", null, t("drop_file")), input);
  const status = el("p", { class: "muted", role: "status" });
  const known = el("div");
  const place = el("div");
  draw = () => replace(place, ...parts());

  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0] && app.may()) receive(event.dataTransfer.files[0]);
  });

  async function receive(content) {
    setText(status, t("uploading", { name: content.name }));
    const found = await app.trying(() => upload("/upload", content));
    setText(status, found ? t("uploaded", { name: found.name }) : "");
    input.value = "";
    if (found) show(found);
    list();
  }

  async function list() {
    const found = await app.trying(() => get("/uploads"));
    if (found === null) return;
    replace(known, found.uploads.length
      ? table(t("known_files"), [t("file"), t("time"), [t("rows"), "num"], [t("broken"), "num"], t("actions")], found.uploads.slice(0, 20).map((one) =>
        el("tr", { "data-file": one.file_id }, el("th", { scope: "row" }, el("bdi", null, one.name || one.file_id)), el("td", { class: "narrow muted" }, moment(one.uploaded_at)),
          el("td", { class: "num" }, whole(one.rows)), el("td", { class: "num" }, whole(one.rows_broken)),
          el("td", { class: "narrow" }, el("button", { type: "button", onclick: () => show(one) }, t("open_file"), el("span", { class: "hidden" }, ` ${one.name}`))))))
      : el("p", { class: "muted" }, t("nothing")));
  }

  function show(found) {
    asked = new Map();
    turns += 1;
    [job, running, chosen, answers, roles] = [null, null, {}, {}, {}];
    [opener, language] = [session.name, currentLanguage()];
    take(found);
    place.querySelector("h2")?.focus();
  }

  function take(found) {
    file = found;
    for (const one of found.questions) asked.set(one.id, one);
    draw();
  }

  // What was asked about the columns that were chosen by hand is answered to `/process` alone.
  const given = () => Object.entries(answers).filter(([id]) => !asked.get(id)?.late).map(([id, choice]) => `${id}:${choice}`);
  // Null if it is refused, or nobody waits for it any more.
  async function read(answer) {
    const turn = (turns += 1);
    const found = await app.trying(() => get(`/uploads/${file.file_id}`, { ...chosen, answer }));
    return turn === turns ? found : null;
  }

  // Reads it again, in the way that was chosen.
  async function again(focus) {
    const found = await read(given());
    if (found !== null) take(found);
    place.querySelector(`[name="${focus}"]`)?.focus();
  }

  // All of it in the language of the page: a question may follow from the answers before it.
  async function translate() {
    language = currentLanguage();
    for (let n = 0; n <= given().length; n += 1) {
      const found = await read(given().slice(0, n));
      if (found === null) return;
      if (n === given().length) take(found);
      else for (const one of found.questions) asked.set(one.id, one);
    }
  }

  function select(name, options, value, change) {
    return el("select", { name, onchange: (event) => change(event.target.value) }, options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
  }

  function control(name, title, options, value) {
    const known = options.some(([key]) => key === value) ? options : [[value, value], ...options];
    return el("label", null, title, select(name, known, value, (now) => {
      chosen[name] = now;
      forget(name);
      again(name);
    }));
  }

  function question(one) {
    const named = (choice) => t(`${one.id}_${choice}`, {}, choice);
    const choices = one.choices.map((choice) => [choice, choice === one.guess ? t("likely", { choice: named(choice) }) : named(choice)]);
    const id = `about-${one.id}`;
    const field = select(`answer-${one.id}`, [["", t("choose")], ...choices], answers[one.id] ?? "", (choice) => {
      forget(one.id);
      asked.set(one.id, one);
      if (choice) answers[one.id] = choice;
      if (!one.late) return again(`answer-${one.id}`);
      draw();
      return place.querySelector(`[name="answer-${one.id}"]`)?.focus();
    });
    field.setAttribute("aria-describedby", id);
    return el("div", { class: "notice", "data-question": one.id }, el("div", { class: "row" }, el("label", null, t(`ask_${one.id}`), field)), el("p", { id, class: "muted" }, one.about));
  }

  // What follows from another decision is asked anew.
  function forget(id) {
    for (const later of ORDER.slice(ORDER.indexOf(id))) {
      asked.delete(later);
      delete answers[later];
    }
  }

  const questions = (...ids) => [...asked.values()].filter((one) => ids.includes(one.id)).map(question);
  const mapped = () => ({ ...file.mapping, ...roles });

  function columns() {
    const held = Object.fromEntries(Object.entries(mapped()).filter(([, name]) => name).map(([role, name]) => [name, role]));
    const options = [["", "–"], ...ROLES.map((role) => [role, t(`part_${role}`)])];
    const row = el("tr", null, file.columns.map((name) => {
      const field = select(`part-${name}`, options, held[name] ?? "", (role) => {
        if (held[name]) roles[held[name]] = null;
        if (role) {
          roles[role] = name;
          if (role === "text" || role === "timestamp") forget(role);
        }
        draw();
        place.querySelector(`[name="part-${CSS.escape(name)}"]`)?.focus();
      });
      field.setAttribute("aria-label", t("part_of", { name }));
      return el("td", null, field);
    }));
    const words = { more: t("more"), less: t("less"), most: 120 };
    return table(t("first_rows"), file.columns, [row, ...file.first_rows.map((one) =>
      el("tr", null, file.columns.map((name) => el("td", null, one[name] === null ? el("span", { class: "muted" }, "∅") : clipped(one[name], words)))))]);
  }

  async function start(accept) {
    const { encoding, delimiter, header } = chosen;
    const body = { file_id: file.file_id, encoding, delimiter, mapping: roles, answers, accept };
    if (header !== undefined) body.header = header === "true";
    const made = await app.trying(() => app.send("/process", body), (error) => {
      for (const one of error.told?.questions ?? []) asked.set(one.id, { ...one, late: true });
    });
    if (made !== null) { running = null; job = made; }
    draw();
    if (made !== null) place.querySelector("#file-job h2")?.focus();
  }

  function jobCard() {
    running = { state: el("span", { class: "chip" }), bar: el("progress", { max: "1", "aria-label": t("progress") }), told: el("span", { class: "muted" }) };
    const link = (path, text) => el("a", { href: `/jobs/${job.job_id}/${path}`, download: "" }, text);
    const made = card(null, el("h2", { tabindex: "-1" }, t("file_job", { id: job.job_id })), el("p", null, running.state, " ", running.told), running.bar,
      el("p", null, t("result"), ": ", link("result?format=csv&escape_formulas=true", "CSV"), ", ", link("result?format=jsonl", "JSON lines"), ", ", link("result?format=parquet", "Parquet")));
    made.id = "file-job";
    progress();
    return made;
  }

  function progress() {
    setText(running.state, t(`state_${job.state}`));
    running.state.dataset.state = job.state;
    running.bar.value = job.progress ?? 0;
    setText(running.told, `${percent(job.progress)} · ${whole(job.rows)} · ${t("remaining")}: ${seconds(job.seconds_remaining)}`);
  }

  function broken() {
    return card(t("broken_rows", { n: whole(file.rows_broken) }),
      table(t("broken"), [[t("line"), "num"], [t("position"), "num"], t("column"), t("why"), t("detail")], file.broken.map((one) =>
        el("tr", { "data-line": one.line }, el("td", { class: "num" }, one.line), el("td", { class: "num" }, one.column ?? "–"), el("td", null, one.field ?? "–"), el("td", null, el("span", { class: "chip warn" }, t(`broken_${one.reason}`))), el("td", { class: "wide" }, one.detail)))),
      el("p", null, el("a", { href: `/uploads/${file.file_id}/broken`, download: "broken.jsonl" }, t("all_broken"))));
  }

  function parts() {
    const names = { "\t": t("tab"), "\u001f": t("one_column") };
    const header = [["true", t("yes_header")], ["false", t("no_header")]];
    const open = [...asked.keys()].filter((id) => !(id in answers) && !(id in roles) && !(id in chosen));
    const unread = !mapped().text;
    return [
      card(null, el("h2", { tabindex: "-1" }, el("bdi", null, file.name || file.file_id)),
        el("p", { class: "muted" }, t("file_facts", { format: file.format, rows: whole(file.rows), broken: whole(file.rows_broken), skipped: whole(file.rows_skipped) })),
        el("div", { class: "row" },
          file.encoding ? control("encoding", t("encoding"), ENCODINGS.map((one) => [one, one]), file.encoding) : null,
          file.delimiter ? control("delimiter", t("delimiter"), DELIMITERS.map((one) => [one, names[one] ?? one]), file.delimiter) : null,
          file.header !== null ? control("header", t("header"), header, String(file.header)) : null),
        ...questions("encoding", "delimiter", "header", "sheet"),
        file.warnings.length ? el("ul", { class: "warnings" }, file.warnings.map((one) => el("li", null, one))) : null,
        el("h3", null, t("columns_found")), ...questions("text", "timestamp", "dates"), columns(),
        unread ? el("p", { class: "bad" }, t("no_text")) : null,
        el("div", { class: "row" },
          el("button", { type: "button", class: "primary", name: "start", disabled: unread || open.length > 0 || !app.may(), onclick: () => start(false) }, t("start_file")),
          open.length ? el("button", { type: "button", name: "accept", disabled: unread || !app.may(), onclick: () => start(true) }, t("accept_guesses")) : null,
          open.length ? el("span", { class: "muted" }, t("open_questions", { n: open.length })) : null)),
      job ? jobCard() : null, file.rows_broken ? broken() : null,
    ];
  }

  function update(found) {
    const now = job && (found.jobs ?? []).find((one) => (one.job_id ?? one.id) === job.job_id);
    if (now && running && (UNFINISHED.has(job.state) || now.state !== job.state)) {
      job = { ...job, ...now };
      progress();
    }
  }

  if (opener !== session.name) file = null;
  if (file !== null) draw();
  if (file !== null && language !== currentLanguage()) translate();
  list();
  return { root: el("div", null, card(t("new_file"), drop, status), place, card(t("known_files"), known)), update };
}
