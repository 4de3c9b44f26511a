// Everything is on the page already; this makes it answer.

startReview();
startFilters();
startViewer();
startBlind();
startKeys();
window.addEventListener("hashchange", reveal);
reveal();
document.documentElement.classList.add("alive");
