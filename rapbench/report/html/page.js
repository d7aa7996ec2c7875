"use strict";
// What the page does beyond being read: themes, sorting, filtering, enlarging. Without it, everything is there all the same.

const made = (name, properties = {}, ...content) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...content);
  return node;
};

// --- themes ---------------------------------------------------------------------------------------------------------

const remembered = {
  read: () => { try { return localStorage.getItem("rapbench-theme"); } catch { return null; } },
  write: (theme) => { try { localStorage.setItem("rapbench-theme", theme); } catch { /* the browser keeps nothing of files */ } },
};

function themes() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const other = () => (current() === "dark" ? "light" : "dark");
  const button = made("button", { type: "button", className: "theme" });
  const label = () => { button.textContent = `${other() === "dark" ? "Dark" : "Light"} theme`; };
  if (["light", "dark"].includes(remembered.read())) root.dataset.theme = remembered.read();
  button.addEventListener("click", () => { root.dataset.theme = other(); remembered.write(current()); label(); });
  system.addEventListener("change", label);
  label();
  document.querySelector("nav").append(button);
}

// --- tables ---------------------------------------------------------------------------------------------------------

function key(cell) {
  if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
  const text = cell.textContent.trim().replace(/^</, "");
  const value = parseFloat(text);
  return Number.isNaN(value) ? (text === "-" || text === "" ? null : text) : value;
}

function compared(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null); // what has no value is last both ways
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), "en", { numeric: true });
}

function sorted(table, place, head) {
  const down = head.getAttribute("aria-sort") === "ascending"
    || (!head.hasAttribute("aria-sort") && head.textContent.includes("higher is better"));
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("between"));
    const keys = new Map(rows.map((row) => [row, key(row.cells[place])]));
    body.append(...rows.sort((a, b) => compared(keys.get(a), keys.get(b), down ? -1 : 1)));
  }
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = made("button", { type: "button", className: "sort" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sorted(table, place, head));
  });
}

function filterable(table) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.classList.contains("between"));
  if (rows.length < 4) return;
  const input = made("input", { type: "search", placeholder: "Filter rows", className: "filter" });
  const told = made("output", { className: "note" });
  input.setAttribute("aria-label", "Filter rows");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const left = rows.filter((row) => !row.hidden).length;
    told.textContent = words.length ? `${left} of ${rows.length} rows` : "";
  });
  table.parentElement.before(made("div", { className: "tools" }, input, told));
}

// --- the gallery ----------------------------------------------------------------------------------------------------

function chosenMethod(section) {
  for (const index of section.querySelectorAll("table[aria-labelledby$='-index']")) {
    const run = index.getAttribute("aria-labelledby").replace(/index$/, "p");
    const pictures = [...section.querySelectorAll(".picture")].filter((one) => one.id.startsWith(run));
    const names = [...index.tBodies[0].rows].map((row) => [row.dataset.method, row.cells[0].textContent]);
    const select = made("select", {}, made("option", { value: "" }, "all methods"),
      ...names.map(([value, name]) => made("option", { value }, name)));
    select.addEventListener("change", () => {
      for (const one of pictures) one.hidden = Boolean(select.value) && !one.dataset.of.split(" ").includes(select.value);
    });
    const lines = made("input", { type: "checkbox", checked: true });
    lines.addEventListener("change", () => section.classList.toggle("bare", !lines.checked));
    index.parentElement.after(made("div", { className: "tools" },
      made("label", {}, "Pictures chosen for ", select), made("label", {}, lines, " outlines")));
  }
}

function enlarging() {
  const frames = [...document.querySelectorAll("a.frame")];
  if (!frames.length) return;
  const place = made("div", { className: "large" });
  const caption = made("p", { className: "caption" });
  const button = (text, step) => {
    const one = made("button", { type: "button" }, text);
    one.addEventListener("click", () => move(step));
    return one;
  };
  const close = made("button", { type: "button" }, "Close");
  const dialog = made("dialog", { className: "enlarged" }, place, caption,
    made("div", { className: "tools" }, button("← Previous", -1), button("Next →", 1), close));
  dialog.setAttribute("aria-label", "Enlarged picture");
  document.body.append(dialog);
  let shown = null;

  const show = (frame) => {
    shown = frame;
    place.replaceChildren(...[...frame.childNodes].map((node) => node.cloneNode(true)));
    const article = frame.closest(".picture").querySelector("h4").textContent;
    caption.textContent = `${article} — ${frame.closest("figure").querySelector("figcaption").innerText.replace(/\s+/g, " ")}`;
  };
  const move = (step) => { // to the same picture's next map: all are seen in one place, one after another
    const strip = [...shown.closest(".strip").querySelectorAll("a.frame")];
    show(strip[(strip.indexOf(shown) + step + strip.length) % strip.length]);
  };
  for (const frame of frames) {
    frame.addEventListener("click", (event) => { event.preventDefault(); show(frame); dialog.showModal(); });
  }
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => shown && shown.focus());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); move(step); }
  });
}

// --- what is wider than the screen -----------------------------------------------------------------------------------

function fading(box) { // where there is more to the right, which few systems' scroll bars say
  const look = () => box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 1);
  box.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(box);
}

themes();
for (const box of document.querySelectorAll(".scroll, nav ul")) fading(box);
for (const table of document.querySelectorAll(".scroll > table")) { sortable(table); filterable(table); }
for (const section of document.querySelectorAll("section")) chosenMethod(section);
enlarging();
