// What the reviewer decides: case by case and of the run. Kept in this browser, handed on as a file.

const bar = document.getElementById("review");
const STORE = `lorabench:${facts.results_digest}`;
const review = { decisions: {}, comments: {}, run: "", comment: "", preferences: [], undone: [] };
const DECISION_FLAGS = {
  undecided: (card) => !decisionOf(card.id),
  accept: (card) => decisionOf(card.id) === "accept",
  reject: (card) => decisionOf(card.id) === "reject",
};

function decisionOf(id) {
  return review.decisions[id] || "";
}

function remember() {
  // Pages opened from a disk may have no store; decisions then live as long as the page does.
  try { localStorage.setItem(STORE, JSON.stringify({ ...review, undone: [] })); } catch { /* nothing to be done */ }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE) || "{}");
    for (const name of ["decisions", "comments", "run", "comment", "preferences"]) {
      if (kept[name] !== undefined) review[name] = kept[name];
    }
  } catch { /* as above */ }
}

function decide(id, decision) {
  review.undone.push([id, decisionOf(id)]);
  if (decision === decisionOf(id)) delete review.decisions[id];
  else review.decisions[id] = decision;
  decided(id);
}

function undo() {
  const last = review.undone.pop();
  if (!last) return;
  const [id, before] = last;
  if (before) review.decisions[id] = before;
  else delete review.decisions[id];
  decided(id);
}

function decided(id) {
  remember();
  showDecision(cardOf.get(id));
  showReview();
}

function showDecision(card) {
  const decision = decisionOf(card.id);
  card.node.dataset.decision = decision;
  for (const button of card.node.querySelectorAll("[data-decide]")) {
    button.setAttribute("aria-pressed", String(button.dataset.decide === decision));
  }
}

function showReview() {
  const values = Object.values(review.decisions);
  const count = (what) => values.filter((one) => one === what).length;
  bar.querySelector("[data-part=counts]").value =
    `${count("accept")} accepted, ${count("reject")} rejected, ${cards.length - values.length} undecided`;
  bar.querySelector("[data-part=undo]").disabled = !review.undone.length;
  for (const button of bar.querySelectorAll("[data-run]")) {
    button.setAttribute("aria-pressed", String(button.dataset.run === review.run));
  }
  const flag = field("flag").value;
  if (DECISION_FLAGS[flag]) applyFilters();
}

function decisionsFile() {
  const cases = cards.filter((card) => decisionOf(card.id) || review.comments[card.id]).map((card) => ({
    case: card.id,
    decision: decisionOf(card.id) || null,
    comment: review.comments[card.id] || "",
    pictures: facts.cases[card.id].pictures,
  }));
  return {
    schema_version: 1,
    run_id: facts.run_id,
    results_digest: facts.results_digest,
    suite_digest: facts.suite_digest,
    candidate_digest: facts.candidate_digest,
    decided_at: new Date().toISOString().replace(/\.\d+Z$/, "+00:00"),
    decision: review.run || null,
    comment: review.comment,
    cases,
    preferences: review.preferences,
  };
}

function download() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(decisionsFile(), null, 1) + "\n"], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = "decisions.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function decideHere(decision) {
  const card = viewer.open ? look.card : currentCard();
  if (card) decide(card.id, decision);
}

function addControls(card, row) {
  for (const button of row.querySelectorAll("[data-decide]")) {
    button.setAttribute("aria-label", `${button.textContent.trim()} ${card.id}`);
  }
  const comment = row.querySelector("textarea");
  comment.value = review.comments[card.id] || "";
  comment.setAttribute("aria-label", `Comment on ${card.id}`);
  card.node.append(row);
  if (decisionOf(card.id)) showDecision(card);
}

function startReview() {
  recall();
  Object.assign(FLAG_TESTS, DECISION_FLAGS);
  for (const keys of [ON_PAGE, IN_VIEWER]) {
    Object.assign(keys, { a: () => decideHere("accept"), r: () => decideHere("reject"), u: undo });
  }
  const blank = document.getElementById("review-controls").content.firstElementChild;
  for (const card of cards) addControls(card, blank.cloneNode(true));
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-decide]");
    if (button) decide(button.closest("article.card").dataset.case, button.dataset.decide);
  });
  list.addEventListener("input", (event) => {
    const card = event.target.closest(".decide") && event.target.closest("article.card");
    if (!card) return;
    review.comments[card.dataset.case] = event.target.value;
    remember();
  });
  for (const button of bar.querySelectorAll("[data-run]")) {
    button.addEventListener("click", () => {
      review.run = review.run === button.dataset.run ? "" : button.dataset.run;
      remember();
      showReview();
    });
  }
  const comment = bar.querySelector("textarea");
  comment.value = review.comment;
  comment.addEventListener("input", () => { review.comment = comment.value; remember(); });
  bar.querySelector("[data-part=undo]").addEventListener("click", undo);
  bar.querySelector("[data-part=download]").addEventListener("click", download);
  bar.hidden = false;
  showReview();
}
