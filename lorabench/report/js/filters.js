// Which cards are shown, and in what order. Without it the page is complete, only longer.

const filters = document.querySelector("form.filters");
const field = (name) => filters.elements.namedItem(name);
const FILTERS = ["text", "family", "flag", "metric", "seed", "order"];

function isShown(card) {
  const words = field("text").value.toLowerCase().split(/\s+/);
  const family = field("family").value;
  const flag = field("flag").value;
  const metric = field("metric").value;
  return words.every((word) => card.text.includes(word))
    && (!family || card.family === family)
    && (!flag || flagged(card, flag))
    && (!metric || harm(card, metric) > 0);
}

function flagged(card, flag) {
  if (flag === "undecided") return !decisionOf(card.id);
  if (flag === "accept" || flag === "reject") return decisionOf(card.id) === flag;
  return card.flags.includes(flag);
}

function shownCards() {
  return Array.from(list.children, (node) => cardOf.get(node.dataset.case)).filter((card) => !card.node.hidden);
}

function applyFilters() {
  let n = 0;
  for (const card of cards) {
    card.node.hidden = !isShown(card);
    n += card.node.hidden ? 0 : 1;
  }
  showSeed(field("seed").value);
  field("count").value = n === cards.length ? `${n} cases` : `${n} of ${cards.length} cases`;
  document.getElementById("none-shown").hidden = n > 0;
}

function showSeed(seed) {
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
  list.append(...[...cards].sort(orders[order === "metric" && !metric ? "worst" : order]).map((card) => card.node));
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

// A link to a case that a filter hides shows it, and drops the filters.
function reveal() {
  if (location.hash.startsWith("#?") || location.hash.length < 2) return;
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.hidden) {
    for (const name of FILTERS) field(name).value = name === "order" ? "worst" : "";
    applyOrder();
    applyFilters();
    target.scrollIntoView();
  }
}
