// Which of two pictures is better, without knowing which is the candidate's. The order is random and written down.

const blindBox = document.getElementById("blind");
const blindPart = (name) => blindBox.querySelector(`[data-part="${name}"]`);
const round = { order: [], at: 0, back: null };

function drawOrder() {
  const pairs = cards.flatMap((card) => seedsOf(card).map((seed) => ({ card, seed })))
    .filter(({ card, seed }) => ["b1", "l1"].every((arm) => picturesOf(card, seed).some((one) => one.arm === arm)))
    .filter(({ card, seed }) => !review.preferences.some((one) => one.case === card.id && one.seed === Number(seed)));
  const random = crypto.getRandomValues(new Uint32Array(2 * pairs.length || 1));
  return pairs
    .map((pair, n) => ({ ...pair, key: random[2 * n], left: random[2 * n + 1] % 2 ? "l1" : "b1" }))
    .sort((a, b) => a.key - b.key);
}

function openBlind() {
  round.order = drawOrder();
  round.at = 0;
  round.back = document.activeElement;
  blindBox.showModal();
  drawBlind();
}

function drawBlind() {
  const pair = round.order[round.at];
  const done = review.preferences.length;
  blindPart("pair").hidden = !pair;
  blindPart("end").hidden = Boolean(pair);
  blindPart("count").value = pair ? `${round.at + 1} of ${round.order.length}` : `${done} compared`;
  if (!pair) {
    blindPart("result").textContent = blindResult();
    return;
  }
  const pictures = picturesOf(pair.card, pair.seed);
  const of = (arm) => pictures.find((one) => one.arm === arm);
  const right = pair.left === "l1" ? "b1" : "l1";
  for (const [side, arm] of [["left", pair.left], ["right", right]]) {
    const image = blindPart(`${side}-image`);
    image.src = of(arm).source;
    image.alt = `${side} picture`;
  }
  blindPart("prompt").textContent = facts.cases[pair.card.id].plain_prompt;
}

function prefer(side) {
  const pair = round.order[round.at];
  if (!pair) return;
  const right = pair.left === "l1" ? "b1" : "l1";
  const arms = { left: pair.left, right, tie: null };
  review.preferences.push({
    case: pair.card.id,
    seed: Number(pair.seed),
    left: pair.left.toUpperCase(),
    right: right.toUpperCase(),
    position: review.preferences.length,
    preferred: side,
    arm: arms[side] && arms[side].toUpperCase(),
  });
  remember();
  round.at += 1;
  drawBlind();
}

// Two-sided sign test over cases: each case counts once, for the arm preferred more often at its seeds.
function signTest(preferences) {
  const balance = new Map();
  for (const one of preferences) {
    const by = one.arm === "L1" ? 1 : one.arm === "B1" ? -1 : 0;
    balance.set(one.case, (balance.get(one.case) || 0) + by);
  }
  const signs = Array.from(balance.values(), Math.sign);
  const candidate = signs.filter((sign) => sign > 0).length;
  const control = signs.filter((sign) => sign < 0).length;
  const n = candidate + control;
  let term = 0.5 ** n, tail = 0;
  for (let k = 0; k <= Math.min(candidate, control); k += 1) {
    tail += term;
    term *= (n - k) / (k + 1);
  }
  return { candidate, control, ties: signs.length - n, p: n ? Math.min(1, 2 * tail) : 1 };
}

function blindResult() {
  const { candidate, control, ties, p } = signTest(review.preferences);
  const words = p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
  return `By case: candidate preferred in ${candidate}, control in ${control}, tied in ${ties}. `
    + `Sign test, two-sided: ${words}.`;
}

const IN_BLIND = { ArrowLeft: () => prefer("left"), ArrowRight: () => prefer("right"), "=": () => prefer("tie") };

function startBlind() {
  IN_DIALOGS.push([blindBox, IN_BLIND]);
  ON_PAGE.b = openBlind;
  document.getElementById("open-blind").addEventListener("click", openBlind);
  for (const side of ["left", "right", "tie"]) blindPart(side).addEventListener("click", () => prefer(side));
  blindPart("close").addEventListener("click", () => blindBox.close());
  blindPart("forget").addEventListener("click", () => {
    review.preferences = [];
    remember();
    round.order = drawOrder();
    round.at = 0;
    drawBlind();
  });
  blindBox.addEventListener("close", () => {
    if (round.back && round.back.isConnected) round.back.focus();
  });
}
