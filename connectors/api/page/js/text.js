// The page's words in Russian and English, and numbers as each writes them.

import { WORDS } from "./words.js";

const LANGUAGES = ["ru", "en"];
let language = first();

function first() {
  try {
    const kept = localStorage.getItem("labelstream.language");
    if (LANGUAGES.includes(kept)) return kept;
  } catch {
    // As the browser says.
  }
  // The browser's list is the one that it sends as Accept-Language.
  for (const wanted of navigator.languages ?? []) {
    const short = wanted.slice(0, 2).toLowerCase();
    if (LANGUAGES.includes(short)) return short;
  }
  return "ru";
}

export function currentLanguage() {
  return language;
}

export function setLanguage(wanted) {
  language = wanted;
  document.documentElement.lang = wanted;
  keep("language", wanted);
}

export function keep(name, value) {
  try {
    localStorage.setItem(`labelstream.${name}`, value);
  } catch {
    // It holds until the page is closed.
  }
}

// The words for `key`, or `other` if there are none; `{name}` in them is put in from `values`.
export function t(key, values = {}, other = key) {
  const found = WORDS[key]?.[LANGUAGES.indexOf(language)] ?? other;
  return found.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

function format(options) {
  return new Intl.NumberFormat(language === "ru" ? "ru-RU" : "en-GB", options);
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  return format({ maximumFractionDigits: Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0 }).format(value);
}

export function whole(value) {
  return value === null || value === undefined ? "–" : format({ maximumFractionDigits: 0 }).format(value);
}

export function percent(value) {
  if (value === null || value === undefined) return "–";
  return format({ style: "percent", maximumFractionDigits: Math.abs(value) < 0.1 ? 1 : 0 }).format(value);
}

export function fixed(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  return format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

export function perSecond(value) {
  return `${number(value)}${t("per_second")}`;
}

// A span of time, given in seconds.
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  const [size, unit] =
    value < 100 ? [1, "s"] : value < 6000 ? [60, "min"] : value < 172800 ? [3600, "h"] : [86400, "d"];
  return `${format({ maximumFractionDigits: value < 10 ? 1 : 0 }).format(value / size)} ${t(`unit_${unit}`)}`;
}

export function moment(value) {
  if (!value) return "–";
  const at = new Date(typeof value === "number" ? value * 1000 : value);
  const day = at.toLocaleDateString(language === "ru" ? "ru-RU" : "en-GB", { day: "2-digit", month: "short" });
  return `${day} ${at.toLocaleTimeString("ru-RU", { hour12: false })}`;
}

// A day, given as YYYY-MM-DD.
export function date(value) {
  return new Date(`${value}T12:00:00Z`).toLocaleDateString(language === "ru" ? "ru-RU" : "en-GB", { day: "numeric", month: "short" });
}

export function clock(value) {
  return value ? new Date(value).toLocaleTimeString("ru-RU", { hour12: false }) : "–";
}
