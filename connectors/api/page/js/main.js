// The frame: sections, language, theme, session, and the one stream.

import { el, replace, setText } from "./dom.js";
import { Live, Refused, may, send, session, signIn, signOut, whoAmI } from "./net.js";
import { currentLanguage, keep, setLanguage, t, whole } from "./text.js";
import { audit } from "./views/audit.js";
import { feed } from "./views/feed.js";
import { files } from "./views/files.js";
import { flow } from "./views/flow.js";
import { labels } from "./views/labels.js";
import { letters } from "./views/letters.js";
import { quality } from "./views/quality.js";
import { replays } from "./views/replays.js";
import { review } from "./views/review.js";

const VIEWS = { flow, labels, feed, letters, replays, files, review, quality, audit };
const main = document.getElementById("main");
const live = new Live();
let shown = null;

function chosen() {
  const name = location.hash.replace(/^#\/?/, "").split("?")[0];
  return name in VIEWS ? name : "flow";
}

export function toast(text, kind = "") {
  const place = document.getElementById("toasts");
  const one = el("div", { class: `toast ${kind}` }, text);
  place.append(one);
  while (place.childElementCount > 3) place.firstElementChild.remove();
  setTimeout(() => one.remove(), 6000);
}

// Runs what may be refused, and says so.
async function trying(work, refused = null) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Refused || error instanceof TypeError) {
      toast(t("failed", { detail: t(`refused_${error.code}`, {}, error.message) }), "bad");
      refused?.(error);
      return null;
    }
    throw error;
  }
}

const app = { live, toast, trying, send, may, counts: () => live.picture };

function navigation() {
  const here = chosen();
  const items = Object.keys(VIEWS).map((name) =>
    el("li", null,
      el("a", { href: `#/${name}`, "aria-current": name === here ? "page" : null },
        el("span", null, t(name)), el("span", { class: "count", id: `count-${name}` }))));
  const nav = document.getElementById("nav");
  nav.setAttribute("aria-label", t("sections"));
  replace(nav, el("ul", null, items));
  counts();
}

function counts() {
  const node = document.getElementById("count-letters");
  const dead = live.picture?.tables?.dead_letters;
  if (node) {
    setText(node, dead ? whole(dead) : "");
    node.classList.toggle("bad", Boolean(dead));
  }
}

function choice(title, options, current, choose) {
  return el("div", { role: "group", "aria-label": title },
    el("span", null, title),
    el("div", { class: "pair" }, options.map(([value, text]) =>
      el("button", { type: "button", "aria-pressed": String(value === current), onclick: () => choose(value) }, text))));
}

function preferences() {
  const theme = document.documentElement.dataset.theme ?? "auto";
  replace(
    document.getElementById("prefs"),
    el("div", null,
      session.keys && session.name
        ? [t("signed_in", { name: session.name }), ["read", "review"].includes(session.scope) ? ` (${t(`${session.scope}_only`)})` : "", " ",
          el("button", { type: "button", class: "link", onclick: leave }, t("sign_out"))]
        : session.name ? t("no_keys") : ""),
    choice(t("theme"), [["light", t("light")], ["auto", t("auto")], ["dark", t("dark")]], theme, (value) => {
      if (value === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = value;
      keep("theme", value);
      draw();
    }),
    choice(t("language"), [["ru", "Русский"], ["en", "English"]], currentLanguage(), (value) => {
      setLanguage(value);
      draw();
    }),
  );
}

async function leave() {
  await trying(signOut);
  live.close();
  draw();
}

function signInForm() {
  const key = el("input", { type: "password", name: "key", autocomplete: "current-password", required: true });
  const form = el("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      if ((await trying(() => signIn(key.value).then(() => true))) !== null) start();
    },
  },
  // Where a password manager keeps the key.
  el("input", { type: "text", name: "username", autocomplete: "username", value: "labelstream", hidden: true }),
  el("label", null, t("key"), key), el("button", { type: "submit", class: "primary" }, t("sign_in")));
  return el("div", { class: "sign card" }, el("h1", null, "labelstream"), el("p", { class: "muted" }, t("sign_in_about")), form);
}

function draw() {
  document.documentElement.lang = currentLanguage();
  setText(document.getElementById("skip"), t("skip"));
  shown?.close?.();
  shown = null;
  preferences();
  if (!session.name) {
    replace(document.getElementById("nav"));
    replace(main, signInForm());
    document.title = "labelstream";
    return;
  }
  navigation();
  const name = chosen();
  const state = el("span", { class: "state", id: "state" });
  const problems = el("div", null);
  shown = VIEWS[name](app);
  shown.state = state;
  shown.problems = problems;
  replace(main, el("div", { class: "head" }, el("h1", null, t(name)), state), problems, shown.root);
  document.title = `${t(name)} · labelstream`;
  update(live.picture, []);
}

function update(picture, fresh) {
  if (shown === null) return;
  shown.state.className = `state ${live.state}`;
  setText(shown.state, t(live.state));
  counts();
  if (picture === null) return;
  const away = Object.keys(picture.problems ?? {}).join(", ");
  if (shown.away !== away) {
    shown.away = away;
    replace(shown.problems, away ? el("p", { class: "notice" }, t("problem", { what: away })) : null);
  }
  shown.update?.(picture, fresh);
}

async function start() {
  await trying(whoAmI);
  draw();
  if (session.name) live.open();
}

live.listeners.add(update);
addEventListener("hashchange", () => {
  draw();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
document.addEventListener("signed-out", () => {
  if (!session.name) return;
  Object.assign(session, { name: null, scope: null, csrf: null });
  live.close();
  draw();
});
start();
