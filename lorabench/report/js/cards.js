// What the page knows of each case: its card, its numbers, its pictures.

const facts = JSON.parse(document.getElementById("facts").textContent);
const list = document.querySelector(".cards");
const cards = Array.from(list.querySelectorAll("article.card"), (node, worst) => ({
  node,
  worst,
  id: node.dataset.case,
  place: Number(node.dataset.place),
  family: node.dataset.family,
  flags: node.dataset.flags.split(" ").filter(Boolean),
  differences: facts.cases[node.dataset.case].differences,
  text: (node.dataset.case + " " + node.querySelector(".prompt").textContent).toLowerCase(),
}));
const cardOf = new Map(cards.map((card) => [card.id, card]));

// How much worse a case is in a metric: larger is worse, whatever the metric's direction; -Infinity where unmeasured.
function harm(card, metric) {
  const difference = card.differences[metric];
  if (difference === undefined) return -Infinity;
  return facts.metrics[metric].higher_is_better ? -difference : difference;
}

// Source of a picture as the page shows it: its own file, or the shared copy it refers to.
function sourceOf(figure) {
  const sha = figure.dataset.sha;
  if (facts.large[sha]) return facts.large[sha];
  const image = figure.querySelector("img.px");
  if (image) return image.getAttribute("src");
  const use = figure.querySelector("svg.px use");
  const shared = use && document.getElementById(use.getAttribute("href").slice(1));
  return shared ? shared.querySelector("image").getAttribute("href") : null;
}

// Pictures of a case at a seed, in the order of the card.
function picturesOf(card, seed) {
  const row = Array.from(card.node.querySelectorAll(".seed")).find((one) => one.dataset.seed === String(seed));
  if (!row) return [];
  return Array.from(row.querySelectorAll("figure[data-sha]"), (figure) => ({
    arm: figure.dataset.arm,
    name: figure.dataset.name,
    sha: figure.dataset.sha,
    source: sourceOf(figure),
  })).filter((picture) => picture.source);
}

function seedsOf(card) {
  return Array.from(card.node.querySelectorAll(".seed"), (row) => row.dataset.seed);
}
