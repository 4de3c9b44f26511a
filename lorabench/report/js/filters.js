// Which cards are shown, and in what order. Without it the page is complete, only longer.

const filters = document.querySelector("form.filters");
const field = (name) => filters.elements.namedItem(name);
const FILTERS = ["text", "family", "flag", "metric", "seed", "order"];
const FLAG_TESTS = {}; // flags that no card carries from the start

function chosenFilters() {
  return {
    words: field("text").value.toLowerCase().split(/\s+/),
    family: field("family").value,
    flag: field("flag").value,
    metric: field("metric").value,
  };
}

function isShown(card, { words, family, flag, metric }) {
  return (!family || card.family === family)
    && (!flag || flagged(card, flag))
    && (!metric || harm(card, metric) > 0)
    && words.every((word) => card.text.includes(word));
}

function flagged(card, flag) {
  return FLAG_TESTS[flag] ? FLAG_TESTS[flag](card) : card.flags.includes(flag);
}

function shownCards() {
  return Array.from(list.children, (node) => cardOf.get(node.dataset.case)).filter((card) => !card.node.hidden);
}

function applyFilters() {
  const chosen = chosenFilters();
  let n = 0;
  for (const card of cards) {
    const shown = isShown(card, chosen);
    if (card.node.hidden === shown) card.node.hidden = !shown;
    n += shown ? 1 : 0;
  }
  showSeed(field("seed").value);
  field("count").value = n === cards.length ? `${n} cases` : `${n} of ${cards.length} cases`;
  document.getElementById("none-shown").hidden = n > 0;
}

let shownSeed = "";

function showSeed(seed) {
  if (seed === shownSeed) return;
  shownSeed = seed;
  for (const row of list.querySelectorAll(".seed")) {
    row.hidden = Boolean(seed) && row.dataset.seed !== seed;
    const folded = row.closest("details");
    if (folded && seed && !row.hidden) folded.open = true;
  }
}

function applyOrder() {
  const order = field("order").value;
  const metric = field("metric").value;
  const orders = {
    suite: (a, b) => a.place - b.place,
    metric: (a, b) => harm(b, metric) - harm(a, metric) || a.worst - b.worst,
    worst: (a, b) => a.worst - b.worst,
  };
  const sorted = [...cards].sort(orders[order === "metric" && !metric ? "worst" : order]);
  // Moving a card costs its whole style again: nothing is moved that stands where it belongs.
  if (sorted.some((card, n) => list.children[n] !== card.node)) list.append(...sorted.map((card) => card.node));
}

function keepFilters() {
  const defaults = { order: "worst" };
  keep(Object.fromEntries(FILTERS.map((name) => {
    const value = field(name).value;
    return [name, value === defaults[name] ? "" : value];
  })));
}

function startFilters() {
  for (const name of FILTERS) if (state.has(name)) field(name).value = state.get(name);
  filters.addEventListener("input", () => { applyFilters(); keepFilters(); });
  for (const name of ["order", "metric"]) field(name).addEventListener("change", applyOrder);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(() => { applyOrder(); applyFilters(); keepFilters(); }));
  filters.hidden = false;
  applyOrder();
  applyFilters();
}

function setFilter(name, value) {
  field(name).value = value;
  if (name === "order" || name === "metric") applyOrder();
  applyFilters();
  keepFilters();
}

function plainFragment() {
  const text = location.hash.slice(1);
  try { return decodeURIComponent(text); } catch { return text; }
}

// A link to a case that a filter hides shows it, and drops the filters.
function reveal() {
  if (location.hash.startsWith("#?") || location.hash.length < 2) return;
  const target = document.getElementById(plainFragment());
  if (target && target.hidden) {
    for (const name of FILTERS) field(name).value = name === "order" ? "worst" : "";
    applyOrder();
    applyFilters();
    target.scrollIntoView();
  }
}
