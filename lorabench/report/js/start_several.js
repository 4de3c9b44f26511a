// Everything is on the page already; this makes it answer. Decisions are made on the page of one run.

startFilters();
startViewer();
startKeys();
window.addEventListener("hashchange", reveal);
reveal();
document.documentElement.classList.add("alive");
