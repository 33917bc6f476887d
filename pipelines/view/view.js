"use strict";

// A picture says that it has loaded, or that it could not.
function report(image) {
  image.dataset.loaded = image.naturalWidth;
  if (!image.naturalWidth) image.alt = "the picture cannot be read";
}
for (const image of document.querySelectorAll(".picture img")) {
  if (image.complete) report(image);
  image.addEventListener("load", () => report(image));
  image.addEventListener("error", () => report(image));
}

// A click shows a picture as large as it is, boxes and all. Without script the link does, without the boxes.
const large = document.querySelector("dialog"); // cards have ids of their own: any
document.addEventListener("click", (event) => {
  const picture = event.target.closest("main .picture");
  if (!picture || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const copy = picture.cloneNode(true);
  if (copy.hasAttribute("href")) copy.querySelector("img").src = copy.getAttribute("href");
  copy.removeAttribute("href");
  large.replaceChildren(copy);
  large.showModal();
});
large.addEventListener("click", () => large.close());

// The arrow keys turn the page.
document.addEventListener("keydown", (event) => {
  const side = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (!side || large.open || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select")) return;
  document.querySelector(`a[rel=${side}]`)?.click();
});

const form = document.querySelector("#filters");
const isStatic = document.body.dataset.pages === "none";
if (isStatic) {
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(choose));
  choose();
} else {
  for (const menu of form.querySelectorAll("select:not([name=measure])")) {
    menu.addEventListener("change", () => form.requestSubmit());
  }
}

// The filters of a page that was written: what pipelines/view/filters.py does, over the cards that are here.
function choose() {
  const asked = Object.fromEntries(new FormData(form));
  const words = fold(asked.text);
  let shown = 0;
  for (const card of document.querySelectorAll("main > article")) {
    const has = card.dataset;
    const numbers = JSON.parse(has.numbers);
    const exact = ["set", "outcome", "task", "split", "language", "licence", "cause"];
    const passes =
      exact.every((name) => !asked[name] || asked[name] === (has[name] || (name === "language" ? "unknown" : ""))) &&
      fold(has.document).includes(fold(asked.document)) &&
      (!words || [...card.querySelectorAll(".said")].some((turn) => fold(turn.textContent).includes(words))) &&
      (!asked.measure || between(numbers[asked.measure], asked.low, asked.high));
    card.hidden = !passes;
    shown += passes;
  }
  document.body.className = asked.view;
  document.querySelector("#shown").textContent = shown;
}

function fold(text) {
  return text.replaceAll("\u2060", "").toLowerCase().split(/\s+/).join(" ").trim();
}

function between(value, low, high) {
  if (low === "" && high === "") return true;
  return value !== undefined && (low === "" || value >= Number(low)) && (high === "" || value <= Number(high));
}
