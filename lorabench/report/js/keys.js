// The whole page by keyboard. Letters do nothing while somebody types.

const help = document.getElementById("keys");

function isTyping(event) {
  return event.target.closest("input, textarea, select") !== null || event.ctrlKey || event.metaKey || event.altKey;
}

function currentCard() {
  const focused = document.activeElement && document.activeElement.closest("article.card");
  return focused && !focused.hidden ? cardOf.get(focused.dataset.case) : null;
}

function goTo(by) {
  const shown = shownCards();
  if (!shown.length) return;
  const at = shown.indexOf(currentCard());
  const next = shown[at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by))];
  next.node.querySelector("h3 a").focus({ preventScroll: true });
  next.node.scrollIntoView({ block: "start" });
}

function openHelp() {
  const back = document.activeElement;
  help.addEventListener("close", () => back && back.focus(), { once: true });
  help.showModal();
}

const QUICK_FLAG = filters.dataset.quick || "lost";
const ON_PAGE = {
  j: () => goTo(1),
  k: () => goTo(-1),
  f: () => setFilter("flag", field("flag").value === QUICK_FLAG ? "" : QUICK_FLAG),
  "/": () => field("text").focus(),
  v: () => { const card = currentCard(); if (card) openViewer(card, seedsOf(card)[0]); },
  "?": openHelp,
};
const IN_VIEWER = {
  1: () => setMode("side"),
  2: () => setMode("slider"),
  3: () => setMode("onion"),
  4: () => setMode("blink"),
  5: () => setMode("difference"),
  b: () => (look.mode === "blink" ? blink() : setMode("blink")),
  s: swapSides,
  z: () => (look.zoom >= MOST_ZOOM ? zoomBy(1 / MOST_ZOOM) : zoomBy(2)),
  "+": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  "[": () => stepSeed(-1),
  "]": () => stepSeed(1),
  j: () => stepCard(1),
  k: () => stepCard(-1),
  ArrowLeft: () => panBy(40, 0),
  ArrowRight: () => panBy(-40, 0),
  ArrowUp: () => panBy(0, 40),
  ArrowDown: () => panBy(0, -40),
  "?": openHelp,
};
const IN_DIALOGS = [[viewer, IN_VIEWER]];

function pressed(event) {
  if (isTyping(event) || help.open) return;
  const inside = IN_DIALOGS.find(([dialog]) => dialog.open);
  const act = (inside ? inside[1] : ON_PAGE)[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function startKeys() {
  document.addEventListener("keydown", pressed);
  document.getElementById("open-keys").addEventListener("click", openHelp);
  help.querySelector("button").addEventListener("click", () => help.close());
}
