// Elements. Texts of rows are data: they are only ever set as text, never parsed.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

export function el(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

// Sets a text only if it changed, so that screen readers and layout are left in peace.
export function setText(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

export function replace(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
}

// A text of whatever length and direction: clipped, with a button to see all of it.
export function clipped(text, { most = 280, more, less, whole = null } = {}) {
  const characters = Array.from(text);
  const body = el("bdi", { class: "text", dir: "auto" });
  const box = el("span", { class: "clip" }, body);
  if (characters.length <= most && whole === null) {
    body.textContent = text;
    return box;
  }
  const short = `${characters.slice(0, most).join("")}…`;
  body.textContent = short;
  let full = whole === null ? text : null;
  const button = el("button", { type: "button", class: "link", "aria-expanded": "false" }, more);
  button.addEventListener("click", async () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    if (open && full === null) full = await whole();
    body.textContent = open ? full : short;
    body.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? less : more;
  });
  box.append(" ", button);
  return box;
}

export function table(caption, heads, rows, attributes = {}) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      attributes,
      el("caption", { class: "hidden" }, caption),
      el("thead", null, el("tr", null, heads.map((head) => {
        const [text, kind] = Array.isArray(head) ? head : [head, null];
        return el("th", { scope: "col", class: kind }, text);
      }))),
      el("tbody", null, rows),
    ),
  );
}

export function card(title, ...children) {
  return el("section", { class: "card" }, title ? el("h2", null, title) : null, children);
}

// Asks before something that cannot be overlooked. Resolves to true or false.
export function confirmed(question, yes, no) {
  return new Promise((resolve) => {
    const dialog = el(
      "dialog",
      { "aria-label": question },
      el("form", { method: "dialog" },
        el("p", null, question),
        el("div", { class: "row end" },
          el("button", { value: "no", type: "submit" }, no),
          el("button", { value: "yes", type: "submit", class: "primary" }, yes))),
    );
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
