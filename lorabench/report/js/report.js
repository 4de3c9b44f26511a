"use strict";
// Filters and orders the cards. Without it the page is complete, only longer.
(() => {
  const form = document.querySelector("form.filters");
  const list = document.querySelector(".cards");
  if (!form || !list) return;
  const cards = Array.from(list.querySelectorAll("article.card"), (node, worst) => ({
    node,
    worst,
    place: Number(node.dataset.place),
    family: node.dataset.family,
    flags: node.dataset.flags.split(" "),
    text: (node.id + " " + node.querySelector(".prompt").textContent).toLowerCase(),
  }));
  const field = (name) => form.elements.namedItem(name);

  function shown(card) {
    const words = field("text").value.toLowerCase().split(/\s+/);
    const family = field("family").value;
    const flag = field("flag").value;
    return words.every((word) => card.text.includes(word))
      && (!family || card.family === family)
      && (!flag || card.flags.includes(flag));
  }

  function apply() {
    let n = 0;
    for (const card of cards) {
      const keep = shown(card);
      card.node.hidden = !keep;
      n += keep ? 1 : 0;
    }
    field("count").value = n === cards.length ? `${n} cases` : `${n} of ${cards.length} cases`;
  }

  function order() {
    const key = field("order").value === "suite" ? "place" : "worst";
    list.append(...[...cards].sort((a, b) => a[key] - b[key]).map((card) => card.node));
  }

  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.hidden) {
      form.reset();
      apply();
      target.scrollIntoView();
    }
  }

  form.addEventListener("input", apply);
  field("order").addEventListener("change", order);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", reveal);
  form.hidden = false;
  apply();
})();
