// What is shown stands in the address behind `#?`, so that a link or a reload shows it again. `#case-...` stay links.

const state = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");

function keep(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value) state.set(name, value);
    else state.delete(name);
  }
  const text = state.toString();
  // A new entry in the browser's history for each letter of a search would be in everybody's way.
  if (text || location.hash.startsWith("#?")) location.replace("#?" + text);
}
