// Requests, the session, and the one stream that all views live on.

import { currentLanguage } from "./text.js";

export const session = { name: null, scope: null, keys: false, csrf: null };

const SCOPES = ["read", "review", "write", "admin"];
export const may = (scope = "write") => SCOPES.indexOf(session.scope) >= SCOPES.indexOf(scope);

export class Refused extends Error {
  constructor(status, detail, code, told) {
    super(detail);
    this.status = status;
    this.code = code;
    this.told = told;
  }
}

async function answered(response) {
  const told = response.headers.get("content-type")?.includes("json") ? await response.json() : null;
  if (response.ok) return told;
  if (response.status === 401) document.dispatchEvent(new Event("signed-out"));
  throw new Refused(response.status, told?.detail ?? response.statusText, told?.code ?? "", told);
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return answered(await fetch(text ? `${path}?${text}` : path, { headers: { accept: "application/json", "accept-language": currentLanguage() } }));
}

export async function send(path, body = {}, { method = "POST", headers = {}, keepalive = false } = {}) {
  return answered(
    await fetch(path, {
      method,
      keepalive,
      headers: { "content-type": "application/json", "accept-language": currentLanguage(), "x-csrf-token": session.csrf ?? "", ...headers },
      body: JSON.stringify(body),
    }),
  );
}

// Of this tab, for the review: two tabs of one person are two desks.
export function desk() {
  let name = sessionStorage.getItem("labelstream.desk");
  if (!name) {
    name = crypto.randomUUID();
    sessionStorage.setItem("labelstream.desk", name);
  }
  return { "x-desk": name };
}

export async function upload(path, file) {
  const headers = { "content-type": "application/octet-stream", "accept-language": currentLanguage(), "x-csrf-token": session.csrf ?? "" };
  return answered(await fetch(`${path}?name=${encodeURIComponent(file.name)}`, { method: "POST", headers, body: file }));
}

export async function whoAmI() {
  Object.assign(session, await get("/session"));
  return session;
}

export async function signIn(key) {
  Object.assign(session, await send("/session", { key }));
}

export async function signOut() {
  Object.assign(session, await send("/session", {}, { method: "DELETE" }));
}

// The newest picture, and the charts' past, which is all that is kept: five minutes, forty labels.
const SECONDS = 300;
const FEED = 200;

export class Live {
  constructor() {
    this.picture = null;
    this.columns = [];
    this.names = [];
    this.feed = [];
    this.state = "connecting";
    this.listeners = new Set();
    this.source = null;
  }

  open() {
    this.close();
    this.source = new EventSource("/stream/overview");
    this.source.addEventListener("message", (event) => this.learn(JSON.parse(event.data)));
    this.source.addEventListener("error", () => {
      this.state = "away";
      this.tell([]);
      // A refused stream is not tried again by the browser.
      if (this.source?.readyState === EventSource.CLOSED) {
        this.close();
        setTimeout(() => whoAmI().then((who) => who.name && this.open()).catch(() => this.open()), 3000);
      }
    });
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  learn(picture) {
    this.state = "live";
    const fresh = picture.feed ?? [];
    if (picture.history) {
      this.names = picture.history.names;
      this.columns = picture.history.columns;
      this.feed = fresh.slice(-FEED).reverse();
    } else {
      picture.point.forEach((value, number) => {
        const column = this.columns[number];
        column.push(value);
        if (column.length > SECONDS) column.splice(0, column.length - SECONDS);
      });
      this.feed = [...fresh.slice().reverse(), ...this.feed].slice(0, FEED);
    }
    this.picture = picture;
    this.tell(fresh);
  }

  tell(fresh) {
    for (const listener of this.listeners) listener(this.picture, fresh);
  }
}
