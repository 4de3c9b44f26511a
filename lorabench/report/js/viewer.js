// A close look at two pictures of one case and seed: side by side, slider, onion skin, blink, difference.

const viewer = document.getElementById("viewer");
const part = (name) => viewer.querySelector(`[data-part="${name}"]`);
const SIDES = facts.sides || ["b1", "l1"]; // what is compared unless somebody asks for other arms
const MODES = ["side", "slider", "onion", "blink", "difference"];
const BLINK_MS = 500; // one change every half second: a full turn a second, far below three
const MOST_ZOOM = 4;
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const look = { card: null, seed: null, left: 0, right: 1, mode: "side", zoom: 1, x: 0, y: 0, timer: 0, back: null };

function openViewer(card, seed, { left, right, mode } = {}) {
  const pictures = picturesOf(card, seed);
  if (!pictures.length) return;
  if (!viewer.open) look.back = document.activeElement;
  Object.assign(look, { card, seed: String(seed), mode: mode || look.mode, zoom: 1, x: 0, y: 0 });
  fillSides(pictures, left, right);
  part("title").textContent = card.id;
  part("prompt").textContent = card.node.querySelector(".prompt").textContent;
  const seeds = part("seed");
  seeds.replaceChildren(...seedsOf(card).map((one) => new Option(`seed ${one}`, one, false, one === look.seed)));
  if (!viewer.open) viewer.showModal();
  setMode(look.mode);
}

function fillSides(pictures, left, right) {
  const index = (arm, other) => {
    const found = pictures.findIndex((one) => one.arm === arm);
    return found >= 0 ? found : other;
  };
  look.left = index(left || SIDES[0], 0);
  look.right = index(right || SIDES[1], pictures.length - 1);
  for (const side of ["left", "right"]) {
    part(side).replaceChildren(...pictures.map((one, n) => new Option(one.name, String(n), false, n === look[side])));
  }
}

function drawViewer() {
  const pictures = picturesOf(look.card, look.seed);
  for (const side of ["left", "right"]) {
    const picture = pictures[look[side]];
    const image = part(`${side}-image`);
    image.src = picture.source;
    image.alt = `${picture.name}, ${look.card.id}, seed ${look.seed}`;
    part(`${side}-name`).textContent = picture.name;
    part(side).value = String(look[side]);
  }
  const stage = part("stage");
  stage.dataset.mode = look.mode;
  stage.style.setProperty("--zoom", look.zoom);
  stage.style.setProperty("--x", `${look.x}px`);
  stage.style.setProperty("--y", `${look.y}px`);
  stage.classList.toggle("near", look.zoom >= 2);
  part("zoom").value = `${Math.round(look.zoom * 100)} %`;
  part("strength-row").hidden = look.mode === "side" || look.mode === "blink";
  part("strength-words").textContent = { slider: "Divider", onion: "Opacity", difference: "Gain" }[look.mode] || "";
  part("blink-row").hidden = look.mode !== "blink";
  setStrength(part("strength").value);
  keep({ open: [look.card.id, look.seed, armAt("left"), armAt("right"), look.mode].join("~") });
}

function armAt(side) {
  return picturesOf(look.card, look.seed)[look[side]].arm;
}

function setMode(mode) {
  look.mode = mode;
  clearInterval(look.timer);
  const stage = part("stage");
  stage.classList.remove("second");
  for (const tab of viewer.querySelectorAll("[role=tab]")) {
    const chosen = tab.dataset.mode === mode;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  part("stage").setAttribute("aria-labelledby", `mode-${mode}`);
  part("strength").value = mode === "difference" ? "25" : "50";
  if (mode === "blink" && !calm.matches) look.timer = setInterval(blink, BLINK_MS);
  part("blink-words").textContent = calm.matches
    ? "Your system asks for reduced motion: change pictures yourself." : "Changes twice a second.";
  drawViewer();
}

function blink() {
  part("stage").classList.toggle("second");
}

function setStrength(value) {
  const stage = part("stage");
  stage.style.setProperty("--share", `${value}%`);
  stage.style.setProperty("--gain", String(1 + (Number(value) / 100) * 15));
  const words = look.mode === "difference" ? `${(1 + (Number(value) / 100) * 15).toFixed(1)} ×` : `${value} %`;
  part("strength").setAttribute("aria-valuetext", words);
  part("strength-value").value = words;
}

function swapSides() {
  [look.left, look.right] = [look.right, look.left];
  drawViewer();
}

function zoomBy(factor) {
  look.zoom = Math.min(MOST_ZOOM, Math.max(1, look.zoom * factor));
  if (look.zoom === 1) look.x = look.y = 0;
  panBy(0, 0);
}

function panBy(x, y) {
  const box = part("stage").querySelector(".pane").getBoundingClientRect();
  const most = (length) => ((look.zoom - 1) * length) / 2;
  look.x = Math.max(-most(box.width), Math.min(most(box.width), look.x + x));
  look.y = Math.max(-most(box.height), Math.min(most(box.height), look.y + y));
  drawViewer();
}

function stepSeed(by) {
  const seeds = seedsOf(look.card);
  const next = seeds[(seeds.indexOf(look.seed) + by + seeds.length) % seeds.length];
  openViewer(look.card, next, { left: armAt("left"), right: armAt("right") });
}

function stepCard(by) {
  const shown = shownCards();
  const next = shown[(shown.indexOf(look.card) + by + shown.length) % shown.length];
  if (next) openViewer(next, seedsOf(next)[0], { left: armAt("left"), right: armAt("right") });
}

function closeViewer() {
  viewer.close();
}

function clickedPicture(event) {
  const row = event.target.closest(".seed");
  if (!row) return;
  const card = cardOf.get(row.closest("article.card").dataset.case);
  const figure = event.target.closest(".px") && event.target.closest("figure[data-sha]");
  if (event.target.closest(".look")) openViewer(card, row.dataset.seed);
  else if (figure) openViewer(card, row.dataset.seed, figure.dataset.arm === SIDES[0] ? {} : { right: figure.dataset.arm });
}

function startViewer() {
  const blank = document.getElementById("look-button").content.firstElementChild;
  for (const card of cards) {
    for (const row of card.node.querySelectorAll(".seed")) {
      const button = blank.cloneNode(true);
      button.setAttribute("aria-label", `Look closely at ${card.id}, seed ${row.dataset.seed}`);
      row.querySelector(".seed-head").append(button);
    }
  }
  list.addEventListener("click", clickedPicture);
  for (const side of ["left", "right"]) {
    part(side).addEventListener("change", (event) => { look[side] = Number(event.target.value); drawViewer(); });
  }
  part("seed").addEventListener("change", (event) => {
    openViewer(look.card, event.target.value, { left: armAt("left"), right: armAt("right") });
  });
  part("strength").addEventListener("input", (event) => setStrength(event.target.value));
  const actions = {
    swap: swapSides, "zoom-in": () => zoomBy(2), "zoom-out": () => zoomBy(0.5), close: closeViewer, blink,
    previous: () => stepCard(-1), next: () => stepCard(1),
  };
  for (const [name, act] of Object.entries(actions)) part(name).addEventListener("click", act);
  startTabs();
  startDragging();
  viewer.addEventListener("close", () => {
    clearInterval(look.timer);
    keep({ open: "" });
    if (look.back && look.back.isConnected) look.back.focus();
  });
  openFromAddress();
}

function startTabs() {
  const tabs = Array.from(viewer.querySelectorAll("[role=tab]"));
  for (const tab of tabs) {
    tab.addEventListener("click", () => setMode(tab.dataset.mode));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const next = tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length];
      setMode(next.dataset.mode);
      next.focus();
      event.preventDefault();
      event.stopPropagation();
    });
  }
}

function startDragging() {
  const stage = part("stage");
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons === 1 && look.zoom > 1) panBy(event.movementX, event.movementY);
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
  }, { passive: false });
}

function openFromAddress() {
  const [id, seed, left, right, mode] = (state.get("open") || "").split("~");
  const card = cardOf.get(id);
  if (card) openViewer(card, seed, { left, right, mode: MODES.includes(mode) ? mode : "side" });
}
